"""Reads the YAML of `simulate --faults`; `MANUAL` is its description, for people.

The keys of each mapping stand in a table, with what reads their values; so unknown keys, wrong values and
missing ones are all found in one run, each with its line. Not here: what the rules then do (`faults`).
"""

import difflib
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from h2.errors import ErrorCodes

from momentum_push.errors import ConfigError, Place, Problem
from momentum_push.simulator.devices import Device, State
from momentum_push.simulator.faults import (
    Action,
    CloseMoment,
    Debug,
    Delay,
    Faults,
    GoAway,
    LastStream,
    Match,
    Rule,
)

__all__ = ["MANUAL", "load_faults", "parse_faults"]

MANUAL = """\
seed: 7                              # of every chance; same seed, same run
streams: {first: 1, full: 1000}      # stream limit before and after a provider token was accepted
devices:                             # what is not listed is alive
  - {token: "9f8e…", state: dead, since: 1767600000}        # 410 Unregistered with that time
  - {prefix: "dead", state: expired, since: 1767600000}     # 410 ExpiredToken, all that begin so
  - {prefix: "5a", environment: sandbox, topics: [com.example.news], rate: 2}
rules:                               # the first that fits decides
  - name: storm                      # stands in the ledger as "fault"
    when: request                    # or connect
    match: {token: "00", topic: com.example.news, push_type: alert, connection: 2,
            nth: 3, every: 10, after: 100, times: 5, probability: 0.1, count: connection}
    do: {status: 503, reason: ServiceUnavailable, retry_after: 5}

match, all optional: token (its beginning), topic, push_type, connection (1 is the first opened); of
those that fit, the nth, every so many, only after so many, at most so many times, with a probability;
count: connection counts on each connection by itself.

do, alone or several together:
  delay: 0.2                         seconds; or {median: 0.06, sigma: 0.5}, log-normal
  status: 410, reason: Unregistered, timestamp: 1767600000, retry_after: 5
                                     status or reason may be left out where one gives the other
  silent: true                       never answer
  reset: INTERNAL_ERROR              RST_STREAM, by name or number
  refuse: true                       RST_STREAM REFUSED_STREAM, not processed
  goaway: {last: all|middle|none, debug: json|text|empty|invalid, reason: Shutdown, code: NO_ERROR,
           graceful: true, notice: 0.05, twice: true, close: drained|now|never}
  close: true                        close without an answer, not processed
  accept_then_close: true            count it as accepted, then close without an answer
  processed: true                    count it as accepted whatever the client is told
  limit: 1                           new MAX_CONCURRENT_STREAMS
  stop_reading: true                 until the connection ends
  no_ping_ack: true                  from now on
  hang_before_settings: true         with when: connect; accept and send nothing
"""

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

Read = Callable[[Any], Any]
"""Turns a YAML value into ours; a ValueError's text says what it should be."""


class _Wrong(ValueError):
    """A value of the wrong kind; the text completes "make it …"."""


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
    reader = _Reader(file, loader)
    values = reader.mapping(root, _TOP, "the file") if root is not None else {}
    if reader.problems:
        raise ConfigError(reader.problems)
    faults = _faults(values)
    problems = [Problem(Place(file), *each) for rule in faults.rules for each in _contradictions(rule)]
    if problems:
        raise ConfigError(problems)
    return faults


def _contradictions(rule: Rule) -> Iterable[tuple[str, str]]:
    action, match = rule.action, rule.match
    if not rule.is_at_connect:
        return
    if action.delay or action.status or action.is_silent or action.reset is not None or action.is_processed:
        what = f'rule "{rule.name}" answers requests at connect'
        yield what, "at connect do only goaway, close, limit, stop_reading, no_ping_ack, hang_before_settings"
    if match.token or match.topic or match.push_type:
        yield (
            f'rule "{rule.name}" matches requests at connect',
            "at connect match only connections and counts",
        )


class _Table(NamedTuple):
    """The keys of a mapping with what reads each, and of which keys one must be there."""

    keys: Mapping[str, Any]
    needs: tuple[str, ...] = ()


