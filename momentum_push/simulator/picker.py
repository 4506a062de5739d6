"""Whom a fault strikes: goes through the rules for each request and each connection.

It remembers counts, nothing else. Every chance is drawn from a generator of the rule's own, seeded with the
file's seed and the rule's place, so that a run can be repeated and a new rule does not disturb the
others. What fits is looked at in three moments: before the handshake (`on_accept`), after it
(`on_connect`), and for every complete request.
"""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from momentum_push.simulator.faults import Action, Faults, Match, Rule
from momentum_push.simulator.request import ACCEPTED, Request, Verdict

__all__ = ["PLAIN", "FaultPicker", "Strike"]


@dataclass(frozen=True, slots=True)
class Strike:
    """A rule that fits: its name for the ledger, its action, and the delay that was drawn."""

    name: str
    action: Action
    delay_s: float = 0.0


PLAIN = Strike("", Action())
"""What happens to a request that no rule is about."""


@dataclass(slots=True)
class _Count:
    """What one rule has seen; keyed by connection, 0 where all count together."""

    chance: random.Random
    seen: Counter[int] = field(default_factory=Counter)
    struck: int = 0


_Pairs = Sequence[tuple[Rule, _Count]]


class FaultPicker:
    """The rules of a file with their counts."""

    def __init__(self, faults: Faults) -> None:
        pairs = [(rule, self._count(faults, place)) for place, rule in enumerate(faults.rules)]
        self._door = [pair for pair in pairs if pair[0].action.is_at_door]
        self._connect = [pair for pair in pairs if pair[0].is_at_connect and pair not in self._door]
        self._request = [pair for pair in pairs if not pair[0].is_at_connect and pair not in self._door]

    def on_accept(self, number: int, listener: int = 1, age_s: float = 0.0) -> Strike | None:
        """Return what shall happen before the handshake of the `number`th connect (from 1)."""
        return self._on_connection(self._door, number, listener, age_s)

    def on_connect(self, connection: int, listener: int = 1, age_s: float = 0.0) -> Strike | None:
        """Return what shall happen to a new connection (its ordinal, from 1)."""
        return self._on_connection(self._connect, connection, listener, age_s)

    def on_request(
        self,
        request: Request,
        connection: int,
        listener: int = 1,
        age_s: float = 0.0,
        *,
        verdict: Verdict = ACCEPTED,
        has_new_token: bool = False,
    ) -> Strike | None:
        """Return what shall happen to a request; None: the plain verdict."""
        for rule, count in self._request:
            match = rule.match
            if not _fits_place(match, connection, listener, age_s) or not _fits(match, request):
                continue
            if match.verdict not in ("", verdict.reason or "Accepted") or match.has_new_token > has_new_token:
                continue
            if _is_due(match, count, connection if match.is_per_connection else 0):
                return _strike(rule, count)
        return None

    @staticmethod
    def _on_connection(pairs: _Pairs, number: int, listener: int, age_s: float) -> Strike | None:
        for rule, count in pairs:
            if _fits_place(rule.match, number, listener, age_s) and _is_due(rule.match, count, 0):
                return _strike(rule, count)
        return None

    @staticmethod
    def _count(faults: Faults, place: int) -> _Count:
        return _Count(random.Random(f"{faults.seed}/{place}"))


def _fits_place(match: Match, connection: int, listener: int, age_s: float) -> bool:
    return match.connection in (0, connection) and match.listener in (0, listener) and match.is_time(age_s)


def _fits(match: Match, request: Request) -> bool:
    return (
        (not match.token or request.token.lower().startswith(match.token))
        and (not match.topic or request.topic == match.topic)
        and (not match.push_type or request.push_type == match.push_type)
    )


def _is_due(match: Match, count: _Count, key: int) -> bool:
    count.seen[key] += 1
    number = count.seen[key]
    if match.nth and number != match.nth:
        return False
    if number <= match.after or (match.every and (number - match.after) % match.every):
        return False
    if match.times and count.struck >= match.times:
        return False
    return match.probability >= 1.0 or count.chance.random() < match.probability


def _strike(rule: Rule, count: _Count) -> Strike:
    count.struck += 1
    delay = rule.action.delay
    return Strike(rule.name, rule.action, delay.draw(count.chance) if delay else 0.0)
