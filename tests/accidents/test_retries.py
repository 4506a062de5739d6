"""Accidents of those who sent too often, or never again (apns.md 8): what is tried again, and as whom."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from momentum_push.message import Kind
from momentum_push.message.reasons import Class
from tests.helpers.accidents import Site, accident, stage
from tests.helpers.delivery import TABLE
from tests.helpers.lists import token_of

DEAD = ("BadDeviceToken", "DeviceTokenNotForTopic", "ExpiredToken", "Unregistered")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("retries")


@accident(15, "jchambers/pushy#674")
def test_the_time_of_a_410_is_read_as_milliseconds_and_recorded_for_who_compares_registrations(
    folder: Path,
) -> None:
    async def story(site: Site) -> None:
        await site.put()
        await site.end(10)
        [record] = site.records
        assert (record.kind, record.word, record.unregistered_at) == (
            Kind.PERMFAIL,
            "Unregistered",
            1_767_600_000,
        )

    stage(folder, story, f"devices: [{{token: '{token_of(1)}', state: dead, since: 1767600000}}]")


@accident(16, "jchambers/pushy#794")
def test_only_what_provably_was_not_processed_is_sent_again_at_once(folder: Path) -> None:
    """What may have been processed waits, is recorded and counted: that count bounds the copies."""

    async def story(site: Site) -> None:
        await site.put(300)
        await site.end()
        times = Counter(entry.token for entry in site.requests)
        processed = {entry.token for entry in site.requests if entry.fault == "processed, reset"}
        refused = {entry.token for entry in site.requests if entry.fault == "refused"}
        assert processed and refused
        assert {token for token, count in site.simulator.accepted.items() if count > 1} == processed
        assert site.meters.unknown_outcomes.total() == len(processed) == site.kinds["T"]
        assert all(times[token] == 2 for token in refused - processed)

    faults = """
    rules:
      - {name: "processed, reset", match: {every: 40}, do: {processed: true, reset: INTERNAL_ERROR}}
      - {name: refused, match: {every: 31}, do: {refuse: true}}
    """
    stage(folder, story, faults)


@pytest.mark.parametrize(
    "fault", ["reason: TooManyRequests", "close: reset", "status: 429", "status: 502", "silent: true"]
)
@accident(22, "appleboy/gorush (source)")
def test_transport_errors_and_429_are_tried_again_like_5xx(folder: Path, fault: str) -> None:
    async def story(site: Site) -> None:
        await site.put(20)
        await site.end()
        assert site.kinds["D"] == 20
        assert site.kinds["T"] > 0

    stage(folder, story, f"rules: [{{match: {{nth: 7}}, do: {{{fault}}}}}]")


@accident(30, "rpush/rpush#331", "rpush/rpush#93", "node-apn/node-apn#149", "djacobs/PyAPNs#123")
def test_an_error_in_the_middle_sends_nothing_again_that_came_after_it(folder: Path) -> None:
    async def story(site: Site) -> None:
        await site.put(500)
        await site.end()
        times = Counter(entry.token for entry in site.requests)
        assert (site.kinds, len(site.requests)) == ({"D": 495, "P": 5}, 500)
        assert set(times.values()) == {1}

    stage(folder, story, "rules: [{match: {every: 100}, do: {reason: BadDeviceToken}}]")


@accident(35, "matrix-org/sygnal#104", "matrix-org/sygnal#116", "zulip/zulip#19669")
def test_there_is_one_layer_that_tries_again_and_its_schedule_is_the_queues(folder: Path) -> None:
    """Three tries of a library inside four of an application were twelve requests."""

    async def story(site: Site) -> None:
        await site.put(10)
        await site.end()
        assert set(Counter(entry.token for entry in site.requests).values()) == {4}
        assert site.kinds == {"T": 30, "P": 10}
        hours = sorted({round(entry.at - site.requests[0].at) // 60 for entry in site.requests})
        assert hours == [0, 1, 3, 7]

    faults = "rules: [{do: {reason: ServiceUnavailable}}]"
    stage(folder, story, faults, "retry_interval = 60 max_retries = 3 max_outbound_connections = 1")


@accident(36, "matrix-org/sygnal#280", "matrix-org/sygnal#344")
def test_every_reason_that_calls_a_token_dead_ends_its_retries(folder: Path) -> None:
    listed = {row.reason for row in TABLE._rows.values() if row.klass is Class.PERMANENT_TOKEN}
    assert set(DEAD) <= listed

    async def story(site: Site) -> None:
        await site.put(len(DEAD))
        await site.end(10)
        assert {record.word for record in site.records} == set(DEAD)
        assert (site.kinds, len(site.requests)) == ({"P": len(DEAD)}, len(DEAD))

    rules = ", ".join(
        f"{{match: {{token: '{token_of(place)}'}}, do: {{reason: {reason}}}}}"
        for place, reason in enumerate(DEAD, 1)
    )
    stage(folder, story, f"rules: [{rules}]")


@accident(37, "matrix-org/sygnal (source)")
def test_a_message_keeps_its_apns_id_over_every_retry(folder: Path) -> None:
    async def story(site: Site) -> None:
        made = await site.put(30)
        await site.end()
        assert site.kinds["D"] == 30
        assert len(site.requests) > 45
        ids = {message.token: message.apns_id for message in made}
        assert {(entry.token, entry.apns_id) for entry in site.requests} == set(ids.items())
        assert {record.message.apns_id for record in site.records} == set(ids.values())

    faults = """
    rules:
      - {match: {times: 9}, do: {reason: InternalServerError}}
      - {match: {times: 9}, do: {reset: INTERNAL_ERROR}}
      - {match: {times: 9}, do: {refuse: true}}
      - {match: {times: 1}, do: {close: true}}
    """
    stage(folder, story, faults, "retry_interval = 5")


@accident(49, "swift-server-community/APNSwift#229", "kylebrowning/APNSwift#231")
def test_a_reason_that_nobody_knows_goes_by_its_status_and_is_recorded_as_it_came(folder: Path) -> None:
    async def story(site: Site) -> None:
        await site.put(2)
        await site.until(lambda: len(site.records) == 2, 10)
        assert {(record.kind, record.word) for record in site.records} == {
            (Kind.PERMFAIL, "NeverHeardOf"),
            (Kind.TEMPFAIL, "NorOfThis"),
        }
        await site.end()
        assert site.kinds["D"] == 1
        assert not TABLE.lookup(400, "NeverHeardOf").condemns_token
        assert not TABLE.lookup(410, "NeverHeardOf").condemns_token

    faults = f"""
    rules:
      - {{match: {{token: '{token_of(1)}'}}, do: {{status: 400, reason: NeverHeardOf}}}}
      - {{match: {{token: '{token_of(2)}', times: 1}}, do: {{status: 503, reason: NorOfThis}}}}
    """
    stage(folder, story, faults)


@pytest.mark.parametrize("collapse_id", ["ferry-7-start", ""])
@accident(54, "home-assistant/mobile-apps-fcm-push#331")
@accident(55, "novuhq/novu#10636")
def test_a_copy_replaces_the_first_by_the_senders_collapse_id_and_none_is_invented(
    folder: Path, collapse_id: str
) -> None:
    """A start of a Live Activity has one, so that two do not stand side by side; an update must have none."""

    async def story(site: Site) -> None:
        await site.put(
            20,
            collapse_id=collapse_id,
            push_type="liveactivity",
            topic="com.example.news.push-type.liveactivity",
        )
        await site.end()
        assert site.copies > 0
        assert {entry.collapse_id for entry in site.requests} == {collapse_id}

    stage(folder, story, "rules: [{match: {times: 1}, do: {accept_then_close: true}}]")


@accident(56, "antoinedc/MantaUI#676")
def test_a_bad_token_on_the_way_takes_no_other_with_it(folder: Path) -> None:
    async def story(site: Site) -> None:
        made = await site.put(100)
        await site.end(10)
        failed = [record.message for record in site.records if record.kind is Kind.PERMFAIL]
        assert failed == [made[49]]
        assert site.kinds == {"D": 99, "P": 1}

    faults = f"""
    rules:
      - {{match: {{token: '{token_of(50)}'}}, do: {{reason: BadDeviceToken}}}}
      - {{match: {{after: 1}}, do: {{delay: 0.2}}}}
    """
    stage(folder, story, faults)


@accident(57, "reown-com/push-server#182")
def test_a_token_of_another_app_fails_for_good_and_is_not_tried_again(folder: Path) -> None:
    async def story(site: Site) -> None:
        await site.put()
        await site.end(10)
        [record] = site.records
        assert (record.kind, record.word, record.status) == (Kind.PERMFAIL, "DeviceTokenNotForTopic", 8)
        assert record.text.startswith("550 5.1.1 ")
        assert len(site.requests) == 1

    stage(folder, story, f"devices: [{{token: '{token_of(1)}', topics: [com.example.other]}}]")
