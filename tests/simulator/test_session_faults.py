"""The faults of apns.md 9.5 that need more than one answer to be seen, on the wire and in memory.

A client of h2's stands at the other end and would not put up with anything illegal.
"""

from typing import Any

import pytest
from h2 import events
from hyperframe.frame import Frame, PriorityFrame, SettingsFrame, WindowUpdateFrame

from momentum_push.simulator.faults import Closing, Faults, Window
from momentum_push.simulator.faults_file import parse_faults
from tests.helpers.apns import Key, provider_key
from tests.helpers.apns_client import START, Pair

OK = (200, {})


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Key:
    return provider_key(tmp_path_factory.mktemp("keys"))


def rule(do: str, match: str = "{token: '55'}", when: str = "request", more: str = "") -> Faults:
    return parse_faults(f"{more}\nrules:\n  - {{name: f, when: {when}, match: {match}, do: {do}}}\n")


def ready(key: Key, faults: Faults | str, **options: Any) -> Pair:
    """A pair whose first push was accepted (token 00), so that all streams are open to it."""
    pair = Pair(key, parse_faults(faults) if isinstance(faults, str) else faults, **options)
    stream = pair.push("00")
    pair.tick(60)
    assert pair.answer(stream) == OK
    return pair


def of(pair: Pair, kind: type[Frame]) -> list[Any]:
    return [frame for frame in pair.frames if isinstance(frame, kind)]


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


# Frames


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        ("body: none", b""),
        ("body: empty", b""),
        ("body: invalid", b'{"reason":"Bad\xff\xfe'),
        ("body: text", b"<html>upstream connect error</html>"),
        ("body: null_reason", b'{"reason":null}'),
        ("pieces: 7", b'{"reason":"InternalServerError"}'),
        ("trailers: true", b'{"reason":"InternalServerError"}'),
        ("continuations: 3", b'{"reason":"InternalServerError"}'),
        ("padding: 255", b'{"reason":"InternalServerError"}'),
        ("priority: true", b'{"reason":"InternalServerError"}'),
        ("interim: 103", b'{"reason":"InternalServerError"}'),
        (
            "pieces: 4, trailers: true, continuations: 2, padding: 9, priority: true, interim: 100",
            b'{"reason":"InternalServerError"}',
        ),
    ],
)
def test_a_refusal_in_odd_frames_arrives_and_frees_its_stream(key: Key, answer: str, body: bytes) -> None:
    pair = ready(key, rule(f"{{status: 500, answer: {{{answer}}}}}"))
    stream = pair.push("55")
    assert (pair.headers(stream)[":status"], pair.body(stream)) == ("500", body)
    assert any(isinstance(each, events.StreamEnded) and each.stream_id == stream for each in pair.events)
    assert repr(pair.session).endswith("0 of 1000 streams>")
    assert pair.answer(pair.push("66")) == OK


@pytest.mark.parametrize("answer", ["trailers: true", "continuations: 2", "padding: 9", "interim: 100"])
def test_a_success_in_odd_frames_is_one(key: Key, answer: str) -> None:
    pair = ready(key, rule(f"{{answer: {{{answer}}}}}"))
    assert pair.answer(pair.push("55")) == OK
    assert pair.floor.ledger.accepted["55"] == 1


def test_a_success_may_have_a_body(key: Key) -> None:
    pair = ready(key, rule("{answer: {body: text}}"))
    stream = pair.push("55")
    assert (pair.headers(stream)[":status"], pair.body(stream)[:6]) == ("200", b"<html>")


def test_priority_frames_are_seen(key: Key) -> None:
    pair = ready(key, rule("{answer: {priority: true}}"))
    assert [frame.stream_id for frame in of(pair, PriorityFrame)] == []
    stream = pair.push("55")
    assert [frame.stream_id for frame in of(pair, PriorityFrame)] == [stream]


def test_padding_keeps_to_the_clients_window(key: Key) -> None:
    pair = ready(key, rule("{status: 500, answer: {padding: 200, trailers: true}}"))
    pair.client.update_settings({4: 100})
    pair.feed()
    stream = pair.push("55")
    assert (pair.headers(stream)[":status"], pair.body(stream)) == ("500", b"")
    pair.client.increment_flow_control_window(50, stream)
    pair.feed()
    assert pair.body(stream) == b""
    pair.client.increment_flow_control_window(500, stream)
    pair.feed()
    assert pair.answer(stream) == (500, {"reason": "InternalServerError"})


def test_a_server_pings_too_and_counts_the_answer(key: Key) -> None:
    pair = ready(key, rule("{ping: true}"))
    assert pair.answer(pair.push("55")) == OK
    assert pair.row.ping_acks == 1


# Time and order


