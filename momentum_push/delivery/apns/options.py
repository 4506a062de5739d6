"""What a connection is told, and what it says of itself: values, no behaviour."""

from __future__ import annotations

import enum
from dataclasses import dataclass

__all__ = ["ConnectionOptions", "ConnectionState", "Target"]


class ConnectionState(enum.Enum):
    """Where a connection is in its life; see the module's head."""

    CONNECTING = "connecting"
    PROBING = "probing"
    OPEN = "open"
    DRAINING = "draining"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class Target:
    """One place to connect to."""

    host: str
    """Name for `:authority`, SNI and the check of the certificate."""
    port: int
    address: str
    """IP address to connect to, resolved for this one connect (apns.md 6.6)."""
    verify_name: str = ""
    """The name instead of `host`, where the route says `?verify_name=`: the peer stands for it."""

    @property
    def name(self) -> str:
        """The name that the peer must prove."""
        return self.verify_name or self.host

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}" + ("" if self.host == self.address else f" ({self.address})")


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
    busy_ping_interval_s: float = 10.0
    ping_timeout_s: float = 10.0
