"""Who is struck: counting, chance, order (apns.md 9.5, "Determinism")."""

from dataclasses import replace

import pytest

from momentum_push.simulator.faults import Action, Delay, Faults, Match, Rule
from momentum_push.simulator.picker import FaultPicker
from momentum_push.simulator.request import Request, Verdict

SILENT = Action(is_silent=True)


def picker(*matches: Match, seed: int = 0, action: Action = SILENT, at_connect: bool = False) -> FaultPicker:
    rules = tuple(Rule(str(number), match, action, at_connect) for number, match in enumerate(matches))
    return FaultPicker(Faults(seed, rules))


def struck(who: FaultPicker, count: int, request: Request | None = None, connection: int = 1) -> list[int]:
    """Numbers (from 1) of the requests that a rule struck."""
    given = request or Request(path="/3/device/00ff")
    return [number for number in range(1, count + 1) if who.on_request(given, connection)]


@pytest.mark.parametrize(
    ("match", "numbers"),
    [
        (Match(), [1, 2, 3, 4, 5, 6, 7, 8]),
        (Match(nth=3), [3]),
        (Match(every=3), [3, 6]),
        (Match(after=6), [7, 8]),
        (Match(after=2, every=3), [5, 8]),
        (Match(times=2), [1, 2]),
        (Match(every=2, times=2), [2, 4]),
        (Match(probability=0.0), []),
        (Match(token="00"), [1, 2, 3, 4, 5, 6, 7, 8]),
        (Match(token="01"), []),
        (Match(topic="a"), []),
        (Match(push_type="alert"), []),
        (Match(connection=2), []),
        (Match(listener=1), [1, 2, 3, 4, 5, 6, 7, 8]),
        (Match(listener=2), []),
        (Match(from_s=1.0), []),
        (Match(verdict="Accepted"), [1, 2, 3, 4, 5, 6, 7, 8]),
        (Match(verdict="BadDeviceToken"), []),
        (Match(has_new_token=True), []),
    ],
)
def test_conditions(match: Match, numbers: list[int]) -> None:
    assert struck(picker(match), 8) == numbers


def test_only_what_fits_is_counted() -> None:
    who = picker(Match(token="aa", nth=2))
    fits, other = Request(path="/3/device/AA"), Request(path="/3/device/bb")
    assert [who.on_request(each, 1) is not None for each in (fits, other, other, fits)] == [0, 0, 0, 1]


def test_counts_are_for_all_connections_or_for_each() -> None:
    together, each = picker(Match(nth=2)), picker(Match(nth=2, is_per_connection=True))
    given = Request(path="/3/device/00")
    order = [1, 2, 1, 2]
    assert [together.on_request(given, number) is not None for number in order] == [0, 1, 0, 0]
    assert [each.on_request(given, number) is not None for number in order] == [0, 0, 1, 1]


def test_the_first_rule_that_fits_decides() -> None:
    who = picker(Match(every=2), Match())
    names = [strike.name for _ in range(4) if (strike := who.on_request(Request(path="/3/device/00"), 1))]
    assert names == ["1", "0", "1", "0"]


def test_connections_are_struck_by_rules_of_their_own() -> None:
    who = picker(Match(every=2), at_connect=True)
    assert [who.on_connect(number) is not None for number in (1, 2, 3, 4)] == [0, 1, 0, 1]
    assert struck(who, 4) == []


def test_chance_repeats_with_the_seed_and_differs_without() -> None:
    runs = [struck(picker(Match(probability=0.3), seed=seed), 200) for seed in (7, 7, 8)]
    assert runs[0] == runs[1] != runs[2]
    assert 30 < len(runs[0]) < 90


def test_a_new_rule_does_not_disturb_the_chances_of_those_before() -> None:
    one = picker(Match(probability=0.3))
    two = picker(Match(probability=0.3), Match(token="ee"))
    assert struck(one, 100) == struck(two, 100)


def test_every_rule_has_chances_of_its_own() -> None:
    who = picker(Match(token="aa", probability=0.5), Match(token="bb", probability=0.5))
    one, two = (struck(who, 100, Request(path=f"/3/device/{token}")) for token in ("aa", "bb"))
    assert one != two


def test_a_strike_tells_its_delay() -> None:
    strike = picker(Match(), action=replace(SILENT, delay=Delay(0.3))).on_request(Request(), 1)
    assert strike is not None
    assert strike.delay_s == 0.3


def test_only_what_fits_place_time_and_verdict_is_counted() -> None:
    who = picker(Match(listener=2, from_s=10.0, verdict="BadTopic", has_new_token=True, nth=2))
    given, bad = Request(path="/3/device/00"), Verdict(400, "BadTopic")
    fits = {"verdict": bad, "has_new_token": True}
    assert who.on_request(given, 1, 2, 10.0, **fits) is None  # type: ignore[arg-type]
    assert who.on_request(given, 1, 1, 10.0, **fits) is None  # type: ignore[arg-type]
    assert who.on_request(given, 1, 2, 9.0, **fits) is None  # type: ignore[arg-type]
    assert who.on_request(given, 1, 2, 10.0, has_new_token=True) is None
    assert who.on_request(given, 1, 2, 10.0, verdict=bad) is None
    assert who.on_request(given, 1, 2, 10.0, **fits) is not None  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "action", [Action(is_connect_refused=True), Action(handshake_delay_s=1.0), Action(shut_s=1.0)]
)
def test_what_happens_before_the_handshake_is_asked_for_there_alone(action: Action) -> None:
    who = picker(Match(every=2), action=action, at_connect=True)
    assert [who.on_accept(number) is not None for number in (1, 2, 3, 4)] == [0, 1, 0, 1]
    assert [who.on_connect(number) for number in (1, 2)] == [None, None]
    assert struck(who, 4) == []
