"""The pool of connections of one queue: one credential, one set of routes, never mixed.

    queue ──► pump ──► the roomiest connection ──► Apple
      ▲         │ all full: open another, one at a time
      │         └ turn over: come back in the next turn of the loop
      └── outcomes ── judge ──► settler

Two things hold a whole queue (design.md 4, "Retry" in interfaces.md 2); neither moves a message nor
counts an attempt, and each writes one record when it begins:

    outage        no connection can be made: wait 1 s, doubling to 60 s, shared by the whole pool
    suspension    SUSPECT answers in a row accuse the credential: one probing request after 1 s, then
                  after twice that … until an answer shows that it is believed again

A turn sends at most TURN messages, so that the loop stays free for everybody else.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog

from momentum_push.clock import Clock
from momentum_push.delivery.apns.connection import Connection, ConnectionState
from momentum_push.delivery.plan import backoff, share, wants_connection
from momentum_push.delivery.resolver import Resolver
from momentum_push.delivery.settings import PoolSettings
from momentum_push.delivery.settle import Settler
from momentum_push.delivery.verdict import Judge, Peer, Verdict, expire, outage
from momentum_push.errors import ConnectError
from momentum_push.message import Message, Outcome, Phase
from momentum_push.message.reasons import Action, ReasonTable
from momentum_push.message.rules import effective_topic
from momentum_push.meters import Meters
from momentum_push.queues import Queue, QueueManager, Throttle, Throttles

__all__ = ["Pool", "Services"]

TURN = 300
"""Messages that one turn of the loop sends for one queue."""

SUSPECT = 3
"""Answers in a row that accuse the credential before its binding is suspended."""

OUTAGE = "outage"

log = structlog.get_logger()


@dataclass(slots=True)
class Services:
    """What all pools of a daemon share."""

    settler: Settler
    queues: QueueManager
    table: ReasonTable
    throttles: Throttles
    meters: Meters
    clock: Clock
    new_conn_id: Callable[[], str]


class Pool:
    """The connections of one (binding, domain) and the rules by which they are filled."""

    def __init__(self, queue: Queue, settings: PoolSettings, services: Services) -> None:
        self.queue = queue
        self.settings = settings
        self.connections: list[Connection] = []
        self._services = services
        self._labels = (queue.key.domain, queue.key.binding)
        self._resolver = Resolver()
        self._judge = Judge(services.table, settings.retry, settings.drops_unknown)
        self._connects = Throttle(settings.max_connects_per_minute, 60.0, services.clock.monotonic())
        self._topics: dict[tuple[str, str], str] = {}
        self._is_scheduled = False
        self._is_stopping = False
        self._opening: set[asyncio.Task[None]] = set()
        self._failures = 0
        self._accusations = 0
        self._probes = 0

    def __repr__(self) -> str:
        name = f"{self.queue.key.binding}/{self.queue.key.domain}"
        return f"<Pool {name} C: {len(self.connections)} S: {self.in_flight}>"

    @property
    def in_flight(self) -> int:
        """Requests that wait for their answers."""
        return sum(connection.in_flight for connection in self.connections)

    @property
    def opening(self) -> int:
        """Connections that are being made."""
        return len(self._opening)

    @property
    def is_suspended(self) -> bool:
        """Whether the credential is in doubt."""
        return self._accusations >= SUSPECT

    def wake(self) -> None:
        """See in the next turn of the loop whether something can be sent."""
        if not self._is_scheduled:
            self._is_scheduled = True
            asyncio.get_running_loop().call_soon(self._pump)

    def configure(self, settings: PoolSettings) -> None:
        """Go by new settings; connections that were made by others finish what they have and close."""
        if settings.identity != self.settings.identity:
            for connection in list(self.connections):
                connection.drain("configuration changed")
            self._believe()
            self._failures = 0
            self.queue.release()
        self.settings = settings
        self._judge.configure(settings.retry, settings.drops_unknown)
        self._topics.clear()
        self.wake()

    def retire(self, why: str) -> None:
        """Send nothing more; connections close when their answers are in."""
        self._is_stopping = True
        for connection in list(self.connections):
            connection.drain(why)

    async def stop(self, deadline_s: float) -> None:
        """Send nothing more, wait for answers that are due, then close what is left."""
        self.retire("stopping")
        for task in self._opening:
            task.cancel()
        loop = asyncio.get_running_loop()
        ends = loop.time() + deadline_s
        while self.in_flight and loop.time() < ends:
            await asyncio.sleep(0.01)
        for connection in list(self.connections):
            connection.close("stopping")

    # ── out ──────────────────────────────────────────────────────────────────────────────────────

    def _pump(self) -> None:
        self._is_scheduled = False
        now = self._services.clock.now()
        if self._is_closed_for_now() or not self.queue.has_due(now):
            return
        allowance = self._allowance(now)
        if allowance <= 0:
            return
        sent = self._fill(allowance, now)
        self._services.queues.refill(self.queue)
        if not self.queue.has_due(now):
            self._services.queues.look(self.queue)
        elif sent == allowance:
            self.wake()
        else:
            self._grow(now)

    def _is_closed_for_now(self) -> bool:
        return self._is_stopping or self.settings.is_suspended or self._services.settler.is_blocked

    def _allowance(self, now: float) -> int:
        """Return how many messages may go out in this turn."""
        if self.is_suspended:
            return 1 if self.in_flight == 0 else 0
        throttle = self._throttle()
        if throttle is None:
            return TURN
        monotonic = self._services.clock.monotonic()
        permits = throttle.available(monotonic)
        if not permits:
            self._services.queues.wake_at(self.queue.key, now + throttle.ready_at(monotonic) - monotonic)
        return min(TURN, permits)

    def _throttle(self) -> Throttle | None:
        limit = self.settings.throttle
        if limit is None:
            return None
        monotonic = self._services.clock.monotonic()
        return self._services.throttles.get(limit.identity, limit.count, limit.seconds, monotonic)

    def _fill(self, allowance: int, now: float) -> int:
        """Hand out up to `allowance` messages; return how many went."""
        sent = 0
        for index, count in share(allowance, [connection.capacity for connection in self.connections]):
            messages = self._take(count, now)
            if not messages:
                break
            taken = self.connections[index].send([(message, self._topic(message)) for message in messages])
            if taken < len(messages):
                self.queue.put_back(messages[taken:])
            sent += taken
        throttle = self._throttle()
        if throttle is not None:
            throttle.spend(sent)
        return sent

    def _take(self, count: int, now: float) -> list[Message]:
        """Take up to `count` messages that may be attempted; what may not is recorded and done with."""
        policy = self.settings.retry
        messages = self.queue.take(count, now)
        verdict = Verdict()
        fit: list[Message] = []
        for message in messages:
            part = message.part
            text = policy.forbids(part.received_at, part.expiration, now)
            if text is None:
                fit.append(message)
            else:
                verdict.done.append(message)
                verdict.dispositions.append(expire(message, text, now))
        if verdict.done:
            self._services.settler.settle(self.queue.key, verdict)
        return fit if fit or not messages else self._take(count, now)

    def _topic(self, message: Message) -> str:
        part = message.part
        found = self._topics.get((part.topic, part.push_type))
        if found is None:
            found = effective_topic(part.topic, self.settings.default_topic, part.push_type)
            if len(self._topics) < 1000:
                self._topics[part.topic, part.push_type] = found
        return found

    # ── connections ──────────────────────────────────────────────────────────────────────────────

    def _grow(self, now: float) -> None:
        """Open another connection when all are full, unless something forbids it for now."""
        free = sum(connection.capacity for connection in self.connections)
        total, most = len(self.connections) + len(self._opening), self.settings.max_connections
        if not wants_connection(1, free, total, len(self._opening), most):
            return
        monotonic = self._services.clock.monotonic()
        if not self._connects.available(monotonic):
            ready = now + self._connects.ready_at(monotonic) - monotonic
            self._services.queues.wake_at(self.queue.key, ready)
            return
        self._connects.spend(1)
        task = asyncio.get_running_loop().create_task(self._open())
        self._opening.add(task)
        task.add_done_callback(self._opened)

    async def _open(self) -> None:
        settings = self.settings
        connection: Connection | None = None
        target = None
        try:
            used = {link.remote for link in self.connections}
            async with asyncio.timeout(settings.options.connect_timeout_s):
                target = await self._resolver.choose(settings.routes, used, random.random())
            conn_id = self._services.new_conn_id()
            connection = settings.connection(target, conn_id, self._on_outcomes, self._on_change)
            await connection.open()
        except (ConnectError, TimeoutError) as error:
            if target is not None:
                self._resolver.failed(target)
            why = (
                str(error)
                or f"{settings.routes[0].host}: the name did not resolve in time; check the resolver"
            )
            self._connect_failed(why, connection)
            return
        self._resolver.worked(target)
        self._connected(connection)

    def _opened(self, task: asyncio.Task[None]) -> None:
        self._opening.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("connect_crashed", domain=self._labels[0], binding=self._labels[1], exc_info=error)
            self._connect_failed(f"internal error: {error!r}", None)
        self.wake()

    def _connected(self, connection: Connection) -> None:
        self._services.meters.connects[*self._labels, "ok"] += 1
        self.connections.append(connection)
        if self._failures:
            log.info("outage_over", domain=self._labels[0], binding=self._labels[1], remote=connection.remote)
        self._failures = 0
        if self.queue.hold_reason == OUTAGE:
            self.queue.release()

    def _connect_failed(self, why: str, connection: Connection | None) -> None:
        self._services.meters.connects[*self._labels, "failed"] += 1
        self._failures += 1
        wait = backoff(self._failures, random.random())
        log.warning(
            "connect_failed",
            domain=self._labels[0],
            binding=self._labels[1],
            error=why,
            failures=self._failures,
            next_try_s=round(wait, 1),
        )
        if connection is not None:
            self._read_goodbye(connection)
        if self.connections:
            return
        now = self._services.clock.now()
        head = self.queue.head()
        if self._failures == 1 and head is not None:
            self._services.settler.note(outage(head, why, now))
        self._hold(now + wait, OUTAGE)

    def _hold(self, until: float, reason: str) -> None:
        self.queue.hold(until, reason)
        self._services.queues.wake_at(self.queue.key, until)

    # ── in ───────────────────────────────────────────────────────────────────────────────────────

    def _on_outcomes(self, connection: Connection, outcomes: Sequence[Outcome]) -> None:
        now = self._services.clock.now()
        peer = Peer(connection.remote, connection.conn_id)
        verdict = self._judge.judge(outcomes, peer, now)
        self._measure(outcomes, verdict)
        if verdict.again:
            self.queue.put_back(verdict.again)
        if verdict.retire or verdict.suspensions:
            connection.drain(verdict.retire or "credential in doubt")
        self._weigh(verdict, now)
        self._services.settler.settle(self.queue.key, verdict)
        self.wake()

    def _on_change(self, connection: Connection) -> None:
        if connection.state is ConnectionState.CLOSED and connection in self.connections:
            self.connections.remove(connection)
            self._read_goodbye(connection)
        self.wake()

    def _measure(self, outcomes: Sequence[Outcome], verdict: Verdict) -> None:
        meters = self._services.meters
        seconds = meters.delivery_seconds[self._labels]
        for outcome in outcomes:
            if outcome.phase is Phase.ANSWERED:
                seconds.observe(outcome.seconds)
        if verdict.unknown:
            meters.unknown_outcomes[self._labels] += verdict.unknown
        if verdict.again:
            meters.resends[self._labels] += len(verdict.again)

    def _read_goodbye(self, connection: Connection) -> None:
        """Count a GOAWAY; one that names a fault of the credential accuses it (apns.md 6.4)."""
        reason = connection.goaway_reason
        if not reason:
            return
        row = self._services.table.by_word(reason)
        word = reason if row is not None else "other"
        self._services.meters.goaways[*self._labels, word] += 1
        if row is not None and row.action is Action.SUSPEND:
            self._accuse(SUSPECT, reason, self._services.clock.now())

    # ── trust ────────────────────────────────────────────────────────────────────────────────────

    def _weigh(self, verdict: Verdict, now: float) -> None:
        if verdict.believed:
            self._believe()
        elif verdict.suspensions and verdict.accusation is not None:
            was_suspended = self.is_suspended
            self._accuse(verdict.suspensions, verdict.accusation.reason, now)
            if self.is_suspended and not was_suspended:
                self._services.settler.note(verdict.accusation)

    def _believe(self) -> None:
        if self.is_suspended:
            log.info("suspension_lifted", domain=self._labels[0], binding=self._labels[1])
            self.queue.release()
        self._accusations = self._probes = 0

    def _accuse(self, count: int, reason: str, now: float) -> None:
        was_suspended = self.is_suspended
        self._accusations += count
        if not self.is_suspended or now < self.queue.not_before:
            return
        self._probes += 1
        wait = backoff(self._probes, 1.0)
        self._hold(now + wait, reason)
        report = log.info if was_suspended else log.error
        report(
            "binding_suspended",
            domain=self._labels[0],
            binding=self._labels[1],
            reason=reason,
            credential=self.settings.credential.identity,
            fix=_FIXES.get(reason, _FIX),
            next_probe_s=wait,
        )


_FIX = "check apn_auth_key, apn_key_id and apn_team_id, or tls_certificate and tls_key, of this domain"

_FIXES = {
    "BadCertificate": "renew tls_certificate; Apple no longer accepts it",
    "BadCertificateEnvironment": "tls_certificate is for the other environment; change it or routes",
    "BadEnvironmentKeyIdInToken": "apn_auth_key is for the other environment; change it or routes",
    "BadEnvironmentKeyInToken": "apn_auth_key is for the other environment; change it or routes",
    "InvalidProviderToken": "check apn_auth_key, apn_key_id, apn_team_id and this machine's clock",
    "MissingProviderToken": "set apn_auth_key, apn_key_id and apn_team_id, or tls_certificate and tls_key",
    "TopicDisallowed": "apn_topic is not covered by this credential; correct it, or use another credential",
    "UnrelatedKeyIdInToken": "apn_key_id belongs to another key family than this connection's first one",
}
"""What an operator can do about each accusation."""
