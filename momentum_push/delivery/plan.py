"""Who gets how many: how a pool's connections share what is due, and when another one is opened.

One connection is filled before the next gets anything: a request costs least where others ride in
the same write and the same TLS record, and at part load this halves the work (apns.md 6.2). Another
connection is opened only when all are full and something still waits, one at a time.

Pure: numbers in, decisions out; the pool does what they say.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["backoff", "share", "wants_connection"]

MIN_BACKOFF_S = 1.0
MAX_BACKOFF_S = 60.0


def share(due: int, capacities: Sequence[int]) -> list[tuple[int, int]]:
    """Return (connection, messages) pairs that hand out `due` messages, the roomiest connection first.

    Args:
        capacities: messages that each connection would take now.
    """
    shares: list[tuple[int, int]] = []
    for index in sorted(range(len(capacities)), key=lambda index: -capacities[index]):
        count = min(due, capacities[index])
        if count <= 0:
            break
        shares.append((index, count))
        due -= count
    return shares


def wants_connection(due: int, free: int, connections: int, connecting: int, most: int) -> bool:
    """Return whether the pool should open another connection.

    Args:
        due: messages that wait.
        free: messages that open connections would still take.
        connections: open, draining or being opened; `connecting` of them are not yet open.
        most: `max_outbound_connections`.
    """
    return due > free and connecting == 0 and connections < most


def backoff(failures: int, jitter: float) -> float:
    """Return the seconds to wait after `failures` failed connects in a row (1 for the first).

    Args:
        jitter: chance, 0 to 1; the wait is between half and the whole of 1, 2, 4 … 60 s, so that many
            daemons do not come back together.
    """
    whole = min(MAX_BACKOFF_S, MIN_BACKOFF_S * 2.0 ** min(failures - 1, 10))
    return whole * (0.5 + 0.5 * jitter)
