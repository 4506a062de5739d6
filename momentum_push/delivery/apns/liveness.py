"""When a silent connection is asked for a sign of life, and when it is given up (apns.md 6.3).

    answers are due   10 s of silence ──► PING ── 10 s without ACK ──► dead
    idle              ping_interval   ──► PING ── 10 s without ACK ──► dead
    idle              idle_timeout    ──► closed in order

NAT and firewalls forget connections within a minute to twenty, and tell nobody; TCP keepalive alone
did not help. One PING is outstanding at most. Pure: times in, a need out.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

__all__ = ["Liveness", "Need", "Pulse"]


class Need(enum.Enum):
    """What a connection needs now."""

    NOTHING = "nothing"
    PING = "ping"
    ABORT = "abort"
    CLOSE = "close"


@dataclass(frozen=True, slots=True)
class Pulse:
    """What is known about a connection; seconds on the monotonic clock."""

    last_heard: float
    oldest_sent: float | None
    """When the request that waits longest went out; None: nothing is in flight."""
    pinged_at: float | None
    """When the PING went out that has no ACK yet."""
    idle_since: float
    """When the last request ended, or the connection opened."""


@dataclass(frozen=True, slots=True)
class Liveness:
    """The rule, with its times."""

    ping_interval_s: float = 60.0
    """0: no PING while idle."""
    busy_ping_interval_s: float = 10.0
    ping_timeout_s: float = 10.0
    idle_timeout_s: float = 3600.0
    """0: an idle connection is kept."""

    def need(self, pulse: Pulse, now: float) -> Need:
        """Return what is to be done now."""
        if pulse.pinged_at is not None:
            return Need.ABORT if now >= pulse.pinged_at + self.ping_timeout_s else Need.NOTHING
        if (end := self._idle_end(pulse)) is not None and now >= end:
            return Need.CLOSE
        ping = self._next_ping(pulse)
        return Need.PING if ping is not None and now >= ping else Need.NOTHING

    def next_check(self, pulse: Pulse) -> float | None:
        """Return when `need` may say something else; None: not before something happens."""
        if pulse.pinged_at is not None:
            return pulse.pinged_at + self.ping_timeout_s
        moments = [moment for moment in (self._idle_end(pulse), self._next_ping(pulse)) if moment is not None]
        return min(moments, default=None)

    def _idle_end(self, pulse: Pulse) -> float | None:
        if pulse.oldest_sent is not None or not self.idle_timeout_s:
            return None
        return pulse.idle_since + self.idle_timeout_s

    def _next_ping(self, pulse: Pulse) -> float | None:
        if pulse.oldest_sent is not None:
            return max(pulse.last_heard, pulse.oldest_sent) + self.busy_ping_interval_s
        return pulse.last_heard + self.ping_interval_s if self.ping_interval_s else None
