"""When a pool opens more connections, and when it says that it may not.

    all full, more waits ──┬─ the limit is reached ──► `window_limited`, once in five minutes
                           ├─ `sizing`: not yet    ──► look again when stuck, or a probe is overdue
                           └─ `sizing`: n more     ──► Connector.open(n) ── none now ──► when it may

Decides nothing by itself: what connections there are is the fleet's, how many there should be the
arithmetic's of `sizing`, and whether one may be made now the connector's.
"""

from __future__ import annotations

from collections.abc import Callable

import structlog

from momentum_push.delivery.connector import Connector
from momentum_push.delivery.fleet import Fleet
from momentum_push.delivery.sizing import STUCK_S, to_open

__all__ = ["Growth"]

log = structlog.get_logger()


class Growth:
    """Sees to one pool's number of connections; times are monotonic."""

    def __init__(
        self,
        fleet: Fleet,
        connector: Connector,
        labels: tuple[str, str],
        come_back: Callable[[float], None],
    ) -> None:
        """`come_back` takes the seconds after which to look again."""
        self._fleet, self._connector, self._labels = fleet, connector, labels
        self._come_back = come_back
        self._stuck_since: float | None = None

    def __repr__(self) -> str:
        return f"<Growth {self._fleet!r}, {self._connector.opening} opening>"

    def moved(self) -> None:
        """Hear that something could be sent."""
        self._stuck_since = None

    def is_at_limit(self, most: int) -> bool:
        """Whether there can be no other connection."""
        return len(self._fleet) + self._connector.opening >= most

    def grow(self, waiting: int, most: int, now: float) -> None:
        """Open more connections when all are full, unless something forbids it for now.

        Args:
            waiting: messages that are due.
            most: `max_outbound_connections`.
        """
        if (pardon := self._fleet.next_pardon()) is not None:
            self._come_back(pardon - now)
        if self.is_at_limit(most):
            self._note_limit(waiting, most, now)
        elif not any(self._fleet.capacities(now, is_alone=False)):
            self._open(waiting, most, now)

    def _open(self, waiting: int, most: int, now: float) -> None:
        opening = self._connector.opening
        survey, round_trip = self._fleet.survey(now), self._fleet.round_trip.seconds
        coming, room = survey.coming + opening, most - len(self._fleet) - opening
        if self._stuck_since is None:
            self._stuck_since = now
        stuck = now - self._stuck_since
        allowed = survey.serving + coming + room
        count = to_open(waiting, round_trip, survey.trip, survey.serving, coming, allowed, stuck)
        if count and not self._connector.open(count):
            self._come_back(self._connector.ready_at() - now)
        elif not count and stuck < STUCK_S:
            self._come_back(STUCK_S - stuck)
        elif not count and survey.probe_ends is not None:
            self._come_back(survey.probe_ends - now)

    def _note_limit(self, waiting: int, most: int, now: float) -> None:
        limited = self._fleet.note_limit(waiting, most, now)
        if limited is not None:
            log.warning(
                "window_limited",
                domain=self._labels[0],
                binding=self._labels[1],
                connections=len(self._fleet),
                needs=limited.needs,
                fix=f"set max_outbound_connections = {limited.needs}, or send from nearer to Apple",
            )
