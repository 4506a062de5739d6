"""What the loggers record beside messages and dispositions, and the seam that every logger fills."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from momentum_push.message import Disposition, Message

__all__ = ["Authentication", "RecordLogger", "Rejection"]


class Rejection(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An injection, or a part of one, refused at a door: a line of the rejectlog (momentum.md 8.2)."""

    text: str
    """What the client was told, without its code."""
    code: int
    """The SMTP or HTTP status."""
    peer: str = ""
    """`ip:port` of the client."""
    listener: str = ""
    """`ip:port` on which it came in."""
    conn_id: str = ""
    pathway: str = ""
    pathway_group: str = ""
    phase: str = ""
    """Where it happened: `connect`, `ehlo`, `mailfrom`, `rcptto`, `data`, `http`."""
    module: str = ""
    """Who refused: a module, a script or `core`."""
    conn_context: dict[str, str] = msgspec.field(default_factory=dict)
    mess_context: dict[str, str] = msgspec.field(default_factory=dict)
    protocol: str = ""
    error: str = ""
    """Apple's reason word where one fits."""


class Authentication(msgspec.Struct, frozen=True, gc=False):
    """An attempt to log in at a listener: a line of the acctlog (momentum.md 8.2)."""

    listener: str
    peer: str
    user: str
    is_accepted: bool


class RecordLogger(Protocol):
    """One configured logger. Every method that writes raises LogError as `Sink.write` does:
    the record was taken and will be written by a later call or `Sink.flush`, exactly once."""

    name: str
    heartbeat_s: float
    """Seconds between heartbeats; 0: none."""

    def receptions(self, now: float, messages: Sequence[Message]) -> None:
        """Messages were put into the spool."""

    def dispositions(self, now: float, items: Sequence[Disposition]) -> None:
        """Attempts ended; returns after `write()`."""

    def rejection(self, now: float, rejection: Rejection) -> None:
        """An injection was refused."""

    def authentication(self, now: float, authentication: Authentication) -> None:
        """Somebody logged in, or failed to."""

    def panic(self, now: float, module: str, text: str) -> None:
        """Something is wrong with the daemon itself."""

    def heartbeat(self, now: float) -> None:
        """`heartbeat_s` have passed."""

    def reopen(self) -> None:
        """Close the files and open them by name again, after rotation."""

    def close(self) -> None:
        """Write what is left and close the files."""
