"""The wire against h2's server side, in memory: limits, windows, ends (apns.md 6)."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from momentum_push.delivery.apns.wire import MAX_STREAM_ID, Wire, WireOptions
from momentum_push.message import Message, Outcome, Phase
from tests.helpers.lists import messages
from tests.helpers.peer import Peer, join

TOKEN = b"bearer a.b.c"
TOPIC = "com.example.news"
BAD = b'{"reason":"BadDeviceToken"}'
ANSWER_200 = b"\0\0\1\1\5%b\x88"
"""HEADERS that end their stream; to be filled with its number."""
RESET = b"\0\0\4\3\0%b\0\0\0\0"


def joined(peer: Peer | None = None, **changes: Any) -> tuple[Wire, Peer]:
    """A wire that has heard its peer's SETTINGS; not probing unless the test says so."""
    peer = peer or Peer()
    wire = Wire(WireOptions(**({"authority": "api.push.apple.com", "is_probing": False} | changes)))
    wire.initiate()
    join(wire, peer)
    return wire, peer


def requests(found: list[Message]) -> list[tuple[Message, str]]:
    return [(message, TOPIC) for message in found]


def sent(
    wire: Wire, peer: Peer, count: int, now: float = 0.0, first: int = 1, **changes: Any
) -> list[Message]:
    """Send `count` messages that must all be taken, and let the peer read them."""
    found = messages(count, first, **changes)
    assert wire.send(requests(found), TOKEN, now) == count
    assert join(wire, peer, now) == []
    return found


def phases(outcomes: list[Outcome]) -> list[tuple[int, str]]:
    return [(outcome.message.sequence, outcome.phase.name) for outcome in outcomes]


# --- requests


def test_a_request_carries_what_apple_wants_and_nothing_more() -> None:
    wire, peer = joined()
    [message] = sent(wire, peer, 1)
    [request] = peer.requests
    assert [(name.decode(), value.decode()) for name, value in request.headers] == [
        (":method", "POST"),
        (":scheme", "https"),
        (":authority", "api.push.apple.com"),
        (":path", f"/3/device/{message.token}"),
        ("authorization", "bearer a.b.c"),
        ("apns-topic", TOPIC),
        ("apns-push-type", "alert"),
        ("apns-priority", "10"),
        ("apns-expiration", str(message.part.expiration)),
        ("apns-id", message.apns_id),
    ]
    assert request.body == message.payload


def test_an_answer_becomes_an_outcome_with_all_that_it_said() -> None:
    wire, peer = joined()
    [message] = sent(wire, peer, 1, now=10.0)
    body = b'{"reason":"Unregistered","timestamp":1700000000123}'
    peer.answer(1, 410, body, headers=[(b"retry-after", b"7")])
    [outcome] = join(wire, peer, now=12.5)
    assert outcome == Outcome(
        message, Phase.ANSWERED, 410, "Unregistered", 1_700_000_000, 7.0, outcome.size, 2.5
    )
    assert outcome.size > len(message.payload) + len(message.token)
    assert (wire.in_flight, wire.is_draining) == (0, False)


def test_answers_are_matched_by_stream_and_come_together() -> None:
    wire, peer = joined()
    found = sent(wire, peer, 3)
    peer.answer(5, 400, BAD)
    peer.answer(1)
    peer.answer(3)
    outcomes = wire.receive(peer.take(), 1.0)
    assert [outcome.message for outcome in outcomes] == [found[2], found[0], found[1]]
    assert [outcome.status for outcome in outcomes] == [400, 200, 200]


def test_ids_are_kept_out_of_the_peers_table_after_their_first_use() -> None:
    wire, peer = joined()
    sent(wire, peer, 1)
    table = peer.h2.decoder.header_table
    names = [name for name, _ in table.dynamic_entries]
    before = list(table.dynamic_entries)
    assert b":path" not in names
    assert {b"apns-id", b"apns-expiration", b"authorization"} <= set(names)
    sent(wire, peer, 50, first=2)
    assert list(table.dynamic_entries) == before


# --- before the first answer


def test_nothing_is_sent_before_the_peers_settings() -> None:
    wire = Wire(WireOptions("h"))
    wire.initiate()
    assert wire.capacity == 0
    assert wire.send(requests(messages(1)), TOKEN, 0.0) == 0


def test_a_token_connection_sends_one_request_and_holds_the_rest_until_its_answer() -> None:
    wire, peer = joined(is_probing=True)
    assert wire.capacity == 1
    assert wire.send(requests(messages(5)), TOKEN, 0.0) == 1
    assert wire.capacity == 0
    join(wire, peer)
    assert len(peer.requests) == 1
    peer.answer(1)
    join(wire, peer)
    assert wire.capacity == 1000


