"""A lone request never waits; those that follow closely wait once, and only while somebody comes."""

from __future__ import annotations

from momentum_push.injection.company import AGAIN, PACE_S, Company


def test_a_commit_waits_for_nothing_when_the_last_one_is_long_ago() -> None:
    company = Company()
    assert company.wait_s(0.0) == 0.0
    company.begin(100.0, 1, has_waited=False)
    assert company.wait_s(100.0 + PACE_S) == 0.0


def test_a_commit_waits_for_the_rest_of_the_pace_and_no_longer() -> None:
    company = Company()
    company.begin(100.0, 5, has_waited=False)
    assert 0.0 < company.wait_s(100.0 + PACE_S / 4) <= PACE_S * 3 / 4 + 1e-9


def test_who_waited_alone_is_the_last_to_wait_until_it_is_tried_again() -> None:
    company = Company()
    company.begin(100.0, 1, has_waited=False)
    assert company.wait_s(100.0) > 0.0
    company.begin(100.0, 1, has_waited=True)
    for _ in range(AGAIN):
        assert company.wait_s(100.0) == 0.0
        company.begin(100.0, 1, has_waited=False)
    assert company.wait_s(100.0) > 0.0


def test_two_that_come_together_by_themselves_bring_waiting_back() -> None:
    company = Company()
    company.begin(100.0, 1, has_waited=True)
    assert company.wait_s(100.0) == 0.0
    company.begin(100.0, 2, has_waited=False)
    assert company.wait_s(100.0) > 0.0
