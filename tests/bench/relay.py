"""A long way to go on one machine: a TCP relay that hands on every byte, either way, half a round trip later.

    client ──► Relay ──► deque of (due, bytes) ──► peer        python -m tests.bench.relay PORT ROUND_TRIP_MS
           ◄── deque of (due, bytes) ◄──                       prints its own port; ends with its stdin

Bytes are neither looked at nor cut: TLS goes through. A process of its own, so that it takes no time from
the client's. Each direction is one deque and one timer; past MAX_HELD bytes it stops reading, which no
connection with HTTP/2's windows comes near. Timers of uvloop count milliseconds and ring late, never early.
"""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from typing import Any

import uvloop

__all__ = ["Relay", "serve"]

MAX_HELD = 64 << 20


class _Side(asyncio.Protocol):
    """One socket of a pair; what it reads, the other writes later."""

    def __init__(self, delay_s: float) -> None:
        self.other: _Side | None = None
        self.transport: Any = None
        self._delay_s = delay_s
        self._loop = asyncio.get_running_loop()
        self._held: deque[tuple[float, bytes]] = deque()
        self._size = 0
        self._is_ringing = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self._hold(data)
        self._size += len(data)
        if self._size > MAX_HELD:
            self.transport.pause_reading()

    def connection_lost(self, error: Exception | None) -> None:
        self._hold(b"")  # the end takes as long as everything else

    def _hold(self, data: bytes) -> None:
        self._held.append((self._loop.time() + self._delay_s, data))
        if not self._is_ringing:
            self._is_ringing = True
            self._loop.call_later(self._delay_s, self._ring)

    def _ring(self) -> None:
        """Hand on what is due; where the other side is not connected yet, a little later."""
        self._is_ringing = False
        target = self.other.transport if self.other is not None else None
        held, now, due = self._held, self._loop.time() + 0.0005, []
        while target is not None and held and held[0][0] <= now:
            due.append(held.popleft()[1])
        if due and not target.is_closing():
            self._write(target, due)
        if held:
            self._is_ringing = True
            self._loop.call_later(max(held[0][0] - self._loop.time(), 0.001), self._ring)

    def _write(self, target: Any, due: list[bytes]) -> None:
        self._size -= sum(map(len, due))
        if self._size <= MAX_HELD and not self.transport.is_closing():
            self.transport.resume_reading()
        target.write(b"".join(due))
        if not due[-1]:
            target.close()


class Relay(_Side):
    """The side that a client connected to; opens the other one."""

    def __init__(self, port: int, delay_s: float) -> None:
        super().__init__(delay_s)
        self._port = port

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._opening = self._loop.create_task(self._open())

    async def _open(self) -> None:
        far = _Side(self._delay_s)
        far.other = self
        try:
            await self._loop.create_connection(lambda: far, "127.0.0.1", self._port)
        except OSError:
            self.transport.abort()
            return
        self.other = far


async def serve(port: int, round_trip_s: float) -> None:
    """Listen on a free port of the loopback until stdin ends."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Relay(port, round_trip_s / 2), "127.0.0.1", 0, backlog=512)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    server.close()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), float(sys.argv[2]) / 1000))
