"""`POST /v1/notifications`, the native API (interfaces.md 4), in all its forms.

    application/json        one body, one call of the intake, one answer
    application/x-ndjson    lists of up to 1,000 lines, each committed before the next is read

Accepted means on disk: the answer is made after the commit. One bad notification does not spoil the
others; when none is good, 400 names the first fault and its place, and the results tell them all.
NDJSON that breaks off in the middle (broken gzip, a full disk) answers with the status of the fault and
the results of what was committed, so that the client knows where to go on.

With an `Idempotency-Key` (`http_keys`) a request that comes again within a day gets the answer of the first
time, and nothing is queued; a stream goes on behind the last list that was committed. Another body: 422.
The first one still under way: 409.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from msgspec import UNSET, Raw
from starlette.requests import Request
from starlette.responses import Response

from momentum_push.errors import InjectionError, SpoolError
from momentum_push.injection.checking import of_kind
from momentum_push.injection.http_access import Caller, Notes
from momentum_push.injection.http_answers import RequestRefused, header, unavailable
from momentum_push.injection.http_body import Budget, read_whole, stream
from momentum_push.injection.http_drafts import FIELD_OF, Gatherer, Result
from momentum_push.injection.http_envelope import (
    OBJECTS,
    STRINGS,
    Envelope,
    elements,
    read_envelope,
    read_items,
    read_plain,
    read_strings,
    read_tokens,
)
from momentum_push.injection.http_keys import KeysInUse, digest_body, key_of_list, read_key
from momentum_push.injection.http_lines import MAX_BATCH, Line, batches, ended, read_lines
from momentum_push.injection.http_results import SLICE, Ledger, outcome, slices
from momentum_push.injection.keyring import KeyInUse, KeyReused
from momentum_push.message import Cancel, Cancelled, Draft, Origin, Refusal
from momentum_push.message.keys import Key, digest

__all__ = ["JSON_TYPES", "Door", "Notifications", "accept", "media_type"]

JSON_TYPES = frozenset({"", "application/json", "application/x-www-form-urlencoded"})
"""Taken for JSON: said so, nothing said, and what curl says when it is not told better."""

NDJSON_TYPES = frozenset({"application/x-ndjson", "application/ndjson", "application/jsonl"})


class Door(Protocol):
    """What is asked of the intake."""

    @property
    def is_ready(self) -> bool: ...
    def is_apn(self, domain: str) -> bool: ...
    async def accept(
        self, origin: Origin, drafts: Sequence[Draft], whole: bool = False, key: Key | None = None
    ) -> list[Result]: ...
    async def cancel(self, wish: Cancel) -> Cancelled: ...


def media_type(request: Request) -> str:
    """Return the Content-Type without its parameters; empty: none."""
    return header(request, b"content-type").partition(";")[0].strip().lower()


async def accept(
    intake: Door, origin: Origin, drafts: Sequence[Draft], whole: bool = False, key: Key | None = None
) -> list[Result]:
    """Hand drafts over and return after the commit.

    Raises:
        RequestRefused: 503, nothing of it was taken; 409 and 422, by its key.
    """
    if not drafts and (key is None or not key.part):
        return []
    try:
        return await intake.accept(origin, drafts, whole, key)
    except (KeyInUse, KeyReused) as error:
        raise refused_by_key(error) from error
    except (InjectionError, SpoolError) as error:
        raise unavailable(error) from error


def refused_by_key(error: KeyInUse | KeyReused) -> RequestRefused:
    """Translate what the intake says of a key (section 2.7 of the draft)."""
    if isinstance(error, KeyInUse):
        return RequestRefused(409, error.error, error.detail, {"Retry-After": str(error.retry_after_s)})
    return RequestRefused(422, error.error, error.detail)


class Notifications:
    """The handler."""

    def __init__(self, intake: Door, notes: Notes, budget: Budget, next_batch: Callable[[], str]) -> None:
        """Take where messages go, who writes refusals down, the memory for bodies, and batch ids."""
        self._intake = intake
        self._notes = notes
        self._budget = budget
        self._next_batch = next_batch
        self._keys = KeysInUse()

    async def post(self, request: Request) -> Response:
        """Serve one request.

        Raises:
            RequestRefused: as a whole; the gate answers.
        """
        kind = media_type(request)
        if kind in NDJSON_TYPES:
            with self._budget.hold() as held:
                held.grow(2 * MAX_BATCH)
                with self._named(request) as name:
                    held.grow(2 * MAX_BATCH if name else 0)  # a list late, so that its end is known
                    return await self._post_lines(request, name)
        if kind not in JSON_TYPES:
            detail = (
                f'Content-Type "{kind[:60]}" is not served here; use application/json or application/x-ndjson'
            )
            raise RequestRefused(415, "UnsupportedMediaType", detail)
        caller: Caller = request.scope["caller"]
        with self._budget.hold() as held:
            body = await read_whole(request, caller.options["max_request_size"], held)
            return await self._post_whole(request, caller, body)

    @contextmanager
    def _named(self, request: Request) -> Iterator[bytes]:
        """Give the name of a stream's key, empty when it has none, and hold it."""
        key = read_key(request)
        if not key:
            yield b""
            return
        caller: Caller = request.scope["caller"]
        name = digest("http, lines", caller.user, request.query_params.get("domain", ""), key)
        try:
            with self._keys.hold(name):
                yield name
        except KeyInUse as error:
            raise refused_by_key(error) from error

    def _origin(self, caller: Caller) -> Origin:
        return Origin(
            protocol="http",
            client=caller.client,
            conn_id=caller.conn_id,
            batch_id=self._next_batch(),
            user=caller.user,
            context=caller.context,
        )

    # --- application/json --------------------------------------------------------------------------

    async def _post_whole(self, request: Request, caller: Caller, body: bytes) -> Response:
        envelope = await read_envelope(body)
        domain = envelope.domain or request.query_params.get("domain", "")
        text = read_key(request)
        key = Key(digest("http", caller.user, domain, text), await digest_body(body)) if text else None
        gatherer = Gatherer(domain)
        if isinstance(envelope.notifications, Raw):
            await _gather_items(gatherer, envelope.notifications)
        else:
            await _gather_tokens(gatherer, envelope)
        if not gatherer.count:
            name = "notifications" if envelope.notifications is not UNSET else "device_tokens"
            raise RequestRefused(400, "BadRequest", f"$.{name}: the list is empty; send one at least")
        taken = await accept(self._intake, self._origin(caller), gatherer.drafts, key=key)
        results = gatherer.results(taken)
        refusals = await of_kind(results, Refusal)
        refused = None
        if len(refusals) == len(results):
            token = "device_token" if envelope.device_tokens is UNSET else "device_tokens[0]"
            detail = _placed(refusals[0], _first_place(envelope), token)
            refused = RequestRefused(400, refusals[0].error, detail)
        if refusals:
            self._notes.items(caller, refusals, 400)
        return outcome(len(results) - len(refusals), len(refusals), refused, slices(results))

    # --- application/x-ndjson ----------------------------------------------------------------------

    async def _post_lines(self, request: Request, name: bytes) -> Response:
        ledger = Ledger()
        refused, first_line = await self._take_lines(request, ledger, name)
        if refused is None and not ledger.accepted:
            first = ledger.first or Refusal("BadRequest", "the body has no lines; send one at least")
            refused = RequestRefused(400, first.error, _placed(first, f"line {first_line}: $"))
        if refused is not None and not ledger.count:
            raise refused
        return outcome(ledger.accepted, ledger.rejected, refused, ledger.rendered())

    async def _take_lines(
        self, request: Request, ledger: Ledger, name: bytes
    ) -> tuple[RequestRefused | None, int]:
        """Commit list by list; return what ended it before the stream did, and the first line's number."""
        caller: Caller = request.scope["caller"]
        domain = request.query_params.get("domain", "")
        origin = self._origin(caller)
        first_line = 0
        try:
            async for lines, key in _keyed(batches(stream(request)), name):
                first_line = first_line or lines[0].number
                await self._take_list(caller, origin, domain, lines, ledger, key)
        except RequestRefused as refused:
            return refused, first_line
        return None, first_line

    async def _take_list(
        self,
        caller: Caller,
        origin: Origin,
        domain: str,
        lines: Sequence[Line],
        ledger: Ledger,
        key: Key | None,
    ) -> None:
        gatherer = Gatherer(domain)
        for start in range(0, len(lines), SLICE):
            gatherer.add(read_lines(lines[start : start + SLICE]))
            await asyncio.sleep(0)
        taken = await accept(self._intake, origin, gatherer.drafts, key=key)
        refusals = ledger.add(gatherer.results(taken))
        if refusals:
            self._notes.items(caller, refusals, 400)


