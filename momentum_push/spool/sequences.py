"""Sequence numbers, handed out from a stock that the disk knows of. Pure: it says what to reserve, others do.

    used ………… next ┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄ reserved      numbers below `reserved` are on disk as used
                   handed out from here

At start `next` is what the disk says is reserved: what was not handed out before a crash is lost, never
repeated. The stock is filled up to two blocks when less than one is left, long before it runs dry: a
million numbers are many seconds of the fastest injection, a commit is milliseconds.
"""

from momentum_push.errors import SpoolError
from momentum_push.message.ids import SEQUENCE_BITS

__all__ = ["BLOCK", "Sequences"]

BLOCK = 1 << 20
"""The least that is in stock while the disk takes writes; a new spool gains 65,536 a second on its
predecessor (`ids.first_sequence`), so a restart may waste two blocks in half a minute."""

_END = 1 << SEQUENCE_BITS


class Sequences:
    """The stock of one spool."""

    def __init__(self, reserved: int) -> None:
        self.next = reserved
        self._reserved = reserved
        self._asked = reserved

    def take(self, count: int) -> int:
        """Hand out `count` numbers and return the first.

        Raises:
            SpoolError: not so many are in stock; the disk has taken no write for long.
        """
        if self.next + count > self._reserved:
            raise SpoolError(
                f"spool: {count} message ids were asked for, {self._reserved - self.next} are reserved; "
                f"see why the spool cannot be written"
            )
        first = self.next
        self.next += count
        return first

    def wanted(self) -> int:
        """Return up to which number to reserve now; 0 when the stock is good or was asked for already."""
        if self._asked - self.next >= BLOCK or self._asked >= _END:
            return 0
        self._asked = min(self.next + 2 * BLOCK, _END)
        return self._asked

    def fill(self, reserved: int) -> None:
        """Note that numbers below `reserved` are on disk as used."""
        self._reserved = max(self._reserved, reserved)
