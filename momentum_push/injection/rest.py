"""`/v1.0/inject`, Momentum's REST injector (momentum.md 5.1, interfaces.md 4).

    {"template": "From: <%=:from%>…", "recipients": [{"to", "from", "keys", "vctx"}, …]}
        ──► one mail per recipient ──► its push part ──► one call of the intake, all or nothing
    {"status": "success", "results": [{"status": "success", "mid": MID, "reason": "250 MID"}, …]}

All failures have one shape, `{"status": "error", "reason": …, "results": […]}`: 400 and relatives for the
sender's fault, 503 with Retry-After for ours. `results` has an entry for each recipient once the
request could be read, so that it is plain which one spoilt it. A result's reason is what SMTP would have
said. Keys that the manual does not know are passed over, as `site` is.

Numbers and booleans in `keys` and `vctx` are taken as their JSON text, null as empty. Protocol `rest`,
client `unknown`, as in Momentum's reception records. Each recipient has its own sender. An
`Idempotency-Key` is obeyed as by the native API.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from momentum_push.injection.http_access import Caller, Notes
from momentum_push.injection.http_answers import RequestRefused, answer
from momentum_push.injection.http_body import Budget, Held, discard, read_whole
from momentum_push.injection.http_keys import digest_body, read_key
from momentum_push.injection.http_template import Template, TemplateError
from momentum_push.injection.notifications import JSON_TYPES, Door, accept, media_type
from momentum_push.message import Draft, Message, Origin, Refusal, mcmt
from momentum_push.message.keys import Key, digest

__all__ = ["Rest", "code_of"]

TURN = 100
"""Recipients that one loop turn generates: about two milliseconds."""

NOT_QUEUED = "451 4.3.0 not injected: another recipient was refused"


class Recipient(msgspec.Struct, rename={"sender": "from"}):
    """One entry of `recipients`."""

    to: str
    sender: str
    keys: dict[str, Any] | None = None
    vctx: dict[str, Any] | None = None


class Injection(msgspec.Struct):
    """The body of a request."""

    template: str
    recipients: list[Recipient]


_DECODER = msgspec.json.Decoder(Injection)
_encode = msgspec.json.Encoder().encode


def code_of(refusal: Refusal) -> str:
    """Return what SMTP answers to a refusal: code and enhanced code."""
    if refusal.error in ("BadDeviceToken", "MissingDeviceToken"):
        return "553 5.1.3"
    if refusal.error == "PayloadTooLarge":
        return "552 5.3.4"
    return "550 5.7.1" if refusal.error in ("UnknownDomain", "RelayingDenied") else "550 5.6.0"


class Rest:
    """The handler."""

    def __init__(
        self,
        intake: Door,
        notes: Notes,
        budget: Budget,
        next_batch: Callable[[], str],
        dot_stuff: bool = False,
    ) -> None:
        """Take the same as `Notifications`, and the restinjector's `dot_stuff`."""
        self._intake = intake
        self._notes = notes
        self._budget = budget
        self._next_batch = next_batch
        self.dot_stuff = dot_stuff

    async def serve(self, request: Request) -> Response:
        """Serve one request; GET is the connectivity test."""
        if request.method != "POST":
            return Response(b"")
        caller: Caller = request.scope["caller"]
        try:
            with self._budget.hold() as held:
                return await self._post(request, caller, held)
        except RequestRefused as refused:
            self._notes.request(caller, caller.client, refused, "rest")
            if not request.scope["exchange"].is_whole and not await discard(request):
                refused.headers["Connection"] = "close"
            return _failed(refused.status, refused.detail, [], refused.headers)

    async def _post(self, request: Request, caller: Caller, held: Held) -> Response:
        kind = media_type(request)
        if kind not in JSON_TYPES:
            detail = f'Content-Type "{kind[:60]}" is not served here; use application/json'
            raise RequestRefused(415, "UnsupportedMediaType", detail)
        body = await read_whole(request, caller.options["max_request_size"], held)
        text = read_key(request)
        key = Key(digest("rest", caller.user, text), await digest_body(body)) if text else None
        injection = _read(body)
        made = await self._make(injection, held)
        if any(isinstance(one, Refusal) for one in made):
            return self._refuse(caller, made)
        drafts = [one for one in made if isinstance(one, Draft)]
        results = await accept(self._intake, self._origin(caller), drafts, whole=True, key=key)
        if any(isinstance(result, Refusal) for result in results):
            return self._refuse(caller, results)
        return answer(200, {"status": "success", "results": [_success(one) for one in results]})

    def _origin(self, caller: Caller) -> Origin:
        return Origin(
            protocol="rest",
            conn_id=caller.conn_id,
            batch_id=self._next_batch(),
            user=caller.user,
            context=caller.context,
        )

    async def _make(self, injection: Injection, held: Held) -> list[Draft | Refusal]:
        """Generate every recipient's draft, or why there is none."""
        template = Template(injection.template, self.dot_stuff)
        made: list[Draft | Refusal] = []
        for place, recipient in enumerate(injection.recipients):
            if place and not place % TURN:
                await asyncio.sleep(0)
            draft = self._draft(template, recipient)
            if isinstance(draft, Draft):
                held.grow(len(draft.payload))
                draft.mailfrom = _bare(recipient.sender)
            made.append(draft)
        return made

    def _draft(self, template: Template, recipient: Recipient) -> Draft | Refusal:
        local, at, domain = _bare(recipient.to).rpartition("@")
        if not at or not domain:
            return Refusal("BadRecipient", f'"to" is no address with a domain: "{recipient.to[:80]}"')
        if not self._intake.is_apn(domain):
            return Refusal("RelayingDenied", "relaying denied")
        try:
            text = template.fill(_values(recipient))
            context = _texts(recipient.vctx or {}, "vctx")
        except TemplateError as error:
            return Refusal("BadTemplate", str(error))
        mail = mcmt.parse(text)
        if isinstance(mail, Refusal):
            return mail
        drafts = mcmt.drafts_from(mail, [(local, domain)], context)
        return drafts if isinstance(drafts, Refusal) else drafts[0]

    def _refuse(self, caller: Caller, results: Sequence[Message | Draft | Refusal]) -> Response:
        refusals = [result for result in results if isinstance(result, Refusal)]
        self._notes.items(caller, refusals, 400, "rest")
        place = next(place for place, result in enumerate(results) if isinstance(result, Refusal))
        reason = f"recipients[{place}]: {_reason(refusals[0])}; nothing was injected"
        return _failed(400, reason, [_failure(result) for result in results])


