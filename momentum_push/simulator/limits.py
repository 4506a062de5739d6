"""How many streams a client may have open, what moves that number, and what it was told of it (apns.md 6.1).

    first ──first accepted token──► full ──rejected push──► rejected ──accepted push──► full
                 any of them ──rule──► limit ──after its spell──► what stood before
                 any of them ──about every so many seconds, by chance──► anything

A limit holds at once, without waiting for the client's ACK; a *breach* is counted only against the one
that it has acknowledged.
"""

from collections import deque

from momentum_push.simulator.http2 import MAX_STREAM, first_settings, limit_settings
from momentum_push.simulator.line import Line
from momentum_push.simulator.request import Verdict

__all__ = ["Limits"]

_NO_ERROR_FROM = 400
_GONE = 410


class Limits:
    """The stream limit of one connection.

    Attributes:
        current: that holds now.
        acknowledged: the latest that the client says it has seen.
    """

    def __init__(self, line: Line) -> None:
        self._line = line
        self.current = 0
        self.acknowledged = MAX_STREAM
        self._told: deque[int | None] = deque()
        self._is_raised = False
        self._is_lowered = False
        self._spells = 0

    def start(self) -> None:
        """Send the first SETTINGS."""
        faults = self._line.floor.faults
        self._is_raised = self._line.peer.certificate is not None
        self.current = faults.full_limit if self._is_raised else faults.first_limit
        self._told.append(self.current)
        self._line.out.append(self._line.h2.tell(first_settings(self.current, faults.window.initial)))
        self._line.h2.step_windows(faults.window.step)
        if faults.limit_walk is not None:
            self._stride()

    def set(self, limit: int, for_s: float = 0.0) -> None:
        """Announce a new limit; after `for_s` (0: never) the former one stands again, unless it changed."""
        before, self.current = self.current, limit
        self._is_raised = True
        self._spells += 1
        self._told.append(limit)
        self._line.out.append(self._line.h2.tell(limit_settings(limit)))
        if for_s:
            spell = self._spells
            self._line.shell.later(for_s, lambda: self._end_spell(spell, before))

    def announce(self, values: dict[int, int]) -> None:
        """Send SETTINGS that say something else than the limit."""
        self._told.append(None)
        self._line.out.append(self._line.h2.tell(values))

    def on_proof(self) -> None:
        """A provider token was found good."""
        if not self._is_raised:
            self.set(self._line.floor.faults.full_limit)

    def on_answer(self, verdict: Verdict) -> None:
        """Fall after a rejection, rise after an acceptance, if so asked; 410 is no error (4.3)."""
        faults = self._line.floor.faults
        if faults.rejected_limit is None:
            return
        if verdict.status == 200 and self._is_lowered:
            self._is_lowered = False
            self.set(faults.full_limit)
        elif verdict.status >= _NO_ERROR_FROM and verdict.status != _GONE and not self._is_lowered:
            self._is_lowered = True
            self.set(faults.rejected_limit)

    def on_acknowledged(self) -> None:
        """The client has seen the next of the SETTINGS."""
        if self._told:
            told = self._told.popleft()
            self.acknowledged = self.acknowledged if told is None else told

    def _end_spell(self, spell: int, before: int) -> None:
        if spell == self._spells:
            self.set(before)

    def _stride(self) -> None:
        walk = self._line.floor.faults.limit_walk
        if walk is not None:
            self._line.shell.later(walk.every_s * self._line.chance.uniform(0.5, 1.5), self._step)

    def _step(self) -> None:
        walk = self._line.floor.faults.limit_walk
        if walk is not None:
            self.set(self._line.chance.randint(walk.least, walk.most))
            self._stride()
