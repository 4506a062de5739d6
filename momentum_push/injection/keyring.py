"""Injections under a key: taken once, answered alike as often as they are asked for.

    once ──► in work? ──────────────► KeyInUse       409, 451: come back when that one is through
         ──► receipt in the spool? ─► the receipt    the answer of the first time, nothing is queued
                  of another body? ─► KeyReused      422: a mistake of the sender's
         ──► take, with a receipt in the commit of its messages

An injection is in work from here until its commit has succeeded or failed, also when the sender goes
away meanwhile: so between a commit and the first look at its receipt no second one can slip through, and
a crash leaves either both or neither. What was refused altogether leaves no receipt, for nothing was
done that could be done twice, and the sender may have had it put right; only lists of a stream leave
one in any case, so that all of a stream is answered as it was.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Protocol, TypeVar

import structlog

from momentum_push.clock import Clock
from momentum_push.errors import InjectionError, SpoolError
from momentum_push.message import Draft, Message, Refusal
from momentum_push.message.keys import Key, Outline, Receipt, replay
from momentum_push.meters import Meters

__all__ = ["KeyInUse", "KeyReused", "Keyring", "results_of", "write_receipt"]

log = structlog.get_logger()

_SLICE = 500

_T = TypeVar("_T")


class KeyInUse(InjectionError):
    """The injection of this key is being worked on; its answer is not known yet."""

    retry_after_s = 1

    def __init__(self) -> None:
        detail = "the first request with this idempotency key is still being worked on; ask again in a second"
        super().__init__("IdempotencyKeyInUse", detail)


class KeyReused(InjectionError):
    """The key belongs to an injection of something else."""

    def __init__(self) -> None:
        detail = "this idempotency key was used for another body; use a new key for each request"
        super().__init__("IdempotencyKeyReused", detail)


class Store(Protocol):
    """What is asked of the spool."""

    def receipt(self, key: Key) -> Awaitable[Receipt | None]: ...


class Keyring:
    """The keys of one intake."""

    def __init__(self, store: Store, meters: Meters, clock: Clock) -> None:
        self._store = store
        self._meters = meters
        self._clock = clock
        self._in_work: dict[tuple[bytes, int], asyncio.Task[Any]] = {}

    def __repr__(self) -> str:
        return f"<Keyring {len(self._in_work)} in work>"

    async def once(
        self, key: Key, protocol: str, take: Callable[[], Coroutine[Any, Any, _T]]
    ) -> Receipt | _T:
        """Return the receipt of what was taken under the key, or take it.

        Args:
            take: takes it and commits a receipt with it; goes on to its end, whoever waits for it.

        Raises:
            KeyInUse, KeyReused, and what `take` raises.
        """
        place = (key.name, key.part)
        if place in self._in_work:
            raise KeyInUse
        work = asyncio.get_running_loop().create_task(self._once(key, protocol, take))
        self._in_work[place] = work
        work.add_done_callback(lambda done: self._finish(place, done))
        return await asyncio.shield(work)

    async def close(self) -> None:
        """Wait until nothing is in work."""
        while self._in_work:
            await asyncio.wait(list(self._in_work.values()))

    def _finish(self, place: tuple[bytes, int], work: asyncio.Task[Any]) -> None:
        del self._in_work[place]
        if not work.cancelled():
            work.exception()  # whoever asked may be gone, and hears of it otherwise

    async def _once(
        self, key: Key, protocol: str, take: Callable[[], Coroutine[Any, Any, _T]]
    ) -> Receipt | _T:
        receipt = await self._store.receipt(key)
        if receipt is None or not receipt.is_valid(self._clock.now()):
            return await take()
        if receipt.key.body != key.body:
            raise KeyReused
        self._meters.duplicate_injections[protocol] += 1
        return receipt


async def write_receipt(key: Key, now: float, results: Sequence[Message | Refusal]) -> Receipt:
    """Return a receipt that lacks nothing but its first number; made in slices."""
    outline = Outline()
    for start in range(0, len(results), _SLICE):
        outline.add(results[start : start + _SLICE])
        await asyncio.sleep(0)
    return Receipt(key, now, 0, outline.count, outline.packed())


async def results_of(receipt: Receipt, salt: int, drafts: Sequence[Draft]) -> list[Message | Refusal]:
    """Return the results of the first time; read in slices.

    Args:
        salt: the spool's.
        drafts: of the repeated request.

    Raises:
        SpoolError: the receipt is damaged.
    """
    results: list[Message | Refusal] = []
    try:
        for some in replay(receipt, salt, drafts):
            results += some
            await asyncio.sleep(0)
    except ValueError as error:
        log.error("receipt_damaged", first=receipt.first, error=str(error))
        raise SpoolError(f"spool: the receipt of message {receipt.first} is damaged") from error
    return results
