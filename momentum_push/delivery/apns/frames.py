"""HTTP/2 frames as bytes (RFC 9113 sections 4 and 6): cutting what was received, writing what is due.

     0        3    4     5          9
    ├ length ─┼type┼flags┼─ stream ─┼─ length bytes of payload ─…

Lives here: shapes and their limits. What a frame means is in `link` (for the connection) and in `wire`
(for a request).
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Callable, Iterator, Sequence

from momentum_push.errors import ProtocolError

__all__ = [
    "GOAWAY",
    "HEADER_LENGTH",
    "MAX_FRAME",
    "Breach",
    "Code",
    "FrameCutter",
    "frame",
    "requests_of",
    "unpad",
]

HEADER_LENGTH = 9
MAX_FRAME = 16384
"""Our SETTINGS_MAX_FRAME_SIZE: the least that HTTP/2 allows, and plenty for answers of a hundred bytes."""

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS = 0, 1, 2, 3, 4
PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 5, 6, 7, 8, 9

END_STREAM = ACK = 0x1
END_HEADERS = 0x4
PADDED = 0x8
HAS_PRIORITY = 0x20

FRAME_HEAD = struct.Struct(">IBI")
"""Length and type in one number (`length << 8 | type`), flags, stream."""


class Code(enum.IntEnum):
    """Error codes that we send or act on (RFC 9113 section 7)."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    FLOW_CONTROL_ERROR = 3
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    ENHANCE_YOUR_CALM = 11


class Breach(ProtocolError):
    """The peer broke HTTP/2; `code` is what our GOAWAY tells it."""

    def __init__(self, text: str, code: Code = Code.PROTOCOL_ERROR) -> None:
        super().__init__(text)
        self.code = code


def frame(kind: int, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    """Return one frame."""
    return FRAME_HEAD.pack(len(payload) << 8 | kind, flags, stream_id) + payload


def requests_of(
    first: int, blocks: Sequence[list[bytes]], lengths: list[int], bodies: list[bytes], step: int
) -> list[bytes]:
    """Return the frames of requests, in pieces.

    Args:
        first: the stream of the first one.
        blocks: their header blocks, in columns: the first block is the first of each column, joined.
        lengths: the bytes of each block.
        step: the longest frame that the peer takes.
    """
    count = len(bodies)
    if count == 1:
        return list(_split(first, b"".join([column[0] for column in blocks]), bodies[0], step))
    if max(lengths) > step or max(map(len, bodies)) > step:
        rows = zip(range(first, first + 2 * count, 2), zip(*blocks, strict=True), bodies, strict=True)
        return [
            piece for number, block, body in rows for piece in _split(number, b"".join(block), body, step)
        ]
    packed = struct.pack(f">{count}I", *range(first, first + 2 * count, 2))
    streams = [packed[start : start + 4] for start in range(0, 4 * count, 4)]
    heads = _openings(HEADERS, END_HEADERS, lengths)
    data = _openings(DATA, END_STREAM, list(map(len, bodies)))
    columns = (heads, streams, *blocks, data, streams, bodies)
    pieces = [b""] * (len(columns) * count)
    for place, column in enumerate(columns):
        pieces[place :: len(columns)] = column
    return pieces


def _openings(kind: int, flags: int, lengths: list[int]) -> list[bytes]:
    """Return what stands before the stream in the head of each frame."""
    known = {length: FRAME_HEAD.pack(length << 8 | kind, flags, 0)[:5] for length in set(lengths)}
    return [known[length] for length in lengths]


def _split(stream_id: int, block: bytes, body: bytes, step: int) -> Iterator[bytes]:
    """Yield the frames of a request whose header block or body is longer than one frame of `step` bytes."""
    kind, flags = HEADERS, 0
    for start in range(0, len(block), step):
        is_last = start + step >= len(block)
        yield frame(kind, END_HEADERS if is_last else flags, stream_id, block[start : start + step])
        kind = CONTINUATION
    for start in range(0, max(len(body), 1), step):
        is_last = start + step >= len(body)
        yield frame(DATA, END_STREAM if is_last else 0, stream_id, body[start : start + step])


def unpad(payload: bytes, flags: int) -> bytes:
    """Return a payload of HEADERS or DATA without its padding and priority fields.

    Raises:
        Breach: there is more padding than payload.
    """
    start, end = 0, len(payload)
    if flags & PADDED:
        start, end = 1, end - (payload[0] if payload else 0)
    if flags & HAS_PRIORITY:
        start += 5
    if start > end:
        raise Breach("the peer sent a frame with more padding than payload")
    return payload[start:end]


class FrameCutter:
    """Keeps what does not make a frame yet: at most one frame's bytes beyond what one read brought."""

    def __init__(self) -> None:
        self._rest = b""

    def cut(
        self, data: bytes, see_to: Callable[[bytes, int], int] = lambda data, start: start
    ) -> Iterator[tuple[int, bytes]]:
        """Yield (type, whole frame) for each frame that is complete now.

        The iterator must be used up, or the connection given up.

        Args:
            see_to: is asked wherever a frame begins, and returns where the frames end that it took from
                there; they are not yielded. To look at frames in place is several times faster.

        Raises:
            Breach: a frame longer than allowed; what is no HTTP/2 at all looks like this, too.
        """
        if self._rest:
            data = self._rest + data
        start, end = see_to(data, 0), len(data)
        while end - start >= HEADER_LENGTH:
            length = data[start] << 16 | data[start + 1] << 8 | data[start + 2]
            if length > MAX_FRAME:
                raise Breach(_too_long(data[start:], length), Code.FRAME_SIZE_ERROR)
            after = start + HEADER_LENGTH + length
            if after > end:
                break
            yield data[start + 3], data[start:after]
            start = see_to(data, after)
        self._rest = data[start:]


def _too_long(data: bytes, length: int) -> str:
    if data[:4] in (b"HTTP", b"<htm", b"<HTM", b"<!DO"):
        return "the peer speaks HTTP/1.1, not HTTP/2"
    return f"the peer sent a frame of {length} bytes; {MAX_FRAME} are allowed"
