"""The pool of connections of one queue: one credential, one set of routes, never mixed.

    queue ──► pump ──► the first connection with room for all ──► Apple   (under "drop" by way of `marking`)
      ▲         │ all full: open as many as what waits needs (`sizing`)
      │         └ turn over: come back in the next turn of the loop
      └── outcomes ── judge ──► settler

Two things hold a whole queue (design.md 4, "Retry" in interfaces.md 2); neither moves a message nor
counts an attempt, and each writes one record when it begins:

    outage        no connection can be made: wait 1 s, doubling to 60 s, shared by the whole pool
    suspension    answers accuse the credential (`trust`), or call too many tokens dead (`breaker`): one
                  probing request after 1 s, then after twice that … until an answer shows that it is
                  believed again, or accepts a notification

Where some connections serve and another cannot be made, only the next connect waits. A connection that
was made by other settings finishes what it has; what it says of its credential no longer counts.
A turn sends at most TURN messages, so that the loop stays free for everybody else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

import structlog

from momentum_push.delivery.apns.connection import Connection, ConnectionState
from momentum_push.delivery.apns.failures import STAGE_READING, ConnectFailed
from momentum_push.delivery.connector import Connector
from momentum_push.delivery.fleet import Fleet, Limited
from momentum_push.delivery.marking import Marking, Source
from momentum_push.delivery.plan import share
from momentum_push.delivery.records import BLACKHOLED, Peer, accuse, expire, forsake, outage
from momentum_push.delivery.resolver import Resolver
from momentum_push.delivery.services import Services
from momentum_push.delivery.settings import Limit, PoolSettings
from momentum_push.delivery.sizing import STUCK_S, to_open
from momentum_push.delivery.trust import SUSPECT, Trust, fix_for
from momentum_push.delivery.turns import BUDGET
from momentum_push.delivery.verdict import Judge, Verdict
from momentum_push.message import Disposition, Message, Outcome, Phase
from momentum_push.message.reasons import Action
from momentum_push.message.rules import effective_topic
from momentum_push.queues import Queue, Throttle

__all__ = ["Pool"]

TURN = BUDGET
"""Messages that one turn of the loop sends for one queue, when no other queue is busy."""

OUTAGE = "outage"

SHORTEST_WAIT_S = 0.001

log = structlog.get_logger()


class Pool:
    """The connections of one (binding, domain) and the rules by which they are filled."""

    def __init__(
        self, queue: Queue, settings: PoolSettings, services: Services, resolver: Resolver | None = None
    ) -> None:
        self.queue = queue
        self.settings = settings
        self._fleet = Fleet()
        self.connections = self._fleet.connections
        self._services = services
        self._labels = (queue.key.domain, queue.key.binding)
        self._judge = Judge(services.table, settings.retry, settings.drops_unknown, settings.dead_token_limit)
        self._connector = Connector(self, self._labels, settings, services, resolver)
        self._marking = Marking(
            queue, services.spool, give_up=self._give_up, wake=self.wake, come_back=self._come_back_in
        )
        self._source: Source = self._marking if settings.drops_unknown else queue
        self._topics: dict[tuple[str, str], str] = {}
        self._stuck_since: float | None = None  # monotonic
        self._is_stopping = False
        self._foreign: set[Connection] = set()
        self._trust = Trust()

    def __repr__(self) -> str:
        name = f"{self.queue.key.binding}/{self.queue.key.domain}"
        return f"<Pool {name} C: {len(self.connections)} S: {self.in_flight}>"

    @property
    def in_flight(self) -> int:
        """Requests that wait for their answers."""
        return sum(connection.in_flight for connection in self.connections)

    @property
    def unsettled(self) -> int:
        """Messages in memory that are not in the queue: marked, sent, or answered and not yet recorded."""
        return len(self._marking) + self.in_flight + self._services.settler.unrecorded(self.queue.key)

    @property
    def opening(self) -> int:
        """Connections that are being made."""
        return self._connector.opening

    @property
    def limited(self) -> Limited | None:
        """What it would take to send faster, where `max_outbound_connections` is in the way; else None."""
        return self._fleet.limited(self._services.clock.monotonic())

    @property
    def is_suspended(self) -> bool:
        """Whether the credential is in doubt."""
        return self._trust.is_suspended

    @property
    def _waiting(self) -> int:
        """Messages in memory that are due."""
        return self.queue.active + len(self._marking)

    @property
    def is_idle(self) -> bool:
        """Whether nothing is open, and nothing being opened."""
        return not self.connections and not self.opening

    def wake(self) -> None:
        """See in one of the next turns of the loop whether something can be sent."""
        self._services.turns.ask(self)

    def configure(self, settings: PoolSettings) -> None:
        """Go by new settings; connections that were made by others finish what they have and close."""
        before, self.settings = self.settings, settings
        if settings.identity != before.identity:
            self._start_over()
        elif settings.dead_token_limit != before.dead_token_limit:
            self._believe()
        self._connector.configure(settings)
        self._marking.release()
        self._source = self._marking if settings.drops_unknown else self.queue
        for connection in self.connections[settings.max_connections :]:
            connection.drain("max_outbound_connections was lowered")
        self._judge.configure(
            self._services.table, settings.retry, settings.drops_unknown, settings.dead_token_limit
        )
        self._topics.clear()
        self.wake()

    def _start_over(self) -> None:
        """Let go of everything that was learned by other settings."""
        self._foreign.update(self.connections)
        for connection in list(self.connections):
            connection.drain("configuration changed")
        self._believe()
        self._connector.cancel()  # or a route or proxy that hangs would hold up, and fail, its successor
        self._judge.start_over()
        self._connector.forget()
        self.queue.release()

    def retire(self, why: str) -> None:
        """Send nothing more; connections close when their answers are in."""
        self._is_stopping = True
        self._marking.release()
        self._connector.cancel()
        for connection in list(self.connections):
            connection.drain(why)

    async def stop(self, deadline_s: float) -> None:
        """Send nothing more, wait for answers that are due, then close what is left."""
        self.retire("stopping")
        await self._connector.wait()
        loop = asyncio.get_running_loop()
        ends = loop.time() + deadline_s
        while self.in_flight and loop.time() < ends:
            await asyncio.sleep(0.01)
        for connection in list(self.connections):
            connection.close("stopping")

    # ── out ──────────────────────────────────────────────────────────────────────────────────────

    def pump(self) -> int:
        """Send what may be sent now, a turn's worth at most; return how many messages that were."""
        now = self._services.clock.now()
        if self._is_closed_for_now() or not self._source.has_due(now):
            return 0
        if self.settings.is_blackholed:
            return self._discard(now)
        allowance = self._allowance(now)
        if allowance <= 0:
            return 0
        sent, gone = self._fill(allowance, now)
        if sent:
            self._stuck_since = None
        self._services.queues.refill(self.queue)
        if not self._source.has_due(now):
            self._services.queues.look(self.queue)
        elif sent == allowance or gone:
            self.wake()
        elif self._shed(now):
            self._services.queues.look(self.queue)
        else:
            self._grow(now)
        return sent + gone

    def _shed(self, now: float) -> bool:
        """Record what has expired at the head, though no connection has room; whether there was some.

        Full connections are the usual state of a busy queue, so one look at the head must do there.
        """
        head = self._source.head()
        if head is None or self._final_for(head, now) is None:
            return False
        messages = self._source.take(TURN, now)
        fit = self._drop_expired(messages, now)
        if fit:
            self._source.put_back(fit)
        return len(fit) < len(messages)

    def _discard(self, now: float) -> int:
        """Fail what is due without an attempt, a turn's worth at a time."""
        messages = self.queue.take(TURN, now)
        for message in messages:
            self._judge.forget(message)
        self._settle(Verdict([expire(message, BLACKHOLED, now) for message in messages], done=messages))
        self._services.queues.look(self.queue)
        return len(messages)

    def _is_closed_for_now(self) -> bool:
        return self._is_stopping or self.settings.is_suspended or self._services.settler.is_blocked

    def _allowance(self, now: float) -> int:
        """Return how many messages may go out in this turn."""
        if self.is_suspended:
            return 1 if self.in_flight == 0 else 0
        throttle = self._bucket(self.settings.throttle)
        if throttle is None:
            return TURN
        monotonic = self._services.clock.monotonic()
        permits = throttle.available(monotonic)
        if not permits:
            self._come_back(now, throttle.ready_at(monotonic) - monotonic)
        return min(TURN, permits)

    def _come_back(self, now: float, seconds: float) -> None:
        """Look again after `seconds`, or after what a wall clock can tell from now."""
        self._services.queues.wake_at(self.queue.key, now + max(seconds, SHORTEST_WAIT_S))

    def _come_back_in(self, seconds: float) -> None:
        self._come_back(self._services.clock.now(), seconds)

    def _bucket(self, limit: Limit | None) -> Throttle | None:
        if limit is None:
            return None
        monotonic = self._services.clock.monotonic()
        return self._services.throttles.get(limit.identity, limit.count, limit.seconds, monotonic)

    def _fill(self, allowance: int, now: float) -> tuple[int, int]:
        """Hand out up to `allowance` messages; return how many went, and how many had expired."""
        sent = gone = 0
        self.queue.promote(now)
        for index, count in share(min(allowance, self._waiting), self._capacities()):
            messages = self._source.take(count, now)
            fit = self._drop_expired(messages, now)
            gone += len(messages) - len(fit)
            if not fit:
                break
            taken = self.connections[index].send([(message, self._topic(message)) for message in fit])
            if taken < len(fit):
                self._source.put_back(fit[taken:])
            sent += taken
        throttle = self._bucket(self.settings.throttle)
        if throttle is not None:
            throttle.spend(sent)
        return sent, gone

    def _capacities(self) -> list[int]:
        """Return what each connection would take."""
        is_alone = len(self._fleet) + self.opening >= self.settings.max_connections
        return self._fleet.capacities(self._services.clock.monotonic(), is_alone)

    def _drop_expired(self, messages: list[Message], now: float) -> list[Message]:
        """Return what may be attempted; what may not is recorded and done with."""
        verdict = Verdict()
        fit: list[Message] = []
        for message in messages:
            text = self._final_for(message, now)
            if text is None:
                fit.append(message)
            else:
                self._judge.forget(message)
                verdict.done.append(message)
                verdict.dispositions.append(expire(message, text, now))
        if verdict.done:
            self._settle(verdict)
        return fit

    def _give_up(self, messages: list[Message], now: float) -> None:
        """Record messages that may have been sent before the daemon started, and be done with them."""
        self._services.meters.unknown_outcomes[self._labels] += len(messages)
        self._settle(Verdict([forsake(message, now) for message in messages], done=messages))

    def _final_for(self, message: Message, now: float) -> str | None:
        """Return why a message may not be attempted any more, None when it may."""
        part = message.part
        return self.settings.retry.forbids(part.received_at, part.expiration, now)

    def _settle(self, verdict: Verdict) -> None:
        for disposition in verdict.dispositions:
            disposition.topic = self._topic(disposition.message)
        self._services.settler.settle(self.queue.key, verdict)

    def _note(self, disposition: Disposition) -> None:
        disposition.topic = self._topic(disposition.message)
        self._services.settler.note(disposition)

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
        """Open more connections when all are full, unless something forbids it for now."""
        monotonic = self._services.clock.monotonic()
        if (pardon := self._fleet.next_pardon()) is not None:
            self._come_back(now, pardon - monotonic)
        left = self.settings.max_connections - len(self._fleet) - self.opening
        if left <= 0:
            self._note_limit(monotonic)
            return
        if any(self._capacities()):
            return
        survey, round_trip = self._fleet.survey(monotonic), self._fleet.round_trip.seconds
        coming = survey.coming + self.opening
        most = survey.serving + coming + left
        if self._stuck_since is None:
            self._stuck_since = monotonic
        stuck = monotonic - self._stuck_since
        count = to_open(self._waiting, round_trip, survey.trip, survey.serving, coming, most, stuck)
        if count and not self._connector.open(count):
            self._come_back(now, self._connector.ready_at() - monotonic)
        elif not count and stuck < STUCK_S:
            self._come_back(now, STUCK_S - stuck)
        elif not count and survey.probe_ends is not None:
            self._come_back(now, survey.probe_ends - monotonic)

    def _note_limit(self, monotonic: float) -> None:
        limited = self._fleet.note_limit(self._waiting, monotonic)
        if limited is not None:
            log.warning(
                "window_limited",
                domain=self._labels[0],
                binding=self._labels[1],
                connections=len(self._fleet),
                needs=limited.needs,
                fix=f"set max_outbound_connections = {limited.needs}, or send from nearer to Apple",
            )

    def addresses(self) -> Iterable[str]:
        """Return where the connections go, one entry each."""
        return [link.remote for link in self.connections]

    def on_connected(self, connection: Connection, settings: PoolSettings) -> None:
        """Take a connection, unless it was made by settings that no longer count."""
        self._fleet.add(connection, self._services.clock.monotonic())
        if self._is_stopping or settings.identity != self.settings.identity:
            self._foreign.add(connection)
            connection.close("stopping" if self._is_stopping else "configuration changed")
        elif self.queue.hold_reason == OUTAGE:
            self.queue.release()

    def on_connect_failed(self, failure: ConnectFailed, connection: Connection | None, wait: float) -> None:
        """Hold the queue for `wait` seconds where nothing else serves it."""
        if connection is not None and self._read_goodbye(connection, failure.stage):
            return
        if failure.is_credential:
            self._accuse_by(failure.reason, failure.stage, connection, SUSPECT if not self._is_served else 1)
            return
        now = self._services.clock.now()
        if not self._is_served and now >= self.queue.not_before:
            self._begin_outage(failure, now, now + wait)

    @property
    def _is_served(self) -> bool:
        return self._fleet.is_serving

    def _begin_outage(self, failure: ConnectFailed, now: float, until: float) -> None:
        head = self._source.head()
        if self.queue.hold_reason != OUTAGE and head is not None:
            self._note(outage(head, str(failure), now, failure.stage))
        self._hold(until, OUTAGE)

    def _hold(self, until: float, reason: str) -> None:
        self._marking.release()
        self.queue.hold(until, reason)
        self._services.queues.wake_at(self.queue.key, until)

    # ── in ───────────────────────────────────────────────────────────────────────────────────────

    def on_outcomes(self, connection: Connection, outcomes: Sequence[Outcome]) -> None:
        """Carry out what the outcomes of one read mean."""
        now = self._services.clock.now()
        peer = Peer(connection.remote, connection.conn_id)
        verdict = self._judge.judge(outcomes, peer, now, self.is_suspended, connection in self._foreign)
        slow = self._measure(connection, outcomes, verdict)
        if verdict.again:
            self._marking.unsend(verdict.again)
        if not self._is_stopping and connection not in self._foreign:
            self._weigh(verdict, now, connection.state is ConnectionState.DRAINING)
        if verdict.suspensions and self.is_suspended:
            slow = "credential in doubt"
        if why := verdict.retire or slow:
            connection.drain(why)
        self._settle(verdict)
        self.wake()
        if self._is_stopping and verdict.again:  # this pool's successor, if there is one, should know
            self._services.queues.look(self.queue)

    def on_change(self, connection: Connection) -> None:
        """Let go of a connection that closed; see whether another one has room."""
        had_answered = self._fleet.has_answered(connection)
        if connection.state is ConnectionState.CLOSED and self._fleet.remove(connection):
            self._read_goodbye(connection)
            if connection.loss is not None and connection not in self._foreign and not self._is_stopping:
                self._connector.lost(connection.loss, connection, had_answered)
            self._foreign.discard(connection)
        self.wake()

    def _measure(self, connection: Connection, outcomes: Sequence[Outcome], verdict: Verdict) -> str:
        """Take what the outcomes of one read say of the connection; return why it should be retired."""
        meters, fleet, monotonic = self._services.meters, self._fleet, self._services.clock.monotonic()
        seconds = [item.seconds for item in outcomes if item.phase is Phase.ANSWERED]
        meters.delivery_seconds[self._labels].observe_all(seconds)
        if len(seconds) < len(outcomes) and any(item.phase is Phase.NOT_PROCESSED for item in outcomes):
            fleet.shun(connection, monotonic)
        if verdict.unknown:
            meters.unknown_outcomes[self._labels] += verdict.unknown
            if connection.state is not ConnectionState.CLOSED:
                fleet.suspect(connection, monotonic)
        if verdict.resent:
            meters.resends[self._labels] += verdict.resent
        if verdict.trips:
            meters.dead_token_alarms[self._labels] += 1
        if not seconds:
            return ""
        self._connector.proved()
        fleet.measure(connection, seconds, monotonic)
        return fleet.laggard(connection, monotonic)

    def _read_goodbye(self, connection: Connection, stage: int = STAGE_READING) -> bool:
        """Count a GOAWAY; return whether it names a fault of the credential, and accuses it (apns.md 6.4)."""
        reason = connection.goaway_reason
        if not reason:
            return False
        row = self._services.table.by_word(reason)
        word = reason if row is not None else "other"
        self._services.meters.goaways[*self._labels, word] += 1
        if row is None or row.action is not Action.SUSPEND:
            return False
        self._accuse_by(reason, stage, connection, SUSPECT)
        return True

    def _accuse_by(self, reason: str, stage: int, connection: Connection | None, count: int) -> None:
        """Accuse the credential by what a peer said instead of answering."""
        if self._is_stopping or connection in self._foreign:
            return
        now, head = self._services.clock.now(), self._source.head()
        peer = Peer(connection.remote, connection.conn_id) if connection is not None else Peer()
        self._accuse(count, reason, accuse(head, reason, peer, now, stage) if head else None, now)

    # ── trust ────────────────────────────────────────────────────────────────────────────────────

    def _weigh(self, verdict: Verdict, now: float, was_draining: bool) -> None:
        """Draw conclusions about the credential.

        A connection that is told that its provider token is worn out says so once, and drains. When one
        after the other is told the same, a new connection is no remedy, and Apple takes rapid reconnecting
        for an attack: the clock is wrong, here or there.
        """
        count = verdict.suspensions or (0 if was_draining else 1)
        if verdict.believed:
            self._believe()
        elif verdict.accusation is not None and count:
            self._accuse(count, verdict.accusation.reason, verdict.accusation, now)
        elif self.is_suspended:
            self._probe_later(now)  # a probe that told nothing of the credential

    def _believe(self) -> None:
        if self._trust.believe():
            log.info("suspension_lifted", domain=self._labels[0], binding=self._labels[1])
            self.queue.release()

    def _accuse(self, count: int, reason: str, record: Disposition | None, now: float) -> None:
        begins = self._trust.accuse(count, reason)
        if begins and record is not None:
            self._note(record)
        if self.is_suspended:
            self._probe_later(now, begins)

    def _probe_later(self, now: float, begins: bool = False) -> None:
        if now < self.queue.not_before:
            return
        wait, reason = self._trust.next_probe(), self._trust.reason
        self._hold(now + wait, reason)
        report = log.error if begins else log.info
        report(
            "binding_suspended",
            domain=self._labels[0],
            binding=self._labels[1],
            reason=reason,
            credential=self.settings.credential.identity,
            fix=fix_for(reason),
            next_probe_s=wait,
        )
