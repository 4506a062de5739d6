"""Request bodies: read, inflated, bounded.

    client ──► uvicorn ──► stream() ──► gzip, piece by piece ──► limit, budget ──► bytes

The limit (`max_request_size`) counts bytes *after* decompression, so a bomb of a few kilobytes ends
after `max_request_size` bytes and was never in memory as a whole. A budget over all requests keeps
many large bodies at once from filling the memory: who finds it empty is asked to come back. How fast
a body must come is the protocol's business (`http_protocol`).
"""

import asyncio
import zlib
from collections.abc import AsyncIterator, Iterator
from types import TracebackType

from starlette.requests import ClientDisconnect, Request

from momentum_push.injection.http_answers import RequestRefused, header, is_waiting_for_continue

__all__ = ["Budget", "Gunzip", "discard", "read_whole", "stream"]

PIECE = 65_536
"""Most bytes that one step of decompression puts out."""

TURN = 16
"""Pieces between two turns of the loop, about two milliseconds of inflating."""

DISCARD = 65_536
"""A refused request's body is read and thrown away up to here, so that its connection can be used again."""

_GZIP = 31  # zlib's window bits for "gzip header and trailer, largest window"


class Budget:
    """Bytes of request bodies that may be in memory at once.

    Use it with `with budget.hold() as held:` and `held.grow(n)`; what was held is given back at the end.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0

    def __repr__(self) -> str:
        return f"Budget({self.used} of {self.limit} bytes used)"

    def hold(self) -> "Held":
        """Return an empty share of the budget."""
        return Held(self)


class Held:
    """One request's share of a budget."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._bytes = 0

    def __enter__(self) -> "Held":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._budget.used -= self._bytes

    def grow(self, count: int) -> None:
        """Take `count` more bytes; a request alone in the budget is always served.

        Raises:
            RequestRefused: 503, other requests hold the rest.
        """
        budget = self._budget
        if budget.used + count > budget.limit and budget.used > self._bytes:
            detail = "other requests fill the memory for bodies; send it again in a second"
            raise RequestRefused(503, "ServiceUnavailable", detail, {"Retry-After": "1"})
        budget.used += count
        self._bytes += count


class Gunzip:
    """Inflates a gzip stream of one or more members (RFC 1952) in pieces of bounded size."""

    def __init__(self) -> None:
        self._inflate = zlib.decompressobj(_GZIP)

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield what `data` inflates to, at most PIECE bytes at a time.

        Raises:
            RequestRefused: 400, this is not gzip.
        """
        while True:
            try:
                out = self._inflate.decompress(data, PIECE)
            except zlib.error as error:
                raise RequestRefused(400, "BadEncoding", f"the body is not valid gzip ({error})") from error
            if out:
                yield out
            if self._inflate.eof:
                data = self._inflate.unused_data.lstrip(b"\0")
                if not data:
                    return
                self._inflate = zlib.decompressobj(_GZIP)
                continue
            data = self._inflate.unconsumed_tail
            if not data and len(out) < PIECE:
                return

    def finish(self) -> None:
        """Say that no more comes.

        Raises:
            RequestRefused: 400, the stream is cut off.
        """
        if not self._inflate.eof:
            raise RequestRefused(400, "BadEncoding", "the gzip body ends too early; send it whole")


def _is_gzip(request: Request) -> bool:
    encodings = [value for name, value in request.scope["headers"] if name == b"content-encoding"]
    if not encodings:
        return False
    encoding = b", ".join(encodings).decode("latin-1").strip().lower()
    if encoding in ("gzip", "x-gzip"):
        return True
    if encoding in ("", "identity"):
        return False
    detail = f'Content-Encoding "{encoding[:40]}" is not supported; use gzip or none'
    raise RequestRefused(415, "UnsupportedEncoding", detail, {"Accept-Encoding": "gzip, identity"})


async def _receive(request: Request) -> tuple[bytes, bool]:
    """Return the next bytes as they came, and whether there are more.

    Raises:
        starlette.requests.ClientDisconnect: the client went away.
    """
    message = await request.receive()
    if message["type"] != "http.request":
        raise ClientDisconnect
    return message.get("body", b""), message.get("more_body", False)


async def stream(request: Request) -> AsyncIterator[bytes]:
    """Yield the body, inflated, as it comes.

    Raises:
        RequestRefused: 415 for an encoding that we do not know, 400 for broken gzip.
        starlette.requests.ClientDisconnect: the client went away.
    """
    gunzip = Gunzip() if _is_gzip(request) else None
    pieces = 0
    has_more = True
    while has_more:
        chunk, has_more = await _receive(request)
        if gunzip is None:
            if chunk:
                yield chunk
            continue
        if not chunk:
            continue
        for piece in gunzip.feed(chunk):
            yield piece
            pieces += 1
            if not pieces % TURN:
                await asyncio.sleep(0)
    if gunzip is not None:
        gunzip.finish()


def _too_large(limit: int) -> RequestRefused:
    detail = (
        f"the body has more than {limit} bytes (max_request_size, after decompression); send smaller batches"
    )
    return RequestRefused(413, "RequestTooLarge", detail)


async def read_whole(request: Request, limit: int, held: Held) -> bytes:
    """Return the whole body, inflated; `limit` 0 is no limit.

    Raises:
        RequestRefused: as `stream`, and 413 above `limit`, 503 above the budget.
    """
    announced = header(request, b"content-length")
    if limit and announced.isascii() and announced.isdecimal() and int(announced[:20]) > limit:
        raise _too_large(limit)  # before the first byte, and before "100 Continue"
    whole = _Whole(limit, held)
    if _is_gzip(request):
        async for chunk in stream(request):
            whole.add(chunk)
        return whole.bytes()
    has_more = True
    while has_more:  # not by `stream`: a generator costs a small request more than all of the rest here
        chunk, has_more = await _receive(request)
        whole.add(chunk)
    return whole.bytes()


class _Whole:
    """A body that is being gathered, within its limits."""

    def __init__(self, limit: int, held: Held) -> None:
        self._limit, self._held = limit, held
        self._chunks: list[bytes] = []
        self._size = 0

    def add(self, chunk: bytes) -> None:
        """Take the next bytes; RequestRefused where they are too many."""
        self._size += len(chunk)
        if self._limit and self._size > self._limit:
            raise _too_large(self._limit)
        self._held.grow(len(chunk))
        self._chunks.append(chunk)

    def bytes(self) -> bytes:
        """Return all of it."""
        return self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)


async def discard(request: Request) -> bool:
    """Read what is left of a refused request's body; False: too much or endless, the connection must close.

    Only a body of known length is waited for: who sends chunks may look for our answer between two.
    """
    announced = header(request, b"content-length")
    is_short = announced.isascii() and announced.isdecimal() and len(announced) < 6
    if not is_short or is_waiting_for_continue(request):
        return False
    size = 0
    while size <= DISCARD:
        message = await request.receive()
        if message["type"] != "http.request":
            return False
        size += len(message.get("body", b""))
        if not message.get("more_body", False):
            return True
    return False
