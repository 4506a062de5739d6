"""Everything that can be said about a configuration before it is used: what `check`, start and reload call.

No network I/O, and nothing is changed. A spool or log folder that is missing is not looked for here:
`serve` reports it (interfaces.md 1).
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from momentum_push.clock import Clock, SystemClock
from momentum_push.config import Config
from momentum_push.daemon import privileges
from momentum_push.delivery.settings import SettingsReader
from momentum_push.errors import ConfigError, Place, Problem
from momentum_push.injection import doors
from momentum_push.loggers import validate as validate_loggers
from momentum_push.message.reasons import ReasonTable

__all__ = ["read_reasons", "validate"]

_UNSERVED = {
    "capabilities": "port 25 is opened before root is given up; under systemd see AmbientCapabilities=",
    "default_binding": "messages without a binding are delivered by the default one",
    "exclude_vctx_conn": "all context variables are spooled",
    "exclude_vctx_mess": "all context variables are spooled",
    "scope_max_outbound_connections": "use max_outbound_connections",
    "server_max_outbound_connections": "use max_outbound_connections",
}
"""Options of a later version: where one is set, the operator should know that it does nothing yet."""

_OFF: tuple[object, ...] = (0, -1, "", "false", "normal", [])
"""Values that ask for nothing."""


def validate(config: Config, clock: Clock | None = None) -> list[Problem]:
    """Return what every room finds wrong with a configuration, sorted by place."""
    problems = validate_loggers(config) + doors.validate(config) + _unserved(config)
    problems += privileges.validate(config)
    problems += SettingsReader(config, clock or SystemClock()).problems()
    try:
        read_reasons(config)
    except ConfigError as error:
        problems += error.problems
    return sorted(set(problems))


def read_reasons(config: Config) -> ReasonTable:
    """Read the built-in reason table, and the operator's rows over it.

    Raises:
        ConfigError: `apn_reasons_file` cannot be read, or a row of it is wrong.
    """
    built_in = resources.files("momentum_push.message").joinpath("reasons.yaml").read_text("utf-8")
    path = config.glob["apn_reasons_file"]
    if not path:
        return ReasonTable.parse(built_in)
    try:
        overrides = Path(path).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        place = config.glob.origin("apn_reasons_file") or Place(str(config.path))
        cause = error.strerror if isinstance(error, OSError) else "not UTF-8"
        what = f'apn_reasons_file "{path}" cannot be read ({str(cause).lower()})'
        raise ConfigError([Problem(place, what, "check the path and its mode")]) from error
    return ReasonTable.parse(built_in, overrides, overrides_name=path)


def _unserved(config: Config) -> list[Problem]:
    """Warn of options that are read and not obeyed yet."""
    scopes = [
        config.glob,
        *config.modules("security"),
        *(config.outbound(*key) for key in SettingsReader(config, SystemClock()).queues()),
    ]
    found: dict[Problem, None] = {}
    for scope in scopes:
        for option, fix in _UNSERVED.items():
            place = scope.origin(option) if _knows(scope, option) else None
            if place is not None and scope[option] not in _OFF:
                found[Problem(place, f'"{option}" is not served by this version', fix, True)] = None
    return list(found)


def _knows(scope: object, option: str) -> bool:
    try:
        scope[option]  # type: ignore[index]
    except KeyError:
        return False
    return True
