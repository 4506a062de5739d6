"""Whatever pages, commits, announcements and removals do to each other, each message is delivered once.

The spool here behaves like the real one: a page is a picture of the disk at one moment that arrives
at a later one, made of objects of its own; lists are on disk before they are announced, and stay there
for a while after they were settled.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from momentum_push.clock import ManualClock
from momentum_push.message import MAX_LIST, Home, Message, MessageList, QueueKey
from momentum_push.queues import PAGE, QueueManager
from momentum_push.queues.residency import START, Residency
from tests.helpers.lists import NOW, QUEUE, message_list, messages


@dataclass
class Row:
    """A list on disk."""

    number: int
    due: float
    attempts: int
    sequences: list[int]
    left: set[int] = field(default_factory=set)
    """Places that had left when the row was last written."""


class Disk:
    """Rows, and pages that are pictures of them."""

    def __init__(self) -> None:
        self.rows: dict[int, Row] = {}
        self.reads: deque[tuple[list[MessageList], asyncio.Future[list[MessageList]]]] = deque()

    def page(self, queue: QueueKey, lane: int, after: tuple[float, int], limit: int):  # type: ignore[no-untyped-def]
        future: asyncio.Future[list[MessageList]] = asyncio.get_running_loop().create_future()
        self.reads.append((self._picture(after, limit), future))
        return future

    def _picture(self, after: tuple[float, int], limit: int) -> list[MessageList]:
        found: list[MessageList] = []
        count = 0
        for row in sorted(self.rows.values(), key=lambda row: (row.due, row.number)):
            if (row.due, row.number) > after and len(row.left) < len(row.sequences):
                if found and count >= limit:
                    break
                found.append(_decode(row))
                count += len(found[-1].messages)
        return found

    def arrive(self) -> None:
        """Let the oldest page come back."""
        if self.reads:
            picture, future = self.reads.popleft()
            future.set_result(picture)


def _decode(row: Row) -> MessageList:
    count = len(row.sequences)
    progress = bytearray((count + 7) // 8)
    home = Home(QUEUE, 10, row.due, row.attempts, row.number, count, progress, count)
    batch = MessageList(home, [])
    for place, sequence in enumerate(row.sequences):
        if place in row.left:
            home.leave(place)
        else:
            (message,) = messages(1, first=sequence)
            message.home, message.place = home, place
            batch.messages.append(message)
    return batch


class World:
    """A manager before such a disk; the test says what happens next."""

    def __init__(self, max_resident: int) -> None:
        self.disk = Disk()
        self.clock = ManualClock(NOW)
        self.manager = QueueManager(self.disk, self.clock, lambda queue: None, max_resident)
        self.unannounced: deque[MessageList] = deque()
        self.unsettled: deque[tuple[list[Home], list[tuple[int, int]], list[MessageList]]] = deque()
        self.delivered: list[int] = []
        self.numbers = 0
        self.sequences = 0

    def write(self, count: int) -> None:
        """An injection is committed; its announcement is under way."""
        batch = message_list(count, first=self.sequences + 1, due=self.clock.now())
        self.sequences += count
        self._put(batch)
        self.unannounced.append(batch)

    def _put(self, batch: MessageList) -> None:
        self.numbers += 1
        batch.home.number = self.numbers
        self.manager.expect([batch])
        row = Row(self.numbers, batch.home.due, batch.home.attempts, [m.sequence for m in batch.messages])
        self.disk.rows[self.numbers] = row

    def announce(self) -> None:
        if self.unannounced:
            self.manager.add([self.unannounced.popleft()])

    def take(self, most: int, retry_every: int, delay: float) -> int:
        """Deliver; every so many-th fails and is to be tried again."""
        queue = self.manager.get(QUEUE)
        taken = queue.take(most, self.clock.now())
        failed = [m for m in taken if retry_every and m.sequence % retry_every == 0 and not m.home.attempts]
        weights = [message.home.weight for message in taken]
        marks, homes = [], {}
        for message in taken:
            assert message.home.leave(message.place)
            marks.append((message.home.number, message.place))
            homes[message.home.number] = message.home
        self.delivered += [m.sequence for m in taken if m not in failed]
        emptied = [home for home in homes.values() if not home.remaining]
        retries = self._retries(failed, delay)
        self.manager.left(len(taken), sum(weights))
        if taken:
            self.unsettled.append((emptied, marks, retries))
        self.manager.refill(queue)
        return len(taken)

    def _retries(self, failed: list[Message], delay: float) -> list[MessageList]:
        if not failed:
            return []
        batches = [
            MessageList.gather(QUEUE, 10, self.clock.now() + delay, failed[start : start + MAX_LIST], 1)
            for start in range(0, len(failed), MAX_LIST)
        ]
        for batch in batches:
            self.numbers += 1
            batch.home.number = self.numbers
        self.manager.expect(batches)
        return batches

    def settle(self) -> None:
        """The oldest settlement is committed: progress, removals and new lists at once."""
        if not self.unsettled:
            return
        emptied, marks, retries = self.unsettled.popleft()
        for number, place in marks:
            self.disk.rows[number].left.add(place)
        for home in emptied:
            del self.disk.rows[home.number]
        for batch in retries:
            sequences = [m.sequence for m in batch.messages]
            self.disk.rows[batch.home.number] = Row(batch.home.number, batch.home.due, 1, sequences)
        self.manager.off_disk(emptied)
        self.manager.add(retries)

    async def finish(self) -> None:
        """Let everything happen that is under way, and all time pass that is waited for."""
        idle = 0
        while idle < 8:
            before = (len(self.delivered), len(self.disk.rows))
            self.disk.arrive()
            await asyncio.sleep(0)
            self.announce()
            self.take(1500, 7, 3.0)
            self.settle()
            await asyncio.sleep(0)
            is_still = before == (len(self.delivered), len(self.disk.rows)) and not self.disk.reads
            idle = idle + 1 if is_still else 0
            if idle > 4 and (when := self.manager.next_wake()) is not None:
                self.clock.advance(max(0.0, when - self.clock.now()) + 0.001)
                self.manager.wake(self.clock.now())
                idle = 0

    def check(self) -> None:
        assert sorted(self.delivered) == list(range(1, self.sequences + 1))
        assert (self.disk.rows, self.manager.resident, self.manager.resident_bytes) == ({}, 0, 0)
        assert self.manager.get(QUEUE).sizes(self.clock.now()) == (0, 0)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.sampled_from([1, 3, 400, 1000])),
        st.tuples(st.just("announce"), st.just(0)),
        st.tuples(st.just("take"), st.sampled_from([1, 100, 2500])),
        st.tuples(st.just("settle"), st.just(0)),
        st.tuples(st.just("arrive"), st.just(0)),
        st.tuples(st.just("pass"), st.sampled_from([0, 1, 4])),
    ),
    max_size=60,
)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from([0, 1, 900, 5000]), STEPS)
def test_each_message_is_delivered_once_whatever_crosses_whatever(
    limit: int, steps: list[tuple[str, int]]
) -> None:
    asyncio.run(play(limit, steps))


@pytest.mark.parametrize("seed", range(12))
def test_long_random_runs_come_out_even(seed: int) -> None:
    chance = random.Random(seed)
    kinds = ["write"] * 6 + ["announce"] * 6 + ["take"] * 4 + ["settle"] * 4 + ["arrive"] * 3 + ["pass"] * 2
    counts = {"write": [1, 20, 1000], "take": [50, 700, 3000], "pass": [0, 1, 4]}
    steps = [(kind, chance.choice(counts.get(kind, [0]))) for kind in chance.choices(kinds, k=300)]
    asyncio.run(play(chance.choice([1, 10, 2500]), steps))


async def play(limit: int, steps: list[tuple[str, int]]) -> None:
    world = World(limit)
    for kind, count in steps:
        if kind == "write":
            world.write(count)
        elif kind == "announce":
            world.announce()
        elif kind == "take":
            world.take(count, 7, 3.0)
        elif kind == "settle":
            world.settle()
        elif kind == "arrive":
            world.disk.arrive()
        else:
            world.clock.advance(count)
            world.manager.wake(world.clock.now())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        bound = max(limit, PAGE // 2) + PAGE + MAX_LIST + sum(len(marks) for _, marks, _ in world.unsettled)
        assert not limit or world.manager.resident <= bound
        assert min(world.manager.get(QUEUE).sizes(world.clock.now())) >= 0
    await world.finish()
    world.check()


# --- the books alone


def stored(*keys: tuple[float, int], count: int = 10) -> tuple[Residency, list[MessageList]]:
    books, batches = Residency(), []
    for due, number in keys:
        batch = message_list(count, first=number * 100, due=due)
        batch.home.number = number
        books.store(batch)
        batches.append(batch)
    return books, batches


def test_what_is_not_due_stays_on_disk() -> None:
    books, batches = stored((NOW, 1), (NOW + 60, 2))
    assert books.begin_page() < (NOW, 1)
    assert books.take_page(batches, NOW) == batches[:1]
    assert (books.stored, books.stored_due, books.cursor) == (10, NOW + 60, (NOW, 1))
    assert not books.wants_page(NOW)
    assert books.wants_page(NOW + 60)


def test_storing_before_the_cursor_moves_it_back() -> None:
    books, batches = stored((NOW, 5))
    books.begin_page()
    books.take_page(batches, NOW)
    late = message_list(4, first=9000, due=NOW - 1)
    late.home.number = 9
    books.store(late)
    assert books.cursor < (NOW - 1, 9)
    books.begin_page()
    assert books.take_page([late, *batches], NOW) == [late], "a list that is held came back"


def test_what_is_stored_while_a_page_is_read_is_looked_for_again() -> None:
    books, batches = stored((NOW, 5))
    books.begin_page()
    early = message_list(4, first=9000, due=NOW - 1)
    early.home.number = 9
    books.store(early)
    assert books.take_page(batches, NOW) == batches
    assert books.cursor < (NOW - 1, 9)
    assert (books.stored, books.wants_page(NOW)) == (4, True)


def test_a_list_removed_while_a_page_was_read_is_passed_over() -> None:
    books, batches = stored((NOW, 1), (NOW, 2))
    books.begin_page()
    books.take_page(batches[:1], NOW)
    books.cursor = START
    books.begin_page()
    books.release(1)
    assert books.take_page(batches, NOW) == batches[1:]


def test_books_that_promise_what_is_not_there_are_put_right_after_a_second_look() -> None:
    books, batches = stored((NOW, 1), (NOW, 2))
    books.begin_page()
    books.take_page(batches[:1], NOW)
    for _ in range(2):
        assert books.wants_page(NOW)
        books.begin_page()
        assert books.take_page([], NOW) == []
    assert (books.stored, books.wants_page(NOW)) == (0, False)
