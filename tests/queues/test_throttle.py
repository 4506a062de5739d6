"""Buckets, and how scopes share them (momentum.md 2.3)."""

from hypothesis import given
from hypothesis import strategies as st

from momentum_push.queues import Throttle, Throttles


def test_a_rate_lets_its_count_through_at_once_and_then_its_rate() -> None:
    bucket = Throttle(10, 1, now=0.0)
    assert bucket.available(0.0) == 10
    bucket.spend(10)
    assert bucket.available(0.0) == 0
    assert bucket.ready_at(0.0) == 0.1
    assert bucket.available(0.5) == 5
    assert bucket.available(100.0) == 10


def test_what_was_given_back_may_be_spent_again_but_not_hoarded() -> None:
    bucket = Throttle(100, 60, now=0.0)
    bucket.spend(30)
    bucket.give_back(1000)
    assert bucket.available(0.0) == 100


def test_a_clock_that_stands_still_or_goes_back_gives_nothing() -> None:
    bucket = Throttle(5, 1, now=10.0)
    bucket.spend(5)
    assert bucket.available(9.0) == 0
    assert bucket.available(10.0) == 0


def test_one_identity_is_one_bucket_until_its_rate_changes() -> None:
    throttles = Throttles()
    first = throttles.get("binding_group bulk", 10, 1, 0.0)
    assert throttles.get("binding_group bulk", 10, 1, 0.0) is first
    assert throttles.get("domain a", 10, 1, 0.0) is not first
    assert throttles.get("binding_group bulk", 20, 1, 0.0) is not first


@given(
    st.integers(1, 1000),
    st.integers(1, 3600),
    st.lists(st.tuples(st.floats(0, 100), st.integers(0, 500)), max_size=50),
)
def test_no_more_passes_than_the_rate_and_one_burst(
    count: int, seconds: int, steps: list[tuple[float, int]]
) -> None:
    bucket, now, passed = Throttle(count, seconds, now=0.0), 0.0, 0
    for wait, wish in steps:
        now += wait
        grant = min(wish, bucket.available(now))
        bucket.spend(grant)
        passed += grant
    assert passed <= count + now * count / seconds + 1e-3
