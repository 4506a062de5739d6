"""`/metrics`: meters and snapshot as Prometheus text (interfaces.md 7).

A custom collector on a registry of its own makes one family per name at the time of the scrape; the
meters themselves know nothing of Prometheus. Labels are `domain`, `binding`, `reason`, `state`,
`protocol`, `error` and `key_id`, never a token. Queues whose domain comes under several binding
groups are told apart by their binding, as binding names are unique.
"""

from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from momentum_push.exposition.snapshot import QueueStatus, Snapshot
from momentum_push.meters import Histogram, Meters

__all__ = ["CONTENT_TYPE", "NAMES", "render"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_PREFIX = "momentum_push_"
_QUEUE = ("domain", "binding")
_REASON = ("domain", "binding", "reason")

_COUNTERS: dict[str, tuple[str, tuple[str, ...], str]] = {
    "receptions": ("receptions", ("protocol",), "messages taken, on disk"),
    "rejections": ("rejections", ("protocol", "error"), "messages refused"),
    "duplicate_injections": (
        "duplicate_injections",
        ("protocol",),
        "messages that came again under their idempotency key and were not queued again",
    ),
    "deliveries": ("deliveries", _QUEUE, "notifications that Apple took"),
    "tempfails": ("tempfails", _REASON, "attempts that failed for now"),
    "permfails": ("permfails", _REASON, "messages given up"),
    "unknown_outcomes": ("unknown_outcomes", _QUEUE, "requests that ended without an answer"),
    "resends": ("resends", _QUEUE, "messages sent again because they came back or their outcome is unknown"),
    "dead_token_alarms": ("dead_token_alarms", _QUEUE, "times that too many tokens were called dead at once"),
    "goaways": ("goaways", _REASON, "connections that Apple retired"),
    "connects": ("connects", ("domain", "binding", "result"), "attempts to connect"),
    "provider_token_mints": ("provider_token_mints", ("key_id",), "provider tokens signed"),
    "receiver_restarts": ("receiver_restarts", ("receiver",), "receivers that died and were started again"),
}
"""Name without prefix and `_total` -> attribute of the meters, labels, help."""

_GAUGES: dict[str, tuple[str, str]] = {
    "active_queue_size": ("active", "messages due now"),
    "delayed_queue_size": ("delayed", "messages due later"),
    "oldest_message_age_seconds": ("oldest_age_s", "age of the message that has waited longest"),
    "streams_in_flight": ("streams_in_flight", "requests without an answer yet"),
    "resident_messages": ("resident", "messages in memory"),
}
"""Name without prefix -> attribute of a queue's status, help; labels are domain and binding."""

_DAEMON: dict[str, tuple[str, str]] = {
    "spool_bytes": ("spool_bytes", "bytes of the spool on disk"),
    "spool_free_bytes": ("spool_free_bytes", "bytes free on the spool's disk, beside its reserve"),
    "spool_free_inodes": (
        "spool_free_inodes",
        "inodes free there; -1 where the file system has no such count",
    ),
    "spool_writable": ("spool_is_writable", "1 while the spool takes messages"),
    "resident_bytes": ("resident_bytes", "bytes of messages in memory"),
    "log_bytes_pending": ("log_bytes_pending", "bytes of records that the disk has not taken yet"),
    "loop_lag_peak_seconds": ("loop_lag_peak_s", "the loop's worst lag of the last minute or two"),
    "uptime_seconds": ("uptime_s", "seconds since start"),
    "ready": ("is_ready", "1 while spool and listeners take messages"),
}

_HISTOGRAMS: dict[str, tuple[tuple[str, ...], str]] = {
    "delivery_seconds": (_QUEUE, "from the last byte of a request to its answer"),
    "queue_seconds": (_QUEUE, "from reception, or deliver_at, to delivery"),
    "spool_commit_seconds": ((), "one commit of the spool"),
    "loop_lag_seconds": ((), "how late the event loop rings a timer"),
}

NAMES: tuple[str, ...] = tuple(
    _PREFIX + name
    for name in (
        *(f"{name}_total" for name in _COUNTERS),
        *_GAUGES,
        "outbound_connections",
        "inbound_sessions",
        *_DAEMON,
        *_HISTOGRAMS,
    )
)
"""Every name that `render` can produce."""


def render(meters: Meters, snapshot: Snapshot) -> bytes:
    """Return the text of one scrape."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(meters, snapshot))
    return generate_latest(registry)


class _Collector(Collector):
    """One scrape: walks the tables above."""

    def __init__(self, meters: Meters, snapshot: Snapshot) -> None:
        self._meters = meters
        self._snapshot = snapshot

    def describe(self) -> Iterable[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        yield from _counters(self._meters)
        yield from _queue_gauges(self._snapshot.queues)
        yield _connections(self._snapshot.queues)
        yield from _daemon_gauges(self._snapshot)
        yield from _histograms(self._meters)


def _counters(meters: Meters) -> Iterator[Metric]:
    for name, (attribute, labels, text) in _COUNTERS.items():
        family = CounterMetricFamily(_PREFIX + name, text, labels=labels)
        for values, count in list(getattr(meters, attribute).items()):
            family.add_metric([values] if isinstance(values, str) else list(values), count)
        yield family


def _queue_gauges(queues: Iterable[QueueStatus]) -> Iterator[Metric]:
    for name, (attribute, text) in _GAUGES.items():
        family = GaugeMetricFamily(_PREFIX + name, text, labels=_QUEUE)
        for queue in queues:
            family.add_metric([queue.domain, queue.binding], getattr(queue, attribute))
        yield family


def _connections(queues: Iterable[QueueStatus]) -> Metric:
    family = GaugeMetricFamily(
        _PREFIX + "outbound_connections", "connections to Apple", labels=(*_QUEUE, "state")
    )
    for queue in queues:
        for state, count in queue.connections.items():
            family.add_metric([queue.domain, queue.binding, state.lower()], count)
    return family


def _daemon_gauges(snapshot: Snapshot) -> Iterator[Metric]:
    for name, (attribute, text) in _DAEMON.items():
        yield GaugeMetricFamily(_PREFIX + name, text, value=float(getattr(snapshot, attribute)))
    sessions = GaugeMetricFamily(_PREFIX + "inbound_sessions", "clients connected", labels=("protocol",))
    for protocol, count in snapshot.inbound_sessions.items():
        sessions.add_metric([protocol], count)
    yield sessions


def _histograms(meters: Meters) -> Iterator[Metric]:
    for name, (labels, text) in _HISTOGRAMS.items():
        family = HistogramMetricFamily(_PREFIX + name, text, labels=labels)
        for values, histogram in _by_labels(getattr(meters, name)).items():
            family.add_metric(list(values), _buckets(histogram), histogram.total)
        yield family


def _by_labels(
    value: Histogram | Mapping[tuple[str, ...], Histogram],
) -> Mapping[tuple[str, ...], Histogram]:
    return {(): value} if isinstance(value, Histogram) else dict(value)


def _buckets(histogram: Histogram) -> list[tuple[str, float]]:
    """Prometheus counts cumulatively: each bucket holds all that is not above its bound."""
    bounds = [*(str(bound) for bound in histogram.bounds), "+Inf"]
    return list(zip(bounds, accumulate(map(float, histogram.buckets)), strict=True))
