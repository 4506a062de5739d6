"""Order, errors, breaker, counts and reloading; in both languages where they differ."""

import os

import pytest
import structlog

from momentum_push.config import load, loads
from momentum_push.errors import ConfigError
from momentum_push.scripting import Limits, PolicyMessage, Request, Subject, Vctx, limits_of, validate
from tests.helpers.scripts import Stage, a_message, lua_module

HEAD = "from momentum_push.scripting import Hooks\nimport time\nclass P(Hooks):\n"


def python_module(hook: str, body: str, arguments: str = "msg") -> str:
    return f"{HEAD}    def {hook}(self, {arguments}):\n        {body}\n"


def a_msg() -> PolicyMessage:
    return PolicyMessage(Subject())


def write(folder, **texts):
    for name, text in texts.items():
        stem, _, suffix = name.rpartition("_")
        (folder / f"{stem}.{suffix}").write_text(text)


def note(letter: str, value: str) -> str:
    """A Lua function that appends a letter to context variable `trace`, and returns a value."""
    return lua_module(
        "msg_gen_data_spool",
        f'msg:context_set(1, "trace", msg:context_get(1, "trace") .. "{letter}") return {value}',
        "msg",
    )


def noted(letter: str, value: str) -> str:
    body = f'msg.context_set(1, "trace", msg.context_get(1, "trace") + "{letter}"); return {value}'
    return python_module("msg_gen_data_spool", body)


@pytest.mark.parametrize(
    ("texts", "trace", "result"),
    [
        ({"a_lua": note("a", "0"), "b_py": noted("b", "0"), "c_lua": note("c", "nil")}, "abc", 0),
        ({"a_lua": note("a", "0"), "b_py": noted("b", "1"), "c_lua": note("c", "0")}, "ab", 1),
        ({"a_lua": note("a", "msys.core.VALIDATE_DONE"), "b_py": noted("b", "0")}, "a", 1),
        ({"a_lua": note("a", "msys.core.VALIDATE_AGAIN"), "b_py": noted("b", "None")}, "ab", 0),
        ({"a_lua": note("a", "'word'"), "b_py": noted("b", "'word'")}, "ab", 0),
        ({"a_lua": note("a", "error('x')"), "b_py": noted("b", "1 / 0"), "c_py": noted("c", "1")}, "abc", 1),
    ],
)
def test_functions_run_in_order_and_done_ends_them(tmp_path, texts, trace, result):
    write(tmp_path, **texts)
    engine = Stage().engine(tmp_path, *(name[0] for name in texts))
    message = a_msg()
    assert engine.call("msg_gen_data_spool", message) == result
    assert message.context_get(1, "trace") == trace


def test_a_hook_that_nobody_registered_is_not_used(tmp_path):
    write(tmp_path, a_lua=note("a", "0"))
    engine = Stage().engine(tmp_path, "a")
    assert engine.is_used("msg_gen_data_spool") and not engine.is_used("apn_request_eval")
    assert list(engine.used) == ["msg_gen_data_spool"]
    assert engine.call("apn_request_eval", None, None) == 0


def test_errors_go_to_the_paniclog_with_hook_and_place(tmp_path):
    write(tmp_path, a_lua=note("a", "error('oh')"), b_py=noted("b", "1 / 0"))
    stage = Stage()
    stage.engine(tmp_path, "a", "b").call("msg_gen_data_spool", a_msg())
    assert stage.panics == [
        "scriptlet: msg_gen_data_spool error: a.lua:5: oh",
        "scriptlet: msg_gen_data_spool error: b.py:5: ZeroDivisionError: division by zero",
    ]


def test_a_script_that_fails_again_and_again_is_taken_out_with_one_line(tmp_path):
    write(tmp_path, bad_lua=note("a", "error('oh')"), good_lua=note("b", "0"))
    stage = Stage()
    engine = stage.engine(tmp_path, "bad", "good")
    with structlog.testing.capture_logs() as logs:
        for _ in range(20):
            engine.call("msg_gen_data_spool", a_msg())
    assert [entry["event"] for entry in logs] == ["script_disabled"]
    assert len(stage.panics) == 10
    assert [(row.calls, row.errors, row.is_disabled) for row in engine.counts()] == [
        (10, 10, True),
        (20, 0, False),
    ]