def test_an_answer_after_a_minute_takes_none(key: Key) -> None:
    pair = ready(key, rule("{delay: 60}"))
    stream = pair.push("55")
    pair.tick(59.99)
    assert pair.answer(stream) is None
    pair.tick(0.02)
    assert pair.answer(stream) == OK


def test_answers_come_out_of_order_but_all_of_them(key: Key) -> None:
    def order(seed: int) -> list[int]:
        pair = ready(key, rule("{shuffle: 8}", more=f"seed: {seed}"))
        streams = [pair.push("55") for _ in range(16)]
        ended = [each.stream_id for each in pair.events if isinstance(each, events.StreamEnded)][1:]
        assert sorted(ended) == streams
        assert sorted(ended[:8]) == streams[:8]
        return ended

    assert order(3) == order(3) != order(4)
    assert order(3) != sorted(order(3))


def test_held_answers_come_after_a_tenth_of_a_second_at_the_latest(key: Key) -> None:
    pair = ready(key, rule("{shuffle: 8}"))
    first = pair.push("55")
    assert pair.answer(first) is None
    pair.tick(0.11)
    assert pair.answer(first) == OK
    full = [pair.push("55") for _ in range(8)]
    assert all(pair.answer(stream) == OK for stream in full)
    pair.tick(0.06)
    late = pair.push("55")
    pair.tick(0.05)  # the tenth of a second of those before is over, not its own
    assert pair.answer(late) is None
    pair.tick(0.06)
    assert pair.answer(late) == OK


def test_latency_is_log_normal_for_every_answer(key: Key) -> None:
    pair = ready(key, "seed: 5\nlatency: {median: 0.06, sigma: 0.5}")
    streams = [pair.open(f"{number:04x}") for number in range(500)]
    pair.feed()
    assert not any(pair.answer(stream) for stream in streams)
    arrived: list[int] = []
    for _ in range(12):
        pair.tick(0.02)
        arrived.append(sum(pair.answer(stream) is not None for stream in streams))
    assert arrived[0] < 30
    assert 200 < arrived[2] < 300
    assert 400 < arrived[5] < arrived[11] <= 500


def test_latency_comes_on_top_of_a_rules_delay(key: Key) -> None:
    pair = ready(key, rule("{delay: 1}", more="latency: 0.5"))
    slow, plain = pair.push("55"), pair.push("66")
    pair.tick(0.6)
    assert (pair.answer(slow), pair.answer(plain)) == (None, OK)
    pair.tick(0.8)
    assert pair.answer(slow) is None
    pair.tick(0.2)
    assert pair.answer(slow) == OK


def test_a_connection_answers_no_faster_than_its_ceiling(key: Key) -> None:
    pair = ready(key, "rate: 100")
    streams = [pair.open(f"{number:04x}") for number in range(200)]
    pair.feed()
    pair.tick(1.0)
    assert 99 <= sum(pair.answer(stream) is not None for stream in streams) <= 101
    other = Pair(key, floor=pair.floor)
    assert other.answer(other.push()) == OK
    pair.tick(1.1)
    assert all(pair.answer(stream) == OK for stream in streams)


def test_a_storm_has_its_hours(key: Key) -> None:
    pair = ready(key, rule("{status: 503}", "{from: 100, until: 105, period: 200}"))  # 60 s have passed
    seen = []
    for _ in range(20):
        pair.tick(20)
        answer = pair.answer(pair.push())
        seen.append(answer and answer[0])
    assert [number for number, status in enumerate(seen) if status == 503] == [1, 11]


def test_shutdown_answers_and_says_goodbye(key: Key) -> None:
    pair = ready(key, rule("{reason: Shutdown, goaway: {graceful: true}}"))
    stream = pair.push("55")
    assert pair.answer(stream) == (503, {"reason": "Shutdown"})
    pair.tick(1)
    assert [frame.additional_data for frame in pair.goaways] == [b'{"reason":"Shutdown"}'] * 2
    assert pair.is_closed


# Wedges


def test_after_a_change_of_token_only_500_until_a_new_connection(key: Key) -> None:
    faults = rule("{status: 500, wedge: true}", "{token_changed: true}")
    pair = ready(key, faults)
    pair.tick(1300)
    assert pair.answer(pair.push()) == OK
    pair.authorization = key.bearer(START + 1200)
    assert [pair.answer(pair.push()) for _ in range(3)] == [(500, {"reason": "InternalServerError"})] * 3
    assert [entry.fault for entry in pair.floor.ledger.requests[-3:]] == ["f"] * 3
    fresh = Pair(key, floor=pair.floor)
    fresh.authorization = pair.authorization
    assert [fresh.answer(fresh.push()) for _ in range(2)] == [OK, OK]


