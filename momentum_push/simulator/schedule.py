"""Time as the simulator lives it: the system's, or one that a test moves by hand.

    RealTime      now() is the wall clock, later() is the event loop's timer
    VirtualTime   now() stands still until advance(seconds) fires what falls due, in order, each at its time

Every delay of a fault, every pause of a graceful goodbye, every spell of a limit and the age of a
provider token comes from here, so that an hour of token life runs in milliseconds. Not from here: the
guards that keep a real socket from staying open for ever (handshake, close), which are the event loop's own.
"""

import asyncio
import heapq
import itertools
import time
from collections.abc import Callable
from typing import Protocol

__all__ = ["RealTime", "Scheduler", "Timer", "VirtualTime"]


class Timer(Protocol):
    def cancel(self) -> None:
        """Never fire; harmless when it has fired."""


class Scheduler(Protocol):
    """What connections and listeners ask of time."""

    def now(self) -> float:
        """Seconds since the epoch."""

    def later(self, seconds: float, call: Callable[[], None]) -> Timer:
        """Call back once, after `seconds`."""


class RealTime:
    """The event loop's timers beside the wall clock."""

    def now(self) -> float:
        return time.time()

    def later(self, seconds: float, call: Callable[[], None]) -> Timer:
        return asyncio.get_running_loop().call_later(seconds, call)


class _Alarm:
    __slots__ = ("call",)

    def __init__(self, call: Callable[[], None]) -> None:
        self.call: Callable[[], None] | None = call

    def cancel(self) -> None:
        self.call = None


class VirtualTime:
    """Time that passes when it is told to; calls fire inside `advance`."""

    def __init__(self, start: float = 0.0) -> None:
        self._now = start
        self._order = itertools.count()
        self._alarms: list[tuple[float, int, _Alarm]] = []

    def now(self) -> float:
        return self._now

    def later(self, seconds: float, call: Callable[[], None]) -> Timer:
        alarm = _Alarm(call)
        heapq.heappush(self._alarms, (self._now + seconds, next(self._order), alarm))
        return alarm

    def advance(self, seconds: float, at_most: int = 1_000_000) -> int:
        """Let time pass; return how many calls fired.

        Raises:
            RuntimeError: more than `at_most` fell due, as when a call asks for itself after no time.
        """
        end, fired = self._now + seconds, 0
        while self._alarms and self._alarms[0][0] <= end:
            due, _, alarm = heapq.heappop(self._alarms)
            self._now = max(due, self._now)
            if alarm.call is None:
                continue
            if fired == at_most:
                raise RuntimeError(f"virtual time: {at_most} calls fell due at once; look for a timer of 0 s")
            fired += 1
            alarm.call()
        self._now = end
        return fired
