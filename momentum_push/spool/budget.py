"""Bytes that may be under way at once; who finds no room waits, first come, first served."""

from __future__ import annotations

import asyncio
from collections import deque

__all__ = ["ByteBudget"]


class ByteBudget:
    """A budget of one event loop.

    Something larger than the whole budget is let through alone, so that it does not wait for ever.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0
        self._is_closed = False
        self._waiting: deque[tuple[asyncio.Future[None], int]] = deque()

    async def take(self, size: int) -> None:
        """Take `size` bytes, when there is room for them and for those who came before."""
        if not self._waiting and self._fits(size):
            self.used += size
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((turn, size))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # granted in the very turn in which it was cancelled
                self.give(size)
            raise

    def take_now(self, size: int) -> None:
        """Take `size` bytes whatever is left: for what cannot wait."""
        self.used += size

    def give(self, size: int) -> None:
        """Give `size` bytes back, and let in who now fits."""
        self.used -= size
        self._admit()

    def close(self) -> None:
        """Let everybody through; there is nothing left to protect."""
        self._is_closed = True
        self._admit()

    def _fits(self, size: int) -> bool:
        return self._is_closed or not self.used or self.used + size <= self.limit

    def _admit(self) -> None:
        while self._waiting:
            turn, size = self._waiting[0]
            if not turn.done():
                if not self._fits(size):
                    return
                self.used += size
                turn.set_result(None)
            self._waiting.popleft()
