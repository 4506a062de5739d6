"""Both spools behind one harness, so that a law is tested on each of them.

with a `Bench` one can open a spool, close it, or let it crash, and open what is left.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Protocol

from momentum_push.clock import ManualClock
from momentum_push.message import Message, MessageList
from momentum_push.meters import Meters
from momentum_push.spool import START, Disk, Floors, MemorySpool, Spool, open_sqlite

__all__ = [
    "BENCHES",
    "Bench",
    "MemoryBench",
    "SqliteBench",
    "everything",
    "facts",
    "opened",
    "sequences_in",
    "until",
]

DEADLINE_S = 10.0


class Bench(Protocol):
    """Where a spool is opened again and again."""

    def __init__(self, folder: Path) -> None: ...

    async def open(self) -> Spool: ...

    async def crash(self, spool: Spool) -> None:
        """Stop it without a goodbye; what `open` finds then is what the disk held at this moment."""


class MemoryBench:
    def __init__(self, folder: Path) -> None:
        self.disk = Disk()

    async def open(self) -> Spool:
        return MemorySpool(ManualClock(), self.disk)

    async def crash(self, spool: Spool) -> None:
        self.disk.is_open = False


class SqliteBench:
    """A crash is a copy of the files as they are, opened elsewhere; the log's index is not among them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "spool"
        self.meters = Meters()
        self.force_fsync = False
        self.floors = Floors()

    async def open(self) -> Spool:
        return await open_sqlite(
            self.folder,
            force_fsync=self.force_fsync,
            meters=self.meters,
            clock=ManualClock(),
            probe_interval_s=0.02,
            floors=self.floors,
        )

    async def crash(self, spool: Spool) -> None:
        copy = self.folder.with_name(self.folder.name + "x")
        copy.mkdir()
        for name in ("spool.db", "spool.db-wal"):
            if (self.folder / name).exists():
                shutil.copy(self.folder / name, copy / name)
        await spool.close()
        self.folder = copy


BENCHES: list[type[Bench]] = [MemoryBench, SqliteBench]


@asynccontextmanager
async def opened(bench: Bench) -> AsyncIterator[Spool]:
    """A spool for the time of a `with`."""
    spool = await bench.open()
    try:
        yield spool
    finally:
        await spool.close()


async def everything(spool: Spool, limit: int = 100_000) -> list[MessageList]:
    """All lists of all queues, page by page."""
    lists: list[MessageList] = []
    for lane in await spool.overview():
        after = START
        while page := await spool.page(lane.queue, lane.lane, after, limit):
            lists += page
            after = (page[-1].home.due, page[-1].home.number)
    return lists


async def sequences_in(spool: Spool) -> list[int]:
    """The numbers of all messages that wait, in order of number."""
    return sorted(message.sequence for item in await everything(spool) for message in item.messages)


async def until(condition: object, deadline_s: float = DEADLINE_S) -> None:
    """Wait until `condition()` is true."""
    assert callable(condition)
    async with asyncio.timeout(deadline_s):
        while not condition():
            await asyncio.sleep(0.005)


def facts(message: Message) -> tuple[object, ...]:
    """What must be the same after any journey over the disk."""
    return (
        message.sequence,
        message.token,
        message.payload,
        message.part,
        message.place,
        message.rcpt,
        message.own_apns_id,
    )
