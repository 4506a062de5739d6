"""What stands before the simulator's rules: a request, the connection's memory of earlier ones, the policy.

Values only; what is right and wrong about them is said in `rules`.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

from momentum_push.simulator.certificates import ProviderCertificate
from momentum_push.simulator.provider import ProviderKey, ProviderToken

__all__ = ["ACCEPTED", "DEVICE_PATH", "PUSH_TYPES", "Peer", "Policy", "Request", "Verdict", "read_request"]

PUSH_TYPES = frozenset(
    (
        "alert",
        "background",
        "voip",
        "complication",
        "fileprovider",
        "mdm",
        "location",
        "liveactivity",
        "pushtotalk",
        "widgets",
        "controls",
    )
)
DEVICE_PATH = "/3/device"

_UUID = re.compile(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")


class Verdict(NamedTuple):
    """An answer: status, Apple's reason word, and with 410 the time of death in milliseconds."""

    status: int
    reason: str = ""
    timestamp: int = 0


ACCEPTED = Verdict(200)


@dataclass(slots=True)
class Request:
    """A request as it came, nothing checked; absent headers are None."""

    method: str = "POST"
    path: str = ""
    authorization: str | None = None
    message_id: str | None = None
    topic: str | None = None
    push_type: str | None = None
    priority: str | None = None
    expiration: str | None = None
    collapse_id: str | None = None
    has_repeated_header: bool = False
    body: bytes = b""
    token: str = field(init=False)
    """What stands in the path behind `/3/device/`; empty when nothing does."""

    def __post_init__(self) -> None:
        path = self.path
        self.token = path[len(DEVICE_PATH) + 1 :] if path.startswith(DEVICE_PATH + "/") else ""

    @property
    def sound_message_id(self) -> str:
        """The `apns-id` that was given, when it is one."""
        given = self.message_id
        return given if given is not None and _UUID.fullmatch(given) else ""


_HEADERS = (  # in the order of Request's attributes
    b":method",
    b":path",
    b"authorization",
    b"apns-id",
    b"apns-topic",
    b"apns-push-type",
    b"apns-priority",
    b"apns-expiration",
    b"apns-collapse-id",
)


def read_request(names: tuple[bytes, ...], values: Sequence[bytes]) -> Request:
    """Gather a request from its header fields; of a repeated one the last counts."""
    has_repeated, places = _layout(names)
    given = [None if place is None else values[place].decode("latin-1") for place in places]
    method, path, authorization, message_id, topic, push_type, priority, expiration, collapse_id = given
    return Request(
        method or "",
        path or "",
        authorization,
        message_id,
        topic,
        push_type,
        priority,
        expiration,
        collapse_id,
        has_repeated,
    )


@lru_cache(maxsize=256)
def _layout(names: tuple[bytes, ...]) -> tuple[bool, tuple[int | None, ...]]:
    """Return where each header stands among `names`, and whether one of them does so twice."""
    last = {name: place for place, name in enumerate(names)}
    has_repeated = any(names.count(name) > 1 for name in names if name in _HEADERS or name[:5] == b"apns-")
    return has_repeated, tuple(last.get(name) for name in _HEADERS)


@dataclass(slots=True)
class Peer:
    """What a connection remembers from one request to the next (apns.md 5.4)."""

    certificate: ProviderCertificate | None = None
    authorization: str = ""
    """The JWT in use, as the header had it."""
    credential: ProviderToken | None = None
    """… and as it was read."""
    changed_at: float = 0.0
    """When it was first seen here."""
    last_seen: str = ""
    """The JWT of the last request; differs from the one in use after a change that came too soon."""
    token_changes: list[float] = field(default_factory=list)
    """Times at which the JWT changed, allowed or not."""
    poison: Verdict | None = None
    key: ProviderKey | None = None
    """Of the first accepted push."""
    has_proved: bool = False
    """Whether a JWT was accepted here: the stream limit rises."""


@dataclass(frozen=True, slots=True)
class Policy:
    """The switches of the simulator's judgement; defaults are what is known of Apple (apns.md 9.2)."""

    order: tuple[str, ...] = ()
    """Names of steps; empty: those of `profile`."""
    profile: str = "apple"
    environment: str = "production"
    keys: Mapping[str, ProviderKey] = field(default_factory=dict)
    """By key id; empty: every well-formed ES256 token is believed."""
    topics: frozenset[str] = frozenset()
    """That a team's keys may push to, suffixes aside; empty: any."""
    token_life_s: float = 3600.0
    token_change_s: float = 1200.0
    clock_offset_s: float = 0.0
    """How far the clock that a JWT's age is judged by is ahead of the simulator's own."""
    poisons: frozenset[str] = frozenset({"ExpiredProviderToken", "TooManyProviderTokenUpdates"})
    other_team_reason: str = "Forbidden"
    wrong_environment_reason: str = "BadEnvironmentKeyInToken"
    push_types: frozenset[str] = PUSH_TYPES
    is_background_10_bad: bool = True
    max_payload: int = 4096
    max_voip_payload: int = 5120