def test_failures_that_are_not_in_a_row_take_nobody_out(tmp_path):
    body = "n = (n or 0) + 1 if n % 5 == 0 then return 0 end error('oh')"
    write(tmp_path, a_lua=lua_module("msg_gen_data_spool", body, "msg"))
    engine = Stage().engine(tmp_path, "a")
    for _ in range(40):
        engine.call("msg_gen_data_spool", a_msg())
    assert engine.counts()[0].calls == 40 and engine.is_used("msg_gen_data_spool")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a_lua", lua_module("msg_gen_data_spool", "while true do end", "msg")),
        (
            "a_py",
            python_module(
                "msg_gen_data_spool",
                "t = time.perf_counter()\n        while time.perf_counter() < t + .02: pass",
            ),
        ),
    ],
)
def test_overruns_count_fourfold(tmp_path, name, text):
    write(tmp_path, **{name: text})
    stage = Stage()
    engine = stage.engine(tmp_path, "a", limits=Limits(time_s=0.01))
    for _ in range(5):
        engine.call("msg_gen_data_spool", a_msg())
    assert engine.counts()[0].calls == 3 and not engine.is_used("msg_gen_data_spool")


def test_calls_and_seconds_are_counted_for_each_hook(tmp_path):
    write(tmp_path, a_lua=note("a", "0"), b_py=noted("b", "0"))
    engine = Stage().engine(tmp_path, "a", "b")
    for _ in range(3):
        engine.call("msg_gen_data_spool", a_msg())
    calls, errors, seconds = engine.totals()["msg_gen_data_spool"]
    assert (calls, errors) == (6, 0) and seconds > 0


LIST = """
    def apn_request_eval_list(self, calls):
        for req, msg in calls:
            req.topic = f"of.{len(calls)}"
        return [1] + [0] * (len(calls) - 1)
"""


def test_a_list_form_gets_the_whole_list_and_answers_for_each(tmp_path):
    (tmp_path / "a.py").write_text(HEAD + LIST)
    write(tmp_path, b_lua=lua_module("apn_request_eval", "req.topic = req.topic .. '.lua' return 0"))
    engine = Stage().engine(tmp_path, "a", "b")
    requests = [Request(a_message(sequence=number), "t") for number in range(3)]
    assert engine.call_list("apn_request_eval", [(request, a_msg()) for request in requests]) == [1, 0, 0]
    assert [request.topic for request in requests] == ["of.3", "of.3.lua", "of.3.lua"]
    single = Request(a_message(), "t")
    assert engine.call("apn_request_eval", single, a_msg()) == 1
    assert single.topic == "of.1"


@pytest.mark.parametrize("answers", ["[0]", "5", "'aaa'"])
def test_a_list_form_that_answers_for_others_is_an_error(tmp_path, answers):
    write(tmp_path, a_py=python_module("msg_gen_data_spool_list", f"return {answers}", "calls"))
    stage = Stage()
    engine = stage.engine(tmp_path, "a")
    results = engine.call_list("msg_gen_data_spool", [(a_msg(),), (a_msg(),)])
    assert results == [0, 0]
    assert "2 answers are wanted" in stage.panics[0]


def reception(value: str) -> str:
    return lua_module("ec_message_mcmt_pre_fixup", f"return {value}", "msg, reception")


@pytest.mark.parametrize(
    ("values", "result"),
    [
        (["reception", "nil"], "passthru"),
        (["'allow'", "reception"], "allow"),
        (["msys.core.MCMT_RECEPTION_REJECT", "'allow'"], "reject"),
        (["'rubbish'", "5"], "passthru"),
    ],
)
def test_reception_is_handed_down_the_chain_and_reject_ends_it(tmp_path, values, result):
    for number, value in enumerate(values):
        (tmp_path / f"s{number}.lua").write_text(reception(value))
    engine = Stage().engine(tmp_path, "s0", "s1")
    assert engine.call_reception(a_msg(), "passthru") == result


def test_what_mcmt_fixup_returns_comes_back_as_it_is(tmp_path):
    write(tmp_path, a_lua=lua_module("ec_message_mcmt_fixup", "return msys.core.EC_MSG_MCMT_ERROR", "msg"))
    assert Stage().engine(tmp_path, "a").call("ec_message_mcmt_fixup", a_msg()) == 2


def test_everything_that_is_wrong_is_told_at_once_with_its_place(tmp_path):
    write(
        tmp_path,
        a_lua="x = = 1",
        b_py="def (",
        c_py="x = 1",
        d_lua="x = 1",
        e_py="1 / 0",
        f_lua="msys.registerModule('f', {})",
    )
    with pytest.raises(ConfigError) as caught:
        Stage().engine(tmp_path, "a", "b", "c", "d", "e", "f", "nosuch", "../x")
    lines = [str(problem).replace(f"{tmp_path}/", "") for problem in caught.value.problems]
    beginnings = [
        "a.lua:1:0: unexpected symbol near '='; correct the script",
        "b.py:1:0: ",
        "c.py: no class derives from momentum_push.scripting.Hooks",
        "e.py:1:0: ZeroDivisionError",
        "f.lua:1:0: no usable methods found for module f in registerModule call",
        'push.conf:3:5: script "d" (d.lua) registers no module',
        'push.conf:3:5: source "../x" of script "../x" is no name of a script',
        'push.conf:3:5: source "nosuch" of script "nosuch" is not found in ',
    ]
    assert len(lines) == len(beginnings)
    for line, beginning in zip(lines, beginnings, strict=True):
        assert line.startswith(beginning)


