"""Slower when Apple asks for it: fewer streams in flight on answers of 503 and on rising latency.

    free ──congested──► limit = half of what was in flight ──congested──► half of that … LEAST
      ▲                            │ an INTERVAL without congestion
      └─── limit reaches what it ◄─┘ adds a STEP of what was in flight before
           was before

Congested is an interval of a second or more, and of ENOUGH answers at least, in which

    a BUSY_SHARE of the answers were 503 (`Shutdown` aside, which is a connection's farewell), or
    the mean answer took RISE times as long as usual, and SLOW_S more.

Both together, because a queue that is suddenly busy answers a few times slower than an idle one and is well:
what it says then is how much it carries. Additive increase, multiplicative decrease, as TCP does; from one
half a queue is back in STEPS / 2 intervals. The limit is for the whole queue, over all its connections; that
one of them is slower than the rest is the fleet's to see. Source: apns.md 4.3 and 6.6. Pure: `now` is
monotonic.
"""

from __future__ import annotations

import enum

__all__ = ["LEAST", "Change", "Pace"]

INTERVAL_S = 1.0
ENOUGH = 20
"""Answers that an interval must have to mean something."""

BUSY_SHARE = 0.1
RISE = 4.0
SLOW_S = 2.0

LEAST = 50
"""Streams in flight that are always allowed."""

STEPS = 20
USUAL_WEIGHT = 0.05
"""Of the newest interval in the usual answer time."""


class Change(enum.Enum):
    """What an interval came to, where it is worth a word."""

    BUSY = "answers of 503"
    SLOW = "answers take longer and longer"
    FREE = "as before"


class Pace:
    """How many streams of one queue may be in flight."""

    def __init__(self) -> None:
        self.limit: int | None = None
        """None: as many as connections have room for."""
        self._before = 0
        self._usual: float | None = None
        self._since = 0.0
        self._answers = self._busy = self._peak = 0
        self._seconds = 0.0

    def __repr__(self) -> str:
        return f"<Pace {'free' if self.limit is None else self.limit}>"

    def learn(self, answers: int, busy: int, seconds: float, in_flight: int, now: float) -> Change | None:
        """Take what one read brought.

        Args:
            busy: how many of the answers were 503.
            seconds: the sum of what they took.
            in_flight: before the read.

        Returns:
            What has begun or ended with it; None: nothing.
        """
        self._answers += answers
        self._busy += busy
        self._seconds += seconds
        self._peak = max(self._peak, in_flight)
        if self._answers < ENOUGH or now < self._since + INTERVAL_S:
            return None
        change = self._judge(self._busy / self._answers, self._seconds / self._answers)
        self._start_over(now)
        return change

    def _judge(self, busy: float, seconds: float) -> Change | None:
        usual = self._usual if self._usual is not None else seconds
        is_slow = seconds > RISE * usual and seconds > usual + SLOW_S
        if busy >= BUSY_SHARE or is_slow:
            return self._slow_down(Change.BUSY if busy >= BUSY_SHARE else Change.SLOW)
        self._usual = usual + USUAL_WEIGHT * (seconds - usual)
        return self._speed_up() if self.limit is not None else None

    def _slow_down(self, why: Change) -> Change | None:
        begins = self.limit is None
        self._before = max(self._before, self._peak) if not begins else self._peak
        half = self._peak // 2 if self.limit is None else min(self.limit, self._peak) // 2
        self.limit = max(LEAST, half)
        return why if begins else None

    def _speed_up(self) -> Change | None:
        assert self.limit is not None
        self.limit += max(1, self._before // STEPS)
        if self.limit < self._before:
            return None
        self.limit = None
        return Change.FREE

    def _start_over(self, now: float) -> None:
        self._since = now
        self._answers = self._busy = self._peak = 0
        self._seconds = 0.0
