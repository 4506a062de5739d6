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

With `auto_collapse` an alert without a collapse id of its own has its apns-id for one, so that on the device
a copy takes the place of the first one (apns.md 10): one more name and value, after the apns-id.

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

    def __init__(self, authority: str, *, auto_collapse: bool = False) -> None:
        self._authority = authority.encode()
        self._auto_collapse = auto_collapse
        self._encoder = FieldEncoder()
        self._version = -1  # of the table, for all that is kept below
        self._head = b""
        self._heads: dict[int, bytes] = {}  # by the token's length
        self._kept: dict[Constants, tuple[bytes, int]] = {}  # and the size of their names and values
        self._names: dict[bytes, bytes] = {}  # of fields that are never indexed
        self._part: Part | None = None  # these three: what the tail was made for
        self._topic = ""
        self._authorization = b""
        self._tail = b""
        self._is_own_collapse = False
        self._size = 0  # of a block's names and values, token and apns-id aside

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
        size = self._size + len(token) + len(apns_id)
        if self._is_own_collapse:
            block += self._passing(b"apns-collapse-id", apns_id)
            size += len(b"apns-collapse-id") + len(apns_id)
        return block, size

    def _begin(self, message: Message, topic: str, authorization: bytes) -> tuple[bytes, int]:
        """Make the pieces for another part; where that moves the table, a whole block for once."""
        encoder, part = self._encoder, message.part
        if self._version != encoder.version:
            self._forget()
        token, apns_id = message.token.encode(), message.apns_id.encode()
        head = self._heads.get(len(token)) or self._make_head(len(token))
        tail, self._size = self._write_tail(part, topic, authorization)
        written = self._passing(b"apns-id", apns_id)
        size = self._size + len(token) + len(apns_id)
        self._is_own_collapse = self._auto_collapse and not part.collapse_id and part.push_type == "alert"
        if self._is_own_collapse:
            written += self._passing(b"apns-collapse-id", apns_id)
            size += len(b"apns-collapse-id") + len(apns_id)
        if self._version == encoder.version:
            self._tail = tail + self._names[b"apns-id"]
            self._part, self._topic, self._authorization = part, topic, authorization
        return b"".join((head, token, tail, written)), size

    def _forget(self) -> None:
        """Drop what pointed into the table as it was, and begin a block for the table as it is."""
        self._heads.clear()
        self._kept.clear()
        self._names.clear()
        self._part = None
        encoder = self._encoder
        self._version = encoder.version
        self._head = (
            encoder.updates()
            + encoder.constant(b":method", b"POST")
            + encoder.constant(b":scheme", b"https")
            + encoder.constant(b":authority", self._authority)
            + encoder.secret_name(b":path")
        )

    def _make_head(self, length: int) -> bytes:
        self._heads[length] = head = self._head + integer(len(PATH) + length, 7) + PATH
        return head

    def _write_tail(self, part: Part, topic: str, authorization: bytes) -> tuple[bytes, int]:
        tail, size = self._constants((authorization, topic, part.push_type, part.priority))
        expiration = b"%d" % part.expiration
        tail += self._passing(b"apns-expiration", expiration)
        size += len(expiration)
        if part.collapse_id:
            collapse_id = part.collapse_id.encode()
            tail += self._passing(b"apns-collapse-id", collapse_id)
            size += len(b"apns-collapse-id") + len(collapse_id)
        return tail, size

    def _constants(self, constants: Constants) -> tuple[bytes, int]:
        is_settled = self._version == self._encoder.version
        if is_settled and (kept := self._kept.get(constants)) is not None:
            return kept
        authorization, topic, push_type, priority = constants
        fields = [(b"apns-push-type", push_type.encode()), (b"apns-priority", b"%d" % priority)]
        if topic:
            fields.insert(0, (b"apns-topic", topic.encode()))
        if authorization:
            fields.insert(0, (b"authorization", authorization))
        written = b"".join(self._encoder.constant(name, value) for name, value in fields)
        size = _COMMON_SIZE + len(self._authority) + sum(len(name) + len(value) for name, value in fields)
        if self._version == self._encoder.version:
            if len(self._kept) >= MAX_KEPT:
                self._kept.clear()
            self._kept[constants] = written, size
        return written, size

    def _passing(self, name: bytes, value: bytes) -> bytes:
        is_settled = self._version == self._encoder.version
        if is_settled and (known := self._names.get(name)) is not None:
            return known + _LENGTHS[len(value)] + value
        written = self._encoder.passing(name, value)
        if self._version == self._encoder.version:
            self._names[name] = self._encoder.secret_name(name)
        return written


_COMMON = (
    *(b":method", b"POST", b":scheme", b"https", b":authority", b":path", PATH),
    *(b"apns-expiration", b"apns-id"),
)
_COMMON_SIZE = sum(map(len, _COMMON))
