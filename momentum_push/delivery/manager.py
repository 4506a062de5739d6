"""All pools of a daemon: one per queue that has something to send."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

import structlog

from momentum_push.clock import Clock
from momentum_push.delivery.marking import MarkSink
from momentum_push.delivery.pool import Pool
from momentum_push.delivery.resolver import LookUp, look_up
from momentum_push.delivery.services import Services
from momentum_push.delivery.settings import SettingsReader
from momentum_push.delivery.settle import RecordSink, Settler, SettleSink
from momentum_push.delivery.turns import Turns
from momentum_push.delivery.withdraw import Canceller, Shelf
from momentum_push.message import Cancel, Cancelled, Message, QueueKey
from momentum_push.message.reasons import ReasonTable
from momentum_push.meters import Meters
from momentum_push.queues import Queue, QueueManager, Throttles

__all__ = ["Delivery"]

UNUSABLE_HOLD_S = 60.0
"""How long a queue waits whose domain has no usable configuration, before that is looked at again."""

LAST_COMMIT_S = 5.0
"""What the disk gets at least for the last settlements."""

UNUSABLE = "no usable configuration"
"""Why a queue is held whose domain was removed, or whose credential cannot be read."""

log = structlog.get_logger()


class SpoolSink(SettleSink, MarkSink, Shelf, Protocol):
    """What delivery asks of the spool."""


class Delivery:
    """Makes a pool when a queue first has something due, and keeps it until the end."""

    def __init__(
        self,
        *,
        reader: SettingsReader,
        table: ReasonTable,
        queues: QueueManager,
        records: RecordSink,
        spool: SpoolSink,
        meters: Meters,
        clock: Clock,
        new_conn_id: Callable[[], str],
        look_up: LookUp = look_up,
        is_hurried: Callable[[], bool] = lambda: False,
    ) -> None:
        """Begin without pools.

        Args:
            is_hurried: whether somebody at the doors waits for an answer; then turns are short.
        """
        self.pools: dict[QueueKey, Pool] = {}
        self.settler = Settler(
            records=records,
            spool=spool,
            queues=queues,
            meters=meters,
            clock=clock,
            on_unblocked=self.wake,
        )
        self._reader = reader
        self._shared = Services(
            self.settler, spool, queues, table, Throttles(), meters, clock, new_conn_id,
            look_up=look_up, turns=Turns(is_hurried),
        )  # fmt: skip
        self._canceller = Canceller(queues, spool, self.settler, clock, self._forget)
        self._retired: list[Pool] = []
        self._is_stopping = False

    def __repr__(self) -> str:
        return f"<Delivery {len(self.pools)} pools>"

    def on_due(self, queue: Queue) -> None:
        """See to a queue that has something to deliver."""
        if self._is_stopping:
            return
        pool = self.pools.get(queue.key) or self._make(queue)
        if pool is not None:
            pool.wake()

    def wake(self) -> None:
        """See to every queue: something that held all of them is over."""
        for pool in self.pools.values():
            pool.wake()

    async def cancel(self, wish: Cancel, is_allowed: Callable[[str], bool]) -> Cancelled:
        """Take back what still waits; see `Canceller.cancel`."""
        return await self._canceller.cancel(wish, is_allowed)

    def _forget(self, key: QueueKey, messages: list[Message]) -> None:
        if (pool := self.pools.get(key)) is not None:
            pool.forget(messages)

    def look_at_certificates(self) -> None:
        """Say which certificates in use expire soon, or have; a daemon may run for longer than they do."""
        for problem in self._reader.date_problems(self._shared.clock.now()):
            report = log.warning if problem.is_warning else log.error
            report("certificate_expires", problem=str(problem), then="reload")

    def configure(self, reader: SettingsReader, table: ReasonTable) -> None:
        """Go by a new configuration."""
        self._reader = reader
        self._shared.table = table
        self._retired = [pool for pool in self._retired if not pool.is_idle]
        for key, pool in list(self.pools.items()):
            settings, _ = reader.read(key)
            if settings is not None:
                pool.configure(settings)
            else:
                pool.retire("domain is no longer configured")
                self._retired.append(self.pools.pop(key))
        for queue in self._shared.queues.all():
            if queue.hold_reason == UNUSABLE:
                queue.release()
            self._shared.queues.look(queue)

    async def stop(self, deadline_s: float) -> None:
        """Send nothing more; wait for answers that are due, then until their settlement is on disk.

        Both within one deadline; but the disk has LAST_COMMIT_S, also where the answers took all of it.
        """
        self._is_stopping = True
        loop = asyncio.get_running_loop()
        ends = loop.time() + deadline_s
        await asyncio.gather(*(pool.stop(deadline_s) for pool in [*self.pools.values(), *self._retired]))
        self._canceller.stop()
        await self.settler.flush(max(ends - loop.time(), LAST_COMMIT_S))

    def _make(self, queue: Queue) -> Pool | None:
        settings, problems = self._reader.read(queue.key)
        if settings is None:
            now = self._shared.clock.now()
            queue.hold(now + UNUSABLE_HOLD_S, UNUSABLE)
            self._shared.queues.wake_at(queue.key, now + UNUSABLE_HOLD_S)
            log.error(
                "queue_held",
                domain=queue.key.domain,
                binding=queue.key.binding,
                problems=[str(problem) for problem in problems if not problem.is_warning],
            )
            return None
        pool = self.pools[queue.key] = Pool(queue, settings, self._shared)
        return pool
