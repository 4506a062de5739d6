"""A connection without its socket: limits, answers, and every fault (apns.md 6, 9.1, 9.5)."""

from typing import Any

import pytest
from h2.events import PingAckReceived

from momentum_push.simulator.certificates import ProviderCertificate
from momentum_push.simulator.faults import Faults
from momentum_push.simulator.faults_file import parse_faults
from momentum_push.simulator.http2 import goaway_frame
from momentum_push.simulator.request import Policy
from tests.helpers.apns import Key, provider_key
from tests.helpers.apns_client import START, Pair


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Key:
    return provider_key(tmp_path_factory.mktemp("keys"))


def rule(do: str, match: str = "{}", when: str = "request", more: str = "") -> Faults:
    return parse_faults(f"{more}\nrules:\n  - {{name: f, when: {when}, match: {match}, do: {do}}}\n")


def ready(key: Key, faults: Faults | None = None, **options: Any) -> Pair:
    """A pair whose first push was accepted (token 00), so that a thousand streams are open to it."""
    pair = Pair(key, faults, **options)
    assert pair.answer(pair.push("00")) == (200, {})
    return pair


def certificate(*environments: str) -> ProviderCertificate:
    return ProviderCertificate("com.example.news", ("com.example.news",), frozenset(environments), "ff")


# Limits


def test_token_mode_begins_with_one_stream_and_rises_after_the_first_accepted_token(key: Key) -> None:
    pair = Pair(key)
    assert pair.limits == [1]
    pair.push()
    assert pair.limits == [1, 1000]


def test_an_unproved_token_raises_nothing(key: Key) -> None:
    pair = Pair(None)
    assert pair.answer(pair.push()) == (403, {"reason": "MissingProviderToken"})
    assert pair.limits == [1]


def test_certificates_begin_with_a_thousand() -> None:
    pair = Pair(certificate=certificate("production"))
    assert pair.limits == [1000]
    assert pair.answer(pair.push()) == (200, {})
    assert pair.floor.ledger.requests[0].credential == "com.example.news"


def test_limits_are_configurable(key: Key) -> None:
    pair = Pair(key, Faults(first_limit=3, full_limit=7))
    pair.push()
    assert pair.limits == [3, 7]


def test_streams_over_the_limit_are_refused_and_their_data_too(key: Key) -> None:
    """RST_STREAM 7, then 5 for the DATA frame, as seen of Apple (apns.md 6.1)."""
    pair = Pair(key)
    pair.disobey(10)
    one, two = pair.open("01"), pair.open("02", body=None)
    pair.feed()
    assert pair.answer(one) == (200, {})
    assert pair.resets(two) == [7]
    refused = pair.floor.ledger.requests[0]
    assert (refused.token, refused.fault, refused.processed) == ("02", "stream_limit", False)
    assert pair.row.refused_streams == 1


@pytest.mark.parametrize(("is_told", "breaches"), [(True, 1), (False, 0)])
def test_a_breach_counts_only_after_the_client_acknowledged_the_limit(
    key: Key, is_told: bool, breaches: int
) -> None:
    pair = Pair(key, is_fed=is_told)
    pair.disobey(10)
    pair.open(body=None)
    pair.open(body=None)
    pair.feed()
    assert (pair.row.refused_streams, pair.row.limit_breaches, pair.row.peak_streams) == (1, breaches, 1)


def test_a_limit_that_falls_holds_at_once_and_cancels_nothing(key: Key) -> None:
    pair = ready(key, rule("{limit: 1}", "{token: '11'}"))
    slow = pair.push("22", body=None)
    assert pair.answer(pair.push("11")) == (200, {})
    assert pair.limits == [1, 1000, 1]
    pair.client.send_data(slow, b"{}", end_stream=True)
    pair.feed()
    assert pair.answer(slow) == (200, {})


def test_a_thousand_requests_of_one_read_are_answered_in_one_turn(key: Key) -> None:
    pair = ready(key)
    streams = [pair.open(f"{number:064x}", b"{}") for number in range(1, 1000)]
    pair.feed()
    assert all(pair.answer(stream) == (200, {}) for stream in streams)
    assert pair.row.peak_streams == 999
    assert pair.floor.ledger.accepted.total() == 1000


