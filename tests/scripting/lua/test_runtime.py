"""Walls, budgets and the way in and out of the interpreter."""

import pytest

from momentum_push.errors import ScriptError
from momentum_push.scripting import Accept, PolicyMessage, Request, Subject, Vctx
from momentum_push.scripting.lua import LuaRuntime, Overrun
from tests.helpers.scripts import Stage, a_message, lua_module

MIB = 1 << 20


class Ticks:
    """A clock that moves a hundredth of a second each time that somebody looks."""

    def __init__(self) -> None:
        self.looks = 0

    def __call__(self) -> float:
        self.looks += 1
        return self.looks / 100


def loaded(body, stage=None, clock=None, **limits):
    """Return a runtime and a function of a script with this body."""
    stage = stage or Stage()
    runtime = LuaRuntime(stage.services, clock=clock or Ticks(), **limits)
    (function,) = runtime.load("p.lua", lua_module("msg_gen_data_spool", body, "msg").encode())
    return runtime, function


def value_of(body, **more):
    return loaded(body, **more)[1](PolicyMessage(Subject(context={"a": "1"})))


RUNAWAYS = {
    "loop": "while true do end",
    "pcall": "while true do pcall(function() while true do end end) end",
    "xpcall": "while true do xpcall(function() while true do end end, function() while true do end end) end",
    "handler": "xpcall(error, function() while true do end end)",
    "coroutine": "while true do coroutine.resume(coroutine.create(function() while true do end end)) end",
    "wrapped coroutine": "while true do pcall(coroutine.wrap(function() while true do end end)) end",
    "pcall in coroutine": """
        while true do
          coroutine.resume(coroutine.create(function()
            while true do pcall(function() while true do end end) end
          end))
        end""",
    "loadstring": "while true do pcall(loadstring('while true do end')) end",
    "sort": "table.sort({3, 2, 1}, function() while true do end end)",
    "gsub": "('aaa'):gsub('a', function() while true do end end)",
    "metamethod": """
        local t = setmetatable({}, {__index = function() while true do end end})
        pcall(function() return t.x end)""",
    "load": "load(function() while true do end end)",
    "callback": "while true do pcall(msg.context_get, msg, 9, 'a') end",
}


@pytest.mark.parametrize("body", RUNAWAYS.values(), ids=RUNAWAYS.keys())
def test_nothing_runs_longer_than_its_budget(body):
    runtime, function = loaded(body, time_limit_s=0.05)
    for _ in range(2):
        with pytest.raises(Overrun, match="took longer than 50 ms"):
            function(PolicyMessage(Subject()))
    (short,) = runtime.load("q.lua", lua_module("msg_gen_data_spool", "return 1").encode())
    assert short(PolicyMessage(Subject())) == 1, "what comes next begins anew"


NESTED = {
    "pcall": "local function f() while true do pcall(f) end end f()",
    "gsub and pcall": """
        local function f(n)
          if n > 0 then return ('a'):gsub('a', function() f(n - 1) end) end
          while true do pcall(function() while true do end end) end
        end
        while true do for n = 150, 200 do pcall(f, n) end end""",
}


@pytest.mark.parametrize("body", NESTED.values(), ids=NESTED.keys())
def test_at_the_end_of_the_stack_nothing_is_caught(body):
    """There the hook itself cannot be called: whoever catches that error would loop unseen."""
    with pytest.raises(ScriptError, match=r"stack overflow|took longer"):
        loaded(body)[1](PolicyMessage(Subject()))


def test_short_calls_hardly_ever_look_at_the_clock():
    clock = Ticks()
    _, function = loaded("return msg:context_get(1, 'a')", clock=clock)
    before = clock.looks
    for _ in range(100):
        assert function(PolicyMessage(Subject())) == ""
    assert clock.looks - before < 20, "one look for 1,000 instructions, whosesoever they are"


def test_each_call_has_a_budget_of_its_own():
    _, function = loaded("for i = 1, 3000 do end return 0", time_limit_s=0.05)
    for _ in range(20):
        assert function(PolicyMessage(Subject())) == 0


GLUTTONS = {
    "doubling": "local s = 'x' while true do s = s .. s end",
    "doubling, caught": "while true do pcall(function() local s = 'x' while true do s = s .. s end end) end",
    "concat": """
        local t = {} for i = 1, 1000 do t[i] = ('x'):rep(1000) end
        kept = {} while true do kept[#kept + 1] = table.concat(t) .. #kept end""",
    "answers": "kept = {} while true do kept[#kept + 1] = msg:raw() .. #kept end",
    "answers, caught": """
        kept = {}
        while true do pcall(function() while true do kept[#kept + 1] = msg:raw() .. #kept end end) end""",
    "failures, caught": """
        kept = {}
        while true do kept[#kept + 1] = ('x'):rep(9000) .. #kept pcall(msg.context_get, msg, 9, 'a') end""",
}


