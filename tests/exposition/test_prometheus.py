"""momentum_push/exposition/prometheus.py"""

import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from momentum_push.exposition import CONTENT_TYPE, NAMES, QueueStatus, Snapshot, render
from momentum_push.meters import Meters

PROMISED = {
    "receptions_total": {"protocol"},
    "rejections_total": {"protocol", "error"},
    "deliveries_total": {"domain", "binding"},
    "tempfails_total": {"domain", "binding", "reason"},
    "permfails_total": {"domain", "binding", "reason"},
    "unknown_outcomes_total": {"domain", "binding"},
    "active_queue_size": {"domain", "binding"},
    "delayed_queue_size": {"domain", "binding"},
    "oldest_message_age_seconds": {"domain", "binding"},
    "outbound_connections": {"domain", "binding", "state"},
    "streams_in_flight": {"domain", "binding"},
    "goaways_total": {"domain", "binding", "reason"},
    "provider_token_mints_total": {"key_id"},
    "delivery_seconds": {"domain", "binding"},
    "queue_seconds": {"domain", "binding"},
    "spool_commit_seconds": set(),
    "loop_lag_seconds": set(),
    "loop_lag_peak_seconds": set(),
    "spool_bytes": set(),
}
"""interfaces.md 7, name by name."""


def meters() -> Meters:
    made = Meters()
    queue = ("news.apns", "default")
    made.receptions["esmtp"] += 5
    made.rejections["http", "BadDeviceToken"] += 1
    made.deliveries[queue] += 3
    made.tempfails[*queue, "ServiceUnavailable"] += 1
    made.permfails[*queue, "Unregistered"] += 2
    made.unknown_outcomes[queue] += 1
    made.resends[queue] += 1
    made.dead_token_alarms[queue] += 1
    made.goaways[*queue, "Shutdown"] += 1
    made.provider_token_mints["ABCDEFGHIJ"] += 1
    made.connects[*queue, "ok"] += 1
    made.delivery_seconds[queue].observe(0.02, 3)
    made.queue_seconds[queue].observe(700_000.0)
    made.spool_commit_seconds.observe(0.004)
    made.loop_lag_seconds.observe(0.002)
    return made


SNAPSHOT = Snapshot(
    queues=(
        QueueStatus(
            "default",
            "default",
            "news.apns",
            active=7,
            delayed=2,
            oldest_age_s=12.5,
            connections={"OPEN": 2, "CONNECTING": 1},
            streams_in_flight=40,
        ),
    ),
    spool_bytes=4096,
    uptime_s=61.0,
    is_ready=True,
    inbound_sessions={"esmtp": 4},
)


def families() -> dict[str, Metric]:
    text = render(meters(), SNAPSHOT).decode()
    return {family.name: family for family in text_string_to_metric_families(text)}


@pytest.mark.parametrize("name", PROMISED)
def test_every_promised_name_is_there_with_its_labels(name: str) -> None:
    family = families()["momentum_push_" + name.removesuffix("_total")]
    assert family.samples
    assert {key for sample in family.samples for key in sample.labels} - {"le"} == PROMISED[name]
    assert "momentum_push_" + name in NAMES


def test_nothing_else_comes_out_than_what_is_named() -> None:
    found = {f.name + ("_total" if f.type == "counter" else "") for f in families().values()}
    assert found == set(NAMES)


def test_values_are_those_of_meters_and_snapshot() -> None:
    seen = {  # labels come sorted by name
        (sample.name.removeprefix("momentum_push_"), *sample.labels.values()): sample.value
        for family in families().values()
        for sample in family.samples
    }
    assert seen["receptions_total", "esmtp"] == 5
    assert seen["permfails_total", "default", "news.apns", "Unregistered"] == 2
    assert seen["active_queue_size", "default", "news.apns"] == 7
    assert seen["outbound_connections", "default", "news.apns", "open"] == 2
    assert seen["oldest_message_age_seconds", "default", "news.apns"] == 12.5
    assert seen[("spool_bytes",)] == 4096
    assert seen[("ready",)] == 1
    assert seen["inbound_sessions", "esmtp"] == 4


def test_histograms_count_cumulatively() -> None:
    samples = families()["momentum_push_delivery_seconds"].samples
    buckets = {s.labels["le"]: s.value for s in samples if s.name.endswith("_bucket")}
    assert (buckets["0.01"], buckets["0.025"], buckets["30.0"], buckets["+Inf"]) == (0, 3, 3, 3)
    by_name = {s.name.rpartition("_")[2]: s.value for s in samples if not s.name.endswith("_bucket")}
    assert by_name == {"count": 3, "sum": pytest.approx(0.06)}


def test_what_is_above_all_bounds_is_in_the_last_bucket() -> None:
    samples = families()["momentum_push_queue_seconds"].samples
    buckets = {s.labels["le"]: s.value for s in samples if s.name.endswith("_bucket")}
    assert (buckets["604800.0"], buckets["+Inf"]) == (0, 1)


def test_an_idle_daemon_has_all_names() -> None:
    text = render(Meters(), Snapshot()).decode()
    for name in NAMES:
        assert f"# TYPE {name}" in text


def test_label_values_are_escaped() -> None:
    made = Meters()
    made.tempfails["news.apns", "default", 'say "no"\n\\'] += 1
    families = list(text_string_to_metric_families(render(made, Snapshot()).decode()))
    reasons = [s.labels["reason"] for f in families for s in f.samples if "reason" in s.labels]
    assert reasons == ['say "no"\n\\']


def test_two_scrapes_of_the_same_numbers_are_equal() -> None:
    assert render(meters(), SNAPSHOT) == render(meters(), SNAPSHOT)
    assert CONTENT_TYPE.startswith("text/plain")
