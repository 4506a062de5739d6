"""Accidents with peers that say nothing (apns.md 8): dead connections, missing deadlines, missing PINGs."""

from __future__ import annotations

import asyncio
import gc
from pathlib import Path

import pytest

from momentum_push.delivery.apns import Connection, ConnectionState
from momentum_push.message import Kind
from tests.helpers.accidents import Site, accident, stage

HOUR = 3600.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("silence")


@accident(13, "jchambers/pushy#264", "jchambers/pushy#257", "jchambers/pushy#266")
def test_pings_keep_a_firewall_from_forgetting_an_idle_connection(folder: Path) -> None:
    async def story(site: Site) -> None:
        await site.put()
        await site.end(10)
        await asyncio.sleep(HOUR / 2)
        await site.put()
        assert await site.end() < 1
        assert (site.kinds, len(site.simulator.connections)) == ({"D": 2}, 1)

    faults = "rules: [{when: connect, do: {black_hole_after: 45}}]"
    stage(folder, story, faults, "apn_ping_interval = 30")


@accident(13, "jchambers/pushy#452")
def test_the_intervals_of_pings_are_the_seconds_that_were_written(folder: Path) -> None:
    """Milliseconds were compared with seconds: a PING timeout that never, or always, had passed."""

    async def story(site: Site) -> None:
        await site.put()
        await site.end(10)
        await asyncio.sleep(601)
        link = site.simulator.connections[0]
        assert link.pings == 600 // 40
        site.simulator.use_faults(site.simulator._floor.faults)
        assert site.pool.connections[0].state is ConnectionState.OPEN

    stage(folder, story, options="apn_ping_interval = 40")


@accident(17, "sideshow/apns2#20", "sideshow/apns2#24")
def test_a_peer_that_accepts_and_says_nothing_holds_a_connect_no_longer_than_its_timeout(
    folder: Path,
) -> None:
    async def story(site: Site) -> None:
        await site.put(5)
        seconds = await site.end(120)
        assert site.kinds["D"] == 5
        assert 10 <= seconds < 13, "one connect_timeout and a back-off"

    faults = "rules: [{when: connect, match: {times: 1}, do: {hang_before_settings: true}}]"
    stage(folder, story, faults)


@accident(17, "sideshow/apns2#209")
@accident(41, "parse-community/node-apn#29")
def test_a_dead_connection_is_found_by_ping_and_not_used_again(folder: Path) -> None:
    async def story(site: Site) -> None:
        await site.put(10)
        await site.end(10)
        await asyncio.sleep(30)  # the black hole is there, and no PING was due
        await site.put(10)
        seconds = await site.end(120)
        assert site.kinds == {"D": 20, "T": 10}
        assert seconds < 25, "10 s of silence, 10 s for the ACK, 1 s for an unknown outcome"
        assert site.copies == 0

    faults = "rules: [{when: connect, match: {nth: 1}, do: {black_hole_after: 20}}]"
    stage(folder, story, faults, "max_outbound_connections = 1")


@accident(23, "rpush/rpush#607", "rpush/rpush#723", "rpush/rpush#734")
def test_a_reset_after_twenty_idle_minutes_reaches_the_queue_and_nothing_stays_in_progress(
    folder: Path,
) -> None:
    async def story(site: Site) -> None:
        await site.put(3)
        await site.end(10)
        await asyncio.sleep(1200)
        site.simulator.drop_connections()
        await site.put(3)  # in the same turn: the reset has not been read
        await site.end(60)
        assert (site.kinds["D"], site.pool.unsettled, site.queues.resident) == (6, 0, 0)
        assert sum(row.messages for row in await site.spool.overview()) == 0

    stage(folder, story, options="apn_ping_interval = 3000")


@accident(26, "rpush/rpush#564")
def test_delivery_goes_on_after_timeouts(folder: Path) -> None:
    async def story(site: Site) -> None:
        await site.put(40)
        await site.until(lambda: site.kinds["T"] == 10, 90)
        await site.put(200)
        await site.end(600)
        assert site.kinds["D"] == 240

    stage(folder, story, "rules: [{match: {after: 10, times: 10}, do: {silent: true}}]")


@accident(32, "Fatal1ty/aioapns#55")
def test_a_connection_that_is_lost_twice_and_unknown_to_its_pool_settles_its_requests_once(
    folder: Path,
) -> None:
    async def story(site: Site) -> None:
        await site.put(10)
        await site.until(lambda: site.requests, 10)
        link = next(each for each in site.pool.connections if each.in_flight)
        waiting = link.in_flight
        site.pool.connections.remove(link)
        link.connection_lost(ConnectionResetError("reset"))
        link.connection_lost(None)
        link.close("again")
        assert (link.in_flight, link.state) == (0, ConnectionState.CLOSED)
        await site.until(
            lambda: site.kinds["T"], 1
        )  # verdicts that follow each other closely are recorded together
        assert site.kinds["T"] == waiting
        await site.end(60)
        assert site.kinds["D"] == 10

    stage(folder, story, "rules: [{match: {times: 1}, do: {delay: 5}}]")


@accident(40, "node-apn/node-apn#518", "node-apn/node-apn#585", "node-apn/node-apn#542")
def test_connections_whose_pings_time_out_leave_nothing_behind(folder: Path) -> None:
    async def story(site: Site) -> None:
        for _ in range(5):
            await site.put(3)
            await site.end()
            await asyncio.sleep(120)
            assert site.pool.connections == []
        assert len(site.simulator.connections) == 5
        gc.collect()
        assert [each for each in gc.get_objects() if isinstance(each, Connection)] == []
        assert len(asyncio.all_tasks()) == 1

    faults = "rules: [{when: connect, do: {no_ping_ack: true}}]"
    stage(folder, story, faults, "max_outbound_connections = 1")


@accident(40, "node-apn/node-apn#542")
def test_a_stop_closes_every_connection_and_ends_every_timer(folder: Path) -> None:
    async def story(site: Site) -> None:
        await site.put(500)
        await site.until(lambda: site.kinds["D"] > 100, 60)
        links = list(site.pool.connections)
        await site.leave()
        assert {link.state for link in links} == {ConnectionState.CLOSED}
        assert [link._timer for link in links if link._timer is not None] == []

    stage(folder, story, "streams: {full: 40}\nlatency: 0.05")


@accident(43, "AndrewBarba/apns2#97", "AndrewBarba/apns2#98")
def test_after_hours_of_silence_a_push_does_not_block(folder: Path) -> None:
    """With the defaults: a PING every minute notices what the network forgot, an hour closes what is idle."""

    async def story(site: Site) -> None:
        for hours in (0.5, 3, 8):
            await site.put(2)
            assert await site.end() < 3
            await asyncio.sleep(hours * HOUR)
        assert site.kinds == {"D": 6}
        assert not [record for record in site.records if record.kind is Kind.TEMPFAIL]

    stage(folder, story, "rules: [{when: connect, do: {black_hole_after: 300}}]")
