"""What follows from the outcomes of one read: records, retries, and what is sent again at once.

    outcome                          attempt   then
    ───────────────────────────────  ───────   ─────────────────────────────────────────────────────
    answered: delivered              yes       D
    answered: permfail               yes       P
    answered: tempfail, delay_token  yes       T and a later attempt; P when the schedule ends
    answered: elsewhere              no        again, elsewhere; an accusation if the provider token is meant
    answered: suspend                no        again, when the credential is believed again
    not sent, not processed          no        again, at once
    answered: dead token, in doubt   no        again in DOUBT_S, when the breaker is closed; no record
    unknown                          yes       T and a later attempt (1 s the first time), or P under "drop"

"Again" is bounded: after MAX_RETURNS in a row it becomes a temporary failure, whose own schedule ends.
While the queue is suspended nothing counts, so that no suspension burns an attempt; then
`message_expiration` ends it. What a connection that was made by other settings calls dead is asked again:
whoever corrects a route or a topic wants nothing condemned by the wrong one. A reason that the table does
not know goes by its status, and is named in the verdict once: the operator should hear of it, and not
with every answer. Source: apns.md 4.3 and 10, interfaces.md 2 ("Retry", "Reasons").
Pure: the reason table and `now` come in; `settle` carries the verdict out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from momentum_push.delivery.breaker import DEAD_TOKENS, Breaker
from momentum_push.delivery.trust import SUSPECT
from momentum_push.message import Disposition, Kind, Message, Outcome, Phase
from momentum_push.message.reasons import Action, Class, Reason, ReasonTable
from momentum_push.queues import EXCEEDED_TIME, FIRST_UNKNOWN_WAIT_S, RetryPolicy

__all__ = [
    "BLACKHOLED",
    "DOUBT_S",
    "MAX_RETURNS",
    "MAX_STRANGE",
    "NO_ANSWER",
    "Judge",
    "Peer",
    "Verdict",
    "accuse",
    "expire",
    "forsake",
    "outage",
]

MAX_RETURNS = 5
"""Times in a row that a message may come back untried before that counts as a failure."""

MAX_STRANGE = 100
"""Unknown reasons that are named for one queue; what else a peer makes up fills neither memory nor log."""

DOUBT_S = 600.0
"""How long a message rests whose token was called dead and not believed: probes should meet others."""

BLACKHOLED = "551 5.7.1 [internal] recipient blackholed"

FORSAKEN = "outcome unknown after a restart, not sent again (apn_unknown_outcome = drop)"

NO_ANSWER = 255
"""`DLV_Response_Status` where Apple said nothing (momentum.md 7.5)."""

_STAGE_NOT_CONNECTED = 0
_STAGE_ANSWER = 9

_CODES = {
    Class.SUCCESS: "250 2.0.0",
    Class.PERMANENT_TOKEN: "550 5.1.1",
    Class.PERMANENT_MESSAGE: "550 5.6.0",
    Class.AUTH_OR_CONFIG: "550 5.7.1",
    Class.TRANSIENT: "451 4.3.0",
    Class.THROTTLING: "451 4.7.1",
}
"""How the mainlog, whose readers know SMTP, words a class of answers (RFC 3463)."""

_BELIEVED = frozenset({Class.SUCCESS, Class.PERMANENT_TOKEN, Class.PERMANENT_MESSAGE})

_OF_TOKEN = frozenset({Class.AUTH_OR_CONFIG, Class.THROTTLING})
"""Of the reasons that ask for another connection: `ExpiredProviderToken`, `TooManyProviderTokenUpdates`."""

_LOST = "451 4.4.2 [internal]"


@dataclass(frozen=True, slots=True)
class Peer:
    """The far end of the connection that brought the outcomes; empty where there was none."""

    remote: str = ""
    conn_id: str = ""


@dataclass(slots=True)
class Verdict:
    """What `Judge.judge` found; every message of its outcomes is in exactly one of the three lists."""

    dispositions: list[Disposition] = field(default_factory=list)
    done: list[Message] = field(default_factory=list)
    """Delivered or failed for good."""
    again: list[Message] = field(default_factory=list)
    """To the front of the queue; no attempt was counted."""
    retries: dict[tuple[float, int], list[Message]] = field(default_factory=dict)
    """By (due, attempts): to a new list."""
    believed: int = 0
    """Answers that show that the credential is accepted: deliveries, and faults of message or token."""
    suspensions: int = 0
    """Answers that accuse the credential."""
    accusation: Disposition | None = None
    """The first of them, as the one record that a suspension writes; without any, the first answer that calls
    the provider token worn out: as many of these as come over one connection accuse it once, for the next
    connection may be believed."""
    retire: str = ""
    """Why the connection should take no more requests; empty: it may."""
    condemned: int = 0
    """Answers that call the device token dead."""
    doubted: int = 0
    """Answers that do so and are not believed."""
    trips: bool = False
    """Whether the breaker opened with this read."""
    unknown: int = 0
    resent: int = 0
    """Messages to be sent again because they came back or their outcome is unknown (apns.md 10)."""
    strange: list[Reason] = field(default_factory=list)
    """Reasons without a row in the table that this queue has not met before."""

    @property
    def left(self) -> list[Message]:
        """The messages that leave the list they were in."""
        return self.done + [message for batch in self.retries.values() for message in batch]


class Judge:
    """Judges the outcomes of one queue; remembers returns of untried messages, and strange words."""

    def __init__(
        self,
        table: ReasonTable,
        policy: RetryPolicy,
        drops_unknown: bool = False,
        dead_token_limit: int = 0,
    ) -> None:
        self._table = table
        self._accepted = table.lookup(200, "")
        self.policy = policy
        self._drops_unknown = drops_unknown
        self._dead_token_limit = dead_token_limit
        self.breaker = Breaker(dead_token_limit)
        self._is_suspended = self._is_foreign = False
        self._returns: dict[int, int] = {}
        self._strange: set[tuple[int, str]] = set()

    def configure(
        self, table: ReasonTable, policy: RetryPolicy, drops_unknown: bool, dead_token_limit: int = 0
    ) -> None:
        """Go by new options from now on."""
        if dead_token_limit != self._dead_token_limit:
            self._dead_token_limit = dead_token_limit
            self.start_over()
        self._table = table
        self._accepted = table.lookup(200, "")
        self.policy = policy
        self._drops_unknown = drops_unknown

    def start_over(self) -> None:
        """Let go of what was learned of tokens: other credential, routes or topic."""
        self.breaker = Breaker(self._dead_token_limit)

    @property
    def remembered(self) -> int:
        """Messages of which it is known that they came back untried."""
        return len(self._returns)

    def forget(self, message: Message) -> None:
        """Let go of a message that ends without an outcome."""
        self._returns.pop(message.sequence, None)

    def judge(
        self,
        outcomes: Sequence[Outcome],
        peer: Peer,
        now: float,
        is_suspended: bool = False,
        is_foreign: bool = False,
    ) -> Verdict:
        """Return what follows from the outcomes of one read, in their order.

        Args:
            is_suspended: the queue is.
            is_foreign: the connection was made by other settings than those in effect.
        """
        self._is_suspended, self._is_foreign = is_suspended, is_foreign
        if _are_accepted(outcomes) and self._accepted.action is Action.DELIVERED:
            verdict = self._accept(outcomes, peer, now)
        else:
            verdict = self._one_by_one(outcomes, peer, now)
        if not is_foreign:
            self._weigh_tokens(verdict)
        return verdict

    def _one_by_one(self, outcomes: Sequence[Outcome], peer: Peer, now: float) -> Verdict:
        verdict = Verdict()
        for outcome in outcomes:
            if outcome.phase is Phase.ANSWERED:
                self._answered(verdict, outcome, peer, now)
            elif outcome.phase is Phase.UNKNOWN:
                self._unknown(verdict, outcome, peer, now)
            else:
                self._again(verdict, outcome, peer, now)
        return verdict

    def _accept(self, outcomes: Sequence[Outcome], peer: Peer, now: float) -> Verdict:
        """Return the verdict where Apple took everything, which is the usual one: the same, in columns."""
        messages = [outcome.message for outcome in outcomes]
        if self._returns:
            for message in messages:
                self._returns.pop(message.sequence, None)
        reason, (remote, conn_id) = self._accepted, (peer.remote, peer.conn_id)
        stage, text = _stage(peer), _CODES[reason.klass]
        verdict = Verdict(done=messages, believed=len(messages))
        verdict.dispositions = [
            Disposition(
                Kind.DELIVERED, outcome.message, now, outcome.message.home.attempts + 1, reason.code,
                "", "", True, 200, 0, remote, outcome.size, conn_id, stage, text,
            )
            for outcome in outcomes
        ]  # fmt: skip
        return verdict

    def _answered(self, verdict: Verdict, outcome: Outcome, peer: Peer, now: float) -> None:
        reason = self._table.lookup(outcome.status, outcome.reason)
        action = reason.action_for(bool(outcome.message.part.topic))
        if reason.retire_connection:
            verdict.retire = reason.reason
        if not reason.is_known:
            self._meet(verdict, reason)
        verdict.believed += reason.klass in _BELIEVED
        if action is Action.DELIVERED:
            self._finish(verdict, outcome, peer, now, Kind.DELIVERED, reason)
        elif action is Action.PERMFAIL:
            if not reason.condemns_token or self._condemns(verdict, outcome, peer, now, reason):
                self._finish(verdict, outcome, peer, now, Kind.PERMFAIL, reason)
        elif action is Action.ELSEWHERE:
            if reason.klass in _OF_TOKEN and verdict.accusation is None:
                verdict.accusation = _record(outcome, peer, now, Kind.TEMPFAIL, reason)
            self._again(verdict, outcome, peer, now, reason)
        elif action is Action.SUSPEND:
            verdict.suspensions += 1
            if verdict.suspensions == 1:
                verdict.accusation = _record(outcome, peer, now, Kind.TEMPFAIL, reason)
            self._held(verdict, outcome, peer, now, reason)
        else:
            self._later(verdict, outcome, peer, now, reason, outcome.retry_after or None)

    def _condemns(self, verdict: Verdict, outcome: Outcome, peer: Peer, now: float, reason: Reason) -> bool:
        """Return whether the token is taken for dead; where it is not, the message is seen to."""
        if self._is_foreign:
            self._again(verdict, outcome, peer, now, reason)
            return False
        was_tripped = self.breaker.is_tripped
        if not self.breaker.doubts(verdict.believed, verdict.condemned + verdict.doubted + 1):
            verdict.condemned += 1
            return True
        if not was_tripped:
            self._is_suspended = verdict.trips = True
            verdict.accusation = accuse(outcome.message, DEAD_TOKENS, peer, now)
        verdict.doubted += 1
        self._doubt(verdict, outcome.message, now)
        return False

    def _doubt(self, verdict: Verdict, message: Message, now: float) -> None:
        """Put a message aside whose token may be alive, at the cost of no attempt; expiry ends it.

        Aside, so that the next probe asks for another token; its record may not look like a dead one's.
        """
        self._returns.pop(message.sequence, None)
        if self.policy.is_expired(message.part.received_at, now):
            verdict.done.append(message)
            verdict.dispositions.append(expire(message, EXCEEDED_TIME, now))
        else:
            verdict.retries.setdefault((now + DOUBT_S, message.home.attempts), []).append(message)

    def _weigh_tokens(self, verdict: Verdict) -> None:
        """Tell the breaker what was seen; in doubt, nothing but an accepted notification shows belief."""
        self.breaker.note(verdict.believed, verdict.condemned + verdict.doubted)
        if verdict.trips:
            verdict.believed, verdict.suspensions = 0, SUSPECT
        elif self.breaker.is_tripped:
            verdict.believed = sum(item.kind is Kind.DELIVERED for item in verdict.dispositions)
            if verdict.believed:
                self.breaker.lift()

    def _meet(self, verdict: Verdict, reason: Reason) -> None:
        """Name an unknown reason to the operator, the first time."""
        met = (reason.status, reason.reason)
        if met not in self._strange and len(self._strange) < MAX_STRANGE:
            self._strange.add(met)
            verdict.strange.append(reason)

    def _unknown(self, verdict: Verdict, outcome: Outcome, peer: Peer, now: float) -> None:
        verdict.unknown += 1
        if self._drops_unknown:
            self._finish(verdict, outcome, peer, now, Kind.PERMFAIL)
        else:
            is_first = outcome.message.home.attempts == 0
            wait = FIRST_UNKNOWN_WAIT_S if is_first else None
            verdict.resent += self._later(verdict, outcome, peer, now, None, wait)

    def _again(
        self, verdict: Verdict, outcome: Outcome, peer: Peer, now: float, reason: Reason | None = None
    ) -> None:
        message = outcome.message
        returns = self._returns.get(message.sequence, 0) + 1
        if self._is_suspended and not self.policy.is_expired(message.part.received_at, now):
            verdict.again.append(message)
        elif self._is_suspended or returns > MAX_RETURNS:
            verdict.resent += self._later(verdict, outcome, peer, now, reason, None)
            return
        else:
            self._returns[message.sequence] = returns
            verdict.again.append(message)
        verdict.resent += 1

    def _held(self, verdict: Verdict, outcome: Outcome, peer: Peer, now: float, reason: Reason) -> None:
        """An accusation ends no message but an expired one: its last attempt was this.

        Where no suspension follows, the credential serves other messages, and this one may not come back
        for ever.
        """
        if self.policy.is_expired(outcome.message.part.received_at, now):
            self._later(verdict, outcome, peer, now, reason, None)
        else:
            self._again(verdict, outcome, peer, now, reason)

    def _later(
        self,
        verdict: Verdict,
        outcome: Outcome,
        peer: Peer,
        now: float,
        reason: Reason | None,
        wait: float | None,
    ) -> bool:
        """Count an attempt; return whether another one follows."""
        message = outcome.message
        attempts = message.home.attempts + 1
        due = self.policy.after_failure(message.part.received_at, attempts, now, wait)
        if isinstance(due, str):
            self._finish(verdict, outcome, peer, now, Kind.PERMFAIL, reason, due)
            return False
        self._returns.pop(message.sequence, None)
        verdict.retries.setdefault((due, attempts), []).append(message)
        verdict.dispositions.append(_record(outcome, peer, now, Kind.TEMPFAIL, reason))
        return True

    def _finish(
        self,
        verdict: Verdict,
        outcome: Outcome,
        peer: Peer,
        now: float,
        kind: Kind,
        reason: Reason | None = None,
        final: str = "",
    ) -> None:
        if self._returns:
            self._returns.pop(outcome.message.sequence, None)
        verdict.done.append(outcome.message)
        verdict.dispositions.append(_record(outcome, peer, now, kind, reason, final))


def _are_accepted(outcomes: Sequence[Outcome]) -> bool:
    """Whether each one is a plain 200."""
    return {(outcome.status, outcome.reason) for outcome in outcomes} == {(200, "")}


def _stage(peer: Peer) -> int:
    return _STAGE_ANSWER if peer.remote else _STAGE_NOT_CONNECTED


def expire(message: Message, text: str, now: float) -> Disposition:
    """Return the record of a message that is given up without an attempt (momentum.md 6.4)."""
    return _untried(Kind.PERMFAIL, message, text, text, now)


def forsake(message: Message, now: float) -> Disposition:
    """Return the record of a message whose mark says that it may have been sent before a crash."""
    record = _untried(Kind.PERMFAIL, message, FORSAKEN, f"554 5.4.2 [internal] {FORSAKEN}", now)
    record.attempt += 1
    return record


def outage(message: Message, why: str, now: float, stage: int = _STAGE_NOT_CONNECTED) -> Disposition:
    """Return the one record of an outage: no connection could be made, how far it came (momentum.md 6.3)."""
    record = _untried(Kind.TEMPFAIL, message, why, f"451 4.4.1 [internal] No valid hosts ({why})", now)
    record.stage = stage
    return record


def accuse(message: Message, reason: str, peer: Peer, now: float, stage: int = _STAGE_ANSWER) -> Disposition:
    """Return the one record of a suspension that no answer began: a GOAWAY or TLS named the fault."""
    record = _untried(Kind.TEMPFAIL, message, reason, f"451 4.7.1 [internal] {reason}", now)
    record.word, record.remote, record.conn_id = reason, peer.remote, peer.conn_id
    record.stage = stage
    return record


def _untried(kind: Kind, message: Message, reason: str, text: str, now: float) -> Disposition:
    return Disposition(
        kind=kind,
        message=message,
        at=now,
        attempt=message.home.attempts,
        status=NO_ANSWER,
        reason=reason,
        text=text,
        stage=_STAGE_NOT_CONNECTED,
    )


def _record(
    outcome: Outcome, peer: Peer, now: float, kind: Kind, reason: Reason | None, final: str = ""
) -> Disposition:
    is_answer = outcome.phase is Phase.ANSWERED
    return Disposition(
        kind=kind,
        message=outcome.message,
        at=now,
        attempt=outcome.message.home.attempts + 1,
        status=reason.code if reason is not None else NO_ANSWER,
        reason=final or outcome.reason or ("" if kind is Kind.DELIVERED else f"HTTP status {outcome.status}"),
        word=outcome.reason if is_answer else "",
        is_known=reason is not None and reason.is_known,
        http_status=outcome.status,
        unregistered_at=outcome.unregistered_at,
        remote=peer.remote,
        size=outcome.size,
        conn_id=peer.conn_id,
        stage=_stage(peer),
        text=final or _words(outcome, kind, reason if is_answer else None),
    )


def _words(outcome: Outcome, kind: Kind, reason: Reason | None) -> str:
    """Word an outcome for the mainlog as SMTP would: code, enhanced code, text."""
    code = _LOST if reason is None else _CODES[reason.klass]
    if kind is Kind.TEMPFAIL and code.startswith("5"):
        code = "451 4" + code[5:]
    elif kind is Kind.PERMFAIL and code.startswith("4"):
        code = "554 5" + code[5:]
    return f"{code} {outcome.reason}".rstrip()
