"""Takes messages back that still wait: by message id, or all with a collapse id (`DELETE /v1/notifications`).

    wish ──► spool: find, or page through the queues of the domain
                │ the lists that hold what is meant, as they are on disk
                ▼
             queues.withdraw ──► in memory: out of its lane        ┐
                │                only on disk: list on loan        ├─► P record ─► removal on disk ─► answer
                └──────────────► on its way to Apple: busy         ┘                    └─► loan back

Memory cannot know what is only on disk, so the disk is asked first and the queues say what of it may still
be had. One wish is served after the other: a list that is on loan is in nobody else's hands. A wish by
collapse id reads all lists of the domain's queues in the reader's thread, a page at a time: some 3 s for a
million messages, and wishes behind it wait so long. What is accepted while it reads may be missed; what was
acknowledged before is not.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Protocol

from momentum_push.clock import Clock
from momentum_push.delivery.records import CANCELLED, expire
from momentum_push.delivery.settle import Settler
from momentum_push.delivery.verdict import Verdict
from momentum_push.errors import SpoolError
from momentum_push.message import LANES, Cancel, Cancelled, Message, MessageList, QueueKey
from momentum_push.queues import PAGE, QueueManager

__all__ = ["Canceller", "Shelf"]

DEADLINE_S = 30.0
"""How long a wish may take; after that it is still served, but its sender is told to ask again."""

MAX_WAITING = 1000
"""Wishes that wait for their turn."""

_START = (float("-inf"), 0)


class Shelf(Protocol):
    """What is asked of the spool."""

    async def page(
        self, queue: QueueKey, lane: int, after: tuple[float, int], limit: int
    ) -> list[MessageList]: ...

    async def find(self, sequence: int) -> Message | None: ...


class Canceller:
    """Serves wishes; one per daemon.

    Args:
        forget: hears of messages that end without an outcome.
    """

    def __init__(
        self,
        queues: QueueManager,
        spool: Shelf,
        settler: Settler,
        clock: Clock,
        forget: Callable[[QueueKey, list[Message]], None],
    ) -> None:
        self._queues, self._spool, self._settler, self._clock = queues, spool, settler, clock
        self._forget = forget
        self._lock = asyncio.Lock()
        self._tasks: set[asyncio.Task[Cancelled]] = set()

    def __repr__(self) -> str:
        return f"<Canceller {len(self._tasks)} wishes>"

    async def cancel(self, wish: Cancel, is_allowed: Callable[[str], bool]) -> Cancelled:
        """Serve a wish; returns when the removal is on disk.

        Args:
            is_allowed: whether whoever asks may inject to a domain; what is in others is not found.

        Raises:
            SpoolError: it cannot be said whether it is; ask again.
        """
        if self._settler.is_blocked or len(self._tasks) >= MAX_WAITING:
            raise SpoolError("cancel: records cannot be written, or too many wait; try again later")
        task = asyncio.get_running_loop().create_task(self._serve(wish, is_allowed))
        self._tasks.add(task)
        task.add_done_callback(self._done)
        await asyncio.wait([task], timeout=DEADLINE_S)  # who goes away does not take the removal with him
        if not task.done():
            raise SpoolError("cancel: the disk did not answer in time; try again later")
        return task.result()

    def stop(self) -> None:
        """Serve nothing more; what has its record is removed, or cancelled again after the next start."""
        for task in self._tasks:
            task.cancel()

    def _done(self, task: asyncio.Task[Cancelled]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # told by `cancel`, where somebody still listens

    async def _serve(self, wish: Cancel, is_allowed: Callable[[str], bool]) -> Cancelled:
        removed = busy = 0
        async with self._lock:
            try:
                async for page in self._pages(wish, is_allowed):
                    got, missed = await self._withdraw(page, wish)
                    removed, busy = removed + got, busy + missed
            finally:
                self._queues.unwatch()
        return Cancelled(removed, busy)

    async def _pages(
        self, wish: Cancel, is_allowed: Callable[[str], bool]
    ) -> AsyncIterator[list[MessageList]]:
        """Yield the lists in which there may be something, those of one queue and lane together."""
        if wish.sequence:
            found = await self._spool.find(wish.sequence)
            if found is not None and is_allowed(found.home.queue.domain):
                home = found.home
                page = await self._page(home.queue, home.lane, (home.due, home.number - 1), 1)
                yield [batch for batch in page if batch.home.number == home.number]
            return
        domain = wish.domain.lower()
        for queue in self._queues.all() if is_allowed(domain) else ():
            for lane in LANES if queue.key.domain == domain else ():
                after = _START
                while page := await self._page(queue.key, lane, after, PAGE):
                    yield page
                    after = (page[-1].home.due, page[-1].home.number)

    async def _page(
        self, queue: QueueKey, lane: int, after: tuple[float, int], limit: int
    ) -> list[MessageList]:
        self._queues.watch()
        return await self._spool.page(queue, lane, after, limit)

    async def _withdraw(self, page: list[MessageList], wish: Cancel) -> tuple[int, int]:
        """Take what is meant out of the lists of one page; return how many were had, and how many not."""
        messages: list[Message] = []
        loans: list[MessageList] = []
        count = 0
        for batch in page:
            wanted = {message.sequence for message in batch.messages if _is_meant(message, wish)}
            wanted -= {message.sequence for message in batch.messages if batch.home.is_marked(message.place)}
            count += sum(_is_meant(message, wish) for message in batch.messages)
            if wanted:
                taken = self._queues.withdraw(batch, wanted)
                messages += taken.messages
                loans += [taken.loan] if taken.loan is not None else []
        if messages:
            await self._settle(messages)
        for loan in loans:
            self._queues.give_back(loan)
        return len(messages), count - len(messages)

    async def _settle(self, messages: list[Message]) -> None:
        key, now = messages[0].home.queue, self._clock.now()
        self._forget(key, messages)
        settled = asyncio.Event()
        dispositions = [expire(message, CANCELLED, now) for message in messages]
        self._settler.settle(key, Verdict(dispositions, done=messages, on_disk=settled.set))
        await settled.wait()


def _is_meant(message: Message, wish: Cancel) -> bool:
    if wish.sequence:
        return message.sequence == wish.sequence
    return message.part.collapse_id == wish.collapse_id and wish.token in ("", message.token)
