"""What a payload may be: one JSON object, and Apple's words in it used as Apple says (apns.md 3).

Lives here: the checking decode, the type table, the rules by kind, and guessing a push type from a
body. Not here: sizes and headers (`rules`). The bytes themselves are forwarded as they came; what is
decoded here is looked at and thrown away.

The checking decode costs about a microsecond and a half, all of it in C, and two thirds of that where many
payloads are encoded again and counted together (`read_payloads`):

    decode (msgspec)      grammar, UTF-8, lone surrogates, NaN, trailing bytes, numbers out of range
    nesting               no deeper than the `{` and `[` that it has; walked only when these are many
    duplicate keys        the decoder keeps the last of them. So the tree is encoded again and the colons
                          are counted: each key that got lost took at least its own colon along. Only an
                          escaped colon could hide that; a payload with one is read a second time, slowly

Counting colons was chosen among: a decode with `object_pairs_hook` (3 to 5 times slower), counting
keys in Python (twice as slow), and a tokenizer in `re` (as slow as the hook). Only refusals, and the
few payloads that the count cannot judge, pay for the slow reading, which knows the place.

The type table below is both the check and the words of the refusal: a `Shape` is a type for msgspec
and how to say it. Keys that are not in it pass: Apple adds some every year.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from momentum_push.message.envelope import Refusal
from momentum_push.message.push_types import PUSH_TYPES

__all__ = [
    "MAX_DEPTH",
    "are_payloads_sound",
    "check_payload",
    "guess_push_type",
    "guess_push_types",
    "read_payload",
    "read_payloads",
]

MAX_DEPTH = 64
"""Deepest nesting; Apple states none. Enough for any alert, far below what any decoder can take."""

_MAX_QUOTED = 40
"""Characters of the sender's value that a refusal repeats."""

_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode
_encode_lines = msgspec.json.Encoder().encode_lines
_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
_BYTE = re.compile(r" \(byte (\d+)\)$")
_PATH = re.compile(r" - at `\$([^`]*)`$")
_INDEX = re.compile(r"\[[^]]*\]")
_NO_NUMBER = re.compile(rb"NaN|-?Infinity")
_KINDS_OF_JSON = {
    list: "an array",
    str: "text",
    int: "a number",
    float: "a number",
    bool: "true or false",
    type(None): "null",
}


def _bad(detail: str) -> Refusal:
    return Refusal("BadPayload", f"payload: {detail}")


# --- The checking decode -----------------------------------------------------------------------------


def read_payload(payload: bytes) -> dict[str, Any] | Refusal:
    """Decode a payload that is one sound JSON object (apns.md 3.5, rule 1), else say what is wrong where."""
    try:
        tree = _decode(payload)
    except _UNREADABLE as error:
        return _bad(_explain(payload, error))
    if type(tree) is not dict:
        return _bad(f"must be a JSON object; got {_KINDS_OF_JSON[type(tree)]}")
    if payload.count(b"{") + payload.count(b"[") > MAX_DEPTH and _is_too_deep(tree):
        return _bad(f"nested deeper than {MAX_DEPTH} levels; flatten it")
    if _may_repeat_keys(payload, tree):
        place = _find_repeated(json.loads(payload, object_pairs_hook=_Pairs, parse_int=str, parse_float=str))
        if place:
            return _bad(f"{place} stands twice in one object; leave one of them out")
    return tree


def read_payloads(payloads: Sequence[bytes]) -> list[dict[str, Any]] | None:
    """Decode many payloads; None where one of them is to be looked at by itself, as `read_payload` does."""
    try:
        trees = [_decode(payload) for payload in payloads]
        again = _encode_lines(trees)
    except (*_UNREADABLE, OverflowError):
        return None
    if any([type(tree) is not dict for tree in trees]):  # noqa: C419  faster
        return None
    if _may_be_deep(payloads):
        return None
    text = b"\n".join([*payloads, b""])
    if again == text:  # no line of `again` has an end within it, so each payload is as it would be written
        return trees
    # No payload has more colons when it is written again, unless it has an escaped one: so none has fewer.
    return trees if again.count(b":") == text.count(b":") and b"\\u003" not in text else None


