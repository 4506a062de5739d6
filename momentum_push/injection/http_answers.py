"""What the HTTP door says: answers as JSON, and refusals of whole requests.

Every refusal is a JSON object with `error` (a word) and `detail` (what, where, how to fix). Words are
Apple's where one fits (apns.md 4.2: `BadPath`, `MethodNotAllowed`, `Forbidden`, `InternalServerError`,
`ServiceUnavailable`); the rest are ours in its manner. Nothing here knows what a notification is.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from momentum_push.errors import InjectionError, MomentumPushError, SpoolFull

__all__ = [
    "Handler",
    "RequestRefused",
    "Whole",
    "answer",
    "header",
    "is_waiting_for_continue",
    "refusal_answer",
    "unavailable",
]

_encode = msgspec.json.Encoder().encode

SPOOL_RETRY_S = 10
"""Advice to clients when the disk is full or failing: long enough for a person or a cron job to act."""


class RequestRefused(InjectionError):
    """A request is refused as a whole.

    Attributes:
        status: of the HTTP answer.
        headers: what the status demands: `Allow`, `WWW-Authenticate`, `Retry-After` …
        extra: further members of the answer, e.g. the results of what was committed before.
    """

    def __init__(
        self,
        status: int,
        error: str,
        detail: str,
        headers: Mapping[str, str] | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        self.status = status
        self.headers = dict(headers or {})
        self.extra = dict(extra or {})
        super().__init__(error, detail)


class Handler:
    """A handler of requests as an ASGI endpoint.

    Starlette's own wrapping of functions looks for exception handlers at every request; ours are the gate's.
    """

    def __init__(self, serve: Callable[[Request], Awaitable[Response]]) -> None:
        self._serve = serve

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        response = await self._serve(Request(scope, receive, send))
        await response(scope, receive, send)


class Whole(Response):
    """A JSON answer that is there as a whole; Starlette would look for reasons against its two headers."""

    def __init__(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        self.status_code, self.body, self.background = status, body, None
        self.raw_headers = [
            *[
                (name.lower().encode("latin-1"), text.encode("latin-1"))
                for name, text in (headers or {}).items()
            ],
            (b"content-length", b"%d" % len(body)),
            (b"content-type", b"application/json"),
        ]


def answer(status: int, value: Any, headers: Mapping[str, str] | None = None) -> Response:
    """Return `value` as a JSON answer."""
    return Whole(status, _encode(value), headers)


def refusal_answer(refused: RequestRefused) -> Response:
    """Return the answer that says no."""
    body = {"error": refused.error, "detail": refused.detail, **refused.extra}
    return answer(refused.status, body, refused.headers)


def unavailable(why: MomentumPushError) -> RequestRefused:
    """Translate "not now" of the intake or the spool; the client is told when to come back.

    Numbers of the disk and names of files stay here: the client learns what to do, the operator's log
    has the rest.
    """
    if isinstance(why, InjectionError):
        seconds = max(1, round(getattr(why, "retry_after_s", 1.0)))
        return RequestRefused(503, "ServiceUnavailable", why.detail, {"Retry-After": str(seconds)})
    what = "the spool has no room" if isinstance(why, SpoolFull) else "the spool cannot be written"
    detail = f"{what}; nothing was queued, send it again later"
    return RequestRefused(503, "ServiceUnavailable", detail, {"Retry-After": str(SPOOL_RETRY_S)})


def header(request: Request, name: bytes) -> str:
    """Return the first header of this name (lower case), empty: there is none.

    As `request.headers`, which makes a mapping for each request and text of each name that it passes.
    """
    for key, value in request.scope["headers"]:
        if key == name:
            return str(value, "latin-1")
    return ""


def is_waiting_for_continue(request: Request) -> bool:
    """Whether the client holds its body back until we ask for it (RFC 9110 section 10.1.1)."""
    return header(request, b"expect").lower() == "100-continue"