# Windows


def test_the_upload_window_is_refilled(key: Key) -> None:
    """65,535 bytes, given back in large steps (apns.md 6.2): far more than that goes through."""
    pair = ready(key)
    for _ in range(40):
        assert pair.answer(pair.push(body=b"x" * 4096)) == (200, {})
    updates = [f for f in pair.frames if type(f).__name__ == "WindowUpdateFrame" and f.stream_id == 0]
    assert updates
    assert min(f.window_increment for f in updates) > 16_000


def test_answers_keep_to_the_clients_window(key: Key) -> None:
    pair = ready(key)
    pair.client.update_settings({4: 5})
    pair.feed()
    stream = pair.push("xyz")
    assert pair.answer(stream) == (400, {})
    pair.client.increment_flow_control_window(100, stream)
    pair.feed()
    assert pair.answer(stream) == (400, {"reason": "BadDeviceToken"})


def test_answers_keep_to_the_clients_window_of_the_whole_connection(key: Key) -> None:
    pair = ready(key, rule(f"{{status: 500, reason: {'x' * 16_000}}}", "{token: '55'}"))
    streams = [pair.push("55") for _ in range(5)]
    assert [bool((pair.answer(stream) or (0, {}))[1]) for stream in streams] == [True] * 4 + [False]
    pair.client.increment_flow_control_window(20_000)
    pair.feed()
    assert pair.answer(streams[4]) == (500, {"reason": "x" * 16_000})


# Answers


def test_ids_come_back_as_they_were_or_are_made_in_upper_case(key: Key) -> None:
    pair = ready(key)
    given = "aabbccdd-0000-4000-8000-00000000ffff"
    assert pair.headers(pair.push(apns_id=given))["apns-id"] == given
    made = pair.headers(pair.push())["apns-id"]
    assert made == made.upper()
    assert pair.headers(pair.push(apns_id="bad"))["apns-id"] != "bad"


def test_success_has_no_body_and_failure_compact_json(key: Key) -> None:
    dead = parse_faults("devices: [{token: dd, state: dead, since: 1767600000.5}]")
    pair = ready(key, dead)
    assert "content-type" not in pair.headers(pair.push())
    gone = pair.push("dd")
    assert pair.answer(gone) == (410, {"reason": "Unregistered", "timestamp": 1767600000500})
    assert pair.headers(gone)["content-type"] == "application/json"


def test_the_sandbox_names_a_unique_id(key: Key) -> None:
    pair = ready(key, policy=Policy(environment="sandbox"))
    assert len(pair.headers(pair.push())["apns-unique-id"]) == 36


def test_what_the_ledger_keeps(key: Key) -> None:
    pair = ready(key)
    wanted = {
        "apns_push_type": "alert",
        "apns_priority": "5",
        "apns_expiration": "1800000000",
        "apns_collapse_id": "c",
    }
    pair.push("77", b'{"aps":1}', **wanted)
    entry = pair.floor.ledger.requests[-1]
    assert (entry.push_type, entry.priority, entry.expiration, entry.collapse_id) == tuple(wanted.values())
    assert (entry.token, entry.topic, entry.size) == ("77", "com.example.news", 9)
    assert (entry.payload, entry.credential, entry.at) == ('{"aps":1}', key.key_id, START)


def test_an_hour_passes_in_no_time_with_a_clock_of_ones_own(key: Key) -> None:
    pair = ready(key)
    pair.tick(3541)  # the token was a minute old
    assert pair.answer(pair.push()) == (403, {"reason": "ExpiredProviderToken"})
    pair.authorization = key.bearer(pair.clock.now())
    assert pair.answer(pair.push()) == (403, {"reason": "ExpiredProviderToken"})
    assert pair.row.token_changes == [START + 3541]
    fresh = Pair(key, floor=pair.floor)
    fresh.authorization = pair.authorization
    assert fresh.answer(fresh.push()) == (200, {})