def _may_be_deep(payloads: Sequence[bytes]) -> bool:
    """Whether one has more `{` and `[` than the depth that is allowed; eight usual ones have fewer."""
    for start in range(0, len(payloads), 8):
        few = payloads[start : start + 8]
        text = b"".join(few)
        if text.count(b"{") + text.count(b"[") > MAX_DEPTH and any(
            payload.count(b"{") + payload.count(b"[") > MAX_DEPTH for payload in few
        ):
            return True
    return False


def _may_repeat_keys(payload: bytes, tree: dict[str, Any]) -> bool:
    try:
        again = _encode(tree)
    except OverflowError:  # integers beyond 64 bits can be read, but not written again
        return True
    if again == payload:  # it came from an encoder much like this one
        return False
    return again.count(b":") != payload.count(b":") or b"\\u003" in payload


def _is_too_deep(tree: dict[str, Any]) -> bool:
    level: list[Any] = [tree]
    for _ in range(MAX_DEPTH):
        level = [child for node in level for child in _children(node) if isinstance(child, dict | list)]
        if not level:
            return False
    return True


def _children(node: Any) -> Any:
    return node.values() if isinstance(node, dict) else node


class _Pairs(list[tuple[str, Any]]):
    """A JSON object as the slow reading sees it: all its pairs, repeated ones too."""


def _find_repeated(node: Any, path: str = "$") -> str:
    """Return the path of the first key that stands twice; empty for none. Depth is bounded before."""
    if isinstance(node, _Pairs):
        seen: set[str] = set()
        for key, child in node:
            place = f"{path}.{key[:_MAX_QUOTED]}"
            if key in seen:
                return place
            seen.add(key)
            if found := _find_repeated(child, place):
                return found
    elif isinstance(node, list):
        places = (_find_repeated(child, f"{path}[{number}]") for number, child in enumerate(node))
        return next(filter(None, places), "")
    return ""


def _explain(payload: bytes, error: Exception) -> str:
    """Say what the decoder stumbled over, and at which byte (counted from 0)."""
    if isinstance(error, RecursionError):
        return f"nested deeper than {MAX_DEPTH} levels; flatten it"
    try:
        payload.decode()
    except UnicodeDecodeError as fault:
        return f"byte {fault.start}: not UTF-8; encode the payload as UTF-8"
    if isinstance(error, msgspec.ValidationError):  # of an untyped decode: numbers alone
        return "a number in it is out of range; send it as text"
    return _explain_grammar(payload, str(error))


def _explain_grammar(payload: bytes, text: str) -> str:
    """Put the decoder's words into ours; its place may be one byte past the fault, hence "near"."""
    where = _BYTE.search(text)
    if where is None:
        return f"byte {len(payload)}: not JSON, it ends too early"
    place = int(where[1])
    if word := _NO_NUMBER.match(payload, max(0, place - 1)) or _NO_NUMBER.match(payload, place):
        return f"near byte {place}: {word[0].decode()} is not JSON; leave it out or use null"
    what = text[: where.start()].removeprefix("JSON is malformed: ")
    return f"near byte {place}: not JSON, {what}"


def _quote(value: Any) -> str:
    """Return a sender's value as a refusal may repeat it: JSON, short."""
    text = json.dumps(value, ensure_ascii=True, default=str)
    return text if len(text) <= _MAX_QUOTED else text[:_MAX_QUOTED] + "…"


# --- Tables 3.1 to 3.3: types ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Shape:
    """What a value must be: for msgspec, in words, and what is known of the members of an object."""

    type: Any
    words: str
    members: Mapping[str, Shape] = field(default_factory=dict)


