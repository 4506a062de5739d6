"""JSON ⇄ Lua: what nobody touches comes out as it came in."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from momentum_push.errors import ScriptError
from momentum_push.scripting import PolicyMessage, Request, Subject
from momentum_push.scripting.lua import LuaRuntime
from tests.helpers.scripts import Stage, a_message, lua_module

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
NUMBERS = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
TREES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=20,
)
OBJECTS = st.dictionaries(TEXT, TREES, max_size=5)

RUNTIME = LuaRuntime(Stage().services)


def function_of(body):
    return RUNTIME.load("p.lua", lua_module("apn_request_eval", body).encode())[0]


def edited(function, payload: bytes) -> bytes | None:
    request = Request(a_message(payload))
    function(request, PolicyMessage(Subject()))
    return request.new_payload


def compact(tree) -> bytes:
    return json.dumps(tree, ensure_ascii=False, separators=(",", ":")).encode()


SET = function_of("req.json.zz_new = 3")
LOOK = function_of("local x = req.json")
CODEC = function_of("local tree = json.decode(req.payload) req.payload = json.encode(tree)")


@settings(deadline=None)
@given(OBJECTS)
def test_one_change_changes_that_alone(tree):
    """Text for text: order of keys, numbers as they were written, null, empty arrays and objects."""
    tree.pop("zz_new", None)
    assert edited(SET, compact(tree)) == compact({**tree, "zz_new": 3})


@settings(deadline=None)
@given(OBJECTS, st.booleans(), st.sampled_from([None, 2]))
def test_a_look_changes_nothing_however_it_was_written(tree, is_ascii, indent):
    assert edited(LOOK, json.dumps(tree, ensure_ascii=is_ascii, indent=indent).encode()) is None


@settings(deadline=None)
@given(OBJECTS)
def test_encode_is_the_inverse_of_decode(tree):
    assert edited(CODEC, compact(tree)) in (None, compact(tree))


@pytest.mark.parametrize(
    ("body", "before", "after"),
    [
        ("req.json.aps.badge = 3", b'{"aps":{"badge":1,"s":1.0}}', b'{"aps":{"badge":3,"s":1.0}}'),
        ("req.json.a = nil", b'{"a":1,"b":[]}', b'{"b":[]}'),
        ("req.json.a = json.null", b'{"a":1}', b'{"a":null}'),
        ("req.json.n = 1", b'{"n":null,"m":null}', b'{"n":1,"m":null}'),
        ("table.insert(req.json.l, 'z')", b'{"l":[]}', b'{"l":["z"]}'),
        ("table.insert(req.json.l, 'z')", b'{"l":["x",null]}', b'{"l":["x","z"]}'),
        ("table.remove(req.json.l)", b'{"l":[1,2.50,3]}', b'{"l":[1,2.50]}'),
        ("req.json.o = {}", b"{}", b'{"o":{}}'),
        ("req.json.o = 1", rb'{"s":"\ud83d\ude00\u00e4\/"}', '{"s":"\U0001f600ä/","o":1}'.encode()),
        ("req.json.l = {1, {x = true}}", b"{}", b'{"l":[1,{"x":true}]}'),
        ("req.json.x = 0.1 + 0.2", b"{}", b'{"x":0.30000000000000004}'),
        ("req.json.x = 0.1", b"{}", b'{"x":0.1}'),
        ("req.json.x = 2^53", b"{}", b'{"x":9007199254740992}'),
        ("req.json.x = '\\195\\164\\0\"'", b"{}", '{"x":"ä\\u0000\\""}'.encode()),
        ("req.json.b, req.json.a = 1, 2", b'{"z":0}', b'{"z":0,"a":2,"b":1}'),
        ("req.json = {aps = {alert = 'new'}}", b'{"z":0}', b'{"aps":{"alert":"new"}}'),
        (
            "req.json.k = 1",
            b'{"i":123456789012345678901,"e":1e3,"m":-0}',
            b'{"i":123456789012345678901,"e":1e3,"m":-0,"k":1}',
        ),
    ],
)
def test_changes_are_written_as_one_would_by_hand(body, before, after):
    assert edited(function_of(body), before) == after


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[1,]",
        '{"a" 1}',
        "01",
        "1.",
        "nul",
        '"\\x"',
        '"\\ud800"',
        '"a',
        "[1]x",
        "[" * 70 + "]" * 70,
        '{"a":1,}',
    ],
)
def test_what_is_no_json_is_nil_a_code_and_a_text(text):
    body = "local v, code, e = json.decode(msg:context_get(1, 't'))\n"
    body += "return tostring(v) .. code .. tostring(#e > 8)"
    (function,) = RUNTIME.load("p.lua", lua_module("msg_gen_data_spool", body, "msg").encode())
    assert function(PolicyMessage(Subject(context={"t": text}))) == "nil1true"


@pytest.mark.parametrize("value", ["0/0", "1/0", "print", "{[1] = 1, [1e9] = 2}", "{[true] = 1}"])
def test_what_json_has_not_is_not_written(value):
    with pytest.raises(ScriptError, match="json"):
        edited(function_of(f"req.json.x = {value}"), b"{}")
