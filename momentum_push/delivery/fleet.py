"""What a pool knows of its connections: who has room, who is on the way, who is slower than the rest.

    state, answers         counts as    for how long
    ─────────────────────  ───────────  ─────────────────────────────────────────────
    OPEN                   serving
    PROBING                coming       PROBE_S; a peer that does not answer is no help
    refused a request      shunned      SHUN_S (interfaces.md 2, "Retry")
    left one unanswered    suspect      SUSPECT_S: its retry goes elsewhere (apns.md 8 row 5)
    DRAINING               neither

A suspect gets nothing while there are others, or could be; where there is nobody else it goes on.
Pure: connections are looked at, never told anything; `now` is monotonic.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from momentum_push.delivery.apns.options import ConnectionState
from momentum_push.delivery.sizing import RoundTrip, lags, needs

if TYPE_CHECKING:
    from momentum_push.delivery.apns.connection import Connection

__all__ = ["Fleet", "Limited", "Survey"]

PROBE_S = 2.0
SHUN_S = 1.0
SUSPECT_S = 2.0
"""Longer than a message waits whose outcome is unknown for the first time."""

WEIGHT = 0.25
"""Of the newest read in a connection's mean answer time."""
READS = 4
"""Reads before that mean says something."""
RETIRE_EVERY_S = 30.0
"""At most one connection is retired for slowness in so long, so that never all are."""

LIMIT_CHECK_S, LIMIT_SHOWN_S, LIMIT_WARNED_S = 1.0, 10.0, 300.0


@dataclass(slots=True)
class Watch:
    """What is remembered of one connection."""

    since: float
    seconds: float = 0.0
    """Mean answer time, weighted towards the last reads."""
    reads: int = 0
    heard: float = 0.0
    has_served: bool = False
    turned_away: str = ""
    """The answer that asked for another connection; empty: none did."""


@dataclass(frozen=True, slots=True)
class Survey:
    """The connections at one moment, as `sizing` asks for them."""

    serving: int
    coming: int
    """Those that prove their token; what is being connected comes on top."""
    trip: float
    """Messages that one of those serving moves in a round trip, on average."""
    is_window_bound: bool
    """It is the window, not the streams, that says so."""
    probe_ends: float | None
    """When the first of those coming counts no more."""


@dataclass(frozen=True, slots=True)
class Limited:
    """`max_outbound_connections` is reached, all connections are full, and something waits."""

    by: str
    """"window" or "streams"."""
    needs: int
    """Connections that would do."""
    at: float


