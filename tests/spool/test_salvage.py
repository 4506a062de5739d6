"""Damaged databases: a start saves what can be read, tells the rest, and gives no number out again."""

from __future__ import annotations

import asyncio
import os
import random
import sqlite3
from collections.abc import Callable, Coroutine
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import structlog.testing

from momentum_push.errors import SpoolDamaged, SpoolError, SpoolFull
from momentum_push.message import MessageList
from momentum_push.spool import START, SqliteSpool, at_rest, faults, salvage
from momentum_push.spool.database import PAGE_BYTES, Database
from momentum_push.spool.folder import SpoolFolder
from momentum_push.spool.wreck import Wreck
from tests.helpers.lists import QUEUE, message_list, queue_key
from tests.helpers.spools import SqliteBench, everything, facts, opened, sequences_in, until

LISTS = 60
PER_LIST = 40


def run(scenario: Coroutine[Any, Any, None]) -> None:
    async def with_deadline() -> None:
        async with asyncio.timeout(60):
            await scenario

    asyncio.run(with_deadline())


@pytest.fixture
def bench(tmp_path: Path) -> SqliteBench:
    return SqliteBench(tmp_path)


class Before:
    """What was in the spool before the damage."""

    def __init__(self) -> None:
        self.facts: dict[int, tuple[object, ...]] = {}
        self.gone: set[int] = set()
        self.salt = 0
        self.next = 0


async def fill(bench: SqliteBench) -> Before:
    """Lists of several queues; some partly sent, some removed, some marked."""
    before = Before()
    async with opened(bench) as spool:
        before.salt = spool.salt
        items: list[MessageList] = []
        for number in range(LISTS):
            first = spool.take_sequences(PER_LIST)
            queue = queue_key(f"app{number % 3}.example.apns")
            payload = b'{"aps":{"alert":"%s"}}' % (b"x" * (40 * number))
            items.append(message_list(PER_LIST, first=first, queue=queue, payload=payload))
        await spool.append(items)
        for item in items[::5]:
            for place in range(PER_LIST if item.home.number % 2 else 7):
                item.home.leave(place)
        await spool.settle([item.home for item in items[::5]])
        for item in items:
            for message in item.messages:
                if item.home.number % 5 == 1 and (item.home.number % 2 or message.place < 7):
                    before.gone.add(message.sequence)
                else:
                    before.facts[message.sequence] = facts(message)
        before.next = spool.take_sequences(1)
    assert len(before.facts) == LISTS * PER_LIST - len(before.gone)
    return before


async def after(bench: SqliteBench) -> tuple[SqliteSpool, list[dict[str, Any]]]:
    with structlog.testing.capture_logs() as events:
        spool = await bench.open()
    assert isinstance(spool, SqliteSpool)
    return spool, [dict(event) for event in events if event["event"] == "spool_salvaged"]


async def held(spool: SqliteSpool) -> dict[int, tuple[object, ...]]:
    return {message.sequence: facts(message) for item in await everything(spool) for message in item.messages}


def overwrite(path: Path, page: int, content: bytes) -> None:
    with path.open("r+b") as file:
        file.seek((page - 1) * PAGE_BYTES)
        file.write(content)


def leaves(path: Path, table: str) -> list[int]:
    """The pages on which a table's rows begin, in their order."""
    with closing(sqlite3.connect(path)) as connection:
        pages = path.stat().st_size // PAGE_BYTES
        (root,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (table,)).fetchone()
    content = path.read_bytes()

    def below(page: int) -> list[int]:
        start = (page - 1) * PAGE_BYTES
        kind, cells = content[start], int.from_bytes(content[start + 3 : start + 5], "big")
        if kind in (0x0D, 0x0A):
            return [page]
        places = [
            start + int.from_bytes(content[start + 12 + 2 * n : start + 14 + 2 * n], "big")
            for n in range(cells)
        ]
        children = [int.from_bytes(content[place : place + 4], "big") for place in places]
        children.append(int.from_bytes(content[start + 8 : start + 12], "big"))
        return [leaf for child in children for leaf in below(child)]

    assert 0 < root <= pages
    return below(root)