def change(path, text):
    path.write_text(text)
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1_000_000))


@pytest.mark.parametrize("suffix", ["lua", "py"])
def test_a_changed_file_is_loaded_anew_and_counts_go_on(tmp_path, suffix):
    made = {"lua": note, "py": noted}[suffix]
    path = tmp_path / f"a.{suffix}"
    path.write_text(made("a", "0"))
    engine = Stage().engine(tmp_path, "a")
    engine.call("msg_gen_data_spool", a_msg())
    assert engine.refresh() == []
    change(path, made("b", "0"))
    assert engine.refresh() == []
    message = a_msg()
    engine.call("msg_gen_data_spool", message)
    assert message.context_get(1, "trace") == "b"
    assert engine.totals()["msg_gen_data_spool"][0] == 2


def test_a_file_that_broke_goes_on_as_it_was_and_is_told_once(tmp_path):
    path = tmp_path / "a.lua"
    path.write_text(note("a", "0"))
    engine = Stage().engine(tmp_path, "a")
    change(path, "x = = 1")
    assert [problem.place.line for problem in engine.refresh()] == [1]
    assert engine.refresh() == []
    path.unlink()
    assert engine.refresh() == []
    message = a_msg()
    engine.call("msg_gen_data_spool", message)
    assert message.context_get(1, "trace") == "a"


def test_a_disabled_script_comes_back_when_it_changed(tmp_path):
    path = tmp_path / "a.lua"
    path.write_text(note("a", "error('x')"))
    engine = Stage().engine(tmp_path, "a")
    for _ in range(10):
        engine.call("msg_gen_data_spool", a_msg())
    assert not engine.is_used("msg_gen_data_spool")
    change(path, note("a", "1"))
    engine.refresh()
    assert engine.call("msg_gen_data_spool", a_msg()) == 1


def test_init_and_rsrc_setup_are_called_of_all_and_deinit_at_the_end(tmp_path):
    text = """
        local m = {}
        for _, name in ipairs({"init", "rsrc_setup", "deinit"}) do
          m[name] = function() print(name) return true end
        end
    """
    write(
        tmp_path, a_lua=f'{text} msys.registerModule("a", m)', b_py=python_module("init", "return True", "*a")
    )
    stage = Stage()
    engine = stage.engine(tmp_path, "a", "b")
    engine.start()
    engine.stop()
    assert stage.panics == ["scriptlet: init", "scriptlet: rsrc_setup", "scriptlet: deinit"]


def test_a_session_ends_for_every_script(tmp_path):
    write(tmp_path, a_lua=lua_module("validate_dealloc", "print('a') return 1", "vctx"))
    write(tmp_path, b_lua=lua_module("validate_dealloc", "print('b') return 1", "vctx"))
    stage = Stage()
    stage.engine(tmp_path, "a", "b").call("validate_dealloc", Vctx())
    assert stage.panics == ["scriptlet: a", "scriptlet: b"]


CONF = """
scriptlet "scriptlet" {
  script_time_limit = 20  script_memory_limit = 8000000
  script "boot" { source = "msys.boot" }
  script "a" { source = "a" }
}
"""


def config_of(folder, text):
    (folder / "push.conf").write_text(CONF)
    (folder / "a.lua").write_text(text)
    return load(folder / "push.conf", [])


def test_limits_are_those_of_the_stanza(tmp_path):
    assert limits_of(config_of(tmp_path, "")) == Limits(0.02, 8_000_000)
    assert limits_of(loads("")) == Limits()


def test_check_runs_main_chunks_and_does_nothing_else(tmp_path):
    text = """
        msys.registerControl("x", function() end) msys.timer.every(1, function() end)
        msys.counter.inc("/x") msys.config("get", "x") msys.expandMacro("x") msys.core.get_now_ts() print("x")
    """
    assert validate(config_of(tmp_path, text + note("a", "error('not called')")), []) == []
    (problem,) = validate(config_of(tmp_path, text + "x = y.z"), [])
    assert str(problem).startswith(f"{tmp_path}/a.lua:4:0: attempt to index global 'y'")
    assert validate(loads(""), []) == []
