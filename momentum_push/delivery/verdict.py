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
Pure: the reason table and `now` come in; `records` words what is written, `settle` carries the verdict out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from momentum_push.delivery.breaker import DEAD_TOKENS, Breaker
from momentum_push.delivery.records import Peer, accepted, accuse, expire, record_of
from momentum_push.delivery.trust import SUSPECT
from momentum_push.message import Deliveries, Disposition, Kind, Message, Outcome, Phase
from momentum_push.message.reasons import Action, Class, Reason, ReasonTable
from momentum_push.queues import EXCEEDED_TIME, FIRST_UNKNOWN_WAIT_S, RetryPolicy

__all__ = ["DOUBT_S", "MAX_RETURNS", "MAX_STRANGE", "Judge", "Verdict"]

MAX_RETURNS = 5
"""Times in a row that a message may come back untried before that counts as a failure."""

MAX_STRANGE = 100
"""Unknown reasons that are named for one queue; what else a peer makes up fills neither memory nor log."""

DOUBT_S = 600.0
"""How long a message rests whose token was called dead and not believed: probes should meet others."""

_BELIEVED = frozenset({Class.SUCCESS, Class.PERMANENT_TOKEN, Class.PERMANENT_MESSAGE})

_OF_TOKEN = frozenset({Class.AUTH_OR_CONFIG, Class.THROTTLING})
"""Of the reasons that ask for another connection: `ExpiredProviderToken`, `TooManyProviderTokenUpdates`."""


@dataclass(slots=True)
class Verdict:
    """What `Judge.judge` found; every message of its outcomes is in exactly one of the three lists."""

    dispositions: list[Disposition] | Deliveries = field(default_factory=list)
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
    on_disk: Callable[[], None] | None = None
    """Called when all of it is on record and on disk."""

    def record(self, disposition: Disposition) -> None:
        """Add a disposition, where they are not in columns."""
        assert isinstance(self.dispositions, list)
        self.dispositions.append(disposition)

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
        records = accepted(outcomes, peer, now, self._accepted)
        if self._returns:
            for message in records.messages:
                self._returns.pop(message.sequence, None)
        return Verdict(records, done=records.messages, believed=len(records))

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
                verdict.accusation = record_of(outcome, peer, now, Kind.TEMPFAIL, reason)
            self._again(verdict, outcome, peer, now, reason)
        elif action is Action.SUSPEND:
            verdict.suspensions += 1
            if verdict.suspensions == 1:
                verdict.accusation = record_of(outcome, peer, now, Kind.TEMPFAIL, reason)
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
        if self.policy.is_expired(message.part.starts_at, now):
            verdict.done.append(message)
            verdict.record(expire(message, EXCEEDED_TIME, now))
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
        if self._is_suspended and not self.policy.is_expired(message.part.starts_at, now):
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
        if self.policy.is_expired(outcome.message.part.starts_at, now):
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
        due = self.policy.after_failure(message.part.starts_at, attempts, now, wait)
        if isinstance(due, str):
            self._finish(verdict, outcome, peer, now, Kind.PERMFAIL, reason, due)
            return False
        self._returns.pop(message.sequence, None)
        verdict.retries.setdefault((due, attempts), []).append(message)
        verdict.record(record_of(outcome, peer, now, Kind.TEMPFAIL, reason))
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
        verdict.record(record_of(outcome, peer, now, kind, reason, final))


def _are_accepted(outcomes: Sequence[Outcome]) -> bool:
    """Whether each one is a plain 200."""
    return {(outcome.status, outcome.reason) for outcome in outcomes} == {(200, "")}
