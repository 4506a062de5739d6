"""HPACK for requests: the encoder's side of RFC 7541, as much of it as a provider needs.

Lives here: the peer's dynamic table as we believe it to be, and the four ways to write a field.
Which field is written which way is `request`'s to say. No Huffman coding: no window counts header
bytes, and a device token in hexadecimal would win a third for a microsecond.

    1iiiiiii                     indexed field            6.1    one byte for what the table holds
    01iiiiii  value              literal, enters the table 6.2.1  first use of a constant
    0001iiii  value              literal, never indexed   6.2.3  tokens and ids
    001sssss                     the table's new size     6.3    at the start of a block

Index 1 to 61 is the static table, 62 the youngest entry of the dynamic one; so an entry's index grows
with each entry after it, and bytes that name one hold only for one `version` of the table.
"""

from __future__ import annotations

from collections import deque

__all__ = ["FieldEncoder", "integer", "string"]

ENTRY_OVERHEAD = 32  # RFC 7541 section 4.1
FIRST_DYNAMIC = 62
DEFAULT_SIZE = 4096
"""The table's size before SETTINGS, and the most that we use: APNs has just that (apns.md 6.1)."""

_INDEXED, _ENTERING, _NEVER, _RESIZE = 0x80, 0x40, 0x10, 0x20

# What requests need of RFC 7541 appendix A
_STATIC_FIELDS = {(b":method", b"POST"): 3, (b":scheme", b"https"): 7}
_STATIC_NAMES = {b":authority": 1, b":method": 2, b":path": 4, b":scheme": 6, b"authorization": 23}


def integer(value: int, bits: int, flags: int = 0) -> bytes:
    """Write an integer behind `flags` with a prefix of `bits` bits (RFC 7541 section 5.1)."""
    most = (1 << bits) - 1
    if value < most:
        return bytes((flags | value,))
    written = bytearray((flags | most,))
    value -= most
    while value >= 0x80:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    written.append(value)
    return bytes(written)


def string(value: bytes) -> bytes:
    """Write a string without Huffman coding (RFC 7541 section 5.2)."""
    return integer(len(value), 7) + value


class FieldEncoder:
    """Writes fields and keeps the dynamic table that the peer's decoder builds from them."""

    def __init__(self) -> None:
        self.version = 0
        """Changes whenever an index may have changed."""
        self.limit = DEFAULT_SIZE
        self.size = 0
        self._entries: deque[tuple[bytes, bytes]] = deque()  # the youngest first, as they are numbered
        self._lowest: int | None = None  # the smallest limit since the last block, if it changed

    def resize(self, allowed: int) -> None:
        """Obey the peer's SETTINGS_HEADER_TABLE_SIZE; the next block begins by saying so."""
        limit = min(allowed, DEFAULT_SIZE)
        if limit == self.limit:
            return
        self._lowest = limit if self._lowest is None else min(self._lowest, limit)
        self.limit = limit
        self.version += 1
        self._evict(0)

    def updates(self) -> bytes:
        """Return, once, what a block must begin with: the smallest size that was set, and the last one."""
        lowest, self._lowest = self._lowest, None
        if lowest is None:
            return b""
        self.version += 1  # so that nobody keeps a block that begins like this
        last = integer(self.limit, 5, _RESIZE)
        return last if lowest == self.limit else integer(lowest, 5, _RESIZE) + last

    def constant(self, name: bytes, value: bytes) -> bytes:
        """Write a field that will come again: by its index, or so that it has one from now on."""
        if index := self._index(name, value):
            return integer(index, 7, _INDEXED)
        if not self._fits(name, value):
            return self._literal(name, 4, _NEVER) + string(value)
        written = self._literal(name, 6, _ENTERING) + string(value)
        self._add(name, value)
        return written

    def passing(self, name: bytes, value: bytes) -> bytes:
        """Write a field whose value will not come again; only its name is worth an entry."""
        if not self._name_index(name):
            return self.constant(name, value)
        return self._literal(name, 4, _NEVER) + string(value)

    def secret_name(self, name: bytes) -> bytes:
        """Write the name of a never indexed field; a string must follow."""
        return self._literal(name, 4, _NEVER)

    # --- the table

    def _literal(self, name: bytes, bits: int, flags: int) -> bytes:
        index = self._name_index(name)
        return integer(index, bits, flags) if index else bytes((flags,)) + string(name)

    def _index(self, name: bytes, value: bytes) -> int:
        if static := _STATIC_FIELDS.get((name, value)):
            return static
        for place, entry in enumerate(self._entries):
            if entry == (name, value):
                return FIRST_DYNAMIC + place
        return 0

    def _name_index(self, name: bytes) -> int:
        if static := _STATIC_NAMES.get(name):
            return static
        for place, entry in enumerate(self._entries):
            if entry[0] == name:
                return FIRST_DYNAMIC + place
        return 0

    def _fits(self, name: bytes, value: bytes) -> bool:
        # One that is larger than the table would empty it (RFC 7541 section 4.4) and leave nothing there.
        return _entry_size(name, value) <= self.limit

    def _add(self, name: bytes, value: bytes) -> None:
        size = _entry_size(name, value)
        self._evict(size)
        self._entries.appendleft((name, value))
        self.size += size
        self.version += 1

    def _evict(self, room: int) -> None:
        """Drop the oldest entries until `room` bytes are free, as the peer does (RFC 7541 section 4.4)."""
        while self._entries and self.size + room > self.limit:
            self.size -= _entry_size(*self._entries.pop())


def _entry_size(name: bytes, value: bytes) -> int:
    return len(name) + len(value) + ENTRY_OVERHEAD
