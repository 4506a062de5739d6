"""payload.py: the checking decode, and the tables and kinds of apns.md 3."""

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from momentum_push.message import Refusal
from momentum_push.message.payload import MAX_DEPTH, check_payload, guess_push_type, read_payload

# --- The checking decode -----------------------------------------------------------------------------

SOUND = [
    b"{}",
    b'{"aps":{}}',
    b' \t\r\n{ "aps" : { "alert" : "a:b" } } \n',
    '{"aps":{"alert":"Fähre – 🛳"}}'.encode(),
    rb'{"aps":{"alert":"\ud83d\udea2 \u003a \\ \" \/"}}',
    b'{"a":{"x":1},"b":{"x":1},"c":[{"x":1},{"x":2}]}',
    b'{"x:":1,"x":2,":":3,"":4}',
    b'{"aps":{"alert":"\\u003a"},"b":2}',
    b'{"n":[0,-0,-1,1.5,1e5,1E-5,123456789012345678901234567890]}',
    b'{"n":' + b"9" * 300 + b"}",
    b'{"a":"\x7f"}',
    b'{"a":[' + b"{}," * 200 + b"{}]}",  # many brackets, but flat
    b'{"a":' * (MAX_DEPTH - 1) + b"{}" + b"}" * (MAX_DEPTH - 1),
]

BROKEN = {
    b"": "byte 0: not JSON",
    b"   ": "byte 3: not JSON, it ends too early",
    b'{"aps":{"alert":"x"}': "byte 20: not JSON, it ends too early",
    b'{"aps":{"alert":"x"},}': "byte 21: not JSON, trailing comma",
    b'{"aps":{}} x': "near byte 12: not JSON, trailing characters",
    b"{}{}": "near byte 3: not JSON, trailing characters",
    b"{'aps':{}}": "byte 1: not JSON, object keys must be strings",
    b"\xef\xbb\xbf{}": "byte 0: not JSON",
    b"\0{}": "byte 0: not JSON",
    b'{"a":NaN}': "byte 5: NaN is not JSON",
    b'{"a":Infinity}': "byte 5: Infinity is not JSON",
    b'{"a":-Infinity}': "-Infinity is not JSON",
    b'{"a":01}': "byte 6: not JSON, invalid number",
    b'{"a":.5}': "byte 5: not JSON",
    b'{"a":tru}': "not JSON",
    b'{"a":"\t"}': "byte 6: not JSON",
    b'{"a":"\\x"}': "not JSON, invalid escape",
    b'{"a":1e999}': "a number in it is out of range",
    b'{"a":' + b"9" * 5000 + b"}": "a number in it is out of range",
    b'{"a":"\xff"}': "byte 6: not UTF-8",
    b'{"\xc3":1}': "byte 2: not UTF-8",
    b'{"a":"\xed\xa0\x80"}': "byte 6: not UTF-8",  # a surrogate in UTF-8
    b'{"a":"\xc0\xaf"}': "byte 6: not UTF-8",  # overlong
    b'{"a":"\\ud800"}': "not JSON",
    b'{"a":"\\ud800abcdefgh"}': "surrogate pair",
    b'{"a":"\\udc00abcdefgh"}': "surrogate pair",
    b"[]": "must be a JSON object; got an array",
    b'"aps"': "must be a JSON object; got text",
    b"12": "must be a JSON object; got a number",
    b"1.5": "must be a JSON object; got a number",
    b"null": "must be a JSON object; got null",
    b"true": "must be a JSON object; got true or false",
    b"[" * 2500 + b"]" * 2500: "deeper than 64",
    b'{"a":' * 800 + b"1" + b"}" * 800: "deeper than 64",
    b'{"a":' * MAX_DEPTH + b"{}" + b"}" * MAX_DEPTH: "deeper than 64",
    b'{"a":' + b"[" * MAX_DEPTH + b"]" * MAX_DEPTH + b"}": "deeper than 64",
}

REPEATED = {
    b'{"aps":{},"aps":{}}': "$.aps stands twice",
    b'{"aps":{"alert":"x","alert":"x"}}': "$.aps.alert stands twice",
    b'{"aps":{"alert":{"title":"a","body":"b","title":"c"}}}': "$.aps.alert.title stands twice",
    b'{"a":[1,{"b":1,"b":2}]}': "$.a[1].b stands twice",
    rb'{"a":1,"\u0061":2}': "$.a stands twice",
    rb'{"a":"x","a":"\u003a"}': "$.a stands twice",  # the escaped colon hides the lost one
    rb'{"a":1,"a":"\u003A"}': "$.a stands twice",
    b'{"a":":::","a":1}': "$.a stands twice",
    b'{"":1,"":2}': "$. stands twice",
    b'{"a":1,"a":123456789012345678901234567890}': "$.a stands twice",
    b'{"n":' + b"9" * 300 + b',"a":1,"a":1}': "$.a stands twice",
    b'{"a":{"b":{"c":1}},"a":0}': "$.a stands twice",
}


