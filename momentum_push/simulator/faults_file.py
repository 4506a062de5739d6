"""Reads the YAML of `simulate --faults`; `manual.MANUAL` is its description, for people.

The keys of each mapping stand in a table, with what reads their values (`yaml_tables`); what they become
stands below the tables. Not here: what the rules then do (`faults`).
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml
from h2.errors import ErrorCodes
from h2.settings import SettingCodes

from momentum_push.errors import ConfigError, Place, Problem
from momentum_push.simulator import yaml_tables as kind
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
    Rule,
    Shape,
    Window,
)
from momentum_push.simulator.manual import MANUAL
from momentum_push.simulator.names import ERRORS, NameAnswer
from momentum_push.simulator.yaml_tables import Reader, Table

__all__ = ["MANUAL", "load_faults", "parse_faults"]

_STATUS = {
    "BadDeviceToken": 400,
    "DeviceTokenNotForTopic": 400,
    "IdleTimeout": 400,
    "TopicDisallowed": 400,
    "BadCertificate": 403,
    "ExpiredProviderToken": 403,
    "Forbidden": 403,
    "InvalidProviderToken": 403,
    "Unregistered": 410,
    "ExpiredToken": 410,
    "PayloadTooLarge": 413,
    "TooManyRequests": 429,
    "TooManyProviderTokenUpdates": 429,
    "InternalServerError": 500,
    "ServiceUnavailable": 503,
    "Shutdown": 503,
}
_REASON = {
    400: "BadDeviceToken",
    403: "InvalidProviderToken",
    410: "Unregistered",
    413: "PayloadTooLarge",
    429: "TooManyRequests",
    500: "InternalServerError",
    503: "ServiceUnavailable",
}


def load_faults(path: Path) -> Faults:
    """Read a fault file.

    Raises:
        ConfigError: with every problem of the file.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeError) as error:
        what = f"cannot be read ({getattr(error, 'strerror', None) or error})"
        raise ConfigError([Problem(Place(str(path)), what, "name a readable YAML file")]) from error
    return parse_faults(text, str(path))


def parse_faults(text: str, file: str = "faults") -> Faults:
    """Read the text of a fault file; `file` is its name in errors.

    Raises:
        ConfigError: with every problem of the text.
    """
    try:
        loader = yaml.SafeLoader(text)
        root = loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = Place(file, mark.line + 1, mark.column + 1) if mark else Place(file)
        raise ConfigError([Problem(place, f"not YAML ({error.problem})", "mend the syntax")]) from error
    except yaml.YAMLError as error:
        raise ConfigError([Problem(Place(file), f"not YAML ({error})", "mend the syntax")]) from error
    reader = Reader(file, loader)
    values = reader.mapping(root, _TOP, "the file") if root is not None else {}
    if reader.problems:
        raise ConfigError(reader.problems)
    given = values.get("rules", [])
    rules = tuple(_rule(each, number) for number, each in enumerate(given, 1))
    wrong = [each for pair in zip(given, rules, strict=True) for each in _contradictions(*pair)]
    if wrong:
        raise ConfigError([Problem(Place(file), *each) for each in wrong])
    return _faults(values, rules)


_AT_DOOR = ("refuse_connect", "handshake_delay", "shut_listener")
_ONLY_REQUESTS = (
    *("delay", "status", "reason", "timestamp", "retry_after", "answer", "shuffle", "silent", "reset"),
    *("refuse", "then_reset", "accept_then_close", "processed", "wedge"),
)
_OF_REQUESTS = ("token", "topic", "push_type", "verdict", "token_changed")


def _contradictions(values: dict[str, Any], rule: Rule) -> Iterable[tuple[str, str]]:
    """Say what cannot be, of one rule: (what, how to fix)."""
    do, match, named = values["do"], values.get("match", {}), f'rule "{rule.name}"'
    if "limit_for" in do and "limit" not in do:
        yield f"{named} has limit_for without limit", "say which limit"
    if not rule.is_at_connect:
        return
    if any(key in do for key in _ONLY_REQUESTS):
        yield (
            f"{named} answers requests at connect",
            "at connect do only what the manual lists for connections",
        )
    if any(key in match for key in _OF_REQUESTS):
        yield f"{named} matches requests at connect", "at connect match only connections, times and counts"
    if rule.action.is_at_door and any(key not in _AT_DOOR for key in do):
        yield f"{named} does more than {' or '.join(_AT_DOOR)}", "write two rules"


_SECONDS = kind.number(0.0, 86_400.0, " seconds")
_TIME = kind.number(0.0)
_FLAG, _TEXT = kind.flag, kind.text
_LIMIT = kind.whole(0)