def _objects(members: Mapping[str, Shape], also_text: bool) -> Shape:
    """Make the shape of an object with these members, all optional, others free."""
    struct: Any = msgspec.defstruct(
        "Members",
        [(key.replace("-", "_"), shape.type | UnsetType, UNSET) for key, shape in members.items()],
        rename={key.replace("-", "_"): key for key in members},
        gc=False,
    )
    return Shape(
        str | struct if also_text else struct, "text or an object" if also_text else "an object", members
    )


def _one_of(*words: str) -> Shape:
    return Shape(Literal[words], "one of " + ", ".join(words))


_TEXT = Shape(str, "text")
_TEXT_OR_NULL = Shape(str | None, "text or null")
_TEXTS = Shape(list[str], "an array of texts")
_NUMBER = Shape(int | float, "a number")
_WHOLE = Shape(Annotated[int, Meta(ge=0)], "a whole number >= 0")
_UNIT = Shape(Annotated[float, Meta(ge=0, le=1)], "a number from 0 to 1")
_BOOLEAN = Shape(bool, "true or false")
_OBJECT = Shape(dict, "an object")

_ALERT = {
    "title": _TEXT,
    "subtitle": _TEXT,
    "body": _TEXT,
    "launch-image": _TEXT,
    "title-loc-key": _TEXT,
    "title-loc-args": _TEXTS,
    "subtitle-loc-key": _TEXT,
    "subtitle-loc-args": _TEXTS,
    "loc-key": _TEXT,
    "loc-args": _TEXTS,
    "summary-arg": _TEXT,
    "summary-arg-count": _NUMBER,
    "action": _TEXT,
    "action-loc-key": _TEXT_OR_NULL,  # null was the way to ask for an alert with one button
}

_SOUND = {"critical": _NUMBER, "name": _TEXT, "volume": _UNIT}

_APS = {
    "alert": _objects(_ALERT, also_text=True),
    "badge": _WHOLE,
    "sound": _objects(_SOUND, also_text=True),
    "thread-id": _TEXT,
    "category": _TEXT,
    "content-available": _NUMBER,
    "mutable-content": _NUMBER,
    "target-content-id": _TEXT,
    "interruption-level": _one_of("passive", "active", "time-sensitive", "critical"),
    "relevance-score": _UNIT,
    "filter-criteria": _TEXT,
    "content-changed": _BOOLEAN,
    "timestamp": _NUMBER,
    "event": _one_of("start", "update", "end"),
    "content-state": _OBJECT,
    "stale-date": _NUMBER,
    "dismissal-date": _NUMBER,
    "attributes-type": _TEXT,
    "attributes": _OBJECT,
    "input-push-token": _NUMBER,
    "input-push-channel": _TEXT,
    "ptt-push-type": _TEXT,
    "url-args": _TEXTS,
}

# Live Activities: title and body may be localised objects, relevance is any number (apns.md 3.1, 3.2).
_LOCALISED = _objects({"loc-key": _TEXT, "loc-args": _TEXTS}, also_text=True)
_LIVE_ALERT = _objects(_ALERT | {"title": _LOCALISED, "body": _LOCALISED}, also_text=True)

_ANY_APS = _objects(_APS, also_text=False)
_LIVE_APS = _objects(_APS | {"alert": _LIVE_ALERT, "relevance-score": _NUMBER}, also_text=False)
_ANY_LIST, _LIVE_LIST = list[_ANY_APS.type], list[_LIVE_APS.type]  # type: ignore[name-defined]


def _check_types(aps: Any, shape: Shape) -> Refusal | None:
    try:
        msgspec.convert(aps, shape.type)
    except msgspec.ValidationError as error:
        return _name_culprit(aps, shape, str(error))
    return None


def _name_culprit(aps: Any, shape: Shape, text: str) -> Refusal:
    """Follow the path in msgspec's text down the tree and the table at once."""
    where = _PATH.search(text)
    keys = _INDEX.sub("", where[1]).split(".")[1:] if where else []
    value = aps
    for key in keys:
        value, shape = value[key], shape.members[key]
    return _bad(f"{'.'.join(['$.aps', *keys])} must be {shape.words}; got {_quote(value)}")


# --- Rules by kind -----------------------------------------------------------------------------------


