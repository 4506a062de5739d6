"""How a pool stands with Apple: whether it is let in and believed, and what holds its queue if not.

Two things hold a whole queue (design.md 4, "Retry" in interfaces.md 2); neither moves a message nor
counts an attempt, and each writes one record when it begins:

    outage        no connection can be made: wait 1 s, doubling to 60 s, shared by the whole pool
    suspension    answers accuse the credential (`trust`), or call too many tokens dead (`breaker`): one
                  probing request after 1 s, then after twice that … until an answer shows that it is
                  believed again, or accepts a notification

    answers, goodbyes, TLS alerts ──► Trust ──► hold of the queue, record, word to the operator
    connects that fail ───────────────────────►

What holds nobody, and only makes a queue slower, is `pace`: answers of 503, and rising latency.

Which connection may speak is the pool's to say: it asks nothing here of those that other settings made.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import structlog

from momentum_push.delivery.apns.connection import Connection
from momentum_push.delivery.apns.failures import ConnectFailed
from momentum_push.delivery.pace import Change, Pace
from momentum_push.delivery.records import Peer, accuse, outage
from momentum_push.delivery.services import Services
from momentum_push.delivery.trust import SUSPECT, Trust, fix_for
from momentum_push.delivery.verdict import Verdict
from momentum_push.message import Disposition, Message, Outcome
from momentum_push.message.reasons import Action
from momentum_push.queues import Queue

__all__ = ["OUTAGE", "Standing"]

OUTAGE = "outage"

log = structlog.get_logger()


class Standing:
    """The holds of one queue; see the module's head."""

    def __init__(
        self,
        queue: Queue,
        services: Services,
        credential: str,
        *,
        head: Callable[[], Message | None],
        note: Callable[[Disposition], None],
        on_hold: Callable[[], None],
    ) -> None:
        """Begin believed.

        Args:
            credential: its name, for the operator.
            head: the message that is next; the records of holds name it.
            note: writes a record that ends no message.
            on_hold: hears that nothing goes out for now.
        """
        self.credential = credential
        self._queue, self._services = queue, services
        self._labels = (queue.key.domain, queue.key.binding)
        self._head, self._note, self._on_hold = head, note, on_hold
        self._trust = Trust()
        self._pace = Pace()

    def __repr__(self) -> str:
        domain, binding = self._labels
        return f"<Standing {binding}/{domain}, {self._trust!r}, held for {self._queue.hold_reason!r}>"

    @property
    def is_suspended(self) -> bool:
        """Whether the credential is in doubt."""
        return self._trust.is_suspended

    # --- pace

    @property
    def stream_limit(self) -> int | None:
        """How many streams of the queue may be in flight where Apple is busy; None: no limit."""
        return self._pace.limit

    def set_pace(
        self, outcomes: Sequence[Outcome], verdict: Verdict, seconds: float, in_flight: int, now: float
    ) -> None:
        """Have less in flight where Apple is busy, and more again; `seconds` is what all answers took."""
        busy = 0
        if verdict.retries:
            busy = sum(item.status == 503 and item.reason != "Shutdown" for item in outcomes)
        change = self._pace.learn(len(outcomes), busy, seconds, in_flight + len(outcomes), now)
        if change is None:
            return
        domain, binding = self._labels
        if change is Change.FREE:
            log.info("pace_regained", domain=domain, binding=binding)
        else:
            limit, why = self._pace.limit, change.value
            log.warning("slowed_down", domain=domain, binding=binding, why=why, streams_in_flight=limit)

    def start_over(self) -> None:
        """Let go of what was learned of another peer."""
        self._pace = Pace()

    # --- outage

    def let_in(self) -> None:
        """Hear that a connection was made."""
        if self._queue.hold_reason == OUTAGE:
            self._queue.release()

    def shut_out(self, failure: ConnectFailed, wait: float) -> None:
        """Hear that no connection serves, and that the next is tried in `wait` seconds."""
        now = self._services.clock.now()
        if now < self._queue.not_before:
            return
        head = self._head()
        if self._queue.hold_reason != OUTAGE and head is not None:
            self._note(outage(head, str(failure), now, failure.stage))
        self._hold(now + wait, OUTAGE)

    # --- suspension

    def weigh(self, verdict: Verdict, now: float, was_draining: bool) -> None:
        """Draw conclusions about the credential from the outcomes of one read.

        A connection that is told that its provider token is worn out says so once, and drains. When one
        after the other is told the same, a new connection is no remedy, and Apple takes rapid reconnecting
        for an attack: the clock is wrong, here or there.
        """
        count = verdict.suspensions or (0 if was_draining else 1)
        if verdict.believed:
            self.believe()
        elif verdict.accusation is not None and count:
            self._accuse(count, verdict.accusation.reason, verdict.accusation, now)
        elif self.is_suspended:
            self._probe_later(now)  # a probe that told nothing of the credential

    def read_goodbye(self, connection: Connection, stage: int, counts: bool) -> bool:
        """Count a GOAWAY; return whether it names a fault of the credential (apns.md 6.4).

        Args:
            counts: then it accuses the credential, too.
        """
        reason = connection.goaway_reason
        if not reason:
            return False
        row = self._services.table.by_word(reason)
        word = reason if row is not None else "other"
        self._services.meters.goaways[*self._labels, word] += 1
        if row is None or row.action is not Action.SUSPEND:
            return False
        if counts:
            self.accuse(reason, stage, connection, SUSPECT)
        return True

    def accuse(self, reason: str, stage: int, connection: Connection | None, count: int) -> None:
        """Accuse the credential by what a peer said instead of answering."""
        now, head = self._services.clock.now(), self._head()
        peer = Peer(connection.remote, connection.conn_id) if connection is not None else Peer()
        self._accuse(count, reason, accuse(head, reason, peer, now, stage) if head else None, now)

    def believe(self) -> None:
        """Let go of all doubts."""
        if self._trust.believe():
            log.info("suspension_lifted", domain=self._labels[0], binding=self._labels[1])
            self._queue.release()

    # --- inside

    def _accuse(self, count: int, reason: str, record: Disposition | None, now: float) -> None:
        begins = self._trust.accuse(count, reason)
        if begins and record is not None:
            self._note(record)
        if self.is_suspended:
            self._probe_later(now, begins)

    def _probe_later(self, now: float, begins: bool = False) -> None:
        if now < self._queue.not_before:
            return
        wait, reason = self._trust.next_probe(), self._trust.reason
        self._hold(now + wait, reason)
        report = log.error if begins else log.info
        report(
            "binding_suspended",
            domain=self._labels[0],
            binding=self._labels[1],
            reason=reason,
            credential=self.credential,
            fix=fix_for(reason),
            next_probe_s=wait,
        )

    def _hold(self, until: float, reason: str) -> None:
        self._on_hold()
        self._queue.hold(until, reason)
        self._services.queues.wake_at(self._queue.key, until)
