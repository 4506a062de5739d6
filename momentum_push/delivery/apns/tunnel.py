"""Asking an HTTP proxy for a tunnel: CONNECT and its answer, bytes in and bytes out.

Lives here: what is said to the proxy, and what its answer means. `dial` moves the bytes; `proxy` in
the room above reads the option.

    MORE ──2xx and the blank line──► DONE ──further bytes──► REFUSED
      │ any other final status, no HTTP, too long, the end
      └────────────────────────────────────────────────────► REFUSED

An answer is read to its blank line however it dribbles in; 1xx before it is skipped. In a 2xx to
CONNECT Content-Length and Transfer-Encoding mean nothing (RFC 9110 9.3.6). A TLS server speaks second,
so whatever comes behind the blank line was not said by Apple: it is refused instead of being fed to TLS.
The proxy is given Apple's *name*, unresolved: hosts behind a proxy often cannot resolve outer names, and
proxies allow by name. HTTP/1.0 and bare line feeds are taken as they come (apns.md 6.6). Pure.
"""

from __future__ import annotations

import base64
import enum
import re
from typing import NamedTuple

from momentum_push.delivery.apns.options import Proxy, bracketed

__all__ = ["MAX_HEAD", "Progress", "Refusal", "Tunnel"]

MAX_HEAD = 16_384
"""Bytes up to and including the blank line, 1xx answers before it included."""

_START = b"HTTP/1."
_STATUS = re.compile(rb"HTTP/1\.[0-9] +([1-9][0-9]{2})(?: +(.*))?")
_END = re.compile(rb"\n\r?\n")
_OFFER = re.compile(rb"^proxy-authenticate[ \t]*:[ \t]*([!-~]+)", re.IGNORECASE | re.MULTILINE)
_UNPRINTABLE = re.compile(r"[^ -~]")
_MAX_PHRASE = 60


class Progress(enum.Enum):
    """How far it is."""

    MORE = "more"
    DONE = "done"
    REFUSED = "refused"


class Refusal(NamedTuple):
    """Why there is no tunnel, in an operator's words."""

    what: str
    fix: str

    def __str__(self) -> str:
        return f"{self.what}; {self.fix}"


