"""One queue: what waits for one (binding, domain), active and delayed, in lanes by priority.

               add ──► due? ──yes──► active   lane 10, lane 5, lane 1: first in, first out
                         │              ▲  │
                         no             │  └─ take(n) ──► delivery ──► put_back (front of its lane)
                         ▼              │ promote(now)
                      delayed ──────────┘
                      a heap by (due, number)

What memory does not hold is kept in the books of the lane (`residency`) and swapped in when it is due.
Pure: `now` comes in as epoch seconds.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Sequence

from momentum_push.message import LANES, Message, MessageList, QueueKey
from momentum_push.queues.collapse import Collapse
from momentum_push.queues.residency import Residency

__all__ = ["Lane", "Queue"]


class Lane:
    """The messages of one priority."""

    __slots__ = ("_active", "_delayed", "active", "books", "delayed")

    def __init__(self) -> None:
        self._active: deque[list[Message]] = deque()
        self._delayed: list[tuple[float, int, MessageList]] = []
        self.active = 0
        self.delayed = 0
        self.books = Residency()

    @property
    def resident(self) -> int:
        """Messages in memory that wait here."""
        return self.active + self.delayed

    def add(self, batch: MessageList, now: float) -> None:
        """Take a list into memory; it becomes active when it is due."""
        home, count = batch.home, len(batch.messages)
        if home.due <= now:
            self._activate(batch)
        else:
            heapq.heappush(self._delayed, (home.due, home.number, batch))
            self.delayed += count

    def promote(self, now: float) -> None:
        """Move what has become due from delayed to active."""
        while self._delayed and self._delayed[0][0] <= now:
            batch = heapq.heappop(self._delayed)[2]
            self.delayed -= len(batch.messages)
            self._activate(batch)

    def _activate(self, batch: MessageList) -> None:
        self._active.append(batch.messages)
        self.active += len(batch.messages)

    def take(self, most: int) -> list[Message]:
        """Take up to `most` messages from the front."""
        taken: list[Message] = []
        while self._active and len(taken) < most:
            room = most - len(taken)
            head = self._active[0]
            if len(head) <= room:
                taken += self._active.popleft()
            else:
                taken += head[:room]
                self._active[0] = head[room:]
        self.active -= len(taken)
        return taken

    def put_back(self, messages: list[Message]) -> None:
        """Put messages that were taken to the front again."""
        self._active.appendleft(messages)
        self.active += len(messages)

    def pull_active(self, wanted: Collection[int]) -> list[Message]:
        """Take the messages with these numbers out of what is active, wherever they stand."""
        pulled: list[Message] = []
        for index, messages in enumerate(self._active):
            found = [message for message in messages if message.sequence in wanted]
            if found:
                pulled += found
                self._active[index] = [message for message in messages if message.sequence not in wanted]
        self.active -= len(pulled)
        self._active = deque(filter(None, self._active))
        return pulled

    def pull_delayed(self, number: int) -> MessageList | None:
        """Take a whole list out of what is delayed; None when it is not there."""
        place = next((at for at, entry in enumerate(self._delayed) if entry[1] == number), None)
        if place is None:
            return None
        batch = self._delayed.pop(place)[2]
        heapq.heapify(self._delayed)
        self.delayed -= len(batch.messages)
        return batch

    def drop_delayed(self) -> list[MessageList]:
        """Let every delayed list go from memory and return them."""
        batches = [batch for _, _, batch in self._delayed]
        self._delayed = []
        self.delayed = 0
        return batches

    def next_due(self) -> float | None:
        """Return when the first delayed list is due; None when there is none in memory."""
        return self._delayed[0][0] if self._delayed else None

    def times(self, now: float) -> Sequence[float]:
        """Return when what waits here is due: now, the next delayed list, the next stored one."""
        if not (self.active or self._delayed or self.books.stored > 0):
            return ()
        times = [now] if self.active else []
        if self._delayed:
            times.append(self._delayed[0][0])
        if self.books.stored > 0 and self.books.stored_due > now:
            times.append(self.books.stored_due)
        return times

    def batches(self) -> Iterator[list[Message]]:
        """Yield what is active."""
        yield from self._active

    def heads(self) -> Iterator[Message]:
        """Yield the first active and the first delayed message, for looking at ages."""
        if self._active and self._active[0]:
            yield self._active[0][0]
        if self._delayed:
            yield self._delayed[0][2].messages[0]


class Queue:
    """The queue of one (binding, domain).

    Attributes:
        not_before: epoch seconds before which nothing is taken: an outage or a suspension. It moves
            no message and counts no attempt (interfaces.md 2, "Retry").
        hold_reason: why, in one word for the console; empty when nothing holds.
        receptions: messages that were injected for it since the start.
        collapse: who is the newest, where `collapse_waiting` asks for it; else None.
    """

    __slots__ = ("collapse", "hold_reason", "key", "lanes", "not_before", "receptions")

    def __init__(self, key: QueueKey) -> None:
        self.key = key
        self.lanes = {lane: Lane() for lane in LANES}
        self.not_before = 0.0
        self.hold_reason = ""
        self.receptions = 0
        self.collapse: Collapse | None = None

    def __repr__(self) -> str:
        held = f", held: {self.hold_reason}" if self.hold_reason else ""
        return f"<Queue {self.key.binding}/{self.key.domain} A: {self.active} D: {self.delayed}{held}>"

    @property
    def active(self) -> int:
        """Messages in memory that are due."""
        return sum([lane.active for lane in self.lanes.values()])

    @property
    def delayed(self) -> int:
        """Messages in memory that wait for their next attempt."""
        return sum([lane.delayed for lane in self.lanes.values()])

    @property
    def stored(self) -> int:
        """Messages that only the spool knows."""
        return sum(lane.books.stored for lane in self.lanes.values())

    def sizes(self, now: float) -> tuple[int, int]:
        """Return (active, delayed) as operators count them: what is stored counts by its first due time."""
        due = sum(lane.books.stored for lane in self.lanes.values() if lane.books.stored_due <= now)
        return self.active + due, self.delayed + self.stored - due

    def collapse_waiting(self, is_on: bool) -> None:
        """Begin or cease to collapse; what waits in memory is known from the beginning."""
        if not is_on:
            self.collapse = None
        elif self.collapse is None:
            self.collapse = Collapse()
            for lane in self.lanes.values():
                for messages in lane.batches():
                    self.collapse.meet(messages)

    def hold(self, until: float, reason: str) -> None:
        """Take nothing before `until`."""
        self.not_before, self.hold_reason = until, reason

    def release(self) -> None:
        """End a hold."""
        self.not_before, self.hold_reason = 0.0, ""

    def take(self, most: int, now: float) -> list[Message]:
        """Take up to `most` due messages, lane 10 first; none while the queue is held."""
        if now < self.not_before or most <= 0:
            return []
        taken: list[Message] = []
        self.promote(now)
        for lane in self.lanes.values():
            if lane.active and len(taken) < most:
                taken += lane.take(most - len(taken))
        return taken

    def promote(self, now: float) -> None:
        """Move what has become due from delayed to active."""
        for lane in self.lanes.values():
            if lane._delayed:
                lane.promote(now)

    def put_back(self, messages: Iterable[Message]) -> None:
        """Put messages that were not tried to the front of their lanes, in order."""
        by_lane: dict[int, list[Message]] = {}
        for message in messages:
            by_lane.setdefault(message.home.lane, []).append(message)
        for lane, group in by_lane.items():
            self.lanes[lane].put_back(group)

    def has_due(self, now: float) -> bool:
        """Whether `take` would find something."""
        if now < self.not_before:
            return False
        for lane in self.lanes.values():  # a plain loop, here and below: asked several times a turn
            if lane.active or (lane._delayed and lane._delayed[0][0] <= now):
                return True
        return False

    def wakes_at(self, now: float) -> float | None:
        """Return when, after `now`, something more here becomes due by itself; None: nothing will."""
        soonest: float | None = None
        for lane in self.lanes.values():
            for time in lane.times(now):
                when = max(time, self.not_before)
                if when > now and (soonest is None or when < soonest):
                    soonest = when
        return soonest

    def head(self) -> Message | None:
        """Return a message that would be taken soon; None when memory holds none."""
        return next((head for lane in self.lanes.values() for head in lane.heads()), None)

    def oldest(self) -> float | None:
        """Return since when the oldest message at a head may be sent; None when memory holds none."""
        heads = (head.part.starts_at for lane in self.lanes.values() for head in lane.heads())
        return min(heads, default=None)
