"""Which of the messages that were taken from a queue may be sent now; what becomes of the others.

    taken ──► expired? ──────────────► P                    (queues.schedule)
          ──► a newer one known? ────► P                    (queues.collapse)
          ──► token held? ───────────► to a new list, due when the token is free; no attempt, no record
          ──► sent

`TooManyRequests` is about one device token and says nothing of the queue (interfaces.md 2, "Retry"): until
the message that met it is tried again, the others to that token wait, too, and nobody else does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from momentum_push.delivery.records import expire
from momentum_push.delivery.verdict import Judge, Verdict
from momentum_push.message import Message, Outcome
from momentum_push.queues import Queue

__all__ = ["MAX_TOKENS", "Screening", "TokenHolds"]

MAX_TOKENS = 10_000
"""Tokens of one queue that are held at once; beyond that the one that was held first is let go."""

TOO_MANY = "TooManyRequests"


class TokenHolds:
    """Device tokens that Apple wants left alone for a while."""

    def __init__(self, limit: int = MAX_TOKENS) -> None:
        self._limit = limit
        self._until: dict[str, float] = {}

    def __len__(self) -> int:
        """How many are held, those included whose time has passed unasked."""
        return len(self._until)

    def hold(self, token: str, until: float) -> None:
        """Leave a token alone until `until` (epoch seconds), or longer when it is held for longer."""
        until = max(until, self._until.pop(token, until))
        self._until[token] = until
        if len(self._until) > self._limit:
            del self._until[next(iter(self._until))]

    def until(self, token: str, now: float) -> float:
        """Return until when a token is held; 0: it is not."""
        until = self._until.get(token, 0.0)
        if until and until <= now:
            del self._until[token]
            return 0.0
        return until


class Screening:
    """The gate of one queue.

    Args:
        settle: carries a verdict out.
    """

    def __init__(self, queue: Queue, judge: Judge, settle: Callable[[Verdict], None]) -> None:
        self._queue, self._judge, self._settle = queue, judge, settle
        self._holds = TokenHolds()

    def __repr__(self) -> str:
        return f"<Screening {len(self._holds)} tokens held>"

    def sift(self, messages: list[Message], now: float) -> list[Message]:
        """Return what may be attempted; the rest is recorded, or put off, and done with here."""
        has_holds = len(self._holds) > 0
        if not has_holds and self._are_fit(messages, now):
            return messages
        verdict = Verdict()
        fit: list[Message] = []
        for message in messages:
            text = self.final_for(message, now)
            if text is not None:
                verdict.done.append(message)
                verdict.record(expire(message, text, now))
            elif has_holds and (until := self._holds.until(message.token, now)):
                verdict.retries.setdefault((until, message.home.attempts), []).append(message)
            else:
                fit.append(message)
        if len(fit) < len(messages):
            self.forget(verdict.left)
            self._settle(verdict)
        return fit

    def _are_fit(self, messages: list[Message], now: float) -> bool:
        """Whether all may be attempted, as is usual: asked once for each part, where that is enough."""
        forbids, collapses = self._judge.policy.forbids, self._queue.collapse is not None
        parts = {id(message.part): message.part for message in messages}
        return not any(
            (part.collapse_id and collapses) or forbids(part.starts_at, part.expiration, now)
            for part in parts.values()
        )

    def final_for(self, message: Message, now: float) -> str | None:
        """Return why a message may not be attempted any more, None when it may."""
        part = message.part
        text = self._judge.policy.forbids(part.starts_at, part.expiration, now)
        if text is None and part.collapse_id and self._queue.collapse is not None:
            return self._queue.collapse.final(message)
        return text

    def forget(self, messages: Iterable[Message]) -> None:
        """Hear of messages that end, or go back to the disk, without an outcome."""
        for message in messages:
            self._judge.forget(message)

    def learn(self, outcomes: Sequence[Outcome], verdict: Verdict) -> None:
        """See which tokens Apple wants left alone, and until when their messages are put off."""
        if not verdict.retries:
            return
        met = {id(item.message) for item in outcomes if item.reason == TOO_MANY}
        for (due, _), messages in verdict.retries.items() if met else ():
            for message in messages:
                if id(message) in met:
                    self._holds.hold(message.token, due)
