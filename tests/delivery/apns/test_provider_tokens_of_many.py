"""Provider tokens of many connections and processes with wrong clocks, by Apple's rules (apns.md 5).

A model: 800 connections of five processes with one key, over six hours of Apple's time. Each process
has a wall clock with an offset, drift and steps, and a clock that does not jump but drifts as well; each
request is on its way for a while. The simulator's judgement stands for Apple.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

import pytest

from momentum_push.delivery.apns import provider_token
from momentum_push.delivery.apns.provider_token import ProviderKey
from momentum_push.simulator.devices import Devices
from momentum_push.simulator.request import Peer, Policy, Request
from momentum_push.simulator.rules import judge
from tests.helpers.peer import apple_key

START = 1_800_000_700.0
HOURS = 6
CONNECTIONS = 800
PROCESSES = 5
DRIFT = 2e-4
"""Seconds a second: a bad quartz."""
LONGEST_WAY_S = 5.0


class Process:
    """One daemon with the key and clocks of its own."""

    def __init__(self, chance: random.Random, skew_s: float, steps: int) -> None:
        self.key = ProviderKey(apple_key(), "ABC1234567", "TEAM123456")
        self._skew_s = skew_s
        self._drift = chance.uniform(-DRIFT, DRIFT)
        self._started = chance.uniform(0, 1e6)
        moments = sorted(chance.uniform(0, HOURS * 3600) for _ in range(steps))
        self._offsets = [(0.0, chance.uniform(-skew_s, skew_s))]
        self._offsets += [(moment, chance.uniform(-skew_s, skew_s)) for moment in moments]

    def monotonic(self, at: float) -> float:
        return self._started + at * (1 + self._drift)

    def wall(self, at: float) -> float:
        """Off by no more than the skew: what keeps it right sets it anew at each step."""
        set_at, offset = max(item for item in self._offsets if item[0] <= at)
        drifted = offset + (at - set_at) * self._drift
        return START + at + max(-self._skew_s, min(self._skew_s, drifted))


@dataclass
class Found:
    """What Apple saw."""

    accepted: int = 0
    refused: dict[str, int] = field(default_factory=dict)
    replaced: int = 0
    changes: int = 0
    uses: dict[str, tuple[float, float]] = field(default_factory=dict)
    """First and last arrival of each token."""

    @property
    def most_alive(self) -> int:
        """How many tokens were in use at once."""
        starts = [first for first, _ in self.uses.values()]
        return max(sum(first <= at <= last for first, last in self.uses.values()) for at in starts)


def run(skew_s: float, steps: int, seed: int = 20260105, connections: int = CONNECTIONS) -> Found:
    chance = random.Random(seed)
    processes = [Process(chance, skew_s, steps) for _ in range(PROCESSES)]
    found = Found()
    for number in range(connections):
        send(processes[number % PROCESSES], chance, found)
    return found


def send(process: Process, chance: random.Random, found: Found) -> None:
    """Play the life of one connection, and of those that take its place."""
    at = chance.uniform(0, (HOURS - 1) * 3600)
    ends = min(at + chance.expovariate(1 / 7200), HOURS * 3600)
    pace = 1 / chance.choice((30.0, 300.0, 300.0, 300.0, 900.0))
    peer, held, arrived = Peer(), None, 0.0
    while at < ends:
        held = process.key.renew(held, process.wall(at), process.monotonic(at))
        if held is None:
            peer, found.replaced = Peer(), found.replaced + 1
            continue
        arrived = max(arrived, START + at + chance.uniform(0, LONGEST_WAY_S))
        deliver(held.value.decode(), peer, arrived, found)
        at += chance.expovariate(pace)
    found.changes += len(peer.token_changes)


def deliver(authorization: str, peer: Peer, arrived: float, found: Found) -> None:
    request = Request(
        path="/3/device/" + "ab" * 32, authorization=authorization, topic="com.example.news", body=b"{}"
    )
    verdict = judge(request, peer, Policy(), DEVICES, arrived)
    if verdict.status == 200:
        found.accepted += 1
    else:
        found.refused[verdict.reason] = found.refused.get(verdict.reason, 0) + 1
    first, last = found.uses.get(authorization, (arrived, arrived))
    found.uses[authorization] = (min(first, arrived), max(last, arrived))


DEVICES = Devices([])


@pytest.mark.parametrize(
    ("skew_s", "steps"),
    [(0.0, 0), (240.0, 0), (30.0, 40), (240.0, 6)],
    ids=["right clocks", "offsets and drift", "small steps", "large steps"],
)
def test_no_change_within_20_minutes_none_over_an_hour_and_two_alive_at_most(
    skew_s: float, steps: int
) -> None:
    """Clocks within four minutes of Apple's, which is far worse than NTP."""
    found = run(skew_s, steps)
    assert found.refused == {}
    assert found.accepted > 10 * CONNECTIONS
    assert found.changes > CONNECTIONS // 2, "or the model shows nothing"
    assert found.most_alive <= 2


def test_clocks_that_are_wrong_by_nine_minutes_are_still_accepted() -> None:
    found = run(540.0, 6)
    assert found.refused == {}
    assert found.replaced > 0


BROKEN: list[tuple[str, dict[str, Any]]] = [
    ("TooManyProviderTokenUpdates", {"MIN_CHANGE_S": 300}),
    ("ExpiredProviderToken", {"MAX_AGE_S": 3700, "LAST_AGE_S": 3800}),
    ("too many alive", {"SLOT_S": 600}),
    ("too many alive", {"slot_of": int}),
]


@pytest.mark.parametrize(("fault", "changes"), BROKEN)
def test_the_model_sees_a_rule_that_is_broken(
    fault: str, changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in changes.items():
        monkeypatch.setattr(provider_token, name, value)
    found = run(240.0, 6, connections=CONNECTIONS // 2)
    assert fault in found.refused or (fault == "too many alive" and found.most_alive > 2)
