"""Accidents with streams and their limit (apns.md 8): requests that were forgotten, slots that leaked."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest

from momentum_push.delivery.apns.wire import Wire, WireOptions
from momentum_push.message import Kind, Phase
from tests.helpers.accidents import NEWS, Site, accident, key_options, stage
from tests.helpers.conf import errors
from tests.helpers.lists import messages
from tests.helpers.peer import Peer, join

BEARER = b"bearer a.b.c"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("streams")


def wire_to(peer: Peer, **options: object) -> Wire:
    """A wire of a certificate connection that has heard its peer's SETTINGS."""
    wire = Wire(WireOptions("api.push.apple.com", is_probing=False, **options))  # type: ignore[arg-type]
    wire.initiate()
    join(wire, peer)
    return wire


def send(wire: Wire, count: int, first: int = 1, **changes: object) -> int:
    found = messages(count, first, **changes)  # type: ignore[arg-type]
    return wire.send([(message, "com.example.news") for message in found], BEARER, 0.0)


@accident(1, "jchambers/pushy#476", "jchambers/pushy#486")
def test_a_limit_cut_to_one_after_a_rejection_loses_no_request(folder: Path) -> None:
    async def story(site: Site) -> None:
        await site.put(1000)
        await site.end()
        assert site.kinds == {"D": 980, "P": 20}
        assert site.copies == 0
        assert sum(link.refused_streams for link in site.simulator.connections) > 0

    faults = """
    streams: {after_rejection: 1}
    rules:
      - {match: {every: 50, verdict: Accepted, times: 20}, do: {reason: BadDeviceToken}}
      - {match: {after: 1}, do: {delay: 0.05}}
    """
    stage(folder, story, faults)


@accident(2, "lionheart/openradar-mirror#15649", "jchambers/pushy#356")
def test_goodbye_for_too_many_streams_though_the_limit_was_obeyed_loses_no_request(folder: Path) -> None:
    async def story(site: Site) -> None:
        await site.put(1500)
        await site.end()
        assert site.kinds["D"] == 1500
        assert site.copies == site.kinds["T"] == 0
        assert {name for _, _, name in site.meters.goaways} == {"other"}
        assert sum(link.goaways for link in site.simulator.connections) == 3

    goaway = "goaway: {last: middle, debug: text, code: REFUSED_STREAM}"
    faults = f"""
    streams: {{full: 500}}
    rules:
      - {{match: {{every: 400, times: 3}}, do: {{limit: 1, limit_for: 0.5, {goaway}}}}}
      - {{match: {{every: 90, times: 4}}, do: {{limit: 1, limit_for: 0.5}}}}
    """
    stage(folder, story, faults)


@accident(3, "jchambers/pushy#732")
def test_bad_tokens_of_one_app_do_not_slow_another_and_late_answers_end_at_their_deadline(
    folder: Path,
) -> None:
    other = "com.example.other.apns"

    async def story(site: Site) -> None:
        await site.put(180)
        await site.put(300, domain=other, topic="com.example.other")
        delivered = site.meters.deliveries
        assert await site.until(lambda: delivered[other, "default"] == 300) < 2
        await site.end()
        late = max(record.at - record.message.part.received_at for record in site.records)
        assert late < 60, "an answer was waited for long after its deadline"
        assert sum(link.client_resets for link in site.simulator.connections) > 0

    faults = """
    streams: {after_rejection: 1}
    rules:
      - {match: {topic: com.example.news, every: 40, times: 3}, do: {delay: 700}}
      - {match: {topic: com.example.news, every: 2}, do: {delay: 0.1, reason: BadDeviceToken}}
    """
    said = "max_outbound_connections = 2"
    domains = {
        NEWS: f'apn_topic = "com.example.news" {said} {key_options(folder)}',
        other: f'apn_topic = "com.example.other" {said} {key_options(folder)}',
    }
    stage(folder, story, faults, domains=domains)


@accident(4, "jchambers/pushy#816")
def test_streams_that_are_never_answered_end_and_their_record_names_the_apns_id(folder: Path) -> None:
    async def story(site: Site) -> None:
        await site.put(200)
        await site.end()
        lost = [record for record in site.records if record.kind is Kind.TEMPFAIL]
        assert len(lost) == 2
        assert {record.reason for record in lost} == {"no answer within 30 s"}
        seen = {entry.apns_id for entry in site.requests}
        assert {record.message.apns_id for record in lost} <= seen
        assert site.kinds["D"] == 200

    stage(folder, story, "rules: [{match: {every: 70, times: 2}, do: {silent: true}}]")


@pytest.mark.parametrize("option", ["max_streams_per_connection", "max_outbound_connections"])
@accident(21, "appleboy/gorush#536")
def test_a_limit_of_nothing_does_not_hold_every_push_for_ever(folder: Path, option: str) -> None:
    """Either the configuration says that it is no good, or everything goes out."""
    if errors(f'domain "x.apns" {{ {option} = 0 }}'):
        return

    async def story(site: Site) -> None:
        await site.put(50)
        await site.end(60)

    stage(folder, story, options=f"{option} = 0")


@accident(24, "rpush/rpush#608", "ostinelli/apnotic#58")
def test_nobody_waits_for_streams_of_a_connection_that_was_reset(folder: Path) -> None:
    async def story(site: Site) -> None:
        await site.put(10)
        await site.until(lambda: site.kinds["D"] == 1)
        await site.put(500)
        assert await site.end() < 40
        assert site.kinds["D"] == 510

    faults = "rules: [{match: {nth: 20}, do: {close: reset}}]"
    stage(folder, story, "streams: {full: 5}\nlatency: 0.1\n" + faults, "max_outbound_connections = 1")


