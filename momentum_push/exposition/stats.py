"""`/stats/summary` and `/stats/queues/mailq`: Momentum's statistics as JSON (momentum.md 5.3).

Names are those of the console's summary without blanks. Counts are since the last reset, rates are
over the last RATE_WINDOW_S seconds (since the reset, or the start, while that is more recent), for which
`sample` keeps the totals of every few seconds in a ring. What needs DNS, swap progress or other things that
this daemon does not have is left out; `LoopLagMax` (seconds) is ours. Pure: `now` is a monotonic time.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from momentum_push.exposition.snapshot import QueueStatus, Snapshot
from momentum_push.meters import Meters

__all__ = ["MAILQ_LIMIT", "RATE_WINDOW_S", "Summary", "mailq"]

RATE_WINDOW_S = 60.0
"""Long enough to be calm, short enough to show what happens now; Momentum does not say what it takes."""

SAMPLE_INTERVAL_S = 5.0

MAILQ_LIMIT = 20
"""As the console's `mailq` (momentum.md 10.2)."""


@dataclass(frozen=True, slots=True)
class _Totals:
    """All counters at one moment."""

    at: float
    received: int = 0
    rejected: int = 0
    delivered: int = 0
    failed: int = 0
    transient: int = 0


class Summary:
    """Totals since the last reset and the ring for the rates; one per daemon."""

    def __init__(self, meters: Meters, now: float) -> None:
        self._meters = meters
        self._base = _totals(meters, now)
        self._ring = deque([self._base], maxlen=int(RATE_WINDOW_S / SAMPLE_INTERVAL_S) + 1)

    def sample(self, now: float) -> None:
        """Note the totals; call it at least every SAMPLE_INTERVAL_S, more often does no harm."""
        if now - self._ring[-1].at >= SAMPLE_INTERVAL_S:
            self._ring.append(_totals(self._meters, now))

    def reset(self, now: float) -> None:
        """Count from here: `DELETE /stats/summary`, console `summary reset`."""
        self._base = _totals(self._meters, now)
        self._meters.loop_lag_peak.reset()
        self._ring.clear()
        self._ring.append(self._base)

    def render(self, snapshot: Snapshot, now: float) -> dict[str, int | float]:
        """Return the object of `GET /stats/summary`."""
        then, current = self._oldest(now), _totals(self._meters, now)
        self.sample(now)
        return {
            **_gauges(snapshot),
            **_since(self._base, current),
            "DeliveryRate": _rate(then.delivered, current.delivered, current.at - then.at),
            "ReceptionRate": _rate(then.received, current.received, current.at - then.at),
            "RejectionRate": _rate(then.rejected, current.rejected, current.at - then.at),
            "LoopLagMax": round(self._meters.loop_lag_peak.since_reset, 4),
            "StatisticsLastReset": int(now - self._base.at),
            "Uptime": int(snapshot.uptime_s),
        }

    def _oldest(self, now: float) -> _Totals:
        """The oldest sample within the window; the newest one before it when nobody sampled for long."""
        within = [totals for totals in self._ring if now - RATE_WINDOW_S <= totals.at < now]
        return within[0] if within else self._ring[-1]


def _totals(meters: Meters, now: float) -> _Totals:
    return _Totals(
        now,
        meters.receptions.total(),
        meters.rejections.total(),
        meters.deliveries.total(),
        meters.permfails.total(),
        meters.tempfails.total(),
    )


def _gauges(snapshot: Snapshot) -> dict[str, int | float]:
    return {
        "OutboundConcurrency": snapshot.outbound_connections,
        "InboundConcurrency": sum(snapshot.inbound_sessions.values()),
        "ActiveDomains": len({queue.domain for queue in snapshot.queues if _is_used(queue)}),
        "ActiveQueueSize": snapshot.active,
        "DelayedQueueSize": snapshot.delayed,
        "TotalQueueSize": snapshot.active + snapshot.delayed,
        "ResidentMessages": snapshot.resident,
    }


def _is_used(queue: QueueStatus) -> bool:
    """Whether something waits in the queue or is connected for it."""
    return bool(queue.active or queue.delayed or queue.streams_in_flight or any(queue.connections.values()))


def _since(base: _Totals, current: _Totals) -> dict[str, int | float]:
    received, rejected = current.received - base.received, current.rejected - base.rejected
    offered = received + rejected
    return {
        "DeliveredMessages": current.delivered - base.delivered,
        "FailedMessages": current.failed - base.failed,
        "TransientFailures": current.transient - base.transient,
        "RejectedMessages": rejected,
        "ReceivedMessages": received,
        "RejectionPercentage": round(100 * rejected / offered, 2) if offered else 0.0,
    }


def _rate(before: int, after: int, seconds: float) -> float:
    return round((after - before) / seconds, 2) if seconds > 0 else 0.0


def mailq(
    queues: Sequence[QueueStatus], domain: str = "", binding: str = "", limit: int = MAILQ_LIMIT
) -> dict[str, list[dict[str, str | int]]]:
    """Return the object of `GET /stats/queues/mailq?domain=&binding=&limit=`, longest queues first.

    Args:
        domain: only this one, in any case; "" for all.
        binding: only this one; names of bindings are case-sensitive.
        limit: most rows; 0 or less for all.
    """
    chosen = [
        queue
        for queue in queues
        if domain.lower() in ("", queue.domain.lower()) and binding in ("", queue.binding)
    ]
    chosen.sort(key=lambda queue: (-queue.active - queue.delayed, queue.domain, queue.binding))
    return {"QueueSummary": [_row(queue) for queue in (chosen[:limit] if limit > 0 else chosen)]}


def _row(queue: QueueStatus) -> dict[str, str | int]:
    return {
        "group": queue.binding_group,
        "binding": queue.binding,
        "domain": queue.domain,
        "aq": queue.active,
        "dq": queue.delayed,
        "receptions": queue.receptions,
        "permfails": queue.permfails,
        "transfails": queue.transfails,
        "deliveries": queue.deliveries,
        **_limit(queue),
    }


def _limit(queue: QueueStatus) -> dict[str, str | int]:
    """Say what holds a queue back that could go faster; nothing where nothing does."""
    if not queue.limited_by:
        return {}
    return {"limited_by": queue.limited_by, "connections_needed": queue.connections_needed}
