"""Accidents with provider tokens, certificates and whom they are shown to (apns.md 8)."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from pathlib import Path

import pytest

from momentum_push.message import Kind
from tests.helpers.accidents import NEWS, TOPIC, Site, accident, key_options, stage
from tests.helpers.apns import provider_certificate

OTHER = "com.example.other.apns"
MINUTE, HOUR = 60.0, 3600.0
WEDGED = "rules: [{match: {token_changed: true, times: 1}, do: {status: 500, wedge: true}}]"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("credentials")


async def trickle(site: Site, seconds: float, every: float, count: int = 1) -> None:
    """Push something every so often."""
    ends = site.clock.monotonic() + seconds
    while site.clock.monotonic() < ends:
        await site.put(count)
        await asyncio.sleep(every)


def no_refused_token(site: Site) -> bool:
    bad = {"ExpiredProviderToken", "TooManyProviderTokenUpdates", "InvalidProviderToken"}
    return not bad & set(site.simulator.ledger.verdicts)


@accident(9, "jchambers/pushy#408", "jchambers/pushy#529")
def test_a_connection_that_answers_only_500_after_a_token_change_is_replaced(folder: Path) -> None:
    async def story(site: Site) -> None:
        await trickle(site, HOUR, 30)
        await site.end()
        assert site.kinds["D"] == 120
        assert site.kinds["T"] == 3
        assert len(site.simulator.connections) >= 2

    stage(folder, story, WEDGED.replace(", times: 1", ", connection: 1"), "max_outbound_connections = 1")


@accident(10, "jchambers/pushy#568", "jchambers/pushy#783")
def test_a_connection_wedged_by_an_expired_token_is_closed_and_its_messages_go_over_another(
    folder: Path,
) -> None:
    async def story(site: Site) -> None:
        await site.put(5)
        await site.end(10)
        await site.put(20)
        assert await site.end(60) < 5
        assert site.kinds == {"D": 25}

    faults = "rules: [{match: {nth: 10}, do: {reason: ExpiredProviderToken, wedge: true}}]"
    stage(folder, story, faults, "max_outbound_connections = 1")


@accident(10, "jchambers/pushy#568", "jchambers/pushy#783")
def test_no_token_ever_gets_old_enough_to_expire(folder: Path) -> None:
    async def story(site: Site) -> None:
        await trickle(site, 4 * HOUR, 150)
        await site.end()
        assert no_refused_token(site)
        assert site.kinds == {"D": site.put_count}

    stage(folder, story)


@accident(10, "jchambers/pushy#568", "jchambers/pushy#783")
def test_a_peer_whose_clock_calls_every_token_expired_is_not_stormed_with_connects(folder: Path) -> None:
    """Each new connection brings the same token, so that none of them can be better than the last."""

    async def story(site: Site) -> None:
        await site.put(200)
        await asyncio.sleep(HOUR)
        assert site.simulator.ledger.connects < 120
        assert site.kinds["D"] == site.kinds["P"] == 0
        site.simulator.use_faults(type(site.simulator._floor.faults)())
        await site.end()
        assert site.kinds["D"] == 200

    stage(folder, story, "clock_offset: 7200")


@accident(11, "jchambers/pushy#811", "jchambers/pushy#850", "jchambers/pushy#931", "jchambers/pushy#946")
def test_a_token_shared_by_connections_of_any_age_never_changes_twice_in_twenty_minutes(folder: Path) -> None:
    async def story(site: Site) -> None:
        for _ in range(16):  # a burst opens connections at odd times in the life of a token
            await trickle(site, 11 * MINUTE, 70)
            await site.put(60)
        await site.end()
        assert no_refused_token(site)
        links = site.simulator.connections
        assert len(links) > 8
        assert any(link.token_changes for link in links)
        assert site.pool.settings.credential.key.mints < 12  # type: ignore[union-attr]

    faults = """
    streams: {full: 20}
    latency: 0.1
    rules: [{match: {every: 80}, do: {goaway: {last: all}}}]
    """
    stage(folder, story, faults, "idle_timeout = 0")


@accident(12, "jchambers/pushy#399")
def test_the_tokens_of_two_teams_never_share_a_connection(folder: Path) -> None:
    async def story(site: Site) -> None:
        for _ in range(5):
            await site.put(40)
            await site.put(40, domain=OTHER, topic="com.example.other")
            await site.until(lambda: site.ended.total() == site.put_count, 60)
        assert site.kinds == {"D": 400}
        used: dict[int, set[str]] = defaultdict(set)
        for entry in site.requests:
            used[entry.connection].add(entry.credential)
        assert {len(keys) for keys in used.values()} == {1}
        assert len({(entry.topic, entry.credential) for entry in site.requests}) == 2
        assert len({entry.credential for entry in site.requests}) == 2
        assert len(used) > 2, "and several connections carry one team where one is full"

    domains = {
        NEWS: f'apn_topic = "{TOPIC}" {key_options(folder)}',
        OTHER: f'apn_topic = "com.example.other" {key_options(folder, "Other", "OTHERTEAM1")}',
    }
    stage(folder, story, "streams: {full: 10}\nlatency: 0.05", domains=domains)


@accident(31, "Fatal1ty/aioapns#28", "Fatal1ty/aioapns#30")
def test_a_certificate_that_the_peer_refuses_does_not_bring_an_endless_loop_of_reconnects(
    folder: Path, tmp_path: Path
) -> None:
    """A stranger's certificate: TLS ends with an alert, which is a fault of the configuration."""
    certificate, key = provider_certificate(tmp_path, TOPIC)
    credential = f'tls_certificate = "{certificate}" tls_key = "{key}"'

    async def story(site: Site) -> None:
        await site.put(50)
        await asyncio.sleep(HOUR)
        assert 10 < site.simulator.ledger.connects < 120
        assert (site.kinds["P"], site.kinds["T"]) == (0, 1)
        assert "credential" in site.records[0].text

    stage(folder, story, credential=credential)


