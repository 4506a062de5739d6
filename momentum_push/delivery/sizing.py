"""How many connections a pool wants, and when one of them is worth replacing: arithmetic.

A connection moves a *trip* of messages per round trip: as many as it may have streams, or as half of the
peer's window holds, which Apple refills in steps of 32 KiB (apns.md 6.2):

    trip    = min(streams, 32 KiB / body)
    needed  = rate x round trip / trip            = rate x round trip x body / 32 KiB at Apple's

Growth takes the rate that would carry off what waits within a second; the advice to an operator, the one
that would within a minute: a campaign may take its time, a queue that grows may not. What will be gone
within PATIENCE_S opens nothing, for then no new connection would come in time to be of help; so a fast
peer near by is left with few. Unless nothing has moved for STUCK_S: then it was no good estimate. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

__all__ = ["STUCK_S", "RoundTrip", "lags", "lifetime", "needed", "needs", "to_open"]

GUESS_S = 0.1
"""A round trip that has not been measured yet."""
PATIENCE_S, STUCK_S = 0.05, 0.2
CALM_S = 60.0
RECENT_S = 10.0
"""How long the smallest answer time counts, at least; twice that at most."""

SLOW_S = 2.0
SLOW_TIMES = 4.0
"""A connection lags whose answers take longer than SLOW_S and this many times the others' median."""


def needed(waiting: int, round_trip_s: float, trip: float, within_s: float = 1.0) -> int:
    """Return how many connections carry off `waiting` messages within `within_s` seconds.

    Args:
        trip: messages that one connection moves in a round trip.
    """
    return math.ceil(waiting * round_trip_s / (trip * within_s))


def to_open(
    waiting: int,
    round_trip_s: float | None,
    trip: float,
    serving: int,
    coming: int,
    most: int,
    stuck_s: float = 0.0,
) -> int:
    """Return how many connections to open now, when all that serve are full and `waiting` messages are due.

    Args:
        round_trip_s: None: not known yet.
        serving: open and full.
        coming: being opened, or proving their token.
        most: what `max_outbound_connections` leaves for both.
        stuck_s: for how long nothing could be sent.
    """
    if waiting <= 0:
        return 0
    if not serving:
        return 1 if not coming and most > 0 else 0
    is_quick = round_trip_s is not None and waiting * round_trip_s <= PATIENCE_S * trip * serving
    if is_quick and stuck_s < STUCK_S:
        return 0
    enough = needed(waiting, GUESS_S if round_trip_s is None else round_trip_s, trip)
    wanted = min(max(enough, serving + 1), 2 * serving, most)
    return max(0, wanted - serving - coming)


def needs(waiting: int, round_trip_s: float, trip: float, serving: int) -> int:
    """Return how many connections would keep up with what goes out now, and empty the queue in a minute."""
    return serving + needed(waiting, round_trip_s, trip, CALM_S)


def lifetime(max_age_s: float, chance: float) -> float:
    """Return after how many seconds a connection is replaced: 75 to 100 % of the option; 0: never.

    Args:
        chance: 0 to 1; connections that were opened together must not end together.
    """
    return max_age_s * (0.75 + 0.25 * chance)


def lags(seconds: float, others: Sequence[float]) -> bool:
    """Return whether answers that take `seconds` are much slower than those of the other connections."""
    if seconds <= SLOW_S or not others:
        return False
    return seconds > SLOW_TIMES * sorted(others)[(len(others) - 1) // 2]


class RoundTrip:
    """The smallest answer time of the last RECENT_S to 2 x RECENT_S seconds; longer ones had to queue."""

    def __init__(self) -> None:
        self._before: float | None = None
        self._lately: float | None = None
        self._since = 0.0

    def __repr__(self) -> str:
        return f"<RoundTrip {self.seconds}>"

    @property
    def seconds(self) -> float | None:
        """The round trip; None: no answer yet."""
        known = [value for value in (self._before, self._lately) if value is not None]
        return min(known, default=None)

    def note(self, seconds: float, now: float) -> None:
        """Take the smallest answer time of one read; `now` monotonic."""
        if now >= self._since + RECENT_S:
            self._before, self._lately, self._since = self._lately, None, now
        if self._lately is None or seconds < self._lately:
            self._lately = seconds
