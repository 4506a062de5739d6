"""From decoded notifications to drafts for the intake, and from its answers to results in order.

Neighbours that differ in nothing but device token and payload become one draft: their options are then
read once, whatever the number of devices, and a payload that they share is checked once. Places count
notifications of the request from 0; whatever is refused before the intake saw it keeps its place, so
that results come in request order.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from msgspec import UNSET, Raw
from msgspec.structs import astuple

from momentum_push.injection.http_envelope import Envelope, Item, Plain
from momentum_push.message import Draft, Message, Refusal

__all__ = ["FIELD_OF", "Gatherer", "Result"]

Result = Message | Refusal

FIELD_OF = {
    "BadDeviceToken": "device_token",
    "MissingDeviceToken": "device_token",
    "BadPayload": "payload",
    "PayloadEmpty": "payload",
    "PayloadTooLarge": "payload",
    "BadDomain": "domain",
    "MissingDomain": "domain",
    "UnknownDomain": "domain",
    "BadBinding": "binding",
    "UnknownBinding": "binding",
    "BadTopic": "topic",
    "MissingTopic": "topic",
    "TopicDisallowed": "topic",
    "InvalidPushType": "push_type",
    "BadPriority": "priority",
    "BadExpirationDate": "expiration",
    "BadCollapseId": "collapse_id",
    "BadMessageId": "apns_id",
    "BadContext": "context",
    "BadDeliveryDate": "deliver_at",
}
"""Where to look for what a word complains of; other words are about the notification as a whole."""

_DOMAIN = re.compile(r"[A-Za-z0-9_.\-\[\]:]{1,255}")
"""Names that a domain stanza can have (momentum.md 1.6); what else comes would spoil log lines."""


def _judge(domain: str) -> Refusal | None:
    """Judge a domain by its form; whether it is one of ours is the intake's to say."""
    if not domain:
        return Refusal("MissingDomain", 'no routing domain; give "domain" beside the list or in each item')
    if not _DOMAIN.fullmatch(domain):
        return Refusal(
            "BadDomain", "not a domain name; letters, digits, hyphens, underscores and dots make one"
        )
    return None


class _Options(NamedTuple):
    """What a notification has beside token and payload; None: not given."""

    domain: Any
    binding: Any
    topic: Any
    push_type: Any
    priority: Any
    expiration: Any
    collapse_id: Any
    context: Any
    apns_id: Any
    deliver_at: Any


_NO_OPTIONS = (UNSET,) * len(_Options._fields)


class Gatherer:
    """Turns notifications into drafts and keeps the place of those that are refused here.

    `drafts` go to the intake; `results` puts its answers and our refusals back into the order of the
    request.
    """

    def __init__(self, domain: str) -> None:
        """Take the domain of notifications that name none; empty: there is none."""
        self.drafts: list[Draft] = []
        self.refusals: dict[int, Refusal] = {}
        self.count = 0
        self._domain = domain
        self._rest: tuple[object, ...] = ()
        self._options: _Options | Refusal = _Options(*[None] * 10)
        self._payload = b""
        self._draft: Draft | None = None

    def __repr__(self) -> str:
        return (
            f"<Gatherer {self.count} notifications, {len(self.drafts)} drafts, {len(self.refusals)} refused>"
        )

    def add(self, items: Sequence[Item | Refusal]) -> None:
        """Take the next notifications of the request."""
        rest: tuple[Any, ...] = ()
        tokens: list[str] = []
        payloads: list[bytes] = []
        for item in items:
            if type(item) is Refusal:
                self._join(rest, tokens, payloads)
                tokens, payloads = [], []
                self.refusals[self.count] = item
                self.count += 1
                continue
            token, payload, *_ = fields = astuple(item)
            if fields[2:] != rest:
                self._join(rest, tokens, payloads)
                rest, tokens, payloads = fields[2:], [], []
            tokens.append(token)
            payloads.append(bytes(payload))
        self._join(rest, tokens, payloads)

    def add_plain(self, items: Sequence[Plain]) -> None:
        """Take the next notifications of the request, which have no options of their own."""
        self._join(
            _NO_OPTIONS, [item.device_token for item in items], [bytes(item.payload) for item in items]
        )

    def _join(self, rest: tuple[Any, ...], tokens: list[str], payloads: list[bytes]) -> None:
        """Put notifications with the same options into the draft of their neighbours, or begin another.

        Equal payloads in a row become one object.
        """
        if not tokens:
            return
        if rest != self._rest:
            self._rest, self._options, self._draft = rest, self._read(rest), None
        options, draft, last = self._options, self._draft, self._payload
        if isinstance(options, Refusal):
            self.refusals |= dict.fromkeys(range(self.count, self.count + len(tokens)), options)
        elif options.apns_id is not None:  # each needs a draft with an id of its own
            pairs = zip(payloads, tokens, strict=True)
            self.drafts += [_draft(payload, [token], options) for payload, token in pairs]
        else:
            if draft is None:
                draft, last = _draft(payloads[0], [], options), payloads[0]
                self.drafts.append(draft)
            payloads = [last if payload == last else (last := payload) for payload in payloads]
            if draft.payloads is None and payloads.count(draft.payload) < len(payloads):
                draft.payloads = [draft.payload] * len(draft.tokens)
            draft.tokens += tokens
            if draft.payloads is not None:
                draft.payloads += payloads
            self._draft, self._payload = draft, last
        self.count += len(tokens)

    def begin_fan_out(self, envelope: Envelope) -> Draft | Refusal:
        """Return the draft that every token of a one-payload body joins, or why none can."""
        options = self._read(astuple(envelope)[4:])
        if isinstance(options, Refusal):
            return options
        payload = bytes(envelope.payload) if isinstance(envelope.payload, Raw) else b""
        return _draft(payload, [], options)

    def add_tokens(self, draft: Draft | Refusal, tokens: Sequence[str | Refusal]) -> None:
        """Take the next device tokens of a one-payload body."""
        if isinstance(draft, Refusal):
            refused: Iterator[tuple[int, str | Refusal]] = ((place, draft) for place in range(len(tokens)))
        else:
            if not self.drafts:
                self.drafts.append(draft)
            refused = iter(())
            if set(map(type, tokens)) == {str}:
                draft.tokens += tokens  # type: ignore[arg-type]
            else:
                refused = ((place, token) for place, token in enumerate(tokens) if type(token) is not str)
                draft.tokens += [token for token in tokens if type(token) is str]
        for place, refusal in refused:
            if isinstance(refusal, Refusal):
                self.refusals[self.count + place] = refusal
        self.count += len(tokens)

    def _read(self, rest: tuple[Any, ...]) -> _Options | Refusal:
        """Read the optional members, in the order of `Item`."""
        values = [None if value is UNSET else value for value in rest]
        values[0] = domain = (values[0] or self._domain).lower()
        values[7] = values[7] or {}
        return _judge(domain) or _Options(*values)

    def results(self, taken: list[Result]) -> list[Result]:
        """Return one result per notification: the intake's for those it was given, ours for the rest."""
        if not self.refusals:
            return taken
        answers = iter(taken)
        return [self.refusals.get(place) or next(answers) for place in range(self.count)]


def _draft(payload: bytes, tokens: list[str], options: _Options) -> Draft:
    # By position, because this is the hot path: domain, payload, tokens, rcpts, then as in _Options.
    domain, binding, topic, push_type, priority, expiration, collapse_id, context, apns_id, at = options
    return Draft(
        domain, payload, tokens, None, binding, topic, push_type, priority, expiration, collapse_id, apns_id,
        context.copy(), deliver_at=at,
    )  # fmt: skip
