"""The value types of momentum.md 1.4: from what stands in the file to what the daemon computes with.

    kind      written                                       becomes
    BOOLEAN   on off true false enabled disabled 1 0        bool
    INTEGER   decimal; -1 where the option allows it        int, or one of the option's words
    STRING    anything                                      str
    PATH      a path or URI; "none" ends inheriting         str, "" for none
    FILE      as PATH, a file that is read                  str, where the loader found it
    OUTPUT    as PATH, a file or folder that is written     str, beside the master file when relative
    MODE      octal, 0644                                   int
    RATE      "N" per second or "N/S" per S seconds         Rate
    CHOICE    one of the option's words, any case           str, lower-case
    LIST      ( a b ), or one scalar                        list[str]
    DICT      [ key = value ]                               dict[str, str], keys lower-case

Times are whole seconds (or milliseconds where the option's unit says so) and sizes whole bytes: plain
integers, no suffixes. `convert` says what is wrong in an operator's words; it does not know where.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from momentum_push.config.nodes import Array, Dictionary, Text, Value, cited

__all__ = ["BadValue", "Kind", "Option", "Rate", "convert"]

_TRUE = frozenset({"on", "true", "enabled", "1"})
_FALSE = frozenset({"off", "false", "disabled", "0"})
_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")
_MODE = re.compile(r"0?[0-7]{3,4}")
_RATE = re.compile(r"([0-9]{1,12})\s*(?:/\s*([0-9]{1,9}))?")


class Kind(Enum):
    """How an option is written and what it becomes; see the table above."""

    BOOLEAN = "boolean"
    INTEGER = "integer"
    STRING = "string"
    PATH = "path"
    FILE = "file"
    OUTPUT = "output"
    MODE = "file mode"
    RATE = "rate"
    CHOICE = "choice"
    LIST = "array"
    DICT = "dictionary"


@dataclass(frozen=True, slots=True)
class Rate:
    """`count` per `seconds`; a count of 0 means "no limit"."""

    count: int
    seconds: int = 1

    def __str__(self) -> str:
        return str(self.count) if self.seconds == 1 else f"{self.count}/{self.seconds}"


@dataclass(frozen=True, slots=True)
class Option:
    """One row of the option table.

    Attributes:
        scopes: kinds of stanza in which it may be set; "global" is the file itself.
        unit: seconds, milliseconds, bytes, percent …; empty where there is none.
        choices: the words of a CHOICE; for an INTEGER words that are accepted beside numbers.
        aliases: further words and the choice each means.
        low, high: bounds of an INTEGER, both included.
        floor: smaller numbers are raised to it, with a warning.
        pattern: regular expression that a STRING must match whole, described by `form`.
    """

    name: str
    type: Kind
    default: Any
    scopes: tuple[str, ...]
    unit: str = ""
    help: str = ""
    choices: tuple[str, ...] = ()
    aliases: Mapping[str, str] = field(default_factory=dict)
    low: int = 0
    high: int = 2**53
    floor: int = 0
    pattern: str = ""
    form: str = ""


class BadValue(ValueError):
    """The value does not fit its option; `what` and `fix` are halves of the error's text."""

    def __init__(self, what: str, fix: str) -> None:
        self.what = what
        self.fix = fix
        super().__init__(f"{what}; {fix}")


def convert(option: Option, value: Value) -> Any:
    """The typed value of `option` as written in `value`.

    Raises:
        BadValue: wrong type, out of range, not one of the choices.
    """
    match option.type:
        case Kind.LIST:
            return _list(option, value)
        case Kind.DICT:
            return _dictionary(option, value)
        case _:
            return _SCALARS[option.type](option, _scalar(option, value))


def _scalar(option: Option, value: Value) -> str:
    if isinstance(value, Text):
        return value.text
    if isinstance(value, Array) and len(value.items) == 1 and isinstance(value.items[0], Text):
        return value.items[0].text  # ( x ) for x: seen in files that were generated
    kind = "an array" if isinstance(value, Array) else "a dictionary"
    raise BadValue(f"{option.name} takes one value, not {kind}", f"write {option.name} = {_sample(option)}")