# Whole-connection behaviour


def test_a_certificate_of_the_other_environment_gets_goaway_and_no_answer() -> None:
    pair = Pair(certificate=certificate("sandbox"))
    assert [(f.last_stream_id, f.error_code, f.additional_data) for f in pair.goaways] == [
        (0, 0, b'{"reason":"BadCertificateEnvironment"}')
    ]
    assert pair.is_closed


def test_the_clients_goaway_lets_answers_come_and_then_closes(key: Key) -> None:
    """h2 alone would close its state at GOAWAY and answer nothing any more."""
    pair = ready(key, rule("{delay: 1}", "{token: '55'}"))
    stream = pair.push("55")
    pair.session.receive(goaway_frame(0, 0, b""))
    pair.client.ping(b"12345678")
    pair.feed()
    assert not pair.is_closed
    pair.tick(1)
    assert (pair.answer(stream), pair.is_closed, pair.row.violation) == ((200, {}), True, "")


def test_broken_http2_ends_the_connection_and_is_told(key: Key) -> None:
    pair = ready(key)
    pair.session.receive(b"\x00\x00\x04\x08\x00\x00\x00\x00\x00\x00\x00\x00\x00")  # WINDOW_UPDATE by nought
    assert pair.is_closed
    assert pair.row.violation


@pytest.mark.parametrize("fields", [{"Apns_Id": "x"}, {"connection": "close"}, {"apns_id": "a\nb"}])
def test_a_malformed_request_is_reset_alone(key: Key, fields: dict[str, str]) -> None:
    pair = ready(key)
    pair.client.config.normalize_outbound_headers = False
    pair.client.config.validate_outbound_headers = False
    assert pair.resets(pair.push(**fields))[0] == 1
    assert pair.row.violation
    assert pair.answer(pair.push("01")) == (200, {})


def test_cancelled_requests_are_not_processed(key: Key) -> None:
    pair = ready(key, rule("{delay: 1}", "{token: '55'}"))
    stream = pair.push("55")
    pair.client.reset_stream(stream, 8)
    pair.feed()
    pair.tick(2)
    assert pair.row.client_resets == 1
    assert pair.floor.ledger.requests[-1].fault == "cancelled"
    assert pair.floor.ledger.accepted["55"] == 0


# Faults


def test_delay_answers_late_and_decides_late(key: Key) -> None:
    pair = ready(key, rule("{delay: 0.5}", "{token: '55'}"))
    stream = pair.push("55")
    pair.tick(0.4)
    assert pair.answer(stream) is None
    assert pair.floor.ledger.accepted["55"] == 0
    pair.tick(0.2)
    assert pair.answer(stream) == (200, {})
    assert pair.floor.ledger.accepted["55"] == 1


def test_delays_let_later_requests_overtake(key: Key) -> None:
    pair = ready(key, rule("{delay: 0.5}", "{token: '55'}"))
    slow, fast = pair.push("55"), pair.push("66")
    assert (pair.answer(slow), pair.answer(fast)) == (None, (200, {}))


def test_silence_leaves_the_stream_open_for_ever(key: Key) -> None:
    pair = ready(key, rule("{silent: true}", "{token: '55'}"))
    stream = pair.push("55")
    pair.tick(3600)
    assert pair.answer(stream) is None
    assert repr(pair.session).endswith("1 of 1000 streams>")
    assert pair.floor.ledger.verdicts["f"] == 1


@pytest.mark.parametrize(
    ("do", "code"), [("{reset: INTERNAL_ERROR}", 2), ("{refuse: true}", 7), ("{reset: 99}", 99)]
)
def test_resets_carry_their_code_and_process_nothing(key: Key, do: str, code: int) -> None:
    pair = ready(key, rule(do, "{token: '55'}"))
    assert pair.resets(pair.push("55")) == [code]
    assert pair.floor.ledger.accepted["55"] == 0