def test_the_shortest_answer_there_is_proves_the_token() -> None:
    wire, _ = joined(is_probing=True)
    wire.send(requests(messages(1)), TOKEN, 0.0)
    assert phases(wire.receive(ANSWER_200 % b"\0\0\0\1", 0.0)) == [(1, "ANSWERED")]
    assert wire.is_proven


@pytest.mark.parametrize("code", [7, 2])
def test_a_probe_without_an_answer_proves_nothing(code: int) -> None:
    wire, peer = joined(is_probing=True)
    sent(wire, peer, 1)
    peer.reset(1, code)
    assert len(join(wire, peer)) == 1
    assert wire.capacity == 1
    assert not wire.is_proven


def test_a_certificate_connection_sends_at_once_up_to_the_limit() -> None:
    wire, _ = joined(Peer(max_streams=7))
    assert wire.send(requests(messages(20)), b"", 0.0) == 7


# --- limits


@pytest.mark.parametrize(("remote", "own", "taken"), [(1000, 10, 10), (10, 1000, 10), (0, 10, 0)])
def test_the_smaller_of_both_limits_holds(remote: int, own: int, taken: int) -> None:
    wire, _ = joined(Peer(max_streams=remote), max_streams=own)
    assert wire.capacity == taken
    assert wire.send(requests(messages(50)), TOKEN, 0.0) == taken
    assert (wire.in_flight, wire.capacity) == (taken, 0)


def test_a_lowered_limit_stops_new_requests_and_cancels_none() -> None:
    wire, peer = joined(Peer(max_streams=10))
    sent(wire, peer, 8)
    peer.limit(1)
    assert join(wire, peer) == []
    assert (wire.in_flight, wire.capacity) == (8, 0)
    for stream_id in range(1, 15, 2):
        peer.answer(stream_id)
    assert len(join(wire, peer)) == 7
    assert wire.capacity == 0
    peer.answer(15)
    join(wire, peer)
    assert wire.capacity == 1
    peer.limit(5)
    join(wire, peer)
    assert wire.capacity == 5


@pytest.mark.parametrize("end", ["answer", "refused", "reset", "expired"])
def test_the_slot_is_free_again_after_every_end(end: str) -> None:
    wire, peer = joined(Peer(max_streams=2), response_timeout_s=30.0)
    for turn in range(6):
        now = turn * 100.0
        sent(wire, peer, 2, now, first=1 + 2 * turn)
        assert wire.capacity == 0
        for stream_id in list(peer.open):
            if end == "answer":
                peer.answer(stream_id)
            elif end == "refused":
                peer.reset(stream_id, 7)
            elif end == "reset":
                peer.reset(stream_id, 2)
        outcomes = join(wire, peer, now)
        if end == "expired":
            outcomes = wire.expire(now + 30.0)
            join(wire, peer, now)
        wire.drain_reason = ""  # three timeouts, or refusals, in a row would end it
        assert len(outcomes) == 2
        assert wire.capacity == 2
        assert peer.open == {}


# --- windows


def test_no_request_begins_before_the_window_holds_its_whole_body() -> None:
    peer = Peer(opens_window=False)
    wire, _ = joined(peer)
    big = b'{"aps":{}}' + b" " * 4_086
    taken = wire.send(requests(messages(100, payload=big)), TOKEN, 0.0)
    assert taken == 65535 // len(big)
    join(wire, peer)
    assert len(peer.requests) == taken
    assert all(request.body == big for request in peer.requests)
    assert wire.capacity == 0
    peer.h2.increment_flow_control_window(1)  # fifteen bodies left 4,095 bytes
    join(wire, peer)
    assert wire.capacity > 0
    assert wire.send(requests(messages(100, payload=big)), TOKEN, 0.0) == 1
    peer.h2.increment_flow_control_window(4_095)
    join(wire, peer)
    assert wire.capacity == 0


def test_a_rest_of_the_window_is_no_room_while_answers_are_due() -> None:
    """Else some connection of many always seems to have room, and a pool that windows limit never grows."""
    peer = Peer(opens_window=False)
    wire, _ = joined(peer)
    assert wire.send(requests(messages(13, payload=b"x" * 5_000)), TOKEN, 0.0) == 13
    assert wire.capacity == 0, "535 bytes are left"
    join(wire, peer)
    for stream_id in list(peer.open):
        peer.answer(stream_id)
    join(wire, peer)
    assert wire.capacity == 1, "or what is smaller would wait for ever"
    assert wire.send(requests(messages(1, first=20, payload=b"x" * 535)), TOKEN, 0.0) == 1


