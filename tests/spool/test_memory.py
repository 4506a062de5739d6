"""`memory.py` beyond the laws that it shares with the disk (`test_laws.py`)."""

from __future__ import annotations

import asyncio

import pytest

from momentum_push.clock import ManualClock
from momentum_push.errors import SpoolFull
from momentum_push.spool import Disk, MemorySpool
from tests.helpers.lists import message_list
from tests.helpers.spools import sequences_in


def test_a_spool_that_is_not_writable_refuses_appends_and_still_settles() -> None:
    async def scenario() -> None:
        spool = MemorySpool(ManualClock())
        item = message_list(2)
        await spool.append([item])
        spool.is_writable = False
        with pytest.raises(SpoolFull):
            await spool.append([refused := message_list(1)])
        assert refused.home.number == 0
        item.home.leave(0)
        await spool.settle([item.home])
        assert await sequences_in(spool) == [2]

    asyncio.run(scenario())


def test_a_damaged_list_is_set_aside() -> None:
    async def scenario() -> None:
        disk = Disk()
        spool = MemorySpool(ManualClock(), disk)
        await spool.append([message_list(2), message_list(2, first=10)])
        row = disk.rows[1]
        disk.rows[1] = type(row).of(row.home(), message_list(3).messages)
        assert await sequences_in(spool) == [10, 11]
        assert disk.aside == {1: "progress covers 2 of 3 messages"}

    asyncio.run(scenario())
