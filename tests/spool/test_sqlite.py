"""What only the spool on disk can show: its files, its lock, damage, group commit, a killed process."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Coroutine
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from momentum_push.clock import ManualClock
from momentum_push.errors import SpoolError, SpoolInUse
from momentum_push.message import MessageList
from momentum_push.meters import Meters
from momentum_push.spool import START, Disk, MemorySpool, SqliteSpool, at_rest, faults, open_sqlite
from tests.helpers.lists import QUEUE, message_list, queue_key
from tests.helpers.spools import SqliteBench, everything, opened, sequences_in


@pytest.fixture
def bench(tmp_path: Path) -> SqliteBench:
    return SqliteBench(tmp_path)


def run(scenario: Coroutine[Any, Any, None]) -> None:
    async def with_deadline() -> None:
        async with asyncio.timeout(30):
            await scenario

    asyncio.run(with_deadline())


def database_of(bench: SqliteBench) -> sqlite3.Connection:
    return sqlite3.connect(bench.folder / "spool.db", isolation_level=None)


# Group commit


def test_a_thousand_appends_at_once_are_a_handful_of_transactions(bench: SqliteBench) -> None:
    async def scenario() -> None:
        async with opened(bench) as spool:
            assert isinstance(spool, SqliteSpool)
            before = spool.commits
            await asyncio.gather(*[spool.append([message_list(1, first=n)]) for n in range(1000)])
            assert spool.commits - before < 50
            assert await sequences_in(spool) == list(range(1000))

    run(scenario())


def test_every_commit_is_measured(tmp_path: Path) -> None:
    async def scenario() -> None:
        meters = Meters()
        spool = await open_sqlite(tmp_path / "s", meters=meters, clock=SteppingClock())
        await spool.append([message_list(1)])
        await spool.append([message_list(1)])
        await spool.close()
        assert meters.spool_commit_seconds.count == spool.commits >= 2

    run(scenario())


class SteppingClock(ManualClock):
    """A clock of which every look takes a millisecond."""

    def monotonic(self) -> float:
        self.advance(0.001)
        return super().monotonic()


def test_a_waiting_disk_does_not_stop_the_loop(bench: SqliteBench) -> None:
    async def scenario() -> None:
        async with opened(bench) as spool:
            with closing(database_of(bench)) as other:
                other.execute("BEGIN IMMEDIATE")
                appending = asyncio.create_task(spool.append([message_list(2)]))
                for _ in range(20):
                    await asyncio.sleep(0.001)
                assert not appending.done()
                other.execute("ROLLBACK")
            await appending
            assert await sequences_in(spool) == [1, 2]

    run(scenario())


def test_an_append_beyond_the_budget_waits_for_its_turn(bench: SqliteBench) -> None:
    async def scenario() -> None:
        async with opened(bench) as spool:
            assert isinstance(spool, SqliteSpool)
            spool._budget.limit = 1
            appends = [spool.append([message_list(10, first=10 * n)]) for n in range(20)]
            await asyncio.gather(*appends)
            assert await sequences_in(spool) == list(range(200))
            assert spool._budget.used == 0

    run(scenario())


# Files


def test_the_folder_is_made_and_files_have_the_mode(tmp_path: Path) -> None:
    async def scenario() -> None:
        folder = tmp_path / "s"
        spool = await open_sqlite(folder, mode=0o640, meters=Meters(), clock=ManualClock())
        await spool.append([message_list(1)])
        assert folder.stat().st_mode & 0o777 == 0o750 & ~umask()
        assert (folder / "spool.db").stat().st_mode & 0o777 == 0o640
        assert (folder / "spool.db-wal").stat().st_mode & 0o777 == 0o640
        assert spool.bytes_used > 4096
        await spool.close()
        assert not (folder / "spool.db-wal").exists()

    run(scenario())


def umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


@pytest.mark.parametrize(("force_fsync", "level"), [(True, 2), (False, 1)])
def test_force_fsync_is_what_synchronous_says(tmp_path: Path, force_fsync: bool, level: int) -> None:
    async def scenario() -> None:
        spool = await open_sqlite(
            tmp_path / "s", force_fsync=force_fsync, meters=Meters(), clock=ManualClock()
        )
        execute = spool._database._connection.execute
        settings = [execute(f"PRAGMA {name}").fetchone()[0] for name in SETTINGS]
        assert settings == [level, "wal", 2, 10_000]
        assert spool._reader._connection.execute("PRAGMA wal_autocheckpoint").fetchone() == (0,)
        await spool.close()

    run(scenario())


SETTINGS = ("synchronous", "journal_mode", "auto_vacuum", "wal_autocheckpoint")


def test_a_folder_whose_parent_is_missing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpoolError, match=r'spool: ".*/none/s": No such file or directory; create it'):
        run(open_and_close(tmp_path / "none" / "s"))


async def open_and_close(folder: Path) -> None:
    spool = await open_sqlite(folder, meters=Meters(), clock=ManualClock())
    await spool.close()


def test_a_second_spool_on_the_same_folder_is_refused_with_the_owner(bench: SqliteBench) -> None:
    async def scenario() -> None:
        async with opened(bench):
            with pytest.raises(
                SpoolInUse, match=rf'"{bench.folder}" is in use by process {os.getpid()}; stop it'
            ):
                await bench.open()
        await open_and_close(bench.folder)
        disk = Disk()
        MemorySpool(ManualClock(), disk)
        with pytest.raises(SpoolInUse):
            MemorySpool(ManualClock(), disk)

    run(scenario())


def test_a_later_format_is_refused(bench: SqliteBench) -> None:
    run(open_and_close(bench.folder))
    with closing(database_of(bench)) as database:
        database.execute("UPDATE meta SET value = 4 WHERE name = 'format'")
    with pytest.raises(SpoolError, match="has format 4, this program knows format 3"):
        run(open_and_close(bench.folder))
    with closing(database_of(bench)) as database:  # and the lock was let go of
        database.execute("UPDATE meta SET value = 3 WHERE name = 'format'")
    run(open_and_close(bench.folder))


def test_a_start_that_was_interrupted_is_started_again(bench: SqliteBench) -> None:
    """An empty file is what a crash between making the file and its tables leaves."""
    bench.folder.mkdir()
    (bench.folder / "spool.db").touch()
    run(open_and_close(bench.folder))


# Damage


def test_a_damaged_list_is_set_aside_and_the_others_go_on(bench: SqliteBench) -> None:
    async def scenario() -> None:
        spool = await bench.open()
        lists = [message_list(2, first=10 * n) for n in range(4)]
        await spool.append(lists)
        await spool.close()
        with closing(database_of(bench)) as database:
            damage = (
                "UPDATE lists SET body = substr(body, 1, 60) || x'00' || substr(body, 62) WHERE number = ?"
            )
            database.execute(damage, (lists[0].home.number,))
            database.execute(damage, (lists[2].home.number,))
        async with opened(bench) as spool:
            assert [item.home.number for item in await spool.page(QUEUE, 10, START, 1)] == [
                lists[1].home.number
            ]
            assert await spool.find(20) is None
            assert await sequences_in(spool) == [10, 11, 30, 31]
            await spool.settle([])
            assert [(lane.lists, lane.messages) for lane in await spool.overview()] == [(2, 4)]
        with closing(database_of(bench)) as database:
            aside = database.execute("SELECT number, why FROM aside ORDER BY number").fetchall()
        assert [number for number, _ in aside] == [lists[0].home.number, lists[2].home.number]
        assert all("checksum does not match" in why for _, why in aside)

    run(scenario())


def test_sqlite_finds_nothing_wrong_after_much_work(bench: SqliteBench) -> None:
    async def scenario() -> None:
        chance = random.Random(3)
        async with opened(bench) as spool:
            alive: list[MessageList] = []
            for _ in range(40):
                new = [
                    message_list(chance.randint(1, 300), queue=queue_key(chance.choice("abc")))
                    for _ in range(3)
                ]
                await spool.append(new)
                alive += new
                gone = chance.sample(alive, 3)
                for item in gone:
                    for place in range(item.home.count):
                        item.home.leave(place)
                await spool.settle([item.home for item in gone])
                alive = [item for item in alive if item.home.remaining]
        with closing(database_of(bench)) as database:
            assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]

    run(scenario())


def test_names_of_empty_queues_are_forgotten_at_the_next_start(bench: SqliteBench) -> None:
    async def scenario() -> None:
        async with opened(bench) as spool:
            item = message_list(1, queue=queue_key("gone"))
            await spool.append([item, message_list(1)])
            item.home.leave(0)
            await spool.settle([item.home])
        await open_and_close(bench.folder)
        with closing(database_of(bench)) as database:
            assert database.execute("SELECT domain FROM queues").fetchall() == [(QUEUE.domain,)]

    run(scenario())


def test_an_update_of_progress_writes_one_page_and_not_the_list(bench: SqliteBench) -> None:
    """Why `progress` stands before `body`, and `remaining` has four digits (schema.sql)."""

    def used() -> int:
        return sum((bench.folder / name).stat().st_size for name in ("spool.db", "spool.db-wal"))

    async def scenario() -> None:
        spool = await open_sqlite(bench.folder, meters=Meters(), clock=ManualClock())
        item = message_list(1000)
        await spool.append([item])
        for places in (range(500), range(500, 900), range(900, 999)):
            before = used()
            for place in places:
                item.home.leave(place)
            await spool.settle([item.home])
            assert used() - before <= 3 * 4200  # the list's page, the counts, room for one more
        await spool.close()

    run(scenario())


# A process that is killed


WORKERS = 8

CHILD = """
import asyncio, sys
from pathlib import Path
from momentum_push.clock import SystemClock
from momentum_push.meters import Meters
from momentum_push.spool import open_sqlite
from tests.helpers.lists import message_list

