"""What stands around an intake: a store that commits when told, a log of receptions, routes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from momentum_push.clock import ManualClock
from momentum_push.errors import SpoolError
from momentum_push.injection.intake import Intake
from momentum_push.injection.routing import Routing
from momentum_push.message import Draft, Message, MessageList, Origin, QueueKey, Refusal
from momentum_push.message.keys import Key, Receipt
from momentum_push.message.rules import Rules
from momentum_push.meters import Meters
from tests.helpers.lists import NOW, PAYLOAD, token_of

__all__ = ["ORIGIN", "Door", "FakeRouting", "Store", "draft"]

ORIGIN = Origin(protocol="http", client="192.0.2.7:40001")
DOMAIN = "com.example.news.apns"


def draft(count: int = 1, first: int = 1, **changes: Any) -> Draft:
    """A draft for `count` devices."""
    fields: dict[str, Any] = {
        "domain": DOMAIN,
        "payload": PAYLOAD,
        "tokens": [token_of(number) for number in range(first, first + count)],
    }
    return Draft(**(fields | changes))


class Store:
    """A spool whose commits wait at a gate."""

    def __init__(self) -> None:
        self.salt = 77
        self.is_writable = True
        self.commits: list[list[MessageList]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.entered = 0
        self.error: Exception | None = None
        self.receipts: dict[tuple[bytes, int], Receipt] = {}
        self.receipts_by_commit: list[tuple[Receipt, int]] = []
        self._next = 1

    def take_sequences(self, count: int) -> int:
        first, self._next = self._next, self._next + count
        return first

    async def receipt(self, key: Key) -> Receipt | None:
        return self.receipts.get((key.name, key.part))

    async def append(self, lists: Sequence[MessageList], receipts: Sequence[Receipt] = ()) -> None:
        self.entered += 1
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        self.commits.append(list(lists))
        self.receipts |= {(receipt.key.name, receipt.key.part): receipt for receipt in receipts}
        self.receipts_by_commit += [(receipt, len(self.commits) - 1) for receipt in receipts]

    @property
    def sequences(self) -> list[int]:
        return [m.sequence for lists in self.commits for batch in lists for m in batch.messages]


class FakeRouting(Routing):
    """One apn domain per name that ends in .apns; every binding is its own."""

    def __init__(self) -> None:
        self.rules = Rules(default_topic="com.example.news")

    def is_apn(self, domain: str) -> bool:
        return domain.endswith(".apns")

    def route(self, binding: str | None, domain: str) -> tuple[QueueKey, Rules] | Refusal:
        if not self.is_apn(domain):
            return Refusal("UnknownDomain", f'domain "{domain}" is not delivered to APNs here')
        return QueueKey("default", binding or "default", domain), self.rules


class Door:
    """An intake with everything around it; also the log of receptions."""

    def __init__(self) -> None:
        self.store, self.meters, self.clock = Store(), Meters(), ManualClock(NOW)
        self.queued: list[MessageList] = []
        self.expected: list[MessageList] = []
        self.dropped: list[MessageList] = []
        self.receptions_written: list[int] = []
        self.batches: list[int] = []
        self.events: list[str] = []
        self.log_error: Exception | None = None
        self.queue_error: Exception | None = None
        self.intake = Intake(
            routing=FakeRouting(),
            store=self.store,
            records=self,
            queues=self,
            meters=self.meters,
            clock=self.clock,
        )

    def receptions(self, now: float, messages: Sequence[Message]) -> None:
        if self.log_error is not None:
            raise self.log_error
        self.batches.append(len(messages))
        self.events.append("record")
        self.receptions_written += [message.sequence for message in messages]

    def expect(self, batches: Sequence[MessageList]) -> None:
        self.expected += batches

    def drop(self, batches: Sequence[MessageList]) -> None:
        self.dropped += batches

    def add(self, batches: Sequence[MessageList]) -> None:
        assert all(batch in self.expected for batch in batches)
        assert self.store.commits, "queued before it was on disk"
        self.events.append("queue")
        self.queued += batches
        if self.queue_error is not None:
            raise self.queue_error

    async def accept(
        self, *drafts: Draft, whole: bool = False, key: Key | None = None
    ) -> list[Message | Refusal]:
        return await self.intake.accept(ORIGIN, drafts or (draft(),), whole, key)

    def fail(self, error: SpoolError | None = None) -> None:
        self.store.error = error or SpoolError("spool: no space left on device; make room")
