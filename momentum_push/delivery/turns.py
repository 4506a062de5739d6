"""Whose turn it is to send: one budget for each turn of the loop, shared by all pools by their weights.

    wake ──► waiting line ──► a pool sends its share ──► still something due? to the end of the line
                                      │
                            budget spent: the rest in the next turn of the loop

    share = BUDGET × delivery_weight ÷ weights of all that wait, LEAST at least

While the sender of a few messages waits for his answer the budget is HURRIED: some six turns of the loop are
on his way, and each of them is as long as what is sent, and soon answered and recorded, in it.

However many queues are busy, the loop comes round to clients, answers and timers after BUDGET messages. And
however much the others have waiting, a pool that asks while N others stand in the line is served

    within 2 + N × LEAST ÷ BUDGET turns of the loop: for ten of them, three (of shorter ones, seven)

because those before it take their shares once, and whoever comes back stands behind it. Weights decide who
gets how much of it, and cannot starve anybody: LEAST keeps a share worth a write.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Protocol

__all__ = ["BUDGET", "HURRIED", "LEAST", "Turns"]

BUDGET = 300
"""Messages that one turn of the loop sends, for all queues together."""

HURRIED = 75
"""As BUDGET, while somebody waits: a millisecond's work or less. At 1,000 requests a second beside a million
that drain, answers took 46 ms with 300 and 16 ms with 50 (medians), and the drain lost a quarter."""

LEAST = 30
"""Messages that a pool may send when it has its turn, however little it weighs beside the others."""


class Sends(Protocol):
    """What takes turns."""

    def pump(self, most: int) -> int:
        """Send what may be sent now, `most` at most; return how much that was."""


class Turns:
    """The waiting line.

    Args:
        is_hurried: whether somebody waits for an answer; asked once a turn.
    """

    def __init__(self, is_hurried: Callable[[], bool] = lambda: False) -> None:
        self._is_hurried = is_hurried
        self._line: deque[tuple[Sends, int]] = deque()
        self._waiting: set[int] = set()
        self._weights = 0  # of all that wait
        self._is_scheduled = False

    def __repr__(self) -> str:
        return f"<Turns {len(self._line)} wait>"

    def ask(self, pool: Sends, weight: int = 1) -> None:
        """Have `pool` pumped in one of the next turns; asking twice is asking once."""
        if id(pool) in self._waiting:
            return
        self._waiting.add(id(pool))
        self._weights += weight
        self._line.append((pool, weight))
        self._schedule()

    def _schedule(self) -> None:
        if not self._is_scheduled:
            self._is_scheduled = True
            asyncio.get_running_loop().call_soon(self._run)

    def _run(self) -> None:
        self._is_scheduled = False
        budget = HURRIED if self._is_hurried() else BUDGET
        spent, weights = 0, self._weights
        for _ in range(len(self._line)):  # whoever asks again in this turn waits for the next
            pool, weight = self._line[0]
            share = max(LEAST, budget * weight // weights)
            if spent + share > budget:
                self._schedule()
                break
            self._line.popleft()
            self._waiting.discard(id(pool))
            self._weights -= weight
            try:
                spent += pool.pump(share)
            finally:
                if self._line:
                    self._schedule()
