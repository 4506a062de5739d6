"""The fault file: what it may say, and what it says when it may not."""

import re
from pathlib import Path

import pytest

from momentum_push.errors import ConfigError
from momentum_push.simulator.devices import Device, State
from momentum_push.simulator.faults import (
    Abuse,
    Action,
    Body,
    CloseMoment,
    Closing,
    Debug,
    Delay,
    Faults,
    GoAway,
    LastStream,
    LimitWalk,
    Match,
    Shape,
    Window,
)
from momentum_push.simulator.faults_file import (
    _ANSWER,
    _DEVICE,
    _DO,
    _GOAWAY,
    _MATCH,
    _NAME,
    _RULE,
    _SETTINGS,
    _TOP,
    MANUAL,
    load_faults,
    parse_faults,
)
from momentum_push.simulator.names import NameAnswer


def action(do: str, when: str = "request") -> Action:
    return parse_faults(f"rules: [{{when: {when}, do: {do}}}]").rules[0].action


def test_the_example_of_the_manual_is_a_fault_file() -> None:
    example = MANUAL.split("\n\n")[0].replace("…", "aa")
    faults = parse_faults(example)
    assert (faults.seed, faults.first_limit, faults.full_limit) == (7, 1, 1000)
    assert faults.devices[0] == Device("9f8eaa", state=State.DEAD, since=1767600000)
    assert faults.devices[1].is_prefix
    assert faults.devices[2].topics == {"com.example.news"}
    assert faults.rules[0].name == "storm"
    assert faults.rules[0].match == Match(
        token="00",
        topic="com.example.news",
        push_type="alert",
        connection=2,
        nth=3,
        every=10,
        after=100,
        times=5,
        probability=0.1,
        is_per_connection=True,
        listener=1,
        from_s=10,
        until_s=15,
        period_s=60,
    )
    assert (faults.rejected_limit, faults.has_breach_goaway) == (1, False)
    assert faults.limit_walk == LimitWalk(30, 1, 1000)
    assert faults.window == Window(65535, 32768)
    assert (faults.latency, faults.rate, faults.clock_offset_s) == (Delay(0.06, 0.5), 2000, 0)
    assert faults.abuse == Abuse(600, 300, 100)
    assert faults.names == (
        NameAnswer("localhost", ("127.0.0.1", "127.0.0.2"), times=2),
        NameAnswer(error="NXDOMAIN", delay_s=0.1, after=2, from_s=5, until_s=8),
    )


@pytest.mark.parametrize(
    ("do", "wanted"),
    [
        ("{delay: 0.2}", Action(delay=Delay(0.2))),
        ("{delay: {median: 0.1, sigma: 1}}", Action(delay=Delay(0.1, 1.0))),
        ("{status: 503, retry_after: 5}", Action(status=503, reason="ServiceUnavailable", retry_after="5")),
        ("{reason: Unregistered, timestamp: 5}", Action(status=410, reason="Unregistered", timestamp=5.0)),
        ("{reason: Unheard}", Action(status=500, reason="Unheard")),
        ("{silent: true}", Action(is_silent=True)),
        ("{reset: CANCEL}", Action(reset=8)),
        ("{reset: 0}", Action(reset=0)),
        ("{refuse: true}", Action(reset=7)),
        ("{goaway: true}", Action(goaway=GoAway())),
        (
            "{goaway: {last: middle, debug: text, reason: X, code: 7, graceful: true, notice: 1, twice: true,"
            " close: never}}",
            Action(goaway=GoAway(LastStream.MIDDLE, Debug.TEXT, "X", 7, True, 1.0, True, CloseMoment.NEVER)),
        ),
        ("{close: true}", Action(is_close=True)),
        ("{accept_then_close: true}", Action(is_close=True, is_processed=True)),
        ("{processed: true}", Action(is_processed=True)),
        ("{limit: 0}", Action(limit=0)),
        ("{stop_reading: true}", Action(is_deaf=True)),
        ("{no_ping_ack: true}", Action(is_ping_ignored=True)),
        ("{close: reset}", Action(is_close=True, closing=Closing.RESET)),
        ("{close: false}", Action()),
        ("{accept_then_close: half}", Action(is_close=True, is_processed=True, closing=Closing.HALF)),
        ("{limit: 0, limit_for: 5}", Action(limit=0, limit_for_s=5.0)),
        ("{settings: {INITIAL_WINDOW_SIZE: 9}}", Action(settings=((4, 9),))),
        ("{answer: {body: none}}", Action(shape=Shape(Body.NONE))),
        (
            "{answer: {pieces: 3, trailers: true, continuations: 2, padding: 9, priority: true,"
            " interim: 103}}",
            Action(shape=Shape(None, 3, True, 2, 9, True, 103)),
        ),
        ("{shuffle: 8}", Action(shuffle=8)),
        ("{status: 500, wedge: true}", Action(status=500, reason="InternalServerError", is_wedge=True)),
        ("{ping: true}", Action(is_pinging=True)),
        ("{no_window_updates: true}", Action(is_window_withheld=True)),
        ("{black_hole_after: 60}", Action(black_hole_s=60.0)),
        ("{refuse_connect: true}", Action(is_connect_refused=True)),
        ("{handshake_delay: 3}", Action(handshake_delay_s=3.0)),
        ("{shut_listener: 5}", Action(shut_s=5.0)),
        ("{goaway: {before_settings: true}}", Action(goaway=GoAway(is_first=True))),
    ],
)
def test_actions(do: str, wanted: Action) -> None:
    assert action(do) == wanted