@accident(34, "matrix-org/sygnal#139")
def test_the_name_of_the_server_is_verified_with_client_certificates_too(folder: Path) -> None:
    certificate, key = provider_certificate(folder, TOPIC)
    credential = f'tls_certificate = "{certificate}" tls_key = "{key}"'

    async def story(site: Site) -> None:
        asyncio.get_running_loop().names["elsewhere.example"] = ["127.0.0.1"]  # type: ignore[attr-defined]
        routes = f'routes = ( "apn://elsewhere.example?port={site.simulator.port}" )'
        site.domains[NEWS] += "\n" + routes
        site.reload()
        await site.put(1)
        await site.until(lambda: site.kinds["T"] == 1, 10)
        assert "ostname mismatch" in site.records[0].text
        assert site.requests == []

    stage(folder, story, credential=credential)


@accident(38, "esl/MongoosePush#143", "esl/sparrow#50")
def test_too_many_token_updates_end_with_the_connection_and_not_with_a_restart(folder: Path) -> None:
    async def story(site: Site) -> None:
        await site.put(30)
        assert await site.end(60) < 5
        assert site.kinds == {"D": 30}
        assert len(site.simulator.connections) == 2

    faults = "rules: [{match: {nth: 5}, do: {reason: TooManyProviderTokenUpdates, wedge: true}}]"
    stage(folder, story, faults, "max_outbound_connections = 1")


@accident(44, "AndrewBarba/apns2#16", "AndrewBarba/apns2#44", "AndrewBarba/apns2#87")
def test_the_age_of_a_token_is_asked_when_it_is_used_and_no_timer_freezes_it(folder: Path) -> None:
    """A host that sleeps: its wall clock goes on, its timers and its monotonic clock do not."""

    async def story(site: Site) -> None:
        for asleep in (40 * MINUTE, 55 * MINUTE, 3 * HOUR, 10 * MINUTE, 10 * MINUTE, 45 * MINUTE):
            await site.put(3)
            await site.until(lambda: site.ended.total() == site.put_count, 60)
            site.clock.jump(asleep)
            await asyncio.sleep(1)
        assert no_refused_token(site)
        assert site.kinds == {"D": 18}

    stage(folder, story, options="idle_timeout = 0")


@accident(46, "Pr0Ger/PyAPNs2#76", "Pr0Ger/PyAPNs2#80")
def test_one_connection_carries_one_token_whatever_the_topics(folder: Path) -> None:
    async def story(site: Site) -> None:
        for number in range(30):
            await site.put(2, topic=f"com.example.app{number % 5}")
        await site.end(60)
        assert site.kinds == {"D": 60}
        assert len({entry.topic for entry in site.requests}) == 5
        assert [
            link.token_changes for link in site.simulator.connections if len(link.token_changes) > 1
        ] == []

    stage(folder, story)


@accident(51, "ostinelli/apnotic#109")
def test_a_burst_of_invalid_provider_tokens_holds_the_messages_and_bounces_none(folder: Path) -> None:
    async def story(site: Site) -> None:
        await site.put(300)
        await site.end()
        assert site.kinds["D"] == 300
        assert site.kinds["P"] == 0
        accusing = [record for record in site.records if record.kind is Kind.TEMPFAIL]
        assert [record.word for record in accusing] == ["InvalidProviderToken"]

    faults = "rules: [{match: {until: 90}, do: {reason: InvalidProviderToken}}, {do: {delay: 0.2}}]"
    stage(folder, story, faults)
