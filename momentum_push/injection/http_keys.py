"""The `Idempotency-Key` header (draft-ietf-httpapi-idempotency-key-header) and what is hashed for it.

    Idempotency-Key: "8e03978e-40d5-43e8-bc93-6894a57f9324"

The draft has a structured string (RFC 9651 section 3.3.3); the bare word that many clients send is the
same key. A key is the sender's own: the user who logged in, the kind of request, and the routing domain
that stands beside the list or in the URL are hashed with it, so nobody meets anybody else's, and what was
answered to one is never told to another. Where nobody logs in, all who may use the door are one sender.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from starlette.requests import Request

from momentum_push.injection.http_answers import RequestRefused
from momentum_push.injection.http_lines import Line
from momentum_push.injection.keyring import KeyInUse
from momentum_push.message.keys import Key, digest

__all__ = ["KeysInUse", "digest_body", "key_of_list", "read_key"]

MAX_KEY = 255

_QUOTED = re.compile(r'"((?:[ !#-\[\]-~]|\\["\\])*)"')
_BARE = re.compile(r"[!#-+\--:<-~]+")
_SLICE = 1_048_576
_TOO_LONG = b"\n"
"""Stands for a line that was too long to be kept; no line has one."""


def read_key(request: Request) -> str:
    """Return the key of a request, empty when it has none.

    Raises:
        RequestRefused: 400, the header is there and cannot be used.
    """
    values = [value for name, value in request.scope["headers"] if name == b"idempotency-key"]
    if not values:
        return ""
    text = values[0].decode("latin-1").strip()
    quoted = _QUOTED.fullmatch(text)
    key = re.sub(r"\\(.)", r"\1", quoted[1]) if quoted else text if _BARE.fullmatch(text) else ""
    if len(values) > 1 or not 0 < len(key) <= MAX_KEY:
        detail = (
            f'Idempotency-Key: one string of 1 to {MAX_KEY} printable ASCII characters, as "8e03978e-40d5"'
        )
        raise RequestRefused(400, "BadIdempotencyKey", detail)
    return key


async def digest_body(body: bytes) -> bytes:
    """Return the digest of a whole body; a megabyte, one millisecond, a loop turn."""
    made = hashlib.blake2b(digest_size=16)
    view = memoryview(body)
    for start in range(0, len(body), _SLICE):
        if start:
            await asyncio.sleep(0)
        made.update(view[start : start + _SLICE])
    return made.digest()


def key_of_list(name: bytes, part: int, lines: Sequence[Line], is_last: bool) -> Key:
    """Return the key of one list of a stream; a stream that is shorter or longer is another body."""
    text = b"\n".join([_TOO_LONG if line.text is None else line.text for line in lines])
    return Key(name, digest(text, b"last" if is_last else b""), part)


class KeysInUse:
    """Requests under way here, by the name of their key; a stream is, between its lists as well.

    For the answer alone: that nothing is taken twice, the intake sees to, for all doors and processes.
    """

    def __init__(self) -> None:
        self._names: set[bytes] = set()

    @contextmanager
    def hold(self, name: bytes) -> Iterator[None]:
        """Note that a request is under way; KeyInUse when one is already."""
        if name in self._names:
            raise KeyInUse
        self._names.add(name)
        try:
            yield
        finally:
            self._names.remove(name)
