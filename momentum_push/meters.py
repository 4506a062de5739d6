"""Counters, gauges and histograms as plain attributes; nothing here knows who reads them.

The hot path adds to a `Counter` once per *list*. The exposition room turns the whole into
Prometheus text, the console and `/stats/summary` read the same numbers. Names are those of
interfaces.md section 7 without their prefix. Labels never hold a token.
"""

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Sequence

__all__ = [
    "COMMIT_BOUNDS_S",
    "DELIVERY_BOUNDS_S",
    "LAG_BOUNDS_S",
    "PEAK_WINDOW_S",
    "QUEUE_BOUNDS_S",
    "Histogram",
    "Meters",
    "Peak",
]

COMMIT_BOUNDS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
DELIVERY_BOUNDS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
LAG_BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
PEAK_WINDOW_S = 60.0
QUEUE_BOUNDS_S = (0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0, 60.0, 300.0, 1800.0, 7200.0, 43200.0, 604800.0)


class Histogram:
    """Counts of observations per bucket; a bucket holds what is <= its bound, the last what is above all."""

    __slots__ = ("bounds", "buckets", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.buckets = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float, count: int = 1) -> None:
        """Count `value` (seconds), `count` times."""
        self.buckets[bisect_left(self.bounds, value)] += count
        self.total += value * count

    def observe_all(self, values: Sequence[float]) -> None:
        """Count each of `values` (seconds)."""
        bounds, buckets = self.bounds, self.buckets
        self.total += sum(values)
        first = bisect_left(bounds, min(values, default=0.0))
        if first == bisect_left(bounds, max(values, default=0.0)):  # as answers of one read mostly are
            buckets[first] += len(values)
            return
        for value in values:
            buckets[bisect_left(bounds, value)] += 1

    @property
    def count(self) -> int:
        """How many observations there were."""
        return sum(self.buckets)


class Peak:
    """The greatest value since `reset`, and the greatest of the last minute or two."""

    __slots__ = ("_before", "_began", "_current", "since_reset")

    def __init__(self) -> None:
        self.since_reset = 0.0
        self._current = self._before = self._began = 0.0

    def observe(self, value: float, now: float) -> None:
        """Note `value`; `now` is a monotonic time."""
        self._turn(now)
        if value > self._current:
            self._current = value
        if value > self.since_reset:
            self.since_reset = value

    def recent(self, now: float) -> float:
        """Return the greatest value of the last PEAK_WINDOW_S at least; whoever asks changes nothing."""
        self._turn(now)
        return max(self._before, self._current)

    def reset(self) -> None:
        """Begin `since_reset` anew."""
        self.since_reset = 0.0

    def _turn(self, now: float) -> None:
        passed = now - self._began
        if passed >= PEAK_WINDOW_S:
            self._before = self._current if passed < 2 * PEAK_WINDOW_S else 0.0
            self._current, self._began = 0.0, now


Queue = tuple[str, str]
"""(domain, binding): the labels of whatever belongs to one queue."""


class Meters:
    """All numbers of one daemon, since its start.

    Counters that carry labels are `collections.Counter`s keyed by the tuple of label values in the
    order that the comment names.
    """

    def __init__(self) -> None:
        self.receptions: Counter[str] = Counter()  # protocol
        self.rejections: Counter[tuple[str, str]] = Counter()  # protocol, error
        self.duplicate_injections: Counter[str] = Counter()  # protocol: messages sent again under their key
        self.deliveries: Counter[Queue] = Counter()  # domain, binding
        self.tempfails: Counter[tuple[str, str, str]] = Counter()  # domain, binding, reason
        self.permfails: Counter[tuple[str, str, str]] = Counter()  # domain, binding, reason
        self.unknown_outcomes: Counter[Queue] = Counter()  # domain, binding
        self.resends: Counter[Queue] = Counter()  # domain, binding: after a return or an unknown outcome
        self.dead_token_alarms: Counter[Queue] = Counter()  # domain, binding
        self.goaways: Counter[tuple[str, str, str]] = Counter()  # domain, binding, reason
        self.provider_token_mints: Counter[str] = Counter()  # key id
        self.connects: Counter[tuple[str, str, str]] = Counter()  # domain, binding, "ok" | "failed"
        self.delivery_seconds: defaultdict[Queue, Histogram] = defaultdict(
            lambda: Histogram(DELIVERY_BOUNDS_S)
        )
        self.queue_seconds: defaultdict[Queue, Histogram] = defaultdict(lambda: Histogram(QUEUE_BOUNDS_S))
        self.spool_commit_seconds = Histogram(COMMIT_BOUNDS_S)
        self.loop_lag_seconds = Histogram(LAG_BOUNDS_S)
        self.loop_lag_peak = Peak()
        self.receiver_restarts: Counter[str] = Counter()  # number
        self.inbound_sessions: Counter[str] = Counter()  # protocol, a gauge: goes down again
