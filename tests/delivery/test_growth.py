"""When more connections are opened, and what is said where none may be."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

import pytest
import structlog

from momentum_push.delivery.apns.options import ConnectionState
from momentum_push.delivery.fleet import PROBE_S, SHUN_S, Fleet
from momentum_push.delivery.growth import Growth
from momentum_push.delivery.sizing import STUCK_S
from tests.helpers.links import Link, heard

NOW = 1000.0
LABELS = ("com.example.news.apns", "default")


@dataclass
class Connector:
    """Opens what it is asked to, or nothing before `ready`."""

    opening: int = 0
    ready: float = 0.0
    asked: list[int] = field(default_factory=list)

    def open(self, count: int) -> int:
        self.asked.append(count)
        return 0 if self.ready else count

    def ready_at(self) -> float:
        return self.ready


@dataclass
class Bench:
    """A growth with a fleet of full connections."""

    links: list[Link]
    connector: Connector = field(default_factory=Connector)

    def __post_init__(self) -> None:
        self.fleet = Fleet()
        self.looks: list[float] = []
        for link in self.links:
            self.fleet.add(cast(Any, link), NOW)
        self.growth = Growth(self.fleet, cast(Any, self.connector), LABELS, self.looks.append)

    def grow(self, waiting: int, most: int = 32, now: float = NOW) -> list[int]:
        """Return how many connections were asked for."""
        self.connector.asked.clear()
        self.growth.grow(waiting, most, now)
        return list(self.connector.asked)


def full(**changes: Any) -> Link:
    return Link(capacity=0, **changes)


def test_the_first_connection_is_opened_at_once_and_one_only() -> None:
    bench = Bench([])
    assert bench.grow(1_000_000) == [1]
    bench.connector.opening = 1
    assert bench.grow(1_000_000) == []


@pytest.mark.parametrize(("serving", "most", "asked"), [(1, 32, [1]), (4, 32, [4]), (4, 5, [1]), (4, 4, [])])
def test_what_serves_is_doubled_up_to_the_limit(serving: int, most: int, asked: list[int]) -> None:
    bench = Bench([full() for _ in range(serving)])
    assert bench.grow(1_000_000, most) == asked


def test_those_that_leave_take_a_place_until_they_are_gone() -> None:
    """`max_outbound_connections` is what Apple sees."""
    bench = Bench([full(), full(state=ConnectionState.DRAINING)])
    assert (bench.grow(1_000_000, 2), bench.growth.is_at_limit(2), bench.growth.is_at_limit(3)) == (
        [],
        True,
        False,
    )


def test_nothing_is_opened_while_somebody_has_room() -> None:
    bench = Bench([full(), Link()])
    assert (bench.grow(1_000_000), bench.looks) == ([], [])


def test_where_no_connect_is_allowed_yet_it_looks_again_when_it_is() -> None:
    bench = Bench([full()], Connector(ready=NOW + 7))
    assert (bench.grow(1_000_000), bench.looks) == ([1], [7.0])


def test_what_will_soon_be_gone_opens_nothing_until_it_is_stuck() -> None:
    bench = Bench([full()])
    heard(bench.fleet, bench.links[0], 0.001)
    assert (bench.grow(5), bench.looks) == ([], [STUCK_S])
    assert bench.grow(5, now=NOW + STUCK_S) == [1]


def test_what_could_be_sent_meanwhile_was_not_stuck() -> None:
    bench = Bench([full()])
    heard(bench.fleet, bench.links[0], 0.001)
    bench.grow(5)
    bench.growth.moved()
    assert bench.grow(5, now=NOW + STUCK_S) == []


def test_a_probe_that_is_late_and_a_pardon_are_waited_for() -> None:
    bench = Bench([full(state=ConnectionState.PROBING)])
    bench.grow(5)
    assert (bench.grow(5, now=NOW + 1), bench.looks[-1]) == ([], PROBE_S - 1)
    bench.fleet.shun(cast(Any, bench.links[0]), NOW)
    bench.grow(5, most=1)
    assert bench.looks[-1] == SHUN_S


def warnings(bench: Bench, waiting: int, times: range) -> list[Any]:
    """Let a queue stand at its limit; return what the operator reads."""
    with structlog.testing.capture_logs() as logs:
        for second in times:
            bench.grow(waiting, len(bench.links), NOW + second)
    return [line for line in logs if line["event"] == "window_limited"]


def test_an_operator_is_told_once_in_five_minutes_how_many_connections_windows_call_for() -> None:
    """apns.md 6.2: a connection carries half a window per round trip, however many streams it may have."""
    bench = Bench([full(is_window_bound=True)])
    heard(bench.fleet, bench.links[0], 1.0)
    lines = warnings(bench, 690, range(900))
    assert len(lines) == 3
    fix = "set max_outbound_connections = 3, or send from nearer to Apple"
    assert lines[0] == {
        "event": "window_limited",
        "log_level": "warning",
        "domain": LABELS[0],
        "binding": LABELS[1],
        "connections": 1,
        "needs": 3,
        "fix": fix,
    }


@pytest.mark.parametrize(
    "link", [full(), full(is_window_bound=True, state=ConnectionState.DRAINING)], ids=["streams", "leaving"]
)
def test_where_windows_do_not_limit_nothing_is_said(link: Link) -> None:
    bench = Bench([link])
    heard(bench.fleet, link, 1.0)
    assert warnings(bench, 690, range(5)) == []