_DELAY = Table({"median": _SECONDS, "sigma": kind.number(0.0, 5.0)})
_GOAWAY = Table(
    {
        "last": kind.one_of(LastStream),
        "debug": kind.one_of(Debug),
        "reason": _TEXT,
        "code": kind.code,
        "graceful": _FLAG,
        "notice": _SECONDS,
        "twice": _FLAG,
        "close": kind.one_of(CloseMoment),
        "before_settings": _FLAG,
    }
)
_ANSWER = Table(
    {
        "body": kind.one_of(Body),
        "pieces": kind.whole(1, 100),
        "trailers": _FLAG,
        "continuations": kind.whole(0, 100),
        "padding": kind.whole(0, 255),
        "priority": _FLAG,
        "interim": kind.whole(100, 199),
    }
)
_SETTINGS = Table(
    {
        "HEADER_TABLE_SIZE": kind.whole(0, 65_536),
        "INITIAL_WINDOW_SIZE": _LIMIT,
        "MAX_FRAME_SIZE": kind.whole(16_384, 2**24 - 1),
        "MAX_HEADER_LIST_SIZE": _LIMIT,
    }
)
_DO = Table(
    {
        "delay": (_SECONDS, _DELAY),
        "status": kind.whole(200, 599),
        "reason": _TEXT,
        "timestamp": _TIME,
        "retry_after": kind.retry_after,
        "answer": _ANSWER,
        "shuffle": kind.whole(2, 1000),
        "silent": _FLAG,
        "reset": kind.code,
        "refuse": _FLAG,
        "then_reset": kind.code,
        "goaway": (_FLAG, _GOAWAY),
        "close": kind.flag_or(Closing),
        "accept_then_close": kind.flag_or(Closing),
        "processed": _FLAG,
        "wedge": _FLAG,
        "limit": _LIMIT,
        "limit_for": _SECONDS,
        "settings": _SETTINGS,
        "ping": _FLAG,
        "no_ping_ack": _FLAG,
        "stop_reading": _FLAG,
        "no_window_updates": _FLAG,
        "black_hole_after": _SECONDS,
        "hang_before_settings": _FLAG,
        "refuse_connect": _FLAG,
        "handshake_delay": _SECONDS,
        "shut_listener": _SECONDS,
    }
)
_MATCH = Table(
    {
        "token": kind.digits,
        "topic": _TEXT,
        "push_type": _TEXT,
        "connection": kind.whole(1),
        "listener": kind.whole(1),
        "nth": kind.whole(1),
        "every": kind.whole(1),
        "after": kind.whole(0),
        "times": kind.whole(1),
        "probability": kind.number(0.0, 1.0),
        "count": kind.word("all", "connection"),
        "verdict": _TEXT,
        "token_changed": _FLAG,
        "from": _TIME,
        "until": _TIME,
        "period": _TIME,
    }
)
_DEVICE = Table(
    {
        "token": kind.digits,
        "prefix": kind.digits,
        "state": kind.one_of(State),
        "since": _TIME,
        "environment": kind.word("sandbox", "production"),
        "topics": [_TEXT],
        "rate": kind.number(0.0),
    },
    needs=("token", "prefix"),
)
_NAME = Table(
    {
        "name": _TEXT,
        "addresses": kind.addresses,
        "error": kind.word(*ERRORS),
        "delay": _SECONDS,
        "after": kind.whole(0),
        "times": kind.whole(1),
        "from": _TIME,
        "until": _TIME,
    },
    needs=("addresses", "error"),
)
_RULE = Table(
    {"name": _TEXT, "when": kind.word("request", "connect"), "match": _MATCH, "do": _DO}, needs=("do",)
)
_WALK = Table(
    {"every": kind.number(0.001, 86_400.0, " seconds"), "least": _LIMIT, "most": _LIMIT}, needs=("every",)
)
_TOP = Table(
    {
        "seed": kind.whole(0),
        "streams": Table(
            {
                "first": _LIMIT,
                "full": _LIMIT,
                "after_rejection": _LIMIT,
                "over": kind.word("refuse", "goaway"),
                "walk": _WALK,
            }
        ),
        "window": Table({"initial": _LIMIT, "step": kind.whole(1, 65_535)}),
        "latency": (_SECONDS, _DELAY),
        "rate": kind.number(0.001),
        "abuse": Table({"connects": kind.whole(1), "refuse": _SECONDS, "bad_tokens": kind.whole(1)}),
        "clock_offset": kind.number(-1e9),
        "devices": [_DEVICE],
        "names": [_NAME],
        "rules": [_RULE],
    }
)

