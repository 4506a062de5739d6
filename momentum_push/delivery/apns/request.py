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

Messages of one injection differ in two fields, so their blocks are put together from three pieces, for many
of them at once in columns (`blocks`):

    ├ head: :method … name of :path ─┼ token ─┼ tail: authorization … name of apns-id ─┼ apns-id ┤
      one per length of token                   one per (part, topic, authorization)

With `auto_collapse` an alert without a collapse id of its own has its apns-id for one, so that on the device
a copy takes the place of the first one (apns.md 10): one more name and value, after the apns-id.

The pieces hold for one version of the peer's table. A block that changed the table is good for one
message; the next one is made anew, and then everything in it is an index.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from momentum_push.delivery.apns.headers import FieldEncoder, integer
from momentum_push.message import Message, Part
from momentum_push.message.names import apns_ids

__all__ = ["Blocks", "RequestWriter"]

PATH = b"/3/device/"
MAX_KEPT = 256
"""Sets of constant fields whose bytes are kept: topics that share a connection, times a few."""
_LENGTHS = tuple(integer(length, 7) for length in range(1024))
"""How a string's length is written, up to the longest token and id that rules let pass."""

Constants = tuple[bytes, str, str, int]
"""authorization, topic, push type, priority"""


class Blocks(NamedTuple):
    """The header blocks of one or more requests."""

    columns: list[list[bytes]]
    """What they are made of: the first block is the first of each column, joined."""
    lengths: list[int]
    """Bytes of each block."""
    sizes: list[int]
    """Bytes of each one's names and values unpacked."""


class _Frame(NamedTuple):
    """What stands around token and apns-id in a block."""

    head: bytes
    tail: bytes
    collapse: bytes
    """Before the apns-id where it stands a second time, as collapse id; empty: it does not."""
    length: int
    size: int


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
        self._frames: dict[tuple[int, int], _Frame] = {}  # of all of these, by the lengths of token and id
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
        if not self._has_pieces(message.part, topic, authorization):
            return self._begin(message, topic, authorization)
        token, apns_id = message.token.encode(), message.apns_id.encode()
        frame = self._frame(len(token), len(apns_id))
        again = apns_id if frame.collapse else b""
        return b"".join((frame.head, token, frame.tail, apns_id, frame.collapse, again)), frame.size

    def blocks(self, messages: Sequence[Message], topic: str, authorization: bytes) -> Blocks:
        """Return the blocks of the first of `messages`, as `block` makes them, of as many as is possible.

        Args:
            messages: of one part.
        """
        if len(messages) == 1 or not self._has_pieces(messages[0].part, topic, authorization):
            block, size = self.block(messages[0], topic, authorization)
            return Blocks([[block]], [len(block)], [size])
        tokens = [message.token.encode() for message in messages]
        ids = [apns_id.encode() for apns_id in apns_ids(messages)]
        if len(shapes := set(zip(map(len, tokens), map(len, ids), strict=True))) == 1:
            frames = [self._frame(*shapes.pop())] * len(ids)
        else:
            frames = [
                self._frame(len(token), len(apns_id)) for token, apns_id in zip(tokens, ids, strict=True)
            ]
        columns = [[frame.head for frame in frames], tokens, [frame.tail for frame in frames], ids]
        if self._is_own_collapse:
            columns += [[frame.collapse for frame in frames], ids]
        return Blocks(columns, [frame.length for frame in frames], [frame.size for frame in frames])

    def _has_pieces(self, part: Part, topic: str, authorization: bytes) -> bool:
        return (
            part is self._part
            and topic == self._topic
            and authorization is self._authorization
            and self._version == self._encoder.version
        )

    def _frame(self, digits: int, width: int) -> _Frame:
        """Put the pieces together for a token and an apns-id of so many bytes."""
        frame = self._frames.get((digits, width))
        if frame is None:
            head = self._heads.get(digits) or self._make_head(digits)
            tail, collapse = self._tail + _LENGTHS[width], b""
            length, size = len(head) + digits + len(tail) + width, self._size + digits + width
            if self._is_own_collapse:
                collapse = self._names[b"apns-collapse-id"] + _LENGTHS[width]
                length, size = length + len(collapse) + width, size + len(b"apns-collapse-id") + width
            frame = self._frames[digits, width] = _Frame(head, tail, collapse, length, size)
        return frame

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
            self._frames.clear()
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