@pytest.mark.parametrize("payload", SOUND)
def test_a_sound_object_is_read_as_json_reads_it(payload):
    assert read_payload(payload) == json.loads(payload)


@pytest.mark.parametrize("payload", BROKEN, ids=lambda payload: repr(payload[:24]))
def test_a_broken_payload_is_refused_with_the_place(payload):
    refusal = read_payload(payload)
    assert isinstance(refusal, Refusal)
    assert refusal.error == "BadPayload"
    assert refusal.detail.startswith("payload: ") and "\n" not in refusal.detail
    assert BROKEN[payload] in refusal.detail


@pytest.mark.parametrize("payload", REPEATED)
def test_a_key_that_stands_twice_is_refused_with_its_path(payload):
    refusal = read_payload(payload)
    assert isinstance(refusal, Refusal) and refusal.error == "BadPayload"
    assert REPEATED[payload] in refusal.detail


@pytest.mark.parametrize("payload", SOUND[1:6])
def test_every_true_beginning_of_a_payload_is_refused(payload):
    whole = payload.rstrip()
    assert all(isinstance(read_payload(whole[:end]), Refusal) for end in range(len(whole)))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.text(), json_values, max_size=5), st.booleans(), st.booleans())
def test_what_python_writes_is_taken_exactly_when_it_is_sound_json(value, ascii_only, is_compact):
    separators = (",", ":") if is_compact else (", ", ": ")
    text = json.dumps(value, ensure_ascii=ascii_only, separators=separators)
    payload = text.encode("utf-8", "surrogatepass")
    result = read_payload(payload)
    if isinstance(result, Refusal):
        with pytest.raises(ValueError):  # not JSON, not UTF-8, or a lone surrogate: someone else says so too
            json.dumps(json.loads(payload), ensure_ascii=False, allow_nan=False).encode()
    else:
        assert result == value


@given(st.binary(max_size=40) | st.text(alphabet='{}[]":,\\u003a0d8 ae+-.1NIn', max_size=40).map(str.encode))
@example(b'{"a":1,"a":1}')
def test_no_bytes_make_it_raise_and_it_takes_nothing_that_json_refuses(payload):
    result = read_payload(payload)
    if isinstance(result, Refusal):
        return
    pairs_seen: list[int] = []

    def count(pairs):
        pairs_seen.append(len(pairs) - len(dict(pairs)))
        return dict(pairs)

    assert json.loads(payload, object_pairs_hook=count) == result
    assert not any(pairs_seen)


keys = st.sampled_from(["a", "b", ":", "a:", "\\u003a", "aps"])
objects = st.recursive(
    st.sampled_from(["1", '":"', '"\\u003a"', "[]"]),
    lambda inner: st.lists(st.tuples(keys, inner), max_size=4).map(
        lambda pairs: "{" + ",".join(f'"{key}":{value}' for key, value in pairs) + "}"
    ),
    max_leaves=8,
)


@given(objects)
def test_repeated_keys_never_slip_through(text):
    has_repeated: list[bool] = []

    def look(pairs):
        has_repeated.append(len(pairs) != len(dict(pairs)))
        return dict(pairs)

    value = json.loads(text, object_pairs_hook=look)
    if isinstance(value, dict):
        assert isinstance(read_payload(text.encode()), Refusal) == any(has_repeated)


# --- Types, tables 3.1 to 3.3 ------------------------------------------------------------------------

TEXT_KEYS = ["thread-id", "category", "target-content-id", "filter-criteria", "attributes-type",
             "input-push-channel", "ptt-push-type"]  # fmt: skip
NUMBER_KEYS = ["content-available", "mutable-content", "timestamp", "stale-date", "dismissal-date",
               "input-push-token"]  # fmt: skip
ALERT_TEXTS = ["title", "subtitle", "body", "launch-image", "title-loc-key", "subtitle-loc-key", "loc-key",
               "summary-arg", "action", "action-loc-key"]  # fmt: skip
ALERT_LISTS = ["title-loc-args", "subtitle-loc-args", "loc-args"]

