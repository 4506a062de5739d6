"""An intake for the tests of the doors: the real one's promises, kept in memory.

It checks little (a token's form, a payload's size), gives out real messages, remembers what was
accepted, and fails or waits when told to.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence

from momentum_push.errors import InjectionError
from momentum_push.message import (
    Cancel,
    Cancelled,
    Draft,
    Message,
    MessageList,
    Origin,
    Part,
    QueueKey,
    Refusal,
    short_token,
)
from momentum_push.message.keys import Key

__all__ = ["DOMAIN", "Busy", "FakeIntake"]

DOMAIN = "com.example.news.apns"


class Busy(InjectionError):
    """What the intake raises when it is over its budget or stopping."""

    def __init__(self, retry_after_s: float = 1.0) -> None:
        self.retry_after_s = retry_after_s
        super().__init__("ServiceUnavailable", "intake: over its memory budget; try again later")


class FakeIntake:
    """Takes drafts as `injection.intake.Intake` does.

    `calls` holds (origin, drafts) of every call, `accepted` the messages that were queued. Set `failure` to
    an exception to have it raised, `refuse` to judge tokens otherwise, and `gate` to an unset event to
    hold every commit back; `entered` is set when a call has arrived.
    """

    def __init__(self, domains: Iterable[str] = (DOMAIN,)) -> None:
        self.domains = {domain.lower() for domain in domains}
        self.is_ready = True
        self.calls: list[tuple[Origin, list[Draft]]] = []
        self.keys: list[Key | None] = []
        self.accepted: list[Message] = []
        self.wishes: list[Cancel] = []
        self.cancelled = Cancelled(1, 0)
        self.failure: Exception | None = None
        self.refuse: Callable[[Draft, str], Refusal | None] = refuse_bad_form
        self.gate: asyncio.Event | None = None
        self.entered = asyncio.Event()
        self._sequence = 1 << 40

    def is_apn(self, domain: str) -> bool:
        """Whether mail for `domain` is push."""
        return domain.lower() in self.domains

    async def accept(
        self, origin: Origin, drafts: Sequence[Draft], whole: bool = False, key: Key | None = None
    ) -> list[Message | Refusal]:
        """Take the drafts; one result per token in order, after the "commit"."""
        self.calls.append((origin, list(drafts)))
        self.keys.append(key)
        self.entered.set()
        if self.failure is not None:
            raise self.failure
        if self.gate is not None:
            await self.gate.wait()
        results = [result for draft in drafts for result in self._judge(origin, draft)]
        taken = [result for result in results if isinstance(result, Message)]
        if not whole or len(taken) == len(results):
            self.accepted += taken
        return results

    async def cancel(self, wish: Cancel) -> Cancelled:
        """Note the wish and answer as told."""
        self.wishes.append(wish)
        if self.failure is not None:
            raise self.failure
        return self.cancelled

    def _judge(self, origin: Origin, draft: Draft) -> list[Message | Refusal]:
        part = self._part(origin, draft)
        rcpts = draft.rcpts or [""] * len(draft.tokens)
        queue = QueueKey("default", draft.binding or "default", draft.domain)
        results: list[Message | Refusal] = []
        for token, rcpt in zip(draft.tokens, rcpts, strict=True):
            refusal = self.refuse(draft, token)
            results.append(refusal or self._message(token, rcpt, draft.payload, part, queue))
        return results

    def _part(self, origin: Origin, draft: Draft) -> Part:
        return Part(
            received_at=1_767_600_000.0,
            expiration=1_768_204_800,
            push_type=str(draft.push_type or "alert"),
            priority=10,
            topic=str(draft.topic or ""),
            protocol=origin.protocol,
            client=origin.client,
            mailfrom=origin.mailfrom,
            return_path=draft.return_path,
            conn_id=origin.conn_id,
            context=draft.context,
            conn_context=origin.context,
        )

    def _message(self, token: str, rcpt: str, payload: bytes, part: Part, queue: QueueKey) -> Message:
        self._sequence += 1
        listed = MessageList.gather(queue, 10, part.received_at, [])
        return Message(self._sequence, token, payload, part, listed.home, rcpt=rcpt)


def refuse_bad_form(draft: Draft, token: str) -> Refusal | None:
    """The two refusals that the doors translate in ways of their own."""
    if not token:
        return Refusal("MissingDeviceToken", "no device token given")
    if len(token) % 2 or len(token) < 64 or not all(digit in "0123456789abcdefABCDEF" for digit in token):
        return Refusal(
            "BadDeviceToken", f'device token "{short_token(token)}" is not of hex digits, 64 or more'
        )
    if len(draft.payload) > 4096:
        return Refusal("PayloadTooLarge", f"payload has {len(draft.payload)} bytes, more than 4096")
    return None
