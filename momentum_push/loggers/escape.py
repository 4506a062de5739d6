"""How a value is kept from breaking a record: escaping, for one value and for a whole column.

    place of the value       escaped                                      read back by
    bare, between `@`        @  \\  control characters, a leading "        undoing backslashes
    between quotes           "  \\  control characters                     undoing backslashes
    to the end of the line   \\  control characters                        undoing backslashes

A control character becomes a letter or a number: `\\n`, `\\r`, `\\t`, `\\x1b`, `\\u2028`; every other
escaped character stands for itself behind its backslash. What some reader takes for the end of a
line counts as a control character (C1, U+2028, U+2029), and so do halves of surrogate pairs, which
UTF-8 cannot carry. The leading quote of a bare value is escaped so that no reader takes the value
for a quoted one.

Values that need nothing are by far the most. A column is therefore looked at as a whole first, with
methods that run at the speed of C (`isprintable`, `in`); only a column in which something is found is
taken apart, and then once per distinct value.

Source: interfaces.md 5; momentum.md 8.1 leaves it open, 8.2 has the rule for the acctlog.
"""

import re
from collections.abc import Callable, Iterable

__all__ = ["bare", "bare_texts", "line", "quoted", "quoted_texts"]

_CONTROL = "\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff"
_BARE = re.compile(rf'[@\\{_CONTROL}]|\A"')
_QUOTED = re.compile(rf'["\\{_CONTROL}]')
_LINE = re.compile(rf"[\\{_CONTROL}]")
_LETTERS = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def _behind_backslash(match: re.Match[str]) -> str:
    char = match[0]
    if char in '@\\"':
        return "\\" + char
    code = ord(char)
    return _LETTERS.get(char) or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")


def bare(value: str) -> str:
    """Return `value` as it may stand between two `@`."""
    return _BARE.sub(_behind_backslash, value)


def quoted(value: str) -> str:
    """Return `value` as it may stand between two quotes."""
    return _QUOTED.sub(_behind_backslash, value)


def line(value: str) -> str:
    """Return `value` as it may stand at the end of a line, where nothing follows it."""
    return _LINE.sub(_behind_backslash, value)


def bare_texts(texts: str | list[str]) -> str | list[str]:
    """Escape a column (or the one text that all of it has) that stands between `@`."""
    joined = texts if isinstance(texts, str) else "".join(texts)
    if joined.isprintable() and "@" not in joined and "\\" not in joined and '"' not in joined:
        return texts
    return bare(texts) if isinstance(texts, str) else _escape_distinct(texts, bare)


def quoted_texts(texts: str | list[str]) -> str | list[str]:
    """Escape a column (or the one text that all of it has) that stands between quotes."""
    joined = texts if isinstance(texts, str) else "".join(texts)
    if joined.isprintable() and '"' not in joined and "\\" not in joined:
        return texts
    return quoted(texts) if isinstance(texts, str) else _escape_distinct(texts, quoted)


def _escape_distinct(texts: Iterable[str], escape: Callable[[str], str]) -> list[str]:
    known = {value: escape(value) for value in set(texts)}
    return [known[value] for value in texts]