async def work(spool, worker):
    while True:
        first = spool.take_sequences(30)
        item = message_list(30, first=first)
        await spool.append([item])
        print("in", first, flush=True)
        if worker % 2:
            for place in range(30):
                item.home.leave(place)
            await spool.settle([item.home])
            print("done", first, flush=True)

async def main():
    spool = await open_sqlite(Path(sys.argv[1]), meters=Meters(), clock=SystemClock())
    await asyncio.gather(*[work(spool, worker) for worker in range(int(sys.argv[2]))])

asyncio.run(main())
"""


def test_a_killed_process_loses_nothing_that_it_acknowledged(tmp_path: Path) -> None:
    chance = random.Random(5)
    before: set[int] = set()
    for _ in range(3):
        lines = kill_after(tmp_path / "s", chance.randint(20, 400))
        acknowledged = {int(number) for word, number in lines if word == "in"}
        done = {int(number) for word, number in lines if word == "done"}
        found = found_after_kill(tmp_path / "s")
        assert not acknowledged & before, "a number was handed out twice"
        assert before <= found, "what nobody touched is there"
        assert not done & found, "what was settled is gone"
        missing = acknowledged - done - found
        assert len(missing) <= WORKERS // 2, "only what was being settled when the kill came may be gone"
        before = found
    with closing(sqlite3.connect(tmp_path / "s" / "spool.db")) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def kill_after(folder: Path, count: int) -> list[list[str]]:
    """Let a child work until it has told of `count` results, kill it, and return all that it told."""
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(folder), str(WORKERS)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path.cwd(),
    )
    assert child.stdout is not None
    lines = [line for _, line in zip(range(count), child.stdout, strict=False)]
    child.send_signal(signal.SIGKILL)
    lines += child.stdout.readlines()
    child.wait(10)
    child.stdout.close()
    return [line.split() for line in lines if line.startswith(("in ", "done ")) and line.endswith("\n")]


def found_after_kill(folder: Path) -> set[int]:
    """The first numbers of all lists on disk."""
    firsts: set[int] = set()

    async def scenario() -> None:
        spool = await open_sqlite(folder, meters=Meters(), clock=ManualClock())
        for item in await everything(spool):
            assert len(item.messages) == 30
            firsts.add(item.messages[0].sequence)
        await spool.close()

    run(scenario())
    return firsts


# Older formats


def of_format_1(bench: SqliteBench) -> None:
    """A spool as the programs of format 1 left it: two lists, of the second message 200 is gone."""

    async def fill() -> None:
        async with opened(bench) as spool:
            begun = message_list(10, first=200)
            await spool.append([message_list(3, first=100), begun])
            begun.home.leave(0)
            await spool.settle([begun.home])

    asyncio.run(fill())
    fresh = bench.folder / "fresh.db"
    (bench.folder / "spool.db").rename(fresh)
    schema = Path(__file__).with_name("format_1.sql").read_text()
    with closing(database_of(bench)) as old:
        old.executescript("PRAGMA auto_vacuum = incremental; PRAGMA journal_mode = WAL;" + schema)
        old.execute("ATTACH ? AS fresh", (str(fresh),))
        for table in ("meta", "queues", "lists"):
            old.execute(f"INSERT INTO {table} SELECT * FROM fresh.{table}")
        old.execute("UPDATE meta SET value = 1 WHERE name = 'format'")


def tables(bench: SqliteBench) -> dict[str, list[tuple[object, ...]]]:
    """Columns of every table, and the triggers' text."""
    with closing(database_of(bench)) as database:
        names = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        found = {name: list(database.execute(f"SELECT * FROM pragma_table_info('{name}')")) for name in names}
        found["triggers"] = sorted(
            database.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'")
        )
        return found


