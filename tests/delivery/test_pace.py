"""Half of it when Apple is busy, back step by step, and a word once each way; in virtual time."""

from __future__ import annotations

import asyncio

import structlog

from momentum_push.delivery.pace import LEAST, Change, Pace
from tests.helpers.delivery import opened_world, turns


class Queue:
    """As many in flight as are allowed, `full` at most; answers come once a second."""

    def __init__(self, full: int = 1000) -> None:
        self.pace, self.full, self.now = Pace(), full, 0.0

    def second(self, busy: float = 0.0, seconds: float = 0.1) -> Change | None:
        self.now += 1.0
        count = self.full if self.pace.limit is None else min(self.full, self.pace.limit)
        return self.pace.learn(count, int(busy * count), seconds * count, count, self.now)


def test_answers_of_503_halve_what_is_in_flight_and_are_told_of_once() -> None:
    queue = Queue()
    assert queue.second() is None
    assert queue.second(busy=0.2) is Change.BUSY
    assert queue.pace.limit == 500
    assert queue.second(busy=0.2) is None
    assert queue.pace.limit == 250
    for _ in range(10):
        queue.second(busy=1.0)
    assert queue.pace.limit == LEAST, "never less: something must find out when it is over"


def test_it_comes_back_step_by_step_and_says_when_it_is_free() -> None:
    queue = Queue()
    queue.second(busy=0.2)
    limits, said = [], []
    while queue.pace.limit is not None:
        limits.append(queue.pace.limit)
        said.append(queue.second())
    assert limits == list(range(500, 1000, 50))
    assert said == [None] * 9 + [Change.FREE]


def test_a_few_503_are_no_reason() -> None:
    queue = Queue()
    assert [queue.second(busy=0.05) for _ in range(5)] == [None] * 5


def test_answers_that_take_ever_longer_slow_down_and_a_busy_queue_s_own_do_not() -> None:
    queue = Queue()
    for _ in range(5):
        queue.second(seconds=0.1)
    assert queue.second(seconds=1.5) is None, "many times as long, but not long"
    assert queue.second(seconds=4.0) is Change.SLOW
    queue = Queue()
    for _ in range(5):
        queue.second(seconds=3.0)
    assert queue.second(seconds=6.0) is None, "long, but not many times as long"


def test_a_handful_of_answers_proves_nothing() -> None:
    queue = Queue(full=5)
    assert [queue.second(busy=1.0) for _ in range(3)] == [None] * 3
    assert queue.second(busy=1.0) is Change.BUSY, "twenty of them do"


def test_a_pool_that_is_slowed_down_sends_no_more_than_its_limit() -> None:
    async def scenario() -> None:
        async with opened_world(room=1000, max_connections=1) as world:
            await world.put(1000)
            await turns(100)
            world.clock.advance(2)
            with structlog.testing.capture_logs() as logs:
                world.connections[0].answer(400, 503, "ServiceUnavailable")
                world.connections[0].answer(500)
                await turns()
            assert [line["event"] for line in logs if "slow" in line["event"]] == ["slowed_down"]
            await world.put(1000)
            await turns(200)
            assert world.pool.in_flight == 500
            world.connections[0].answer(100)
            await turns(200)
            assert world.pool.in_flight == 500

    asyncio.run(scenario())
