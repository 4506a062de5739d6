"""Giving up root: `security { user group supplemental_groups }` (momentum.md 10.4).

Sockets are opened first, for ports below 1024 need root; after that nothing of ours does. Keys, spool
and logs must belong to the user, as they do under Momentum. Under systemd the unit's `User=` does all
this before we start: then the stanza may name the same user, and changes nothing. Not to be undone,
so a reload cannot change it.
"""

from __future__ import annotations

import grp
import os
import pwd

from momentum_push.config import Config, Scope
from momentum_push.errors import ConfigError, Place, Problem

__all__ = ["drop_privileges", "validate"]

User = tuple[int, int]
"""User id and its own group's."""


def validate(config: Config) -> list[Problem]:
    """Say what is wrong with the `security` stanza on this machine."""
    problems: list[Problem] = []
    for scope in config.modules("security"):
        for option, find in (("user", _user), ("group", _group)):
            problems += _check(scope, option, scope[option], find)
        for name in scope["supplemental_groups"]:
            problems += _check(scope, "supplemental_groups", name, _group)
        if os.geteuid() and not problems and not _is_already(scope):
            what = f'user "{scope["user"]}" cannot be taken on without root'
            problems.append(_problem(scope, "user", what, "start the daemon as root, or as that user"))
    return problems


def drop_privileges(config: Config) -> None:
    """Become the configured user, for good; nothing happens where none is configured.

    Raises:
        ConfigError: what `validate` says.
    """
    if problems := validate(config):
        raise ConfigError(problems)
    for scope in config.modules("security"):
        if os.geteuid() == 0 and (scope["user"] or scope["group"]):
            _become(scope)


def _become(scope: Scope) -> None:
    uid, own_group = _user(scope["user"]) if scope["user"] else (os.getuid(), os.getgid())
    gid = _group(scope["group"]) if scope["group"] else own_group
    os.setgroups([_group(name) for name in scope["supplemental_groups"]])
    os.setgid(gid)
    os.setuid(uid)


def _is_already(scope: Scope) -> bool:
    """Whether the process runs as the configured user; then its groups are the service manager's business."""
    return not scope["user"] or _user(scope["user"])[0] == os.geteuid()


def _user(name: str) -> User:
    found = pwd.getpwnam(name)
    return found.pw_uid, found.pw_gid


def _group(name: str) -> int:
    return grp.getgrnam(name).gr_gid


def _check(scope: Scope, option: str, name: str, find: object) -> list[Problem]:
    """Report a user or group that this machine does not know."""
    assert callable(find)
    if not name:
        return []
    try:
        find(name)
    except KeyError:
        kind = "user" if option == "user" else "group"
        what = f'{kind} "{name}" does not exist on this machine'
        return [_problem(scope, option, what, f"create the {kind}, or correct the name")]
    return []


def _problem(scope: Scope, option: str, what: str, fix: str) -> Problem:
    return Problem(scope.origin(option) or Place("configuration"), what, fix)
