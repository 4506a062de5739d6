"""Strict decoding: shapes, duplicates, places, slices."""

import asyncio
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from momentum_push.injection.http_answers import RequestRefused
from momentum_push.injection.http_drafts import Gatherer
from momentum_push.injection.http_envelope import (
    OBJECTS,
    SLICE,
    STRINGS,
    Item,
    elements,
    read_envelope,
    read_item,
    read_items,
    read_plain,
    read_strings,
    read_tokens,
)
from momentum_push.message import Message, Refusal


def item(text: str) -> Item | Refusal:
    return read_item(text.encode(), "$.notifications[3]")


BROKEN = [
    # text, word, what the detail must hold
    ('{"payload":{}}', "MissingDeviceToken", '$.notifications[3]: "device_token" is missing'),
    ('{"device_token":"a"}', "PayloadEmpty", '"payload" is missing'),
    ('{"device_token":7,"payload":{}}', "BadDeviceToken", "$.notifications[3].device_token: "),
    ('{"device_token":null,"payload":{}}', "BadDeviceToken", ".device_token"),
    ('{"device_token":"a","payload":{},"priority":1.5}', "BadPriority", "$.notifications[3].priority"),
    ('{"device_token":"a","payload":{},"priority":true}', "BadPriority", ".priority"),
    ('{"device_token":"a","payload":{},"expiration":1e400}', "BadExpirationDate", ".expiration"),
    ('{"device_token":"a","payload":{},"topic":[]}', "BadTopic", ".topic"),
    ('{"device_token":"a","payload":{},"push_type":1}', "InvalidPushType", ".push_type"),
    ('{"device_token":"a","payload":{},"collapse_id":{}}', "BadCollapseId", ".collapse_id"),
    ('{"device_token":"a","payload":{},"apns_id":0}', "BadMessageId", ".apns_id"),
    ('{"device_token":"a","payload":{},"domain":0}', "BadDomain", ".domain"),
    ('{"device_token":"a","payload":{},"binding":0}', "BadBinding", ".binding"),
    ('{"device_token":"a","payload":{},"context":{"x":1}}', "BadContext", ".context"),
    ('{"device_token":"a","payload":{},"expiraton":1}', "UnknownKey", 'did you mean "expiration"?'),
    ('{"device_token":"a","payload":{},"\u00e9\u00e9":1}', "UnknownKey", "known are device_token"),
    ('{"device_token":"a","device_token":"b","payload":{}}', "DuplicateKey", '"device_token" stands twice'),
    ('{"device_token":"a","payload":{},"payload":{}}', "DuplicateKey", '"payload" stands twice'),
    ('{"device_token":"a","payload":{},"priority":5,"priority":5}', "DuplicateKey", '"priority"'),
    ('{"device_token":"a","payload":{},"pri\\u006frity":5,"priority":5}', "DuplicateKey", '"priority"'),
    ('{"device_token":"a","payload":{},"context":{"x":"1","x":"2"}}', "DuplicateKey", "[3].context"),
    ('{"device_token":"a","payload":{"n":NaN}}', "BadJson", "malformed"),
    ('{"device_token":"a","payload":{},"priority":Infinity}', "BadJson", "malformed"),
    ('{"device_token":"a","payload":{},}', "BadJson", "malformed"),
    ('{"device_token":"\\ud800","payload":{}}', "BadJson", "surrogate"),
    ('{"device_token":"a","payload":' + "[" * 100_000, "BadJson", "too deeply"),
    ('{"device_token":"a"', "BadJson", "truncated"),
    ('[{"device_token":"a","payload":{}}]', "BadRequest", "expected"),
    ("7", "BadRequest", "expected"),
]


@pytest.mark.parametrize(("text", "error", "detail"), BROKEN, ids=[text[:60] for text, _, _ in BROKEN])
def test_a_broken_notification_is_refused_with_word_and_place(text: str, error: str, detail: str) -> None:
    refusal = item(text)
    assert isinstance(refusal, Refusal)
    assert refusal.error == error
    assert detail in refusal.detail
    assert refusal.detail.startswith("$.notifications[3]")


def test_bad_utf8_outside_the_payload_is_refused() -> None:
    refusal = read_item(b'{"device_token":"\xff","payload":{}}', "$")
    assert isinstance(refusal, Refusal)
    assert (refusal.error, "UTF-8" in refusal.detail) == ("BadJson", True)


def test_payload_bytes_are_kept_as_they_came() -> None:
    payload = '{ "aps" : {"alert":"\\u00e9\\"\\\\ü" ,\n "badge":1.0e0} }'
    good = item(f'{{"device_token":"a","payload":{payload}}}')
    assert isinstance(good, Item)
    assert bytes(good.payload) == payload.encode()


def test_null_means_not_given() -> None:
    gatherer = Gatherer("x")
    gatherer.add([item('{"device_token":"a","payload":{},"topic":null,"context":null,"apns_id":null}')])
    (draft,) = gatherer.drafts
    assert (draft.topic, draft.context, draft.apns_id) == (None, {}, None)


