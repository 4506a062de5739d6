"""How many connections a pool wants: a table of cases, and laws that hold for all of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from momentum_push.delivery.sizing import STUCK_S, RoundTrip, lags, lifetime, needed, needs, to_open

AT_APPLE = 32768 // 320
"""Messages of 320 bytes that 32 KiB hold (apns.md 6.2)."""


def test_needed_is_rate_times_round_trip_times_body_over_32_kib() -> None:
    """apns.md 6.2: at 100 ms about 1,000/s with 320-byte bodies, 90/s with 4 KB."""
    assert needed(1000, 0.1, AT_APPLE) == 1
    assert needed(10_000, 0.1, AT_APPLE) == 10
    assert needed(10_000, 0.1, 32768 // 4096) == 125


@pytest.mark.parametrize(
    ("waiting", "round_trip_s", "serving", "coming", "most", "stuck_s", "opened"),
    [
        (10**6, 0.1, 0, 0, 32, 0.0, 1),  # the first one alone
        (10**6, None, 0, 1, 32, 0.0, 0),  # it is coming
        (10**6, 0.1, 1, 0, 32, 0.0, 1),  # then at most doubling
        (10**6, 0.1, 4, 0, 32, 0.0, 4),
        (10**6, 0.1, 4, 3, 32, 0.0, 1),  # those that are coming count
        (10**6, 0.1, 4, 4, 32, 0.0, 0),
        (10**6, 0.1, 20, 0, 32, 0.0, 12),  # max_outbound_connections
        (5000, 0.1, 4, 0, 32, 0.0, 1),  # as many as it takes: five
        (900, 0.1, 4, 0, 32, 0.0, 1),  # at least one: they are full, and something waits
        (100, 0.1, 4, 0, 32, 0.0, 0),  # gone before another one could be there
        (100, 0.1, 4, 0, 32, STUCK_S, 1),  # so we thought
        (4000, 0.001, 1, 0, 32, 0.0, 0),  # a fast peer near by
        (1, None, 1, 0, 32, 0.0, 1),  # nothing is known of the peer
        (0, 0.1, 1, 0, 32, 9.0, 0),  # nothing waits
        (10**6, 0.1, 0, 0, 0, 0.0, 0),
    ],
)
def test_growth(
    waiting: int,
    round_trip_s: float | None,
    serving: int,
    coming: int,
    most: int,
    stuck_s: float,
    opened: int,
) -> None:
    assert to_open(waiting, round_trip_s, AT_APPLE, serving, coming, most, stuck_s) == opened


@given(
    st.integers(0, 10**7), st.floats(0, 2), st.integers(1, 1000), st.integers(0, 200), st.integers(0, 200),
    st.integers(0, 500), st.floats(0, 9),
)  # fmt: skip
def test_growth_never_passes_the_limit_nor_more_than_doubles(
    waiting: int, round_trip_s: float, trip: int, serving: int, coming: int, most: int, stuck_s: float
) -> None:
    opened = to_open(waiting, round_trip_s, trip, serving, coming, most, stuck_s)
    assert opened >= 0
    if opened:
        assert serving + coming + opened <= max(1, min(2 * serving, most))


def test_128_connections_are_asked_for_in_eight_rounds() -> None:
    serving = rounds = 0
    while serving < 128:
        serving += to_open(10**6, 0.1, AT_APPLE, serving, 0, 128)
        rounds += 1
    assert rounds == 8


def test_what_an_operator_is_told_empties_the_queue_within_a_minute() -> None:
    assert needs(0, 0.1, AT_APPLE, 32) == 32
    assert needs(60 * 32 * 1020, 0.1, AT_APPLE, 32) == 64


@pytest.mark.parametrize(
    ("seconds", "others", "is_lagging"),
    [
        (9.0, [], False),  # nobody to compare it with
        (9.0, [0.1], True),
        (1.9, [0.1], False),  # not slow enough to matter
        (9.0, [0.1, 5.0, 5.0], False),  # all are slow: it is Apple
        (9.0, [0.1, 0.1, 5.0], True),
    ],
)
def test_a_connection_lags_that_is_slow_and_much_slower_than_the_others(
    seconds: float, others: list[float], is_lagging: bool
) -> None:
    assert lags(seconds, others) is is_lagging


@given(st.floats(0, 1))
def test_connections_end_between_75_and_100_percent_of_their_age(chance: float) -> None:
    assert 64_800 <= lifetime(86_400, chance) <= 86_400
    assert lifetime(0, chance) == 0


def test_the_round_trip_is_the_smallest_answer_time_of_late() -> None:
    trip = RoundTrip()
    assert trip.seconds is None
    trip.note(0.2, 100.0)
    trip.note(0.1, 101.0)
    trip.note(0.5, 102.0)
    assert trip.seconds == 0.1
    trip.note(0.3, 112.0)
    assert trip.seconds == 0.1
    trip.note(0.4, 123.0)
    assert trip.seconds == 0.3
