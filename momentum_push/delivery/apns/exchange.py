"""One request under way, and how its end becomes an outcome.

Lives here: what is remembered of a request between its last byte and its answer, under 300 bytes of it,
and the reading of an answer into values. Which end a request has come to is `wire`'s to say.
"""

from __future__ import annotations

import msgspec

from momentum_push.delivery.apns.response import read_body, read_retry_after
from momentum_push.message import Message, Outcome, Phase

__all__ = ["Exchange"]

MAX_BODY = 4096
"""Bytes kept of an answer's body; a reason needs a hundred."""


class Exchange(msgspec.Struct, gc=False):
    """One request under way."""

    message: Message
    sent_at: float
    size: int
    """Bytes of names, values and body."""
    status: int = 0
    """Of the answer; 0: none yet."""
    retry_after: bytes = b""
    body: bytes = b""
    credit: int = 0
    """Bytes by which the peer has opened its window for this request."""

    def add(self, data: bytes) -> None:
        """Keep a piece of the answer's body."""
        if len(self.body) < MAX_BODY:
            self.body += data

    def answer(self, now: float, epoch: float) -> Outcome:
        """Return what the answer says; `epoch` is wall clock minus monotonic, for dates in it."""
        reason, unregistered_at = read_body(self.body) if self.body else ("", 0)
        return Outcome(
            self.message,
            Phase.ANSWERED,
            self.status,
            reason,
            unregistered_at,
            read_retry_after(self.retry_after, epoch + now) if self.retry_after else 0.0,
            self.size,
            now - self.sent_at,
        )

    def end(self, phase: Phase, why: str, now: float) -> Outcome:
        """Return the outcome of a request without an answer."""
        return Outcome(self.message, phase, reason=why, size=self.size, seconds=now - self.sent_at)