class Tunnel:
    """One CONNECT; write `request`, then feed what comes until `progress` is not MORE."""

    def __init__(self, host: str, port: int, proxy: Proxy) -> None:
        self.progress = Progress.MORE
        self.refusal: Refusal | None = None
        self._proxy = proxy
        self._there = f"{bracketed(host)}:{port}"
        self._basic = _basic(proxy)
        self._buffer = b""
        self._skipped = 0  # bytes of 1xx answers

    @property
    def request(self) -> bytes:
        """Return what is written first (RFC 9110 9.3.6; Basic as in RFC 7617)."""
        lines = [f"CONNECT {self._there} HTTP/1.1", f"Host: {self._there}"]
        if self._basic:
            lines.append(f"Proxy-Authorization: Basic {self._basic}")
        return "".join(line + "\r\n" for line in [*lines, ""]).encode()

    @property
    def waiting(self) -> str:
        """Return what is missing while there is MORE to come, for those who ran out of patience."""
        status = _STATUS.match(self._buffer)
        if status:
            return f"it answered {status[1].decode()}, but never ended its header"
        return "it never ended its answer to CONNECT" if self._buffer else "it did not answer CONNECT"

    def receive(self, data: bytes) -> Progress:
        """Take what the proxy wrote; no bytes: it closed."""
        if self.progress is Progress.MORE and not data:
            self._closed()
        elif self.progress is Progress.DONE and data:
            self._refuse(*_EARLY)
        elif self.progress is Progress.MORE:
            self._buffer += data
            while self._buffer and self.progress is Progress.MORE and self._skip_or_judge():
                pass
        return self.progress

    def _skip_or_judge(self) -> bool:
        """Look at the first answer in the buffer; True: it was a 1xx, and is gone."""
        buffer, limit = self._buffer, MAX_HEAD - self._skipped
        if buffer[: len(_START)] != _START[: len(buffer)]:
            self._refuse(*_no_http(buffer))
            return False
        first, end = buffer.find(b"\n"), _END.search(buffer)
        if (len(buffer) if first < 0 else first + 1) > limit:
            self._refuse(*_TOO_LONG)
            return False
        if first < 0:
            return False
        status = _STATUS.fullmatch(buffer[:first].rstrip(b"\r"))
        if status is None:
            self._refuse(*_NO_STATUS)
        elif (end.end() if end else len(buffer)) > limit:
            self._refuse(*_TOO_LONG)
        elif end is not None:
            return self._judge(int(status[1]), status[2] or b"", end.end())
        return False

    def _judge(self, code: int, phrase: bytes, end: int) -> bool:
        head, rest = self._buffer[:end], self._buffer[end:]
        if 100 <= code < 200 and code != 101:
            self._buffer, self._skipped = rest, self._skipped + end
            return True
        if not 200 <= code < 300:
            self._deny(code, phrase, head)
        elif rest:
            self._refuse(*_EARLY)
        else:
            self.progress = Progress.DONE
        return False

    def _closed(self) -> None:
        first = self._buffer.split(b"\n", 1)
        status = _STATUS.fullmatch(first[0].rstrip(b"\r")) if len(first) > 1 else None
        if status is not None and int(status[1]) >= 300:
            self._deny(int(status[1]), status[2] or b"", self._buffer)
        elif self._buffer:
            self._refuse("it closed the connection in the middle of its answer", _LOG)
        else:
            self._refuse("it closed the connection without an answer to CONNECT", _CLOSED_FIX)

    def _deny(self, code: int, phrase: bytes, head: bytes) -> None:
        what, fix = _DENIALS.get(code) or _DENIALS.get(code // 100) or ("refuses {there}", _LOG)
        if code in (401, 407):  # tinyproxy 1.11 says 401 to a wrong password
            what, fix = self._unauthenticated(head)
        self._refuse(f"it {what.format(there=self._there)} ({self._said(code, phrase)})", fix)

    def _unauthenticated(self, head: bytes) -> tuple[str, str]:
        offers = [offer.decode().strip(",") for offer in _OFFER.findall(head)]
        if offers and not any(offer.lower() == "basic" for offer in offers):
            names = _UNPRINTABLE.sub("", ", ".join(dict.fromkeys(offers)))[:_MAX_PHRASE]
            return f"wants {names} authentication", "only Basic is spoken here; let this host in without"
        if not self._basic:
            return "wants a user and a password", 'write proxy = "http://user:password@host:port"'
        return "does not accept our user and password", "correct them in proxy"

    def _said(self, code: int, phrase: bytes) -> str:
        """Return status and phrase as they may be logged: short, printable, without our password."""
        text = _UNPRINTABLE.sub("", phrase.decode("latin-1"))
        secrets = (self._proxy.password, self._basic)
        if any(secret and secret in text for secret in secrets):
            text = ""
        return f"{code} {text[:_MAX_PHRASE]}".strip()

    def _refuse(self, what: str, fix: str) -> None:
        self.progress, self.refusal = Progress.REFUSED, Refusal(what, fix)


def _basic(proxy: Proxy) -> str:
    if not proxy.user and not proxy.password:
        return ""
    return base64.b64encode(f"{proxy.user}:{proxy.password}".encode()).decode()


def _no_http(data: bytes) -> tuple[str, str]:
    """Guess from its first byte what the peer speaks instead of HTTP."""
    if data[:1] in (b"\x15", b"\x16"):
        return "it speaks TLS, not HTTP", "name the proxy's port for plain HTTP"
    if data[:1] in (b"\x00", b"\x04", b"\x05"):
        return "it speaks SOCKS, not HTTP", "name a proxy that serves HTTP CONNECT"
    return "it does not speak HTTP", _PORT


_PORT = "check host and port in proxy"
_LOG = "see the proxy's log"
_REACH = "see its log, its way to the Internet and its name server, and host and port in routes"
_CLOSED_FIX = f"{_PORT}, and whether it lets this host in"
_TOO_LONG = (f"its answer has a header of more than {MAX_HEAD} bytes", _PORT)
_NO_STATUS = ("its answer is no HTTP/1 status line", _PORT)
_EARLY = (
    "it sent something before TLS began, where only Apple may speak, and only after us",
    "check that it passes CONNECT through and adds nothing",
)
_ALLOW = "let the proxy allow CONNECT to this host and port"
_DENIALS: dict[int, tuple[str, str]] = {
    1: ("answers CONNECT with an upgrade to another protocol", _PORT),
    3: ("answers CONNECT to {there} with a redirection, as login portals do", "let this host in without"),
    400: ("does not understand CONNECT {there}", _PORT),
    403: ("does not allow a connection to {there}", _ALLOW),
    404: ("does not serve CONNECT to {there}", "name a proxy that serves HTTP CONNECT"),
    405: ("does not allow CONNECT to {there}", _ALLOW),
    429: ("has had too many connections from us", "raise its limit, or lower max_outbound_connections"),
    500: ("failed on the way to {there}", _LOG),
    501: ("does not serve CONNECT", "name a proxy that serves HTTP CONNECT"),
    502: ("cannot connect to {there}", _REACH),
    503: ("cannot serve a connection to {there} now", _REACH),
    504: ("got no answer from {there}", _REACH),
}
"""By status, else by its first digit: what the proxy does, and what the operator can do."""
