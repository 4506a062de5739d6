"""rules.py: all that a draft's devices share, checked before acceptance (apns.md 2 and 3.5)."""

from itertools import product

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from momentum_push.message import Draft, Refusal, rules
from momentum_push.message.rules import MAX_AHEAD_S, Content, ContentCheck, Rules, check_content

NOW = 1_767_600_000.5
TOKEN = "ab" * 32
APP = "com.example.news"
UUID = "0b1c2d3e-0000-4000-8000-123456789abc"
ALERT = b'{"aps":{"alert":"Ferry cancelled"}}'
SILENT = b'{"aps":{"content-available":1}}'
LIVE = b'{"aps":{"event":"update","timestamp":1,"content-state":{}}}'
FIELDS = ("topic", "push_type", "priority", "expiration", "collapse_id", "apns_id")


def check(payload=ALERT, rules=None, tokens=(TOKEN,), **headers):
    return check_content(Draft("d.apns", payload, list(tokens), **headers), rules or Rules(), NOW)


def accepted(*args, **headers) -> Content:
    result = check(*args, **headers)
    assert isinstance(result, Content), result
    return result


def refused(*args, **headers) -> Refusal:
    result = check(*args, **headers)
    assert isinstance(result, Refusal), result
    return result


def padded(size: int) -> bytes:
    """A sound alert of exactly `size` bytes."""
    frame = b'{"aps":{"alert":"%s"}}'
    return frame % (b"x" * (size - len(frame) + 2))


# --- What is left out --------------------------------------------------------------------------------


def test_headers_that_are_left_out_get_the_defaults():
    assert accepted() == Content("", "alert", 10, int(NOW) + 604800, "", "")


def test_the_configuration_sets_the_defaults():
    rules = Rules(default_topic=APP, push_type="background", priority=5, expiry=60)
    assert accepted(SILENT, rules) == Content("", "background", 5, int(NOW) + 60, "", "")


def test_an_expiry_of_zero_means_one_attempt():
    assert accepted(rules=Rules(expiry=0)).expiration == 0


@pytest.mark.parametrize(
    ("headers", "rules", "payload", "push_type"),
    [
        ({}, Rules(), ALERT, "alert"),
        ({}, Rules(), SILENT, "background"),
        ({}, Rules(), b'{"mdm":"magic"}', "mdm"),
        ({}, Rules(push_type="alert"), SILENT, "alert"),
        ({}, Rules(default_topic=APP + ".voip"), b'{"aps":{}}', "voip"),
        ({"topic": APP + ".voip"}, Rules(default_topic=APP), b'{"aps":{}}', "voip"),
        ({"topic": APP + ".push-type.liveactivity"}, Rules(), LIVE, "liveactivity"),
        ({"push_type": "alert"}, Rules(push_type="voip"), ALERT, "alert"),
        ({"push_type": "voip"}, Rules(default_topic=APP), b'{"aps":{}}', "voip"),
    ],
)
def test_the_push_type_is_the_messages_then_the_options_then_worked_out(headers, rules, payload, push_type):
    assert accepted(payload, rules, **headers).push_type == push_type


# --- Topic -------------------------------------------------------------------------------------------


def test_only_a_topic_that_the_message_named_is_kept():
    assert accepted(rules=Rules(default_topic=APP)).topic == ""
    assert accepted(rules=Rules(default_topic=APP), topic="com.example.other").topic == "com.example.other"


@pytest.mark.parametrize(
    ("topic", "push_type"),
    [(APP, "voip"), (APP + ".voip", "alert"), (APP + ".voip.voip", "voip"), (APP + ".complication", "voip"),
     (APP, "liveactivity"), (APP + ".push-type.widgets", "controls"), (APP + ".voip", "mdm")],
)  # fmt: skip
def test_a_suffix_of_another_push_type_is_refused(topic, push_type):
    for is_strict in (True, False):
        payload = b'{"mdm":"x"}' if push_type == "mdm" else LIVE
        refusal = refused(payload, Rules(is_strict=is_strict), topic=topic, push_type=push_type)
        assert refusal.error == "BadTopic" and push_type in refusal.detail


def test_a_configured_topic_with_another_types_suffix_is_refused_too():
    assert refused(rules=Rules(default_topic=APP + ".voip"), push_type="alert").error == "BadTopic"


