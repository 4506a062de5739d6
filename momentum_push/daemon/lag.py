"""How late the event loop is: a timer that should ring every 20 ms, and notes how late it rings.

    ring ── 20 ms ──► due ─── a turn that takes its time ───► ring
                       └──────────────── lag ────────────────┘

A turn of the loop that takes long makes everybody wait: doors, answers, timers. The interval is what the
probe can overlook, for a turn that begins just after a ring has that long before anything is due; it is
50 wake-ups a second, a few hundred microseconds of CPU.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from momentum_push.clock import Clock
from momentum_push.meters import Meters

__all__ = ["INTERVAL_S", "LagProbe"]

INTERVAL_S = 0.02


class Timer(Protocol):
    """What a loop's `call_later` returns."""

    def cancel(self) -> None: ...


class LagProbe:
    """Feeds `meters.loop_lag_seconds` and `meters.loop_lag_peak` from `start` to `stop`."""

    def __init__(
        self, meters: Meters, clock: Clock, call_later: Callable[[float, Callable[[], None]], Timer]
    ) -> None:
        self._meters = meters
        self._clock = clock
        self._call_later = call_later
        self._timer: Timer | None = None
        self._due = 0.0

    def start(self) -> None:
        """Begin to measure."""
        self._due = self._clock.monotonic() + INTERVAL_S
        self._timer = self._call_later(INTERVAL_S, self._ring)

    def stop(self) -> None:
        """Ring no more."""
        if self._timer is not None:
            self._timer.cancel()

    def _ring(self) -> None:
        now = self._clock.monotonic()
        lag = max(0.0, now - self._due)
        self._meters.loop_lag_seconds.observe(lag)
        self._meters.loop_lag_peak.observe(lag, now)
        self.start()
