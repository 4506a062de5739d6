"""momentum_push/daemon/lag.py"""

from collections.abc import Callable

import pytest

from momentum_push.clock import ManualClock
from momentum_push.daemon.lag import INTERVAL_S, LagProbe
from momentum_push.exposition import Snapshot, Summary
from momentum_push.meters import PEAK_WINDOW_S, Meters


class Timers:
    """A loop's `call_later`, rung by hand."""

    def __init__(self) -> None:
        self.waiting: list[tuple[float, Callable[[], None]]] = []

    def __call__(self, delay: float, ring: Callable[[], None]) -> "Timers":
        self.waiting.append((delay, ring))
        return self

    def cancel(self) -> None:
        self.waiting.clear()


class World:
    def __init__(self) -> None:
        self.clock, self.meters, self.timers = ManualClock(), Meters(), Timers()
        self.probe = LagProbe(self.meters, self.clock, self.timers)
        self.probe.start()

    def ring(self, lag: float) -> None:
        """Ring the timer that waits, so much too late."""
        delay, ring = self.timers.waiting.pop()
        self.clock.advance(delay + lag)
        ring()


def test_a_timer_in_time_is_no_lag_and_one_too_late_is_its_delay() -> None:
    world = World()
    for lag in (0.0, 0.3, 0.0):
        world.ring(lag)
    assert world.meters.loop_lag_seconds.count == 3
    assert world.meters.loop_lag_seconds.total == pytest.approx(0.3)
    assert world.meters.loop_lag_peak.recent(world.clock.monotonic()) == pytest.approx(0.3)


def test_the_peak_is_told_for_a_minute_to_all_who_ask_and_then_forgotten() -> None:
    world = World()
    world.ring(PEAK_WINDOW_S)  # a window begins here,
    world.clock.advance(PEAK_WINDOW_S - 1)
    world.ring(0.5)  # and this is at its end
    peak, began = world.meters.loop_lag_peak, world.clock.monotonic()
    while world.clock.monotonic() < began + PEAK_WINDOW_S - 1:
        assert peak.recent(world.clock.monotonic()) >= 0.5
        world.ring(0.2)
    while world.clock.monotonic() < began + 3 * PEAK_WINDOW_S:
        world.ring(0.2)
    assert peak.recent(world.clock.monotonic()) == pytest.approx(0.2)
    world.clock.advance(2 * PEAK_WINDOW_S)
    assert peak.recent(world.clock.monotonic()) == 0.0


def test_the_summary_has_the_peak_since_its_reset() -> None:
    world = World()
    summary = Summary(world.meters, 0.0)
    world.ring(0.25)
    assert summary.render(Snapshot(), 1.0)["LoopLagMax"] == 0.25
    summary.reset(1.0)
    assert summary.render(Snapshot(), 2.0)["LoopLagMax"] == 0.0


def test_a_stopped_probe_has_no_timer() -> None:
    world = World()
    world.ring(0.0)
    assert [delay for delay, _ in world.timers.waiting] == [INTERVAL_S]
    world.probe.stop()
    assert not world.timers.waiting
