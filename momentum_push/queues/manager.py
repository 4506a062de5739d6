"""All queues of the daemon: who waits where, what is resident, and which queue wants a look when.

    intake, settle ──► add(lists) ──► Queue            on_due(queue) ──► delivery
                          │             ▲                  ▲
                  over the limit        │ swap in          │ wake(now)
                          ▼             │                  │
                        stored ──► spool.page ──────── heap of (time, queue)

The spool holds every list; memory holds those at the front. `max_resident_messages` bounds memory
(momentum.md 6.2): above it a new list is left to the spool, and delayed lists that memory held are
forgotten there. Each lane may always keep one page, so that a full house never stops a small queue.

Due times are wall time, for they outlive the process. Holds do not: when the wall clock jumps they move
with it, so that a pause of a second stays one.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Protocol

import structlog

from momentum_push.clock import Clock
from momentum_push.errors import SpoolError
from momentum_push.message import MAX_LIST, MessageList, QueueKey
from momentum_push.queues.queue import START, Lane, Queue

__all__ = ["PAGE", "QueueManager", "StoredQueue"]

PAGE = 4 * MAX_LIST
"""Messages of one swap-in; a lane that holds fewer than half of it asks for the next."""

_RETRY_PAGE_S = 1.0

_JUMP_S = 1.0
"""A difference between wall and monotonic time that is no drift any more."""

log = structlog.get_logger()


class StoredQueue(Protocol):
    """What the spool's overview says of one lane of one queue."""

    @property
    def queue(self) -> QueueKey: ...
    @property
    def lane(self) -> int: ...
    @property
    def messages(self) -> int: ...
    @property
    def next_due(self) -> float: ...


class Pages(Protocol):
    """The one thing that queues ask of the spool."""

    def page(
        self, queue: QueueKey, lane: int, after: tuple[float, int], limit: int
    ) -> Awaitable[list[MessageList]]: ...