def test_a_body_above_any_streams_window_comes_back_at_once_and_retires_the_peer() -> None:
    """To wait for more room would hold up everything behind it; what fits still goes out."""
    wire, peer = joined(Peer(window=100))
    big, small = messages(1, payload=b"x" * 101), messages(1, first=2, payload=b"x" * 100)
    assert wire.send(requests(big + small), TOKEN, 0.0) == 2
    assert (wire.in_flight, wire.is_done) == (2, False)
    assert wire.send(requests(messages(1, first=3)), TOKEN, 0.0) == 0
    (back,) = wire.give_back()
    assert (back.message, back.phase) == (big[0], Phase.NOT_PROCESSED)
    assert back.reason == "INITIAL_WINDOW_SIZE 100 is too small for 101 bytes"
    assert wire.drain_reason == wire.blame == f"the peer's {back.reason}"
    assert (wire.give_back(), wire.in_flight, wire.capacity) == ([], 1, 0)
    join(wire, peer)
    assert [request.body for request in peer.requests] == [b"x" * 100]


def test_what_was_to_come_back_comes_back_when_the_connection_is_lost_first() -> None:
    wire, _ = joined(Peer(window=100))
    wire.send(requests(messages(1, payload=b"x" * 101)), TOKEN, 0.0)
    assert [outcome.phase for outcome in wire.connection_lost("lost", 1.0)] == [Phase.NOT_PROCESSED]
    assert wire.is_done


def test_a_peer_that_never_makes_room_loses_the_connection_in_the_end() -> None:
    wire, peer = joined(response_timeout_s=30.0)
    peer.limit(0)
    join(wire, peer, now=5.0)
    assert wire.next_deadline() == 35.0
    wire.expire(34.9)
    assert not wire.is_draining
    wire.expire(35.0)
    assert wire.is_done
    assert "no room" in wire.blame
    assert wire.drain_reason.endswith("(0 streams, windows 65535 and 65535)")


def test_a_trip_is_what_streams_or_half_the_widest_window_hold() -> None:
    """apns.md 6.2: 65,535 bytes never hold two steps of 32 KiB."""
    wire, peer = joined()
    wire.send(requests(messages(1, payload=b"x" * 320)), TOKEN, 0.0)
    assert (wire.trip, wire.is_window_bound) == (102, True)
    peer.h2.increment_flow_control_window(10_000_000)
    join(wire, peer)
    assert (wire.trip, wire.is_window_bound) == (1000, False)


def test_a_limit_of_zero_for_a_while_is_borne() -> None:
    wire, peer = joined()
    peer.limit(0)
    join(wire, peer, now=10.0)
    assert (wire.capacity, wire.next_deadline()) == (0, 40.0)
    peer.limit(5)
    join(wire, peer, now=20.0)
    assert (wire.capacity, wire.next_deadline()) == (5, None)


def test_received_data_is_acknowledged_so_that_errors_never_close_the_window() -> None:
    wire, peer = joined()
    for turn in range(100):
        sent(wire, peer, 1, first=turn + 1)
        peer.answer(1 + 2 * turn, 400, b'{"reason":"' + b"B" * 1_000 + b'"}')
        assert len(join(wire, peer)) == 1
    assert peer.h2.outbound_flow_control_window > 16_000


# --- ends: apns.md 6.5 as a table


@pytest.mark.parametrize(
    ("code", "phase", "reason"),
    [
        (7, Phase.NOT_PROCESSED, "RST_STREAM REFUSED_STREAM"),
        (2, Phase.UNKNOWN, "RST_STREAM INTERNAL_ERROR"),
        (8, Phase.UNKNOWN, "RST_STREAM CANCEL"),
        (0, Phase.UNKNOWN, "RST_STREAM NO_ERROR"),
        (99, Phase.UNKNOWN, "RST_STREAM error 99"),
    ],
)
def test_a_reset_means_what_its_code_says(code: int, phase: Phase, reason: str) -> None:
    wire, peer = joined()
    sent(wire, peer, 1)
    peer.raw(b"\0\0\4\3\0\0\0\0\1" + code.to_bytes(4))
    [outcome] = join(wire, peer)
    assert (outcome.phase, outcome.reason, outcome.status) == (phase, reason, 0)