@accident(25, "rpush/rpush#475", "rpush/rpush#476")
def test_nothing_is_remembered_of_a_request_however_it_ended(folder: Path) -> None:
    async def story(site: Site) -> None:
        await site.put(1000)
        await site.end()
        assert len(site.simulator.connections) > 2
        assert (site.pool._judge.remembered, site.queues.resident) == (0, 0)
        assert list(site.pool._fleet._watches) == site.pool.connections
        wires = [link._wire for link in site.pool.connections]
        gc.collect()
        alive = [each for each in gc.get_objects() if isinstance(each, Wire)]
        assert len(alive) == len(wires), "a connection that is gone is still held"
        assert [len(wire._exchanges) for wire in alive] == [0] * len(wires)

    faults = """
    rules:
      - {match: {every: 11}, do: {refuse: true, then_reset: STREAM_CLOSED}}
      - {match: {every: 13}, do: {reset: INTERNAL_ERROR}}
      - {match: {every: 17}, do: {reason: BadDeviceToken, answer: {pieces: 3, trailers: true}}}
      - {match: {every: 300}, do: {silent: true}}
      - {match: {every: 400}, do: {close: true}}
      - {match: {every: 450}, do: {goaway: {last: middle}}}
    """
    stage(folder, story, faults, "retry_interval = 1")


@pytest.mark.parametrize("end", ["reset", "refused", "goaway", "deadline", "answer"])
@accident(33, "Fatal1ty/aioapns (source)")
def test_a_slot_comes_back_on_every_end_of_its_stream(end: str) -> None:
    peer = Peer(max_streams=2)
    wire = wire_to(peer)
    assert (send(wire, 2), wire.capacity) == (2, 0)
    join(wire, peer)
    if end == "deadline":
        assert len(wire.expire(30.0)) == 2
    elif end == "goaway":
        peer.goaway(0)
    elif end == "answer":
        peer.answer(1)
        peer.answer(3, 500, b'{"reason":"InternalServerError"}')
    else:
        for stream_id in (1, 3):
            peer.reset(stream_id, 7 if end == "refused" else 2)
    join(wire, peer)
    assert wire.in_flight == 0
    assert wire.capacity == (0 if end == "goaway" else 2)


@accident(33, "Fatal1ty/aioapns (source)")
def test_no_headers_go_out_before_the_window_holds_the_body() -> None:
    """aioapns raised in the middle of a request, and forgot a stream that the peer counted."""
    peer = Peer(opens_window=False)
    wire = wire_to(peer)
    taken = send(wire, 40, payload=b"x" * 4000)
    join(wire, peer)
    assert taken == 65535 // 4000
    assert len(peer.requests) == len(peer.open) == taken
    assert {len(request.body) for request in peer.requests} == {4000}


@accident(45, "AndrewBarba/apns2#17")
def test_more_requests_than_streams_wait_their_turn_and_are_all_sent(folder: Path) -> None:
    async def story(site: Site) -> None:
        await site.put(1000)
        await site.end(60)
        assert site.kinds == {"D": 1000}
        assert max(link.peak_streams for link in site.simulator.connections) <= 10

    stage(folder, story, "streams: {full: 10}\nlatency: 0.02")


@accident(47, "Pr0Ger/PyAPNs2#86")
def test_a_thousand_reset_streams_leave_a_thousand_slots() -> None:
    peer = Peer(max_streams=1000)
    wire = wire_to(peer)
    first = 1
    for _ in range(2):
        assert send(wire, 1000, first, payload=b"{}") == 1000
        join(wire, peer)
        for stream_id in list(peer.open):
            peer.reset(stream_id, 2)
        assert {outcome.phase for outcome in join(wire, peer)} == {Phase.UNKNOWN}
        first += 1000
    assert (wire.in_flight, wire.capacity > 0) == (0, True)
    assert send(wire, 1000, first, payload=b"{}") == 1000


@accident(48, "kylebrowning/APNSwift#93", "kylebrowning/APNSwift#101", "vapor/apns#23", "vapor/apns#28")
def test_a_missing_answer_does_not_block_its_connection_for_good(folder: Path) -> None:
    async def story(site: Site) -> None:
        await site.put(20)
        await site.end(90)
        assert site.kinds == {"D": 20, "T": 1}
        assert {link.closed_at > 0 for link in site.simulator.connections} == {False}

    faults = "streams: {full: 1}\nrules: [{match: {nth: 5}, do: {silent: true}}]"
    stage(folder, story, faults, "max_outbound_connections = 1")


@pytest.mark.parametrize(("ours", "theirs"), [(1000, 1500), (2000, 1500), (100, 1000)])
@accident(50, "ostinelli/apnotic#140", "ostinelli/apnotic#141")
def test_the_streams_in_use_are_the_smaller_of_both_limits(ours: int, theirs: int) -> None:
    """Ours was 100 where nobody had asked for it; the default here is Apple's 1000."""
    assert WireOptions("x").max_streams == 1000
    wire = wire_to(Peer(max_streams=theirs), max_streams=ours)
    assert send(wire, 3000, payload=b"{}") == min(ours, theirs)


@accident(52, "codedge-llc/pigeon#84", "codedge-llc/pigeon#226")
def test_streams_that_are_refused_without_an_answer_crash_nobody_and_tokens_are_not_minted_for_each(
    folder: Path,
) -> None:
    async def story(site: Site) -> None:
        await site.put(300)
        await site.end()
        assert site.kinds == {"D": 300}
        assert site.copies == 0
        assert len(site.simulator.connections) > 1
        assert site.pool.settings.credential.key.mints == 1  # type: ignore[union-attr]

    stage(
        folder, story, "streams: {full: 20}\nlatency: 0.05\nrules: [{match: {every: 25}, do: {refuse: true}}]"
    )
