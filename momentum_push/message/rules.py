"""What a sender may ask for: every rule for headers and payload before acceptance (apns.md 2 and 3.5).

Lives here: the rules as the configuration sets them, and the check of everything that the devices of
one injection share. Not here: tokens (`token`), what a body must hold (`payload`), Apple's table of
push types (`push_types`). What Apple would answer with a permanent error is refused at the door, with
Apple's word, and with the place.

What a header that is left out means, in this order:

    topic         the configuration's (`Content.topic` stays empty, so that a reload may change it)
    push type     `apn_push_type`; else by the suffix of the topic; else by the payload; else `alert`
    priority      `apn_priority`; `background` is always 5 (rule 5 of apns.md 3.5: forced, not refused)
    expiration    `apn_expiry` seconds from when it is to be sent, an absolute time; 0: one attempt at Apple
    deliver at    now, which is also what a time that is past means
    collapse id   none;  apns-id: made by us

Decisions. `apn_strict_payload = false` turns off the rules for payloads only: size, JSON and headers are
always checked, for a header line with a line end in it is an attack and a bad priority helps nobody.
Values come from SMTP headers as text and from JSON as numbers; both are taken, booleans and floats
are not. A given but empty value is refused like any other bad one. An expiration that is already past is
refused: nothing would be sent (apns.md 2.4). `apn_topics` is about topics that messages name: the
configuration's own topic needs no permission.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec

from momentum_push.message.envelope import Draft, Refusal
from momentum_push.message.payload import (
    are_payloads_sound,
    check_payload,
    guess_push_type,
    guess_push_types,
    read_payload,
    read_payloads,
)
from momentum_push.message.push_types import (
    PUSH_TYPES,
    PushType,
    effective_topic,
    push_type_of_topic,
    suits_topic,
)

__all__ = ["Content", "ContentCheck", "Rules", "check_content", "effective_topic"]

MAX_AHEAD_S = 30 * 86_400
"""How far ahead a message may be scheduled; whoever wants more keeps a calendar."""

MAX_EXPIRATION = 253_402_300_799
"""The last second of the year 9999; beyond it somebody counted milliseconds."""

_MAX_BYTES = max(row.max_bytes for row in PUSH_TYPES.values())
_is_uuid = re.compile(r"[0-9A-Fa-f]{8}-(?:[0-9A-Fa-f]{4}-){3}[0-9A-Fa-f]{12}").fullmatch
_is_topic = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]{0,254}").fullmatch
# Printable ASCII; a header value that begins or ends with a blank is malformed (RFC 9113 section 8.2.1).
_is_collapse_id = re.compile(r"[!-~](?:[ -~]{0,62}[!-~])?").fullmatch
_is_digits = re.compile(r"[0-9]{1,19}").fullmatch
_GIANT = 10**19
_BREAKERS = re.compile(r"[\r\n\0]")


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules of one (binding, domain), as its options say (interfaces.md 2)."""

    default_topic: str = ""
    """`apn_topic`, or the certificate's; empty: not known before sending."""
    topics: frozenset[str] = frozenset()
    """`apn_topics`; empty: any."""
    push_type: str = ""
    """`apn_push_type`; empty: worked out."""
    priority: int = 10
    expiry: int = 604800
    """Seconds from injection; 0: one attempt at Apple."""
    is_strict: bool = True
    extra_push_types: frozenset[str] = frozenset()
    """`apn_push_types`: taken as they are, with any topic and priority."""
    max_token_digits: int = 512


class Content(msgspec.Struct, frozen=True):
    """What the messages of one draft share, checked and complete."""

    topic: str
    """The topic that the message named; empty when the configuration's is meant."""
    push_type: str
    priority: int
    expiration: int
    """Absolute epoch seconds; 0: one attempt at Apple."""
    collapse_id: str
    apns_id: str
    """Lower case; empty: to be made by us."""
    deliver_at: float = 0.0
    """Epoch seconds, in the future; 0: at once."""


class _Refused(Exception):
    """Leaves the nested checks with the first fault; never leaves this module."""

    def __init__(self, error: str, detail: str) -> None:
        self.refusal = Refusal(error, detail)


def check_content(draft: Draft, rules: Rules, now: float) -> Content | Refusal:
    """Check all of a draft but its tokens; the first fault that is found is the answer.

    Args:
        draft: nothing in it has been checked.
        rules: of its binding and domain.
        now: epoch seconds; relative expiry counts from here.

    Returns:
        The content, or the refusal with Apple's word where one fits, `BadPayload` for bad JSON and
        for payloads against the rules.
    """
    return ContentCheck(draft, rules, now).check(draft.payload)