@pytest.mark.parametrize("content", [b"\xff", b"\x00", b"garbage!"], ids=["ones", "zeros", "text"])
def test_a_bad_page_costs_its_own_lists_and_no_others(bench: SqliteBench, content: bytes) -> None:
    async def scenario() -> None:
        before = await fill(bench)
        path = bench.folder / "spool.db"
        pages = leaves(path, "lists")
        assert len(pages) > 5
        overwrite(path, pages[len(pages) // 2], (content * PAGE_BYTES)[:PAGE_BYTES])
        spool, (report,) = await after(bench)
        found = await held(spool)
        assert found.items() <= before.facts.items(), "what was saved is not what was there"
        missing = len(before.facts) - len(found)
        assert 0 < missing <= PER_LIST * 8, f"a page of 4 KB cost {missing} messages"
        assert report["missing"] == missing and report["lost"] >= 1
        assert report["messages"] == len(found)
        await spool.close()

    run(scenario())


@pytest.mark.parametrize("index", ["lists_due", "lists_oldest", "lists_span"])
def test_a_bad_index_costs_nothing(bench: SqliteBench, index: str) -> None:
    async def scenario() -> None:
        before = await fill(bench)
        path = bench.folder / "spool.db"
        overwrite(path, leaves(path, index)[0], b"\xff" * PAGE_BYTES)
        spool, (report,) = await after(bench)
        assert await held(spool) == before.facts
        assert (report["lost"], report["set_aside"], report["missing"]) == (0, 0, 0)
        await spool.close()

    run(scenario())


def test_where_no_index_can_be_read_the_numbers_are_searched(bench: SqliteBench) -> None:
    async def scenario() -> None:
        before = await fill(bench)
        path = bench.folder / "spool.db"
        pages = leaves(path, "lists")
        bad = [leaves(path, index)[0] for index in ("lists_due", "lists_oldest", "lists_span")]
        bad += [pages[3], pages[-4]]
        for page in bad:
            overwrite(path, page, b"\xff" * PAGE_BYTES)
        spool, (report,) = await after(bench)
        found = await held(spool)
        assert found.items() <= before.facts.items()
        assert 0 < len(before.facts) - len(found) <= PER_LIST * 16
        assert report["missing"] == len(before.facts) - len(found)
        await spool.close()

    run(scenario())


def test_a_first_page_of_garbage_is_replaced(bench: SqliteBench) -> None:
    async def scenario() -> None:
        before = await fill(bench)
        overwrite(bench.folder / "spool.db", 1, b"\x5a" * PAGE_BYTES)
        spool, _ = await after(bench)
        assert await held(spool) == before.facts
        assert spool.salt == before.salt
        assert not list(bench.folder.glob("*.copy*"))
        await spool.close()

    run(scenario())


def test_a_file_that_was_cut_short_gives_what_is_left_of_it(
    bench: SqliteBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        monkeypatch.delattr("momentum_push.spool.wreck._copy_with_new_head")  # its head is not what is wrong
        before = await fill(bench)
        path = bench.folder / "spool.db"
        os.truncate(path, path.stat().st_size // 2 // PAGE_BYTES * PAGE_BYTES)
        spool, (report,) = await after(bench)
        found = await held(spool)
        assert found.items() <= before.facts.items()
        assert len(found) > PER_LIST * 5, "hardly anything was saved"
        assert report["missing"] in (-1, len(before.facts) - len(found))
        await spool.close()

    run(scenario())


def test_garbage_anywhere_never_brings_a_message_back_nor_a_number_twice(tmp_path: Path) -> None:
    """Two random pages at a time: what is found was there, what was sent stays away, ids are new."""
    chance = random.Random(11)
    original = SqliteBench(tmp_path / "original")
    original.folder.parent.mkdir()
    befores: list[Before] = []

    async def scenario() -> None:
        befores.append(await fill(original))
        (before,) = befores
        content = (original.folder / "spool.db").read_bytes()
        pages = len(content) // PAGE_BYTES
        for turn in range(25):
            bench = SqliteBench(tmp_path / str(turn))
            bench.folder.mkdir(parents=True)
            path = bench.folder / "spool.db"
            path.write_bytes(content)
            for page in chance.sample(range(1, pages + 1), 2):
                overwrite(path, page, chance.randbytes(PAGE_BYTES))
            spool, _ = await after(bench)
            found = await held(spool)
            assert found.items() <= before.facts.items(), turn
            assert spool.take_sequences(10) > before.next, turn
            assert spool.is_writable
            await spool.append([message_list(3, first=1)])
            await spool.close()
            with at_rest(bench.folder) as database:
                wrong = [what for what, _ in faults(database) if what not in ("database",)]
            assert not [what for what in wrong if not what.isdigit()], turn

    run(scenario())


def test_no_number_is_given_out_again_though_the_meta_table_is_gone(bench: SqliteBench) -> None:
    async def scenario() -> None:
        before = await fill(bench)
        path = bench.folder / "spool.db"
        overwrite(path, leaves(path, "meta")[0], b"\xff" * PAGE_BYTES)
        spool, _ = await after(bench)
        assert await held(spool) == before.facts
        assert spool.take_sequences(1) > before.next
        await spool.close()

    run(scenario())


def test_a_file_that_is_no_database_makes_way(bench: SqliteBench) -> None:
    bench.folder.mkdir()
    (bench.folder / "spool.db").write_bytes(b"no database at all" * 1000)

    async def scenario() -> None:
        spool, (report,) = await after(bench)
        await spool.append([message_list(3, first=1)])
        assert await sequences_in(spool) == [1, 2, 3]
        await spool.close()
        kept = bench.folder / report["kept_as"]
        assert kept.read_bytes() == b"no database at all" * 1000
        assert "0 messages in 0 lists were saved" in Path(f"{kept}.txt").read_text()

    run(scenario())


def test_a_log_that_was_not_moved_yet_is_salvaged_as_well(bench: SqliteBench) -> None:
    async def scenario() -> None:
        await fill(bench)
        spool = await bench.open()
        assert isinstance(spool, SqliteSpool)
        late = message_list(50, first=spool.take_sequences(50))
        await spool.append([late])
        whole = await held(spool)
        await bench.crash(spool)
        path = bench.folder / "spool.db"
        assert (bench.folder / "spool.db-wal").stat().st_size
        content = path.read_bytes()
        overwrite(path, 1, b"\x5a" * PAGE_BYTES)
        assert path.read_bytes() != content
        spool, _ = await after(bench)
        assert await held(spool) == whole
        await spool.close()

    run(scenario())


def test_keys_of_requests_that_were_taken_are_kept(bench: SqliteBench) -> None:
    async def scenario() -> None:
        await fill(bench)
        path = bench.folder / "spool.db"
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            names = [name for _, name, *_ in connection.execute("PRAGMA table_info(keys)")]
            values = [
                f"x'{place:032x}'" if name != "created" else "1767600000.0"
                for place, name in enumerate(names)
            ]
            values[0] = "17"
            connection.execute(f"INSERT INTO keys VALUES ({', '.join(values)})")
            before = connection.execute("SELECT * FROM keys").fetchall()
        overwrite(path, leaves(path, "lists_due")[0], b"\xff" * PAGE_BYTES)
        spool, _ = await after(bench)
        await spool.close()
        with closing(sqlite3.connect(path)) as connection:
            assert connection.execute("SELECT * FROM keys").fetchall() == before

    run(scenario())


def test_the_log_counts_where_the_first_page_has_to_be_replaced(bench: SqliteBench) -> None:
    """Progress alone: had the database grown, the log would have a first page of its own."""

    async def scenario() -> None:
        before = await fill(bench)
        spool = await bench.open()
        assert isinstance(spool, SqliteSpool)
        item = (await everything(spool))[0]
        item.home.leave(item.messages[0].place)
        await spool.settle([item.home])
        await bench.crash(spool)
        overwrite(bench.folder / "spool.db", 1, b"\x5a" * PAGE_BYTES)
        with closing(Wreck(bench.folder / "spool.db")) as wreck:
            rows = [found.row for found in wreck.lists() if found.row]
        assert sum(row.remaining for row in rows) == len(before.facts) - 1

    run(scenario())


def test_damage_that_is_not_there_after_all_costs_nothing(bench: SqliteBench) -> None:
    """What SQLite says of a page that cannot be read is what it says of one that is damaged."""

    async def scenario() -> None:
        before = await fill(bench)
        path = bench.folder / "spool.db"
        page = leaves(path, "lists")[-1]
        good = path.read_bytes()[(page - 1) * PAGE_BYTES : page * PAGE_BYTES]
        spool, _ = await after(bench)
        overwrite(path, page, b"\xff" * PAGE_BYTES)
        with pytest.raises(SpoolDamaged):
            await everything(spool)
        await until(lambda: not spool.is_writable)
        overwrite(path, page, good)
        await until(lambda: spool.is_writable)
        assert await held(spool) == before.facts
        assert not (bench.folder / "damaged").exists()
        await spool.close()
        (bench.folder / "damaged").write_text("so said a daemon before it was killed")
        spool, reports = await after(bench)
        assert not reports and not (bench.folder / "damaged").exists()
        await spool.close()

    run(scenario())


def test_the_log_of_the_damaged_database_never_meets_the_new_one(bench: SqliteBench) -> None:
    async def scenario() -> None:
        await fill(bench)
        spool = await bench.open()
        assert isinstance(spool, SqliteSpool)
        await spool.append([message_list(50, first=spool.take_sequences(50))])
        whole = await held(spool)
        await bench.crash(spool)
        log = (bench.folder / "spool.db-wal").read_bytes()
        place = SpoolFolder(bench.folder, 0o640)
        place.open()
        with structlog.testing.capture_logs() as events:
            salvage.salvage(place, "because", 1e9)
        place.close()
        (report,) = (event for event in events if event["event"] == "spool_salvaged")
        spool, _ = await after(bench)
        assert await held(spool) == whole and report["missing"] == 0
        await spool.close()
        assert (bench.folder / f"{report['kept_as']}-wal").read_bytes() == log
        with at_rest(bench.folder) as database:
            assert not database.integrity()

    run(scenario())


def test_a_list_whose_body_is_rotten_is_set_aside_and_counted(bench: SqliteBench) -> None:
    async def scenario() -> None:
        before = await fill(bench)
        path = bench.folder / "spool.db"
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute(
                "UPDATE lists SET body = substr(body, 1, 60) || x'00' || substr(body, 62) WHERE number = 2"
            )
        overwrite(path, leaves(path, "lists_due")[0], b"\xff" * PAGE_BYTES)
        spool, (report,) = await after(bench)
        assert (report["set_aside"], report["lost"], report["missing"]) == (1, 0, PER_LIST)
        assert len(await held(spool)) == len(before.facts) - PER_LIST
        await spool.close()
        with at_rest(bench.folder) as database:
            assert database.set_aside() == [(2, "checksum does not match")]

    run(scenario())


def test_damage_met_while_running_stops_input_and_a_restart_salvages(
    bench: SqliteBench, tmp_path: Path
) -> None:
    async def scenario() -> None:
        before = await fill(bench)
        path = bench.folder / "spool.db"
        pages = leaves(path, "lists")
        spool, reports = await after(bench)
        assert not reports
        overwrite(path, pages[-1], b"\xff" * PAGE_BYTES)  # beneath its feet, and not in any cache
        with (
            structlog.testing.capture_logs() as events,
            pytest.raises(SpoolDamaged, match="restart the daemon"),
        ):
            await everything(spool)
        with structlog.testing.capture_logs() as events:
            await until(lambda: not spool.is_writable)
            with pytest.raises(SpoolError, match="is damaged"):
                await spool.append([message_list(3, first=1)])
            assert isinstance(spool.obstacle, SpoolDamaged)
            await until(lambda: (bench.folder / "damaged").exists())
            await asyncio.sleep(0.5)  # it is looked through twice meanwhile
            assert not spool.is_writable
        assert [event["event"] for event in events].count("spool_damaged") == 1
        await spool.close()
        spool, (report,) = await after(bench)
        found = await held(spool)
        assert found.items() <= before.facts.items() and report["missing"] == len(before.facts) - len(found)
        assert spool.is_writable and not (bench.folder / "damaged").exists()
        await spool.close()
        spool, reports = await after(bench)
        assert not reports, "it was salvaged twice"
        await spool.close()

    run(scenario())


@pytest.mark.parametrize("step", range(1, 31))
def test_a_salvage_that_is_cut_off_anywhere_is_finished_by_the_next_start(
    bench: SqliteBench, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """Each call that changes names in the folder may be the last one."""

    class Cut(BaseException):
        pass

    async def scenario() -> None:
        before = await fill(bench)
        path = bench.folder / "spool.db"
        overwrite(path, leaves(path, "lists_due")[0], b"\xff" * PAGE_BYTES)
        left = step

        def counted(real: Callable[..., Any]) -> Callable[..., Any]:
            def call(*arguments: Any, **named: Any) -> Any:
                nonlocal left
                left -= 1
                if left == 0:
                    raise Cut
                return real(*arguments, **named)

            return call

        with monkeypatch.context() as patch:
            for owner, name in ((os, "link"), (os, "replace"), (os, "fsync"), (Path, "unlink")):
                patch.setattr(owner, name, counted(getattr(owner, name)))
            place = SpoolFolder(bench.folder, 0o640)
            place.open()
            try:
                salvage.salvage(place, "cut off", 1e9)
            except Cut:
                pass
            finally:
                left = 0
                place.close()
        spool, _ = await after(bench)
        assert await held(spool) == before.facts
        await spool.close()
        assert not {"damaged", "salvaged", "spool.db.new"} & {path.name for path in bench.folder.iterdir()}

    run(scenario())


def test_a_disk_without_room_for_the_new_one_leaves_all_as_it_was(
    bench: SqliteBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        before = await fill(bench)
        path = bench.folder / "spool.db"
        overwrite(path, leaves(path, "lists_due")[0], b"\xff" * PAGE_BYTES)

        def full(database: Database, change: object) -> None:
            raise SpoolFull("no room")

        with monkeypatch.context() as patch:
            patch.setattr(Database, "apply", full)
            with pytest.raises(SpoolFull, match="no room to salvage the damaged database; free"):
                await bench.open()
        spool, _ = await after(bench)
        assert await held(spool) == before.facts
        await spool.close()

    run(scenario())


def test_check_tells_of_a_salvage_until_what_was_kept_is_removed(bench: SqliteBench) -> None:
    async def scenario() -> None:
        await fill(bench)
        path = bench.folder / "spool.db"
        overwrite(path, leaves(path, "lists_due")[0], b"\xff" * PAGE_BYTES)
        spool, _ = await after(bench)
        await spool.close()

    run(scenario())
    with at_rest(bench.folder) as database:
        ((what, why),) = faults(database)
    assert what == "database" and "were saved; 0 lists are damaged" in why and "remove" in why
    for path in bench.folder.glob("spool.db.corrupt-*"):
        path.unlink()
    with at_rest(bench.folder) as database:
        assert not list(faults(database))


def test_the_page_cursor_reads_on_after_a_salvage(bench: SqliteBench) -> None:
    async def scenario() -> None:
        await fill(bench)
        path = bench.folder / "spool.db"
        overwrite(path, leaves(path, "lists")[2], b"\xff" * PAGE_BYTES)
        spool, _ = await after(bench)
        for lane in await spool.overview():
            assert await spool.page(lane.queue, lane.lane, START, 10)
        assert await spool.page(QUEUE, 10, START, 10) == []
        await spool.close()

    run(scenario())