@pytest.mark.parametrize(
    "do",
    [
        "hang_before_settings: true",
        "goaway: {before_settings: true}",
        "refuse_connect: true",
        "handshake_delay: 1",
        "shut_listener: 1",
    ],
)
def test_what_can_only_happen_to_connections_needs_no_when(do: str) -> None:
    assert parse_faults(f"rules: [{{do: {{{do}}}}}]").rules[0].is_at_connect


def test_every_word_of_the_tables_stands_in_the_manual() -> None:
    for table in (_TOP, _RULE, _MATCH, _DO, _ANSWER, _GOAWAY, _SETTINGS, _DEVICE, _NAME):
        for key in table.keys:
            assert re.search(rf"\b{key}:", MANUAL), key


def test_the_wedges_of_the_manual_are_rules() -> None:
    text = MANUAL[MANUAL.index("Wedges") :].partition("\n")[2]
    rules = parse_faults("rules:\n" + text).rules
    assert [rule.action.is_wedge for rule in rules] == [True] * 3
    assert [rule.action.status for rule in rules] == [500, 403, 429]


def test_an_empty_file_is_no_faults() -> None:
    assert parse_faults("") == parse_faults("# nothing\n") == Faults()


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ("rules: [", ["f:1:9: not YAML"]),
        (
            "- a",
            ["f:1:1: the file is no mapping; write seed, streams, window, latency, rate, abuse, clock_off"],
        ),
        ("sed: 1", ['f:1:1: unknown key "sed" in the file; did you mean "seed"?']),
        ("rules: {}", ['f:1:8: rules is no list; begin each entry with "- "']),
        ("rules:\n- {match: {}}", ["f:2:3: rule without do; add it"]),
        ("devices: [{state: dead}]", ["f:1:11: device without token or prefix; add it"]),
        ("devices: [{token: 123}]", ["f:1:19: token: 123 will not do; make it hexadecimal digits in quotes"]),
        (
            "devices: [{token: xyz}]",
            ["f:1:19: token: 'xyz' will not do; make it hexadecimal digits in quotes"],
        ),
        (
            "devices: [{prefix: 'aa', state: ill}]",
            ["f:1:33: state: 'ill' will not do; make it one of live, dead, expired"],
        ),
        (
            "seed: x\nrules: [{do: {dely: 1, silent: 1, delay: -1}}]",
            [
                "f:1:7: seed: 'x' will not do; make it a whole number from 0 to 2147483647",
                'f:2:15: unknown key "dely" in do; did you mean "delay"?',
                "f:2:32: silent: 1 will not do; make it true or false",
                "f:2:42: delay: -1 will not do; make it a number from 0 to 86400 seconds",
            ],
        ),
        (
            "rules: [{match: {probability: 2}, do: {}}]",
            ["f:1:31: probability: 2 will not do; make it a number from"],
        ),
        (
            "rules: [{do: {reset: OOPS}}]",
            ["f:1:22: reset: 'OOPS' will not do; make it an HTTP/2 error code: NO_ER"],
        ),
        (
            "rules: [{when: connect, do: {status: 500}}]",
            ['f: rule "status" answers requests at connect; at connect'],
        ),
        (
            "rules: [{do: {limit_for: 5}}, {do: {refuse_connect: true, limit: 1}}]",
            [
                'f: rule "limit_for" has limit_for without limit; say which limit',
                'f: rule "refuse_connect+limit" does more than refuse_connect or handshake_delay',
            ],
        ),
        (
            "rules: [{do: {close: gently}}]",
            ["f:1:22: close: 'gently' will not do; make it true, false, or one of clean, no_n"],
        ),
        ("streams: {walk: {least: 1}}", ["f:1:17: walk without every; add it"]),
        (
            "rules: [{when: connect, match: {token: '00'}, do: {close: true}}]",
            ['f: rule "close" matches requests at connect; at connect match only connections, times'],
        ),
    ],
)
def test_every_problem_is_told_with_its_place_and_remedy(text: str, problems: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_faults(text, "f")
    told = str(caught.value).splitlines()
    assert len(told) == len(problems)
    for line, wanted in zip(told, problems, strict=True):
        assert line.startswith(wanted)
        assert "; " in line


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml: cannot be read \(No such file or directory\); name"):
        load_faults(tmp_path / "none.yaml")
    (tmp_path / "f.yaml").write_text("seed: 3")
    assert load_faults(tmp_path / "f.yaml").seed == 3
