"""The pool of connections of one queue: one credential, one set of routes, never mixed.

    queue ──► pump ──► the first connection with room for all ──► Apple   (under "drop" by way of `marking`)
      ▲         │ all full: open as many as what waits needs (`growth`)
      │         └ turn over: come back in the next turn of the loop
      └── outcomes ── judge ──► settler

What holds a whole queue, an outage or a suspension, is in `standing`, when another connection is opened
in `growth`, and how that is done in `connector`.

Where some connections serve and another cannot be made, only the next connect waits. A connection that
was made by other settings finishes what it has; what it says of its credential no longer counts.
A turn sends at most TURN messages, so that the loop stays free for everybody else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

from momentum_push.delivery.apns.connection import Connection, ConnectionState
from momentum_push.delivery.apns.failures import STAGE_READING, ConnectFailed
from momentum_push.delivery.apns.wire import Request
from momentum_push.delivery.connector import Connector
from momentum_push.delivery.fleet import Fleet, Limited
from momentum_push.delivery.growth import Growth
from momentum_push.delivery.marking import Marking, Source
from momentum_push.delivery.plan import share
from momentum_push.delivery.records import BLACKHOLED, Peer, expire, forsake
from momentum_push.delivery.resolver import Resolver
from momentum_push.delivery.screening import Screening
from momentum_push.delivery.services import Services
from momentum_push.delivery.settings import Limit, PoolSettings
from momentum_push.delivery.standing import Standing
from momentum_push.delivery.trust import SUSPECT
from momentum_push.delivery.turns import BUDGET
from momentum_push.delivery.verdict import Judge, Verdict
from momentum_push.message import Deliveries, Disposition, Message, Outcome, Phase
from momentum_push.message.rules import effective_topic
from momentum_push.queues import Queue, Throttle

__all__ = ["Pool"]

TURN = BUDGET
"""Messages that one turn of the loop sends for one queue, when no other queue is busy."""

SHORTEST_WAIT_S = 0.001


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
        self._growth = Growth(self._fleet, self._connector, self._labels, self._come_back_in)
        self._standing = Standing(
            queue, services, settings.credential.identity,
            head=lambda: self._source.head(), note=self._note, on_hold=self._marking.release,
        )  # fmt: skip
        self._topics: dict[tuple[str, str], str] = {}
        queue.collapse_waiting(settings.collapse_waiting)
        self._screening = Screening(queue, self._judge, self._settle)
        self._is_stopping = False
        self._foreign: set[Connection] = set()

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
        return self._standing.is_suspended

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
        self._services.turns.ask(self, self.settings.weight)

    def configure(self, settings: PoolSettings) -> None:
        """Go by new settings; connections that were made by others finish what they have and close."""
        before, self.settings = self.settings, settings
        self._standing.credential = settings.credential.identity
        if settings.identity != before.identity:
            self._start_over()
        elif settings.dead_token_limit != before.dead_token_limit:
            self._standing.believe()
        self._connector.configure(settings)
        self.queue.collapse_waiting(settings.collapse_waiting)
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
        self._standing.believe()
        self._connector.cancel()  # or a route or proxy that hangs would hold up, and fail, its successor
        self._judge.start_over()
        self._connector.forget()
        self._standing.start_over()
        self.queue.release()

    def forget(self, messages: Iterable[Message]) -> None:
        """Hear that messages ended without an outcome."""
        self._screening.forget(messages)

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

    def pump(self, most: int = TURN) -> int:
        """Send what may be sent now, `most` at most; return how many messages that were."""
        now = self._services.clock.now()
        if self._is_closed_for_now() or not self._source.has_due(now):
            return 0
        if self.settings.is_blackholed:
            return self._discard(most, now)
        allowance = min(most, self._allowance(now))
        if allowance <= 0:
            return 0
        sent, gone = self._fill(allowance, now)
        if sent:
            self._growth.moved()
        self._services.queues.refill(self.queue)
        if not self._source.has_due(now):
            self._services.queues.look(self.queue)
        elif sent == allowance or gone:
            self.wake()
        elif self._shed(most, now):
            self._services.queues.look(self.queue)
        else:
            self._growth.grow(self._waiting, self.settings.max_connections, self._services.clock.monotonic())
        return sent + gone

    def _shed(self, most: int, now: float) -> bool:
        """Record what has expired at the head, though no connection has room; whether there was some.

        Full connections are the usual state of a busy queue, so one look at the head must do there.
        """
        head = self._source.head()
        if head is None or self._screening.final_for(head, now) is None:
            return False
        messages = self._source.take(most, now)
        fit = self._screening.sift(messages, now)
        if fit:
            self._source.put_back(fit)
        return len(fit) < len(messages)

    def _discard(self, most: int, now: float) -> int:
        """Fail what is due without an attempt, a turn's worth at a time."""
        messages = self.queue.take(most, now)
        self.forget(messages)
        self._settle(Verdict([expire(message, BLACKHOLED, now) for message in messages], done=messages))
        self._services.queues.look(self.queue)
        return len(messages)

    def _is_closed_for_now(self) -> bool:
        return self._is_stopping or self.settings.is_suspended or self._services.settler.is_blocked

    def _allowance(self, now: float) -> int:
        """Return how many messages may go out in this turn."""
        if self.is_suspended:
            return 1 if self.in_flight == 0 else 0
        most = TURN if (limit := self._standing.stream_limit) is None else limit - self.in_flight
        throttle = self._bucket(self.settings.throttle)
        if throttle is None:
            return most
        monotonic = self._services.clock.monotonic()
        permits = throttle.available(monotonic)
        if not permits:
            self._come_back(now, throttle.ready_at(monotonic) - monotonic)
        return min(most, permits)

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
            fit = self._screening.sift(messages, now)
            gone += len(messages) - len(fit)
            if not fit:
                break
            taken = self.connections[index].send(self._requests(fit))
            if taken < len(fit):
                self._source.put_back(fit[taken:])
            sent += taken
        throttle = self._bucket(self.settings.throttle)
        if throttle is not None:
            throttle.spend(sent)
        return sent, gone

    def _capacities(self) -> list[int]:
        """Return what each connection would take."""
        is_alone = self._growth.is_at_limit(self.settings.max_connections)
        return self._fleet.capacities(self._services.clock.monotonic(), is_alone)

    def _give_up(self, messages: list[Message], now: float) -> None:
        """Record messages that may have been sent before the daemon started, and be done with them."""
        self._services.meters.unknown_outcomes[self._labels] += len(messages)
        self._settle(Verdict([forsake(message, now) for message in messages], done=messages))

    def _settle(self, verdict: Verdict) -> None:
        if isinstance(verdict.dispositions, Deliveries):
            verdict.dispositions.set_topics(self._topic)
        else:
            for disposition in verdict.dispositions:
                disposition.topic = self._topic(disposition.message)
        self._services.settler.settle(self.queue.key, verdict)

    def _note(self, disposition: Disposition) -> None:
        disposition.topic = self._topic(disposition.message)
        self._services.settler.note(disposition)

    def _requests(self, messages: list[Message]) -> list[Request]:
        """Put the topic beside each message; those of one part have the same."""
        parts = {id(message.part): message for message in messages}
        topics = {part: self._topic(message) for part, message in parts.items()}
        return [(message, topics[id(message.part)]) for message in messages]

    def _topic(self, message: Message) -> str:
        part = message.part
        found = self._topics.get((part.topic, part.push_type))
        if found is None:
            found = effective_topic(part.topic, self.settings.default_topic, part.push_type)
            if len(self._topics) < 1000:
                self._topics[part.topic, part.push_type] = found
        return found

    # ── connections ──────────────────────────────────────────────────────────────────────────────

    def addresses(self) -> Iterable[str]:
        """Return where the connections go, one entry each."""
        return [link.remote for link in self.connections]

    def on_connected(self, connection: Connection, settings: PoolSettings) -> None:
        """Take a connection, unless it was made by settings that no longer count."""
        self._fleet.add(connection, self._services.clock.monotonic())
        if self._is_stopping or settings.identity != self.settings.identity:
            self._foreign.add(connection)
            connection.close("stopping" if self._is_stopping else "configuration changed")
        else:
            self._standing.let_in()

    def on_connect_failed(self, failure: ConnectFailed, connection: Connection | None, wait: float) -> None:
        """Hold the queue for `wait` seconds where nothing else serves it."""
        counts = self._counts(connection)
        if connection is not None and self._standing.read_goodbye(connection, failure.stage, counts):
            return
        is_served = self._fleet.is_serving
        if failure.is_credential and counts:
            self._standing.accuse(failure.reason, failure.stage, connection, 1 if is_served else SUSPECT)
        elif not failure.is_credential and not is_served and self._connector.is_hopeless:
            self._standing.shut_out(failure, wait)

    def _counts(self, connection: Connection | None) -> bool:
        """Whether it matters still what a connection says of the credential in effect."""
        return not self._is_stopping and connection not in self._foreign

    # ── in ───────────────────────────────────────────────────────────────────────────────────────

    def on_outcomes(self, connection: Connection, outcomes: Sequence[Outcome]) -> None:
        """Carry out what the outcomes of one read mean."""
        now = self._services.clock.now()
        peer = Peer(connection.remote, connection.conn_id)
        verdict = self._judge.judge(outcomes, peer, now, self.is_suspended, connection in self._foreign)
        self._screening.learn(outcomes, verdict)
        slow = self._measure(connection, outcomes, verdict)
        if verdict.again:
            self._marking.unsend(verdict.again)
        if self._counts(connection):
            self._standing.weigh(verdict, now, connection.state is ConnectionState.DRAINING)
        if verdict.suspensions and self.is_suspended:
            slow = "credential in doubt"
        if verdict.retire and verdict.accusation is None:
            self._fleet.turn_away(connection, verdict.retire)
        if why := verdict.retire or slow:
            connection.drain(why)
        self._settle(verdict)
        self.wake()
        if self._is_stopping and verdict.again:  # this pool's successor, if there is one, should know
            self._services.queues.look(self.queue)

    def on_change(self, connection: Connection) -> None:
        """Let go of a connection that closed; see whether another one has room."""
        had_served, why = self._fleet.has_served(connection), self._fleet.turned_away(connection)
        if connection.state is ConnectionState.CLOSED and self._fleet.remove(connection):
            counts = self._counts(connection)
            is_accused = self._standing.read_goodbye(connection, STAGE_READING, counts)
            if connection.loss is not None and counts:
                self._connector.lost(connection.loss, connection, had_served)
            elif why and counts and not is_accused and not self.is_suspended:
                self._connector.turned_away(why, connection)
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
        self._standing.set_pace(outcomes, verdict, sum(seconds), self.in_flight, monotonic)
        if verdict.believed:
            self._connector.proved()
            fleet.serves(connection)
        fleet.measure(connection, seconds, monotonic)
        return fleet.laggard(connection, monotonic)
