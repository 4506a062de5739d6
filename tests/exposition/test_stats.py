"""momentum_push/exposition/stats.py"""

import json
from typing import Any

import pytest

from momentum_push.exposition import QueueStatus, Snapshot, Summary, mailq
from momentum_push.meters import Meters

QUEUE = ("news.apns", "default")

NAMES = {
    "OutboundConcurrency",
    "InboundConcurrency",
    "ActiveDomains",
    "ActiveQueueSize",
    "DelayedQueueSize",
    "TotalQueueSize",
    "ResidentMessages",
    "DeliveredMessages",
    "FailedMessages",
    "TransientFailures",
    "RejectedMessages",
    "ReceivedMessages",
    "DeliveryRate",
    "ReceptionRate",
    "LoopLagMax",
    "RejectionRate",
    "RejectionPercentage",
    "StatisticsLastReset",
    "Uptime",
}
"""momentum.md 5.3, without DNS and swap progress."""


def status(domain: str, binding: str = "default", **changes: Any) -> QueueStatus:
    return QueueStatus("default", binding, domain, **changes)


def test_the_summary_has_momentums_names() -> None:
    summary = Summary(Meters(), 0.0).render(Snapshot(), 1.0)
    assert set(summary) == NAMES
    assert json.loads(json.dumps(summary)) == summary
    assert not any(value for name, value in summary.items() if name != "StatisticsLastReset")


def test_gauges_come_from_the_snapshot() -> None:
    queues = (
        status("a.apns", active=3, delayed=2, resident=4, connections={"OPEN": 2, "CLOSED": 1}),
        status("a.apns", "bulk", active=1),
        status("idle.apns"),
    )
    snapshot = Snapshot(queues=queues, uptime_s=99.9, inbound_sessions={"esmtp": 2, "http": 1})
    summary = Summary(Meters(), 0.0).render(snapshot, 1.0)
    assert summary["ActiveDomains"] == 1
    assert (summary["ActiveQueueSize"], summary["DelayedQueueSize"], summary["TotalQueueSize"]) == (4, 2, 6)
    assert (summary["OutboundConcurrency"], summary["InboundConcurrency"]) == (2, 3)
    assert (summary["ResidentMessages"], summary["Uptime"]) == (4, 99)


def test_counts_and_percentage_come_from_the_meters() -> None:
    meters = Meters()
    summary = Summary(meters, 0.0)
    meters.receptions["esmtp"] += 30
    meters.rejections["http", "BadDeviceToken"] += 10
    meters.deliveries[QUEUE] += 20
    meters.permfails[*QUEUE, "Unregistered"] += 2
    meters.tempfails[*QUEUE, "Shutdown"] += 3
    seen = summary.render(Snapshot(), 10.0)
    assert (seen["ReceivedMessages"], seen["RejectedMessages"], seen["RejectionPercentage"]) == (30, 10, 25.0)
    assert (seen["DeliveredMessages"], seen["FailedMessages"], seen["TransientFailures"]) == (20, 2, 3)
    assert (seen["ReceptionRate"], seen["DeliveryRate"], seen["RejectionRate"]) == (3.0, 2.0, 1.0)


def test_rates_look_back_one_window_only() -> None:
    meters = Meters()
    summary = Summary(meters, 0.0)
    meters.deliveries[QUEUE] += 1_000_000
    for second in range(1, 600):
        summary.sample(float(second))
        if second >= 500:
            meters.deliveries[QUEUE] += 10
    assert summary.render(Snapshot(), 600.0)["DeliveryRate"] == pytest.approx(10.0, abs=0.2)


def test_samples_older_than_the_window_do_not_count() -> None:
    meters = Meters()
    summary = Summary(meters, 0.0)
    meters.deliveries[QUEUE] += 1000
    summary.sample(50.0)
    meters.deliveries[QUEUE] += 30
    assert summary.render(Snapshot(), 80.0)["DeliveryRate"] == 1.0


def test_rates_without_samples_for_long_are_averages_since_the_last() -> None:
    meters = Meters()
    summary = Summary(meters, 0.0)
    meters.deliveries[QUEUE] += 1000
    assert summary.render(Snapshot(), 1000.0)["DeliveryRate"] == 1.0


def test_a_reset_starts_all_counts_anew() -> None:
    meters = Meters()
    summary = Summary(meters, 0.0)
    meters.deliveries[QUEUE] += 50
    summary.reset(10.0)
    meters.deliveries[QUEUE] += 1
    seen = summary.render(Snapshot(), 12.0)
    assert (seen["DeliveredMessages"], seen["DeliveryRate"], seen["StatisticsLastReset"]) == (1, 0.5, 2)
    assert meters.deliveries[QUEUE] == 51


def test_at_the_very_moment_of_a_reset_rates_are_zero() -> None:
    meters = Meters()
    summary = Summary(meters, 5.0)
    assert summary.render(Snapshot(), 5.0)["DeliveryRate"] == 0.0


QUEUES = (
    status("a.apns", active=1),
    status("b.apns", delayed=9, receptions=10, deliveries=1, permfails=2, transfails=3),
    status("b.apns", "Bulk", active=4, delayed=2),
)


def test_mailq_has_momentums_names_and_the_longest_first() -> None:
    rows = mailq(QUEUES)["QueueSummary"]
    assert [(row["domain"], row["binding"]) for row in rows] == [
        ("b.apns", "default"),
        ("b.apns", "Bulk"),
        ("a.apns", "default"),
    ]
    assert rows[0] == {
        "group": "default",
        "binding": "default",
        "domain": "b.apns",
        "aq": 0,
        "dq": 9,
        "receptions": 10,
        "permfails": 2,
        "transfails": 3,
        "deliveries": 1,
    }


@pytest.mark.parametrize("by", ["window", "streams"])
def test_mailq_says_what_limits_a_queue_and_nothing_of_it_where_nothing_does(by: str) -> None:
    limited = status("a.apns", active=9, limited_by=by, connections_needed=7)
    first, second = mailq([limited, status("b.apns")])["QueueSummary"]
    assert (first["limited_by"], first["connections_needed"]) == (by, 7)
    assert first.keys() - second.keys() == {"limited_by", "connections_needed"}


@pytest.mark.parametrize(
    ("filters", "count"),
    [
        ({"domain": "B.APNS"}, 2),
        ({"binding": "Bulk"}, 1),
        ({"binding": "bulk"}, 0),
        ({"domain": "a.apns", "binding": "Bulk"}, 0),
        ({"limit": 2}, 2),
        ({"limit": 0}, 3),
    ],
)
def test_mailq_is_filtered_and_limited(filters: dict[str, Any], count: int) -> None:
    assert len(mailq(QUEUES, **filters)["QueueSummary"]) == count
