"""The whole way out in one process: spool, queues, pools, real sockets, the simulator, records.

    async with running_rig(folder, faults) as rig:
        await rig.put(200)                     200 messages, committed and queued
        await rig.until_settled()              nothing waits, nothing is in flight, all of it committed
    rig.check()                                the books are even; see there

`folder` may be shared by many rigs: its CA and its key are made once. Times are short, so that a fault
costs a second or two; a failed connect still backs off as in production.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from momentum_push.clock import Clock, SystemClock
from momentum_push.delivery.apns import ConnectionOptions, ProviderKey, TokenCredential
from momentum_push.delivery.manager import Delivery
from momentum_push.delivery.routes import Route
from momentum_push.delivery.settings import PoolSettings
from momentum_push.errors import Problem
from momentum_push.message import Disposition, Kind, MessageList, QueueKey
from momentum_push.meters import Meters
from momentum_push.queues import Queue, QueueManager, RetryPolicy
from momentum_push.simulator import Faults, Simulator
from momentum_push.spool import MemorySpool
from tests.helpers.apns import Key, client_context, running_simulator, until
from tests.helpers.delivery import TABLE, Log
from tests.helpers.lists import QUEUE, message_list, part

__all__ = ["OPTIONS", "Rig", "ShiftedClock", "running_rig"]

OPTIONS = ConnectionOptions(
    connect_timeout_s=1.0, response_timeout_s=0.6, busy_ping_interval_s=0.3, ping_timeout_s=0.3
)
RETRY = RetryPolicy(retry_interval=0.2, max_retry_interval=1.0, max_retries=30, is_auto=False)


class ShiftedClock:
    """The machine's clocks, and some time more: an hour passes when the test says so."""

    def __init__(self) -> None:
        self._clock = SystemClock()
        self.shift = 0.0

    def now(self) -> float:
        return self._clock.now() + self.shift

    def monotonic(self) -> float:
        return self._clock.monotonic() + self.shift


@dataclass
class Reader:
    """Settings of every queue alike; a `SettingsReader` without a file."""

    settings: PoolSettings

    def read(self, key: QueueKey) -> tuple[PoolSettings | None, list[Problem]]:
        return self.settings, []


