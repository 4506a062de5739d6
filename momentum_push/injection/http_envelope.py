"""From the JSON of the native API to typed values: strict, and without touching a payload's bytes.

    body ──► Envelope ──► slices of the array ──► Items ──► (http_drafts) Drafts
             top level     100 KB each             typed

Lives here: the shapes, the strictness, the places in error texts. Not here: reading requests, asking
the intake, content rules (payload, topic … are judged by `message.rules`, in words of Apple's).

**Strict without a second parser.** msgspec decodes and checks types in one step and leaves a payload
untouched as `Raw`, but of a key that stands twice it keeps the last. Duplicates are found by counting
quotes: without backslashes, an object text holds exactly two for every key and every string value, so
`counted in the text` equals `expected from what was decoded` if and only if no key was dropped. When
the numbers differ, or a backslash stands outside the payloads, the stdlib's parser (slower by seven
times) reads those keys again and says which one it was. NaN, Infinity, trailing commas, bad UTF-8 and
lone surrogates are refused by msgspec itself; nesting that is too deep ends in RecursionError there.
Payloads: their syntax is checked here, their duplicates, UTF-8 and content by the rules.

**Bounded turns.** One C call holds the interpreter for as long as it takes, in a thread as well, so a
large body is not sent to a thread but decoded in slices. A slice ends where an element seems to end;
the guess is right if and only if the slice then parses, because it began at an element and JSON has one
reading. Only the first look at the whole (`Envelope`, a skip at 1 GB/s) is one step.

Decisions (interfaces.md 4 is silent): `null` means "not given"; keys that we do not know are refused
with the nearest name, since a misspelt `expiraton` would otherwise be lost in silence; one notification
may stand without a list (`device_token` beside `payload`); beside `notifications` only `domain` may
stand; an empty list is an error, for nobody sends one on purpose.
"""

from __future__ import annotations

import asyncio
import difflib
import json
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import msgspec
from msgspec import UNSET, Raw, UnsetType
from msgspec.structs import astuple

from momentum_push.injection.http_answers import RequestRefused
from momentum_push.message import Refusal

__all__ = [
    "OBJECTS",
    "STRINGS",
    "Envelope",
    "Item",
    "Plain",
    "elements",
    "read_envelope",
    "read_item",
    "read_items",
    "read_plain",
    "read_strings",
    "read_tokens",
]

SLICE = 100_000
"""Bytes of an array that are decoded in one turn: about 700 notifications, 0.3 ms."""

MAX_PAYLOAD = 65_536
"""Beyond any limit of Apple's: not worth a look at its content."""

MAX_SEARCH = 1_048_576
"""Bytes that the slow parser may be given at once."""

Text = str | UnsetType | None
Number = int | str | UnsetType | None


