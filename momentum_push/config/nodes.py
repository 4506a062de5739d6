"""What a conf file says, as a tree whose nodes know their place; nothing here knows what a name means.

    Stanza      domain "example.com" { … }         Text        bare, or "quoted"
    Assignment  retry_interval = 1200              Array       ( a b c )
    Include     include "apps.d"                   Dictionary  [ key = value … ]
    Included    the items of one file that an Include brought in (put there by the loader)

`write` prints a tree so that it parses back to an equal one. Two nodes are equal when they say the
same; places are not compared, neither is whether a text was quoted.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from momentum_push.errors import Place

__all__ = [
    "Array",
    "Assignment",
    "Dictionary",
    "Include",
    "Included",
    "Item",
    "Stanza",
    "Text",
    "Value",
    "cited",
    "quoted",
    "spelled",
    "write",
]

_INDENT = "  "
_PLAIN = re.compile(r"[A-Za-z0-9_.:+-]+")
_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}


@dataclass(frozen=True, slots=True)
class Text:
    """A scalar value or an instance name, escapes already undone."""

    text: str
    place: Place = field(compare=False)
    is_quoted: bool = field(default=True, compare=False)


@dataclass(frozen=True, slots=True)
class Array:
    """`( value value … )`"""

    items: tuple["Value", ...]
    place: Place = field(compare=False)


@dataclass(frozen=True, slots=True)
class Dictionary:
    """`[ key = value … ]`, in the order written."""

    items: tuple[tuple[Text, "Value"], ...]
    place: Place = field(compare=False)


Value = Text | Array | Dictionary


@dataclass(frozen=True, slots=True)
class Assignment:
    """`name = value`; the name as written."""

    name: str
    value: Value
    place: Place = field(compare=False)


@dataclass(frozen=True, slots=True)
class Include:
    """`include "path"` or `readonly_include "path"`."""

    path: Text
    is_readonly: bool
    place: Place = field(compare=False)


@dataclass(frozen=True, slots=True)
class Stanza:
    """`name "instance" { items }`; the name as written, the instance None when anonymous."""

    name: str
    instance: Text | None
    items: tuple["Item", ...]
    place: Place = field(compare=False)


@dataclass(frozen=True, slots=True)
class Included:
    """The items of `file`, standing where its `include` stood."""

    file: str
    items: tuple["Item", ...]


Item = Assignment | Stanza | Include | Included


def cited(text: str, limit: int = 60) -> str:
    """`text` as an error can show it: on one line, not endless."""
    shown = text if len(text) <= limit else text[: limit - 3] + "..."
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in shown)


def quoted(text: str) -> str:
    """`text` between double quotes, on one line."""
    return '"' + "".join(_ESCAPES.get(char, char) for char in text) + '"'


def spelled(value: Value) -> str:
    """A value as the conf language writes it; words of harmless characters stay bare."""
    match value:
        case Text():
            return value.text if _is_bare(value) else quoted(value.text)
        case Array():
            return "( " + "".join(spelled(item) + " " for item in value.items) + ")"
        case Dictionary():
            pairs = (f"{quoted(key.text)} = {spelled(item)} " for key, item in value.items)
            return "[ " + "".join(pairs) + "]"


def _is_bare(text: Text) -> bool:
    return not text.is_quoted and _PLAIN.fullmatch(text.text) is not None


def write(items: Iterable[Item], depth: int = 0) -> str:
    """Print a tree; parsing the result gives an equal tree (`Included` files dissolve into their items)."""
    return "".join(_lines(item, depth) for item in items)


def _lines(item: Item, depth: int) -> str:
    indent = _INDENT * depth
    match item:
        case Assignment():
            return f"{indent}{item.name} = {spelled(item.value)}\n"
        case Include():
            word = "readonly_include" if item.is_readonly else "include"
            return f"{indent}{word} {quoted(item.path.text)}\n"
        case Included():
            return write(item.items, depth)
        case Stanza():
            instance = f" {quoted(item.instance.text)}" if item.instance else ""
            body = write(item.items, depth + 1)
            return f"{indent}{item.name}{instance} {{\n{body}{indent}}}\n"
