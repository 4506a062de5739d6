"""Before and after every request: who may come in, what is noted, what never reaches a client.

    address allowed? ──► authenticated? ──► router ──► handler        (order of momentum.md 3.4)
         403                 401              404, 405      …
                                                             └──► refusals, failures, access line

Decisions: `/healthz` and `/readyz` obey the address rules and need no password, for load balancers have
none. A client on a Unix socket counts as loopback before `peer` stanzas. `always_deny` answers 403,
`always_allow` stands for a password that was right. Whoever comes through may inject into any push
domain (`can_relay`; `relay_hosts` has no say over HTTP).

A refused request whose body is not in yet: what fits is read and thrown away, so that the connection
can be used again; otherwise the answer says `Connection: close`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import structlog
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from momentum_push.clock import Clock
from momentum_push.errors import LogError
from momentum_push.injection.auth import PasswordFiles, Verdict, parse_basic
from momentum_push.injection.http_answers import RequestRefused, refusal_answer
from momentum_push.injection.http_body import discard
from momentum_push.loggers.records import Authentication, Rejection
from momentum_push.message import Refusal
from momentum_push.meters import Meters

__all__ = ["Caller", "Gate", "Listen", "Notes", "Options", "Records", "client_name"]

log = structlog.get_logger()

OPEN_PATHS = frozenset({"/healthz", "/readyz"})

TRUE = frozenset({"true", "on", "1", "enabled"})
"""Booleans inside dictionaries come as they were written (momentum.md 1.4)."""


class Options(Protocol):
    """Effective options for one client address (`config.Scope`)."""

    def __getitem__(self, option: str, /) -> Any: ...


class Listen(Protocol):
    """One address that is listened on (`config.ListenScope`)."""

    @property
    def address(self) -> str: ...
    @property
    def has_peers(self) -> bool: ...
    def matches_peer(self, ip: str, /) -> bool: ...
    def inbound(self, ip: str | None, /) -> Options: ...


class Records(Protocol):
    """What is asked of the loggers."""

    def rejection(self, now: float, rejection: Rejection, /) -> None: ...
    def authentication(self, now: float, authentication: Authentication, /) -> None: ...
    def panic(self, now: float, module: str, text: str, /) -> None: ...


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sent a request, once the gate let it in."""

    options: Options
    client: str
    listener: str
    conn_id: str
    user: str
    context: dict[str, str]


class Exchange:
    """One request and its answer, watched."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope
        self.status = 0
        self.sent = 0
        self.is_whole = False
        self._receive = receive
        self._send = send

    async def receive(self) -> Message:
        """Receive, and note the end of the body."""
        message = await self._receive()
        if message["type"] == "http.request" and not message.get("more_body", False):
            self.is_whole = True
        return message

    def send(self, message: Message) -> Awaitable[None]:
        """Send, and note status and size."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
        else:
            self.sent += len(message.get("body", b""))
        return self._send(message)

    async def refuse(self, refused: RequestRefused) -> None:
        """Answer with a refusal, unless an answer has begun."""
        if self.status:
            return
        request = Request(self.scope, self.receive)
        if not self.is_whole and not await discard(request):
            refused.headers["Connection"] = "close"
        await refusal_answer(refused)(self.scope, self.receive, self.send)


class Notes:
    """Counts and writes down what is refused."""

    def __init__(self, meters: Meters, records: Records, clock: Clock) -> None:
        self.meters = meters
        self._records = records
        self._clock = clock

    def request(
        self, caller: Caller | None, client: str, refused: RequestRefused, protocol: str = "http"
    ) -> None:
        """A request was refused as a whole."""
        self.meters.rejections[protocol, refused.error] += 1
        self._reject(caller, client, protocol, refused.error, refused.detail, refused.status)

    def items(self, caller: Caller, refusals: Sequence[Refusal], status: int, protocol: str = "http") -> None:
        """Notifications of a request were refused: one line for each word, however many they are."""
        counts = Counter(refusal.error for refusal in refusals)
        for error, count in counts.items():
            self.meters.rejections[protocol, error] += count
            first = next(refusal for refusal in refusals if refusal.error == error)
            more = f" (and {count - 1} more)" if count > 1 else ""
            self._reject(caller, caller.client, protocol, error, f"{error}: {first.detail}{more}", status)

    def _reject(
        self, caller: Caller | None, client: str, protocol: str, error: str, text: str, status: int
    ) -> None:
        rejection = Rejection(
            text=text,
            code=status,
            peer=client,
            listener=caller.listener if caller else "",
            conn_id=caller.conn_id if caller else "",
            phase="http",
            module="core",
            conn_context=caller.context if caller else {},
            protocol=protocol,
            error=error,
        )
        self._write(lambda now: self._records.rejection(now, rejection))

    def login(self, listener: str, client: str, user: str, is_accepted: bool) -> None:
        """Somebody logged in, or failed to."""
        login = Authentication(listener=listener, peer=client, user=user, is_accepted=is_accepted)
        self._write(lambda now: self._records.authentication(now, login))

    def access(self, client: str, started: float, what: str) -> None:
        """Write the access line of momentum.md 3.4."""
        milliseconds = (self._clock.monotonic() - started) * 1000
        self._write(
            lambda now: self._records.panic(now, "httpsrv", f"{int(now)}:{client} {what} {milliseconds:.3f}")
        )

    def started(self) -> float:
        """When a request began, for `access`."""
        return self._clock.monotonic()

    def _write(self, write: Callable[[float], None]) -> None:
        # The record is kept by its sink and written later; a log that fails refuses nothing here.
        try:
            write(self._clock.now())
        except LogError as error:
            log.error("log_write_failed", error=str(error))


