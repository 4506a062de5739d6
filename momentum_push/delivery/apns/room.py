"""How many messages a connection takes, in its peer's windows and streams (apns.md 6.1, 6.2).

    streams   ├──── in flight ────┤──── slots ────┤  min(peer's limit, ours)
    windows   ├──── on the way ────────┤── room ──┤  of the connection; each stream has one of its own

Both must do; bodies are taken to be as large as the last ones were. A peer that leaves no room for a message
though it has nothing to answer *chokes* the connection; for how long it may is the wire's to say. Pure.
"""

from __future__ import annotations

from momentum_push.delivery.apns.link import Link

__all__ = ["TYPICAL_BODY", "Room"]

TYPICAL_BODY = 256
"""Bytes of a body, before there was one."""


class Room:
    """What there is room for on one link."""

    def __init__(self, link: Link, max_streams: int) -> None:
        """Begin with nothing sent; `max_streams` are ours."""
        self.wanted = 0
        """Bytes of the body that did not fit, until it would."""
        self.choked_at: float | None = None
        """Since when there has been no room at all although nothing is in flight."""
        self._link, self._max_streams = link, max_streams
        self._body = TYPICAL_BODY

    def __repr__(self) -> str:
        return f"<Room for {self._link.room} bytes, {self.trip} messages a trip>"

    @property
    def streams(self) -> int:
        """Requests that may be in flight at once."""
        return min(self._link.max_streams, self._max_streams)

    @property
    def trip(self) -> int:
        """Messages that go in one round trip (apns.md 6.2)."""
        return max(1, min(self.streams, self._trip_by_window))

    @property
    def is_window_bound(self) -> bool:
        """Whether windows limit a trip, and not the number of streams."""
        return self._trip_by_window < self.streams

    @property
    def complaint(self) -> str:
        """What a peer did that choked the connection."""
        link = self._link
        room = f"{link.max_streams} streams, windows {link.window} and {link.initial_window}"
        return f"the peer left no room for a request of {self.wanted} bytes ({room})"

    def messages(self, slots: int, is_idle: bool) -> int:
        """Return how many messages there is room for, by the size of the last ones.

        A rest of the window too small for one of those counts for nothing while answers are due, though a
        smaller body might fit: there is nearly always such a rest somewhere, and a pool that takes it for
        room finds its connections never full.
        """
        window = self._link.room
        if slots <= 0 or window <= 0 or window < self.wanted:
            return 0
        return min(slots, window // self._body or int(is_idle))

    def spend(self, taken: int, octets: int) -> None:
        """Note that `taken` bodies of `octets` bytes in all went out."""
        self._link.window -= octets
        self._body = max(1, octets // taken)

    def watch(self, slots: int, is_excused: bool, now: float) -> None:
        """Note since when there has been no room at all.

        Args:
            is_excused: answers are due, or nothing is to be sent.
        """
        if self.wanted and self._link.room >= self.wanted:
            self.wanted = 0
        if is_excused or self.messages(slots, is_idle=True):
            self.choked_at = None
        elif self.choked_at is None:
            self.choked_at = now

    @property
    def _trip_by_window(self) -> int:
        return (self._link.widest + 1) // 2 // self._body
