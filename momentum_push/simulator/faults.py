"""Faults on purpose, as values: what can go wrong, and whom it strikes (apns.md 9.5).

Rules are data; the first one that fits decides. Beside them stands what holds for every connection:
limits, windows, latency, a ceiling, the treatment of abuse, the clock's offset. Not here: choosing
(`picker`), reading the file (`faults_file`; `manual` is the format's description), doing it (`session`
and its parts on a connection, `door` before one).
"""

import enum
import random
from dataclasses import dataclass

from momentum_push.simulator.devices import Device
from momentum_push.simulator.names import NameAnswer

__all__ = [
    "Abuse",
    "Action",
    "Body",
    "CloseMoment",
    "Closing",
    "Debug",
    "Delay",
    "Faults",
    "GoAway",
    "LastStream",
    "LimitWalk",
    "Match",
    "Rule",
    "Shape",
    "Window",
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


class Closing(enum.Enum):
    """How a connection ends."""

    CLEAN = "clean"
    """With TLS close_notify, then FIN."""
    NO_NOTIFY = "no_notify"
    """FIN alone: to TLS, a truncation."""
    RESET = "reset"
    """RST of TCP."""
    HALF = "half"
    """FIN of our direction; the client's goes on being read, and nothing is answered any more."""


class Body(enum.Enum):
    """What an answer has for a body instead of what belongs there."""

    NONE = "none"
    """HEADERS end the stream."""
    EMPTY = "empty"
    """A DATA frame without content."""
    INVALID = "invalid"
    """Begins like JSON, ends in bytes that are no UTF-8."""
    TEXT = "text"
    """No JSON at all."""
    NULL = "null_reason"
    """JSON, with null for a reason."""
    LIST = "list"
    """JSON, but no object."""


@dataclass(frozen=True, slots=True)
class Shape:
    """In which frames an answer comes; each of them legal, none of them usual.

    Attributes:
        body: None leaves the usual one; a 200 gets a body only if one is named.
        pieces: DATA frames that the body is cut into.
        continuations: CONTINUATION frames that the header block is cut into, after HEADERS.
        padding: bytes of it in HEADERS and in each DATA frame; those of DATA count against windows.
        interim: status of a 1xx answer that comes first; 0: none.
    """

    body: Body | None = None
    pieces: int = 1
    has_trailers: bool = False
    continuations: int = 0
    padding: int = 0
    has_priority: bool = False
    interim: int = 0


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
        is_first: at connect, before SETTINGS, which then never come.
    """

    last: LastStream = LastStream.ALL
    debug: Debug = Debug.JSON
    reason: str = "Shutdown"
    code: int = 0
    is_graceful: bool = False
    notice_s: float = 0.05
    is_twice: bool = False
    close: CloseMoment = CloseMoment.DRAINED
    is_first: bool = False


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
    then_reset: int | None = None
    """Code of a second RST_STREAM, after `reset`."""
    closing: Closing = Closing.CLEAN
    limit_for_s: float = 0.0
    """After so long the former limit stands again; 0: it stays."""
    settings: tuple[tuple[int, int], ...] = ()
    """Other SETTINGS to announce: (identifier, value)."""
    shape: Shape | None = None
    shuffle: int = 0
    """Hold the answer until so many are held, or a tenth of a second; then all come, in any order."""
    is_wedge: bool = False
    """The same happens to every later request of the connection."""
    is_pinging: bool = False
    is_window_withheld: bool = False
    """From now on no WINDOW_UPDATE for what the client sends."""
    black_hole_s: float = 0.0
    """After so long without a byte from the client, nothing goes through any more, either way."""
    is_connect_refused: bool = False
    """RST instead of a handshake."""
    handshake_delay_s: float = 0.0
    shut_s: float = 0.0
    """Stop listening for so long; the connection that brought it about is refused."""

    @property
    def is_at_door(self) -> bool:
        """Whether it is done before the handshake."""
        return self.is_connect_refused or self.handshake_delay_s > 0 or self.shut_s > 0


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
    listener: int = 0
    """Ordinal of the address that it came in at; 0: any."""
    verdict: str = ""
    """The reason that the plain verdict has; `Accepted` for a 200."""
    has_new_token: bool = False
    """Only a request whose provider token is another than the connection's before."""
    from_s: float = 0.0
    """Only so long after the start …"""
    until_s: float = 0.0
    """… and before this; 0: for ever."""
    period_s: float = 0.0
    """The two count anew with each period; 0: they do not."""

    def is_time(self, age_s: float) -> bool:
        """Whether `age_s` after the start is within its hours."""
        if self.period_s:
            age_s %= self.period_s
        return age_s >= self.from_s and (not self.until_s or age_s < self.until_s)


@dataclass(frozen=True, slots=True)
class Rule:
    name: str
    match: Match
    action: Action
    is_at_connect: bool = False


@dataclass(frozen=True, slots=True)
class LimitWalk:
    """A stream limit that changes by itself: about every `every_s`, to anything from `least` to `most`."""

    every_s: float
    least: int = 1
    most: int = 1000


@dataclass(frozen=True, slots=True)
class Window:
    """The client's upload windows (apns.md 6.2).

    Attributes:
        initial: SETTINGS_INITIAL_WINDOW_SIZE, of each stream; may be smaller than a body.
        step: WINDOW_UPDATE only when so many bytes are owed; 0: when half of the window is.
    """

    initial: int = 65_535
    step: int = 0


@dataclass(frozen=True, slots=True)
class Abuse:
    """What too eager clients meet (apns.md 6.3, 4.3).

    Attributes:
        connects: a minute, above which all further ones are refused for `refuse_s`; 0: any number.
        bad_tokens: `BadDeviceToken` answers on a connection after which it is closed; 0: any number.
    """

    connects: int = 0
    refuse_s: float = 60.0
    bad_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Faults:
    """All of a fault file.

    Attributes:
        first_limit: MAX_CONCURRENT_STREAMS before a provider token was accepted (apns.md 6.1).
        full_limit: afterwards, and from the start with a certificate.
        rejected_limit: after a rejected push, until one is accepted; None: rejections change nothing.
        has_breach_goaway: a stream over the limit brings GOAWAY with Apple's text besides its reset.
        latency: of every answer, besides what a rule adds.
        rate: answers a second on each connection; 0: as fast as it can.
        clock_offset_s: how far Apple's clock is ahead where the age of a provider token is judged.
        names: what a name server says, to whoever asks `Simulator.names`.
    """

    seed: int = 0
    rules: tuple[Rule, ...] = ()
    devices: tuple[Device, ...] = ()
    first_limit: int = 1
    full_limit: int = 1000
    rejected_limit: int | None = None
    limit_walk: LimitWalk | None = None
    has_breach_goaway: bool = False
    window: Window = Window()
    latency: Delay | None = None
    rate: float = 0.0
    abuse: Abuse = Abuse()
    clock_offset_s: float = 0.0
    names: tuple[NameAnswer, ...] = ()
