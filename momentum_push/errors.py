"""Every error of the program on one page; the type says whose fault it is.

    MomentumPushError
    ├── ConfigError        the operator's: conf files, keys, certificates, the command line
    ├── InjectionError     the sender's: a message or request that we refuse
    ├── ProtocolError      the peer's: APNs (or a proxy before it) broke HTTP/2 or TLS
    ├── ConnectError       nobody's in particular: no connection could be made
    ├── SpoolError         the disk's
    │   ├── SpoolFull      … has no room; passes by itself when room is made
    │   ├── SpoolDamaged   … has a damaged database; the next start salvages it
    │   └── SpoolInUse     … another daemon holds it
    ├── LogError           a record could not be written; nothing may be removed from the spool
    └── ScriptError        the operator's hook raised

Outcomes of deliveries are not errors: they are data (`message.disposition`). All errors carry plain
values, so this module imports nothing of ours. Texts read `where: what; how to fix`, on one line.
"""

from collections.abc import Iterable
from typing import NamedTuple

__all__ = [
    "ConfigError",
    "ConnectError",
    "InjectionError",
    "LogError",
    "MomentumPushError",
    "Place",
    "Problem",
    "ProtocolError",
    "ScriptError",
    "SpoolDamaged",
    "SpoolError",
    "SpoolFull",
    "SpoolInUse",
]


class MomentumPushError(Exception):
    """Base of all errors that this program raises on purpose."""


class Place(NamedTuple):
    """A position in a conf file; lines and columns count from 1, 0 means "the file as a whole"."""

    file: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}" if self.line else self.file


class Problem(NamedTuple):
    """One thing that is wrong (or, as a warning, doubtful) in the configuration.

    Sorts by place, so that a list of problems reads like the file does.
    """

    place: Place
    what: str
    fix: str = ""
    is_warning: bool = False

    def __str__(self) -> str:
        kind = "warning: " if self.is_warning else ""
        fix = f"; {self.fix}" if self.fix else ""
        return f"{self.place}: {kind}{self.what}{fix}"


class ConfigError(MomentumPushError):
    """The configuration cannot be used; `problems` holds all that was found in one run, sorted.

    `partial` is what could be read of it, for those who want to find more that is wrong; None when
    it is too little to judge by.
    """

    def __init__(self, problems: Iterable[Problem], partial: object = None) -> None:
        self.problems = sorted(problems)
        self.partial = partial
        super().__init__("\n".join(str(problem) for problem in self.problems))


class InjectionError(MomentumPushError):
    """A message or request is refused.

    Attributes:
        error: Apple's reason word where one fits (`BadDeviceToken`), else a word of ours in its manner.
        detail: what is wrong and where, for the sender; no paths, no versions, tokens shortened.
    """

    def __init__(self, error: str, detail: str) -> None:
        self.error = error
        self.detail = detail
        super().__init__(f"{error}: {detail}")


class ProtocolError(MomentumPushError):
    """The peer broke the protocol; the connection is of no more use."""


class ConnectError(MomentumPushError):
    """No connection to the peer: name, TCP, TLS, ALPN or SETTINGS failed within the deadline."""


class SpoolError(MomentumPushError):
    """The spool cannot be read or written."""


class SpoolFull(SpoolError):
    """The spool has no room left; input is refused until there is some."""


class SpoolDamaged(SpoolError):
    """The database does not hold together; the next start saves what can be read of it."""


class SpoolInUse(SpoolError):
    """Another process has the spool open."""


class LogError(MomentumPushError):
    """A record could not be written to its log file."""


class ScriptError(MomentumPushError):
    """A policy script failed; the message goes on."""