@pytest.mark.parametrize("body", GLUTTONS.values(), ids=GLUTTONS.keys())
def test_memory_has_an_end_and_the_process_goes_on(body):
    runtime, function = loaded(body, clock=lambda: 0.0, max_memory=4 * MIB)
    for _ in range(3):
        with pytest.raises(Overrun, match="more than 4194304 bytes"):
            function(PolicyMessage(Subject(raw=b"r" * 50_000)))
        assert runtime.memory_used < 5 * MIB


def test_a_runtime_whose_memory_is_kept_for_good_refuses_further_calls():
    """Small tables fill it to the last hundred bytes: pushing an argument then would end the process."""
    body = "while true do kept = {kept} end"
    runtime, function = loaded(body, clock=lambda: 0.0, max_memory=4 * MIB)
    for size in range(20):
        with pytest.raises(Overrun):
            function("a" * 100_000 + str(size))
    assert runtime.memory_used < 5 * MIB


def test_an_argument_that_does_not_fit_is_refused():
    runtime = LuaRuntime(Stage().services, max_memory=4 * MIB)
    (function,) = runtime.load("p.lua", lua_module("validate_ehlo", "return #str", "str").encode())
    with pytest.raises(Overrun):
        function("a" * 5 * MIB, Accept(), Vctx())
    assert function("a" * 1000, Accept(), Vctx()) == 1000


def test_garbage_is_collected_before_a_call_is_refused():
    body = "local t while true do t = {t} end"
    runtime, function = loaded(body, clock=lambda: 0.0, max_memory=4 * MIB)
    (short,) = runtime.load("q.lua", lua_module("msg_gen_data_spool", "return 1").encode())
    for _ in range(3):
        with pytest.raises(Overrun):
            function(PolicyMessage(Subject()))
        assert short(PolicyMessage(Subject())) == 1


@pytest.mark.parametrize("is_caught", [False, True])
@pytest.mark.parametrize("size", [100, 100_000])
def test_answers_of_python_find_room_or_end_the_call(size, is_caught):
    """Nearly all memory is taken by what Python pushes, where an allocation must not fail."""
    push = "kept = {kept, msys.pcre.replace(tostring(n), '^', pad)}"
    step = f"pcall(function() {push} end)" if is_caught else push
    body = f"pad = pad or ('x'):rep({size}) n = n or 0 while true do n = n + 1 {step} end"
    runtime, function = loaded(body, clock=lambda: 0.0, max_memory=4 * MIB)
    for _ in range(20):
        with pytest.raises(Overrun, match="more than 4194304 bytes"):
            function(PolicyMessage(Subject()))
    assert runtime.memory_used < 5 * MIB


class Restless:
    """A source whose id is another long text at each look."""

    looks = 0

    @property
    def id(self):
        self.looks += 1
        return f"{self.looks} " * 5000


@pytest.mark.parametrize("is_caught", [False, True])
def test_fields_find_room_too(is_caught):
    step = "pcall(function() kept = {kept, msg.id} end)" if is_caught else "kept = {kept, msg.id}"
    runtime, function = loaded(f"while true do {step} end", clock=lambda: 0.0, max_memory=4 * MIB)
    for _ in range(20):
        with pytest.raises(Overrun, match="more than 4194304 bytes"):
            function(PolicyMessage(Restless()))
    assert runtime.memory_used < 5 * MIB


