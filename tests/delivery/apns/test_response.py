"""What APNs says, read leniently (apns.md 4.1, 4.3, 6.4)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from momentum_push.delivery.apns.response import Farewell, read_body, read_farewell, read_retry_after

NOW = 1_767_600_000.0


@pytest.mark.parametrize(
    ("body", "reason", "unregistered_at"),
    [
        (b'{"reason":"BadDeviceToken"}', "BadDeviceToken", 0),
        (b' { "reason" : "X" } ', "X", 0),
        (b'{"timestamp":1700000000999,"reason":"Unregistered"}', "Unregistered", 1_700_000_000),
        (b'{"reason":"Unregistered","timestamp":1700000000999.5}', "Unregistered", 1_700_000_000),
        (b'{"reason":"Unregistered","timestamp":"soon"}', "Unregistered", 0),
        (b'{"reason":"Unregistered","timestamp":-1}', "Unregistered", 0),
        (b'{"reason":"Unregistered","timestamp":true}', "Unregistered", 0),
        (b'{"reason":"Unregistered","timestamp":1e300}', "Unregistered", 0),
        (b'{"reason":"Service Unavailable"}', "Service Unavailable", 0),
        (b'{"reason":"two\\nlines"}', "two lines", 0),
        (b'{"reason":null}', "", 0),
        (b'{"reason":["a"]}', "", 0),
        (b"", "", 0),
        (b"<html>502</html>", "", 0),
        (b"[]", "", 0),
        (b'{"reason":', "", 0),
        (b'{"reason":"\xff"}', "", 0),
        (b'{"reason":"' + b"x" * 500 + b'"}', "x" * 100, 0),
    ],
)
def test_a_body_is_read_as_far_as_it_makes_sense(body: bytes, reason: str, unregistered_at: int) -> None:
    assert read_body(body) == (reason, unregistered_at)


@given(st.binary())
def test_no_body_raises(body: bytes) -> None:
    read_body(body)
    read_body(b'{"reason":' + body)
    read_retry_after(body, NOW)
    read_farewell(bytes(8) + body)


def test_deeply_nested_bodies_do_not_raise() -> None:
    assert read_body(b"[" * 4096) == ("", 0)
    assert read_body(b'{"a":' * 800) == ("", 0)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (b"", 0.0),
        (b"30", 30.0),
        (b" 30 ", 30.0),
        (b"0", 1.0),
        (b"99999999999999", 3600.0),
        (b"-5", 0.0),
        (b"soon", 0.0),
        (b"Mon, 05 Jan 2026 08:01:00 GMT", 60.0),
        (b"Mon, 05 Jan 2026 07:00:00 GMT", 1.0),
        (b"Mon, 05 Jan 2027 07:00:00 GMT", 3600.0),
        (b"Mon, 05 Jan 2026 08:01:00", 60.0),
        (b"Mon, 99 Jan 2026 08:01:00 GMT", 0.0),
    ],
)
def test_retry_after_is_seconds_or_a_date_and_stays_within_an_hour(value: bytes, seconds: float) -> None:
    assert read_retry_after(value, NOW) == seconds


@pytest.mark.parametrize(
    ("last", "code", "debug", "reason"),
    [
        (5, 0, b'{"reason":"Shutdown"}', "Shutdown"),
        (5, 0, b' {"reason":"Shutdown","x":1}', "Shutdown"),
        (0, 7, b"Maximum active streams violated", "Maximum active streams violated"),
        (2**31 - 1, 0, b"", "NO_ERROR"),
        (0, 0, b'{"oops', "NO_ERROR"),
        (0, 200, b"", "error 200"),
    ],
)
def test_a_farewell_always_has_a_reason(last: int, code: int, debug: bytes, reason: str) -> None:
    payload = (last | 1 << 31).to_bytes(4) + code.to_bytes(4) + debug
    assert read_farewell(payload) == Farewell(last, code, reason)