class Item(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """One notification; the order of its fields is what `Gatherer` counts on."""

    device_token: str
    payload: Raw
    domain: Text = UNSET
    binding: Text = UNSET
    topic: Text = UNSET
    push_type: Text = UNSET
    priority: Number = UNSET
    expiration: Number = UNSET
    collapse_id: Text = UNSET
    context: dict[str, str] | UnsetType | None = UNSET
    apns_id: Text = UNSET
    deliver_at: Number = UNSET


class Plain(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """A notification without options of its own, as most of a large request are; it is read far faster."""

    device_token: str
    payload: Raw


class Envelope(msgspec.Struct, forbid_unknown_fields=True):
    """The top level of a JSON body, in all its forms."""

    notifications: Raw | UnsetType = UNSET
    device_tokens: Raw | UnsetType = UNSET
    device_token: Text = UNSET
    payload: Raw | UnsetType = UNSET
    domain: Text = UNSET
    binding: Text = UNSET
    topic: Text = UNSET
    push_type: Text = UNSET
    priority: Number = UNSET
    expiration: Number = UNSET
    collapse_id: Text = UNSET
    context: dict[str, str] | UnsetType | None = UNSET
    apns_id: Text = UNSET
    deliver_at: Number = UNSET


_ENVELOPE = msgspec.json.Decoder(Envelope)
_ITEM = msgspec.json.Decoder(Item)
_ITEMS = msgspec.json.Decoder(list[Item])
_PLAINS = msgspec.json.Decoder(list[Plain])
_TOKENS = msgspec.json.Decoder(list[str])
_RAWS = msgspec.json.Decoder(list[Raw])
_STRING = msgspec.json.Decoder(str)

_BAD = {
    "device_token": "BadDeviceToken",
    "device_tokens": "BadDeviceToken",
    "payload": "BadPayload",
    "domain": "BadDomain",
    "binding": "BadBinding",
    "topic": "BadTopic",
    "push_type": "InvalidPushType",
    "priority": "BadPriority",
    "expiration": "BadExpirationDate",
    "collapse_id": "BadCollapseId",
    "apns_id": "BadMessageId",
    "context": "BadContext",
    "deliver_at": "BadDeliveryDate",
}
"""The word for a value of the wrong type, by its key."""

_MISSING = {"device_token": "MissingDeviceToken", "payload": "PayloadEmpty"}

_COMPLAINT = re.compile(r"(?P<what>.*?)(?: - at `\$(?P<path>[^`]*)`)?", re.DOTALL)
_NAME = re.compile(r"`([^`]*)`")


# --- complaints ------------------------------------------------------------------------------------


def _field_complaint(error: Exception, place: str, fields: Sequence[str]) -> Refusal:
    """Put msgspec's words into ours: the word by the key, the place within the request."""
    match = _COMPLAINT.fullmatch(str(error))
    assert match is not None  # the pattern takes every text
    what, path = match["what"].replace("`", '"'), match["path"] or ""
    named = _NAME.search(str(error))
    name = named[1] if named else ""
    if "unknown field" in what:
        near = difflib.get_close_matches(name, fields, 1)
        hint = f'did you mean "{near[0]}"?' if near else "known are " + ", ".join(fields)
        return Refusal("UnknownKey", f'{place}{path}: unknown key "{name[:40]}"; {hint}')
    if "missing required field" in what:
        return Refusal(_MISSING.get(name, "BadRequest"), f'{place}{path}: "{name}" is missing')
    key = re.split(r"[.\[]", path.removeprefix("."), maxsplit=1)[0]
    return Refusal(_BAD.get(key, "BadRequest"), f"{place}{path}: {what[:1].lower()}{what[1:]}")


def _complaint(error: Exception, place: str, fields: Sequence[str]) -> Refusal:
    if isinstance(error, msgspec.ValidationError):
        return _field_complaint(error, place, fields)
    if isinstance(error, RecursionError):
        return Refusal("BadJson", f"{place}: nested too deeply")
    if isinstance(error, UnicodeDecodeError):
        return Refusal("BadJson", f"{place}: not valid UTF-8 ({error.reason})")
    return Refusal("BadJson", f"{place}: {error}")


T = TypeVar("T")

_FAULTS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_Pairs = list[tuple[str, Any]]


class _Object(list[tuple[str, Any]]):
    """An object as its pairs, as the stdlib's parser met them."""


def _repeated(pairs: Any) -> str | None:
    """Return a key that stands twice in `pairs`, if they are an object's."""
    if not isinstance(pairs, _Object):
        return None
    seen: set[str] = set()
    for key, _ in pairs:
        if key in seen:
            return key
        seen.add(key)
    return None


def _duplicate(text: bytes, place: str) -> Refusal | None:
    """Look at the keys of one object and of its `context` with a parser that shows them all."""
    try:
        pairs = json.loads(text, object_pairs_hook=_Object)
    except RecursionError as error:
        return _complaint(error, place, ())
    except ValueError as error:
        # msgspec read it and the other parser does not: a number of 5,000 digits, say. Not worth a guess.
        return Refusal("BadJson", f"{place}: {str(error)[:120]}")
    if (key := _repeated(pairs)) is not None:
        return Refusal("DuplicateKey", f'{place}: key "{key[:40]}" stands twice; keep one')
    inner = next((value for key, value in pairs if key == "context"), None)
    if (key := _repeated(inner)) is not None:
        return Refusal("DuplicateKey", f'{place}.context: key "{key[:40]}" stands twice; keep one')
    return None


def _quotes(values: Sequence[object]) -> int:
    """Return how many quotes the text of these optional members holds, keys included."""
    count = 0
    for value in values:
        if value is UNSET:
            continue
        count += 2
        if type(value) is str:
            count += 2
        elif type(value) is dict:
            count += 4 * len(value)
    return count


def _is_exact(items: Sequence[Item], text: bytes) -> bool:
    """Whether what was decoded accounts for every quote of `text`, and no backslash is outside a payload."""
    payloads = b"".join([item.payload for item in items])
    quotes = 6 * len(items) + payloads.count(b'"')  # of two required keys and the token itself; of payloads
    known: tuple[object, ...] = ()
    known_quotes = 0
    for item in items:
        rest = astuple(item)[2:]
        if rest != known:
            known, known_quotes = rest, _quotes(rest)
        quotes += known_quotes
    return quotes == text.count(b'"') and payloads.count(b"\\") == text.count(b"\\")


# --- the top level ---------------------------------------------------------------------------------


def _cut_out(text: bytes, raws: Sequence[Raw]) -> bytes | None:
    """Return `text` with the values `raws`, which were decoded from there, replaced by 0.

    msgspec does not tell where a Raw began, so it is searched. A list may have a twin inside the payload;
    cut out there, the payload is not found any more, and the next place is tried.
    """
    if not raws:
        return text
    view = memoryview(raws[0])
    head = bytes(view[:64])
    start = -1
    for _ in range(16):  # more twins are an attack on this search
        start = text.find(head, start + 1)
        if start < 0:
            break
        if all(text[start + at : start + end] == bytes(view[at:end]) for at, end in _pieces(len(view))):
            rest = _cut_out(text[:start] + b"0" + text[start + len(view) :], raws[1:])
            if rest is not None:
                return rest
    return None


def _size(raw: Raw) -> int:
    return len(memoryview(raw))


def _pieces(size: int) -> Iterator[tuple[int, int]]:
    for at in range(0, size, SLICE):
        yield at, min(at + SLICE, size)


async def read_envelope(text: bytes) -> Envelope:
    """Decode the top level of a body; arrays and payload stay text. The loop has a turn where that is large.

    Raises:
        RequestRefused: 400, with the place.
    """
    if len(text) > MAX_SEARCH:
        await asyncio.sleep(0)  # it has just been put together
    try:
        envelope = _ENVELOPE.decode(text)
    except _FAULTS as error:
        refusal = _complaint(error, "$", Envelope.__struct_fields__)
        raise RequestRefused(400, refusal.error, refusal.detail) from None
    if len(text) > MAX_SEARCH:
        await asyncio.sleep(0)
    values = astuple(envelope)
    _check_form(envelope, values)
    duplicate = _large_duplicate(text, values) if len(text) > SLICE else _small_duplicate(text, values)
    if duplicate is not None:
        raise RequestRefused(400, duplicate.error, duplicate.detail)
    return envelope


def _small_duplicate(text: bytes, values: Sequence[object]) -> Refusal | None:
    """Count the quotes of the whole, and take those of arrays and payload off."""
    quotes, slashes = text.count(b'"') - _quotes(values), text.count(b"\\")
    for value in values:
        if type(value) is Raw:
            raw = bytes(value)
            quotes -= raw.count(b'"')
            slashes -= raw.count(b"\\")
    return _duplicate(text, "$") if quotes or slashes else None


def _large_duplicate(text: bytes, values: Sequence[object]) -> Refusal | None:
    """Look at what is left when arrays and payload are cut out; the largest first leaves little to search."""
    raws = sorted((value for value in values if isinstance(value, Raw)), key=_size, reverse=True)
    rest = _cut_out(text, raws)
    if rest is None and len(text) > MAX_SEARCH:
        return Refusal("BadRequest", "$: members repeat each other; send each value once")
    if rest is None or rest.count(b'"') != _quotes(values) or b"\\" in rest:
        return _duplicate(text if rest is None else rest, "$")
    return None


def _check_form(envelope: Envelope, values: Sequence[object]) -> None:
    """See that the members make up one of the forms."""
    is_list = envelope.notifications is not UNSET
    if is_list and values.count(UNSET) == len(values) - 1 - (envelope.domain is not UNSET):
        return
    if not is_list and (envelope.device_tokens is UNSET) != (envelope.device_token is UNSET):
        _check_payload(envelope)
        return
    given = [
        name for name, value in zip(Envelope.__struct_fields__, values, strict=True) if value is not UNSET
    ]
    lists = [name for name in ("notifications", "device_tokens", "device_token") if name in given]
    if not lists:
        what = '$: neither "notifications" nor "device_tokens" is there; see /openapi.json'
        raise RequestRefused(400, "BadRequest", what)
    if len(lists) > 1:
        what = f'$: "{lists[0]}" and "{lists[1]}" cannot stand together; keep one'
        raise RequestRefused(400, "BadRequest", what)
    beside = next(name for name in given if name not in ("notifications", "domain"))
    what = f'$.{beside}: cannot stand beside "notifications"; put it into each of them'
    raise RequestRefused(400, "BadRequest", what)


def _check_payload(envelope: Envelope) -> None:
    """See that the one payload of a body is there, and worth a look."""
    if not isinstance(envelope.payload, Raw):
        raise RequestRefused(400, "PayloadEmpty", '$: "payload" is missing')
    if _size(envelope.payload) > MAX_PAYLOAD:
        raise RequestRefused(400, "PayloadTooLarge", f"$.payload: more than {MAX_PAYLOAD} bytes")


# --- arrays, in slices -----------------------------------------------------------------------------


def elements(
    raw: Raw, end: re.Pattern[bytes], place: str, read: Callable[[bytes], T | None]
) -> Iterator[tuple[bytes, T | None]]:
    """Cut the text of an array into texts of smaller arrays, in order, each about SLICE bytes.

    Args:
        raw: a JSON value that was read once, so its syntax is right; an array is expected.
        end: what stands between two elements; its first byte belongs to the first of them.
        place: for the complaint.
        read: makes what is usual of such a text; None where it is not usual, or no array.

    Yields:
        The text, and what `read` made of it.

    Raises:
        RequestRefused: 400, no array.
    """
    view = memoryview(raw)
    if bytes(view[:1]) != b"[":
        raise RequestRefused(400, "BadRequest", f"{place}: expected an array")
    at, size, stop = 1, SLICE, len(view) - 1
    while stop - at > size:
        text = bytes(view[at : at + size])
        for match in list(end.finditer(text, max(0, len(text) - 20_000)))[:-9:-1]:
            array = b"[" + text[: match.start() + 1] + b"]"
            found = read(array)
            if found is not None or _is_array(array):
                yield array, found
                at, size = at + match.end(), SLICE
                break
        else:
            size *= 2  # one huge element, or what looks like an end was inside one
    array = b"[" + bytes(view[at:stop]) + b"]"
    yield array, read(array)


def _is_array(text: bytes) -> bool:
    try:
        _RAWS.decode(text)
    except _FAULTS:
        return False
    return True


OBJECTS = re.compile(rb"\}\s*,")
STRINGS = re.compile(rb'"\s*,')


def read_strings(text: bytes) -> list[str] | None:
    """Decode an array of strings; None where it is something else."""
    try:
        return _TOKENS.decode(text)
    except _FAULTS:
        return None


def read_tokens(text: bytes, first: int) -> list[str | Refusal]:
    """Decode an array of device tokens; what is no string becomes its own refusal."""
    return [_read_token(bytes(raw), first + place) for place, raw in enumerate(_RAWS.decode(text))]


def _read_token(text: bytes, place: int) -> str | Refusal:
    try:
        return _STRING.decode(text)
    except _FAULTS as error:
        refusal = _complaint(error, f"$.device_tokens[{place}]", ())
        return Refusal("BadDeviceToken", refusal.detail)


def read_plain(text: bytes) -> list[Plain] | None:
    """Decode an array of notifications without options; None where it holds anything else, or a key twice."""
    try:
        items = _PLAINS.decode(text)
    except _FAULTS:
        return None
    payloads = b"".join([item.payload for item in items])
    is_exact = 6 * len(items) + payloads.count(b'"') == text.count(b'"')  # as in `_is_exact`
    return items if is_exact and payloads.count(b"\\") == text.count(b"\\") else None


def read_items(text: bytes, first: int) -> Sequence[Item | Refusal]:
    """Decode an array of notifications; `first` is the place of the first one in the request."""
    try:
        items = _ITEMS.decode(text)
        if _is_exact(items, text):
            return items
    except _FAULTS:
        pass  # told apart below, one by one
    raws = _RAWS.decode(text)  # cannot fail: the syntax of the whole was checked with the envelope
    return [read_item(bytes(raw), f"$.notifications[{first + place}]") for place, raw in enumerate(raws)]


def read_item(text: bytes, place: str) -> Item | Refusal:
    """Decode one notification; `place` begins the complaint."""
    try:
        item = _ITEM.decode(text)
    except _FAULTS as error:
        return _complaint(error, place, Item.__struct_fields__)
    if _is_exact((item,), text):
        return item
    return _duplicate(text, place) or item
