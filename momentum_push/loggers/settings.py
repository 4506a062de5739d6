"""What the loggers ask of the configuration, and Momentum's defaults for them (momentum.md 8.1, 8.2).

The option table of the configuration knows the defaults too; they are repeated here for options that
it leaves to the module, and as what the documented strings are compared with in the tests.
"""

from collections.abc import Sequence
from typing import Any, Protocol

from momentum_push.errors import Place, Problem
from momentum_push.loggers.file import plain_path

__all__ = ["DEFAULTS", "Configuration", "Settings", "file_problems", "place", "setting"]

_FOLDER = "/var/log/ecelerity/"

_APN_LOGGER: dict[str, Any] = {
    "concurrency": 1,
    "heartbeat": 60,
    "log_delivery": True,
    "log_permfail": True,
    "log_tempfail": True,
    "log_delivery_format": '%t@D@%i@"%sa"@"%da"@%d@%g@%b@%H@%B@%ti',
    "log_permfail_format": "%t@P@%i@%sa@%da@%d@%g@%b@%H@%S@%e",
    "log_tempfail_format": '%t@T@%i@"%sa"@"%da"@%d@%g@%b@%H@%B@%ti@%S@%e',
    "log_heartbeat_format": "%t@M",
    "logfile": _FOLDER + "apnlog.ec",
    "logmode": 0o644,
    "namespace": "apn_logger,sieve,custom_logger",
    "thread_pool": "",
}

_STAGES: dict[str, Any] = {
    "heartbeat": 60,
    "log_receptions": True,
    "log_deliveries": True,
    "log_transient_failures": True,
    "log_permanent_failures": True,
    "log_rejections": True,
    "log_errors": True,
}

_EC_LOGGER = _STAGES | {
    "mainlog": _FOLDER + "mainlog.ec",
    "rejectlog": _FOLDER + "rejectlog.ec",
    "paniclog": _FOLDER + "paniclog.ec",
    "acctlog": _FOLDER + "acctlog.ec",
    "mainlog_mode": 0o644,
    "rejectlog_mode": 0o644,
    "paniclog_mode": 0o644,
    "acctlog_mode": 0o644,
    "log_hires_timestamp": False,
}

_JSON_LOGGER = _STAGES | {
    "logfile": _FOLDER + "records.json",
    "logmode": 0o644,
    "log_device_tokens": False,
}

DEFAULTS: dict[str, dict[str, Any]] = {
    "apn_logger": _APN_LOGGER,
    "ec_logger": _EC_LOGGER,
    "json_logger": _JSON_LOGGER,
}
"""Kind of logger -> option -> value."""


class Settings(Protocol):
    """The resolved view of one logger's stanza."""

    @property
    def name(self) -> str: ...
    @property
    def instance(self) -> str: ...
    @property
    def place(self) -> Place: ...
    def __getitem__(self, option: str) -> Any: ...
    def origin(self, option: str) -> Place | None: ...


class Configuration(Protocol):
    """What is asked of the configuration as a whole."""

    @property
    def glob(self) -> Any: ...
    def modules(self, kind: str) -> Sequence[Any]: ...


def setting(scope: Settings, kind: str, option: str) -> Any:
    """Return the effective value of an option, or Momentum's default where the table leaves it to us."""
    try:
        return scope[option]
    except KeyError:
        return DEFAULTS[kind][option]


def place(scope: Settings, option: str) -> Place:
    """Return where an option was written, or its stanza."""
    return scope.origin(option) or scope.place


def file_problems(scope: Settings, kind: str, options: Sequence[str]) -> list[Problem]:
    """Report log destinations that are no files; whether a file can be written is found at start."""
    problems = []
    for option in options:
        try:
            plain_path(setting(scope, kind, option))
        except ValueError as error:
            problems.append(Problem(place(scope, option), str(error), "name a file"))
    return problems