@pytest.mark.parametrize(
    "topic", ["", " ", "com example", "com.exämple", "a\r\nb", "x" * 256, ".x", 5, ["x"], True]
)
def test_what_is_no_bundle_id_is_refused(topic):
    assert refused(topic=topic).error == "BadTopic"


def test_a_topic_outside_the_domains_list_is_disallowed():
    rules = Rules(default_topic=APP, topics=frozenset({"com.example.other", "com.example.other.voip"}))
    assert refused(rules=rules, topic="com.example.third").error == "TopicDisallowed"
    assert refused(rules=rules, topic="com.example.third.voip").error == "TopicDisallowed"
    assert accepted(rules=rules, topic="com.example.other").topic == "com.example.other"
    assert accepted(b'{"aps":{}}', rules, topic="com.example.other.voip").push_type == "voip"


def test_the_configurations_own_topic_needs_no_permission():
    rules = Rules(default_topic=APP, topics=frozenset({"com.example.other"}))
    assert accepted(rules=rules).topic == ""
    assert accepted(rules=rules, topic=APP).topic == APP
    assert accepted(b'{"aps":{}}', rules, topic=APP + ".voip").push_type == "voip"


# --- Push type and priority --------------------------------------------------------------------------


@pytest.mark.parametrize("push_type", ["Alert", "", " alert", "hologram", 1, True, object, ["alert"]])
def test_a_push_type_outside_the_table_is_refused(push_type):
    refusal = refused(push_type=push_type)
    assert refusal.error == "InvalidPushType" and "liveactivity" in refusal.detail


def test_further_push_types_of_the_operators_are_taken_as_they_are():
    rules = Rules(default_topic=APP, extra_push_types=frozenset({"hologram"}))
    assert accepted(b'{"own":1}', rules, push_type="hologram", priority=1).push_type == "hologram"
    assert accepted(b'{"own":1}', rules, push_type="hologram", topic=APP + ".voip").topic == APP + ".voip"
    assert refused(padded(4097), rules, push_type="hologram").error == "PayloadTooLarge"
    assert "hologram" in refused(rules=rules, push_type="hologran").detail


@pytest.mark.parametrize(("asked", "priority"), [(10, 10), (5, 5), (1, 1), ("10", 10), ("5", 5), ("1", 1)])
def test_apples_three_priorities_are_taken_as_number_and_as_text(asked, priority):
    assert accepted(priority=asked).priority == priority


@pytest.mark.parametrize(
    "asked", [0, 2, -5, 11, "high", "", "10 ", "+5", "5.0", 5.0, True, "\uff15", [5], 10**25]
)
def test_other_priorities_are_refused(asked):
    assert refused(priority=asked).error == "BadPriority"


@pytest.mark.parametrize("asked", [None, 10, "10", 5, 1])
def test_background_is_always_priority_5(asked):
    assert accepted(SILENT, push_type="background", priority=asked).priority == 5


def test_a_bad_priority_is_refused_for_background_too():
    assert refused(SILENT, push_type="background", priority="high").error == "BadPriority"


def test_a_live_activity_has_priority_5_or_10():
    live = {"push_type": "liveactivity", "topic": APP + ".push-type.liveactivity"}
    assert accepted(LIVE, **live, priority=5).priority == 5
    assert refused(LIVE, **live, priority=1).error == "BadPriority"


# --- Expiration, collapse id, apns-id ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "expiration"),
    [
        (0, 0),
        ("0", 0),
        (1_900_000_000, 1_900_000_000),
        ("1900000000", 1_900_000_000),
        (int(NOW) + 1, int(NOW) + 1),
    ],
)
def test_an_expiration_is_an_absolute_time_and_stays_as_it_is(asked, expiration):
    assert accepted(expiration=asked).expiration == expiration


@pytest.mark.parametrize(
    "asked",
    [
        -1,
        "-1",
        "",
        "soon",
        1.9e9,
        True,
        "1e9",
        int(NOW),
        1,
        3600,
        "60",
        1_900_000_000_000,
        1 << 70,
    ],
)
def test_an_expiration_that_is_past_or_no_time_is_refused(asked):
    assert refused(expiration=asked).error == "BadExpirationDate"


@pytest.mark.parametrize(
    ("asked", "deliver_at"),
    [(0, 0), (1, 0), (int(NOW), 0), (str(int(NOW) + 60), int(NOW) + 60), (int(NOW) + MAX_AHEAD_S, None)],
)
def test_a_message_may_be_scheduled_and_what_is_past_means_now(asked, deliver_at):
    wanted = asked if deliver_at is None else deliver_at
    assert accepted(deliver_at=asked).deliver_at == wanted