class Rig:
    """What a daemon has between its doors and Apple."""

    def __init__(
        self, simulator: Simulator, key: Key, context: ssl.SSLContext, clock: Clock, **changes: Any
    ) -> None:
        self.simulator = simulator
        self.clock = clock
        self.log = Log()
        self.meters = Meters()
        self.spool = MemorySpool(clock)
        self.put_count = 0
        self._timer: asyncio.TimerHandle | None = None
        self.queues = QueueManager(self.spool, clock, self._on_due, 0, self._set_alarm)
        fields: dict[str, Any] = {
            "routes": tuple(Route("localhost", port) for port in dict.fromkeys(simulator.ports)),
            "credential": TokenCredential(ProviderKey(key.path.read_bytes(), key.key_id, key.team_id)),
            "context": context,
            "options": OPTIONS,
            "retry": RETRY,
            "clock": clock,
            "default_topic": "com.example.news",
            "max_connections": 3,
            "max_connects_per_minute": 600,
        }
        self.settings = PoolSettings(**(fields | changes))
        self.delivery = Delivery(
            reader=Reader(self.settings),  # type: ignore[arg-type]
            table=TABLE,
            queues=self.queues,
            records=self.log,
            spool=self.spool,
            meters=self.meters,
            clock=clock,
            new_conn_id=lambda: "00/01-00000-00000001",
            **({"look_up": simulator.names.look_up} if simulator.names else {}),
        )

    def __repr__(self) -> str:
        queues = [f"{queue.active} due, {queue.delayed} later" for queue in self.queues.all()]
        return f"<Rig {self.delivery.pools} {queues} {self.log.kinds()} {self.simulator}>"

    async def put(self, count: int, queue: QueueKey = QUEUE, payload: bytes = b"") -> None:
        """Commit and queue `count` new messages."""
        shared = part(received_at=self.clock.now(), expiration=int(self.clock.now()) + 86_400)
        more = {"payload": payload} if payload else {}
        batch = message_list(
            count, first=self.put_count + 1, queue=queue, due=self.clock.now(), shared=shared, **more
        )
        self.put_count += count
        await self.put_list(batch)

    async def put_list(self, batch: MessageList) -> None:
        """Commit and queue a list."""
        await self.spool.append([batch])
        self.queues.add([batch])

    async def until_settled(self, deadline_s: float = 25.0) -> None:
        """Wait until every message has its final record and nothing of any waits."""
        try:
            await until(self._is_settled, deadline_s)
        except AssertionError as error:
            raise AssertionError(f"{error}: {self!r}") from error
        await self.delivery.settler.flush()

    def _is_settled(self) -> bool:
        return len(self.finals()) >= self.put_count and not any(
            pool.unsettled for pool in self.delivery.pools.values()
        )

    async def stop(self) -> None:
        """Stop as a daemon does."""
        await self.delivery.stop(2.0)
        await self.queues.close()
        if self._timer is not None:
            self._timer.cancel()

    # ── what became of it ────────────────────────────────────────────────────────────────────────

    def finals(self) -> list[Disposition]:
        """D and P records, in their order."""
        return [item for item in self.log.written if item.kind in (Kind.DELIVERED, Kind.PERMFAIL)]

    def unknown(self) -> Counter[int]:
        """How often each message's request ended without an answer, by the records."""
        return Counter(
            item.message.sequence for item in self.log.written if item.remote and not item.http_status
        )

    async def check(self) -> None:
        """Hold records, ledger, queue and spool against each other; call it after `stop`.

        One final record each; delivered means accepted by the peer; copies only of what was counted as
        unknown; nothing left anywhere; no connection broke HTTP/2, a limit or the rule of provider tokens.
        """
        finals = Counter(item.message.sequence for item in self.finals())
        assert finals == Counter(range(1, self.put_count + 1)), f"final records: {finals.most_common(3)}"
        self._check_ledger()
        await self._check_emptiness()
        await self._check_peers()

    def _check_ledger(self) -> None:
        accepted, unknown = self.simulator.accepted, self.unknown()
        assert self.meters.unknown_outcomes.total() == unknown.total()
        for item in self.finals():
            times, doubts = accepted[item.message.token], unknown[item.message.sequence]
            if item.kind is Kind.DELIVERED:
                assert 1 <= times <= 1 + doubts, f"delivered, accepted {times} times, {doubts} unknown"
            else:
                assert times <= doubts, f"failed ({item.reason}), accepted {times} times, {doubts} unknown"

    async def _check_emptiness(self) -> None:
        assert await self.spool.overview() == []
        assert self.queues.resident == 0
        for queue in self.queues.all():
            assert (queue.active, queue.delayed) == (0, 0), queue
        assert not self.delivery.settler.is_blocked
        for pool in self.delivery.pools.values():
            assert (pool.in_flight, pool.opening, pool.connections, pool._judge.remembered) == (0, 0, [], 0)

    async def _check_peers(self) -> None:
        for row in self.simulator.connections:
            assert (row.violation, row.limit_breaches) == ("", 0), row
            early = [b - a for a, b in zip(row.token_changes, row.token_changes[1:], strict=False)]
            assert not [seconds for seconds in early if seconds < 1200], row

    # ── inside ───────────────────────────────────────────────────────────────────────────────────

    def _on_due(self, queue: Queue) -> None:
        self.delivery.on_due(queue)

    def _set_alarm(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(max(0.0, when - self.clock.now()), self._ring)

    def _ring(self) -> None:
        self._timer = None
        self.queues.wake(self.clock.now())


@asynccontextmanager
async def running_rig(
    folder: Path,
    key: Key,
    faults: Faults | None = None,
    *,
    listen: str | Sequence[str] = "127.0.0.1:0",
    **changes: Any,
) -> AsyncIterator[Rig]:
    """Run a rig and its simulator; `changes` are fields of its `PoolSettings`."""
    clock = ShiftedClock()
    async with running_simulator(folder, faults, listen=listen, clock=clock) as simulator:
        rig = Rig(simulator, key, client_context(folder), clock, **changes)
        try:
            yield rig
        finally:
            await rig.stop()


def slower(**seconds: float) -> ConnectionOptions:
    """The rig's connection options with other times."""
    return replace(OPTIONS, **seconds)  # type: ignore[arg-type]
