"""The rules, applied: from drafts to messages that may be kept, a bounded number a loop turn.

Wherever a door stands, in the core or in a receiver, its drafts are checked by this code; what comes out
has no number yet and is on no disk (`intake`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from itertools import repeat
from typing import Any, NamedTuple, TypeVar

from momentum_push.clock import Clock
from momentum_push.injection.routing import Routing
from momentum_push.message import LANES, Draft, Home, Message, Origin, Part, QueueKey, Refusal
from momentum_push.message.rules import Content, ContentCheck
from momentum_push.message.token import check_tokens

__all__ = ["SLICE", "Checker", "of_kind"]

SLICE = 500
"""Tokens that one loop turn checks."""


BITE = 50_000
"""Results that one loop turn only looks at: a few milliseconds."""

_T = TypeVar("_T")


async def of_kind(results: Sequence[Any], kind: type[_T]) -> list[_T]:
    """Return those among results that are messages, or refusals; at most BITE a loop turn."""
    found: list[_T] = []
    for start in range(0, len(results), BITE):
        if start:
            await asyncio.sleep(0)
        found += [result for result in results[start : start + BITE] if isinstance(result, kind)]
    return found


class _Maker(NamedTuple):
    """What the messages of one content share."""

    part: Part
    home: Home
    apns_id: str


class Checker:
    """Makes messages of drafts.

    Args:
        salt: of the spool that will keep them.
    """

    def __init__(self, routing: Routing, salt: int, clock: Clock) -> None:
        self.routing = routing
        self._salt = salt
        self._clock = clock

    def is_apn(self, domain: str) -> bool:
        """Whether a recipient domain is delivered to Apple by this daemon."""
        return self.routing.is_apn(domain)

    async def check(self, origin: Origin, drafts: Sequence[Draft]) -> list[Message | Refusal]:
        """Apply the rules to drafts; at most SLICE tokens (or contents) a loop turn."""
        results: list[Message | Refusal] = []
        turn_ends = SLICE
        for draft in drafts:
            if len(results) >= turn_ends:
                await asyncio.sleep(0)
                turn_ends = len(results) + SLICE
            results += await self._check_one(origin, draft)
        return results

    async def _check_one(self, origin: Origin, draft: Draft) -> list[Message | Refusal]:
        """Apply the rules to one draft: its options once, tokens and payloads in slices."""
        route = self.routing.route(draft.binding, draft.domain)
        if isinstance(route, Refusal):
            return [route] * len(draft.tokens)
        key, rules = route
        now = self._clock.now()
        check = ContentCheck(draft, rules, now)
        common: _Maker | None = None
        if draft.payloads is None:
            content = check.check(draft.payload)
            if isinstance(content, Refusal):
                return [content] * len(draft.tokens)
            common = self._maker(origin, draft, content, key, now)
        makers: dict[int, _Maker] = {}  # by id of the content, which `check` keeps
        results: list[Message | Refusal] = []
        for start in range(0, len(draft.tokens), SLICE):
            if start:
                await asyncio.sleep(0)
            tokens = check_tokens(draft.tokens[start : start + SLICE], rules)
            rcpts = draft.rcpts[start : start + SLICE] if draft.rcpts is not None else repeat("")
            if common is not None:
                results += _copies(tokens, draft.payload, common, rcpts)
                continue
            payloads = (draft.payloads or [])[start : start + SLICE]
            contents = check.check_all(payloads)
            for content in {id(content): content for content in contents}.values():
                if id(content) not in makers and isinstance(content, Content):
                    makers[id(content)] = self._maker(origin, draft, content, key, now)
            results += _messages(tokens, payloads, contents, makers, rcpts)
        return results

    def _maker(self, origin: Origin, draft: Draft, content: Content, key: QueueKey, now: float) -> _Maker:
        home = Home(queue=key, lane=_lane(content.priority), due=content.deliver_at or now)
        return _Maker(self._part(origin, draft, content, now), home, content.apns_id)

    def _part(self, origin: Origin, draft: Draft, content: Content, now: float) -> Part:
        return Part(
            received_at=now,
            expiration=content.expiration,
            push_type=content.push_type,
            priority=content.priority,
            topic=content.topic,
            collapse_id=content.collapse_id,
            salt=self._salt,
            protocol=origin.protocol,
            client=origin.client,
            mailfrom=origin.mailfrom if draft.mailfrom is None else draft.mailfrom,
            return_path=draft.return_path,
            conn_id=origin.conn_id,
            batch_id=origin.batch_id,
            context=draft.context,
            conn_context=origin.context,
            size=draft.size,
            deliver_at=content.deliver_at,
        )


def _copies(
    tokens: Sequence[str | Refusal], payload: bytes, maker: _Maker, rcpts: Iterable[str]
) -> list[Message | Refusal]:
    """Return messages, not yet numbered, for one slice of a draft with one payload."""
    part, home, apns_id = maker
    return [
        token if isinstance(token, Refusal) else Message(0, token, payload, part, home, 0, rcpt, apns_id)
        for token, rcpt in zip(tokens, rcpts, strict=False)
    ]


def _messages(
    tokens: Sequence[str | Refusal],
    payloads: Sequence[bytes],
    contents: Sequence[Content | Refusal],
    makers: Mapping[int, _Maker],
    rcpts: Iterable[str],
) -> list[Message | Refusal]:
    """Return messages, not yet numbered, for one slice of a draft; a fault of the content comes first."""
    if len(makers) == 1 and set(map(type, tokens)) == {str} and Refusal not in set(map(type, contents)):
        ((part, home, apns_id),) = makers.values()
        shared = repeat(part), repeat(home), repeat(0), rcpts, repeat(apns_id)
        return list(map(Message, repeat(0), tokens, payloads, *shared))
    results: list[Message | Refusal] = []
    for token, payload, content, rcpt in zip(tokens, payloads, contents, rcpts, strict=False):
        if isinstance(content, Refusal):
            results.append(content)
        elif isinstance(token, Refusal):
            results.append(token)
        else:
            part, home, apns_id = makers[id(content)]
            results.append(Message(0, token, payload, part, home, 0, rcpt, apns_id))
    return results


def _lane(priority: int) -> int:
    """Return the lane of a priority; one that Apple invents later goes by the lane it reaches."""
    if priority in LANES:
        return priority
    return next((lane for lane in LANES if priority >= lane), LANES[-1])
