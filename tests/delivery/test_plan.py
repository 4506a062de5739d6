"""Who gets how many, and when another connection is wanted."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from momentum_push.delivery.plan import MAX_BACKOFF_S, backoff, share, wants_connection


def test_one_connection_is_filled_before_the_next_gets_anything() -> None:
    """apns.md 6.2: fill one connection per turn."""
    assert share(100, [500, 500, 500]) == [(0, 100)]
    assert share(700, [500, 500, 500]) == [(0, 500), (1, 200)]


def test_the_roomiest_connection_comes_first() -> None:
    assert share(10, [3, 0, 9]) == [(2, 9), (0, 1)]


def test_full_connections_get_nothing() -> None:
    assert share(10, [0, 0]) == []
    assert share(10, []) == []
    assert share(0, [5]) == []


@given(st.integers(0, 2000), st.lists(st.integers(0, 600), max_size=8))
def test_nothing_is_handed_out_twice_or_beyond_room(due: int, capacities: list[int]) -> None:
    shares = share(due, capacities)
    assert sum(count for _, count in shares) == min(due, sum(capacities))
    assert len({index for index, _ in shares}) == len(shares)
    assert all(0 < count <= capacities[index] for index, count in shares)


@pytest.mark.parametrize(
    ("due", "free", "connections", "connecting", "wanted"),
    [
        (1, 0, 0, 0, True),
        (1, 0, 3, 0, True),
        (1, 1, 1, 0, False),  # there is room
        (0, 0, 0, 0, False),  # nothing waits
        (9, 0, 1, 1, False),  # one is being opened: growth is one at a time
        (9, 0, 4, 0, False),  # max_outbound_connections
    ],
)
def test_another_connection_is_opened_when_all_are_full(
    due: int, free: int, connections: int, connecting: int, wanted: bool
) -> None:
    assert wants_connection(due, free, connections, connecting, most=4) is wanted


def test_backoff_doubles_from_one_second_to_sixty() -> None:
    assert [backoff(failures, 1.0) for failures in range(1, 9)] == [1, 2, 4, 8, 16, 32, 60, 60]
    assert backoff(10**6, 1.0) == MAX_BACKOFF_S


@given(st.integers(1, 10**6), st.floats(0, 1))
def test_jitter_keeps_at_least_half_of_the_wait(failures: int, jitter: float) -> None:
    assert backoff(failures, 1.0) / 2 <= backoff(failures, jitter) <= backoff(failures, 1.0)
