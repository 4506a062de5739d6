"""The devices at the other end: which tokens live, which are dead since when (apns.md 9.4).

Every well-formed token lives unless the table says otherwise, so that a test names only the tokens it
is about. A row is for one token or for all tokens that begin alike. Pure; time comes in as `now`.
"""

import enum
from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["LIVE", "Device", "Devices", "State"]


class State(enum.Enum):
    LIVE = "live"
    DEAD = "dead"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class Device:
    """One row of the table.

    Attributes:
        token: whole token, or with `is_prefix` its beginning; lower case.
        since: epoch seconds from which on it is dead or expired; answered in milliseconds.
        environment: where the token lives, `sandbox` or `production`; empty: in both.
        topics: it is registered for; empty: any.
        rate: pushes a second that it bears before `TooManyRequests`; 0: any number.
    """

    token: str
    is_prefix: bool = False
    state: State = State.LIVE
    since: float = 0.0
    environment: str = ""
    topics: frozenset[str] = frozenset()
    rate: float = 0.0


LIVE = Device("")


class Devices:
    """The table, and how fast the limited tokens were pushed to."""

    def __init__(self, rows: Iterable[Device] = ()) -> None:
        self._whole: dict[str, Device] = {}
        self._prefixes: list[Device] = []
        self._free_at: dict[str, float] = {}
        for row in rows:
            self.put(row)

    def put(self, row: Device) -> None:
        """Add a row, or replace the one of the same token."""
        if row.is_prefix:
            self._prefixes = [each for each in self._prefixes if each.token != row.token] + [row]
        else:
            self._whole[row.token] = row

    def find(self, token: str) -> Device:
        """Return the row of a token: the whole token's first, then the longest prefix's."""
        if not self._whole and not self._prefixes:
            return LIVE
        token = token.lower()
        row = self._whole.get(token)
        if row is not None:
            return row
        if not self._prefixes:
            return LIVE
        fitting = [each for each in self._prefixes if token.startswith(each.token)]
        return max(fitting, key=lambda each: len(each.token), default=LIVE)

    def is_over_rate(self, device: Device, token: str, now: float) -> bool:
        """Whether a push at `now` comes too soon after the one before; one that does not is counted."""
        if not device.rate:
            return False
        token = token.lower()
        if now < self._free_at.get(token, 0.0):
            return True
        self._free_at[token] = now + 1.0 / device.rate
        return False
