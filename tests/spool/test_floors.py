"""Too little room on the disk: input is refused, all else goes on, and the doors do not flutter."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest
import structlog.testing

from momentum_push.clock import ManualClock
from momentum_push.errors import SpoolError, SpoolFull
from momentum_push.message import MessageList
from momentum_push.spool import Floors, SqliteSpool, open_sqlite
from momentum_push.spool.database import Database
from momentum_push.spool.floors import Room
from momentum_push.spool.folder import SpoolFolder
from momentum_push.spool.rows import Change
from momentum_push.spool.sqlite import STALLED_S
from tests.helpers.lists import NOW, QUEUE, message_list
from tests.helpers.spools import SqliteBench, sequences_in, until

MB = 1 << 20


def run(scenario: Coroutine[Any, Any, None]) -> None:
    async def with_deadline() -> None:
        async with asyncio.timeout(30):
            await scenario

    asyncio.run(with_deadline())


@pytest.mark.parametrize(
    ("room", "is_low", "lack"),
    [
        (Room(100 * MB, 1000), False, ""),
        (Room(100 * MB - 1, 1000), False, "99 MB are free and 100 MB must be (min_free_space)"),
        (Room(125 * MB - 1, 1000), True, "124 MB are free and 125 MB must be (min_free_space)"),
        (Room(125 * MB, 1000), True, ""),
        (Room(200 * MB, 9), False, "9 inodes are free and 10 must be (min_free_inodes)"),
        (Room(200 * MB, 12), False, ""),
        (Room(200 * MB, 12), True, "12 inodes are free and 13 must be (min_free_inodes)"),
        (Room(200 * MB, 0), False, "0 inodes are free and 10 must be (min_free_inodes)"),
        (Room(200 * MB, -1), True, ""),
    ],
)
def test_what_lacks(room: Room, is_low: bool, lack: str) -> None:
    assert Floors(100 * MB, 10).lack(room, is_low=is_low) == lack


def test_floors_of_nothing_are_always_met() -> None:
    assert Floors().lack(Room(0, 0), is_low=True) == ""


def test_below_a_floor_input_is_refused_and_all_else_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = [Room(200 * MB, 1000)]
    monkeypatch.setattr(SpoolFolder, "room", lambda folder: free[0])
    monkeypatch.setattr("momentum_push.spool.writer._REST_S", 0.01)

    async def scenario() -> None:
        bench = SqliteBench(tmp_path)
        with structlog.testing.capture_logs() as events:
            spool = await bench.open()
            assert isinstance(spool, SqliteSpool)
            spool.set_floors(Floors(100 * MB, 10))
            first, second = message_list(10, first=100), message_list(10, first=200)
            await spool.append([first, second])
            free[0] = Room(99 * MB, 1000)
            await until(lambda: not spool.is_writable)
            with pytest.raises(SpoolFull, match=r"too little room .*: 99 MB are free"):
                await spool.append([message_list(1, first=300)])
            for place in range(10):
                first.home.leave(place)
            retry = MessageList.gather(QUEUE, 10, NOW + 60, first.messages[:5])
            await spool.settle([first.home], [retry])
            assert (bench.folder / "reserve").exists(), "the reserve is for a disk that is full"
            free[0] = Room(110 * MB, 1000)
            await until(lambda: "110 MB" in str(spool.obstacle))
            assert not spool.is_writable
            free[0] = Room(130 * MB, 1000)
            await until(lambda: spool.is_writable)
            await spool.append([message_list(1, first=300)])
            free[0] = Room(130 * MB, 3)
            await until(lambda: "3 inodes" in str(spool.obstacle))
            spool.set_floors(Floors(100 * MB, 0))
            await until(lambda: spool.is_writable)
            assert await sequences_in(spool) == [*range(100, 105), *range(200, 210), 300]
            await spool.close()
        names = [event["event"] for event in events]
        assert names.count("spool_suspended") == names.count("spool_writable_again") == 2

    run(scenario())


def test_a_spool_that_opens_below_a_floor_takes_nothing_from_the_first_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SpoolFolder, "room", lambda folder: Room(1 * MB, 1000))
    bench = SqliteBench(tmp_path)
    bench.floors = Floors(2 * MB)

    async def scenario() -> None:
        spool = await bench.open()
        assert not spool.is_writable
        with pytest.raises(SpoolFull):
            await spool.append([message_list(1)])
        await spool.close()

    run(scenario())


def test_a_disk_that_does_not_answer_stops_input_and_the_loop_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The writer hangs in a commit; how long is a matter of the clock that the test moves."""
    hang, hangs = threading.Event(), threading.Event()

    async def scenario() -> None:
        bench = SqliteBench(tmp_path)
        clock = ManualClock()
        with structlog.testing.capture_logs() as events:
            spool = await open_sqlite(bench.folder, meters=bench.meters, clock=clock)
            item = message_list(10, first=100)
            await spool.append([item])
            real = Database.apply

            def hanging(database: Database, change: Change) -> None:
                hangs.set()
                assert hang.wait(20)
                real(database, change)

            monkeypatch.setattr(Database, "apply", hanging)
            item.home.leave(0)
            settling = asyncio.ensure_future(spool.settle([item.home]))
            await asyncio.to_thread(hangs.wait, 20)
            early = asyncio.ensure_future(spool.append([message_list(1, first=200)]))
            await asyncio.sleep(0)
            spool.watch()
            assert spool.is_writable and not early.done()
            clock.advance(STALLED_S)
            spool.watch()
            spool.watch()
            assert not spool.is_writable and not settling.done()
            with pytest.raises(SpoolError, match=r"has not answered for 10 s; see that it works"):
                await spool.append([message_list(1, first=300)])
            assert await sequences_in(spool) == [*range(100, 110)], "reading does not wait for the writer"
            hang.set()
            await settling
            await early
            spool.watch()
            assert spool.is_writable
            await spool.append([message_list(1, first=400)])
            assert await sequences_in(spool) == [*range(101, 110), 200, 400]
            await spool.close()
        names = [event["event"] for event in events]
        assert [name for name in names if name.startswith("spool_disk")] == [
            "spool_disk_stalled",
            "spool_disk_slow",
            "spool_disk_answers_again",
        ]

    run(scenario())
