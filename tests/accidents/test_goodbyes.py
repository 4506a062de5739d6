"""Accidents at the end of a connection (apns.md 8): GOAWAY, loss, and the address that comes next."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from momentum_push.message import Kind
from tests.helpers.accidents import Site, accident, stage
from tests.helpers.apns import provider_certificate
from tests.helpers.lists import token_of

TWO = ("127.0.0.1", "127.0.0.2")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("goodbyes")


@accident(5, "jchambers/pushy#773")
def test_a_token_that_one_address_is_silent_about_is_tried_at_another(folder: Path) -> None:
    async def story(site: Site) -> None:
        made = await site.put(60)
        await site.end(1200)
        attempts = [entry.listener for entry in site.requests if entry.token == made[39].token]
        assert attempts in ([1, 2], [2])
        assert site.kinds["D"] == 60

    faults = f"""
    latency: 0.05
    rules: [{{match: {{token: '{token_of(40)}', listener: 1}}, do: {{silent: true}}}}]
    """
    for _ in range(4):  # the first address is drawn by lot
        stage(folder, story, faults, addresses=TWO)


@accident(6, "jchambers/pushy#561", "jchambers/pushy#1013", "jchambers/pushy#1017")
def test_a_connection_lost_before_its_replies_leaves_unknown_outcomes_that_are_recorded_and_tried_again(
    folder: Path,
) -> None:
    async def story(site: Site) -> None:
        await site.put(100)
        await site.end()
        lost = [record for record in site.records if record.kind is Kind.TEMPFAIL]
        assert lost and all(record.status == 255 for record in lost)
        assert site.meters.unknown_outcomes.total() == len(lost)
        assert site.kinds["D"] == 100
        assert 0 < site.copies <= len(lost)

    faults = """
    latency: 0.2
    rules:
      - {match: {nth: 40}, do: {accept_then_close: true}}
      - {match: {nth: 90}, do: {close: reset}}
    """
    stage(folder, story, faults)


@accident(7, "jchambers/pushy#874", "jchambers/pushy#878", "jchambers/pushy#885", "jchambers/pushy#807")
def test_a_connection_that_said_goodbye_gets_no_request_more(folder: Path) -> None:
    """The socket stays open, so that nothing but the goodbye says that it is over."""

    async def story(site: Site) -> None:
        for _ in range(10):
            await site.put(10)
            await site.until(lambda: site.ended.total() == site.put_count, 10)
        assert (site.kinds, site.copies) == ({"D": 100}, 0)
        first = site.simulator.connections[0]
        assert (first.goaways, first.requests) == (1, 40), "what one read brought, and nothing later"

    faults = "rules: [{match: {nth: 35}, do: {goaway: {last: all, close: never}}}]"
    stage(folder, story, faults, "max_outbound_connections = 1")


@accident(8, "jchambers/pushy#571")
def test_the_name_is_resolved_before_each_connect_and_the_server_that_said_goodbye_is_left(
    folder: Path,
) -> None:
    async def story(site: Site) -> None:
        loop = asyncio.get_running_loop()
        loop.names["localhost"] = ["127.0.0.1"]  # type: ignore[attr-defined]
        await site.put(10)
        await site.until(lambda: site.kinds["D"] == 10, 10)
        assert {link.listener for link in site.simulator.connections} == {1}
        loop.names["localhost"] = ["127.0.0.2"]  # type: ignore[attr-defined]
        await site.put(20)
        await site.end(10)
        assert [link.listener for link in site.simulator.connections] == [1, 2]
        assert loop.lookups["localhost"] == 2  # type: ignore[attr-defined]

    faults = "rules: [{match: {nth: 20}, do: {goaway: {last: none}}}]"
    stage(folder, story, faults, "max_outbound_connections = 1", addresses=TWO)


@pytest.mark.parametrize("debug", ["json", "text", "empty", "invalid"])
@accident(14, "jchambers/pushy#312")
def test_a_second_goodbye_and_one_without_a_reason_confuse_nobody(folder: Path, debug: str) -> None:
    async def story(site: Site) -> None:
        await site.put(100)
        await site.end(60)
        assert (site.kinds, site.copies) == ({"D": 100}, 0)
        assert len(site.simulator.connections) == 2

    faults = f"rules: [{{match: {{nth: 50}}, do: {{goaway: {{last: middle, debug: {debug}, twice: true}}}}}}]"
    stage(folder, story, faults, "max_outbound_connections = 1")


@pytest.mark.parametrize("moment", ["at_once", "with_the_first_request"])
@accident(18, "sideshow/apns2#93", "sideshow/apns2#117")
def test_a_certificate_fault_that_only_a_goodbye_tells_is_named_and_ends_the_reconnecting(
    folder: Path, moment: str
) -> None:
    certificate, key = provider_certificate(folder, "com.example.news")
    credential = f'tls_certificate = "{certificate}" tls_key = "{key}"'

    async def story(site: Site) -> None:
        await site.put(5)
        await site.until(lambda: site.kinds["T"], 60)
        await site.until(lambda: site.clock.monotonic() > 3600, 4000)
        assert [record.word for record in site.records] == ["BadCertificateEnvironment"]
        assert site.pool.is_suspended
        assert site.simulator.ledger.connects < 100, "about one a minute"
        site.simulator.use_faults(type(site.simulator._floor.faults)())
        await site.end(120)
        assert site.kinds["D"] == 5

    when = "when: connect" if moment == "at_once" else "match: {every: 1}"
    goaway = "goaway: {last: none, reason: BadCertificateEnvironment, close: now}"
    stage(folder, story, f"rules: [{{{when}, do: {{{goaway}}}}}]", credential=credential)


@accident(39, "node-apn/node-apn#640", "parse-community/node-apn#7", "parse-community/node-apn#140")
def test_a_goodbye_after_every_hundred_requests_loses_and_doubles_none(folder: Path) -> None:
    async def story(site: Site) -> None:
        for _ in range(10):
            await site.put(100)
            await site.until(lambda: site.ended.total() == site.put_count, 60)
        assert (site.kinds, site.copies) == ({"D": 1000}, 0)
        assert site.meters.goaways.total() >= 9

    faults = """
    latency: 0.02
    rules: [{match: {after: 99, count: connection}, do: {goaway: {graceful: true, notice: 0.1}}}]
    """
    stage(folder, story, faults, "max_outbound_connections = 1")


@accident(53, "DocNR/clave#14")
def test_a_session_that_refuses_everything_and_is_not_closed_stops_no_push_for_hours(folder: Path) -> None:
    async def story(site: Site) -> None:
        await site.put(50)
        await site.end(60)
        assert site.kinds["D"] == 50
        await site.put(50)
        await site.end(60)

    faults = """
    rules:
      - {match: {connection: 1, nth: 20}, do: {goaway: {last: middle, close: never}}}
      - {match: {connection: 1, after: 20}, do: {refuse: true}}
    """
    stage(folder, story, faults)


@accident(53, "DocNR/clave#14")
def test_a_session_that_refuses_everything_without_a_goodbye_is_left_as_well(folder: Path) -> None:
    async def story(site: Site) -> None:
        await site.put(50)
        await site.end(60)
        assert site.kinds == {"D": 50}

    faults = "rules: [{match: {connection: 1, after: 20}, do: {refuse: true, wedge: true}}]"
    stage(folder, story, faults, "max_outbound_connections = 2")


@accident(53, "DocNR/clave#14")
def test_an_only_session_that_refuses_everything_is_replaced(folder: Path) -> None:
    async def story(site: Site) -> None:
        await site.put(50)
        await site.end(600)
        assert site.kinds["D"] == 50

    faults = "rules: [{match: {connection: 1, after: 20}, do: {refuse: true, wedge: true}}]"
    stage(folder, story, faults, "max_outbound_connections = 1")
