"""Hours in milliseconds with real sockets: an event loop whose time leaps to the next timer.

    run_leaping(story())             as `asyncio.run`, on such a loop
    LoopTime(start)                  our `Clock` and the simulator's `Scheduler`, both by that loop

    sockets have something  ──► time stands still
    nothing for a moment    ──► time is that of the next timer
    and there is no timer   ──► AssertionError: whoever waits would wait for ever

Both ends of a connection live in the one thread, and loopback delivers before `send` returns or a moment
after: what lies in a socket is read before time moves. Names are answered from `names`, because a
look-up in a thread would be work that the loop cannot see.
"""

from __future__ import annotations

import asyncio
import selectors
import socket
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

__all__ = ["LeapingLoop", "LoopTime", "run_leaping"]

MOMENT_S = 0.001
"""Real time that the sockets are given before virtual time moves."""
STUCK_S = 2.0


class _Selector(selectors.DefaultSelector):
    """Asks the sockets; where they have nothing, says that the time has passed."""

    leapt = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        found = super().select(0)
        if found or (timeout is not None and timeout <= 0):
            return found
        found = super().select(STUCK_S if timeout is None else MOMENT_S)
        if timeout is None:
            assert found, "nothing will ever happen again, and somebody waits for it"
        elif not found:
            self.leapt += timeout
        return found


class LeapingLoop(asyncio.SelectorEventLoop):
    """See the module's head."""

    def __init__(self, names: Mapping[str, list[str]] | None = None) -> None:
        self._leaping = _Selector()
        super().__init__(self._leaping)
        self.names = dict(names or {"localhost": ["127.0.0.1"]})
        self.lookups: Counter[str] = Counter()

    def time(self) -> float:
        return self._leaping.leapt

    async def getaddrinfo(self, host: Any, port: Any, **hints: Any) -> list[Any]:  # type: ignore[override]
        self.lookups[host] += 1
        found = self.names.get(host, [host] if host[:1].isdigit() else [])
        if not found:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, port)) for each in found]


class LoopTime:
    """The loop's time as a wall clock that can be set, as a clock that cannot, and as timers."""

    def __init__(self, start: float) -> None:
        self._start = start

    def now(self) -> float:
        return self._start + self.monotonic()

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    def jump(self, seconds: float) -> None:
        """Set the wall clock: an administrator, NTP, or a host that slept while the other stood still."""
        self._start += seconds

    def later(self, seconds: float, call: Callable[[], None]) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_later(seconds, call)


def run_leaping(story: Coroutine[Any, Any, None], names: Mapping[str, list[str]] | None = None) -> None:
    """Run a story to its end."""
    with asyncio.Runner(loop_factory=lambda: LeapingLoop(names)) as runner:
        runner.run(story)
