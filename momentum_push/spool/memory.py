"""The spool's twin in memory, for tests and for trying things out: same calls, same results, no disk.

Lists are kept as the same rows, encoded (`record.py`), so what comes back is a copy, as after a restart.
A `Disk` outlives the spool that was opened on it: a second spool on the same disk is a restart, and
without `close` before it a crash.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Coroutine, Iterable, Iterator, Sequence
from typing import Any

import msgspec

from momentum_push.clock import Clock
from momentum_push.errors import SpoolError, SpoolFull, SpoolInUse
from momentum_push.message import Home, Message, MessageList, QueueKey, ids
from momentum_push.message.keys import Key, Receipt
from momentum_push.spool.record import DamagedList
from momentum_push.spool.rows import Change, Mark, Operation, Row, Sent, snapshot
from momentum_push.spool.seam import QueueCount
from momentum_push.spool.sequences import Sequences

__all__ = ["Disk", "MemorySpool"]


class Disk:
    """What a spool in memory leaves behind."""

    def __init__(self) -> None:
        self.rows: dict[int, Row] = {}
        self.aside: dict[int, str] = {}
        self.receipts: dict[tuple[bytes, int], Receipt] = {}
        self.salt = secrets.randbits(ids.SALT_BITS)
        self.sequence = 0
        self.number = 0
        self.is_open = False


class MemorySpool:
    """The `Spool` without a disk. Set `is_writable` to False to see how its users take that."""

    def __init__(self, clock: Clock, disk: Disk | None = None) -> None:
        self._disk = disk or Disk()
        if self._disk.is_open:
            raise SpoolInUse("spool: this disk is in use by another spool; close that one first")
        self._disk.is_open = True
        self.salt = self._disk.salt
        self.is_writable = True
        self._is_closed = False
        self._sequences = Sequences(self._disk.sequence or ids.first_sequence(clock.now()))
        self._fill_stock()

    @property
    def bytes_used(self) -> int:
        """Bytes of all blobs."""
        return sum(len(row.body) for row in self._disk.rows.values())

    def take_sequences(self, count: int) -> int:
        """Return the first of `count` numbers; see `Spool`."""
        if self._is_closed:
            raise SpoolError("spool: closed")
        first = self._sequences.take(count)
        self._fill_stock()
        return first

    def append(
        self, lists: Sequence[MessageList], receipts: Sequence[Receipt] = ()
    ) -> Coroutine[Any, Any, None]:
        """Keep new lists and receipts, all or none; see `Spool`."""
        self._number_lists(lists)
        return self._append(lists, Operation(lists=_copies(lists), receipts=receipts))

    def settle(self, homes: Sequence[Home], retries: Sequence[MessageList] = ()) -> Coroutine[Any, Any, None]:
        """Keep progress and retries; see `Spool`."""
        self._number_lists(retries)
        return self._apply(Operation(lists=_copies(retries), marks=[Mark.of(home) for home in homes]))

    def mark_sent(self, homes: Sequence[Home]) -> Coroutine[Any, Any, None]:
        """Keep who may have been sent; see `Spool`."""
        return self._apply(Operation(sent=[Sent.of(home) for home in homes]))

    async def overview(self) -> list[QueueCount]:
        """Return what is where; see `Spool`."""
        lanes: dict[tuple[QueueKey, int], list[Row]] = {}
        for row in self._disk.rows.values():
            lanes.setdefault((row.queue, row.lane), []).append(row)
        return [_count(*key, lanes[key]) for key in sorted(lanes, key=lambda key: (key[0], -key[1]))]

    async def page(
        self, queue: QueueKey, lane: int, after: tuple[float, int], limit: int
    ) -> list[MessageList]:
        """Return lists after the cursor; see `Spool`."""
        rows = [row for row in self._disk.rows.values() if row.queue == queue and row.lane == lane]
        ordered = sorted((row.due, row.number) for row in rows if (row.due, row.number) > after)
        lists: list[MessageList] = []
        for item in self._readable(number for _, number in ordered):
            limit -= item.home.remaining
            if lists and limit < 0:
                break
            lists.append(item)
            if limit <= 0:
                break
        return lists

    async def find(self, sequence: int) -> Message | None:
        """Return a message that is still waiting; see `Spool`."""
        messages = (message for item in self._readable(list(self._disk.rows)) for message in item.messages)
        return next((message for message in messages if message.sequence == sequence), None)

    async def receipt(self, key: Key) -> Receipt | None:
        """Return what is known of a key; see `Spool`. Nothing is pruned here."""
        return self._disk.receipts.get((key.name, key.part))

    async def close(self) -> None:
        """Let go of the disk."""
        self._is_closed = True
        self._disk.is_open = False
        self._disk.sequence = self._sequences.next

    def _fill_stock(self) -> None:
        wanted = self._sequences.wanted()
        self._disk.sequence = max(self._disk.sequence, wanted)
        self._sequences.fill(wanted)

    def _number_lists(self, lists: Iterable[MessageList]) -> None:
        for item in lists:
            if not item.messages or len(item.messages) != item.home.count:
                raise ValueError(f"a new list holds all of its messages; {len(item.messages)} are here")
            self._disk.number += 1
            item.home.number = self._disk.number

    async def _append(self, lists: Sequence[MessageList], operation: Operation) -> None:
        try:
            if not self.is_writable:
                raise SpoolFull("spool: no room; free some, what was accepted is safe")
            await self._apply(operation)
        except SpoolError:
            for item in lists:
                item.home.number = 0
            raise

    async def _apply(self, operation: Operation) -> None:
        """Do what one transaction does, a turn of the loop later, as a commit would."""
        operation.encode()
        await asyncio.sleep(0)
        if self._is_closed:
            raise SpoolError("spool: closed")
        rows = self._disk.rows
        touched = [rows.pop(mark.number) for mark in operation.marks if mark.number in rows]
        change = Change.of([Operation(rows=touched), operation])
        rows.update((row.number, row) for row in change.rows)
        for receipt in change.receipts:
            self._disk.receipts[receipt.key.name, receipt.key.part] = receipt
        for number, bitmap in change.sent:
            if number in rows:
                rows[number] = msgspec.structs.replace(rows[number], sent=bitmap)

    def _readable(self, numbers: Iterable[int]) -> Iterator[MessageList]:
        """Decode rows; set aside those that are damaged."""
        for number in numbers:
            try:
                yield self._disk.rows[number].to_list()
            except DamagedList as error:
                self._disk.aside[number] = error.what
                del self._disk.rows[number]


def _copies(lists: Iterable[MessageList]) -> list[tuple[Home, list[Message]]]:
    return [(snapshot(item.home), item.messages[:]) for item in lists]


def _count(queue: QueueKey, lane: int, rows: list[Row]) -> QueueCount:
    return QueueCount(
        queue,
        lane,
        len(rows),
        sum(row.remaining for row in rows),
        min(row.oldest for row in rows),
        min(row.due for row in rows),
    )