def _read(body: bytes) -> Injection:
    """Decode and type-check the request.

    Raises:
        RequestRefused: 400, with the place.
    """
    try:
        injection = _DECODER.decode(body)
    except RecursionError as error:
        raise RequestRefused(400, "BadJson", "the body is nested too deeply") from error
    except ValueError as error:  # of msgspec or of UTF-8
        raise RequestRefused(400, "BadRequest", str(error).replace("`", '"')) from error
    if not injection.recipients:
        raise RequestRefused(400, "BadRequest", '"recipients" is empty; name one at least')
    return injection


def _values(recipient: Recipient) -> dict[str, str]:
    """Return what keys stand for; `to` and `from` are given and can be overridden."""
    values = {"to": recipient.to, "from": recipient.sender}
    return values | {key.lower(): value for key, value in _texts(recipient.keys or {}, "keys").items()}


def _texts(values: Mapping[str, Any], name: str) -> dict[str, str]:
    return {key: value if type(value) is str else _text(value, name, key) for key, value in values.items()}


def _text(value: Any, name: str, key: str) -> str:
    if value is None:
        return ""
    if isinstance(value, (dict, list)):
        raise TemplateError(f'{name}: "{key[:40]}" must be a string')
    return _encode(value).decode()


def _bare(address: str) -> str:
    return address.strip().removeprefix("<").removesuffix(">")


def _reason(refusal: Refusal) -> str:
    if refusal.error == "RelayingDenied":
        return "550 5.7.1 relaying denied"
    return f"{code_of(refusal)} {refusal.error}: {refusal.detail}"


def _success(message: Message | Refusal) -> dict[str, str]:
    assert isinstance(message, Message)  # refusals were looked for before
    mid = message.mid
    return {"status": "success", "mid": mid, "reason": f"250 {mid}"}


def _failure(result: Message | Draft | Refusal) -> dict[str, str]:
    return {"status": "error", "reason": _reason(result) if isinstance(result, Refusal) else NOT_QUEUED}


def _failed(
    status: int, reason: str, results: Sequence[Mapping[str, str]], headers: Mapping[str, str] | None = None
) -> Response:
    return answer(status, {"status": "error", "reason": reason, "results": list(results)}, headers)