class _Reader:
    """Walks YAML nodes, since only they know their lines; gathers problems instead of stopping."""

    def __init__(self, file: str, loader: yaml.SafeLoader) -> None:
        self._file = file
        self._loader = loader
        self.problems: list[Problem] = []

    def mapping(self, node: yaml.Node, table: _Table, what: str) -> dict[str, Any]:
        """Read a mapping by its table: key -> reader of a scalar, [table] for a list, table for a mapping."""
        values: dict[str, Any] = {}
        keys = table.keys
        if not isinstance(node, yaml.MappingNode):
            self._object(node, f"{what} is no mapping", f"write {', '.join(keys)}")
            return values
        for key_node, node_below in node.value:
            key = str(self._loader.construct_object(key_node, deep=True))
            if key in keys:
                values[key] = self._value(node_below, keys[key], key)
            else:
                near = difflib.get_close_matches(key, keys, 1)
                fix = f'did you mean "{near[0]}"?' if near else f"known are {', '.join(keys)}"
                self._object(key_node, f'unknown key "{key}" in {what}', fix)
        if table.needs and not any(need in values for need in table.needs):
            self._object(node, f"{what} without {' or '.join(table.needs)}", "add it")
        return values

    def _value(self, node: yaml.Node, kind: Any, key: str) -> Any:
        if isinstance(kind, list):
            if isinstance(node, yaml.SequenceNode):
                return [self._value(each, kind[0], f"{key[:-1]}") for each in node.value]
            return self._object(node, f"{key} is no list", 'begin each entry with "- "')
        if isinstance(kind, _Table):
            return self.mapping(node, kind, key)
        if isinstance(kind, tuple):  # a scalar or a mapping
            return self._value(node, kind[isinstance(node, yaml.MappingNode)], key)
        value = self._loader.construct_object(node, deep=True)
        try:
            return kind(value)
        except _Wrong as error:
            return self._object(node, f"{key}: {value!r} will not do", f"make it {error}")

    def _object(self, node: yaml.Node, what: str, fix: str) -> None:
        mark = node.start_mark
        self.problems.append(Problem(Place(self._file, mark.line + 1, mark.column + 1), what, fix))


