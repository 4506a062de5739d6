"""What a pool knows of its connections: who serves, who gets nothing for now, who is slow, what limits."""

from __future__ import annotations

from typing import Any, cast

import pytest

from momentum_push.delivery.apns.options import ConnectionState
from momentum_push.delivery.fleet import (
    LIMIT_CHECK_S,
    LIMIT_SHOWN_S,
    LIMIT_WARNED_S,
    PROBE_S,
    READS,
    RETIRE_EVERY_S,
    SHUN_S,
    SUSPECT_S,
    Fleet,
)
from tests.helpers.links import Link, heard

CONNECTING, PROBING, OPEN, DRAINING = (
    ConnectionState.CONNECTING,
    ConnectionState.PROBING,
    ConnectionState.OPEN,
    ConnectionState.DRAINING,
)
NOW = 1000.0


def fleet_of(*links: Link, since: float = NOW) -> Fleet:
    fleet = Fleet()
    for link in links:
        fleet.add(cast(Any, link), since)
    return fleet


# --- who serves, who comes


@pytest.mark.parametrize(
    ("states", "serving", "coming", "is_serving"),
    [
        ([], 0, 0, False),
        ([OPEN], 1, 0, True),
        ([PROBING], 0, 1, True),
        ([DRAINING], 0, 0, False),
        ([OPEN, OPEN, PROBING, DRAINING], 2, 1, True),
    ],
)
def test_states_count_as_the_table_says(
    states: list[ConnectionState], serving: int, coming: int, is_serving: bool
) -> None:
    fleet = fleet_of(*(Link(state) for state in states))
    survey = fleet.survey(NOW)
    assert (survey.serving, survey.coming, fleet.is_serving) == (serving, coming, is_serving)


@pytest.mark.parametrize(("after", "coming"), [(0.0, 1), (PROBE_S - 0.01, 1), (PROBE_S, 0)])
def test_a_probe_that_is_not_answered_counts_for_a_while(after: float, coming: int) -> None:
    survey = fleet_of(Link(PROBING)).survey(NOW + after)
    assert (survey.coming, survey.probe_ends) == (coming, NOW + PROBE_S if coming else None)


def test_the_first_probe_to_end_is_named() -> None:
    fleet = fleet_of(Link(PROBING))
    fleet.add(cast(Any, Link(PROBING)), NOW - 1)
    assert fleet.survey(NOW).probe_ends == NOW - 1 + PROBE_S


@pytest.mark.parametrize(
    ("links", "trip", "is_window_bound"),
    [
        ([], 1.0, False),
        ([Link(trip=10), Link(trip=30)], 20.0, False),
        ([Link(trip=10), Link(DRAINING, trip=99, is_window_bound=True)], 10.0, False),
        ([Link(is_window_bound=True), Link()], 10.0, False),
        ([Link(is_window_bound=True), Link(is_window_bound=True), Link()], 10.0, True),
    ],
    ids=["none", "the mean", "of those serving", "half are no majority", "most are"],
)
def test_a_trip_is_the_mean_of_those_that_serve(
    links: list[Link], trip: float, is_window_bound: bool
) -> None:
    survey = fleet_of(*links).survey(NOW)
    assert (survey.trip, survey.is_window_bound) == (trip, is_window_bound)


# --- who gets nothing for now


@pytest.mark.parametrize(
    ("name", "after", "is_alone", "room"),
    [
        ("shun", 0.0, False, [0, 10, 10]),
        ("shun", 0.0, True, [0, 10, 10]),
        ("shun", SHUN_S, False, [10, 10, 10]),
        ("suspect", 0.0, False, [0, 10, 0]),
        ("suspect", 0.0, True, [10, 10, 10]),
        ("suspect", SUSPECT_S, False, [10, 10, 10]),
    ],
)
def test_who_refused_and_whose_address_is_silent_gets_nothing_for_a_while(
    name: str, after: float, is_alone: bool, room: list[int]
) -> None:
    """One that refused is out alone, with a suspect its whole address; a suspect serves where nobody can."""
    first = Link(remote="192.0.2.1")
    fleet = fleet_of(first, Link(remote="192.0.2.2"), Link(remote="192.0.2.1"))
    {"shun": fleet.shun, "suspect": fleet.suspect}[name](cast(Any, first), NOW)
    assert fleet.capacities(NOW + after, is_alone) == room


