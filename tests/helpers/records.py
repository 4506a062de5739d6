"""Builders for what loggers are given, a configuration to give them, and a reader of what they write.

disposition(reason="Unregistered", kind=Kind.PERMFAIL)
Scope("apn_logger", logfile="…"), Configuration(apn_logger=[scope])
fields('1767600000@D@"a@b"@x\\@y')  ->  ["1767600000", "D", "a@b", "x@y"]
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from momentum_push.errors import Place
from momentum_push.loggers import Rejection
from momentum_push.loggers.settings import DEFAULTS
from momentum_push.message import Disposition, Kind, Message
from tests.helpers.lists import NOW
from tests.helpers.lists import message as some_message

__all__ = ["Configuration", "Scope", "disposition", "fields", "lines", "rejection", "unescape"]


def disposition(
    kind: Kind = Kind.DELIVERED, *, message: Message | None = None, **changes: Any
) -> Disposition:
    """One finished attempt; `changes` are fields of `Disposition`."""
    values: dict[str, Any] = {
        "at": NOW + 1.25,
        "attempt": 1,
        "http_status": 200,
        "remote": "192.0.2.50",
        "size": 321,
        "conn_id": "00/03-00000-00000003",
        "stage": 9,
    }
    return Disposition(kind=kind, message=message or some_message(), **(values | changes))


def rejection(**changes: Any) -> Rejection:
    """One refused injection; `changes` are fields of `Rejection`."""
    values: dict[str, Any] = {
        "peer": "192.0.2.7:40001",
        "listener": "192.0.2.1:25",
        "conn_id": "00/01-00000-00000001",
        "phase": "rcptto",
        "code": 550,
        "module": "core",
        "text": "5.7.1 relaying denied",
    }
    return Rejection(**(values | changes))


class Scope:
    """A stanza as the configuration would show it."""

    def __init__(self, kind: str, name: str = "one", place: Place | None = None, **options: Any) -> None:
        self.name = kind
        self.instance = name
        self.place = place or Place("push.conf", 3, 1)
        self._options = DEFAULTS[kind] | {"enabled": True} | options
        self._written = options

    def __getitem__(self, option: str) -> Any:
        return self._options[option]

    def origin(self, option: str) -> Place | None:
        return Place("push.conf", 4, 5) if option in self._written else None


class Configuration:
    """Stanzas by kind, nothing else."""

    def __init__(self, **stanzas: list[Scope]) -> None:
        self._stanzas = stanzas
        self.glob = {"log_hires_timestamp": False}

    def modules(self, kind: str) -> list[Scope]:
        return self._stanzas.get(kind, [])


def lines(path: Path) -> list[str]:
    """The lines of a log file, split at newlines only, each of which must have one."""
    text = path.read_text(encoding="utf-8")
    assert not text or text.endswith("\n")
    return text.split("\n")[:-1]


_FIELD = re.compile(r'"((?:[^"\\]|\\.)*)"(?=@|\Z)|((?:[^@\\]|\\.)*)')
_ESCAPED = re.compile(r"\\(?:x([0-9a-f]{2})|u([0-9a-f]{4})|(.))", re.DOTALL)
_LETTERS = {"n": "\n", "r": "\r", "t": "\t"}


def fields(line: str) -> list[str]:
    """Read a record that honours quotes and backslashes; the inverse of what the loggers write."""
    found, position = [], 0
    while True:
        match = _FIELD.match(line, position)
        assert match is not None
        found.append(unescape(match[1] if match[1] is not None else match[2]))
        if match.end() == len(line):
            return found
        assert line[match.end()] == "@", line[match.end() :]
        position = match.end() + 1


def unescape(text: str) -> str:
    """Undo the backslashes."""
    return _ESCAPED.sub(
        lambda m: chr(int(m[1] or m[2], 16)) if m[1] or m[2] else _LETTERS.get(m[3], m[3]), text
    )
