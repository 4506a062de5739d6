"""Pictures of the running daemon for those who look in from the side; nothing here changes anything."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from momentum_push.delivery.pool import Pool
from momentum_push.exposition import QueueStatus
from momentum_push.message import QueueKey
from momentum_push.meters import Meters
from momentum_push.queues import Queue

__all__ = ["queue_statuses"]

Labels = tuple[str, str]


def queue_statuses(
    queues: Iterable[Queue],
    pools: dict[QueueKey, Pool],
    meters: Meters,
    now: float,
) -> tuple[QueueStatus, ...]:
    """Return the state of every queue, in the order in which they were made."""
    permfails, transfails = _by_queue(meters.permfails), _by_queue(meters.tempfails)
    return tuple(_status(queue, pools.get(queue.key), meters, permfails, transfails, now) for queue in queues)


def _by_queue(counts: Counter[tuple[str, str, str]]) -> Counter[Labels]:
    totals: Counter[Labels] = Counter()
    for (domain, binding, _), count in counts.items():
        totals[domain, binding] += count
    return totals


def _status(
    queue: Queue,
    pool: Pool | None,
    meters: Meters,
    permfails: Counter[Labels],
    transfails: Counter[Labels],
    now: float,
) -> QueueStatus:
    key, labels = queue.key, (queue.key.domain, queue.key.binding)
    active, delayed = queue.sizes(now)
    oldest = queue.oldest()
    in_flight, unsettled = (pool.in_flight, pool.unsettled) if pool is not None else (0, 0)
    limited = pool.limited if pool is not None else None
    return QueueStatus(
        binding_group=key.binding_group,
        binding=key.binding,
        domain=key.domain,
        active=active + unsettled,
        delayed=delayed,
        oldest_age_s=0.0 if oldest is None else max(0.0, now - oldest),
        connections=_states(pool),
        streams_in_flight=in_flight,
        resident=queue.active + queue.delayed + unsettled,
        receptions=queue.receptions,
        deliveries=meters.deliveries[labels],
        permfails=permfails[labels],
        transfails=transfails[labels],
        limited_by=limited.by if limited is not None else "",
        connections_needed=limited.needs if limited is not None else 0,
    )


def _states(pool: Pool | None) -> dict[str, int]:
    if pool is None:
        return {}
    states = Counter(connection.state.value for connection in pool.connections)
    if pool.opening:
        states["connecting"] += pool.opening
    return dict(states)
