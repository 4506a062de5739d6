"""The manager keeps memory bounded and loses nothing over the seam to the spool."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from momentum_push.clock import ManualClock
from momentum_push.errors import SpoolError
from momentum_push.message import Home, MessageList, QueueKey
from momentum_push.message.notification import OVERHEAD
from momentum_push.queues import PAGE, Queue, QueueManager
from tests.helpers.lists import NOW, PAYLOAD, QUEUE, message, message_list, part

COUNT = 1000


@dataclass
class Shelf:
    """A spool that only pages: what was put on it and not yet delivered, in (due, number) order."""

    lists: dict[int, MessageList] = field(default_factory=dict)
    pages: int = 0
    error: SpoolError | None = None

    async def page(
        self, queue: QueueKey, lane: int, after: tuple[float, int], limit: int
    ) -> list[MessageList]:
        self.pages += 1
        await asyncio.sleep(0)
        if self.error is not None:
            raise self.error
        found: list[MessageList] = []
        for batch in sorted(self.lists.values(), key=lambda batch: (batch.home.due, batch.home.number)):
            is_behind = (batch.home.due, batch.home.number) > after
            if is_behind and (batch.home.queue, batch.home.lane) == (queue, lane):
                if found and sum(len(batch.messages) for batch in found) >= limit:
                    break
                found.append(MessageList(batch.home, list(batch.messages)))
        return found


class World:
    """A manager, a shelf, and a consumer that takes what is due."""

    def __init__(self, max_resident: int, max_bytes: int = 0) -> None:
        self.shelf = Shelf()
        self.clock = ManualClock(NOW)
        self.due: list[Queue] = []
        self.manager = QueueManager(
            self.shelf, self.clock, self.due.append, max_resident, max_bytes=max_bytes
        )
        self.taken: list[int] = []
        self._numbers: Iterator[int] = iter(range(1, 10**9))
        self._next = 1

    def put(self, delay: float = 0.0, count: int = COUNT, lane: int = 10) -> MessageList:
        """Commit a new list and hand it to the manager."""
        batch = self.commit(delay, count, lane)
        self.manager.expect([batch])
        self.manager.add([batch])
        return batch

    def commit(self, delay: float = 0.0, count: int = COUNT, lane: int = 10) -> MessageList:
        batch = message_list(count, first=self._next, lane=lane, due=self.clock.now() + delay)
        self._next += count
        batch.home.number = next(self._numbers)
        self.shelf.lists[batch.home.number] = batch
        return batch

    def take(self, most: int) -> int:
        """Deliver up to `most` messages and settle them."""
        queue = self.manager.get(QUEUE)
        messages = queue.take(most, self.clock.now())
        emptied: list[Home] = []
        for one in messages:
            assert one.home.leave(one.place), "taken twice"
            self.taken.append(one.sequence)
            if not one.home.remaining:
                del self.shelf.lists[one.home.number]
                emptied.append(one.home)
        self.manager.left(len(messages), sum(one.home.weight for one in messages))
        self.manager.off_disk(emptied)
        self.manager.refill(queue)
        return len(messages)

    async def drain(self) -> None:
        """Deliver everything, moving the clock where nothing is due."""
        idle = 0
        while idle < 5:
            await asyncio.sleep(0)
            idle = 0 if self.take(700) else idle + 1
            if idle == 4 and (when := self.manager.next_wake()) is not None:
                self.clock.advance(max(0.0, when - self.clock.now()))
                self.manager.wake(self.clock.now())
                idle = 0


def test_due_lists_are_announced_at_once_and_delayed_ones_when_their_time_comes() -> None:
    world = World(10**6)
    world.put(delay=60)
    assert (world.due, world.manager.next_wake()) == ([], NOW + 60)
    world.put()
    assert world.due == [world.manager.get(QUEUE)]
    world.take(COUNT)
    world.due.clear()
    world.clock.advance(60)
    world.manager.wake(world.clock.now())
    assert world.due == [world.manager.get(QUEUE)]


def test_beyond_the_limit_lists_stay_in_the_spool_and_come_back_in_order() -> None:
    async def scenario() -> None:
        world = World(max_resident=5 * COUNT)
        for _ in range(50):
            world.put()
        assert world.manager.resident <= 5 * COUNT
        assert world.manager.get(QUEUE).sizes(NOW) == (50 * COUNT, 0)
        await world.drain()
        assert world.taken == list(range(1, 50 * COUNT + 1))
        assert (world.manager.resident, world.manager.get(QUEUE).stored) == (0, 0)

    asyncio.run(scenario())


def test_beyond_the_limit_of_bytes_lists_stay_in_the_spool_too() -> None:
    async def scenario() -> None:
        world = World(0, max_bytes=3 * COUNT * OVERHEAD)
        for _ in range(50):
            world.put()
        assert 0 < world.manager.resident_bytes <= 4 * COUNT * (OVERHEAD + len(PAYLOAD))
        assert world.manager.get(QUEUE).sizes(NOW) == (50 * COUNT, 0)
        await world.drain()
        assert world.taken == list(range(1, 50 * COUNT + 1))
        assert (world.manager.resident, world.manager.resident_bytes) == (0, 0)

    asyncio.run(scenario())


def test_what_messages_share_is_weighed_once() -> None:
    shared = message_list(4, payload=bytes(4000))
    assert shared.weigh() == OVERHEAD + 1000
    own = message_list(of=[message(number, payload=bytes(3990 + number)) for number in range(1, 5)])
    assert own.weigh() == OVERHEAD + 3992


def test_a_full_house_lets_a_small_queue_keep_a_page() -> None:
    async def scenario() -> None:
        world = World(max_resident=3 * COUNT)
        for _ in range(10):
            world.put()
        small = QueueKey("default", "default", "small.apns")
        batch = message_list(10, queue=small)
        batch.home.number = 10**6
        world.manager.add([batch])
        assert world.manager.get(small).active == 10

    asyncio.run(scenario())


def test_delayed_lists_make_way_for_due_ones_and_come_back_when_they_are_due() -> None:
    async def scenario() -> None:
        world = World(max_resident=4 * COUNT)
        for _ in range(4):
            world.put(delay=3600)
        for _ in range(4):
            world.put()
        assert world.manager.get(QUEUE).active >= 2 * COUNT
        await world.drain()
        assert sorted(world.taken) == list(range(1, 8 * COUNT + 1))
        assert world.taken[: 4 * COUNT] == list(range(4 * COUNT + 1, 8 * COUNT + 1))

    asyncio.run(scenario())


def test_a_restart_recalls_everything_in_bounded_memory() -> None:
    async def scenario() -> None:
        world = World(max_resident=PAGE)
        for _ in range(40):
            world.commit()

        world.manager.recall([Row(messages=40 * COUNT)])
        assert world.manager.resident == 0
        world.manager.wake(NOW)
        for _ in range(20):
            await asyncio.sleep(0)
        assert 0 < world.manager.resident <= 2 * PAGE
        await world.drain()
        assert world.taken == list(range(1, 40 * COUNT + 1))

    asyncio.run(scenario())


def test_a_list_paged_between_its_commit_and_its_announcement_is_delivered_once() -> None:
    async def scenario() -> None:
        world = World(max_resident=3 * COUNT)
        for _ in range(6):
            world.put()
        late = world.commit()
        while world.manager.get(QUEUE).stored > 0:
            world.take(500)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        world.manager.add([MessageList(late.home, list(late.messages))])
        await world.drain()
        assert world.taken == list(range(1, 7 * COUNT + 1))
        assert world.manager.resident == 0

    asyncio.run(scenario())


@dataclass
class Row:
    """What the spool says of a lane."""

    queue: QueueKey = QUEUE
    lane: int = 10
    messages: int = COUNT
    next_due: float = NOW


def test_a_page_that_cannot_be_read_is_asked_for_again_after_a_second_and_not_at_once() -> None:
    async def scenario() -> None:
        world = World(max_resident=PAGE)
        world.commit()
        world.shelf.error = SpoolError("spool: i/o error")
        world.manager.recall([Row()])
        world.manager.wake(NOW)
        for _ in range(50):
            await asyncio.sleep(0)
        assert (world.shelf.pages, world.manager.next_wake()) == (1, NOW + 1)
        world.shelf.error = None
        await world.drain()
        assert len(world.taken) == COUNT

    asyncio.run(scenario())


def test_an_empty_page_forgets_what_was_damaged_and_nothing_that_came_meanwhile() -> None:
    async def scenario() -> None:
        world = World(max_resident=PAGE)
        world.manager.recall([Row(messages=7)])  # the spool counted a list that it had to set aside
        world.manager.wake(NOW)
        for _ in range(2):
            world.put(count=10)
        await world.drain()
        assert world.taken == list(range(1, 21))
        assert world.manager.get(QUEUE).stored == 0

    asyncio.run(scenario())


def test_a_jump_of_the_wall_clock_moves_holds_along() -> None:
    for jump in (-86400.0, 86400.0):
        world = World(0)
        queue = world.manager.get(QUEUE)
        queue.hold(NOW + 30, "outage")
        world.manager.wake_at(QUEUE, NOW + 30)
        world.put()
        world.due.clear()
        world.clock.advance(10)
        world.clock.jump(jump)
        world.manager.wake(world.clock.now())
        assert (queue.not_before, world.due) == (NOW + jump + 30, [])
        world.clock.advance(20)
        world.manager.wake(world.clock.now())
        assert world.due == [queue]


def test_a_slow_drift_is_no_jump() -> None:
    world = World(0)
    queue = world.manager.get(QUEUE)
    queue.hold(NOW + 3600, "outage")
    for _ in range(100):
        world.clock.advance(10)
        world.clock.jump(0.05)
        world.manager.wake(world.clock.now())
    assert queue.not_before == NOW + 3600


def test_after_close_nothing_is_paged_and_no_alarm_is_set() -> None:
    async def scenario() -> None:
        world = World(max_resident=PAGE)
        world.commit()
        alarms: list[float] = []
        world.manager = QueueManager(world.shelf, world.clock, world.due.append, PAGE, alarms.append)
        world.manager.recall([Row()])
        world.manager.wake(NOW)
        await world.manager.close()
        alarms.clear()
        world.manager.wake_at(QUEUE, NOW + 1)
        world.manager.look(world.manager.get(QUEUE))
        await asyncio.sleep(0)
        assert (alarms, world.manager.next_wake(), world.shelf.pages) == ([], None, 0)

    asyncio.run(scenario())


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 4000),
    st.integers(0, 2_000_000),
    st.lists(
        st.one_of(
            st.tuples(
                st.just("put"), st.sampled_from([0.0, 0.0, 5.0, 900.0]), st.sampled_from([1, 10, 1000])
            ),
            st.tuples(st.just("take"), st.just(0.0), st.integers(1, 3000)),
            st.tuples(st.just("pass"), st.floats(0, 100), st.just(0)),
        ),
        max_size=40,
    ),
)
def test_whatever_the_order_of_events_everything_is_delivered_once(
    limit: int, max_bytes: int, steps: list[tuple[str, float, int]]
) -> None:
    async def scenario() -> None:
        world, put = World(limit, max_bytes), 0
        for step, seconds, count in steps:
            if step == "put":
                world.put(seconds, count)
                put += count
            elif step == "take":
                world.take(count)
                await asyncio.sleep(0)
            else:
                world.clock.advance(seconds)
                world.manager.wake(world.clock.now())
        await world.drain()
        assert sorted(world.taken) == list(range(1, put + 1))
        assert (world.manager.resident, world.manager.resident_bytes) == (0, 0)

    asyncio.run(scenario())


def test_what_is_scheduled_is_left_to_the_spool_until_it_is_due() -> None:
    async def scenario() -> None:
        world = World(max_resident=10 * COUNT)
        later = message_list(COUNT, first=10_000, due=NOW + 60, shared=part(deliver_at=NOW + 60))
        later.home.number = 10_000
        world.shelf.lists[10_000] = later
        world.manager.expect([later])
        world.manager.add([later])
        world.put()
        assert (world.manager.resident, world.manager.get(QUEUE).stored) == (COUNT, COUNT)
        assert world.manager.next_wake() == NOW + 60
        world.clock.advance(60)
        world.manager.wake(world.clock.now())
        await asyncio.sleep(0.01)
        assert world.manager.get(QUEUE).active == 2 * COUNT

    asyncio.run(scenario())