def test_those_that_get_nothing_do_not_serve_and_the_first_pardon_is_named() -> None:
    refused, silent = Link(), Link(remote="192.0.2.2")
    fleet = fleet_of(refused, silent)
    assert fleet.next_pardon() is None
    fleet.suspect(cast(Any, silent), NOW)
    fleet.shun(cast(Any, refused), NOW)
    assert (fleet.survey(NOW).serving, fleet.next_pardon()) == (0, NOW + SHUN_S)
    fleet.capacities(NOW + SHUN_S, is_alone=False)
    assert (fleet.survey(NOW).serving, fleet.next_pardon()) == (1, NOW + SUSPECT_S)


def test_nothing_is_remembered_of_a_connection_that_is_gone() -> None:
    link = Link()
    fleet = fleet_of(link)
    fleet.shun(cast(Any, link), NOW)
    fleet.suspect(cast(Any, link), NOW)
    fleet.serves(cast(Any, link))
    fleet.turn_away(cast(Any, link), "Shutdown")
    assert [fleet.remove(cast(Any, link)) for _ in range(2)] == [True, False]
    assert (len(fleet), fleet.next_pardon(), fleet._watches) == (0, None, {})
    heard(fleet, link, 0.1)
    fleet.serves(cast(Any, link))
    assert (fleet.has_served(cast(Any, link)), fleet.turned_away(cast(Any, link))) == (False, "")


@pytest.mark.parametrize(
    ("serves", "says", "blame", "turned_away"),
    [
        (False, "", "", ""),
        (False, "Shutdown", "", "Shutdown"),
        (False, "", "refused", "refused"),
        (False, "Shutdown", "refused", "Shutdown"),
        (True, "Shutdown", "refused", ""),
    ],
)
def test_who_served_once_turned_nobody_away(serves: bool, says: str, blame: str, turned_away: str) -> None:
    link: Any = Link(blame=blame)
    fleet = fleet_of(link)
    if says:
        fleet.turn_away(link, says)
    if serves:
        fleet.serves(link)
    assert (fleet.has_served(link), fleet.turned_away(link)) == (serves, turned_away)


# --- what limits


@pytest.mark.parametrize(("is_window_bound", "by"), [(True, "window"), (False, "streams")])
def test_what_limits_is_shown_while_it_is_so_and_a_little_longer(is_window_bound: bool, by: str) -> None:
    link = Link(is_window_bound=is_window_bound)
    fleet = fleet_of(link)
    heard(fleet, link, 1.0)
    fleet.note_limit(690, 1, NOW)
    limited = fleet.limited(NOW + LIMIT_SHOWN_S)
    assert limited is not None
    assert (limited.by, limited.needs) == (by, 1 + 2)  # 10 a second each: 690 take two more for a minute
    assert fleet.limited(NOW + LIMIT_SHOWN_S + 0.1) is None


def test_a_limit_is_looked_into_once_a_second_however_busy_the_queue() -> None:
    link = Link()
    fleet = fleet_of(link)
    heard(fleet, link, 1.0)
    found = []
    for waiting, after in [(690, 0.0), (6900, LIMIT_CHECK_S - 0.1), (6900, LIMIT_CHECK_S)]:
        fleet.note_limit(waiting, 1, NOW + after)
        limited = fleet.limited(NOW + after)
        assert limited is not None
        found.append(limited.needs)
    assert found == [3, 3, 13]


def test_nothing_is_said_of_a_limit_before_an_answer_told_the_round_trip() -> None:
    link = Link(is_window_bound=True)
    fleet = fleet_of(link)
    assert (fleet.note_limit(690, 1, NOW), fleet.limited(NOW)) == (None, None)
    heard(fleet, link, 1.0)
    link.state = DRAINING
    assert (fleet.note_limit(690, 1, NOW), fleet.limited(NOW)) == (None, None), "nobody serves"