@pytest.mark.parametrize(
    "name",
    [
        "io",
        "debug",
        "python",
        "newproxy",
        "dofile",
        "loadfile",
        "os.execute",
        "os.remove",
        "os.rename",
        "os.getenv",
        "os.exit",
        "os.tmpname",
        "package.loadlib",
        "package.loaders",
        "string.dump",
    ],
)
def test_what_leads_outside_is_not_there(name):
    head, _, tail = name.partition(".")
    assert value_of(f"return tostring({head}{'.' + tail if tail else ''})") == "nil"
    assert value_of(f"return tostring(getfenv(0).{head} and getfenv(0).{name})") == "nil"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("error((select(2, loadstring('\\27Lua'))))", "compiled chunks are not loaded"),
        ("setfenv(0, {})", "stays as it is"),
        ("setfenv(print, {})", "keeps its environment"),
        ("getmetatable('').__index = nil", "attempt to index a boolean value"),
        ("local x = ('x'):rep(1e9) return x", "longer than 16777216 bytes"),
        ("msg.id = 'x'", "p.lua:5: id cannot be assigned"),
        ("msg.context_get(1, 'a')", "call it with a colon"),
        ("local x = msg:context_get(9, 'a')", "p.lua:5: msg: 9 is neither"),
        ("error({})", "table: "),
        ("local x = msys.readfile('/nonexistent')", "p.lua:5: msys.readfile: /nonexistent: No such file"),
        ("require('msys.nosuch')", "module 'msys.nosuch' not found"),
        ("msys.registerModule('late', {})", "while the script is loaded"),
        ("return msg:nosuch()", "attempt to call method 'nosuch'"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(body, words):
    with pytest.raises(ScriptError, match=words):
        value_of(body)


def test_python_objects_never_enter_lua():
    assert (
        value_of("local ok, e = pcall(msg.context_get, msg, 9) return type(e) .. type(msg)") == "stringtable"
    )


def test_an_object_is_gone_when_its_hook_has_returned():
    _, function = loaded("if kept then return kept:context_get(1, 'a') end kept = msg")
    function(PolicyMessage(Subject()))
    with pytest.raises(ScriptError, match="keep values, not objects"):
        function(PolicyMessage(Subject()))


@pytest.mark.parametrize(
    ("body", "value"),
    [
        ("return msg:context_get(msys.core.ECMESS_CTX_MESS, 'a')", "1"),
        ("return msg:context_get(msys.core.ECMESS_CTX_MESS, 'b')", ""),
        ("local n, v = msg:context_exists_and_get(1, 'a') return n .. v", "11"),
        ("return #msg:header('Subject')", 0),
        ("local text, size = msg:raw() return #text + size", 0),
        ("return tostring(msg.nosuch)", "nil"),
        ("msys.core.ec_message_context_set(msg, 1, 'k', 5) return msg:context_get(1, 'k')", "5"),
        ("return msys.apn.apn_status_classifier(8) == msys.delivery.DELIVERY_PERMFAILED", True),
        ("return msys.gcm.gcm_classify_error(1) == msys.delivery.DELIVERY_TEMPFAILED", True),
        ("return msys.base64.decode(msys.base64.encode('\\0\\255x'))", "\0\udcffx"),
        ("return msys.pcre.replace('a-b', '(\\\\w)-(\\\\w)', '$2-$1')", "b-a"),
        ("return table.concat(msys.pcre.split('a, b', ',\\\\s*'), '|')", "a|b"),
        ("return tostring(msys.pcre.match('a', 'b'))", "nil"),
        (
            "local n = msys.counter local c = n.open('/a') n.inc(c) n.add('/a', 4) return n.read(c)",
            5,
        ),
        ("return msys.expandMacro('%{vctx_mess:a}')", "A"),
        ("local v, t = msys.config('get', 'domain', 'x', 'routes') return v .. t", "get domain x routesdone"),
        ("return msys.core.get_now_ts() > 1e9", True),
        ("return 1 != 2", True),
        ("return '!='", "!="),
        ("local f = loadstring('x = 5 return x') return f()", 5),
        ("return select('#', unpack({1, 2, 3}))", 3),
        ("return getfenv() == _G and getfenv(1) == _G and getfenv(msys.pcre.match) == _G", True),
        ("setfenv(1, {tostring = tostring}) return tostring(msys)", "nil"),
        ("local f = setfenv(function() return x end, {x = 4}) return f()", 4),
        ("local _, e = xpcall(function() error('a', 0) end, function(p) return p .. 'b' end) return e", "ab"),
        ("return select('#', pcall(function() return nil, nil end))", 3),
        ("local ok, e = pcall(error, {code = 5}) return e.code", 5),
        ("local n = 0 for k in pairs(package.loaded) do n = n + 1 end return n > 5", True),
        ("return load(coroutine.wrap(function() coroutine.yield('return ') coroutine.yield('7') end))()", 7),
        ("return tostring(msys.core.string_new('abc')) .. msys.core.string_new('d').buffer", "abcd"),
        ("return os.time() > 0 and os.date('%Y', 0) == '1970' and collectgarbage('count') > 0", True),
        ("module('mine', package.seeall) function f() return tostring(1) end return _M.f()", "1"),
        (
            "local c = coroutine.wrap(function(a) return 2 * coroutine.yield(a + 1) end) return c(1) + c(4)",
            10,
        ),
    ],
)
def test_scripts_find_what_momentum_gives_them(body, value):
    assert value_of(body) == value


def test_print_goes_to_the_paniclog():
    stage = Stage()
    value_of("print('a', 1, nil, msg)", stage=stage)
    assert stage.panics == ["scriptlet: a\t1\tnil\t<msg new to >"]


def test_requests_are_read_and_assigned():
    runtime = LuaRuntime(Stage().services)
    body = """
        assert(req.nosuch == nil and req.command == 2 and req.id == 7 and #req.token == 64)
        assert(req.headers["apns-priority"] == "10")
        req.topic = "a.b" req.priority = 5 req.headers["apns-collapse-id"] = "c" req.expiry = req.expiry + 1
    """
    (function,) = runtime.load("p.lua", lua_module("apn_request_eval", body).encode())
    request = Request(a_message(), "com.example.news")
    function(request, PolicyMessage(Subject()))
    assert request.changes == {
        "topic": "a.b",
        "priority": 5,
        "collapse_id": "c",
        "expiration": 1_800_000_001,
    }
    assert request.new_payload is None


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("req.json = {x = function() end}", "req.json: json: a function"),
        ("req.json.aps.alert = '\\255'", "json: "),
        ("local t = {} t.t = t req.json = t", "levels, or a circle"),
        ("req.priority = 'high'", "is no number"),
        ("req.headers['x-mine'] = 1", "no header field of Apple's"),
    ],
)
def test_what_no_request_can_carry_is_an_error_and_changes_nothing(body, words):
    runtime = LuaRuntime(Stage().services)
    (function,) = runtime.load("p.lua", lua_module("apn_request_eval", body).encode())
    request = Request(a_message(), "com.example.news")
    with pytest.raises(ScriptError, match=words):
        function(request, PolicyMessage(Subject()))
    assert not request.is_changed


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("local x = = 1", r"bad.lua:1: unexpected symbol"),
        ("error('no')", r"bad.lua:1: no"),
        ("msys.registerModule('bad', {})", "no usable methods found for module bad in registerModule call"),
        ("require('strict') x = y", r"bad.lua:1: variable 'y' is not declared"),
        ("while true do end", "took longer than 2000 ms"),
    ],
)
def test_a_script_that_cannot_be_loaded_says_why(text, words):
    with pytest.raises(ScriptError, match=words):
        LuaRuntime(Stage().services, clock=Ticks()).load("bad.lua", text.encode())


