"""What a connection is told, and what it says of itself: values, no behaviour."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

__all__ = ["ConnectionOptions", "ConnectionState", "Proxy", "Target", "WireOptions", "bracketed"]


class ConnectionState(enum.Enum):
    """Where a connection is in its life; see the module's head."""

    CONNECTING = "connecting"
    PROBING = "probing"
    OPEN = "open"
    DRAINING = "draining"
    CLOSED = "closed"


def bracketed(host: str) -> str:
    """Return a host as it stands before a port: IPv6 addresses in brackets."""
    return f"[{host}]" if ":" in host else host


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy that is asked to CONNECT; no text of it shows the password."""

    host: str
    """Name or IP address, lower-case, no brackets; resolved for each connect."""
    port: int
    user: str = ""
    password: str = field(default="", repr=False)

    def __str__(self) -> str:
        return f"{bracketed(self.host)}:{self.port}"


@dataclass(frozen=True, slots=True)
class Target:
    """One place to connect to."""

    host: str
    """Name for `:authority`, SNI and the check of the certificate."""
    port: int
    address: str
    """IP address to connect to, resolved for this one connect (apns.md 6.6); with a proxy, the proxy's."""
    verify_name: str = ""
    """The name instead of `host`, where the route says `?verify_name=`: the peer stands for it."""
    proxy: Proxy | None = None
    """It is given `host` as it is, and resolves it."""

    @property
    def name(self) -> str:
        """The name that the peer must prove."""
        return self.verify_name or self.host

    def __str__(self) -> str:
        address = "" if self.address in (self.host, self.proxy and self.proxy.host) else f" ({self.address})"
        via = f" through proxy {self.proxy}" if self.proxy else ""
        return f"{bracketed(self.host)}:{self.port}{via}{address}"


@dataclass(frozen=True, slots=True)
class ConnectionOptions:
    """Times in seconds; what the configuration says for one (binding, domain)."""

    connect_timeout_s: float = 10.0
    response_timeout_s: float = 30.0
    idle_timeout_s: float = 3600.0
    """0: kept."""
    ping_interval_s: float = 60.0
    """0: no PING while idle."""
    max_streams: int = 1000
    max_deliveries: int = 0
    """0: no limit."""
    max_age_s: float = 0.0
    """It is replaced at 75 to 100 % of this; 0: never."""
    auto_collapse: bool = False
    """Alerts without a collapse id get one of their own."""
    busy_ping_interval_s: float = 10.0
    ping_timeout_s: float = 10.0


@dataclass(frozen=True, slots=True)
class WireOptions:
    """What one connection's wire needs to know."""

    authority: str
    response_timeout_s: float = 30.0
    max_streams: int = 1000
    auto_collapse: bool = False
    max_deliveries: int = 0
    """Requests after which the connection drains; 0: no limit."""
    is_probing: bool = True
    """One request alone first; for provider tokens."""
    epoch: float = 0.0
    """Wall clock minus monotonic, for dates in answers."""