def test_escapes_outside_the_payload_are_no_fault() -> None:
    good = item('{"device_token":"a","payload":{},"context":{"\\"q\\"":"\\\\ \\" \\u00e9"}}')
    assert isinstance(good, Item)
    assert good.context == {'"q"': '\\ " é'}


def test_one_duplicate_spoils_its_own_notification_only() -> None:
    good, twice = '{"device_token":"a","payload":{}}', '{"device_token":"b","device_token":"c","payload":{}}'
    items = read_items(f"[{good},{twice},{good}]".encode(), 40)
    assert [type(one) for one in items] == [Item, Refusal, Item]
    assert items[1].detail.startswith("$.notifications[41]: ")  # type: ignore[union-attr]


ENVELOPES = [
    ("", "BadJson", "truncated"),
    ("[]", "BadRequest", "expected"),
    ("{}", "BadRequest", 'neither "notifications"'),
    ('{"notifications":[],"device_tokens":[],"payload":{}}', "BadRequest", "cannot stand together"),
    ('{"notifications":[],"topic":"x"}', "BadRequest", "$.topic: cannot stand beside"),
    ('{"device_tokens":[]}', "PayloadEmpty", '"payload" is missing'),
    ('{"notification":[]}', "UnknownKey", 'did you mean "notifications"?'),
    ('{"domain":1,"notifications":[]}', "BadDomain", "$.domain"),
    ('{"domain":"a","domain":"a","notifications":[]}', "DuplicateKey", '"domain"'),
    ('{"notifications":[1],"notifications":[1]}', "DuplicateKey", '"notifications"'),
    ('{"device_tokens":["a"],"payload":["a"],"payload":["a"]}', "DuplicateKey", '"payload"'),
    ('{"device_tokens":["a"],"payload":{},"context":{"x":"","x":""}}', "DuplicateKey", "$.context"),
    ('{"device_tokens":["a"],"payload":"' + "x" * 70_000 + '"}', "PayloadTooLarge", "$.payload"),
    ('{"notifications":' + "[" * 100_000, "BadJson", "too deeply"),
    ('{"notifications":[]} x', "BadJson", "trailing"),
    ('{"notifications":[NaN]}', "BadJson", "malformed"),
]


