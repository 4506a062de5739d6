"""The same trouble three times in a row, and what ends a row."""

from __future__ import annotations

import pytest

from momentum_push.delivery.apns.wear import Wear


def play(steps: str) -> list[str]:
    """t: no answer in time; 5: status 500; a: another answer; r: refusal of a new round; s: of the same."""
    wear, found, now = Wear(), [], 0.0
    for step in steps:
        now += 1
        if step == "t":
            found.append(wear.timed_out())
        elif step in "5a":
            found.append(wear.answered(500 if step == "5" else 200))
        else:
            found.append(wear.refused(now if step == "r" else 0.5, now))
    return found


@pytest.mark.parametrize(
    ("steps", "why"),
    [
        ("tt", ""),
        ("ttt", "3 requests in a row without an answer"),
        ("ttat", ""),
        ("tt5t", ""),
        ("555", "3 answers in a row with status 500"),
        ("55a5", ""),
        ("55t5", "3 answers in a row with status 500"),
        ("rrr", "requests refused or reset 3 times in a row"),
        ("rssssss", ""),
        ("rrar", ""),
        ("rr5r", ""),
        ("rrtr", "requests refused or reset 3 times in a row"),
    ],
)
def test_three_in_a_row_are_wear_and_an_answer_ends_the_row(steps: str, why: str) -> None:
    *before, last = play(steps)
    assert ("".join(before), last) == ("", why)


def test_a_thousand_refusals_of_one_round_are_one() -> None:
    """A peer whose limit fell refuses what was under way, in good faith."""
    wear = Wear()
    assert {wear.refused(10.0, 10.1 + number / 1e4) for number in range(1000)} == {""}
    assert wear.refusals == 1
