"""Faults as values: how long, and in which hours."""

import random

import pytest

from momentum_push.simulator.faults import Delay, Match


@pytest.mark.parametrize(
    ("match", "hours"),
    [
        (Match(), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]),
        (Match(from_s=7), [7, 8, 9]),
        (Match(until_s=2), [0, 1]),
        (Match(from_s=3, until_s=5), [3, 4]),
        (Match(from_s=1, until_s=3, period_s=5), [1, 2, 6, 7]),
        (Match(from_s=1, period_s=3), [1, 2, 4, 5, 7, 8]),
    ],
)
def test_a_rule_has_its_hours(match: Match, hours: list[int]) -> None:
    assert [age for age in range(10) if match.is_time(age)] == hours


def test_delays_are_fixed_or_log_normal_around_the_median() -> None:
    chance = random.Random(1)
    assert Delay(0.2).draw(chance) == 0.2
    drawn = sorted(Delay(0.06, 0.5).draw(chance) for _ in range(999))
    assert 0.05 < drawn[499] < 0.07
    assert drawn[-1] > 2 * drawn[499]
    assert Delay(0.06, 50.0).draw(extreme_chance()) <= 6.0


def extreme_chance() -> random.Random:
    chance = random.Random(0)
    chance.lognormvariate = lambda mu, sigma: 1e9  # type: ignore[method-assign]
    return chance