def test_after_expiry_only_403_until_a_new_connection(key: Key) -> None:
    faults = rule("{reason: ExpiredProviderToken, wedge: true}", "{verdict: ExpiredProviderToken}")
    pair = ready(key, faults)
    pair.tick(3600)
    pair.push()
    pair.authorization = key.bearer(pair.clock.now())
    pair.tick(3000)
    assert pair.answer(pair.push()) == (403, {"reason": "ExpiredProviderToken"})
    fresh = Pair(key, floor=pair.floor)
    fresh.authorization = pair.authorization
    assert fresh.answer(fresh.push()) == OK


def test_429_until_a_new_connection(key: Key) -> None:
    pair = ready(key, rule("{status: 429, wedge: true, limit: 9}", "{nth: 3}"))
    seen = [pair.answer(pair.push()) for _ in range(4)]
    assert [answer and answer[0] for answer in seen] == [200, 429, 429, 429]
    assert pair.limits == [1, 1000, 9]
    fresh = Pair(key, floor=pair.floor)
    assert fresh.answer(fresh.push()) == OK


def test_a_rule_may_wait_for_a_verdict(key: Key) -> None:
    faults = parse_faults(
        """
        rules:
          - {match: {verdict: BadDeviceToken, nth: 2}, do: {silent: true}}
          - {match: {verdict: Accepted, nth: 3}, do: {status: 503}}
        """
    )
    pair = ready(key, faults)
    seen = [pair.answer(pair.push(token)) for token in ("xx", "01", "xx", "02")]
    assert [answer and answer[0] for answer in seen] == [400, 200, None, 503]


# Connections


def test_a_goaway_may_be_the_first_frame_of_all(key: Key) -> None:
    pair = Pair(key, rule("{goaway: {before_settings: true}}", "{}"))
    assert [type(frame).__name__ for frame in pair.frames] == ["GoAwayFrame"]
    assert pair.is_closed
    stays = Pair(key, rule("{goaway: {before_settings: true, close: never}}", "{}"))
    stays.push()
    assert (len(stays.frames), stays.is_closed) == (1, False)


@pytest.mark.parametrize("how", ["clean", "no_notify", "reset", "half"])
def test_closing_has_its_ways(key: Key, how: str) -> None:
    pair = ready(key, rule(f"{{close: {how}}}"))
    pair.push("55")
    assert pair.closings == [Closing(how)]
    assert pair.floor.ledger.accepted["55"] == 0


def test_an_idle_connection_becomes_a_black_hole(key: Key) -> None:
    """Nothing comes back any more, no FIN, no RST: as a forgetful NAT has it (apns.md 6.3)."""
    pair = Pair(key, rule("{black_hole_after: 60}", "{}", "connect"))
    assert pair.answer(pair.push()) == OK
    for _ in range(5):
        pair.tick(59)
        assert pair.answer(pair.push()) == OK
    pair.tick(61)
    lost = pair.push()
    pair.client.ping(b"12345678")
    pair.feed()
    assert (pair.answer(lost), pair.is_closed, pair.is_deaf, pair.row.pings) == (None, False, True, 0)
    pair.tick(3600)
    assert pair.answer(lost) is None


def test_a_black_hole_swallows_answers_that_were_on_their_way(key: Key) -> None:
    faults = parse_faults(
        """
        rules:
          - {when: connect, do: {black_hole_after: 60}}
          - {match: {token: "55"}, do: {delay: 100}}
        """
    )
    pair = Pair(key, faults)
    pair.push("00")
    late = pair.push("55")
    pair.tick(200)
    assert pair.answer(late) is None
    assert pair.floor.ledger.accepted["55"] == 1


def test_too_many_bad_tokens_end_the_connection(key: Key) -> None:
    pair = ready(key, "abuse: {bad_tokens: 3}")
    for number in range(3):
        assert not pair.is_closed, number
        assert pair.answer(pair.push("xx")) == (400, {"reason": "BadDeviceToken"})
    assert len(pair.goaways) == 1
    assert pair.is_closed


@pytest.mark.parametrize(
    ("offset", "reason"),
    [(0, None), (3500, None), (3600, "ExpiredProviderToken"), (-3700, "InvalidProviderToken")],
)
def test_apples_clock_may_be_off(key: Key, offset: int, reason: str | None) -> None:
    faults = parse_faults(f"clock_offset: {offset}")
    pair = Pair(key, faults)
    wanted = OK if reason is None else (403, {"reason": reason})
    assert pair.answer(pair.push()) == wanted


def test_a_broken_listener_is_broken_for_chosen_tokens_alone(key: Key) -> None:
    pair = ready(key, rule("{silent: true}", "{listener: 2, token: '55'}"))
    other = Pair(key, floor=pair.floor, listener=2)
    assert pair.answer(pair.push("55")) == OK
    assert other.answer(other.push("66")) == OK
    assert other.answer(other.push("55")) is None
    assert pair.floor.ledger.requests[-1].listener == 2
