"""When a silent connection is asked, closed or given up (apns.md 6.3)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from momentum_push.delivery.apns.liveness import Liveness, Need, Pulse

RULE = Liveness(ping_interval_s=60, busy_ping_interval_s=10, ping_timeout_s=10, idle_timeout_s=3600)


@pytest.mark.parametrize(
    ("heard", "oldest", "pinged", "idle", "now", "need"),
    [
        (0, None, None, 0, 59.9, Need.NOTHING),
        (0, None, None, 0, 60, Need.PING),
        (3590, None, None, 0, 3599.9, Need.NOTHING),
        (3590, None, None, 0, 3600, Need.CLOSE),
        (0, 0, None, 0, 9.9, Need.NOTHING),
        (0, 0, None, 0, 10, Need.PING),
        (0, 55, None, 0, 60, Need.NOTHING),  # long silent, but asked only just now
        (0, 50, None, 0, 60, Need.PING),
        (8, 0, None, 0, 10, Need.NOTHING),
        (0, 3599, None, 0, 3600, Need.NOTHING),  # busy connections do not idle
        (0, None, 60, 0, 69.9, Need.NOTHING),
        (0, None, 60, 0, 70, Need.ABORT),
        (65, None, 60, 0, 70, Need.ABORT),  # other frames are no ACK
        (0, None, 3595, 0, 3600, Need.NOTHING),  # one thing after the other
    ],
)
def test_need(
    heard: float, oldest: float | None, pinged: float | None, idle: float, now: float, need: Need
) -> None:
    assert RULE.need(Pulse(heard, oldest, pinged, idle), now) is need


def test_zero_switches_pings_and_idle_timeout_off() -> None:
    rule = Liveness(ping_interval_s=0, idle_timeout_s=0)
    pulse = Pulse(0, None, None, 0)
    assert rule.next_check(pulse) is None
    assert rule.need(pulse, 1e9) is Need.NOTHING
    assert rule.need(Pulse(0, 0, None, 0), 10) is Need.PING


_TIMES = st.floats(0, 10_000)


@given(_TIMES, st.none() | _TIMES, st.none() | _TIMES, _TIMES)
def test_something_is_needed_at_the_next_check_and_nothing_before(
    heard: float, oldest: float | None, pinged: float | None, idle: float
) -> None:
    pulse = Pulse(heard, oldest, pinged, idle)
    due = RULE.next_check(pulse)
    assert due is not None
    assert RULE.need(pulse, due) is not Need.NOTHING
    assert RULE.need(pulse, due - 0.001) is Need.NOTHING