class ContentCheck:
    """The options of one draft, and the payloads that go with them, each checked as by `check_content`.

    Payloads share one `Content` object, so that a thousand of them cost a look at each and no more: what
    the options come to depends on a payload only by the push type that it shows.
    """

    def __init__(self, draft: Draft, rules: Rules, now: float) -> None:
        self._draft, self._rules, self._now = draft, rules, now
        self._headers: dict[str, _Headers | Refusal] = {}
        self._is_guessing = draft.push_type is None and not rules.push_type
        self._named: str | Refusal
        try:
            self._named = _check_topic(draft.topic)
        except _Refused as fault:
            self._named = fault.refusal

    def check(self, payload: bytes) -> Content | Refusal:
        """Return the content of one payload, or its first fault."""
        if not 0 < len(payload) <= _MAX_BYTES:  # before anybody reads it
            return _wrong_size(payload, _MAX_BYTES)
        if isinstance(self._named, Refusal):
            return self._named
        tree = read_payload(payload)
        if isinstance(tree, Refusal):
            return tree
        shown = guess_push_type(tree) if self._is_guessing else ""
        headers = self._headers_of(self._named, shown)
        if isinstance(headers, Refusal):
            return headers
        if len(payload) > headers.max_bytes:
            return _wrong_size(payload, headers.max_bytes)
        if self._rules.is_strict and (
            refusal := check_payload(tree, headers.content.push_type, headers.topic)
        ):
            return refusal
        return headers.content

    def check_all(self, payloads: Sequence[bytes]) -> list[Content | Refusal]:
        """Return for each of many payloads what `check` would; half as dear where all of them are good."""
        content = self._check_together(payloads)
        return [content] * len(payloads) if content else [self.check(payload) for payload in payloads]

    def _check_together(self, payloads: Sequence[bytes]) -> Content | None:
        """Return the content of all; None: one of them is refused, or they are not alike."""
        if isinstance(self._named, Refusal) or not all(payloads):
            return None
        longest = max(map(len, payloads))
        if longest > _MAX_BYTES or (trees := read_payloads(payloads)) is None:
            return None
        shown = set(guess_push_types(trees)) if self._is_guessing else {""}
        headers = self._headers_of(self._named, shown.pop())
        if shown or isinstance(headers, Refusal) or longest > headers.max_bytes:
            return None
        if self._rules.is_strict and not are_payloads_sound(trees, headers.content.push_type):
            return None
        return headers.content

    def _headers_of(self, named: str, shown: str) -> _Headers | Refusal:
        """Return the options as they are for a payload that shows a push type, or empty: none."""
        headers = self._headers.get(shown)
        if headers is None:
            try:
                headers = _check_headers(self._draft, self._rules, self._now, named, shown)
            except _Refused as fault:
                headers = fault.refusal
            self._headers[shown] = headers
        return headers


class _Headers(NamedTuple):
    """What the options of a draft come to."""

    content: Content
    topic: str
    """As it will be sent; empty: not known yet."""
    max_bytes: int


def _check_headers(draft: Draft, rules: Rules, now: float, named: str, shown: str) -> _Headers:
    push_type = _check_push_type(draft.push_type, rules, named, shown)
    row = PUSH_TYPES.get(push_type) or PushType(push_type)
    topic = effective_topic(named, rules.default_topic, push_type)
    if topic:
        _check_agreement(topic, named, rules, push_type)
    deliver_at = 0 if draft.deliver_at is None else _check_deliver_at(draft.deliver_at, now)
    content = Content(
        topic=named,
        push_type=push_type,
        priority=_check_priority(draft.priority, rules.priority, row),
        expiration=_check_expiration(draft.expiration, rules.expiry, now, deliver_at or now),
        collapse_id="" if draft.collapse_id is None else _check_collapse_id(draft.collapse_id),
        apns_id="" if draft.apns_id is None else _check_apns_id(draft.apns_id, len(draft.tokens)),
        deliver_at=deliver_at,
    )
    return _Headers(content, topic, row.max_bytes)


def _wrong_size(payload: bytes, max_bytes: int) -> Refusal:
    if not payload:
        return Refusal("PayloadEmpty", "payload: empty; a JSON object is needed")
    return Refusal("PayloadTooLarge", f"payload: {len(payload)} bytes; at most {max_bytes} are allowed")


def _say(value: Any) -> str:
    """Return a sender's value as a refusal may repeat it: one line of ASCII, short.

    Containers and giants are named, not shown: to write them out may take long or fail.
    """
    if not isinstance(value, str | float | bool | None) and not (
        isinstance(value, int) and -_GIANT < value < _GIANT
    ):
        return f"a value of type {type(value).__name__}"
    text = ascii(value)
    return text if len(text) <= 40 else text[:40] + "…"