RIGHT = [
    *({key: "x"} for key in TEXT_KEYS),
    *({key: value} for key in NUMBER_KEYS for value in (0, 1, 1_800_000_000, 1.5)),
    *({"alert": {key: "x"}} for key in ALERT_TEXTS),
    *({"alert": {key: value}} for key in ALERT_LISTS for value in ([], ["a", "b"])),
    *({"interruption-level": value} for value in ("passive", "active", "time-sensitive", "critical")),
    *({"event": value} for value in ("start", "update", "end")),
    *({"relevance-score": value} for value in (0, 1, 0.5)),
    {},
    {"alert": "x"},
    {"alert": {}},
    {"alert": {"summary-arg-count": 3, "action-loc-key": None}},
    {"badge": 0},
    {"badge": 99},
    {"sound": "default"},
    {"sound": {"critical": 1, "name": "s.caf", "volume": 0.5}},
    {"sound": {"volume": 1}},
    {"content-changed": True},
    {"content-state": {}, "attributes": {"any": ["thing"]}},
    {"url-args": ["boarding", "A998"]},
    {"something-new": [None], "alert": {"new-in-alert": 7}, "sound": {"new": {}}},
]

WRONG = [
    *(({key: value}, f"$.aps.{key} must be text") for key in TEXT_KEYS for value in (1, None, [], {}, True)),
    *(({key: value}, f"$.aps.{key} must be a number") for key in NUMBER_KEYS for value in ("1", True, {})),
    *(({"alert": {key: 5}}, f"$.aps.alert.{key} must be text") for key in ALERT_TEXTS),
    *(({"alert": {key: value}}, f"$.aps.alert.{key} must be an array of texts")
      for key in ALERT_LISTS for value in ("x", ["a", 5], {})),
    ({"alert": 5}, "$.aps.alert must be text or an object; got 5"),
    ({"alert": None}, "$.aps.alert must be text or an object; got null"),
    ({"alert": ["x"]}, "$.aps.alert must be text or an object"),
    ({"alert": {"title": {"loc-key": "K"}}}, "$.aps.alert.title must be text"),
    ({"alert": {"summary-arg-count": "1"}}, "$.aps.alert.summary-arg-count must be a number"),
    ({"badge": "x"}, '$.aps.badge must be a whole number >= 0; got "x"'),
    ({"badge": -1}, "$.aps.badge must be a whole number >= 0; got -1"),
    ({"badge": 1.5}, "$.aps.badge must be a whole number >= 0"),
    ({"badge": True}, "$.aps.badge must be a whole number >= 0; got true"),
    ({"badge": None}, "$.aps.badge must be a whole number >= 0; got null"),
    ({"sound": 1}, "$.aps.sound must be text or an object"),
    ({"sound": {"critical": "1"}}, "$.aps.sound.critical must be a number"),
    ({"sound": {"volume": 1.1}}, "$.aps.sound.volume must be a number from 0 to 1"),
    ({"sound": {"volume": -0.1}}, "$.aps.sound.volume must be a number from 0 to 1"),
    ({"sound": {"name": 1}}, "$.aps.sound.name must be text"),
    ({"interruption-level": "loud"}, "$.aps.interruption-level must be one of passive, active"),
    ({"interruption-level": 1}, "$.aps.interruption-level must be one of passive, active"),
    ({"event": "events"}, "$.aps.event must be one of start, update, end"),
    ({"relevance-score": 2}, "$.aps.relevance-score must be a number from 0 to 1"),
    ({"relevance-score": "1"}, "$.aps.relevance-score must be a number from 0 to 1"),
    ({"content-changed": 1}, "$.aps.content-changed must be true or false"),
    ({"content-state": []}, "$.aps.content-state must be an object"),
    ({"attributes": "x"}, "$.aps.attributes must be an object"),
    ({"url-args": [1]}, "$.aps.url-args must be an array of texts"),
    ("x", '$.aps must be an object; got "x"'),
    (None, "$.aps must be an object; got null"),
    ([], "$.aps must be an object; got []"),
]  # fmt: skip


@pytest.mark.parametrize("aps", RIGHT, ids=str)
def test_values_of_apples_types_and_unknown_keys_pass(aps):
    assert check_payload({"aps": aps, "own": {"badge": "x"}}, "alert", "") is None


@pytest.mark.parametrize(("aps", "words"), WRONG, ids=str)
def test_values_of_other_types_are_refused_with_path_and_value(aps, words):
    refusal = check_payload({"aps": aps}, "alert", "")
    assert refusal is not None and refusal.error == "BadPayload"
    assert refusal.detail.startswith("payload: ") and words in refusal.detail


def test_a_refusal_repeats_only_the_beginning_of_a_long_value():
    refusal = check_payload({"aps": {"badge": "x" * 3000}}, "alert", "")
    assert refusal is not None and len(refusal.detail) < 150


# --- Kinds, table 3.4 and rules 3, 5, 6 of 3.5 -------------------------------------------------------

LIVE = {"event": "update", "timestamp": 1_800_000_000, "content-state": {"score": 3}}
START = LIVE | {"event": "start", "attributes-type": "Trip", "attributes": {}, "alert": {"title": "Off"}}


def without(aps, key):
    return {name: value for name, value in aps.items() if name != key}


