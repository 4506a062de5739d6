"""The HTTP door's paths, joined: injection, health, figures, and their description.

Lives here: the list of paths (`openapi` describes the same) and the small handlers. Bigger ones
have their own files: `notifications` (native), `rest` (Momentum's REST injector). What the daemon knows
comes through the callables of `Views`; nothing here asks a queue or a spool.

    DELETE /v1/notifications…   `http_cancel`
    GET  /healthz               200 while the loop turns
    GET  /readyz                200 while messages are taken, else 503 and why
    GET  /metrics               Prometheus text
    GET  /stats/summary         Momentum's summary as JSON; DELETE resets its counters
    GET  /stats/queues/mailq    ?domain=&binding=&limit=
    GET  /openapi.json
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from inspect import isawaitable
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router
from starlette.types import Receive, Scope, Send

from momentum_push.clock import Clock
from momentum_push.injection.auth import PasswordFiles
from momentum_push.injection.http_access import Gate, Notes, Records
from momentum_push.injection.http_answers import Handler, RequestRefused, answer
from momentum_push.injection.http_body import Budget
from momentum_push.injection.http_cancel import Cancellation
from momentum_push.injection.notifications import Door, Notifications
from momentum_push.injection.openapi import DOCUMENT
from momentum_push.injection.rest import Rest
from momentum_push.meters import Meters

__all__ = ["BODY_BUDGET", "Views", "build_app"]

BODY_BUDGET = 268_435_456
"""Bytes of request bodies in memory at once: four of the largest that the default allows."""

T = TypeVar("T")

PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Views:
    """What the daemon lets HTTP clients see; at once, or (in a receiver) when the core has answered."""

    metrics: Callable[[], bytes | Awaitable[bytes]]
    summary: Callable[[], Mapping[str, Any] | Awaitable[Mapping[str, Any]]]
    """With the names of `/stats/summary` (momentum.md 5.3)."""
    reset_summary: Callable[[], Awaitable[None] | None]
    mailq: Callable[[str | None, str | None, int | None], Mapping[str, Any] | Awaitable[Mapping[str, Any]]]
    """Takes domain, binding, limit; None: not asked for."""
    is_ready: Callable[[], tuple[bool, str] | Awaitable[tuple[bool, str]]]
    """Whether spool and listeners take messages, and if not, why."""


class Small:
    """Handlers that only look."""

    def __init__(self, views: Views) -> None:
        self._views = views

    async def healthz(self, request: Request) -> Response:
        """Say that we are alive."""
        return answer(200, {"status": "alive"})

    async def readyz(self, request: Request) -> Response:
        """Say whether messages are taken."""
        is_ready, why = await _now(self._views.is_ready())
        if not is_ready:
            # No refusal: nothing was asked for, and probes would fill the rejectlog.
            body = {"error": "ServiceUnavailable", "detail": why or "not ready"}
            return answer(503, body, {"Retry-After": "1"})
        return answer(200, {"status": "ready"})

    async def metrics(self, request: Request) -> Response:
        """Give all figures to Prometheus."""
        return Response(await _now(self._views.metrics()), media_type=PROMETHEUS)

    async def summary(self, request: Request) -> Response:
        """Give Momentum's summary, or begin it anew."""
        if request.method == "DELETE":
            await _now(self._views.reset_summary())
            return answer(200, {"status": "statistics cleared."})
        return answer(200, await _now(self._views.summary()))

    async def mailq(self, request: Request) -> Response:
        """Give the queues."""
        query = request.query_params
        limit = query.get("limit") or None
        if limit is not None and not (limit.isascii() and limit.isdecimal() and len(limit) <= 6):
            raise RequestRefused(400, "BadRequest", "limit: a number of at most six digits is expected")
        found = self._views.mailq(
            query.get("domain") or None, query.get("binding") or None, int(limit) if limit else None
        )
        return answer(200, await _now(found))

    async def openapi(self, request: Request) -> Response:
        """Describe it all."""
        return answer(200, DOCUMENT)


class Paths:
    """Finds the handler of a request: one look for paths that are fixed, Starlette's search for the rest.

    What it refuses is the search's to say, too.
    """

    def __init__(self, routes: list[Route]) -> None:
        self.routes = routes
        self._router = Router(routes, redirect_slashes=False)
        self._fixed = {
            (method, route.path): route.app
            for route in routes
            for method in route.methods or ()
            if "{" not in route.path
        }

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Serve one request."""
        serve = self._fixed.get((scope["method"], scope["path"]), self._router)
        return serve(scope, receive, send)


async def _now(value: T | Awaitable[T]) -> T:
    """Return a view's value, awaited where it comes from another process."""
    return await value if isawaitable(value) else value


def build_app(
    *,
    intake: Door,
    views: Views,
    meters: Meters,
    records: Records,
    clock: Clock,
    next_batch: Callable[[], str],
    passwords: PasswordFiles | None = None,
    dot_stuff: bool = False,
    body_budget: int = BODY_BUDGET,
) -> Gate:
    """Return the application behind every HTTP listener; `next_batch` gives a request its batch id."""
    notes = Notes(meters, records, clock)
    budget = Budget(body_budget)

    native = Notifications(intake, notes, budget, next_batch)
    rest = Rest(intake, notes, budget, next_batch, dot_stuff)
    small = Small(views)
    cancellation = Cancellation(intake)

    def serve_native(request: Request) -> Awaitable[Response]:
        return (native.post if request.method == "POST" else cancellation.by_collapse_id)(request)

    paths: list[tuple[str, Callable[[Request], Awaitable[Response]], list[str]]] = [
        ("/v1/notifications", serve_native, ["POST", "DELETE"]),
        ("/v1/notifications/{mid:path}", cancellation.by_id, ["DELETE"]),
        ("/v1.0/inject", rest.serve, ["GET", "POST"]),
        ("/v1.0/inject/", rest.serve, ["GET", "POST"]),
        ("/healthz", small.healthz, ["GET"]),
        ("/readyz", small.readyz, ["GET"]),
        ("/metrics", small.metrics, ["GET"]),
        ("/stats/summary", small.summary, ["GET", "DELETE"]),
        ("/stats/queues/mailq", small.mailq, ["GET"]),
        ("/openapi.json", small.openapi, ["GET"]),
    ]
    routes = [Route(path, Handler(serve), methods=methods) for path, serve, methods in paths]
    return Gate(Paths(routes), notes, passwords or PasswordFiles())
