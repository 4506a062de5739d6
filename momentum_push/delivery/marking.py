"""Marks messages as sent before they are: at most once, over a crash too (`apn_unknown_outcome = "drop"`).

    queue ──► fetch ──► marked before? ──yes──► its outcome is unknown: given up, never sent
      ▲                    │ no
      │                    ▼
      │                 marking ── spool.mark_sent, one commit for what a turn wants ──► ready ──► connections
      │                    │                                                              │             │
      └──── unmarked ◄─────┴─ release: stop, outage, suspension, other settings ──────────┘             │
      └──── unmarked ◄─ unsend: came back, provably not processed ◄─────────────────────────────────────┘

The order is the promise (design.md 1, fact 3): the mark is on disk before a connection gets the message.
So a crash leaves three kinds: not marked (sent after the restart), marked and answered on disk (gone),
marked and nothing more. Of the last ones nobody knows; among them are those that were being marked or
stood ready when the daemon ended, AHEAD at most, and they too are given up: that is what "at most once"
costs. Marking is ahead of the connections by what they ask for and as much again, never more than AHEAD.

An unmark is written without waiting, in the next commit: one writer keeps the order, so a mark that
follows it stands. A message that is in the queue and still has its mark has it from the disk. Where the
option is "retry" the pool takes from the queue itself, and marks on disk mean nothing: what has one is sent
again like everything that was in flight; it counts as no attempt. Where the daemon dies between an
answer's record and its settlement, the message gets a second record: that its outcome is unknown.

Marks are kept until the disk takes them, as settlements are; until then nothing is sent.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any, Protocol

import structlog

from momentum_push.delivery.turns import BUDGET
from momentum_push.errors import SpoolError
from momentum_push.message import Home, Message, QueueKey

__all__ = ["AHEAD", "MarkSink", "Marking", "Source"]

AHEAD = 2 * BUDGET
"""Most messages of one queue that are marked, or being marked, and not handed out."""

RETRY_S = 1.0
"""After marks that the spool refused, which it does when it closes or by a fault of ours."""

log = structlog.get_logger()


class MarkSink(Protocol):
    """What is asked of the spool."""

    def mark_sent(self, homes: Sequence[Home]) -> Coroutine[Any, Any, None]: ...


class Source(Protocol):
    """What connections are filled from: a queue, or marking before it."""

    def take(self, most: int, now: float) -> list[Message]: ...

    def put_back(self, messages: list[Message]) -> None: ...

    def has_due(self, now: float) -> bool: ...

    def head(self) -> Message | None: ...


class Keeper(Source, Protocol):
    """A queue."""

    key: QueueKey
    not_before: float


class Marking:
    """The stage between one queue and its connections.

    Args:
        give_up: called with messages that were marked in an earlier life of the daemon, and the time.
        wake: called when there is more to take than there was.
        come_back: called with the seconds after which to try again.
    """

    def __init__(
        self,
        queue: Keeper,
        spool: MarkSink,
        *,
        give_up: Callable[[list[Message], float], None],
        wake: Callable[[], None],
        come_back: Callable[[float], None],
    ) -> None:
        self._queue = queue
        self._spool = spool
        self._give_up = give_up
        self._wake = wake
        self._come_back = come_back
        self._ready: deque[list[Message]] = deque()
        self._under_way: dict[int, list[Message]] = {}
        self._tickets = itertools.count()
        self._tasks: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        ready = sum(map(len, self._ready))
        return f"<Marking {ready} ready, {len(self) - ready} under way>"

    def __len__(self) -> int:
        """Messages that are here: in memory, and neither in the queue nor sent."""
        return sum(map(len, self._ready)) + sum(map(len, self._under_way.values()))

    # --- what a queue does, too

    def take(self, most: int, now: float) -> list[Message]:
        """Take up to `most` messages whose marks are on disk, and begin to mark others."""
        if now < self._queue.not_before or most <= 0:
            return []
        taken = self._pop(most)
        # as much again as is asked for, but nothing ahead of the one message that probes a credential
        self._fetch(min(AHEAD, 2 * most - 1) - len(taken) - len(self), now)
        return taken

    def put_back(self, messages: list[Message]) -> None:
        """Keep what was taken and found no room; it stays marked and goes first."""
        self._ready.appendleft(messages)

    def has_due(self, now: float) -> bool:
        """Whether `take` would find something, or begin to mark something."""
        if now < self._queue.not_before:
            return False
        return bool(self._ready) or (len(self) < AHEAD and self._queue.has_due(now))

    def head(self) -> Message | None:
        """Return a message that would be taken soon; None when there is none in memory."""
        batches = itertools.chain(self._ready, self._under_way.values())
        return next((batch[0] for batch in batches), None) or self._queue.head()

    # --- the way back

    def unsend(self, messages: list[Message]) -> None:
        """Put what was provably not processed to the front of the queue, without its mark.

        Also where nothing is marked now: marks may be left from before the option was changed.
        """
        homes = _distinct(message.home for message in messages if message.home.sent)
        if homes:
            for message in messages:
                message.home.unmark(message.place)
            self._spawn(self._write(self._spool.mark_sent(homes)))
        self._queue.put_back(messages)

    def release(self) -> None:
        """Put everything that is here back to the queue, without its mark."""
        messages = list(itertools.chain(*self._ready, *self._under_way.values()))
        self._ready.clear()
        self._under_way.clear()
        if messages:
            self.unsend(messages)

    # --- inside

    def _pop(self, most: int) -> list[Message]:
        taken: list[Message] = []
        while self._ready and len(taken) < most:
            batch = self._ready.popleft()
            room = most - len(taken)
            taken += batch[:room]
            if len(batch) > room:
                self._ready.appendleft(batch[room:])
        return taken

    def _fetch(self, count: int, now: float) -> None:
        """Take `count` messages from the queue and mark them; give up those that have a mark."""
        messages = self._queue.take(count, now)
        fresh = [message for message in messages if not message.home.is_marked(message.place)]
        if len(fresh) < len(messages):
            self._give_up([message for message in messages if message.home.is_marked(message.place)], now)
            self._wake()  # none of these will call back, and there may be more behind them
        if fresh:
            self._mark(fresh)

    def _mark(self, messages: list[Message]) -> None:
        for message in messages:
            message.home.mark(message.place)
        ticket = next(self._tickets)
        self._under_way[ticket] = messages
        work = self._spool.mark_sent(_distinct(message.home for message in messages))
        self._spawn(self._commit(ticket, work))

    async def _commit(self, ticket: int, work: Coroutine[Any, Any, None]) -> None:
        """When marks are on disk, have their messages ready, unless they were released meanwhile."""
        try:
            await work
        except SpoolError as error:
            self._say("marks_not_written", error)
            refused = self._under_way.pop(ticket, [])
            for message in refused:
                message.home.unmark(message.place)
            if refused:
                self._queue.put_back(refused)
                self._come_back(RETRY_S)
            return
        batch = self._under_way.pop(ticket, None)
        if batch:
            self._ready.append(batch)
            self._wake()

    async def _write(self, work: Coroutine[Any, Any, None]) -> None:
        """Wait for what nobody waits for; without it these messages are given up after the next start."""
        try:
            await work
        except SpoolError as error:
            self._say("marks_not_taken_back", error)

    def _say(self, event: str, error: SpoolError) -> None:
        log.error(event, domain=self._queue.key.domain, binding=self._queue.key.binding, error=str(error))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _distinct(homes: Iterable[Home]) -> list[Home]:
    return list({id(home): home for home in homes}.values())
