"""Stream limits that move, and windows: what a client is told and held to (apns.md 6.1, 6.2)."""

import pytest
from hyperframe.frame import SettingsFrame, WindowUpdateFrame

from momentum_push.simulator.faults import Faults, Window
from momentum_push.simulator.faults_file import parse_faults
from tests.helpers.apns import Key, provider_key
from tests.helpers.apns_client import OK, Pair, of, ready, rule


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Key:
    return provider_key(tmp_path_factory.mktemp("keys"))


# Limits


def test_the_limit_flaps_with_rejections(key: Key) -> None:
    """Falls to 1 after a rejection, rises after an acceptance (apns.md 6.1); a 410 is no error (4.3)."""
    pair = ready(key, "streams: {after_rejection: 1}\ndevices: [{token: dd, state: dead, since: 5}]")
    assert pair.answer(pair.push("dd"))
    assert pair.limits == [1, 1000]
    seen = [pair.answer(pair.push(token)) for token in ("xx", "xx", "dd", "00", "00", "xx", "00")]
    assert [answer and answer[0] for answer in seen] == [400, 400, 410, 200, 200, 400, 200]
    assert pair.limits == [1, 1000, 1, 1000, 1, 1000]


def test_streams_above_the_fallen_limit_are_refused_as_apple_does(key: Key) -> None:
    pair = ready(key, "streams: {after_rejection: 1}")
    bad, slow = pair.open("xx"), pair.open("01", body=None)
    pair.feed()
    pair.disobey(10)
    over = pair.push("02")
    assert pair.answer(bad) == (400, {"reason": "BadDeviceToken"})
    assert pair.resets(over) == [7, 5]
    pair.client.send_data(slow, b"{}", end_stream=True)
    pair.feed()
    assert pair.answer(slow) == OK
    assert pair.limits[-1] == 1000


def test_without_being_told_to_the_limit_stays_where_it_is(key: Key) -> None:
    pair = ready(key, "")
    pair.push("xx")
    assert pair.limits == [1, 1000]


@pytest.mark.parametrize("is_one_read", [True, False])
def test_the_data_of_a_refused_stream_is_refused_too_in_whatever_read_it_comes(
    key: Key, is_one_read: bool
) -> None:
    pair = ready(key, "streams: {full: 1}")
    pair.push("01", body=None)
    pair.disobey(10)
    if is_one_read:
        over = pair.push("02")
    else:
        over = pair.open("02", body=None)
        data = pair.client.data_to_send()
        pair.client.send_data(over, b"{}", end_stream=True)
        later = pair.client.data_to_send()
        pair.session.receive(data)
        pair.session.receive(later)
        pair.feed()
    assert pair.resets(over) == [7, 5]


def test_a_reset_may_be_followed_by_another(key: Key) -> None:
    pair = ready(key, rule("{refuse: true, then_reset: STREAM_CLOSED}"))
    assert pair.resets(pair.push("55")) == [7, 5]
    assert pair.floor.ledger.accepted["55"] == 0
    assert pair.answer(pair.push("66")) == OK


def test_the_limit_is_nought_for_a_while(key: Key) -> None:
    pair = ready(key, rule("{limit: 0, limit_for: 5}"))
    pair.push("55")
    assert pair.limits[-1] == 0
    pair.disobey(10)
    assert pair.resets(pair.push("01"))[0] == 7
    pair.tick(4.9)
    assert pair.limits[-1] == 0
    pair.tick(0.2)
    assert pair.limits == [1, 1000, 0, 1000]
    assert pair.answer(pair.push("01")) == OK


def test_the_limit_is_nought_from_the_start_for_a_while(key: Key) -> None:
    pair = Pair(key, rule("{limit: 0, limit_for: 2}", "{}", "connect"))
    assert pair.limits == [1, 0]
    pair.tick(2)
    assert pair.limits == [1, 0, 1]


def test_a_spell_that_was_overtaken_restores_nothing(key: Key) -> None:
    faults = parse_faults(
        """
        rules:
          - {match: {token: "55"}, do: {limit: 5, limit_for: 10}}
          - {match: {token: "66"}, do: {limit: 7}}
        """
    )
    pair = ready(key, faults)
    pair.push("55")
    pair.push("66")
    pair.tick(20)
    assert pair.limits == [1, 1000, 5, 7]


def test_the_limit_walks_by_chance_and_the_same_way_with_the_same_seed(key: Key) -> None:
    def walk(seed: int) -> list[int]:
        pair = Pair(key, parse_faults(f"seed: {seed}\nstreams: {{walk: {{every: 10, least: 3, most: 50}}}}"))
        pair.tick(600)
        return pair.limits[1:]

    assert walk(1) == walk(1) != walk(2)
    assert 40 <= len(walk(1)) <= 120
    assert 3 <= min(walk(1)) < max(walk(1)) <= 50


