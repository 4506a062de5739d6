"""The arithmetic of momentum.md 6.4, row by row."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from momentum_push.queues import EXCEEDED_RETRIES, EXCEEDED_TIME, EXPIRED_UNTRIED, RetryPolicy

BORN = 1_767_600_000.0


def retries(policy: RetryPolicy, flushes: int = 0) -> tuple[list[float], str]:
    """Fail every attempt; return when the retries came, in seconds since reception, and the final text."""
    now, times = BORN, []
    for attempts in range(1 + flushes, 200):
        answer = policy.after_failure(BORN, attempts, now)
        if isinstance(answer, str):
            return times, answer
        now = answer
        times.append(now - BORN)
    raise AssertionError("never given up")


def test_the_manuals_example_1200_seconds_without_a_cap() -> None:
    policy = RetryPolicy(
        1200, max_retry_interval=10**9, max_retries=5, is_auto=False, message_expiration=10**9
    )
    assert retries(policy) == ([1200, 3600, 8400, 18000, 37200], EXCEEDED_RETRIES)


@pytest.mark.parametrize(
    ("policy", "times", "final"),
    [
        # auto: as many retries as reach the expiry; the last one is the expired message's one last attempt
        (RetryPolicy(), [1200, 3600, 8400, 18000, 37200, 75600, 152400], EXCEEDED_TIME),
        (RetryPolicy(retry_interval=60, message_expiration=100), [60, 180], EXCEEDED_TIME),
        (RetryPolicy(retry_interval=100, message_expiration=100), [100], EXCEEDED_TIME),
        # under auto the ceiling has no meaning
        (RetryPolicy(60, max_retry_interval=60, message_expiration=400), [60, 180, 420], EXCEEDED_TIME),
        # an integer: whichever of count and expiry comes first
        (RetryPolicy(10, 10, max_retries=3, is_auto=False), [10, 20, 30], EXCEEDED_RETRIES),
        (
            RetryPolicy(10, 10, max_retries=9, is_auto=False, message_expiration=25),
            [10, 20, 30],
            EXCEEDED_TIME,
        ),
        (RetryPolicy(10, 25, max_retries=4, is_auto=False), [10, 30, 55, 80], EXCEEDED_RETRIES),
        (RetryPolicy(max_retries=0, is_auto=False), [], EXCEEDED_RETRIES),
        # "none": expiry alone
        (RetryPolicy(10, 10, is_auto=False, message_expiration=35), [10, 20, 30, 40], EXCEEDED_TIME),
        (RetryPolicy(never_retry=True), [], EXCEEDED_RETRIES),
    ],
)
def test_failing_messages_are_retried_and_given_up(
    policy: RetryPolicy, times: list[float], final: str
) -> None:
    assert retries(policy) == (times, final)


def test_manual_flushes_count_as_attempts_under_auto() -> None:
    times, final = retries(RetryPolicy(), flushes=7)
    assert (times, final) == ([], EXCEEDED_RETRIES)


@pytest.mark.parametrize(
    ("never", "expiration", "age", "text"),
    [
        (False, 0, 10, None),
        (False, 0, 86400, None),  # the one last attempt
        (False, 0, 10**8, None),  # 0 asks for one attempt at Apple, it is no time
        (True, 0, 86399, None),
        (True, 0, 86400, EXPIRED_UNTRIED),
        (False, int(BORN) + 60, 59, None),
        (False, int(BORN) + 60, 60, EXPIRED_UNTRIED),  # apns-expiration has passed: never sent late
        (False, int(BORN) + 90000, 86500, None),
    ],
)
def test_expired_messages_get_one_last_attempt_unless_it_is_forbidden(
    never: bool, expiration: int, age: float, text: str | None
) -> None:
    policy = RetryPolicy(never_attempt_expired_messages=never)
    assert policy.forbids(BORN, expiration, BORN + age) == text


def test_a_peers_wait_takes_the_place_of_the_schedules() -> None:
    policy = RetryPolicy()
    assert policy.after_failure(BORN, 1, BORN + 5, wait=1.0) == BORN + 6
    assert policy.after_failure(BORN, 1, BORN + 90000, wait=1.0) == EXCEEDED_TIME


@given(
    st.floats(0, 10**6),
    st.floats(0, 10**6),
    st.none() | st.integers(0, 50),
    st.booleans(),
    st.floats(0, 10**7),
)
def test_no_schedule_goes_on_for_ever(
    interval: float, ceiling: float, limit: int | None, is_auto: bool, expiry: float
) -> None:
    """An integer or auto ends by count; "none" ends by time wherever time passes between attempts."""
    policy = RetryPolicy(max(interval, 1), max(ceiling, expiry / 100, 1), limit, is_auto, expiry)
    times, final = retries(policy)
    assert final in (EXCEEDED_RETRIES, EXCEEDED_TIME)
    assert times == sorted(times)
