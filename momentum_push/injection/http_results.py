"""Answers that list what became of each notification, rendered in slices and sent in pieces.

    {"accepted": 2, "rejected": 1, "results": [{"id": MID, "apns_id": …}, {"error": …, "detail": …}, …]}

A body of a million tokens has an answer of 100 MB: it is never one string. Results are rendered a
slice a loop turn while they are sent, and the sender waits whenever the client reads slowly.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence

import msgspec
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from momentum_push.injection.http_answers import RequestRefused, Whole
from momentum_push.injection.http_drafts import Result
from momentum_push.message import Refusal
from momentum_push.message.names import both

__all__ = ["SLICE", "Ledger", "Pieces", "outcome", "refusals_of", "render", "slices"]

SLICE = 500
"""Results that one loop turn renders: about a millisecond."""

MEMORY = 1_048_576
"""Bytes of results that a stream keeps in memory; more goes to a temporary file."""

_encode = msgspec.json.Encoder().encode
_RENDERED = Refusal("", "")


def render(results: Sequence[Result]) -> bytes:
    """Return results as JSON objects with commas between; message ids and UUIDs need no escaping."""
    messages = [result for result in results if not isinstance(result, Refusal)]
    text = both(messages, '{"id":"', '","apns_id":"', '"},')
    if len(messages) == len(results):
        return text[:-1].encode()
    there = iter(text.split("},"))
    return ",".join(
        [_refusal(result) if isinstance(result, Refusal) else next(there) + "}" for result in results]
    ).encode()


def _refusal(refusal: Refusal) -> str:
    return _encode({"error": refusal.error, "detail": refusal.detail}).decode()


def slices(results: list[Result]) -> Iterator[bytes]:
    """Yield the rendered results SLICE by SLICE, commas included; what is rendered is let go.

    Were a million messages let go at once, in the end, the loop would stand still for a tenth of a second.
    """
    for start in range(0, len(results), SLICE):
        some = results[start : start + SLICE]
        yield (b"," if start else b"") + render(some)
        results[start : start + SLICE] = [_RENDERED] * len(some)


def refusals_of(results: Sequence[Result]) -> list[Refusal]:
    """Return those that were refused."""
    return [result for result in results if type(result) is Refusal]


def outcome(
    accepted: int, rejected: int, refused: RequestRefused | None, results: Iterator[bytes]
) -> Response:
    """Return the answer of a request whose notifications were looked at.

    Args:
        refused: why the request failed as a whole, though some of it may have been accepted; None: 200.
        results: rendered, commas included.
    """
    status, headers = (refused.status, refused.headers) if refused else (200, {})
    opening = b'"accepted":%d,"rejected":%d,"results":[' % (accepted, rejected)
    if refused:
        opening = _encode({"error": refused.error, "detail": refused.detail})[:-1] + b"," + opening
    else:
        opening = b"{" + opening
    if accepted + rejected <= SLICE:
        return Whole(status, opening + b"".join(results) + b"]}", headers)
    return Pieces(status, _framed(opening, results), headers)


def _framed(opening: bytes, results: Iterator[bytes]) -> Iterator[bytes]:
    yield opening
    yield from results
    yield b"]}"


class Pieces(Response):
    """A JSON answer that is sent as it is made; with `disable_chunked` it is made whole first."""

    def __init__(self, status: int, pieces: Iterator[bytes], headers: Mapping[str, str]) -> None:
        super().__init__(None, status, headers, "application/json")
        self._pieces = pieces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the pieces; each waits until the client has read most of what came before."""
        del self.headers["content-length"]  # Response counted an empty body
        pieces = self._pieces
        if scope["http_version"] == "1.0" or scope["caller"].options["disable_chunked"]:
            whole = b"".join(pieces)
            self.headers["content-length"] = str(len(whole))
            pieces = iter((whole,))
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        async for piece in _turns(pieces):
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _turns(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece
        await asyncio.sleep(0)


class Ledger:
    """Results of a stream of any length, in order, out of memory's way."""

    def __init__(self) -> None:
        self.accepted = 0
        self.rejected = 0
        self.first: Refusal | None = None
        self._file = tempfile.SpooledTemporaryFile(max_size=MEMORY)  # noqa: SIM115  closed by `rendered`

    @property
    def count(self) -> int:
        """Notifications so far."""
        return self.accepted + self.rejected

    def add(self, results: Sequence[Result]) -> list[Refusal]:
        """Note the results of a list; return its refusals."""
        refusals = refusals_of(results)
        if self.count and results:
            self._file.write(b",")
        self._file.write(render(results))
        if refusals and not self.count and type(results[0]) is Refusal:
            self.first = results[0]
        self.accepted += len(results) - len(refusals)
        self.rejected += len(refusals)
        return refusals

    def rendered(self) -> Iterator[bytes]:
        """Yield all results; the ledger is of no more use then."""
        with self._file:
            self._file.seek(0)
            while piece := self._file.read(65_536):
                yield piece