def test_scripts_do_not_see_each_others_globals_and_strict_binds_one_alone():
    runtime = LuaRuntime(Stage().services)
    one = 'require("strict") shared = 1 '
    runtime.load("one.lua", (one + lua_module("msg_gen_data_spool", "return 0")).encode())
    (two,) = runtime.load(
        "two.lua", lua_module("msg_gen_data_spool", "x = 1 return tostring(shared)").encode()
    )
    assert two(PolicyMessage(Subject())) == "nil"


def test_require_finds_helpers_and_runs_them_once():
    asked = []

    def source(name):
        asked.append(name)
        return "policy/help.lua", b"local M = {} function M.two() return 2 end return M"

    runtime = LuaRuntime(Stage().services, source=source)
    body = "return require('policy.help').two() + require('policy.help').two()"
    (function,) = runtime.load("p.lua", lua_module("msg_gen_data_spool", body).encode())
    assert function(PolicyMessage(Subject())) == 4
    assert asked == ["policy.help"]


def test_timers_and_commands_run_inside_a_budget_and_their_errors_are_told():
    stage, told = Stage(), []
    runtime = LuaRuntime(
        stage.services, clock=Ticks(), on_error=lambda what, error: told.append((what, str(error)))
    )
    text = """
        msys.timer.every(5, function() while true do end end, "loop")
        msys.registerControl("say", function(cc) print(cc.argv[0], cc.argc) return "done" end)
    """
    runtime.load("p.lua", (text + lua_module("msg_gen_data_spool", "")).encode())
    ((kind, seconds, fire, name),) = stage.timers
    assert (kind, seconds, name) == ("every", 5.0, "loop")
    fire()
    assert "took longer than 50 ms" in told[0][1] and told[0][0] == "timer loop"
    assert stage.commands["say"](["say", "it"]) == "say\t2\ndone"


def test_a_dropped_script_gives_its_memory_back():
    runtime = LuaRuntime(Stage().services)
    for number in range(100):
        text = f"local big = ('{number}'):rep(1000000) " + lua_module("msg_gen_data_spool", "return #big")
        runtime.drop(runtime.load("p.lua", text.encode()))
    assert runtime.memory_used < 20 * MIB