def check_payload(tree: Mapping[str, Any], push_type: str, topic: str) -> Refusal | None:
    """Check a decoded payload by Apple's rules (apns.md 3.1 to 3.4, and 3 to 6 of 3.5).

    Args:
        tree: what `read_payload` returned.
        push_type: a type outside the table gets the type check of what it has, and no rule of a kind.
        topic: as it will be sent, empty when unknown; a pass (`pass.…`) may have an empty payload.
    """
    aps = tree.get("aps", UNSET)
    if aps is UNSET:
        return _check_without_aps(tree, push_type, topic)
    refusal = _check_types(aps, _LIVE_APS if push_type == "liveactivity" else _ANY_APS)
    if refusal is None and (check := _KINDS.get(push_type)):
        return check(aps)
    return refusal


def are_payloads_sound(trees: Sequence[Mapping[str, Any]], push_type: str) -> bool:
    """Whether `check_payload` has nothing to say of any of these; False also where it has to be asked."""
    found = [tree.get("aps", UNSET) for tree in trees]
    check = _KINDS.get(push_type)
    try:
        msgspec.convert(found, _LIVE_LIST if push_type == "liveactivity" else _ANY_LIST)
    except msgspec.ValidationError:
        return False
    return check is None or all(check(aps) is None for aps in found)


def _check_without_aps(tree: Mapping[str, Any], push_type: str, topic: str) -> Refusal | None:
    row = PUSH_TYPES.get(push_type)
    if row is None or push_type == "fileprovider" or (topic.startswith("pass.") and not tree):
        return None
    if row.needs_aps:
        return _bad(f'$.aps is missing; a push of type "{push_type}" needs an "aps" object')
    if not isinstance(tree.get("mdm"), str):
        return _bad('$.mdm must be text (the PushMagic); a push of type "mdm" is {"mdm": "…"}')
    return None


def _check_background(aps: Mapping[str, Any]) -> Refusal | None:
    for key in ("alert", "sound", "badge"):
        if key in aps:
            return _bad(f'$.aps.{key} cannot go with push type "background"; leave it out or push an "alert"')
    return None


def _check_live_activity(aps: Mapping[str, Any]) -> Refusal | None:
    needed = ["event", "timestamp", "content-state"]
    if aps.get("event") == "start":
        needed += ["attributes-type", "attributes", "alert"]
    missing = next((key for key in needed if key not in aps), None)
    if missing is None:
        return None
    return _bad(f"$.aps.{missing} is missing; a Live Activity needs {', '.join(needed)}")


def _check_mdm(aps: Mapping[str, Any]) -> Refusal | None:
    return _bad('$.aps cannot go with push type "mdm"; its payload is {"mdm": "…"} alone')


def _check_reload(aps: Mapping[str, Any]) -> Refusal | None:
    if aps.get("content-changed") is True:
        return None
    return _bad('$.aps.content-changed must be true; reloads are {"aps":{"content-changed":true}}')


_KINDS: dict[str, Callable[[Mapping[str, Any]], Refusal | None]] = {
    "background": _check_background,
    "liveactivity": _check_live_activity,
    "mdm": _check_mdm,
    "widgets": _check_reload,
    "controls": _check_reload,
}


def guess_push_type(tree: Mapping[str, Any]) -> str:
    """Return the push type that a payload shows plainly: `background`, `mdm`, or empty for neither."""
    aps = tree.get("aps")
    if aps is None:
        return "mdm" if isinstance(tree.get("mdm"), str) else ""
    if not isinstance(aps, dict) or aps.get("content-available") != 1:
        return ""
    return "" if aps.keys() & {"alert", "sound", "badge"} else "background"


def guess_push_types(trees: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return what each of many payloads shows, as `guess_push_type` would."""
    found = [tree.get("aps") for tree in trees]
    if all([type(aps) is dict and "content-available" not in aps for aps in found]):  # noqa: C419  faster
        return [""] * len(found)
    return [guess_push_type(tree) for tree in trees]
