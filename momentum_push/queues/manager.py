"""All queues of the daemon: who waits where, what is resident, and which queue wants a look when.

    intake, settle ──► add(lists) ──► Queue            on_due(queue) ──► delivery
      expect before       │             ▲                  ▲
                  over the limit        │ swap in          │ wake(now)
                          ▼             │                  │
                        stored ──► spool.page ──────── heap of (time, queue)

The spool holds every list; memory holds those at the front. `max_resident_messages` and
`max_resident_bytes` bound memory (momentum.md 6.2): above them a new list is left to the spool, and
delayed lists that memory held are forgotten there. What was scheduled for later stays there until it
is due, whatever room there is. A lane with nothing to send may always take a list,
so that a full house never stops a small queue.

Due times are wall time, for they outlive the process. Holds do not: when the wall clock jumps they move
with it, so that a pause of a second stays one.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from typing import NamedTuple, Protocol

import structlog

from momentum_push.clock import Clock
from momentum_push.errors import SpoolError
from momentum_push.message import MAX_LIST, Home, Message, MessageList, QueueKey
from momentum_push.queues.queue import Lane, Queue
from momentum_push.queues.residency import Residency

__all__ = ["PAGE", "QueueManager", "StoredQueue", "Withdrawn"]

PAGE = 4 * MAX_LIST
"""Messages of one swap-in; a lane that holds fewer than half of it asks for the next."""

_RETRY_PAGE_S = 1.0

_JUMP_S = 1.0
"""A difference between wall and monotonic time that is no drift any more."""

log = structlog.get_logger()


class Withdrawn(NamedTuple):
    """What `withdraw` took out of a queue."""

    messages: list[Message]
    loan: MessageList | None = None
    """The rest of their list, which nobody else may have meanwhile; to be given back when the removal of
    `messages` is on disk: a page read before that would bring them again."""


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
        max_bytes: `max_resident_bytes`; 0: no limit.
        alarm: called with the time (epoch seconds) at which `wake` should be called, when it changes.
    """

    def __init__(
        self,
        pages: Pages,
        clock: Clock,
        on_due: Callable[[Queue], None],
        max_resident: int = 32768,
        alarm: Callable[[float], None] = lambda when: None,
        max_bytes: int = 0,
    ) -> None:
        self._pages = pages
        self._clock = clock
        self._on_due = on_due
        self._max_resident, self._max_bytes = max_resident, max_bytes
        self._alarm = alarm
        self._queues: dict[QueueKey, Queue] = {}
        self._wakes: list[tuple[float, QueueKey]] = []
        self._next_wake: dict[QueueKey, float] = {}
        self._paging: set[asyncio.Task[None]] = set()
        self._starved: set[QueueKey] = set()
        self._epoch = clock.now() - clock.monotonic()
        self._is_closed = False
        self._gone: set[int] | None = None
        self.resident = 0
        """Messages in memory, those on their way to Apple included."""
        self.resident_bytes = 0
        """What they take, about."""

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

    def set_max_resident(self, messages: int, max_bytes: int = 0) -> None:
        """Change `max_resident_messages` and `max_resident_bytes`; 0 means no limit."""
        self._max_resident, self._max_bytes = messages, max_bytes

    def recall(self, stored: Iterable[StoredQueue]) -> None:
        """Learn at start what the spool holds; the lists themselves are paged in as there is room."""
        now = self._clock.now()
        for row in stored:
            lane = self.get(row.queue).lanes[row.lane]
            lane.books.recall(row.messages, row.next_due)
        for key in self._queues:
            self.wake_at(key, now)

    def expect(self, batches: Iterable[MessageList]) -> None:
        """Note lists that are being written; whoever does that calls `add` or `drop` with them."""
        for batch in batches:
            self._books(batch.home).expect(batch.home.number)

    def drop(self, batches: Iterable[MessageList]) -> None:
        """Forget lists that were expected and could not be written."""
        for batch in batches:
            self._books(batch.home).drop(batch.home.number)

    def add(self, batches: Iterable[MessageList], are_new: bool = True) -> None:
        """Take lists that the spool has committed; those that are not new count as no reception."""
        now = self._clock.now()
        touched: dict[QueueKey, Queue] = {}
        for batch in batches:
            queue = touched[batch.home.queue] = self.get(batch.home.queue)
            if are_new and not batch.home.attempts:
                queue.receptions += len(batch.messages)
            if queue.collapse is not None and batch.home.due <= now:
                (queue.collapse.note if are_new else queue.collapse.meet)(batch.messages)
            self._place(queue.lanes[batch.home.lane], batch, now)
        for queue in touched.values():
            self.look(queue)

    def left(self, messages: int, weight: int = 0) -> None:
        """Note what left memory: delivered, failed, or on its way to a new list; `weight` is its bytes."""
        self.resident -= messages
        self.resident_bytes -= weight
        if self._starved:
            starved, self._starved = self._starved, set()
            for key in starved:
                self.look(self._queues[key])

    def off_disk(self, homes: Iterable[Home]) -> None:
        """Note lists whose removal the spool has committed."""
        for home in homes:
            self._books(home).release(home.number)
            if self._gone is not None:
                self._gone.add(home.number)

    def watch(self) -> None:
        """Note from now on, until `unwatch`, which lists go off the disk; begins anew when it was on."""
        self._gone = set()

    def unwatch(self) -> None:
        """Stop noting what goes off the disk."""
        self._gone = None

    def withdraw(self, batch: MessageList, wanted: Collection[int]) -> Withdrawn:
        """Take messages out of a queue, wherever their list is, so that nobody will send them.

        Args:
            batch: the list as the spool read it since `watch`.
            wanted: sequence numbers; those of them that are not in the answer are on their way.
        """
        home = batch.home
        lane = self.get(home.queue).lanes[home.lane]
        if lane.books.expects(home.number):
            return Withdrawn([])
        if lane.books.holds(home.number):
            loan = lane.pull_delayed(home.number)
            if loan is None:
                return Withdrawn(lane.pull_active(wanted))
            return Withdrawn(_split(loan, wanted), loan)
        if self._gone is not None and home.number in self._gone:
            return Withdrawn([])
        lane.books.lend(batch)
        self.resident += len(batch.messages)
        self.resident_bytes += len(batch.messages) * batch.weigh()
        return Withdrawn(_split(batch, wanted), batch)

    def give_back(self, loan: MessageList) -> None:
        """Take the rest of a list that `withdraw` lent; the removal of what was withdrawn is on disk."""
        if not loan.messages:
            return
        queue = self.get(loan.home.queue)
        self.resident -= len(loan.messages)
        self.resident_bytes -= len(loan.messages) * loan.home.weight
        lane = queue.lanes[loan.home.lane]
        lane.books.outdate(loan.home.number)
        self._place(lane, loan, self._clock.now())
        self.look(queue)

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
            if lane.books.wants_page(now) and lane.active < PAGE // 2:
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
        tasks = list(self._paging)
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
        if self._is_closed:
            return
        if not self._has_room(lane):
            self._starved.add(queue.key)
            return
        size = MAX_LIST if self._is_full() else PAGE
        cursor = lane.books.begin_page()
        task = asyncio.get_running_loop().create_task(self._swap_in(queue, number, cursor, size))
        self._paging.add(task)
        task.add_done_callback(self._paging.discard)

    async def _swap_in(self, queue: Queue, number: int, cursor: tuple[float, int], size: int) -> None:
        lane = queue.lanes[number]
        try:
            batches = await self._pages.page(queue.key, number, cursor, size)
        except SpoolError as error:
            lane.books.abandon_page()
            log.error("swap_in_failed", domain=queue.key.domain, binding=queue.key.binding, error=str(error))
            self.wake_at(queue.key, self._clock.now() + _RETRY_PAGE_S)
            return
        now = self._clock.now()
        for batch in lane.books.take_page(batches, now):
            self._hold(lane, batch, now)
            if queue.collapse is not None:
                queue.collapse.meet(batch.messages)
        self.look(queue)

    def _place(self, lane: Lane, batch: MessageList, now: float) -> None:
        """Decide where a new list rests: in memory when its turn is next and there is room, else on disk.

        Where there is none, delayed lists make way: they wait anyhow.
        """
        if batch.messages[0].part.deliver_at > now:  # of one list all or none are scheduled
            lane.books.store(batch)
            return
        if lane.books.comes_first(batch) and not self._has_room(lane):
            for delayed in lane.drop_delayed():
                self.resident -= len(delayed.messages)
                self.resident_bytes -= len(delayed.messages) * delayed.home.weight
                lane.books.store(delayed)
        if lane.books.comes_first(batch) and self._has_room(lane):
            self._hold(lane, batch, now)
        else:
            lane.books.store(batch)

    def _hold(self, lane: Lane, batch: MessageList, now: float) -> None:
        self.resident += len(batch.messages)
        self.resident_bytes += len(batch.messages) * batch.weigh()
        lane.books.hold(batch.home.number)
        lane.add(batch, now)

    def _books(self, home: Home) -> Residency:
        return self.get(home.queue).lanes[home.lane].books

    def _has_room(self, lane: Lane) -> bool:
        return not self._is_full() or not lane.active

    def _is_full(self) -> bool:
        if self._max_resident and self.resident >= self._max_resident:
            return True
        return bool(self._max_bytes) and self.resident_bytes >= self._max_bytes


def _split(batch: MessageList, wanted: Collection[int]) -> list[Message]:
    """Take the messages with these numbers out of a list and return them."""
    taken = [message for message in batch.messages if message.sequence in wanted]
    batch.messages = [message for message in batch.messages if message.sequence not in wanted]
    return taken