def _text(match: Callable[[str], object], error: str, header: str, value: Any, must: str) -> str:
    """Take a header's value that must be text of a form; line ends and NUL get words of their own."""
    if isinstance(value, str):
        if match(value):
            return value
        if _BREAKERS.search(value):
            must = "CR, LF and NUL cannot stand in a header"
    raise _Refused(error, f"{header}: {must}; got {_say(value)}")


def _whole_number(error: str, header: str, value: Any) -> int:
    """Take a header's value that must be a whole number, from JSON or in digits."""
    if type(value) is int and 0 <= value < _GIANT:  # not isinstance: a boolean is no number
        return value
    return int(_text(_is_digits, error, header, value, "must be a whole number >= 0"))


def _check_topic(named: Any) -> str:
    if named is None:
        return ""
    return _text(_is_topic, "BadTopic", "apns-topic", named, "must be a bundle id, with or without a suffix")


def _check_push_type(asked: Any, rules: Rules, named_topic: str, shown: str) -> str:
    if asked is None:
        topic = named_topic or rules.default_topic
        return rules.push_type or push_type_of_topic(topic) or shown or "alert"
    known = PUSH_TYPES.keys() | rules.extra_push_types if rules.extra_push_types else PUSH_TYPES.keys()
    if isinstance(asked, str) and asked in known:
        return asked
    must = f"must be one of {', '.join(sorted(known))}"
    return _text(known.__contains__, "InvalidPushType", "apns-push-type", asked, must)


def _check_agreement(topic: str, named: str, rules: Rules, push_type: str) -> None:
    """Refuse a topic whose suffix is another push type's, or which is not one of `apn_topics`."""
    if not suits_topic(topic, push_type):
        row = PUSH_TYPES[push_type]
        needed = (
            f'needs a topic that ends once with "{row.suffix}"' if row.suffix else "needs the plain bundle id"
        )
        raise _Refused("BadTopic", f'apns-topic: "{topic}" does not agree; push type "{push_type}" {needed}')
    if not named or not rules.topics or named in rules.topics:
        return
    if named != effective_topic("", rules.default_topic, push_type):
        raise _Refused("TopicDisallowed", f'apns-topic: "{named}" is not one of the topics of this domain')


def _check_priority(asked: Any, default: int, row: PushType) -> int:
    priority = default if asked is None else _whole_number("BadPriority", "apns-priority", asked)
    if priority not in (10, 5, 1):
        raise _Refused("BadPriority", f"apns-priority: must be 10, 5 or 1; got {priority}")
    if len(row.priorities) == 1:
        return row.priorities[0]
    if priority not in row.priorities:
        allowed = " or ".join(map(str, row.priorities))
        raise _Refused(
            "BadPriority", f'apns-priority: push type "{row.name}" takes {allowed}; got {priority}'
        )
    return priority


def _check_deliver_at(asked: Any, now: float) -> int:
    """Return when to send, 0 for now."""
    deliver_at = _whole_number("BadDeliveryDate", "deliver_at", asked)
    if deliver_at > now + MAX_AHEAD_S:
        what = f"must be seconds since 1970, at most 30 days ahead; got {_say(deliver_at)}"
        raise _Refused("BadDeliveryDate", f"deliver_at: {what}")
    return deliver_at if deliver_at > now else 0


def _check_expiration(asked: Any, expiry: int, now: float, start: float) -> int:
    """Return the expiration of a message that is to be sent at `start`."""
    if asked is None:
        return int(start) + expiry if expiry else 0
    expiration = _whole_number("BadExpirationDate", "apns-expiration", asked)
    if not 0 <= expiration <= MAX_EXPIRATION:
        what = f"must be seconds since 1970, not milliseconds; got {_say(expiration)}"
        raise _Refused("BadExpirationDate", f"apns-expiration: {what}")
    if 0 < expiration <= start:
        what = "is past" if start == now else f"is not after deliver_at, {start:.0f}"
        raise _Refused("BadExpirationDate", f"apns-expiration: {expiration} {what}; nothing would be sent")
    return expiration


def _check_collapse_id(asked: Any) -> str:
    must = "must be 1 to 64 bytes of printable ASCII"
    return _text(_is_collapse_id, "BadCollapseId", "apns-collapse-id", asked, must)


def _check_apns_id(asked: Any, devices: int) -> str:
    apns_id = _text(_is_uuid, "BadMessageId", "apns-id", asked, "must be a UUID in the form 8-4-4-4-12")
    if devices > 1:
        raise _Refused("BadMessageId", f"apns-id: one id cannot stand for {devices} devices; leave it out")
    return apns_id.lower()
