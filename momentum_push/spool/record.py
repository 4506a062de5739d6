"""A list of messages as the one blob of its row, and back again. Pure: bytes in, messages out.

    offset  bytes
    0       1      version of this layout, 1
    1       4      CRC-32 of all that follows, begun with the version; little-endian
    5       …      a MessagePack array of nine columns:

        first       lowest sequence number of the list
        sequences   empty: first, first + 1, …         else: distance from `first`, packed
        parts       the distinct parts, each an array of its fields, its salt as bytes
        part_of     empty: all have the first part     else: index into `parts`, packed
        payloads    the distinct payloads
        payload_of  empty: all have the first payload  else: index into `payloads`, packed
        tokens      [digits, packed]: lower-case hexadecimal tokens of equal length, two digits a byte
                    [0, list of text]: any others, as they are
        rcpts       nil: none has one;  true: each equals its token;  else list of text
        own_ids     nil: none has one;  else list of text

Packed numbers are little-endian, 1, 2, 4 or 8 bytes wide, the least that holds the largest; the width
is the column's length divided by the number of tokens. So a thousand tokens with one payload cost 32
bytes each and a few hundred for what they share, and no line below runs once per message in Python
where one call over the whole column does the same.

The bitmaps of progress and of marks are not in the blob: they change, the blob never does. Columns
that a row needs to be found by (queue, due, …) stand beside the blob in the row; `schema.sql` draws that.

Parts are stored by position: a new field of `Part` goes at the end and has a default. Anything else
needs a new version. We did not choose a row per message (121 MB for a million, measured; design.md 1),
nor field names in the blob (150 bytes a part, which counts where lists are short).
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Sequence
from itertools import compress
from typing import Any, NamedTuple

import msgspec

from momentum_push.errors import SpoolError
from momentum_push.message import MAX_LIST, Home, Message, Part

__all__ = ["VERSION", "DamagedList", "Record", "decode", "encode", "waiting_places"]

VERSION = 1

_HEAD = struct.Struct("<BI")
_WIDTHS = {1: "B", 2: "H", 4: "I", 8: "Q"}
_RECEIVED_AT = Part.__struct_fields__.index("received_at")
_SALT = Part.__struct_fields__.index("salt")


class DamagedList(SpoolError):
    """A row that cannot be made into its messages; `what` says why."""

    def __init__(self, number: int, what: str) -> None:
        self.what = what
        super().__init__(
            f"spool: list {number}: {what}; set aside, none of its waiting messages was sent; "
            f'see "momentum-push spool check"'
        )


class Record(NamedTuple):
    """A list as it is stored, with what its row is found by."""

    body: bytes
    first: int
    """Lowest sequence number."""
    last: int
    """Highest sequence number."""
    oldest: float
    """When the first of its messages was received, epoch seconds."""


class Columns(msgspec.Struct, array_like=True, gc=False):
    """The array drawn above."""

    first: int
    sequences: bytes
    parts: list[list[Any]]
    part_of: bytes
    payloads: list[bytes]
    payload_of: bytes
    tokens: tuple[int, bytes | list[str]]
    rcpts: list[str] | bool | None
    own_ids: list[str] | None


_to_columns = msgspec.msgpack.Decoder(Columns).decode
_to_bytes = msgspec.msgpack.Encoder().encode


def encode(messages: Sequence[Message]) -> Record:
    """Pack the messages of one list; `decode` is the inverse.

    Args:
        messages: 1 to MAX_LIST, in queue order; their place is their number in the progress bitmap.

    Raises:
        SpoolError: no message or too many, or one holds what cannot be stored (half a surrogate pair).
    """
    if not 0 < len(messages) <= MAX_LIST:
        raise SpoolError(f"spool: a list of {len(messages)} messages; a list has 1 to {MAX_LIST}")
    try:
        columns, last = _lay_out(messages)
        body = _to_bytes(columns)
    except (OverflowError, TypeError, ValueError) as error:
        raise SpoolError(
            f"spool: message {messages[0].mid} or one beside it cannot be stored: {error}"
        ) from error
    head = _HEAD.pack(VERSION, zlib.crc32(body, VERSION))
    oldest = min(part[_RECEIVED_AT] for part in columns.parts)
    return Record(head + body, columns.first, last, oldest)


def decode(body: bytes, home: Home) -> list[Message]:
    """Build the messages of a list that are still waiting, with `home` and their `place` set.

    Args:
        body: what `encode` made.
        home: the list's row; its `count` and `progress` say who is waiting.

    Raises:
        DamagedList: the blob or the row is damaged, or of a later version; names the list.
    """
    columns = _open(body, home.number)
    try:
        return _build(columns, home)
    except (IndexError, TypeError, ValueError, struct.error) as error:
        raise DamagedList(home.number, f"columns do not fit together ({error})") from error


def waiting_places(home: Home) -> Sequence[int]:
    """Return the places whose bit in the progress bitmap is not set, in order."""
    if home.remaining == home.count and not any(home.progress):
        return range(home.count)
    progress = home.progress
    return [place for place in range(home.count) if not progress[place >> 3] >> (place & 7) & 1]


def _lay_out(messages: Sequence[Message]) -> tuple[Columns, int]:
    """Turn messages into columns; also return the highest sequence number."""
    first, last, sequences = _pack_sequences([message.sequence for message in messages])
    parts, part_of = _distinct([message.part for message in messages])
    payloads, payload_of = _distinct([message.payload for message in messages])
    tokens = [message.token for message in messages]
    columns = Columns(
        first,
        sequences,
        [_pack_part(part) for part in parts],
        part_of,
        payloads,
        payload_of,
        _pack_tokens(tokens),
        _pack_rcpts([message.rcpt for message in messages], tokens),
        _texts([message.own_apns_id for message in messages]),
    )
    return columns, last


def _open(body: bytes, number: int) -> Columns:
    """Check the head and the checksum, and read the array."""
    if len(body) <= _HEAD.size:
        raise DamagedList(number, f"{len(body)} bytes are too few")
    version, checksum = _HEAD.unpack_from(body)
    if version != VERSION:
        raise DamagedList(number, f"layout version {version} is unknown, this program knows {VERSION}")
    content = memoryview(body)[_HEAD.size :]
    if zlib.crc32(content, version) != checksum:
        raise DamagedList(number, "checksum does not match")
    try:
        return _to_columns(content)
    except msgspec.DecodeError as error:
        raise DamagedList(number, str(error)) from error


def _build(columns: Columns, home: Home) -> list[Message]:
    """Lay the columns side by side, leave out who has left, and make messages of the rest."""
    tokens = _unpack_tokens(columns.tokens)
    count = len(tokens)
    if count != home.count or len(home.progress) != (count + 7) // 8:
        raise DamagedList(home.number, f"progress covers {home.count} of {count} messages")
    if home.sent and len(home.sent) != len(home.progress):
        raise DamagedList(home.number, f"{len(home.sent)} bytes of marks for {count} messages")
    parts = [_unpack_part(fields) for fields in columns.parts]
    rcpts = tokens if columns.rcpts is True else columns.rcpts or [""] * count
    rows = (
        _unpack_sequences(columns, count),
        tokens,
        _spread(columns.payloads, columns.payload_of, count),
        _spread(parts, columns.part_of, count),
        [home] * count,
        range(count),
        rcpts,
        columns.own_ids or [""] * count,
    )
    if any(len(column) != count for column in rows):
        raise ValueError("a column is too short")
    places = waiting_places(home)
    if len(places) != home.remaining:
        raise DamagedList(home.number, f"{len(places)} messages wait, {home.remaining} should")
    if len(places) == count:
        return list(map(Message, *rows))
    waiting = bytearray(count)
    for place in places:
        waiting[place] = 1
    return list(map(Message, *(compress(column, waiting) for column in rows)))


def _pack_sequences(sequences: list[int]) -> tuple[int, int, bytes]:
    """Return the lowest number, the highest, and the column: empty when they are one run."""
    first, last = sequences[0], sequences[-1]
    if sequences == list(range(first, first + len(sequences))):
        return first, last, b""
    first, last = min(sequences), max(sequences)
    return first, last, _pack([sequence - first for sequence in sequences], last - first)


def _unpack_sequences(columns: Columns, count: int) -> Sequence[int]:
    first = columns.first
    if not columns.sequences:
        return range(first, first + count)
    return [first + distance for distance in _unpack(columns.sequences, count)]


def _distinct(values: list[Any]) -> tuple[list[Any], bytes]:
    """Return the distinct objects, in order of appearance, and the packed index of each value.

    One value for all is the common case and has its own way. Otherwise they go by identity: messages of
    one injection share the object, and looking into thousands of payloads would cost more than it saves.
    """
    if values.count(values[0]) == len(values):
        return [values[0]], b""
    keys = list(map(id, values))
    objects = dict(zip(keys, values, strict=True))
    index = dict(zip(objects, range(len(objects)), strict=True))
    return list(objects.values()), _pack([index[key] for key in keys], len(objects) - 1)


def _spread(objects: list[Any], index_of: bytes, count: int) -> list[Any]:
    """The inverse of `_distinct`."""
    if not index_of:
        return [objects[0]] * count
    return [objects[index] for index in _unpack(index_of, count)]


def _pack(numbers: list[int], largest: int) -> bytes:
    """Pack numbers of 0 to `largest` in as few bytes each as the largest needs."""
    width = next(width for width in _WIDTHS if largest >> 8 * width == 0)
    return struct.pack(f"<{len(numbers)}{_WIDTHS[width]}", *numbers)


def _unpack(packed: bytes, count: int) -> tuple[int, ...]:
    return struct.unpack(f"<{count}{_WIDTHS.get(len(packed) // count, 'Q')}", packed)


def _pack_tokens(tokens: list[str]) -> tuple[int, bytes | list[str]]:
    """Pack tokens two digits a byte when unpacking gives the very same text, else keep them as they are."""
    digits = len(tokens[0])
    joined = "".join(tokens)
    if not digits or digits & 1 or set(map(len, tokens)) != {digits}:
        return 0, tokens
    try:
        packed = bytes.fromhex(joined)
    except ValueError:
        return 0, tokens
    # Upper case comes back as lower case, and blanks, which fromhex() overlooks, not at all.
    return (digits, packed) if packed.hex() == joined else (0, tokens)


def _unpack_tokens(column: tuple[int, bytes | list[str]]) -> list[str]:
    digits, tokens = column
    if isinstance(tokens, list):
        return tokens
    text = tokens.hex()
    return [text[start : start + digits] for start in range(0, len(text), digits)]


def _pack_rcpts(rcpts: list[str], tokens: list[str]) -> list[str] | bool | None:
    return True if any(rcpts) and rcpts == tokens else _texts(rcpts)


def _texts(texts: list[str]) -> list[str] | None:
    return texts if any(texts) else None


def _pack_part(part: Part) -> list[Any]:
    """Return the fields in order; the salt, too wide for a MessagePack integer, as bytes."""
    fields: Iterable[Any] = msgspec.structs.astuple(part)
    values = list(fields)
    values[_SALT] = part.salt.to_bytes((part.salt.bit_length() + 7) // 8, "big")
    return values


def _unpack_part(values: list[Any]) -> Part:
    values[_SALT] = int.from_bytes(values[_SALT], "big")
    return Part(*values)
