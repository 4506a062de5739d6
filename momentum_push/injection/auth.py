"""Who a client is: password files, for AUTH of SMTP and for HTTP Basic.

Lives here: `authloginparameters` and `authplainparameters` with `uri = "file:///path"`, whose file has
one `user:password` a line (momentum.md 3.3). Empty lines and lines that begin with `#` are passed over; the
user ends at the first colon; the password is the rest of the line, blanks included. Not here: the
exchange in which a client says its password.

A file is read again when its time, size or inode has changed, at the next login; so adding a user needs no
reload, and `stat` costs a microsecond. A file that cannot be used fails closed: logins are answered
`ERROR` (try again later) until it can be, rather than judged by users that the operator has taken away.
Every comparison takes as long for an unknown user as for a known one, and for every wrong password.
"""

from __future__ import annotations

import enum
import hmac
import os
import stat
from base64 import b64decode
from binascii import Error as BadBase64
from collections.abc import Mapping
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

import structlog

from momentum_push.errors import ConfigError, Place, Problem

__all__ = ["PasswordFile", "PasswordFiles", "Verdict", "parse_basic", "password_path", "validate_passwords"]

MAX_FILE_BYTES = 16 * 1024 * 1024

log = structlog.get_logger()


class Verdict(enum.Enum):
    """What came of a login; the values are those of the context variable `auth_status`."""

    PASS = "pass"
    FAIL = "fail"
    ERROR = "error"


class View(Protocol):
    """What is asked of a configuration scope."""

    def __getitem__(self, option: str) -> Any: ...
    def origin(self, option: str) -> Place | None: ...


class PasswordFile:
    """One file of users, kept in memory while it stays the same."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._users: dict[bytes, bytes] = {}
        self._seen: tuple[int, int, int] | None = None

    def __repr__(self) -> str:
        return f"<PasswordFile {self.path}: {len(self._users)} users>"

    def check(self, user: bytes | str, password: bytes | str) -> Verdict:
        """Judge a login; passwords are compared in constant time."""
        try:
            self.refresh()
        except ConfigError as error:
            log.error("password_file_unusable", problems=[str(problem) for problem in error.problems])
            return Verdict.ERROR
        user, password = _as_bytes(user), _as_bytes(password)
        kept = self._users.get(user)
        is_right = hmac.compare_digest(_digest(password), _digest(b"" if kept is None else kept))
        return Verdict.PASS if is_right and kept is not None else Verdict.FAIL

    def refresh(self) -> None:
        """Read the file if it is not the one that was read last.

        Raises:
            ConfigError: it cannot be used; each bad line is a problem of its own.
        """
        try:
            with open(self.path, "rb") as file:
                status = os.fstat(file.fileno())
                seen = (status.st_mtime_ns, status.st_size, status.st_ino)
                if seen == self._seen:
                    return
                self._seen = None
                text = _read(file.read(MAX_FILE_BYTES + 1), status, self.path)
        except OSError as error:
            self._seen = None
            what = f'password file "{self.path}" cannot be read ({error.strerror})'
            raise ConfigError([Problem(Place(self.path), what, "make it readable for the daemon")]) from error
        self._users = _users(text, self.path)
        self._seen = seen


class PasswordFiles:
    """The password files of a daemon by path, so that all listeners share what was read."""

    def __init__(self) -> None:
        self._files: dict[str, PasswordFile] = {}

    def get(self, parameters: Mapping[str, str]) -> PasswordFile | None:
        """Return the file that `auth…parameters` name; None when they name none that we can read."""
        path = password_path(parameters)
        return None if path is None else self._files.setdefault(path, PasswordFile(path))


def _read(data: bytes, status: os.stat_result, path: str) -> bytes:
    if not stat.S_ISREG(status.st_mode) or len(data) > MAX_FILE_BYTES:
        what = f"password file must be a regular file of at most {MAX_FILE_BYTES} bytes"
        raise ConfigError([Problem(Place(path), what, "name another file in uri")])
    return data


def _users(text: bytes, path: str) -> dict[bytes, bytes]:
    users: dict[bytes, bytes] = {}
    problems: list[Problem] = []
    for number, line in enumerate(text.split(b"\n"), 1):
        line = line.removesuffix(b"\r")
        if not line.strip() or line.startswith(b"#"):
            continue
        user, colon, password = line.partition(b":")
        if what := _fault(user, colon, password, users):
            problems.append(Problem(Place(path, number, 1), what, "write one user:password a line"))
        users[user] = password
    if problems:
        raise ConfigError(problems)
    return users


def _fault(user: bytes, colon: bytes, password: bytes, users: Mapping[bytes, bytes]) -> str:
    """Say what is wrong with a line, never what stands in it: without its colon it may be a password."""
    if not colon or not user:
        return "line has no user before a colon"
    if not password:
        return "user without password"
    return "user stands there twice" if user in users else ""


def _as_bytes(text: bytes | str) -> bytes:
    return text if isinstance(text, bytes) else text.encode(errors="surrogateescape")


def _digest(secret: bytes) -> bytes:
    """`compare_digest` tells lengths apart by its time; digests have one length."""
    return hmac.digest(b"momentum-push", secret, "sha256")


def password_path(parameters: Mapping[str, str]) -> str | None:
    """Return the path in `uri = "file:///path"`; None for any other form."""
    parts = urlsplit(parameters.get("uri", ""))
    if parts.scheme != "file" or parts.netloc not in ("", "localhost") or not parts.path.startswith("/"):
        return None
    return unquote(parts.path)


def validate_passwords(scope: View, option: str) -> list[Problem]:
    """Say what is wrong with the password file that `option` of `scope` names; an unset option is right."""
    parameters: dict[str, str] = scope[option]
    if not parameters:
        return []
    place = scope.origin(option) or Place("configuration")
    path = password_path(parameters)
    if path is None:
        uri = parameters.get("uri", "")
        what = f'uri "{uri}" in {option} is not supported' if uri else f"{option} has no uri"
        return [Problem(place, what, 'use uri = "file:///path" with lines user:password')]
    try:
        PasswordFile(path).refresh()
    except ConfigError as error:
        return [
            problem if problem.place.line else problem._replace(place=place) for problem in error.problems
        ]
    return _warn_of_readers(path, place)


def _warn_of_readers(path: str, place: Place) -> list[Problem]:
    try:
        mode = os.stat(path).st_mode
    except OSError:  # gone since it was read: the next login says so
        return []
    if not mode & stat.S_IROTH:
        return []
    what = f'password file "{path}" can be read by everybody'
    return [Problem(place, what, "chmod o-r it", is_warning=True)]


def parse_basic(authorization: str) -> tuple[bytes, bytes] | None:
    """Return user and password of an HTTP `Authorization: Basic …` value; None when it is not one.

    Source: RFC 7617 section 2.
    """
    scheme, _, encoded = authorization.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        user, colon, password = b64decode(encoded.strip().encode(), validate=True).partition(b":")
    except (BadBase64, ValueError):
        return None
    return (user, password) if colon else None