class Fleet:
    """See the module's head."""

    def __init__(self) -> None:
        self.connections: list[Connection] = []
        self.round_trip = RoundTrip()
        self._watches: dict[Connection, Watch] = {}
        self._shunned: dict[Connection, float] = {}  # until when
        self._suspects: dict[Connection, float] = {}
        self._retired_at = float("-inf")
        self._limited: Limited | None = None
        self._warned_at = float("-inf")

    def __repr__(self) -> str:
        return f"<Fleet of {len(self.connections)}>"

    def __iter__(self) -> Iterator[Connection]:
        return iter(self.connections)

    def __len__(self) -> int:
        return len(self.connections)

    @property
    def is_serving(self) -> bool:
        """Whether there is a connection that does not only drain."""
        return any(link.state is not ConnectionState.DRAINING for link in self.connections)

    def add(self, link: Connection, now: float) -> None:
        """Take a connection that has just been made."""
        self.connections.append(link)
        self._watches[link] = Watch(now)

    def remove(self, link: Connection) -> bool:
        """Let go of a connection; return whether it was here."""
        if link not in self.connections:
            return False
        self.connections.remove(link)
        for known in (self._watches, self._shunned, self._suspects):
            known.pop(link, None)
        return True

    def serves(self, link: Connection) -> None:
        """Note an answer that shows that requests are taken there."""
        if (watch := self._watches.get(link)) is not None:
            watch.has_served = True

    def has_served(self, link: Connection) -> bool:
        """Whether it ever brought such an answer."""
        watch = self._watches.get(link)
        return watch is not None and watch.has_served

    def turn_away(self, link: Connection, why: str) -> None:
        """Note an answer that asks for another connection, of no fault of the credential."""
        if (watch := self._watches.get(link)) is not None:
            watch.turned_away = why

    def turned_away(self, link: Connection) -> str:
        """Return what a connection that never served said instead; empty: it served, or said nothing."""
        watch = self._watches.get(link)
        if watch is None or watch.has_served:
            return ""
        return watch.turned_away or link.blame

    # --- room

    def shun(self, link: Connection, now: float) -> None:
        """Give nothing to a connection that refused something: that goes over another one."""
        self._shunned[link] = now + SHUN_S

    def suspect(self, link: Connection, now: float) -> None:
        """Prefer others to the connections to an address that left a request unanswered."""
        for other in self.connections:
            if other.remote == link.remote:
                self._suspects[other] = now + SUSPECT_S

    def capacities(self, now: float, is_alone: bool) -> list[int]:
        """Return what each connection would take.

        Args:
            is_alone: there can be no other connection; then suspects serve.
        """
        if not self._shunned and not self._suspects:
            return [link.capacity for link in self.connections]
        self._shunned = {link: until for link, until in self._shunned.items() if until > now}
        self._suspects = {link: until for link, until in self._suspects.items() if until > now}
        out = self._shunned if is_alone else self._shunned.keys() | self._suspects.keys()
        return [0 if link in out else link.capacity for link in self.connections]

    def next_pardon(self) -> float | None:
        """Return when the first of those that get nothing gets something again."""
        return min((*self._shunned.values(), *self._suspects.values()), default=None)

    # --- growth

    def survey(self, now: float) -> Survey:
        """Count those that serve and those that are about to."""
        serving = bound = 0
        trip = 0.0
        probes: list[float] = []
        for link in self.connections:
            state = link.state
            if state is ConnectionState.PROBING:
                ends = self._watches[link].since + PROBE_S
                if ends > now:
                    probes.append(ends)
            elif state is ConnectionState.OPEN and link not in self._shunned and link not in self._suspects:
                serving += 1
                trip += link.trip
                bound += link.is_window_bound
        mean = trip / serving if serving else 1.0
        return Survey(serving, len(probes), mean, 2 * bound > serving, min(probes, default=None))

    def note_limit(self, waiting: int, most: int, now: float) -> Limited | None:
        """Note that all are full and no more are allowed; return it when it is time to warn."""
        if self._limited is not None and now < self._limited.at + LIMIT_CHECK_S:
            return None
        survey, trip_s = self.survey(now), self.round_trip.seconds
        if not survey.serving or trip_s is None:
            return None
        enough = needs(waiting, trip_s, survey.trip, survey.serving)
        self._limited = Limited("window" if survey.is_window_bound else "streams", enough, now)
        if not survey.is_window_bound or enough <= most or now < self._warned_at + LIMIT_WARNED_S:
            return None
        self._warned_at = now
        return self._limited

    def limited(self, now: float) -> Limited | None:
        """Return what limits the pool, if that was so a moment ago."""
        if self._limited is None or now > self._limited.at + LIMIT_SHOWN_S:
            return None
        return self._limited

    # --- pace

    def measure(self, link: Connection, seconds: Sequence[float], now: float) -> None:
        """Take the answer times of one read."""
        self.round_trip.note(min(seconds), now)
        watch = self._watches.get(link)
        if watch is None:
            return
        mean = sum(seconds) / len(seconds)
        watch.seconds = mean if not watch.reads else watch.seconds + WEIGHT * (mean - watch.seconds)
        watch.reads += 1
        watch.heard = now

    def laggard(self, link: Connection, now: float) -> str:
        """Return why a connection should be retired for slowness; empty: it need not be.

        Only one in RETIRE_EVERY_S, and never the only one that serves (apns.md 6.3).
        """
        watch = self._watches.get(link)
        if watch is None or watch.reads < READS or now < self._retired_at + RETIRE_EVERY_S:
            return ""
        others = [
            known.seconds
            for other, known in self._watches.items()
            if other is not link and known.reads >= READS and other.state is ConnectionState.OPEN
        ]
        if link.state is not ConnectionState.OPEN or not lags(watch.seconds, others):
            return ""
        self._retired_at = now
        usual = sorted(others)[(len(others) - 1) // 2]
        return f"answers take {watch.seconds:.1f} s, those of the other connections {usual:.1f} s"