KINDS = [
    # push type, payload, words of the refusal or "" when it passes
    ("background", {"aps": {"content-available": 1}}, ""),
    ("background", {"aps": {"content-available": 1, "alert": "x"}}, "$.aps.alert cannot go with"),
    ("background", {"aps": {"content-available": 1, "badge": 0}}, "$.aps.badge cannot go with"),
    ("background", {"aps": {"content-available": 1, "sound": ""}}, "$.aps.sound cannot go with"),
    ("background", {"aps": {"content-available": "1"}}, "$.aps.content-available must be a number"),
    ("mdm", {"mdm": "magic"}, ""),
    ("mdm", {"mdm": 5}, "$.mdm must be text"),
    ("mdm", {}, "$.mdm must be text"),
    ("mdm", {"mdm": "magic", "aps": {}}, '$.aps cannot go with push type "mdm"'),
    ("widgets", {"aps": {"content-changed": True}}, ""),
    ("widgets", {"aps": {"content-changed": False}}, "$.aps.content-changed must be true"),
    ("controls", {"aps": {"content-changed": True}}, ""),
    ("controls", {"aps": {}}, "$.aps.content-changed must be true"),
    ("fileprovider", {"container-identifier": "NSFileProviderRootContainerItemIdentifier"}, ""),
    ("fileprovider", {"aps": 5}, "$.aps must be an object"),
    ("alert", {"own": 1}, '$.aps is missing; a push of type "alert"'),
    ("voip", {"own": 1}, '$.aps is missing; a push of type "voip"'),
    ("voip", {"aps": {}, "call": "x"}, ""),
    ("location", {"aps": {}}, ""),
    ("pushtotalk", {"aps": {}, "speaker": "A"}, ""),
    ("hologram", {"own": 1}, ""),  # a type of the operator's own: as it is
    ("hologram", {"aps": 1}, "$.aps must be an object"),
    ("liveactivity", {"aps": LIVE}, ""),
    ("liveactivity", {"aps": LIVE | {"event": "end"}}, ""),
    ("liveactivity", {"aps": START}, ""),
    ("liveactivity", {"aps": START | {"relevance-score": 99.5}}, ""),
    (
        "liveactivity",
        {"aps": LIVE | {"alert": {"title": {"loc-key": "K", "loc-args": ["a"]}, "sound": "s"}}},
        "",
    ),
    (
        "liveactivity",
        {"aps": LIVE | {"alert": {"body": {"loc-key": 5}}}},
        "$.aps.alert.body.loc-key must be text",
    ),
    ("liveactivity", {"aps": LIVE | {"alert": {"title": 5}}}, "$.aps.alert.title must be text or an object"),
    *(("liveactivity", {"aps": without(LIVE, key)}, f"$.aps.{key} is missing") for key in LIVE),
    *(("liveactivity", {"aps": without(START, key)}, f"$.aps.{key} is missing") for key in START),
]


@pytest.mark.parametrize(("push_type", "tree", "words"), KINDS, ids=str)
def test_each_kind_has_what_apple_asks_for(push_type, tree, words):
    refusal = check_payload(tree, push_type, "")
    if words:
        assert refusal is not None and words in refusal.detail
    else:
        assert refusal is None


def test_a_wallet_pass_may_have_an_empty_payload():
    assert check_payload({}, "alert", "pass.com.example.ticket") is None
    assert check_payload({"aps": {}}, "alert", "pass.com.example.ticket") is None
    assert check_payload({}, "alert", "com.example.news") is not None


@given(
    st.dictionaries(st.sampled_from(["aps", "mdm", "x"]), json_values),
    st.sampled_from(["alert", "mdm", "liveactivity"]),
)
def test_no_tree_makes_the_rules_raise(tree, push_type):
    assert (
        check_payload(tree, push_type, "") is None or check_payload(tree, push_type, "").error == "BadPayload"
    )


@pytest.mark.parametrize(
    ("tree", "guess"),
    [
        ({"aps": {"content-available": 1}}, "background"),
        ({"aps": {"content-available": 1}, "own": 1}, "background"),
        ({"aps": {"content-available": 1, "alert": "x"}}, ""),
        ({"aps": {"content-available": 1, "badge": 1}}, ""),
        ({"aps": {"content-available": 1, "sound": "x"}}, ""),
        ({"aps": {"content-available": 0}}, ""),
        ({"aps": {"alert": "x"}}, ""),
        ({"aps": []}, ""),
        ({"aps": None, "mdm": "magic"}, "mdm"),
        ({"mdm": "magic"}, "mdm"),
        ({"mdm": "magic", "aps": {"alert": "x"}}, ""),
        ({"mdm": 1}, ""),
        ({}, ""),
    ],
    ids=str,
)  # fmt: skip
def test_a_push_type_is_guessed_only_where_the_payload_is_plain(tree, guess):
    assert guess_push_type(tree) == guess
