"""Cutting received bytes into HTTP/2 frames (RFC 9113 section 4.1), before anybody interprets them.

     0        3    4     5          9
    ├ length ─┼type┼flags┼─ stream ─┼─ length bytes of payload ─…

Lives here so that GOAWAY can be taken out of the stream before h2 sees it: h2 closes its state at
GOAWAY, although answers to the requests up to last-stream-id are still due (design.md 3).
"""

from __future__ import annotations

from collections.abc import Iterator

from momentum_push.errors import ProtocolError

__all__ = ["GOAWAY", "HEADER_LENGTH", "MAX_FRAME", "FrameCutter"]

HEADER_LENGTH = 9
MAX_FRAME = 16384
"""Our SETTINGS_MAX_FRAME_SIZE: the least that HTTP/2 allows, and plenty for answers of a hundred bytes."""
GOAWAY = 7


class FrameCutter:
    """Keeps what does not make a frame yet: at most one frame's bytes beyond what one read brought."""

    def __init__(self) -> None:
        self._rest = b""

    def cut(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Yield (type, whole frame) for each frame that is complete now.

        The iterator must be used up, or the connection given up.

        Raises:
            ProtocolError: a frame longer than allowed; what is no HTTP/2 at all looks like this, too.
        """
        if self._rest:
            data = self._rest + data
        start, end = 0, len(data)
        while end - start >= HEADER_LENGTH:
            length = int.from_bytes(data[start : start + 3])
            if length > MAX_FRAME:
                raise ProtocolError(_too_long(data[start:], length))
            after = start + HEADER_LENGTH + length
            if after > end:
                break
            kind = data[start + 3]
            frame = data[start:after]
            start = after
            yield kind, frame
        self._rest = data[start:]


def _too_long(data: bytes, length: int) -> str:
    if data[:4] in (b"HTTP", b"<htm", b"<HTM", b"<!DO"):
        return "the peer speaks HTTP/1.1, not HTTP/2"
    return f"the peer sent a frame of {length} bytes; {MAX_FRAME} are allowed"