class QueueManager:
    """The queues, by key.

    Args:
        pages: the spool.
        on_due: called with a queue that has something to deliver.
        max_resident: `max_resident_messages`; 0: no limit.
        alarm: called with the time (epoch seconds) at which `wake` should be called, when it changes.
    """

    def __init__(
        self,
        pages: Pages,
        clock: Clock,
        on_due: Callable[[Queue], None],
        max_resident: int = 32768,
        alarm: Callable[[float], None] = lambda when: None,
    ) -> None:
        self._pages = pages
        self._clock = clock
        self._on_due = on_due
        self._max_resident = max_resident
        self._alarm = alarm
        self._queues: dict[QueueKey, Queue] = {}
        self._wakes: list[tuple[float, QueueKey]] = []
        self._next_wake: dict[QueueKey, float] = {}
        self._paging: dict[tuple[QueueKey, int], asyncio.Task[None]] = {}
        self._starved: set[QueueKey] = set()
        self._numbers: set[int] = set()
        self._epoch = clock.now() - clock.monotonic()
        self._is_closed = False
        self.resident = 0
        """Messages in memory, those on their way to Apple included."""

    def __repr__(self) -> str:
        return f"<QueueManager {len(self._queues)} queues, {self.resident} resident>"

    def all(self) -> Sequence[Queue]:
        """Return every queue there is."""
        return list(self._queues.values())

    def get(self, key: QueueKey) -> Queue:
        """Return the queue of `key`, made when it does not exist yet."""
        queue = self._queues.get(key)
        if queue is None:
            queue = self._queues[key] = Queue(key)
        return queue

    def set_max_resident(self, messages: int) -> None:
        """Change `max_resident_messages`; 0 means no limit."""
        self._max_resident = messages

    def recall(self, stored: Iterable[StoredQueue]) -> None:
        """Learn at start what the spool holds; the lists themselves are paged in as there is room."""
        now = self._clock.now()
        for row in stored:
            lane = self.get(row.queue).lanes[row.lane]
            lane.stored, lane.stored_due, lane.cursor = row.messages, row.next_due, START
        for key in self._queues:
            self.wake_at(key, now)

    def add(self, batches: Iterable[MessageList]) -> None:
        """Take lists that the spool has committed."""
        now = self._clock.now()
        touched: dict[QueueKey, Queue] = {}
        for batch in batches:
            queue = touched[batch.home.queue] = self.get(batch.home.queue)
            self._place(queue.lanes[batch.home.lane], batch, now)
        for queue in touched.values():
            self.look(queue)

    def left(self, messages: int, emptied: Iterable[int] = ()) -> None:
        """Note what left memory: delivered, failed, or on its way to a new list.

        Args:
            emptied: numbers of the lists that hold nothing any more.
        """
        self.resident -= messages
        self._numbers.difference_update(emptied)
        if self._starved:
            starved, self._starved = self._starved, set()
            for key in starved:
                self.look(self._queues[key])

    def look(self, queue: Queue) -> None:
        """See what a queue needs: delivery, a page of the spool, or a look at a later time."""
        now = self._clock.now()
        queue.promote(now)
        self.refill(queue)
        if queue.has_due(now):
            self._on_due(queue)
        if (when := queue.wakes_at(now)) is not None:
            self.wake_at(queue.key, when)

    def refill(self, queue: Queue) -> None:
        """Swap in what is stored and due where a lane runs low; delivery asks after it took some."""
        now = self._clock.now()
        for number, lane in queue.lanes.items():
            if lane.stored > 0 and lane.stored_due <= now and lane.active < PAGE // 2:
                self._start_page(queue, number, lane)

    def wake_at(self, key: QueueKey, when: float) -> None:
        """Look at a queue at `when` (epoch seconds), or earlier when asked before."""
        if when < self._next_wake.get(key, float("inf")) and not self._is_closed:
            self._next_wake[key] = when
            heapq.heappush(self._wakes, (when, key))
            if self._wakes[0] == (when, key):
                self._alarm(when)

    def next_wake(self) -> float | None:
        """Return when `wake` has something to do; None: nothing waits."""
        while self._wakes and self._next_wake.get(self._wakes[0][1]) != self._wakes[0][0]:
            heapq.heappop(self._wakes)
        return self._wakes[0][0] if self._wakes else None

    def wake(self, now: float) -> None:
        """Look at every queue whose time has come."""
        self._follow_jump()
        while (when := self.next_wake()) is not None and when <= now:
            key = heapq.heappop(self._wakes)[1]
            del self._next_wake[key]
            self.look(self._queues[key])
        if when is not None:
            self._alarm(when)

    async def close(self) -> None:
        """Ask the spool for nothing more, and set no alarm."""
        self._is_closed = True
        self._wakes.clear()
        tasks = list(self._paging.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _follow_jump(self) -> None:
        """Move holds along with a wall clock that was set, and look at every queue again."""
        epoch = self._clock.now() - self._clock.monotonic()
        jump, self._epoch = epoch - self._epoch, epoch
        if abs(jump) < _JUMP_S:
            return
        log.warning("clock_jumped", seconds=round(jump, 1))
        self._wakes.clear()
        self._next_wake.clear()
        for key, queue in self._queues.items():
            if queue.hold_reason:
                queue.not_before += jump
            self.wake_at(key, self._clock.now())

    def _start_page(self, queue: Queue, number: int, lane: Lane) -> None:
        mark = (queue.key, number)
        if mark in self._paging or self._is_closed:
            return
        if not self._has_room(lane):
            self._starved.add(queue.key)
            return
        self._paging[mark] = asyncio.get_running_loop().create_task(self._swap_in(queue, number))

    async def _swap_in(self, queue: Queue, number: int) -> None:
        lane = queue.lanes[number]
        known = lane.stored
        try:
            batches = await self._pages.page(queue.key, number, lane.cursor, PAGE)
        except SpoolError as error:
            log.error("swap_in_failed", domain=queue.key.domain, binding=queue.key.binding, error=str(error))
            self.wake_at(queue.key, self._clock.now() + _RETRY_PAGE_S)
            return
        finally:
            del self._paging[queue.key, number]
        self._take_page(lane, batches, known)
        self.look(queue)

    def _take_page(self, lane: Lane, batches: list[MessageList], known: int) -> None:
        """Take in what was read; `known` messages were stored when the reading began."""
        now = self._clock.now()
        for batch in batches:
            lane.stored -= len(batch.messages)
            lane.stored_due = max(lane.stored_due, batch.home.due)
            self._hold(lane, batch, now)
        if not batches:  # what was damaged is set aside; what came meanwhile is there for the next page
            lane.stored -= known

    def _place(self, lane: Lane, batch: MessageList, now: float) -> None:
        """Decide where a new list rests.

        1. A page that was read between its commit and this call brought it already: only the
           books are put right, for the page counted it as stored.
        2. It lies where no page will look for it, or it comes before what is stored and there is room.
        3. It comes before what is stored and there is no room: delayed lists make way.
        4. The spool keeps it until its turn comes.
        """
        if batch.home.number in self._numbers:
            lane.stored += len(batch.messages)
            return
        if lane.may_hold(batch) and not self._has_room(lane) and not lane.must_hold(batch):
            self._forget(lane.swap_out_delayed())
        if lane.must_hold(batch) or (lane.may_hold(batch) and self._has_room(lane)):
            self._hold(lane, batch, now)
        else:
            lane.store(batch)

    def _forget(self, batches: list[MessageList]) -> None:
        self.resident -= sum(len(batch.messages) for batch in batches)
        self._numbers.difference_update(batch.home.number for batch in batches)

    def _hold(self, lane: Lane, batch: MessageList, now: float) -> None:
        self.resident += len(batch.messages)
        self._numbers.add(batch.home.number)
        lane.add(batch, now)

    def _has_room(self, lane: Lane) -> bool:
        return not self._max_resident or self.resident < self._max_resident or lane.resident < PAGE // 2