def test_a_second_reset_of_the_same_stream_is_ignored() -> None:
    wire, peer = joined()
    sent(wire, peer, 2)
    peer.raw(b"\0\0\4\3\0\0\0\0\1\0\0\0\7" + b"\0\0\4\3\0\0\0\0\1\0\0\0\5")
    assert phases(join(wire, peer)) == [(1, "NOT_PROCESSED")]
    assert not wire.error
    peer.answer(3)
    assert phases(join(wire, peer)) == [(2, "ANSWERED")]


def test_a_reset_after_the_complete_answer_is_ignored() -> None:
    wire, peer = joined()
    sent(wire, peer, 2)
    peer.answer(1)
    peer.raw(b"\0\0\4\3\0\0\0\0\1\0\0\0\0")
    assert phases(join(wire, peer)) == [(1, "ANSWERED")]
    assert not wire.error
    assert wire.in_flight == 1


def test_a_reset_behind_each_answer_is_ignored_however_many_there_are() -> None:
    wire, _ = joined()
    wire.send(requests(messages(9)), TOKEN, 0.0)
    streams = [number.to_bytes(4) for number in range(1, 19, 2)]
    read = b"".join(ANSWER_200 % stream + RESET % stream for stream in streams)
    assert phases(wire.receive(read, 0.0)) == [(number, "ANSWERED") for number in range(1, 10)]
    assert (wire.error, wire.blame, wire.in_flight) == ("", "", 0)


@pytest.mark.parametrize(
    ("behind", "what"),
    [
        (RESET % b"\0\0\0\2", "on stream 2"),
        (RESET % b"\0\0\0\0", "on stream 0"),
        (RESET % b"\0\0\0\5", "never opened"),
        (b"\0\x40\1\1\5\0\0\0\3\x88" + bytes(1 << 14), "16385 bytes"),
    ],
)
def test_a_breach_behind_an_answer_in_the_same_read_is_met(behind: bytes, what: str) -> None:
    wire, peer = joined()
    sent(wire, peer, 2)
    found = wire.receive(ANSWER_200 % b"\0\0\0\1" + behind, 0.0)
    assert phases(found) == [(1, "ANSWERED"), (2, "UNKNOWN")]
    assert what in wire.error


def test_an_empty_header_block_is_no_answer_whatever_stands_behind_it() -> None:
    wire, peer = joined()
    sent(wire, peer, 2)
    found = wire.receive(b"\0\0\0\1\5\0\0\0\1" + b"\x88" * 20, 0.0)
    assert phases(found) == [(1, "UNKNOWN"), (2, "UNKNOWN")]
    assert "bytes" in wire.error


def test_a_status_without_the_end_of_its_body_counts_at_the_deadline() -> None:
    wire, peer = joined()
    sent(wire, peer, 2)
    peer.answer(1, 400, b'{"reason":"BadTopic"}', is_ended=False)
    peer.answer(3, 503, is_ended=False)
    assert join(wire, peer) == []
    outcomes = wire.expire(30.0)
    assert [(o.phase, o.status, o.reason) for o in outcomes] == [
        (Phase.ANSWERED, 400, "BadTopic"),
        (Phase.ANSWERED, 503, ""),
    ]


@pytest.mark.parametrize("end", ["reset", "lost", "goaway"])
def test_a_status_counts_also_when_the_stream_ends_badly(end: str) -> None:
    wire, peer = joined()
    sent(wire, peer, 1)
    peer.answer(1, 410, is_ended=False)
    join(wire, peer)
    if end == "lost":
        [outcome] = wire.connection_lost("gone", 1.0)
    else:
        peer.reset(1, 7) if end == "reset" else peer.goaway(0)
        [outcome] = join(wire, peer)
    assert (outcome.phase, outcome.status) == (Phase.ANSWERED, 410)


@pytest.mark.parametrize("body", [b"", b"{", b"rubbish", b"[]", b'"x"', b'{"reason":7}', b"\xff\xfe" * 40])
def test_a_body_that_says_nothing_leaves_the_status(body: bytes) -> None:
    wire, peer = joined()
    sent(wire, peer, 1)
    peer.answer(1, 400, body)
    [outcome] = join(wire, peer)
    assert (outcome.status, outcome.reason) == (400, "")


def test_a_body_in_pieces_with_trailers_is_read_whole() -> None:
    wire, peer = joined()
    sent(wire, peer, 1)
    peer.answer(1, 400, b'{"reas', is_ended=False)
    peer.h2.send_data(1, b'on":"BadTopic"}')
    peer.h2.send_headers(1, [(b"x-trailer", b"1")], end_stream=True)
    [outcome] = join(wire, peer)
    assert outcome.reason == "BadTopic"


