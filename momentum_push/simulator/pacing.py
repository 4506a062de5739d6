"""When answers are due: latency, a ceiling on their rate, and disorder.

Answers that fall due within a millisecond share a timer, and so go out with one write; at ten thousand a
second a timer and a write for each would be most of the work.
"""

from collections.abc import Callable

from momentum_push.simulator.line import Line

__all__ = ["Pacing"]

_GRAIN = 1000.0
_HELD_S = 0.1
Call = Callable[[], None]


class Pacing:
    """The timetable of one connection."""

    def __init__(self, line: Line) -> None:
        self._line = line
        faults = line.floor.faults
        self.is_free = faults.latency is None and not faults.rate
        self._latency = faults.latency
        self._rate = faults.rate
        self._free_at = 0.0
        self._due: dict[int, list[Call]] = {}
        self._held: list[Call] = []
        self._holdings = 0

    def delay(self) -> float:
        """Draw how long the next answer takes on its way; calls are counted against the ceiling."""
        now, wait = self._line.floor.clock.now(), 0.0
        if self._rate:
            self._free_at = max(now, self._free_at + 1.0 / self._rate)
            wait = self._free_at - now
        return wait + (self._latency.draw(self._line.chance) if self._latency is not None else 0.0)

    def later(self, seconds: float, call: Call) -> None:
        """Call after `seconds`, to the nearest millisecond."""
        now = self._line.floor.clock.now()
        tick = round((now + seconds) * _GRAIN)
        calls = self._due.setdefault(tick, [])
        calls.append(call)
        if len(calls) == 1:
            self._line.shell.later(max(0.0, tick / _GRAIN - now), lambda: self._fire(tick))

    def shuffle(self, count: int, call: Call) -> None:
        """Hold `call` until `count` are held, or a tenth of a second; then make them in any order."""
        self._held.append(call)
        if len(self._held) >= count:
            self._release()
        elif len(self._held) == 1:
            holding = self._holdings
            self._line.shell.later(_HELD_S, lambda: self._release(holding))

    def _fire(self, tick: int) -> None:
        for call in self._due.pop(tick):
            call()

    def _release(self, holding: int | None = None) -> None:
        if holding not in (None, self._holdings):
            return
        self._holdings += 1
        held, self._held = self._held, []
        self._line.chance.shuffle(held)
        for call in held:
            call()
