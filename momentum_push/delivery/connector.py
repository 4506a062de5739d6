"""How a pool comes by its connections: when one may be made, where it goes, what a failed one costs.

    pool.grow ──► ready_at? ──► open(n) ──► look up ──► connect ──┬─► Owner.on_connected
                     │                                            └─► Owner.on_connect_failed
                     └ max_connects_per_minute, outbound_throttle_connections, back-off

The back-off is one for the whole pool and counts failed connects only; of several that were under way
together and fail, one counts, because they failed of one cause. A connection that ends without having
served is a failed connect, too: a peer that lets everybody in and turns everybody away must not be
dialled without a pause. What a failure means for the queue (an outage, or a credential in doubt) is the
pool's to say. Source: apns.md 6.6.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable, Sequence
from typing import Protocol

import structlog

from momentum_push.delivery.apns.connection import Connection, Target
from momentum_push.delivery.apns.failures import STAGE_READING, ConnectFailed
from momentum_push.delivery.plan import backoff
from momentum_push.delivery.resolver import Resolver
from momentum_push.delivery.services import Services
from momentum_push.delivery.settings import Limit, PoolSettings
from momentum_push.errors import ConnectError
from momentum_push.message import Outcome
from momentum_push.queues import Throttle

__all__ = ["Connector", "Owner"]

log = structlog.get_logger()


class Owner(Protocol):
    """What a connector asks of the pool that it works for, and tells it."""

    def addresses(self) -> Iterable[str]:
        """Return where the pool's connections go, one entry each."""

    def on_connected(self, connection: Connection, settings: PoolSettings) -> None:
        """Take a connection that was made by `settings`."""

    def on_connect_failed(self, failure: ConnectFailed, connection: Connection | None, wait: float) -> None:
        """Hear that there is none, and that the next is tried in `wait` seconds."""

    def on_outcomes(self, connection: Connection, outcomes: Sequence[Outcome]) -> None:
        """Take the outcomes of one read."""

    def on_change(self, connection: Connection) -> None:
        """Hear that state or capacity of a connection changed."""

    def wake(self) -> None:
        """See in one of the next turns whether something can be sent."""


