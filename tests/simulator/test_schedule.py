"""Time by hand and time by the clock."""

import asyncio

import pytest

from momentum_push.simulator.schedule import RealTime, VirtualTime


def test_calls_fire_in_the_order_of_their_times_each_at_its_own() -> None:
    time, seen = VirtualTime(100.0), []
    for seconds in (3.0, 1.0, 2.0, 9.0):
        time.later(seconds, lambda due=seconds: seen.append((due, time.now())))  # type: ignore[misc]
    assert time.advance(5.0) == 3
    assert seen == [(1.0, 101.0), (2.0, 102.0), (3.0, 103.0)]
    assert time.now() == 105.0
    assert time.advance(4.0) == 1


def test_calls_of_one_instant_fire_in_the_order_in_which_they_were_asked_for() -> None:
    time, seen = VirtualTime(), []
    for name in "abc":
        time.later(1.0, lambda name=name: seen.append(name))  # type: ignore[misc]
    time.advance(1.0)
    assert seen == ["a", "b", "c"]


def test_a_call_may_ask_for_another_that_falls_due_in_the_same_stretch() -> None:
    time, seen = VirtualTime(), []

    def again() -> None:
        seen.append(time.now())
        time.later(1.0, again)

    time.later(1.0, again)
    time.advance(3.5)
    assert seen == [1.0, 2.0, 3.0]


def test_cancelled_calls_never_fire() -> None:
    time, seen = VirtualTime(), []
    timer = time.later(1.0, lambda: seen.append(1))
    timer.cancel()
    assert time.advance(2.0) == 0
    timer.cancel()
    assert seen == []


def test_a_call_that_asks_for_itself_after_no_time_is_found_out() -> None:
    time = VirtualTime()

    def again() -> None:
        time.later(0.0, again)

    again()
    with pytest.raises(RuntimeError, match="50 calls fell due"):
        time.advance(1.0, at_most=50)


def test_real_time_is_the_loops() -> None:
    async def scene() -> None:
        time, fired = RealTime(), asyncio.Event()
        never = time.later(0.0, lambda: pytest.fail("cancelled"))
        never.cancel()
        time.later(0.001, fired.set)
        await asyncio.wait_for(fired.wait(), 5)
        assert time.now() > 1_700_000_000

    asyncio.run(scene())
