"""Reading `proxy`: who connects us to Apple, where hosts may not go out by themselves (interfaces.md 2).

    proxy = "http://proxy.example:3128"                  HTTP CONNECT
    proxy = "http://push:p%40ss@[2001:db8::7]:3128"      with a user, Basic; what URLs reserve as %XX
    proxy = "none"                                       ends an inherited one, as an empty text does

The option alone decides: HTTPS_PROXY and its like in the environment are not looked at, because a daemon's
environment is nobody's configuration. No text about a proxy cites what was written: it may hold a password.
"""

from __future__ import annotations

import re
import stat
from pathlib import Path
from urllib.parse import unquote_to_bytes

from momentum_push.config import Scope
from momentum_push.delivery.apns.options import Proxy
from momentum_push.delivery.routes import Fault, read_host
from momentum_push.errors import Place, Problem

__all__ = ["masked", "parse_proxy", "read_proxy"]

_EXAMPLE = 'write proxy = "http://host:port"'
_URL = re.compile(
    r"(?:(?P<scheme>[^:/@]*)://)?(?:(?P<user>.*)@)?(?P<netloc>[^@/?#]*)(?P<rest>[^@]*)", re.DOTALL
)


def read_proxy(scope: Scope) -> tuple[Proxy | None, list[Problem]]:
    """Return the proxy that is in effect for one (binding, domain), None for none, and what is wrong."""
    text = str(scope["proxy"] or "").strip()
    if not text or text.lower() == "none":
        return None, []
    place = scope.origin("proxy") or Place("configuration")
    try:
        proxy = parse_proxy(text)
    except Fault as fault:
        return None, [Problem(place, f"proxy: {fault.what}", fault.fix)]
    return proxy, _exposed(place) if proxy.password else []


def parse_proxy(text: str) -> Proxy:
    """Read `http://[user:password@]host:port`.

    Raises:
        Fault: it is something else; says nothing of what was written but the scheme.
    """
    match = _URL.fullmatch(text)
    if match is None or match["scheme"] is None:
        raise Fault("this is no URL", _EXAMPLE)
    scheme = match["scheme"].lower()
    if scheme == "https":
        raise Fault("a proxy that is itself spoken to in TLS is not served", _EXAMPLE)
    if scheme != "http":
        raise Fault(f'a proxy of the kind "{scheme}" is not served', f"{_EXAMPLE}, for HTTP CONNECT")
    if match["rest"] not in ("", "/"):
        raise Fault("only a host and a port are wanted; reserved characters in a password as %XX", _EXAMPLE)
    try:
        host = read_host(match["netloc"])
    except Fault as fault:
        raise Fault("the host cannot be read", _EXAMPLE) from fault
    user, password = _login(match["user"] or "")
    return Proxy(host, _port(match["netloc"]), user, password)


def _port(netloc: str) -> int:
    text = netloc.rpartition("]")[2].rpartition(":")[2] if ":" in netloc.rpartition("]")[2] else ""
    if not text:
        raise Fault("there is no port", _EXAMPLE)
    if not re.fullmatch(r"[0-9]{1,5}", text) or not 1 <= int(text) <= 65535:
        raise Fault("the port is no number from 1 to 65535", _EXAMPLE)
    return int(text)


def _login(written: str) -> tuple[str, str]:
    """Return user and password (RFC 7617: no colon in a user, no control characters in either)."""
    if re.search(r"[@/?#\s]", written):
        raise Fault("a user or password has a character that URLs reserve", "write @ as %40, / as %2F …")
    user, _, password = (_unquoted(part) for part in written.partition(":"))
    if ":" in user or re.search(r"[\x00-\x1f\x7f]", user + password):
        raise Fault("user or password cannot be sent", "use no colon in a user, and no control characters")
    return user, password


def _unquoted(text: str) -> str:
    if re.search(r"%(?![0-9A-Fa-f]{2})", text):
        raise Fault("a % in user or password is not followed by two hex digits", "write % as %25")
    try:
        return unquote_to_bytes(text).decode("utf-8")
    except UnicodeDecodeError as error:
        raise Fault("user or password is not UTF-8", "write its bytes in UTF-8 as %XX") from error


def masked(text: str) -> str:
    """Return the value of `proxy` as it may be shown: before its last @ only the user is left readable."""
    before, at, host = text.rpartition("@")
    if not at:
        return text
    scheme, mark, login = before.rpartition("://") if before.count("://") == 1 else ("", "", before)
    user, colon, _ = login.partition(":")
    is_readable = bool(mark and colon) and not re.search(r"[@/\s]", user)
    return f"{scheme}{mark}{user}:***@{host}" if is_readable else f"{scheme}{mark}***@{host}"


def _exposed(place: Place) -> list[Problem]:
    """Warn of a password in a file that everybody may read."""
    try:
        mode = stat.S_IMODE(Path(place.file).stat().st_mode)
    except OSError:  # no file of its own: a text that was handed over, or one that went since it was read
        return []
    if not mode & stat.S_IROTH:
        return []
    what = f"proxy holds a password, and everybody can read this file (mode {mode:04o})"
    return [Problem(place, what, f"chmod o= {place.file}", is_warning=True)]