_MATCH_NAMES = {"token_changed": "has_new_token", "from": "from_s", "until": "until_s", "period": "period_s"}
_GOAWAY_NAMES = {
    "graceful": "is_graceful",
    "twice": "is_twice",
    "notice": "notice_s",
    "before_settings": "is_first",
}
_ANSWER_NAMES = {"trailers": "has_trailers", "priority": "has_priority"}
_ABUSE_NAMES = {"refuse": "refuse_s"}
_NAME_NAMES = {"delay": "delay_s", "from": "from_s", "until": "until_s"}


def _renamed(values: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    return {names.get(key, key): value for key, value in values.items()}


def _faults(values: dict[str, Any], rules: tuple[Rule, ...]) -> Faults:
    streams, walk = values.get("streams", {}), values.get("streams", {}).get("walk")
    if walk is not None:
        walk = LimitWalk(walk["every"], walk.get("least", 1), walk.get("most", 1000))
    return Faults(
        seed=values.get("seed", 0),
        rules=rules,
        devices=tuple(_device(each) for each in values.get("devices", [])),
        first_limit=streams.get("first", 1),
        full_limit=streams.get("full", 1000),
        rejected_limit=streams.get("after_rejection"),
        limit_walk=walk,
        has_breach_goaway=streams.get("over") == "goaway",
        window=Window(**values.get("window", {})),
        latency=_delay(values.get("latency")),
        rate=values.get("rate", 0.0),
        abuse=Abuse(**_renamed(values.get("abuse", {}), _ABUSE_NAMES)),
        clock_offset_s=values.get("clock_offset", 0.0),
        names=tuple(NameAnswer(**_renamed(each, _NAME_NAMES)) for each in values.get("names", [])),
    )


def _rule(values: dict[str, Any], number: int) -> Rule:
    do, match = values.get("do", {}), _renamed(values.get("match", {}), _MATCH_NAMES)
    is_per_connection = match.pop("count", "all") == "connection"
    action = _action(do)
    is_first = action.goaway is not None and action.goaway.is_first
    is_at_connect = values.get("when") == "connect" or action.is_hanging or action.is_at_door or is_first
    name = values.get("name") or "+".join(do) or f"rule {number}"
    return Rule(name, Match(is_per_connection=is_per_connection, **match), action, is_at_connect)


def _action(do: dict[str, Any]) -> Action:
    reason = do.get("reason", "")
    status = do.get("status") or _STATUS.get(reason, 500 if reason else 0)
    closing = do.get("close") or do.get("accept_then_close")
    return Action(
        delay=_delay(do.get("delay")),
        status=status,
        reason=reason or _REASON.get(status, ""),
        timestamp=do.get("timestamp"),
        retry_after=do.get("retry_after", ""),
        is_silent=do.get("silent", False),
        reset=int(ErrorCodes.REFUSED_STREAM) if do.get("refuse") else do.get("reset"),
        goaway=_goaway(do.get("goaway")),
        is_close=bool(closing),
        is_processed=do.get("processed", False) or bool(do.get("accept_then_close")),
        limit=do.get("limit"),
        is_deaf=do.get("stop_reading", False),
        is_ping_ignored=do.get("no_ping_ack", False),
        is_hanging=do.get("hang_before_settings", False),
        then_reset=do.get("then_reset"),
        closing=closing if isinstance(closing, Closing) else Closing.CLEAN,
        limit_for_s=do.get("limit_for", 0.0),
        settings=tuple((int(SettingCodes[key]), value) for key, value in do.get("settings", {}).items()),
        shape=Shape(**_renamed(do["answer"], _ANSWER_NAMES)) if "answer" in do else None,
        shuffle=do.get("shuffle", 0),
        is_wedge=do.get("wedge", False),
        is_pinging=do.get("ping", False),
        is_window_withheld=do.get("no_window_updates", False),
        black_hole_s=do.get("black_hole_after", 0.0),
        is_connect_refused=do.get("refuse_connect", False),
        handshake_delay_s=do.get("handshake_delay", 0.0),
        shut_s=do.get("shut_listener", 0.0),
    )


def _delay(value: Any) -> Delay | None:
    if isinstance(value, dict):
        return Delay(value.get("median", 0.06), value.get("sigma", 0.5))
    return None if value is None else Delay(value)


def _goaway(values: Any) -> GoAway | None:
    if not isinstance(values, dict):
        return GoAway() if values else None
    return GoAway(**_renamed(values, _GOAWAY_NAMES))


def _device(values: dict[str, Any]) -> Device:
    return Device(
        token=values.get("token") or values.get("prefix", ""),
        is_prefix="token" not in values,
        state=values.get("state", State.LIVE),
        since=values.get("since", 0.0),
        environment=values.get("environment", ""),
        topics=frozenset(values.get("topics", ())),
        rate=values.get("rate", 0.0),
    )
