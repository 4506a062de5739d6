"""From a message to the header block of its request (apns.md 2.1, 2.5).

Lives here: names, order and HPACK treatment of the fields. The body is the message's payload,
untouched. Checks were made at injection (`message.rules`); nothing is checked again here.

    :method :scheme :authority       same for the connection: indexed
    :path                            never indexed: a device token is used once, and is a secret
    authorization                    indexed: 230 bytes a request saved, one table entry an hour
    apns-topic -push-type -priority  indexed
    apns-expiration -collapse-id -id indexed at first use on the connection, so that the *name* is in
                                     the peer's table; after that never indexed

`apns-expiration` is always sent. Left out, Apple stores as long as it likes; `0` means one attempt;
both must be somebody's decision (apns.md 2.4).

Messages of one injection differ in two fields, so their blocks are put together from three pieces:

    ├ head: :method … name of :path ─┼ token ─┼ tail: authorization … name of apns-id ─┼ apns-id ┤
      one per length of token                   one per (part, topic, authorization)

The pieces hold for one version of the peer's table. A block that changed the table is good for one
message; the next one is made anew, and then everything in it is an index.
"""

from __future__ import annotations

from momentum_push.delivery.apns.headers import FieldEncoder, integer
from momentum_push.message import Message, Part

__all__ = ["RequestWriter"]

PATH = b"/3/device/"
MAX_KEPT = 256
"""Sets of constant fields whose bytes are kept: topics that share a connection, times a few."""
_LENGTHS = tuple(integer(length, 7) for length in range(1024))
"""How a string's length is written, up to the longest token and id that rules let pass."""

Constants = tuple[bytes, str, str, int]
"""authorization, topic, push type, priority"""


class RequestWriter:
    """Makes the header blocks of one connection, in the order in which they must go out."""

    def __init__(self, authority: str) -> None:
        self._authority = authority.encode()
        self._encoder = FieldEncoder()
        self._version = -1  # of the table, for all that is kept below
        self._head = b""
        self._heads: dict[int, bytes] = {}  # by the token's length
        self._kept: dict[Constants, bytes] = {}
        self._part: Part | None = None  # these three: what the tail was made for
        self._topic = ""
        self._authorization = b""
        self._tail = b""
        self._base_size = 0

    def resize(self, allowed: int) -> None:
        """Obey the peer's SETTINGS_HEADER_TABLE_SIZE."""
        self._encoder.resize(allowed)

    def block(self, message: Message, topic: str, authorization: bytes) -> tuple[bytes, int]:
        """Return the header block of one request, and the bytes of its names and values unpacked.

        Args:
            message: what to send.
            topic: the topic with its suffix; empty leaves the field out (a certificate's only topic).
            authorization: `bearer <jwt>`; empty with certificates.
        """
        if (
            message.part is not self._part
            or topic != self._topic
            or authorization is not self._authorization
            or self._version != self._encoder.version
        ):
            return self._begin(message, topic, authorization)
        token, apns_id = message.token.encode(), message.apns_id.encode()
        head = self._heads.get(len(token)) or self._make_head(len(token))
        block = b"".join((head, token, self._tail, _LENGTHS[len(apns_id)], apns_id))
        return block, self._base_size + len(token) + len(apns_id)

    def _begin(self, message: Message, topic: str, authorization: bytes) -> tuple[bytes, int]:
        """Make the pieces for another part; where that moves the table, a whole block for once."""
        encoder, part, apns_id = self._encoder, message.part, message.apns_id.encode()
        if self._version != encoder.version:
            self._heads.clear()
            self._kept.clear()
            self._version = encoder.version
            self._head = self._write_head()
        token = message.token.encode()
        head = self._make_head(len(token))
        tail = self._write_tail(part, topic, authorization)
        written = encoder.passing(b"apns-id", apns_id)
        self._base_size = _size_of(part, topic, authorization) + len(self._authority)
        if self._version == encoder.version:
            self._tail = tail + encoder.secret_name(b"apns-id")
            self._part, self._topic, self._authorization = part, topic, authorization
        return b"".join((head, token, tail, written)), self._base_size + len(token) + len(apns_id)

    def _make_head(self, length: int) -> bytes:
        self._heads[length] = head = self._head + integer(len(PATH) + length, 7) + PATH
        return head

    def _write_head(self) -> bytes:
        encoder = self._encoder
        return (
            encoder.updates()
            + encoder.constant(b":method", b"POST")
            + encoder.constant(b":scheme", b"https")
            + encoder.constant(b":authority", self._authority)
            + encoder.secret_name(b":path")
        )

    def _write_tail(self, part: Part, topic: str, authorization: bytes) -> bytes:
        encoder = self._encoder
        tail = self._write_constants((authorization, topic, part.push_type, part.priority))
        tail += encoder.passing(b"apns-expiration", b"%d" % part.expiration)
        if part.collapse_id:
            tail += encoder.passing(b"apns-collapse-id", part.collapse_id.encode())
        return tail

    def _write_constants(self, constants: Constants) -> bytes:
        if (kept := self._kept.get(constants)) is not None and self._version == self._encoder.version:
            return kept
        authorization, topic, push_type, priority = constants
        constant = self._encoder.constant
        written = constant(b"authorization", authorization) if authorization else b""
        written += constant(b"apns-topic", topic.encode()) if topic else b""
        written += constant(b"apns-push-type", push_type.encode())
        written += constant(b"apns-priority", b"%d" % priority)
        if self._version == self._encoder.version:
            if len(self._kept) >= MAX_KEPT:
                self._kept.clear()
            self._kept[constants] = written
        return written


_COMMON = (
    *(b":method", b"POST", b":scheme", b"https", b":authority", b":path", PATH),
    *(b"apns-push-type", b"apns-priority", b"apns-expiration", b"apns-id"),
)
_COMMON_SIZE = sum(map(len, _COMMON))


def _size_of(part: Part, topic: str, authorization: bytes) -> int:
    """Return the bytes of names and values that messages of a part share, `:authority`'s value aside."""
    size = _COMMON_SIZE + len(part.push_type) + len(str(part.priority)) + len(str(part.expiration))
    if authorization:
        size += len(b"authorization") + len(authorization)
    if topic:
        size += len(b"apns-topic") + len(topic.encode())
    if part.collapse_id:
        size += len(b"apns-collapse-id") + len(part.collapse_id.encode())
    return size
