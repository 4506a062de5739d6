"""Faults on purpose: which request or connection gets one, and what it is (apns.md 9.5).

Rules are data; the first one that fits decides. Lives here: what rules are, and who is struck
(`FaultPicker`). Not here: reading the file (`faults_file`, whose text is the format's manual), and
doing it (`connection`). Every chance is drawn from a generator of the rule's own, seeded with the
file's seed and the rule's place, so that a run can be repeated and a new rule does not disturb the
others.
"""

import enum
import random
from collections import Counter
from dataclasses import dataclass, field

from momentum_push.simulator.devices import Device
from momentum_push.simulator.request import Request

__all__ = [
    "Action",
    "CloseMoment",
    "Debug",
    "Delay",
    "FaultPicker",
    "Faults",
    "GoAway",
    "LastStream",
    "Match",
    "Rule",
    "Strike",
]


class LastStream(enum.Enum):
    """Which of the requests in flight a GOAWAY still lets pass."""

    ALL = "all"
    MIDDLE = "middle"
    NONE = "none"


class Debug(enum.Enum):
    """What stands in a GOAWAY's debug data (apns.md 6.4)."""

    JSON = "json"
    TEXT = "text"
    EMPTY = "empty"
    INVALID = "invalid"


class CloseMoment(enum.Enum):
    """When the socket closes after a GOAWAY."""

    DRAINED = "drained"
    NOW = "now"
    NEVER = "never"


@dataclass(frozen=True, slots=True)
class Delay:
    """How long an answer takes: `seconds` exactly, or log-normal around them as median."""

    seconds: float
    sigma: float = 0.0

    def draw(self, chance: random.Random) -> float:
        """Return seconds; the tail is cut at a hundred medians."""
        if not self.sigma:
            return self.seconds
        return min(self.seconds * chance.lognormvariate(0.0, self.sigma), self.seconds * 100)


@dataclass(frozen=True, slots=True)
class GoAway:
    """A GOAWAY.

    Attributes:
        last: the highest stream that is answered; graceful ones announce 2^31-1 first, whatever it says.
        reason: Apple's word in JSON debug data.
        notice_s: between the two frames of a graceful one.
        is_twice: the (last) frame is sent twice.
    """

    last: LastStream = LastStream.ALL
    debug: Debug = Debug.JSON
    reason: str = "Shutdown"
    code: int = 0
    is_graceful: bool = False
    notice_s: float = 0.05
    is_twice: bool = False
    close: CloseMoment = CloseMoment.DRAINED


@dataclass(frozen=True, slots=True)
class Action:
    """What happens; what is left out happens as always. Several may be said at once.

    `delay` comes first, and the request is decided after it; then at most one of `goaway`, `is_close`,
    `reset`, `is_silent` and `status`, in this order, takes the place of the answer. `is_processed`
    counts the request as accepted, at once, although no answer (or another one) is given.
    """

    delay: Delay | None = None
    status: int = 0
    reason: str = ""
    timestamp: float | None = None
    """Epoch seconds; answered in milliseconds."""
    retry_after: str = ""
    is_silent: bool = False
    reset: int | None = None
    goaway: GoAway | None = None
    is_close: bool = False
    is_processed: bool = False
    limit: int | None = None
    """New MAX_CONCURRENT_STREAMS of the connection."""
    is_deaf: bool = False
    """Stop reading from the socket."""
    is_ping_ignored: bool = False
    is_hanging: bool = False
    """Accept the connection and send nothing, not even SETTINGS."""


@dataclass(frozen=True, slots=True)
class Match:
    """Whom a rule strikes. The counting ones (`nth`, `every`, `after`) count what fits the others."""

    token: str = ""
    """Beginning of the device token, lower case."""
    topic: str = ""
    push_type: str = ""
    connection: int = 0
    """Ordinal, 1 is the first that was opened; 0: any."""
    nth: int = 0
    every: int = 0
    after: int = 0
    """Only from the one behind this many."""
    times: int = 0
    """At most so often; 0: no limit."""
    probability: float = 1.0
    is_per_connection: bool = False
    """Count on each connection by itself."""


@dataclass(frozen=True, slots=True)
class Rule:
    name: str
    match: Match
    action: Action
    is_at_connect: bool = False


@dataclass(frozen=True, slots=True)
class Faults:
    """All of a fault file.

    Attributes:
        first_limit: MAX_CONCURRENT_STREAMS before a provider token was accepted (apns.md 6.1).
        full_limit: afterwards, and from the start with a certificate.
    """

    seed: int = 0
    rules: tuple[Rule, ...] = ()
    devices: tuple[Device, ...] = ()
    first_limit: int = 1
    full_limit: int = 1000


@dataclass(frozen=True, slots=True)
class Strike:
    """A rule that fits: its name for the ledger, its action, and the delay that was drawn."""

    name: str
    action: Action
    delay_s: float = 0.0


@dataclass(slots=True)
class _Count:
    """What one rule has seen; keyed by connection, 0 where all count together."""

    chance: random.Random
    seen: Counter[int] = field(default_factory=Counter)
    struck: int = 0


class FaultPicker:
    """Goes through the rules for each request and each connection; remembers counts, nothing else."""

    def __init__(self, faults: Faults) -> None:
        at_connect = [(rule, self._count(faults, place)) for place, rule in enumerate(faults.rules)]
        self._connect = [pair for pair in at_connect if pair[0].is_at_connect]
        self._request = [pair for pair in at_connect if not pair[0].is_at_connect]

    def on_connect(self, connection: int) -> Strike | None:
        """Return what shall happen to a new connection (its ordinal, from 1)."""
        for rule, count in self._connect:
            if rule.match.connection in (0, connection) and _is_due(rule.match, count, 0):
                return _strike(rule, count)
        return None

    def on_request(self, request: Request, connection: int) -> Strike | None:
        """Return what shall happen to a request; None: the plain verdict."""
        for rule, count in self._request:
            match = rule.match
            if _fits(match, request, connection):
                key = connection if match.is_per_connection else 0
                if _is_due(match, count, key):
                    return _strike(rule, count)
        return None

    @staticmethod
    def _count(faults: Faults, place: int) -> _Count:
        return _Count(random.Random(f"{faults.seed}/{place}"))


def _fits(match: Match, request: Request, connection: int) -> bool:
    return (
        match.connection in (0, connection)
        and (not match.token or request.token.lower().startswith(match.token))
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
