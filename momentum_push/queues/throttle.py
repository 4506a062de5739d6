"""Rate limits that scopes share by reference (momentum.md 2.3).

A throttle declared in a scope is one bucket; every subordinate scope without its own draws from it.
The configuration names the bucket (the scope where it was written), `Throttles` keeps one per name.

A bucket holds at most `count` permits and gains `count / seconds` a second, so "10" lets ten through
at once and then ten a second; "100/60" a hundred at once, then one every 0.6 s.
"""

from __future__ import annotations

__all__ = ["Throttle", "Throttles"]

_ROUNDING = 1e-9


class Throttle:
    """One bucket of permits; pure, `now` in monotonic seconds."""

    __slots__ = ("_at", "_permits", "count", "seconds")

    def __init__(self, count: int, seconds: float, now: float) -> None:
        self.count = count
        self.seconds = seconds
        self._permits = float(count)
        self._at = now

    def __repr__(self) -> str:
        return f"<Throttle {self.count}/{self.seconds:g}s, {self._permits:.1f} left>"

    def available(self, now: float) -> int:
        """Return how many may pass now."""
        if now > self._at:
            gained = (now - self._at) * self.count / self.seconds
            self._permits = min(float(self.count), self._permits + gained)
            self._at = now
        return int(self._permits + _ROUNDING)

    def spend(self, permits: int) -> None:
        """Take `permits`, at most what `available` said."""
        self._permits -= permits

    def give_back(self, permits: int) -> None:
        """Return permits that were not used after all."""
        self._permits = min(float(self.count), self._permits + permits)

    def ready_at(self, now: float) -> float:
        """Return when the next permit is there; `now` when one is."""
        if self.available(now) >= 1:
            return now
        return now + (1.0 - self._permits) * self.seconds / self.count


class Throttles:
    """The buckets of one kind of limit, one per declaring scope; a changed rate starts a new bucket."""

    def __init__(self) -> None:
        self._buckets: dict[str, Throttle] = {}

    def get(self, identity: str, count: int, seconds: float, now: float) -> Throttle:
        """Return the bucket of the scope `identity`, made full when it is new or its rate changed."""
        bucket = self._buckets.get(identity)
        if bucket is None or (bucket.count, bucket.seconds) != (count, seconds):
            bucket = self._buckets[identity] = Throttle(count, seconds, now)
        return bucket
