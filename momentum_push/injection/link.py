"""The socket between a receiver and the core: frames out once a turn, frames in as they come.

Lives here: bytes, their flow, the end of the connection. Not here: what a frame means (`remote` in the
receiver, `reception` in the core). Whoever sends a lot waits for `room` between two frames, so that
a peer that does not read costs HIGH_WATER bytes and no more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import structlog

from momentum_push.errors import ProtocolError
from momentum_push.injection.frames import Splitter, encode

__all__ = ["HIGH_WATER", "Link"]

HIGH_WATER = 1024 * 1024
"""Bytes that may wait for the peer before `room` waits."""

log = structlog.get_logger()


class Link(asyncio.Protocol):
    """One end of the connection.

    Args:
        frames: the union of what the other end may send.
        on_frame: called with each frame, in order.
        on_lost: called once, when the other end is gone or out of step.
    """

    def __init__(self, frames: Any, on_frame: Callable[[Any], None], on_lost: Callable[[], None]) -> None:
        self._decode = msgspec.msgpack.Decoder(frames).decode
        self._on_frame = on_frame
        self._on_lost = on_lost
        self._splitter = Splitter()
        self._unsent: list[bytes] = []
        self._transport: asyncio.Transport | None = None
        self._room = asyncio.Event()
        self._room.set()
        self.is_lost = False

    def __repr__(self) -> str:
        return f"<Link {'lost' if self.is_lost else 'open'}, {self.backlog} bytes wait>"

    @property
    def backlog(self) -> int:
        """Bytes that the other end has not taken yet, but for those of this turn."""
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def send(self, frame: Any) -> None:
        """Send a frame at the end of this turn; nothing happens when the other end is gone."""
        if self.is_lost:
            return
        if not self._unsent:
            asyncio.get_running_loop().call_soon(self.flush)
        self._unsent.append(encode(frame))

    def flush(self) -> None:
        """Send now what was given to `send`."""
        if self._unsent and self._transport is not None:
            data, self._unsent = b"".join(self._unsent), []
            self._transport.write(data)

    async def room(self) -> None:
        """Wait until the other end has taken most of what was sent."""
        self.flush()
        await self._room.wait()

    def close(self) -> None:
        """Send what is left and end the connection."""
        self.flush()
        if self._transport is not None:
            self._transport.close()

    # --- asyncio.Protocol

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport
        transport.set_write_buffer_limits(HIGH_WATER)
        self.flush()

    def data_received(self, data: bytes) -> None:
        try:
            for body in self._splitter.feed(data):
                self._on_frame(self._decode(body))
        except (ProtocolError, msgspec.MsgspecError) as error:
            log.error("link_out_of_step", error=str(error))
            assert self._transport is not None
            self._transport.abort()

    def pause_writing(self) -> None:
        self._room.clear()

    def resume_writing(self) -> None:
        self._room.set()

    def connection_lost(self, error: Exception | None) -> None:
        self.is_lost = True
        self._room.set()
        self._unsent.clear()
        self._on_lost()