@pytest.mark.parametrize("asked", ["", "soon", -1, True, 1.8e9, int(NOW) + MAX_AHEAD_S + 1, int(NOW) * 1000])
def test_a_schedule_that_is_no_time_or_too_far_ahead_is_refused(asked):
    assert refused(deliver_at=asked).error == "BadDeliveryDate"


def test_what_is_scheduled_cannot_expire_before_it_is_sent():
    at = int(NOW) + 20 * 86_400
    assert refused(deliver_at=at, expiration=at).error == "BadExpirationDate"
    assert accepted(deliver_at=at, expiration=at + 1).expiration == at + 1
    assert accepted(deliver_at=at, expiration=0).expiration == 0
    assert accepted(deliver_at=at).expiration == at + 604800, "apn_expiry counts from when it is sent"


@pytest.mark.parametrize("asked", ["x", "ferry-17", "two words", "x" * 64, "~!"])
def test_a_collapse_id_is_up_to_64_bytes_of_printable_ascii(asked):
    assert accepted(collapse_id=asked).collapse_id == asked


@pytest.mark.parametrize("asked", ["", "x" * 65, "fähre", " x", "x ", "a\tb", "a\x7f", "a\nb", 17, True, {}])
def test_other_collapse_ids_are_refused(asked):
    assert refused(collapse_id=asked).error == "BadCollapseId"


def test_an_apns_id_is_lower_cased():
    assert accepted(apns_id=UUID.upper()).apns_id == UUID


@pytest.mark.parametrize(
    "asked", ["", "x", UUID[:-1], UUID + "0", "{" + UUID + "}", UUID.replace("-", ""), UUID + "\n", 7]
)
def test_what_is_no_canonical_uuid_is_refused(asked):
    assert refused(apns_id=asked).error == "BadMessageId"


def test_one_apns_id_cannot_stand_for_several_devices():
    assert refused(tokens=[TOKEN, TOKEN], apns_id=UUID).error == "BadMessageId"


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("breaker", ["\r", "\n", "\0", "\r\n"])
@pytest.mark.parametrize("is_strict", [True, False])
def test_a_header_value_with_a_line_end_or_nul_is_refused_in_words(field, breaker, is_strict):
    for value in (f"10{breaker}apns-topic: x", f"10{breaker}", f"{breaker}10"):
        refusal = refused(rules=Rules(is_strict=is_strict), **{field: value})
        assert "CR, LF and NUL" in refusal.detail
        assert not set(refusal.detail) & set("\r\n\0")


# --- Payload -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_strict", [True, False])
@pytest.mark.parametrize(
    ("payload", "push_type", "error"),
    [
        (b"", "alert", "PayloadEmpty"),
        (padded(4096), "alert", ""),
        (padded(4097), "alert", "PayloadTooLarge"),
        (padded(5120), "alert", "PayloadTooLarge"),
        (padded(5120), "voip", ""),
        (padded(5121), "voip", "PayloadTooLarge"),
        (b"[" * 100_000, "alert", "PayloadTooLarge"),  # too large is said before anything is read
        (b'{"aps":{"alert":"' + "ä".encode() * 2100 + b'"}}', "alert", "PayloadTooLarge"),
    ],
)  # fmt: skip
def test_the_exact_bytes_are_measured_by_push_type(payload, push_type, error, is_strict):
    rules = Rules(default_topic=APP, is_strict=is_strict)
    result = check(payload, rules, push_type=push_type)
    assert (result.error if isinstance(result, Refusal) else "") == error


def test_a_size_is_said_with_the_limit():
    assert refused(padded(4100)).detail == "payload: 4100 bytes; at most 4096 are allowed"


@pytest.mark.parametrize(
    "payload", [b"{", b"[]", b'{"aps":{},"aps":{}}', b'{"a":NaN}', b'{"a":"\xff"}', b"  "]
)
@pytest.mark.parametrize("is_strict", [True, False])
def test_broken_json_is_refused_strict_or_not(payload, is_strict):
    assert refused(payload, Rules(is_strict=is_strict)).error == "BadPayload"


@pytest.mark.parametrize(
    "payload",
    [b'{"own":1}', b'{"aps":{"badge":"x"}}', b'{"aps":5}', b"{}", b'{"mdm":5}', b'{"aps":{"event":"x"}}'],
)
def test_payload_rules_hold_in_strict_mode_alone(payload):
    assert refused(payload).error == "BadPayload"
    assert accepted(payload, Rules(is_strict=False)).push_type == "alert"


