"""Whose turn it is to send: one budget for each turn of the loop, shared by all pools.

    wake ──► waiting line ──► a pool sends its turn's worth ──► still something due? to the end of the line
                                         │
                              budget spent: the rest in the next turn of the loop

However many queues are busy, the loop comes round to clients, answers and timers after BUDGET messages.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Protocol

__all__ = ["BUDGET", "Turns"]

BUDGET = 300
"""Messages that one turn of the loop sends, for all queues together."""


class Sends(Protocol):
    """What takes turns."""

    def pump(self) -> int:
        """Send what may be sent now, a turn's worth at most; return how much that was."""


class Turns:
    """The waiting line."""

    def __init__(self) -> None:
        self._line: deque[Sends] = deque()
        self._waiting: set[int] = set()
        self._is_scheduled = False

    def __repr__(self) -> str:
        return f"<Turns {len(self._line)} wait>"

    def ask(self, pool: Sends) -> None:
        """Have `pool` pumped in one of the next turns; asking twice is asking once."""
        if id(pool) in self._waiting:
            return
        self._waiting.add(id(pool))
        self._line.append(pool)
        self._schedule()

    def _schedule(self) -> None:
        if not self._is_scheduled:
            self._is_scheduled = True
            asyncio.get_running_loop().call_soon(self._run)

    def _run(self) -> None:
        self._is_scheduled = False
        spent = 0
        for _ in range(len(self._line)):  # whoever asks again in this turn waits for the next
            pool = self._line.popleft()
            self._waiting.discard(id(pool))
            try:
                spent += pool.pump()
            finally:
                if self._line:
                    self._schedule()
            if spent >= BUDGET:
                break