def test_trailers_with_a_status_do_not_change_the_answer() -> None:
    wire, peer = joined()
    sent(wire, peer, 1)
    peer.answer(1, 400, b'{"reason":"BadTopic"}', is_ended=False)
    peer.raw(b"\0\0\1\1\5\0\0\0\1\x88")
    [outcome] = join(wire, peer)
    assert (outcome.status, outcome.reason) == (400, "BadTopic")


def test_an_answer_inside_the_header_block_of_another_is_no_answer() -> None:
    wire, peer = joined()
    sent(wire, peer, 2)
    peer.raw(b"\0\0\1\1\0\0\0\0\1\x88" + b"\0\0\1\1\5\0\0\0\3\x88")
    assert phases(join(wire, peer)) == [(1, "UNKNOWN"), (2, "UNKNOWN")]
    assert "inside a header block" in wire.error


def test_a_padded_answer_whose_padding_looks_like_a_status_is_read_with_care() -> None:
    wire, peer = joined()
    sent(wire, peer, 1)
    peer.raw(b"\0\0\x8a\1\x0d\0\0\0\1\x88\x8c" + bytes(0x88))  # 136 bytes of padding, status 400
    [outcome] = join(wire, peer)
    assert outcome.status == 400


@pytest.mark.parametrize("kind", [0, 1, 3, 8])
def test_a_frame_for_a_stream_that_was_never_opened_ends_the_connection(kind: int) -> None:
    wire, peer = joined()
    sent(wire, peer, 1)
    body = b"\x88" if kind == 1 else b"\0\0\0\1"
    peer.raw(len(body).to_bytes(3) + bytes((kind, 4)) + b"\0\0\0\3" + body)
    assert phases(join(wire, peer)) == [(1, "UNKNOWN")]
    assert "never opened" in wire.error


@pytest.mark.parametrize(("octets", "code"), [(0, 1), (2**31 - 1, 3)])
def test_a_streams_window_that_opens_too_far_or_not_at_all_resets_the_stream_alone(
    octets: int, code: int
) -> None:
    wire, peer = joined()
    sent(wire, peer, 2)
    update = b"\0\0\4\x08\0\0\0\0\1" + octets.to_bytes(4)
    assert phases(wire.receive(update, 0.0)) == [(1, "UNKNOWN")]
    assert wire.receive(update, 0.0) == []  # late, and nothing to us
    join(wire, peer)
    assert peer.resets == [(1, code)]
    peer.answer(3)
    assert phases(join(wire, peer)) == [(2, "ANSWERED")]


def test_the_peer_is_told_why_the_connection_ends_and_only_once() -> None:
    wire, _ = joined()
    wire.receive(b"\0\0\4\x08\0\0\0\0\0\x7f\xff\xff\xff", 0.0)
    assert wire.data_to_send() == b"\0\0\x08\7\0\0\0\0\0" + bytes(7) + b"\3"
    assert wire.farewell_bytes() == b""
    assert wire.receive(b"more of it", 1.0) == []


def test_a_flood_of_resets_ends_the_connection_with_everything_accounted_for() -> None:
    wire, peer = joined()
    sent(wire, peer, 2)
    outcomes = wire.receive(b"\0\0\4\3\0\0\0\0\1\0\0\0\7" * 10_001, 0.0)
    assert phases(outcomes) == [(1, "NOT_PROCESSED"), (2, "UNKNOWN")]
    assert "without an answer" in wire.error


def test_an_informational_answer_is_not_the_answer() -> None:
    wire, peer = joined()
    sent(wire, peer, 1)
    peer.h2.send_headers(1, [(b":status", b"103")])
    peer.answer(1, 200)
    [outcome] = join(wire, peer)
    assert outcome.status == 200


# --- deadlines


def test_each_request_has_a_deadline_and_its_slot_is_freed_at_the_peer() -> None:
    wire, peer = joined(response_timeout_s=30.0)
    sent(wire, peer, 1, now=1.0)
    sent(wire, peer, 1, now=2.0, first=2)
    assert wire.next_deadline() == 31.0
    assert wire.expire(30.9) == []
    [outcome] = wire.expire(31.0)
    assert (outcome.message.sequence, outcome.phase) == (1, Phase.UNKNOWN)
    assert outcome.reason == "no answer within 30 s"
    assert wire.next_deadline() == 32.0
    join(wire, peer)
    assert peer.resets == [(1, 8)]


def test_an_answer_after_the_deadline_changes_nothing() -> None:
    wire, peer = joined()
    sent(wire, peer, 2)
    peer.answer(1, 400, BAD)
    late = peer.take()
    assert len(wire.expire(30.0)) == 2
    assert wire.receive(late, 30.1) == []
    assert not wire.error
    assert wire.in_flight == 0