def test_the_rules_of_the_kind_follow_the_push_type_that_was_worked_out():
    rules = Rules(default_topic=APP + ".push-type.liveactivity")
    assert "event" in refused(b'{"aps":{"alert":"x"}}', rules).detail


def test_a_pass_may_be_pushed_with_an_empty_object():
    assert accepted(b"{}", Rules(default_topic="pass.com.example.ticket")).push_type == "alert"


# --- Nothing raises ----------------------------------------------------------------------------------

scalars = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=80) | st.binary(max_size=9)
)
anything = scalars | st.lists(scalars, max_size=2) | st.dictionaries(st.text(max_size=3), scalars, max_size=2)


@given(st.sampled_from(FIELDS), anything, st.booleans())
def test_no_header_value_makes_it_raise(field, value, is_strict):
    result = check(rules=Rules(is_strict=is_strict), **{field: value})
    if isinstance(result, Refusal):
        assert result.detail.isascii() or "…" in result.detail
        assert "\n" not in result.detail and len(result.detail) < 400


@given(st.binary(max_size=60), st.booleans())
def test_no_payload_makes_it_raise(payload, is_strict):
    assert check(payload, Rules(is_strict=is_strict)) is not None


def test_a_deep_header_value_is_refused_without_being_written_out():
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    assert refused(topic=deep).error == "BadTopic"
    while deep:  # taken apart by hand: the interpreter's own way down is recursive
        deep = deep[0]  # type: ignore[assignment]


def test_a_giant_number_is_refused_without_being_written_out():
    assert refused(priority=10**5000).error == "BadPriority"
    assert refused(expiration=-(10**5000)).error == "BadExpirationDate"


ODD_PAYLOADS = [
    b'{"aps":{"alert":"a:b"},"n":1}',
    b'{"aps": {"alert": "a"}, "n": [1, {}]}',
    b'{"aps":{"alert":"a\\u003a"},"n":1,"n":2}',
    b'{"aps":{"alert":"a"},"n":1,"n":2}',
    b'{"aps":{"alert":"a"}}\n',
    b'{"aps":{"alert":"a"}},{}',
    b'{"aps":{"alert":"a"}',
    b'{"aps":{"alert":"\xff"}}',
    b'{"aps":{"alert":"a"},"n":' + b"[" * 70 + b"]" * 70 + b"}",
    b'{"aps":{"alert":"a"},"n":[' + b"{}," * 70 + b"{}]}",
    b'{"aps":{"alert":"a"},"n":123456789012345678901234567890}',
    b'{"aps":{"alert":1}}',
    b'{"aps":{"content-available":1}}',
    b'{"aps":{"content-available":1,"sound":"x"}}',
    b'{"aps":null}',
    b'{"mdm":"x"}',
    b"{}",
    b"[]",
    b"",
    b'{"aps":{"alert":"' + b"a" * 4090 + b'"}}',
    b'{"aps":{"alert":"' + b"a" * 5200 + b'"}}',
]


@pytest.mark.parametrize("odd", ODD_PAYLOADS)
@pytest.mark.parametrize("topic", [None, "com.example.news", "no topic"])
def test_payloads_are_judged_together_as_each_by_itself(odd: bytes, topic: str | None) -> None:
    kinds = (None, "alert", "background", "liveactivity", "mdm", "voip", "widgets", "nonsense")
    for push_type, is_strict, good in product(kinds, (True, False), (ALERT, SILENT, ODD_PAYLOADS[1])):
        draft = Draft("d", b"", [], push_type=push_type, topic=topic)
        asked = Rules(is_strict=is_strict)
        for payloads in ([odd], [good, odd, good], [odd, odd]):
            one_by_one = [
                check_content(msgspec.structs.replace(draft, payload=one), asked, NOW) for one in payloads
            ]
            assert ContentCheck(draft, asked, NOW).check_all(payloads) == one_by_one


def test_good_payloads_are_looked_at_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "read_payload", None)  # the way one by one would fail
    good = [b'{"aps":{"alert":"a:b"},"n":%d}' % number for number in range(9)]
    spaced = [one.replace(b",", b" , ") for one in good]
    for payloads in (good, spaced):
        [*found] = ContentCheck(Draft("d", b"", []), Rules(), NOW).check_all(payloads)
        assert {type(one) for one in found} == {Content}
