"""`DELETE /v1/notifications…`: taking back what still waits.

    /v1/notifications/{message id}                                          one message
    /v1/notifications?domain=…&collapse_id=…[&device_token=…]               all with a collapse id

    200  {"cancelled": 2, "on_their_way": 0}    what waited is removed: on record and on disk
    404  NotFound            nothing of it waits: never accepted, delivered, or given up
    409  OnItsWay            it is being sent, or its answer is being written down; Apple may have it

Whoever may inject may cancel (`http_access`), in domains that are delivered to Apple. What is in another
domain counts as not found, so that nobody learns of it. Where some were removed and others are on their
way, it is 200 and the answer counts both.
"""

from __future__ import annotations

from typing import Protocol

from starlette.requests import Request
from starlette.responses import Response

from momentum_push.errors import InjectionError, SpoolError
from momentum_push.injection.http_answers import RequestRefused, answer
from momentum_push.message import Cancel, Cancelled
from momentum_push.message.ids import parse_mid

__all__ = ["Cancellation"]

KEYS = ("domain", "collapse_id", "device_token")

RETRY_S = 5


class Door(Protocol):
    """What is asked of the intake."""

    def is_apn(self, domain: str) -> bool: ...
    async def cancel(self, wish: Cancel) -> Cancelled: ...


class Cancellation:
    """The handlers."""

    def __init__(self, intake: Door) -> None:
        self._intake = intake

    async def by_id(self, request: Request) -> Response:
        """Cancel one message.

        Raises:
            RequestRefused: 400, 404, 409, 503.
        """
        try:
            sequence = parse_mid(request.path_params["mid"])
        except ValueError as error:
            raise RequestRefused(400, "BadMessageId", str(error)) from None
        return await self._serve(Cancel(sequence=sequence))

    async def by_collapse_id(self, request: Request) -> Response:
        """Cancel all messages with a collapse id.

        Raises:
            RequestRefused: 400, 404, 409, 503.
        """
        query = request.query_params
        unknown = next((key for key in query if key not in KEYS), None)
        if unknown is not None:
            what = f'unknown key "{unknown[:40]}"; known are {", ".join(KEYS)}'
            raise RequestRefused(400, "UnknownKey", what)
        domain, collapse_id = query.get("domain", ""), query.get("collapse_id", "")
        if not domain or not collapse_id:
            what = 'give "domain" and "collapse_id", or the id of one message in the path'
            raise RequestRefused(400, "BadRequest", what)
        if not self._intake.is_apn(domain):
            raise RequestRefused(400, "UnknownDomain", "domain: it is not delivered to APNs here")
        wish = Cancel(domain=domain, collapse_id=collapse_id, token=query.get("device_token", "").lower())
        return await self._serve(wish)

    async def _serve(self, wish: Cancel) -> Response:
        try:
            done = await self._intake.cancel(wish)
        except (InjectionError, SpoolError) as error:
            detail = "it cannot be said yet whether it is removed; ask again later"
            headers = {"Retry-After": str(RETRY_S)}
            raise RequestRefused(503, "ServiceUnavailable", detail, headers) from error
        if not done.removed and done.busy:
            raise RequestRefused(409, "OnItsWay", "it is being sent, or its answer is being written down")
        if not done.removed:
            raise RequestRefused(404, "NotFound", "no such message waits here")
        return answer(200, {"cancelled": done.removed, "on_their_way": done.busy})
