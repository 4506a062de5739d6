"""The library functions of `msys` that are not objects: text in, text out (momentum.md 9.6).

Regular expressions are Python's `re` with Momentum's PCRE spellings translated. Neither can be
interrupted: a pattern that backtracks without end holds the process, here as in Momentum.
"""

from __future__ import annotations

import base64
import binascii
import re
from functools import lru_cache

from momentum_push.errors import ScriptError

__all__ = ["base64_decode", "base64_encode", "pcre_match", "pcre_replace", "pcre_split"]

_NAMED = re.compile(r"\(\?<(?=[A-Za-z_])")
_REFERENCE = re.compile(r"\$(?:(\d+)|\{(\w+)\})")


@lru_cache(maxsize=256)
def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(_NAMED.sub("(?P<", pattern).replace(r"\z", r"\Z"))
    except re.error as error:
        raise ScriptError(f"msys.pcre: {pattern!r} is no regular expression: {error}") from error


def pcre_match(subject: str, pattern: str) -> dict[int | str, str] | None:
    """Return the captures of the first match by number and name, 0 the whole; None when there is none."""
    found = _compiled(pattern).search(subject)
    if found is None:
        return None
    captures: dict[int | str, str] = {0: found[0]}
    captures.update({number: text for number, text in enumerate(found.groups(), 1) if text is not None})
    captures.update({name: text for name, text in found.groupdict().items() if text is not None})
    return captures


def pcre_replace(subject: str, pattern: str, replacement: str) -> str:
    """Replace every match; `$1` and `${name}` in the replacement stand for captures."""
    compiled = _compiled(pattern)

    def filled(found: re.Match[str]) -> str:
        return _REFERENCE.sub(lambda ref: _capture(found, ref[1] or ref[2]), replacement)

    return compiled.sub(filled, subject)


def _capture(found: re.Match[str], name: str) -> str:
    try:
        return found[int(name) if name.isdecimal() else name] or ""
    except IndexError:
        return ""


def pcre_split(subject: str, pattern: str) -> list[str]:
    """Return the pieces between the matches, captures left out."""
    pieces, start = [], 0
    for found in _compiled(pattern).finditer(subject):
        if found.end() > found.start():
            pieces.append(subject[start : found.start()])
            start = found.end()
    return [*pieces, subject[start:]]


def base64_encode(original: bytes, fold: bool = False) -> bytes:
    """Encode; folded: a line break after every 76 characters."""
    encoded = base64.b64encode(original)
    if not fold:
        return encoded
    return b"".join(encoded[at : at + 76] + b"\r\n" for at in range(0, len(encoded), 76))


def base64_decode(encoded: bytes) -> bytes:
    """Decode; line breaks do not matter.

    Raises:
        ScriptError: it is no base64.
    """
    try:
        return base64.b64decode(b"".join(encoded.split()), validate=True)
    except binascii.Error as error:
        raise ScriptError(f"msys.base64.decode: {error}") from error
