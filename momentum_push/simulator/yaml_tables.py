"""Reads YAML by tables: which keys a mapping may have, and what reads the value of each.

Unknown keys, wrong values and missing ones are all found in one run, each with its line. What the
keys mean is not here (`faults_file`).
"""

import difflib
import ipaddress
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, NamedTuple

import yaml
from h2.errors import ErrorCodes

from momentum_push.errors import Place, Problem

__all__ = [
    "Read",
    "Reader",
    "Table",
    "addresses",
    "code",
    "digits",
    "flag",
    "flag_or",
    "number",
    "one_of",
    "retry_after",
    "text",
    "whole",
    "word",
]

Read = Callable[[Any], Any]
"""Turns a YAML value into ours; the text of what it raises completes "make it …"."""


class Wrong(ValueError):
    """A value of the wrong kind; the text completes "make it …"."""


class Table(NamedTuple):
    """The keys of a mapping with what reads each, and of which keys one must be there."""

    keys: Mapping[str, Any]
    needs: tuple[str, ...] = ()


class Reader:
    """Walks YAML nodes, since only they know their lines; gathers problems instead of stopping."""

    def __init__(self, file: str, loader: yaml.SafeLoader) -> None:
        self._file = file
        self._loader = loader
        self.problems: list[Problem] = []

    def mapping(self, node: yaml.Node, table: Table, what: str) -> dict[str, Any]:
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
        if isinstance(kind, Table):
            return self.mapping(node, kind, key)
        if isinstance(kind, tuple):  # a scalar or a mapping
            return self._value(node, kind[isinstance(node, yaml.MappingNode)], key)
        value = self._loader.construct_object(node, deep=True)
        try:
            return kind(value)
        except Wrong as error:
            return self._object(node, f"{key}: {value!r} will not do", f"make it {error}")

    def _object(self, node: yaml.Node, what: str, fix: str) -> None:
        mark = node.start_mark
        self.problems.append(Problem(Place(self._file, mark.line + 1, mark.column + 1), what, fix))


def number(least: float, most: float = float("inf"), unit: str = "") -> Read:
    def read(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
            limits = f"of {least:g} or more" if most == float("inf") else f"from {least:g} to {most:g}"
            raise Wrong(f"a number {limits}{unit}")
        return float(value)

    return read


def whole(least: int, most: int = 2**31 - 1) -> Read:
    def read(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise Wrong(f"a whole number from {least} to {most}")
        return value

    return read


def flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise Wrong("true or false")
    return value


def text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise Wrong("a text (in quotes, if it looks like a number)")
    return value


def digits(value: Any) -> str:
    if not isinstance(value, str) or not value or set(value.lower()) - set("0123456789abcdef"):
        raise Wrong("hexadecimal digits in quotes")
    return value.lower()


def addresses(value: Any) -> tuple[str, ...]:
    try:
        return tuple(str(ipaddress.ip_address(each)) for each in value.split())
    except (AttributeError, ValueError) as error:
        raise Wrong("IP addresses in one text, with blanks between them") from error


def one_of(kind: type[Enum]) -> Read:
    def read(value: Any) -> Enum:
        for member in kind:
            if member.value == value:
                return member
        raise Wrong("one of " + ", ".join(str(member.value) for member in kind))

    return read


def flag_or(kind: type[Enum]) -> Read:
    """true, false, or one of the words."""

    def read(value: Any) -> Any:
        if isinstance(value, bool):
            return value
        try:
            return read_word(value)
        except Wrong as error:
            raise Wrong(f"true, false, or {error}") from error

    read_word = one_of(kind)
    return read


def word(*words: str) -> Read:
    def read(value: Any) -> str:
        if value not in words:
            raise Wrong("one of " + ", ".join(words))
        return str(value)

    return read


def code(value: Any) -> int:
    if isinstance(value, str) and value in ErrorCodes.__members__:
        return int(ErrorCodes[value])
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**32:
        return value
    raise Wrong("an HTTP/2 error code: " + ", ".join(ErrorCodes.__members__) + " or a number")


def retry_after(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise Wrong("seconds or an HTTP date")
    return str(value)