def _number(least: float, most: float = float("inf"), unit: str = "") -> Read:
    def read(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
            limits = f"of {least:g} or more" if most == float("inf") else f"from {least:g} to {most:g}"
            raise _Wrong(f"a number {limits}{unit}")
        return float(value)

    return read


def _whole(least: int, most: int = 2**31 - 1) -> Read:
    def read(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise _Wrong(f"a whole number from {least} to {most}")
        return value

    return read


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise _Wrong("true or false")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise _Wrong("a text (in quotes, if it looks like a number)")
    return value


def _digits(value: Any) -> str:
    if not isinstance(value, str) or not value or set(value.lower()) - set("0123456789abcdef"):
        raise _Wrong("hexadecimal digits in quotes")
    return value.lower()


def _one_of(kind: type[Enum]) -> Read:
    def read(value: Any) -> Enum:
        for member in kind:
            if member.value == value:
                return member
        raise _Wrong("one of " + ", ".join(str(member.value) for member in kind))

    return read


def _word(*words: str) -> Read:
    def read(value: Any) -> str:
        if value not in words:
            raise _Wrong("one of " + ", ".join(words))
        return str(value)

    return read


def _code(value: Any) -> int:
    if isinstance(value, str) and value in ErrorCodes.__members__:
        return int(ErrorCodes[value])
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**32:
        return value
    raise _Wrong("an HTTP/2 error code: " + ", ".join(ErrorCodes.__members__) + " or a number")


def _retry_after(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise _Wrong("seconds or an HTTP date")
    return str(value)


_SECONDS = _number(0.0, 86_400.0, " seconds")
_TIME = _number(0.0)

_DELAY = _Table({"median": _SECONDS, "sigma": _number(0.0, 5.0)})
_GOAWAY = _Table(
    {
        "last": _one_of(LastStream),
        "debug": _one_of(Debug),
        "reason": _text,
        "code": _code,
        "graceful": _flag,
        "notice": _SECONDS,
        "twice": _flag,
        "close": _one_of(CloseMoment),
    }
)
_DO = _Table(
    {
        "delay": (_SECONDS, _DELAY),
        "status": _whole(200, 599),
        "reason": _text,
        "timestamp": _TIME,
        "retry_after": _retry_after,
        "silent": _flag,
        "reset": _code,
        "refuse": _flag,
        "goaway": (_flag, _GOAWAY),
        "close": _flag,
        "accept_then_close": _flag,
        "processed": _flag,
        "limit": _whole(0),
        "stop_reading": _flag,
        "no_ping_ack": _flag,
        "hang_before_settings": _flag,
    }
)
_MATCH = _Table(
    {
        "token": _digits,
        "topic": _text,
        "push_type": _text,
        "connection": _whole(1),
        "nth": _whole(1),
        "every": _whole(1),
        "after": _whole(0),
        "times": _whole(1),
        "probability": _number(0.0, 1.0),
        "count": _word("all", "connection"),
    }
)
_DEVICE = _Table(
    {
        "token": _digits,
        "prefix": _digits,
        "state": _one_of(State),
        "since": _TIME,
        "environment": _word("sandbox", "production"),
        "topics": [_text],
        "rate": _number(0.0),
    },
    needs=("token", "prefix"),
)
_RULE = _Table(
    {"name": _text, "when": _word("request", "connect"), "match": _MATCH, "do": _DO}, needs=("do",)
)
_TOP = _Table(
    {
        "seed": _whole(0),
        "streams": _Table({"first": _whole(0), "full": _whole(0)}),
        "devices": [_DEVICE],
        "rules": [_RULE],
    }
)


def _faults(values: dict[str, Any]) -> Faults:
    streams = values.get("streams", {})
    return Faults(
        seed=values.get("seed", 0),
        rules=tuple(_rule(each, number) for number, each in enumerate(values.get("rules", []), 1)),
        devices=tuple(_device(each) for each in values.get("devices", [])),
        first_limit=streams.get("first", 1),
        full_limit=streams.get("full", 1000),
    )


def _rule(values: dict[str, Any], number: int) -> Rule:
    do, match = values.get("do", {}), dict(values.get("match", {}))
    is_per_connection = match.pop("count", "all") == "connection"
    is_at_connect = values.get("when") == "connect" or do.get("hang_before_settings", False)
    name = values.get("name") or "+".join(do) or f"rule {number}"
    return Rule(name, Match(is_per_connection=is_per_connection, **match), _action(do), is_at_connect)


def _action(do: dict[str, Any]) -> Action:
    delay, reason = do.get("delay"), do.get("reason", "")
    status = do.get("status") or _STATUS.get(reason, 500 if reason else 0)
    if isinstance(delay, dict):
        delay = Delay(delay.get("median", 0.06), delay.get("sigma", 0.5))
    elif delay is not None:
        delay = Delay(delay)
    return Action(
        delay=delay,
        status=status,
        reason=reason or _REASON.get(status, ""),
        timestamp=do.get("timestamp"),
        retry_after=do.get("retry_after", ""),
        is_silent=do.get("silent", False),
        reset=int(ErrorCodes.REFUSED_STREAM) if do.get("refuse") else do.get("reset"),
        goaway=_goaway(do.get("goaway")),
        is_close=do.get("close", False) or do.get("accept_then_close", False),
        is_processed=do.get("processed", False) or do.get("accept_then_close", False),
        limit=do.get("limit"),
        is_deaf=do.get("stop_reading", False),
        is_ping_ignored=do.get("no_ping_ack", False),
        is_hanging=do.get("hang_before_settings", False),
    )


def _goaway(values: Any) -> GoAway | None:
    if not isinstance(values, dict):
        return GoAway() if values else None
    names = {"graceful": "is_graceful", "twice": "is_twice", "notice": "notice_s"}
    settings: dict[str, Any] = {names.get(str(key), str(key)): value for key, value in values.items()}
    return GoAway(**settings)


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
