"""GOAWAY in all its forms (apns.md 6.4, 9.5)."""

import pytest

from momentum_push.simulator.faults_file import parse_faults
from momentum_push.simulator.http2 import MAX_STREAM
from tests.helpers.apns import Key, provider_key
from tests.helpers.apns_client import Pair, ready, rule


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Key:
    return provider_key(tmp_path_factory.mktemp("keys"))


def test_a_graceful_goaway_warns_first_and_answers_all(key: Key) -> None:
    pair = ready(key, rule("{goaway: {graceful: true, notice: 0.1}, delay: 0}", "{token: '55'}"))
    one = pair.push("55")
    pair.tick(0.05)
    between = pair.push("66")
    assert [frame.last_stream_id for frame in pair.goaways] == [MAX_STREAM]
    pair.tick(0.1)
    assert [frame.last_stream_id for frame in pair.goaways] == [MAX_STREAM, between]
    assert pair.answer(one) == pair.answer(between) == (200, {})
    assert pair.is_closed
    assert pair.row.goaways == 1


def test_an_abrupt_goaway_cuts_the_requests_in_flight_in_the_middle(key: Key) -> None:
    pair = ready(key, rule("{goaway: {last: middle, code: 0}}", "{token: '55', nth: 1}"))
    streams = [pair.open("55" + f"{number:02x}") for number in range(10)]
    pair.feed()
    last = pair.goaways[0].last_stream_id
    assert last == streams[4]
    assert [pair.answer(stream) is not None for stream in streams] == [True] * 5 + [False] * 5
    assert pair.floor.ledger.verdicts["above_last_stream"] == 5
    assert pair.is_closed


def test_goaway_in_the_middle_of_delayed_requests(key: Key) -> None:
    faults = parse_faults(
        """
        rules:
          - {match: {token: "66"}, do: {goaway: {last: middle}}}
          - {match: {token: "55"}, do: {delay: 1}}
        """
    )
    pair = ready(key, faults)
    slow = [pair.push("55") for _ in range(4)]
    pair.push("66")
    assert pair.goaways[0].last_stream_id == slow[2]
    assert not pair.is_closed
    pair.tick(2)
    assert [pair.answer(stream) is not None for stream in slow] == [True, True, True, False]
    assert pair.is_closed


def test_a_goaway_never_denies_what_was_processed(key: Key) -> None:
    faults = parse_faults(
        """
        rules:
          - {match: {token: "66"}, do: {goaway: {last: none}}}
          - {match: {token: "55"}, do: {silent: true, processed: true}}
          - {match: {token: "77"}, do: {delay: 60}}
        """
    )
    pair = ready(key, faults)
    pair.push("77")
    lost = pair.push("55")
    pair.push("66")
    assert pair.goaways[0].last_stream_id == lost
    pair.tick(31)
    assert pair.is_closed


@pytest.mark.parametrize(
    ("debug", "data"),
    [
        ("json", b'{"reason":"Shutdown"}'),
        ("text", b"Maximum active streams violated for this endpoint."),
        ("empty", b""),
        ("invalid", b'{"reason":\xff\xfe'),
    ],
)
def test_goaway_debug_data_and_code_and_two_of_them(key: Key, debug: str, data: bytes) -> None:
    do = f"{{goaway: {{debug: {debug}, code: REFUSED_STREAM, twice: true, close: now}}}}"
    pair = ready(key, rule(do, "{token: '55'}"))
    pair.push("55")
    assert [(f.error_code, f.additional_data) for f in pair.goaways] == [(7, data)] * 2
    assert pair.is_closed


def test_a_goaway_at_connect_is_the_first_frame_after_settings(key: Key) -> None:
    pair = Pair(key, rule("{goaway: {last: none, close: now}}", "{}", "connect"))
    assert [type(frame).__name__ for frame in pair.frames] == ["SettingsFrame", "GoAwayFrame"]


def test_streams_after_the_last_one_are_passed_over(key: Key) -> None:
    pair = ready(key, rule("{goaway: {close: never}}", "{token: '55'}"))
    pair.push("55")
    late = pair.push("66")
    assert (pair.answer(late), pair.resets(late), pair.floor.ledger.accepted["66"]) == (None, [], 0)