def _boolean(option: Option, text: str) -> bool:
    word = text.lower()
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise _bad(option, text, "use true or false")


def _integer(option: Option, text: str) -> int | str:
    if text.lower() in option.choices:
        return text.lower()
    if not _INTEGER.fullmatch(text):
        raise _bad(option, text, _integer_form(option))
    number = int(text)
    if not option.low <= number <= option.high:
        raise _bad(option, text, _integer_form(option))
    return number


def _integer_form(option: Option) -> str:
    unit = f" of {option.unit}" if option.unit else ""
    top = f" to {option.high}" if option.high < 2**53 else " or more"
    words = "".join(f', or "{word}"' for word in option.choices)
    return f"use a whole number{unit} without suffix, {option.low}{top}{words}"


def _string(option: Option, text: str) -> str:
    if option.pattern and text and not re.fullmatch(option.pattern, text):
        raise _bad(option, text, f"use {option.form}")
    return text


def _path(option: Option, text: str) -> str:
    return "" if text.lower() == "none" else _string(option, text)


def _mode(option: Option, text: str) -> int:
    if not _MODE.fullmatch(text):
        raise _bad(option, text, "use an octal file mode such as 0644")
    return int(text, 8)


def _rate(option: Option, text: str) -> Rate:
    match = _RATE.fullmatch(text.strip())
    if not match or (match[2] and int(match[2]) == 0):
        raise _bad(option, text, 'use "N" for N per second or "N/S" for N per S seconds')
    return Rate(int(match[1]), int(match[2] or 1))


def _choice(option: Option, text: str) -> str:
    word = text.lower()
    word = option.aliases.get(word, word)
    if word not in option.choices:
        raise _bad(option, text, "use " + _or(option.choices))
    return word


def _list(option: Option, value: Value) -> list[str]:
    entries = value.items if isinstance(value, Array) else (value,)
    return [_entry(option, entry) for entry in entries]


def _entry(option: Option, value: Value) -> str:
    if not isinstance(value, Text):
        raise BadValue(f"{option.name} holds more than plain values", f"write {option.name} = ( a b )")
    if option.choices and value.text.lower() not in option.choices:
        raise _bad(option, value.text, "use " + _or(option.choices))
    return value.text


def _dictionary(option: Option, value: Value) -> dict[str, str]:
    if not isinstance(value, Dictionary):
        raise BadValue(f"{option.name} takes a dictionary", f'write {option.name} = [ key = "value" ]')
    return {_key(option, key): _entry_of(option, key, item) for key, item in value.items}


def _key(option: Option, key: Text) -> str:
    word = key.text.lower()
    if not option.choices:
        return key.text
    if word not in option.choices:
        raise BadValue(f'{option.name} has no key "{key.text}"', "use " + _or(option.choices))
    return word


def _entry_of(option: Option, key: Text, value: Value) -> str:
    if isinstance(value, Text):
        return value.text
    raise BadValue(f'{option.name}: key "{key.text}" takes one value', f'write {key.text} = "value"')


def _bad(option: Option, text: str, fix: str) -> BadValue:
    return BadValue(f'{option.name} cannot be "{cited(text)}"', fix)


def _or(words: tuple[str, ...]) -> str:
    listed = [f'"{word}"' for word in words]
    return listed[0] if len(listed) == 1 else ", ".join(listed[:-1]) + " or " + listed[-1]


def _sample(option: Option) -> str:
    return option.choices[0] if option.choices else f"<{option.type.value}>"


_SCALARS = {
    Kind.BOOLEAN: _boolean,
    Kind.INTEGER: _integer,
    Kind.STRING: _string,
    Kind.PATH: _path,
    Kind.FILE: _path,
    Kind.OUTPUT: _path,
    Kind.MODE: _mode,
    Kind.RATE: _rate,
    Kind.CHOICE: _choice,
}
