"""How much room must be left on the spool's disk for messages to be taken. Pure: it judges, others look.

    free    ─────────────┬──────────────┬───────────►
              refused    │  as before   │   taken
                       floor      floor + a quarter

Other programs write to the same disk, or users to the same quota; below the floor input is refused while
there is still room for what was accepted, for its records and for the operator. The quarter keeps the doors
from opening and closing with every message. Postfix has `queue_minfree` for this, Exim `check_spool_space`
and `check_spool_inodes`.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Floors", "Room"]


class Room(NamedTuple):
    """What is free on a disk for a process without privileges."""

    bytes: int = 0
    inodes: int = -1
    """-1: this file system does not count them."""


class Floors(NamedTuple):
    """The least that must be free; 0: anything is enough."""

    bytes: int = 0
    inodes: int = 0

    def lack(self, room: Room, *, is_low: bool) -> str:
        """Say what there is too little of, empty when there is enough.

        Args:
            is_low: messages are being refused already; a quarter more must be free then.
        """
        if room.bytes < _bound(self.bytes, is_low):
            wanted = _bound(self.bytes, is_low)
            return f"{room.bytes >> 20} MB are free and {wanted >> 20} MB must be (min_free_space)"
        if 0 <= room.inodes < _bound(self.inodes, is_low):
            wanted = _bound(self.inodes, is_low)
            return f"{room.inodes} inodes are free and {wanted} must be (min_free_inodes)"
        return ""


def _bound(floor: int, is_low: bool) -> int:
    return floor + (floor + 3) // 4 if is_low else floor