@pytest.mark.parametrize(
    ("after", "is_warned"),
    [(0.0, False), (LIMIT_CHECK_S, False), (LIMIT_WARNED_S - 1, False), (LIMIT_WARNED_S, True)],
)
def test_a_warning_comes_once_in_a_while(after: float, is_warned: bool) -> None:
    link = Link(is_window_bound=True)
    fleet = fleet_of(link)
    heard(fleet, link, 1.0)
    assert fleet.note_limit(690, 1, NOW) is not None
    assert (fleet.note_limit(690, 1, NOW + after) is not None) is is_warned


@pytest.mark.parametrize(
    ("waiting", "most", "is_window_bound", "is_warned"),
    [
        (690, 1, True, True),
        (690, 2, True, True),
        (690, 3, True, False),
        (690, 1, False, False),
        (0, 1, True, False),
    ],
)
def test_a_warning_is_for_windows_alone_and_for_those_whom_more_connections_would_help(
    waiting: int, most: int, is_window_bound: bool, is_warned: bool
) -> None:
    """Where as many are configured as are called for, nothing is advised; some may be on their way out."""
    link = Link(is_window_bound=is_window_bound)
    fleet = fleet_of(link)
    heard(fleet, link, 1.0)
    assert (fleet.note_limit(waiting, most, NOW) is not None) is is_warned


# --- who is slow


def paced(seconds: list[float], reads: int = READS) -> tuple[Fleet, list[Link]]:
    links = [Link() for _ in seconds]
    fleet = fleet_of(*links)
    for link, value in zip(links, seconds, strict=True):
        heard(fleet, link, *[value] * reads)
    return fleet, links


@pytest.mark.parametrize(
    ("seconds", "reads", "state", "is_slow"),
    [
        ([9.0, 0.1, 0.1], READS, OPEN, True),
        ([9.0, 0.1], READS, OPEN, True),
        ([9.0, 5.0, 0.1], READS, OPEN, True),
        ([9.0, 0.1, 0.1], READS - 1, OPEN, False),
        ([9.0, 0.1, 0.1], READS, DRAINING, False),
        ([9.0], READS, OPEN, False),
        ([9.0, 8.0, 8.0], READS, OPEN, False),
        ([1.9, 0.1, 0.1], READS, OPEN, False),
    ],
    ids=[
        "slow",
        "of two",
        "not one of the others",
        "too few reads",
        "leaves already",
        "the only one",
        "all are",
        "quick enough",
    ],
)
def test_one_that_lags_far_behind_the_others_is_named(
    seconds: list[float], reads: int, state: ConnectionState, is_slow: bool
) -> None:
    fleet, links = paced(seconds, reads)
    links[0].state = state
    assert bool(fleet.laggard(cast(Any, links[0]), NOW)) is is_slow


def test_it_takes_some_reads_to_know_its_pace() -> None:
    fleet, _ = paced([0.1, 0.1])
    fresh = Link()
    fleet.add(cast(Any, fresh), NOW)
    heard(fleet, fresh, *[9.0] * (READS - 1))
    assert fleet.laggard(cast(Any, fresh), NOW) == ""
    heard(fleet, fresh, 9.0)
    assert fleet.laggard(cast(Any, fresh), NOW) != ""


def test_one_at_most_is_retired_in_half_a_minute() -> None:
    fleet, links = paced([9.0, 9.0, 0.1, 0.1, 0.1])
    assert "9.0 s" in fleet.laggard(cast(Any, links[0]), NOW)
    assert fleet.laggard(cast(Any, links[1]), NOW + RETIRE_EVERY_S - 1) == ""
    assert fleet.laggard(cast(Any, links[1]), NOW + RETIRE_EVERY_S) != ""


def test_the_mean_leans_towards_the_last_reads() -> None:
    fleet, links = paced([9.0, 0.1, 0.1])
    heard(fleet, links[0], *[0.1] * 12)
    assert fleet.laggard(cast(Any, links[0]), NOW) == "", "it recovered"
