"""Momentum's Lua is a little more than 5.1: its manual's own examples write `!=` for `~=`.

That one is translated before compiling, outside strings and comments, without moving anything. Momentum's
bitwise operators (`flags | 4`) are not.
"""

from __future__ import annotations

import re

__all__ = ["plain"]

_TOKENS = re.compile(
    rb"""--\[(=*)\[.*?\]\1\]      # long comment
      | --[^\n]*                # comment
      | \[(=*)\[.*?\]\2\]       # long string
      | "(?:\\.|[^"\\\n])*"
      | '(?:\\.|[^'\\\n])*'
      | !=
    """,
    re.DOTALL | re.VERBOSE,
)


def plain(text: bytes) -> bytes:
    """Return a script as Lua 5.1 reads it; a first line that begins with `#` is a comment."""
    if text.startswith(b"#"):
        text = b"--" + text[2:]
    if b"!=" not in text:
        return text
    return _TOKENS.sub(lambda found: b"~=" if found[0] == b"!=" else found[0], text)