async def _keyed(
    lists: AsyncIterator[list[Line]], name: bytes
) -> AsyncIterator[tuple[list[Line], Key | None]]:
    """Yield the lists of a stream with their keys; None where it has none."""
    if not name:
        async for lines in lists:
            yield lines, None
        return
    part = 0
    async for lines, is_last in ended(lists):
        part += 1
        yield lines, key_of_list(name, part, lines, is_last)


async def _gather_items(gatherer: Gatherer, raw: Raw) -> None:
    for text, items in elements(raw, OBJECTS, "$.notifications", read_plain):
        if gatherer.count:
            await asyncio.sleep(0)
        if items is not None:
            gatherer.add_plain(items)
        else:
            gatherer.add(read_items(text, gatherer.count))


async def _gather_tokens(gatherer: Gatherer, envelope: Envelope) -> None:
    draft = gatherer.begin_fan_out(envelope)
    if isinstance(envelope.device_tokens, Raw):
        for text, tokens in elements(envelope.device_tokens, STRINGS, "$.device_tokens", read_strings):
            if gatherer.count:
                await asyncio.sleep(0)
            gatherer.add_tokens(draft, tokens if tokens is not None else read_tokens(text, gatherer.count))
        if gatherer.count > 1 and isinstance(envelope.apns_id, str):
            detail = "$.apns_id: one id cannot stand for several notifications; leave it out"
            raise RequestRefused(400, "BadMessageId", detail)
    else:
        token = envelope.device_token
        missing = Refusal("MissingDeviceToken", "null is no device token")
        gatherer.add_tokens(draft, [token if isinstance(token, str) else missing])


def _first_place(envelope: Envelope) -> str:
    """Return where the first notification of a body stands."""
    return "$" if envelope.notifications is UNSET else "$.notifications[0]"


def _placed(refusal: Refusal, place: str, token: str = "device_token") -> str:
    """Return the detail of a refusal with its place before it, unless it has one."""
    if refusal.detail.startswith(("$", "line ")):
        return refusal.detail
    field = FIELD_OF.get(refusal.error)
    field = token if field == "device_token" else field
    return f"{place}.{field}: {refusal.detail}" if field else f"{place}: {refusal.detail}"