def test_a_spool_of_format_1_becomes_one_of_ours_and_loses_nothing(
    bench: SqliteBench, tmp_path: Path
) -> None:
    of_format_1(bench)

    async def scenario() -> None:
        async with opened(bench) as spool:
            assert await sequences_in(spool) == [100, 101, 102, *range(201, 210)]
            (first, _) = await everything(spool)
            assert first.home.sent is None
            first.home.mark(2)
            await spool.mark_sent([first.home])
            (first, _) = await everything(spool)
            assert first.home.is_marked(2)
            assert [(lane.lists, lane.messages) for lane in await spool.overview()] == [(2, 12)]
        fresh = SqliteBench(tmp_path / "fresh")
        fresh.folder.parent.mkdir()
        async with opened(fresh):
            pass
        assert tables(bench) == tables(fresh)

    run(scenario())


def test_looking_at_a_spool_of_format_1_leaves_it_as_it_is(bench: SqliteBench) -> None:
    of_format_1(bench)
    before = tables(bench)
    with at_rest(bench.folder) as database:
        assert sorted(row.count for row in database.lists()) == [3, 10]
        assert list(faults(database)) == []
    assert tables(bench) == before
    with closing(database_of(bench)) as database:
        assert database.execute("SELECT value FROM meta WHERE name = 'format'").fetchall() == [(1,)]


def test_a_migration_that_fails_half_way_changes_nothing(bench: SqliteBench) -> None:
    of_format_1(bench)
    with closing(database_of(bench)) as database:
        database.execute("ALTER TABLE aside ADD COLUMN sent BLOB")  # the last step will fail
    before = tables(bench)
    for _ in range(2):
        with pytest.raises(SpoolError, match="duplicate column"):
            asyncio.run(bench.open())
        assert tables(bench) == before


def test_marks_go_with_a_list_that_is_set_aside(bench: SqliteBench) -> None:
    async def scenario() -> None:
        async with opened(bench) as spool:
            item = message_list(3)
            await spool.append([item])
            item.home.mark(1)
            await spool.mark_sent([item.home])
            with closing(database_of(bench)) as database:
                database.execute("UPDATE lists SET body = x'00'")
            assert await everything(spool) == []
            await spool.append([message_list(1, first=9)])
            with closing(database_of(bench)) as database:
                assert database.execute("SELECT number, sent FROM aside").fetchall() == [(1, b"\2")]
                assert database.execute("SELECT * FROM sent").fetchall() == []

    run(scenario())