@pytest.mark.parametrize(
    ("do", "status", "body"),
    [
        ("{status: 503}", 503, {"reason": "ServiceUnavailable"}),
        ("{reason: Shutdown}", 503, {"reason": "Shutdown"}),
        ("{status: 500}", 500, {"reason": "InternalServerError"}),
        ("{reason: ExpiredProviderToken}", 403, {"reason": "ExpiredProviderToken"}),
        ("{status: 429}", 429, {"reason": "TooManyRequests"}),
        ("{status: 410, timestamp: 1767600000}", 410, {"reason": "Unregistered", "timestamp": 1767600000000}),
        ("{status: 418, reason: Teapot}", 418, {"reason": "Teapot"}),
    ],
)
def test_any_status_and_reason_can_be_answered(key: Key, do: str, status: int, body: dict[str, Any]) -> None:
    pair = ready(key, rule(do, "{token: '55'}"))
    assert pair.answer(pair.push("55")) == (status, body)
    entry = pair.floor.ledger.requests[-1]
    assert (entry.status, entry.reason, entry.fault, entry.processed) == (status, body["reason"], "f", False)


def test_retry_after_is_sent_where_asked_for(key: Key) -> None:
    pair = ready(key, rule("{status: 503, retry_after: 7}", "{token: '55'}"))
    assert pair.headers(pair.push("55"))["retry-after"] == "7"


def test_accepted_then_lost(key: Key) -> None:
    pair = ready(key, rule("{accept_then_close: true}", "{token: '55'}"))
    stream = pair.push("55")
    assert (pair.is_closed, pair.answer(stream), pair.floor.ledger.accepted["55"]) == (True, None, 1)


def test_closed_without_a_trace(key: Key) -> None:
    pair = ready(key, rule("{close: true}", "{token: '55'}"))
    pair.push("55")
    assert (pair.is_closed, pair.floor.ledger.accepted["55"]) == (True, 0)


def test_processed_counts_at_once_though_the_answer_is_late_or_another(key: Key) -> None:
    pair = ready(key, rule("{processed: true, delay: 5, status: 500}", "{token: '55'}"))
    stream = pair.push("55")
    assert pair.floor.ledger.accepted["55"] == 1
    pair.tick(6)
    assert pair.answer(stream) == (500, {"reason": "InternalServerError"})
    assert pair.floor.ledger.accepted["55"] == 1


def test_what_the_rules_refuse_is_never_counted_as_accepted(key: Key) -> None:
    pair = ready(key, rule("{accept_then_close: true}", "{token: 'f'}"))
    pair.push("fff")
    assert pair.floor.ledger.accepted["fff"] == 0


def test_pings_are_answered_until_they_are_not(key: Key) -> None:
    pair = ready(key, rule("{no_ping_ack: true}", "{token: '55'}"))
    pair.client.ping(b"12345678")
    pair.feed()
    assert sum(isinstance(event, PingAckReceived) for event in pair.events) == 1
    assert pair.answer(pair.push("55")) == (200, {})
    pair.client.ping(b"12345678")
    pair.feed()
    assert sum(isinstance(event, PingAckReceived) for event in pair.events) == 1
    assert pair.row.pings == 2


def test_reading_stops(key: Key) -> None:
    pair = ready(key, rule("{stop_reading: true}", "{token: '55'}"))
    pair.push("55")
    assert pair.is_deaf


def test_a_connection_may_hang_before_settings(key: Key) -> None:
    pair = Pair(key, rule("{hang_before_settings: true}", "{connection: 1}"))
    pair.push()
    assert pair.frames == []
    assert Pair(key, floor=pair.floor).limits == [1]


def test_a_connection_may_close_at_once(key: Key) -> None:
    assert Pair(key, rule("{close: true}", when="connect")).is_closed


def test_the_end_of_a_connection_decides_what_was_open(key: Key) -> None:
    pair = ready(key, rule("{delay: 9}", "{token: '55'}"))
    pair.push("55")
    pair.push("66", body=None)
    pair.session.end()
    assert [entry.fault for entry in pair.floor.ledger.requests[1:]] == ["connection_lost", "incomplete"]
    assert pair.row.closed_at == START