def test_three_requests_in_a_row_without_an_answer_wear_the_connection_out() -> None:
    wire, peer = joined()
    for turn in range(2):
        sent(wire, peer, 1, now=turn * 40.0, first=turn + 1)
        wire.expire(turn * 40.0 + 30)
    sent(wire, peer, 2, now=100.0, first=10)
    peer.answer(5)
    join(wire, peer, now=101.0)
    wire.expire(130.0)
    assert not wire.is_draining
    sent(wire, peer, 2, now=200.0, first=20)
    wire.expire(230.0)
    assert wire.is_done
    assert "in a row without an answer" in wire.blame


@pytest.mark.parametrize("code", [7, 2], ids=["REFUSED_STREAM", "INTERNAL_ERROR"])
def test_rounds_of_resets_wear_the_connection_out_and_an_answer_ends_the_run(code: int) -> None:
    """A limit that falls refuses many at once, which is one round; see apns.md 8, row 53."""
    wire, peer = joined()
    for turn, sign in enumerate(["refuse", "refuse", "answer", "refuse", "refuse", "refuse"]):
        assert not wire.is_draining
        sent(wire, peer, 100, now=float(turn), first=1 + 100 * turn)
        for stream_id in list(peer.open):
            peer.answer(stream_id) if sign == "answer" else peer.reset(stream_id, code)
        assert len(join(wire, peer, now=turn + 0.5)) == 100
    assert wire.drain_reason == wire.blame == "requests refused or reset 3 times in a row"
    assert wire.is_done


def test_the_peer_is_to_blame_for_what_it_did_and_not_for_our_wishes() -> None:
    for end, is_blamed in (("goaway", True), ("breach", True), ("drain", False), ("deliveries", False)):
        wire, peer = joined(max_deliveries=1 if end == "deliveries" else 0)
        sent(wire, peer, 1)
        if end == "goaway":
            peer.goaway(0)
        elif end == "breach":
            peer.raw(bytes(3) + b"\x03\x00" + bytes(4))  # RST_STREAM without a code
        elif end == "drain":
            wire.drain("idle_timeout")
        join(wire, peer)
        assert wire.is_draining, end
        assert bool(wire.blame) == is_blamed, end


def test_a_run_of_500s_wears_the_connection_out_and_another_answer_ends_the_run() -> None:
    wire, peer = joined()
    sent(wire, peer, 6)
    for stream_id, status in ((1, 500), (3, 500), (5, 200), (7, 500), (9, 500)):
        peer.answer(stream_id, status)
    join(wire, peer)
    assert not wire.is_draining
    peer.answer(11, 500)
    join(wire, peer)
    assert wire.is_draining


# --- GOAWAY: apns.md 6.4


def test_goaway_returns_what_is_above_its_last_stream_and_waits_for_the_rest() -> None:
    wire, peer = joined()
    sent(wire, peer, 4)
    peer.goaway(3)
    assert phases(join(wire, peer)) == [(3, "NOT_PROCESSED"), (4, "NOT_PROCESSED")]
    assert (wire.in_flight, wire.capacity, wire.is_done) == (2, 0, False)
    assert wire.send(requests(messages(1)), TOKEN, 0.0) == 0
    peer.answer(1)
    peer.answer(3, 400, BAD)
    assert phases(join(wire, peer)) == [(1, "ANSWERED"), (2, "ANSWERED")]
    assert wire.is_done


def test_answers_beside_a_goaway_in_one_read_count_by_their_order() -> None:
    wire, peer = joined()
    sent(wire, peer, 3)
    peer.answer(5)
    peer.goaway(1)
    peer.answer(1)
    assert phases(wire.receive(peer.take(), 0.0)) == [
        (3, "ANSWERED"),
        (2, "NOT_PROCESSED"),
        (1, "ANSWERED"),
    ]


def test_the_warning_goaway_returns_nothing_and_the_real_one_follows() -> None:
    wire, peer = joined()
    sent(wire, peer, 3)
    peer.goaway(2**31 - 1)
    assert join(wire, peer) == []
    assert (wire.in_flight, wire.is_draining) == (3, True)
    peer.goaway(3, debug=b'{"reason":"Shutdown"}')
    assert phases(join(wire, peer)) == [(3, "NOT_PROCESSED")]
    assert wire.farewell is not None
    assert wire.farewell.reason == "Shutdown"


