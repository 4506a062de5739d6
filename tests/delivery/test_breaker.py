"""The breaker on dead tokens: what trips it, what does not, and how much it lets through (apns.md 4.3)."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from momentum_push.delivery.breaker import LEAST_DEAD, LONG_RUN, WINDOW, Breaker

READ = 50


def feed(breaker: Breaker, answers: list[bool], read: int = READ) -> int:
    """Play answers (True: dead) as the judge does, read by read; return how many tokens were condemned."""
    condemned = 0
    for start in range(0, len(answers), read):
        batch = answers[start : start + read]
        dead = 0
        for place, is_dead in enumerate(batch, 1):
            dead += is_dead
            if is_dead and not breaker.doubts(place, dead):
                condemned += 1
        breaker.note(len(batch), dead)
    return condemned


def some(count: int, share: float, seed: int = 1) -> list[bool]:
    chance = random.Random(seed)
    return [chance.random() < share for _ in range(count)]


@pytest.mark.parametrize("read", [1, 7, 50, 1000])
def test_when_all_are_dead_from_the_first_on_a_hundred_are_condemned(read: int) -> None:
    breaker = Breaker(20)
    assert feed(breaker, [True] * 3000, read) == LEAST_DEAD
    assert breaker.is_tripped


@pytest.mark.parametrize("read", [1, 7, 50, 1000])
def test_a_healthy_queue_that_turns_dead_condemns_a_window_s_share_at_most(read: int) -> None:
    breaker = Breaker(20)
    feed(breaker, some(20_000, 0.01), read)
    assert not breaker.is_tripped
    assert feed(breaker, [True] * 5000, read) <= 0.24 * (WINDOW + read)
    assert breaker.is_tripped


def test_a_share_at_the_limit_does_not_trip_and_one_above_does() -> None:
    for dead, trips in ((200, False), (201, True)):
        breaker = Breaker(20)
        breaker.note(1000 - dead, 0)
        assert breaker.doubts(dead, dead) is trips, dead


def test_a_hundred_dead_tokens_alone_prove_nothing() -> None:
    breaker = Breaker(20)
    assert feed(breaker, [True] * LEAST_DEAD) == LEAST_DEAD
    assert not breaker.is_tripped
    assert feed(breaker, [True]) == 0


@pytest.mark.parametrize("share", [0.0, 0.05, 0.12, 0.16])
@pytest.mark.parametrize("seed", range(5))
def test_what_is_usual_everywhere_never_trips(share: float, seed: int) -> None:
    breaker = Breaker(20)
    dead = some(100_000, share, seed)
    assert feed(breaker, dead) == sum(dead)


@pytest.mark.parametrize("share", [0.3, 0.5, 0.75, 0.95])
@pytest.mark.parametrize("seed", range(5))
def test_a_list_that_always_has_many_dead_tokens_trips_only_once(share: float, seed: int) -> None:
    breaker = Breaker(20)
    trips = 0
    for start in range(0, 200_000, READ):
        feed(breaker, some(READ, share, seed * 200_000 + start))
        if breaker.is_tripped:
            trips += 1
            breaker.lift()
    assert trips <= 2, "the first look at a share may see less than all of it"


def test_after_a_lift_a_sudden_rise_trips_again() -> None:
    breaker = Breaker(20)
    feed(breaker, some(5000, 0.3))
    breaker.lift()
    assert breaker.usual == pytest.approx(0.3, abs=0.1)
    feed(breaker, some(20_000, 0.3))
    assert not breaker.is_tripped
    feed(breaker, some(2000, 0.9))
    assert breaker.is_tripped


def test_what_was_bad_long_ago_is_usual_no_more() -> None:
    breaker = Breaker(20)
    feed(breaker, some(1000, 0.9))
    breaker.lift()
    feed(breaker, some(5 * LONG_RUN, 0.01))
    assert breaker.usual < 0.03
    feed(breaker, some(1000, 0.4))
    assert breaker.is_tripped


def test_tripped_it_doubts_everything_until_it_is_lifted() -> None:
    breaker = Breaker(20)
    feed(breaker, [True] * 200)
    breaker.note(100_000, 0)
    assert breaker.doubts(1, 1)
    breaker.lift()
    assert not breaker.doubts(1, 1)


def test_a_limit_of_nought_never_trips() -> None:
    breaker = Breaker(0)
    assert feed(breaker, [True] * 5000) == 5000
    assert not breaker.is_tripped


def test_a_reading_of_nothing_is_nothing() -> None:
    breaker = Breaker(20)
    breaker.note(0, 0)
    breaker.lift()
    assert repr(breaker) == "<Breaker closed, 0 of 0 dead, usually 0%>"


@given(st.lists(st.tuples(st.integers(0, 3000), st.floats(0, 1)), max_size=100))
def test_its_sums_are_those_of_its_window_and_its_memory_is_bounded(reads: list[tuple[int, float]]) -> None:
    breaker = Breaker(20)
    for answers, share in reads:
        breaker.note(answers, int(answers * share))
        assert breaker._answers == sum(slice_[0] for slice_ in breaker._slices)
        assert breaker._dead == sum(slice_[1] for slice_ in breaker._slices)
        assert len(breaker._slices) <= 2 + WINDOW // 50
        assert 0 <= breaker.usual <= 1
