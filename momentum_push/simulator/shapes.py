"""Answers in unusual frames: cut, padded, continued, with trailers, after a 1xx (apns.md 9.5, "streams").

    [HEADERS 1xx] [PRIORITY] HEADERS CONTINUATION… │ DATA… [HEADERS: trailers]
                             └ goes out at once ┘   └ waits for the client's window ┘

Everything here is legal HTTP/2 and some of it is hostile all the same; what is not legal is a
matter of `faults.Body`. Pure.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from momentum_push.simulator.faults import Body, Shape
from momentum_push.simulator.http2 import frame, header_block

__all__ = ["Shaped", "shaped_body", "write_shaped"]

_DATA, _HEADERS, _PRIORITY, _CONTINUATION = 0x0, 0x1, 0x2, 0x9
_END_STREAM, _END_HEADERS, _PADDED, _HAS_PRIORITY = 0x1, 0x4, 0x8, 0x20
_WEIGHT = b"\x00\x00\x00\x00\x0f"  # depends on nothing, weight 16
_TRAILERS = (("apns-trailer", "end"),)
_ODD: dict[Body, bytes] = {
    Body.EMPTY: b"",
    Body.INVALID: b'{"reason":"Bad\xff\xfe',
    Body.TEXT: b"<html>upstream connect error</html>",
    Body.NULL: b'{"reason":null}',
    Body.LIST: b'["reason"]',
}


class Shaped(NamedTuple):
    """Frames of an answer: those that go out at once, and those that need `cost` bytes of window."""

    head: bytes
    tail: bytes
    cost: int


def shaped_body(usual: bytes | None, shape: Shape) -> bytes | None:
    """Return the body that a shape makes of the usual one; None: HEADERS end the stream."""
    if shape.body is None:
        return usual
    return None if shape.body is Body.NONE else _ODD[shape.body]


def write_shaped(
    stream: int, status: int, fields: Sequence[tuple[str, str]], body: bytes | None, shape: Shape
) -> Shaped:
    """Write an answer in the frames that `shape` asks for."""
    ends_early = body is None and not shape.has_trailers
    head = b""
    if shape.interim:
        head += frame(_HEADERS, _END_HEADERS, stream, header_block(shape.interim, ()))
    if shape.has_priority:
        head += frame(_PRIORITY, 0, stream, _WEIGHT)
    head += _head(stream, header_block(status, fields), ends_early, shape)
    tail, cost = _pieces(stream, body, shape) if body is not None else (b"", 0)
    if shape.has_trailers:
        tail += frame(_HEADERS, _END_HEADERS | _END_STREAM, stream, header_block(0, _TRAILERS))
    return Shaped(head, tail, cost)


def _head(stream: int, block: bytes, ends: bool, shape: Shape) -> bytes:
    parts = _cut(block, shape.continuations + 1)
    flags = _END_STREAM if ends else 0
    first = parts[0]
    if shape.has_priority:
        flags, first = flags | _HAS_PRIORITY, _WEIGHT + first
    if shape.padding:
        flags, first = flags | _PADDED, _padded(first, shape.padding)
    flags |= _END_HEADERS if len(parts) == 1 else 0
    written = frame(_HEADERS, flags, stream, first)
    for number, part in enumerate(parts[1:], 2):
        written += frame(_CONTINUATION, _END_HEADERS if number == len(parts) else 0, stream, part)
    return written


def _pieces(stream: int, body: bytes, shape: Shape) -> tuple[bytes, int]:
    parts = _cut(body, shape.pieces)
    written, cost = b"", 0
    for number, part in enumerate(parts, 1):
        flags = _END_STREAM if number == len(parts) and not shape.has_trailers else 0
        if shape.padding:
            flags, part = flags | _PADDED, _padded(part, shape.padding)
        written += frame(_DATA, flags, stream, part)
        cost += len(part)
    return written, cost


def _cut(content: bytes, count: int) -> list[bytes]:
    """Cut into exactly `count` parts; those in front are empty where there is not enough for all."""
    edges = [len(content) * number // count for number in range(count + 1)]
    return [content[start:end] for start, end in pairwise(edges)]


def _padded(content: bytes, size: int) -> bytes:
    return bytes((size,)) + content + bytes(size)