@pytest.mark.parametrize(
    ("code", "debug", "reason"),
    [
        (0, b'{"reason":"BadCertificateEnvironment"}', "BadCertificateEnvironment"),
        (7, b"Maximum active streams violated for this endpoint.", "Maximum active streams violated"),
        (0, b"", "NO_ERROR"),
        (11, b'{"reason":', "ENHANCE_YOUR_CALM"),
        (99, b"", "error 99"),
        (0, b"\xff\0\n", "\ufffd"),
    ],
)
def test_whatever_stands_in_a_goaway_there_is_a_reason(code: int, debug: bytes, reason: str) -> None:
    wire, peer = joined()
    sent(wire, peer, 1)
    peer.goaway(0, code, debug)
    [outcome] = join(wire, peer)
    assert outcome.phase is Phase.NOT_PROCESSED
    assert wire.farewell is not None
    assert wire.farewell.reason.startswith(reason)
    assert outcome.reason.startswith(f"GOAWAY {reason}")


def test_goaway_as_the_first_frame_is_understood() -> None:
    peer = Peer(is_silent=True)
    wire = Wire(WireOptions("h"))
    wire.initiate()
    peer.raw(b"\0\0\x08\7\0\0\0\0\0" + bytes(8))
    assert wire.receive(peer.take(), 0.0) == []
    assert (wire.is_ready, wire.is_done) == (False, True)


def test_after_goaway_pings_and_settings_still_work() -> None:
    wire, peer = joined()
    sent(wire, peer, 1)
    peer.goaway(1)
    join(wire, peer)
    wire.ping(1.0)
    assert wire.pinged_at == 1.0
    join(wire, peer)
    assert wire.pinged_at is None
    peer.limit(3)
    join(wire, peer)
    peer.answer(1)
    assert len(join(wire, peer)) == 1


# --- the peer breaks the rules


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "HTTP/1.1, not HTTP/2"),
        (b"\xff\xff\xff\0\0\0\0\0\0", "frame of 16777215 bytes"),
        (b"\0\0\4\7\0\0\0\0\0abcd", "GOAWAY of 4 bytes"),
        (b"\0\0\1\1\4\0\0\0\1\xff", ""),  # a header block that does not decode
        (b"\0\0\4\x08\0\0\0\0\0\0\0\0\0", ""),  # WINDOW_UPDATE by 0
        (b"\0\0\6\4\0\0\0\0\0\0\4\xff\xff\xff\xff", ""),  # INITIAL_WINDOW_SIZE above 2^31-1
        (b"\0\0\4\5\4\0\0\0\1\0\0\0\2", ""),  # PUSH_PROMISE
    ],
)
def test_a_breach_of_the_protocol_ends_everything_as_unknown(data: bytes, what: str) -> None:
    wire, peer = joined()
    sent(wire, peer, 3)
    peer.answer(1)
    outcomes = wire.receive(peer.take() + data, 1.0)
    assert phases(outcomes) == [(1, "ANSWERED"), (2, "UNKNOWN"), (3, "UNKNOWN")]
    assert what in wire.error
    assert wire.error
    assert wire.is_done
    assert (wire.capacity, wire.send(requests(messages(1)), TOKEN, 0.0)) == (0, 0)


def test_a_lost_connection_leaves_everything_unknown_exactly_once() -> None:
    wire, peer = joined()
    sent(wire, peer, 3)
    assert phases(wire.connection_lost("reset", 1.0)) == [(1, "UNKNOWN"), (2, "UNKNOWN"), (3, "UNKNOWN")]
    assert wire.connection_lost("reset", 1.0) == []
    assert wire.is_done


# --- the end of a connection's life


def test_stream_ids_run_out_gracefully() -> None:
    wire, peer = joined()
    wire._next_id = MAX_STREAM_ID - 2
    assert wire.capacity == 2
    assert wire.send(requests(messages(5)), TOKEN, 0.0) == 2
    assert wire.drain_reason == "stream ids used up"
    join(wire, peer)
    peer.answer(MAX_STREAM_ID)
    peer.answer(MAX_STREAM_ID - 2)
    assert len(join(wire, peer)) == 2
    assert wire.is_done


def test_a_connection_takes_max_deliveries_and_no_more() -> None:
    wire, peer = joined(max_deliveries=5)
    sent(wire, peer, 3)
    assert wire.capacity == 2
    assert wire.send(requests(messages(9, 10)), TOKEN, 0.0) == 2
    assert wire.drain_reason == "max_deliveries_per_connection"


def test_draining_takes_nothing_and_is_done_with_the_last_answer() -> None:
    wire, peer = joined()
    sent(wire, peer, 1)
    wire.drain("reload")
    wire.drain("later reasons do not count")
    assert (wire.capacity, wire.is_done, wire.drain_reason) == (0, False, "reload")
    peer.answer(1)
    join(wire, peer)
    assert wire.is_done
    assert wire.farewell_bytes()


