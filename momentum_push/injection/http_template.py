"""The REST injector's templates (momentum.md 5.1): one text, many recipients.

    "X-Device-Token: <%= :tok %>"  +  {"tok": "aabb…"}  ──►  "X-Device-Token: aabb…"

`<%= :name %>` and `[%= :name %]`, blanks optional, names in any case; the value goes in as it is, without
encoding of any kind. Pure: a template is taken apart once and joined once per recipient.

Decisions: a key without a value makes its recipient an error, for a push with a hole in it cannot be
taken back. Line ends of the *template* become CRLF, values are left alone. The generated text is in the
form of SMTP's DATA: a dot that begins a line was doubled by the sender and is undone here; a line that
is a dot alone may end the text and may not stand inside it. With `dot_stuff` the text is taken as it is.
The manual asks for 7-bit templates; we take UTF-8, which is 7-bit clean where the manual's was.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

__all__ = ["Template", "TemplateError"]

_KEY = re.compile(r"<%=\s*:\s*([^\s%<>]+)\s*%>|\[%=\s*:\s*([^\s%\[\]]+)\s*%\]")
_LAST_DOT = re.compile(rb"\r\n\.(?:\r\n)?\Z")
_LINE_END = re.compile(r"\r\n|\r|\n")


class TemplateError(ValueError):
    """This recipient's message cannot be generated."""


class Template:
    """A template, taken apart."""

    def __init__(self, text: str, dot_stuff: bool = False) -> None:
        """Take the template; `dot_stuff`: leading dots are not doubled in it."""
        parts = _KEY.split(_LINE_END.sub("\r\n", text))
        self._literals = parts[::3]
        self._keys = [
            (first or second).lower() for first, second in zip(parts[1::3], parts[2::3], strict=True)
        ]
        self._dot_stuff = dot_stuff

    def __repr__(self) -> str:
        return f"<Template of {sum(map(len, self._literals))} characters, keys {self._keys}>"

    def fill(self, values: Mapping[str, str]) -> bytes:
        """Return the text of one message; `values` by lower-case name.

        Raises:
            TemplateError: a key has no value, or a line is a dot alone.
        """
        parts = [self._literals[0]]
        for key, literal in zip(self._keys, self._literals[1:], strict=True):
            value = values.get(key)
            if value is None:
                raise TemplateError(f'template key "{key[:40]}" has no value; add it to "keys"')
            parts += (value, literal)
        text = "".join(parts).encode()
        return text if self._dot_stuff else _undo_dots(text)


def _undo_dots(text: bytes) -> bytes:
    """Take one dot from each line that begins with one (RFC 5321 section 4.5.2)."""
    if text.startswith(b"."):
        text = b"\r\n" + text
        return _undo_dots(text)[2:]
    if b"\r\n." not in text:
        return text
    text = _LAST_DOT.sub(b"\r\n", text)
    if b"\r\n.\r\n" in text:
        raise TemplateError("a line of the template is a dot alone, which ends a message; double it")
    return text.replace(b"\r\n.", b"\r\n")