@pytest.fixture(params=["small", "large"])
def size(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Have every body taken for a large one, for which duplicates are looked for in another way."""
    if request.param == "large":
        monkeypatch.setattr("momentum_push.injection.http_envelope.SLICE", 10)
    return str(request.param)


@pytest.mark.parametrize(("text", "error", "detail"), ENVELOPES, ids=[text[:50] for text, _, _ in ENVELOPES])
def test_a_broken_envelope_is_refused(size: str, text: str, error: str, detail: str) -> None:
    with pytest.raises(RequestRefused) as caught:
        asyncio.run(read_envelope(text.encode()))
    assert (caught.value.status, caught.value.error) == (400, error)
    assert detail in caught.value.detail


def test_values_that_look_like_each_other_are_told_apart(size: str) -> None:
    text = (
        '{"payload":{"to":["aa","bb"]},"device_tokens":["aa","bb"],"topic":"[]","context":{"x":"[\\"aa\\"]"}}'
    )
    envelope = asyncio.run(read_envelope(text.encode()))
    assert bytes(envelope.device_tokens) == b'["aa","bb"]'  # type: ignore[arg-type]


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def raw_of(text: str) -> msgspec.Raw:
    return msgspec.Raw(text.encode())


@settings(max_examples=25, deadline=None)
@given(st.lists(st.dictionaries(st.text(), json_values, max_size=5), max_size=40), st.sampled_from([None, 1]))
def test_slices_of_an_array_hold_its_elements_in_order(values: list[Any], indent: int | None) -> None:
    text = json.dumps(values, indent=indent, ensure_ascii=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("momentum_push.injection.http_envelope.SLICE", 40)
        found = [
            one for part, _ in elements(raw_of(text), OBJECTS, "$", read_plain) for one in json.loads(part)
        ]
    assert found == values


def test_a_long_array_comes_in_slices_of_bounded_size() -> None:
    tokens = [f"{number:064x}" for number in range(20_000)]
    parts = [part for part, _ in elements(raw_of(json.dumps(tokens)), STRINGS, "$", read_strings)]
    assert len(parts) > 10
    assert max(map(len, parts)) <= SLICE + 2
    for read in (read_strings, lambda part: read_tokens(part, 0)):
        assert [token for part in parts for token in read(part) or ()] == tokens


def test_a_token_that_is_no_string_is_refused_alone() -> None:
    found = read_tokens(b'["a",7,"b,]",{"c":1}]', 10)
    assert [found[0], found[2]] == ["a", "b,]"]
    assert [one.error for one in (found[1], found[3]) if isinstance(one, Refusal)] == ["BadDeviceToken"] * 2
    assert "$.device_tokens[11]" in found[1].detail  # type: ignore[union-attr]


def test_no_array_is_refused_with_its_place() -> None:
    with pytest.raises(RequestRefused, match=r"\$\.notifications: expected an array"):
        list(elements(raw_of("{}"), OBJECTS, "$.notifications", read_plain))


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(st.sampled_from([*Item.__struct_fields__, "x"]), json_values),
    st.binary(max_size=3),
    st.integers(0, 200),
)
def test_any_item_is_read_or_refused(value: dict[str, Any], noise: bytes, at: int) -> None:
    text = json.dumps(value, ensure_ascii=False).encode()
    for one in (text, text[:at] + noise + text[at:]):
        assert isinstance(read_item(one, "$"), Item | Refusal)


def notification(token: str, **more: Any) -> str:
    return json.dumps({"device_token": token, "payload": {"aps": {}}} | more)


def test_neighbours_that_differ_in_their_token_share_a_draft() -> None:
    lines = [
        notification("a", topic="t"),
        notification("b", topic="t"),
        notification("c"),
        notification("d", domain="Other"),
        notification("e", payload={"aps": {"badge": 1}}),
        notification("f", apns_id="1"),
        notification("g", apns_id="1"),
    ]
    gatherer = Gatherer("Home")
    gatherer.add(read_items(f"[{','.join(lines)}]".encode(), 0))
    assert [(draft.domain, draft.tokens) for draft in gatherer.drafts] == [
        ("home", ["a", "b"]),
        ("home", ["c"]),
        ("other", ["d"]),
        ("home", ["e"]),
        ("home", ["f"]),
        ("home", ["g"]),
    ]
    assert {draft.payloads for draft in gatherer.drafts} == {None}


def test_neighbours_with_payloads_of_their_own_share_a_draft() -> None:
    payloads = [{"n": 1}, {"n": 1}, {"n": 2}, {"n": 2}, {"n": 1}]
    lines = [notification(f"{place}", payload=payload) for place, payload in enumerate(payloads)]
    gatherer = Gatherer("home")
    gatherer.add(read_items(f"[{','.join(lines)}]".encode(), 0))
    (draft,) = gatherer.drafts
    assert draft.tokens == ["0", "1", "2", "3", "4"]
    assert draft.payloads is not None
    assert [json.loads(payload) for payload in draft.payloads] == payloads
    assert draft.payloads[0] is draft.payloads[1]
    assert draft.payloads[2] is draft.payloads[3]


ROW = st.tuples(
    st.sampled_from([{}, {}, {"topic": "t"}, {"apns_id": "1"}, {"domain": "@"}, {"domain": "home"}, None]),
    st.sampled_from([{"n": 1}, {"n": 2}]),
)


@given(st.lists(ROW, max_size=8), st.lists(st.integers(0, 8), max_size=3))
def test_notifications_make_the_same_drafts_however_they_are_handed_over(
    rows: list[tuple[dict[str, Any] | None, Any]], cuts: list[int]
) -> None:
    lines = [
        "7" if more is None else notification(f"{place}", payload=payload, **more)
        for place, (more, payload) in enumerate(rows)
    ]
    apart, together = Gatherer("home"), Gatherer("home")
    for line in lines:
        apart.add(read_items(f"[{line}]".encode(), apart.count))
    ends = sorted({min(cut, len(lines)) for cut in cuts} | {len(lines)})
    for start, end in zip([0, *ends], ends, strict=False):
        text = f"[{','.join(lines[start:end])}]".encode()
        plain = read_plain(text)
        assert (plain is None) == any(more != {} for more, _ in rows[start:end])
        if plain is not None:
            together.add_plain(plain)
        else:
            together.add(read_items(text, together.count))
    assert (together.drafts, together.count) == (apart.drafts, apart.count)
    assert {place: one.error for place, one in together.refusals.items()} == {
        place: one.error for place, one in apart.refusals.items()
    }


@pytest.mark.parametrize(
    "text",
    [
        '{"device_token":"a","device_token":"b","payload":{}}',
        '{"device_token":"a","payload":{},"payload":{}}',
        '{"device_token":"a","payload":{},"pay\\u006coad":{}}',
        '{"device_token":"a","payload":{},"topic":"t"}',
        '{"device_token":"a","payload":{},"topic":null}',
        '{"device_token":"a"}',
        '{"device_token":7,"payload":{}}',
        "7",
    ],
)
def test_what_is_not_plain_is_left_to_the_careful_reader(text: str) -> None:
    good = notification("a", payload={"x": 'a\\"b'})
    assert read_plain(f"[{good}]".encode()) is not None
    assert read_plain(f"[{good},{text}]".encode()) is None


def test_results_stand_in_request_order() -> None:
    gatherer = Gatherer("home")
    gatherer.add(
        read_items(f"[{notification('a')},7,{notification('b', domain='@')},{notification('c')}]".encode(), 0)
    )
    taken: list[Message | Refusal] = [Refusal("first", ""), Refusal("last", "")]
    assert [result.error for result in gatherer.results(taken)] == [
        "first",
        "BadRequest",
        "BadDomain",
        "last",
    ]  # type: ignore[union-attr]