class Gate:
    """The ASGI application around the router."""

    def __init__(self, router: ASGIApp, notes: Notes, passwords: PasswordFiles) -> None:
        """Take who answers, who writes down, and the files that `authplainparameters` name."""
        self.notes = notes
        self._router = router
        self._passwords = passwords

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; whatever goes wrong is answered and noted here."""
        exchange = scope["exchange"] = Exchange(scope, receive, send)
        started = self.notes.started()
        client = client_name(scope["client"])
        listen: Listen = scope["state"]["door"].listen
        options = listen.inbound(_ip(scope))
        refused: RequestRefused | None = None
        try:
            scope["caller"] = self._admit(scope, client, listen, options)
            scope["app"] = self  # tells the router to raise what it cannot serve
            await self._router(scope, exchange.receive, exchange.send)
        except RequestRefused as error:
            refused = error
        except HTTPException as error:
            refused = _translate(error, scope)
        except ClientDisconnect:
            log.info("request_abandoned", client=client, path=scope["path"][:200])
        except Exception as error:
            log.exception("request_failed", client=client, path=scope["path"][:200], error=repr(error))
            refused = RequestRefused(500, "InternalServerError", "the daemon failed; its log says why")
        finally:
            del scope["exchange"]  # it knows the scope: a ring, which only the collector would find
        if refused is not None:
            self.notes.request(scope.get("caller"), client, refused)
            await exchange.refuse(refused)
        if options["log_requests_to_paniclog"]:
            self.notes.access(client, started, _line(scope, exchange))

    def _admit(self, scope: Scope, client: str, listen: Listen, options: Options) -> Caller:
        """Apply address rules, then authentication.

        Raises:
            RequestRefused: 403 by address, 401 by password.
        """
        state: dict[str, Any] = scope["state"]
        is_stranger = listen.has_peers and not listen.matches_peer(_ip(scope) or "127.0.0.1")
        if options["always_deny"] or is_stranger:
            raise RequestRefused(403, "Forbidden", "your address may not use this listener")
        user = ""
        is_open = options["always_allow"] or scope["path"] in OPEN_PATHS
        if options["enable_authentication"] and not is_open and not _has_certificate(options, state):
            user = self._authenticate(scope, options, listen, client)
        context = {**options["context"], "can_relay": "true"}
        if user:
            context |= {"auth_user": user, "auth_name": user, "auth_status": "pass"}
        return Caller(options, client, listen.address, state["conn_id"], user, context)

    def _authenticate(self, scope: Scope, options: Options, listen: Listen, client: str) -> str:
        """Return the user of HTTP Basic (RFC 7617).

        Raises:
            RequestRefused: 401; 503 while the password file cannot be used.
        """
        parameters: Mapping[str, str] = options["authplainparameters"]
        login = parse_basic(Headers(scope=scope).get("authorization", ""))
        file = self._passwords.get(parameters)
        verdict = file.check(*login) if file is not None and login is not None else Verdict.FAIL
        user = login[0].decode(errors="replace") if login is not None else ""
        if login is not None and parameters.get("log_authentication", "").lower() in TRUE:
            self.notes.login(listen.address, client, user, verdict is Verdict.PASS)
        if verdict is Verdict.PASS:
            return user
        if verdict is Verdict.ERROR:
            detail = "logins cannot be checked now; try again later"
            raise RequestRefused(503, "ServiceUnavailable", detail, {"Retry-After": "10"})
        what = "user or password is wrong" if login is not None else "log in with HTTP Basic"
        raise RequestRefused(401, "Unauthorized", what, {"WWW-Authenticate": _challenge(parameters)})


def _challenge(parameters: Mapping[str, str]) -> str:
    realm = re.sub(r"[^ !#-\[\]-~]", "", parameters.get("realm", "momentum-push"))
    return f'Basic realm="{realm}", charset="UTF-8"'


def _has_certificate(options: Options, state: Mapping[str, Any]) -> bool:
    return bool(options["tls_verified_peer_is_authorized"] and state.get("has_certificate"))


def _translate(error: HTTPException, scope: Scope) -> RequestRefused:
    """Turn what the router says into our words."""
    if error.status_code == 404:
        return RequestRefused(404, "BadPath", "there is nothing at this path; see /openapi.json")
    if error.status_code == 405:
        allowed = ", ".join(sorted((error.headers or {}).get("Allow", "").split(", ")))
        detail = f"{scope['method'][:20]} is not served here; use {allowed}"
        return RequestRefused(405, "MethodNotAllowed", detail, {"Allow": allowed})
    return RequestRefused(error.status_code, "BadRequest", str(error.detail))


def _ip(scope: Scope) -> str | None:
    """Return the client's address; None on a Unix socket."""
    client = scope["client"]
    return client[0] if client and client[0] else None


def client_name(client: Sequence[Any] | None) -> str:
    """Return `ip:port`; `unix` for a client on a Unix socket."""
    if not client or not client[0]:
        return "unix"
    ip = client[0]
    return f"[{ip}]:{client[1]}" if ":" in ip else f"{ip}:{client[1]}"


def _line(scope: Scope, exchange: Exchange) -> str:
    path = scope["raw_path"].decode("ascii", "replace").replace('"', "%22")
    return f'"{scope["method"]} {path} HTTP/{scope["http_version"]}" {exchange.status} {exchange.sent}'
