"""Connections that are only looked at, for what counts, measures and compares them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

from momentum_push.delivery.apns.options import ConnectionState
from momentum_push.delivery.fleet import Fleet

__all__ = ["Link", "heard"]


@dataclass(eq=False)
class Link:
    """What a fleet looks at of a connection."""

    state: ConnectionState = ConnectionState.OPEN
    remote: str = "192.0.2.1"
    capacity: int = 10
    trip: int = 10
    is_window_bound: bool = False
    blame: str = ""


def heard(fleet: Fleet, link: Link, *seconds: float, now: float = 1000.0) -> None:
    """Bring answers, one a read."""
    for value in seconds:
        fleet.measure(cast(Any, link), [value], now)
