"""What makes a connection worn: the same trouble WEAR times in a row (apns.md 6.3, 5.5: wedged).

    no answer in time             a sign of life in between ends the row
    answers with status 500       any other answer does
    rounds of refusals, resets    any answer does (8 row 53: a session that refused everything for six hours)

Pure: each method counts and returns why the connection is of no more use; empty: it still is.
"""

from __future__ import annotations

__all__ = ["WEAR", "Wear"]

WEAR = 3
"""Timeouts, 500s, or rounds of refusals or resets, in a row that make a connection wedged."""


class Wear:
    """The counts of one connection."""

    def __init__(self) -> None:
        self.timeouts = self.faults = self.refusals = 0
        self._refused_at = -1.0  # when the last round of refusals began

    def __repr__(self) -> str:
        return f"<Wear {self.timeouts} timeouts, {self.faults} faults, {self.refusals} refusals>"

    def answered(self, status: int) -> str:
        """Note an answer."""
        self.timeouts = self.refusals = 0
        self.faults = self.faults + 1 if status == 500 else 0
        return f"{self.faults} answers in a row with status 500" if self.faults >= WEAR else ""

    def timed_out(self) -> str:
        """Note a request that had no answer in time."""
        self.timeouts += 1
        return f"{self.timeouts} requests in a row without an answer" if self.timeouts >= WEAR else ""

    def refused(self, sent_at: float, now: float) -> str:
        """Note a refusal or reset of what went out at `sent_at`.

        Rounds count, not requests: a peer whose limit fell refuses a thousand at once, in good faith.
        """
        if sent_at <= self._refused_at:
            return ""
        self.refusals, self._refused_at = self.refusals + 1, now
        return f"requests refused or reset {self.refusals} times in a row" if self.refusals >= WEAR else ""
