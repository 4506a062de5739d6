"""Who gets how many: how a pool's connections share what is due, and how long a failed one waits.

One connection is filled before the next gets anything: a request costs least where others ride in
the same write and the same TLS record, and at part load this halves the work (apns.md 6.2). The order
is that in which they were made, so that at part load the last ones go idle and `idle_timeout` closes them.

Pure: numbers in, decisions out; the pool does what they say.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["backoff", "share"]

MIN_BACKOFF_S = 1.0
MAX_BACKOFF_S = 60.0


def share(due: int, capacities: Sequence[int]) -> list[tuple[int, int]]:
    """Return (connection, messages) pairs that hand out `due` messages.

    The first connection that takes all of them gets all; where there is none, the roomiest come first.

    Args:
        capacities: messages that each connection would take now, in an order that lasts.
    """
    if due <= 0:
        return []
    for index, capacity in enumerate(capacities):
        if capacity >= due:
            return [(index, due)]
    shares: list[tuple[int, int]] = []
    for index in sorted(range(len(capacities)), key=lambda index: -capacities[index]):
        count = min(due, capacities[index])
        if count <= 0:
            break
        shares.append((index, count))
        due -= count
    return shares


def backoff(failures: int, jitter: float) -> float:
    """Return the seconds to wait after `failures` failed connects in a row (1 for the first).

    Args:
        jitter: chance, 0 to 1; the wait is between half and the whole of 1, 2, 4 … 60 s, so that many
            daemons do not come back together.
    """
    whole = min(MAX_BACKOFF_S, MIN_BACKOFF_S * 2.0 ** min(failures - 1, 10))
    return whole * (0.5 + 0.5 * jitter)