def test_too_many_streams_bring_apples_text_where_asked_for(key: Key) -> None:
    """apns.md 6.4: code 7 and plain text."""
    pair = ready(key, "streams: {full: 2, over: goaway}")
    pair.disobey(10)
    streams = [pair.open(token, body=None) for token in ("01", "02", "03", "04")]
    pair.feed()
    assert [pair.resets(stream) for stream in streams] == [[], [], [7], [7]]
    (goaway,) = pair.goaways
    assert (goaway.error_code, goaway.additional_data) == (
        7,
        b"Maximum active streams violated for this endpoint.",
    )
    for stream in streams[:2]:
        pair.client.send_data(stream, b"{}", end_stream=True)
    pair.feed()
    assert [pair.answer(stream) for stream in streams[:2]] == [OK, OK]
    assert pair.is_closed


def test_other_settings_change_in_mid_flight(key: Key) -> None:
    do = "{settings: {INITIAL_WINDOW_SIZE: 100, HEADER_TABLE_SIZE: 0, MAX_HEADER_LIST_SIZE: 9000}}"
    pair = ready(key, rule(do))
    pair.push("55")
    assert of(pair, SettingsFrame)[-1].settings == {4: 100, 1: 0, 6: 9000}
    assert pair.client.remote_settings.initial_window_size == 100
    assert pair.answer(pair.push("66", b"x" * 90)) == OK
    assert pair.row.violation == ""


def test_a_first_window_that_grows_counts_for_streams_that_are_open(key: Key) -> None:
    """RFC 9113 6.9.2."""
    faults = rule("{settings: {INITIAL_WINDOW_SIZE: 5000}}", more="window: {initial: 100}")
    pair = ready(key, faults)
    stream = pair.push("66", body=None)
    pair.push("55")
    assert pair.client.local_flow_control_window(stream) == 5000
    pair.client.send_data(stream, b"x" * 4000, end_stream=True)
    pair.feed()
    assert (pair.answer(stream), pair.row.violation) == (OK, "")


def test_other_settings_do_not_change_what_counts_as_a_breach(key: Key) -> None:
    faults = rule("{limit: 2, settings: {MAX_HEADER_LIST_SIZE: 9000}}")
    pair = ready(key, faults)
    pair.push("55")
    pair.disobey(10)
    for _ in range(4):
        pair.open(body=None)
    pair.feed()
    assert (pair.row.refused_streams, pair.row.limit_breaches) == (2, 2)


# Windows


def send_slowly(pair: Pair, stream: int, body: bytes) -> int:
    """Send as much as the window takes, again and again; return in how many portions."""
    for portion in range(1, 500):
        size = min(pair.client.local_flow_control_window(stream), len(body), 16_384)
        pair.client.send_data(stream, body[:size], end_stream=size == len(body))
        body = body[size:]
        pair.feed()
        if not body:
            return portion
    raise AssertionError("the window never opened")


def test_a_first_window_smaller_than_a_body_is_opened_bit_by_bit(key: Key) -> None:
    pair = ready(key, Faults(window=Window(initial=1000)))
    stream = pair.open(body=None)
    assert pair.client.local_flow_control_window(stream) == 1000
    assert send_slowly(pair, stream, b"x" * 4096) > 4
    assert pair.answer(stream) == OK
    assert pair.row.violation == ""


@pytest.mark.parametrize("step", [1, 20_000, 32_768])
def test_the_connections_window_is_given_back_in_steps(key: Key, step: int) -> None:
    """About 32 KiB at a time was seen of Apple (apns.md 6.2)."""
    pair = ready(key, f"window: {{step: {step}}}")
    for _ in range(40):
        assert pair.answer(pair.push(body=b"x" * 4096)) == OK
    updates = [each.window_increment for each in of(pair, WindowUpdateFrame) if each.stream_id == 0]
    assert updates
    assert step <= min(updates) <= max(updates) < step + 4096 + 1
    assert pair.row.violation == ""


def test_steps_and_a_small_first_window_go_together(key: Key) -> None:
    pair = ready(key, "window: {initial: 500, step: 32768}")
    for _ in range(20):
        stream = pair.open(body=None)
        send_slowly(pair, stream, b"x" * 4000)
        assert pair.answer(stream) == OK


def test_no_window_is_given_back_any_more(key: Key) -> None:
    pair = ready(key, rule("{no_window_updates: true}"))
    pair.push("55")
    sent = 0
    while pair.client.outbound_flow_control_window >= 4096 and sent < 100:
        assert pair.answer(pair.push(body=b"x" * 4096)) == OK
        sent += 1
    assert sent in (15, 16)
    assert of(pair, WindowUpdateFrame) == []