class Connector:
    """Opens connections for one pool; see the module's head."""

    def __init__(
        self, owner: Owner, labels: tuple[str, str], settings: PoolSettings, services: Services,
        resolver: Resolver | None = None,
    ) -> None:  # fmt: skip
        self.failures = 0
        """Rounds of connects in a row that failed."""
        self._owner, self._labels, self._settings, self._services = owner, labels, settings, services
        self._resolver = resolver or Resolver(services.look_up, services.clock.monotonic)
        self._connects = self._new_throttle()
        self._tasks: set[asyncio.Task[None]] = set()
        self._aims: list[Target] = []  # of connects under way
        self._not_before = 0.0  # monotonic; the back-off
        self._failing_since = 0.0  # monotonic, the first of the failures in a row
        self._losses = 0  # connections in a row that ended without having served
        self._was_turned_away = False  # the first goodbye of such a row is taken at its word

    def __repr__(self) -> str:
        domain, binding = self._labels
        return f"<Connector {binding}/{domain}, {self.opening} opening, {self.failures} failures>"

    @property
    def opening(self) -> int:
        """Connections that are being made."""
        return len(self._tasks)

    def configure(self, settings: PoolSettings) -> None:
        """Go by new settings from the next connect on."""
        before, self._settings = self._settings, settings
        if settings.max_connects_per_minute != before.max_connects_per_minute:
            self._connects = self._new_throttle()

    def forget(self) -> None:
        """Let go of failures that other settings are to blame for."""
        self.failures, self._losses, self._not_before = 0, 0, 0.0
        self._was_turned_away = False

    def proved(self) -> None:
        """Hear that a connection serves."""
        self._losses, self._was_turned_away = 0, False

    def lost(self, loss: ConnectFailed, connection: Connection, had_served: bool) -> None:
        """Hear that a connection was lost without a goodbye; the next one goes elsewhere, where it can."""
        self._resolver.failed(connection.target, self._settings.avoid_s)
        if had_served and not loss.is_credential:
            return
        self._lose(loss, connection)

    def turned_away(self, why: str, connection: Connection) -> None:
        """Hear that a connection ended by a goodbye, GOAWAY or an answer like `Shutdown`, and never served.

        The next one is made at once (interfaces.md 2, "Retry"), those after it with pauses.
        """
        self._resolver.failed(connection.target, self._settings.avoid_s)
        if self._was_turned_away:
            text = f"{connection.target}: the peer takes no requests ({why}); see whether routes are right"
            self._lose(ConnectFailed(text, stage=STAGE_READING), None)
        self._was_turned_away = True

    @property
    def is_hopeless(self) -> bool:
        """Whether connects have failed so often, or for so long, that the queue is to wait as a whole.

        Momentum waits for 50 failures (momentum.md 6.3): its tries follow each other at once. Ours have
        growing pauses, and 50 of them would be three quarters of an hour; so one is enough by default.
        """
        failures = self.failures + self._losses
        often, long = self._settings.delay_failures, self._settings.delay_s
        seconds = self._services.clock.monotonic() - self._failing_since
        return 0 < often <= failures or (failures > 0 and 0 < long <= seconds)

    def ready_at(self) -> float:
        """Return when the next connect is allowed, monotonic; what has passed is now."""
        monotonic = self._services.clock.monotonic()
        return max(self._not_before, *(bucket.ready_at(monotonic) for bucket in self._buckets(monotonic)))

    def open(self, count: int) -> int:
        """Begin up to `count` connects, as many as the throttles let through; return how many."""
        monotonic = self._services.clock.monotonic()
        if self._not_before > monotonic:
            return 0
        buckets = self._buckets(monotonic)
        if self.failures:
            count = min(count, 1)  # one is enough to see whether the outage is over
        count = min(count, *(bucket.available(monotonic) for bucket in buckets))
        for bucket in buckets:
            bucket.spend(count)
        for _ in range(count):
            task = asyncio.get_running_loop().create_task(self._open(self.failures))
            self._tasks.add(task)
            task.add_done_callback(self._opened)
        return count

    def cancel(self) -> None:
        """Give up what is under way."""
        for task in self._tasks:
            task.cancel()

    async def wait(self) -> None:
        """Wait until nothing is under way; `cancel` first."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # --- inside

    def _new_throttle(self) -> Throttle:
        return Throttle(self._settings.max_connects_per_minute, 60.0, self._services.clock.monotonic())

    def _buckets(self, monotonic: float) -> list[Throttle]:
        shared: Limit | None = self._settings.connect_throttle
        if shared is None:
            return [self._connects]
        throttles = self._services.throttles
        return [self._connects, throttles.get(shared.identity, shared.count, shared.seconds, monotonic)]

    def _used(self) -> list[str]:
        """Return the addresses that have connections, or are about to; asked after the name is looked up."""
        return [*self._owner.addresses(), *(target.address for target in self._aims)]

    async def _open(self, generation: int) -> None:
        settings, owner = self._settings, self._owner
        connection: Connection | None = None
        target: Target | None = None
        try:
            target = await self._aim(settings)
            self._aims.append(target)
            conn_id = self._services.new_conn_id()
            chance = random.random()
            connection = settings.connection(target, conn_id, owner.on_outcomes, owner.on_change, chance)
            await connection.open()
        except ConnectError as error:
            if target is not None:
                self._resolver.failed(target, settings.avoid_s)
            self._failed(error, connection, generation, settings)
            return
        finally:
            if target is not None:
                self._aims.remove(target)
        self._resolver.worked(target)
        self._worked(connection, settings)

    async def _aim(self, settings: PoolSettings) -> Target:
        try:
            async with asyncio.timeout(settings.options.connect_timeout_s):
                return await self._resolver.choose(settings.routes, self._used, random.random())
        except TimeoutError as error:
            hop = settings.routes[0].first_hop
            raise ConnectError(f"{hop}: the name did not resolve in time; check the resolver") from error

    def _opened(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("connect_crashed", domain=self._labels[0], binding=self._labels[1], exc_info=error)
            self._failed(ConnectError(f"internal error: {error!r}"), None, self.failures, self._settings)
        self._owner.wake()

    def _worked(self, connection: Connection, settings: PoolSettings) -> None:
        self._services.meters.connects[*self._labels, "ok"] += 1
        if self.failures and settings.identity == self._settings.identity:
            log.info("outage_over", domain=self._labels[0], binding=self._labels[1], remote=connection.remote)
            self.failures, self._not_before = 0, 0.0
        self._owner.on_connected(connection, settings)

    def _failed(
        self, error: ConnectError, connection: Connection | None, generation: int, settings: PoolSettings
    ) -> None:
        self._services.meters.connects[*self._labels, "failed"] += 1
        if settings.identity != self._settings.identity:
            return  # what it was made by is history
        self.failures = max(self.failures, generation + 1)
        failure = error if isinstance(error, ConnectFailed) else ConnectFailed(str(error), stage=0)
        self._fail(failure, connection)

    def _lose(self, failure: ConnectFailed, connection: Connection | None) -> None:
        if self._not_before <= self._services.clock.monotonic():
            self._losses += 1
        self._fail(failure, connection)

    def _fail(self, failure: ConnectFailed, connection: Connection | None) -> None:
        monotonic = self._services.clock.monotonic()
        if self.failures + self._losses == 1:
            self._failing_since = monotonic
        if self._not_before <= monotonic:
            self._not_before = monotonic + backoff(self.failures + self._losses, random.random())
        wait = self._not_before - monotonic
        log.warning(
            "connect_failed",
            domain=self._labels[0],
            binding=self._labels[1],
            error=str(failure),
            failures=self.failures + self._losses,
            next_try_s=round(wait, 1),
        )
        self._owner.on_connect_failed(failure, connection, wait)
