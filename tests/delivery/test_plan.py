"""Who gets how many, and how long a failed connect waits."""

from hypothesis import given
from hypothesis import strategies as st

from momentum_push.delivery.plan import MAX_BACKOFF_S, backoff, share


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


def test_the_first_that_takes_everything_gets_it_so_that_surplus_goes_idle() -> None:
    assert share(20, [5, 30, 500]) == [(1, 20)]
    assert share(20, [20, 30, 500]) == [(0, 20)]


def test_backoff_doubles_from_one_second_to_sixty() -> None:
    assert [backoff(failures, 1.0) for failures in range(1, 9)] == [1, 2, 4, 8, 16, 32, 60, 60]
    assert backoff(10**6, 1.0) == MAX_BACKOFF_S


@given(st.integers(1, 10**6), st.floats(0, 1))
def test_jitter_keeps_at_least_half_of_the_wait(failures: int, jitter: float) -> None:
    assert backoff(failures, 1.0) / 2 <= backoff(failures, jitter) <= backoff(failures, 1.0)