# --- laws


@given(step=st.integers(1, 40))
@settings(max_examples=25, deadline=None)
def test_any_cut_of_the_bytes_gives_the_same_outcomes(step: int) -> None:
    def story(cut: int) -> list[tuple[int, str, int, str]]:
        wire, peer = joined()
        sent(wire, peer, 6)
        peer.answer(3, 410, b'{"reason":"Unregistered","timestamp":1700000000000}')
        peer.answer(1, headers=[(b"apns-id", b"X")])
        peer.raw(b"\0\0\4\3\0\0\0\0\5\0\0\0\7")
        peer.goaway(9, debug=b'{"reason":"Shutdown"}')
        peer.answer(7, 400, BAD)
        peer.answer(9)
        peer.raw(RESET % b"\0\0\0\x09")
        peer.answer(11)
        peer.raw(b"\0\0\4\7\0\0\0\0\0abcd")
        found = join(wire, peer, step=cut)
        return [(o.message.sequence, o.phase.name, o.status, o.reason) for o in found]

    assert story(step) == story(0)


_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.integers(1, 9)),
        st.tuples(st.just("answer"), st.integers(0, 30)),
        st.tuples(st.just("half"), st.integers(0, 30)),
        st.tuples(st.just("reset"), st.integers(0, 30)),
        st.tuples(st.just("refuse"), st.integers(0, 30)),
        st.tuples(st.just("limit"), st.integers(0, 12)),
        st.tuples(st.just("wait"), st.integers(1, 40)),
        st.tuples(st.just("goaway"), st.integers(0, 40)),
        st.tuples(st.just("rubbish"), st.just(0)),
    ),
    max_size=30,
)


def _act(peer: Peer, what: str, number: int) -> None:
    waiting = sorted(peer.open)
    if what == "limit":
        peer.limit(number)
    elif what == "goaway":
        peer.goaway(number)
    elif what == "rubbish":
        peer.raw(b"HTTP/1.1 500 \r\n")
    elif waiting:
        stream_id = waiting[number % len(waiting)]
        if what == "answer":
            peer.answer(stream_id, 400, BAD)
        elif what == "half":
            peer.answer(stream_id, 403, is_ended=False)
            peer.open.pop(stream_id)
        else:
            peer.reset(stream_id, 7 if what == "refuse" else 2)


@given(steps=_STEPS, is_probing=st.booleans())
@settings(max_examples=120, deadline=None)
def test_every_message_taken_has_exactly_one_outcome_whatever_the_peer_does(
    steps: list[tuple[str, int]], is_probing: bool
) -> None:
    wire, peer = joined(Peer(max_streams=6), is_probing=is_probing)
    taken: list[Message] = []
    outcomes: list[Outcome] = []
    now, limit = 0.0, 6
    for what, number in steps:
        if what == "send":
            found = messages(number, first=len(taken) + 1)
            count = wire.send(requests(found), TOKEN, now)
            taken += found[:count]
            assert count == 0 or wire.in_flight <= limit
        elif what == "wait":
            now += number
            outcomes += wire.expire(now)
        elif not wire.error:
            _act(peer, what, number)
            limit = number if what == "limit" else limit
        if not wire.error:
            outcomes += join(wire, peer, now)
    outcomes += wire.connection_lost("end", now)
    counts = Counter(outcome.message.sequence for outcome in outcomes)
    assert counts == Counter(message.sequence for message in taken)
    assert wire.in_flight == 0


@given(st.binary(max_size=200))
@settings(max_examples=50, deadline=None)
def test_no_bytes_of_a_peer_raise(data: bytes) -> None:
    wire, peer = joined()
    sent(wire, peer, 2)
    outcomes = wire.receive(data, 1.0) + wire.connection_lost("end", 2.0)
    assert len(outcomes) == 2


@given(
    st.lists(
        st.tuples(st.integers(0, 10), st.integers(0, 255), st.integers(0, 9), st.binary(max_size=20)),
        max_size=8,
    )
)
@settings(max_examples=60, deadline=None)
def test_no_frames_of_a_peer_raise(frames: list[tuple[int, int, int, bytes]]) -> None:
    wire, peer = joined()
    sent(wire, peer, 2)
    data = b"".join(
        len(body).to_bytes(3) + bytes((kind, flags)) + stream_id.to_bytes(4) + body
        for kind, flags, stream_id, body in frames
    )
    outcomes = wire.receive(data, 1.0) + wire.connection_lost("end", 2.0)
    assert len(outcomes) == 2
