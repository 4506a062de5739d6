"""The failure rules of `writer.py`, on a disk that is full, broken, or held up."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog.testing

from momentum_push.errors import SpoolError, SpoolFull
from momentum_push.message import MessageList
from momentum_push.spool import SqliteSpool
from momentum_push.spool.database import Database
from momentum_push.spool.folder import RESERVE_BYTES, SpoolFolder
from momentum_push.spool.rows import Change, Operation
from tests.helpers.lists import NOW, QUEUE, message_list
from tests.helpers.spools import SqliteBench, opened, sequences_in, until


@pytest.fixture
def bench(tmp_path: Path) -> SqliteBench:
    return SqliteBench(tmp_path)


def run(scenario: Coroutine[Any, Any, None]) -> None:
    async def with_deadline() -> None:
        async with asyncio.timeout(30):
            await scenario

    asyncio.run(with_deadline())


async def open_spool(bench: SqliteBench) -> SqliteSpool:
    spool = await bench.open()
    assert isinstance(spool, SqliteSpool)
    return spool


@contextmanager
def broken_disk() -> Iterator[None]:
    """No file can be written: the system answers "file too large" to each write of this process.

    What is printed would go to a file, too, so diagnostics are caught meanwhile.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with structlog.testing.capture_logs():
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def full_disk(spool: SqliteSpool) -> Iterator[None]:
    """The database may not grow."""
    execute = spool._database._connection.execute
    (pages,) = execute("PRAGMA page_count").fetchone()
    (before,) = execute("PRAGMA max_page_count").fetchone()
    execute(f"PRAGMA max_page_count = {pages}")
    try:
        yield
    finally:
        execute(f"PRAGMA max_page_count = {before}")


def leave_all(item: MessageList) -> MessageList:
    for place in range(item.home.count):
        item.home.leave(place)
    return item


async def filled(bench: SqliteBench, lists: int = 3) -> tuple[SqliteSpool, list[MessageList]]:
    spool = await open_spool(bench)
    items = [message_list(100, first=100 * n) for n in range(lists)]
    await spool.append(items)
    return spool, items


def test_a_full_disk_refuses_appends_and_goes_on_settling(bench: SqliteBench) -> None:
    async def scenario() -> None:
        spool, (first, second, _) = await filled(bench)
        with full_disk(spool):
            new = message_list(1000, first=5000)
            with pytest.raises(SpoolFull, match=r'^spool: no room for ".*"; free some'):
                await spool.append([new])
            assert new.home.number == 0
            await spool.settle([leave_all(first).home])
            second.home.leave(0)
            await spool.settle([second.home])
        await until(lambda: spool.is_writable)
        await spool.append([new])
        assert await sequences_in(spool) == [*range(101, 300), *range(5000, 6000)]
        await bench.crash(spool)
        async with opened(bench) as again:
            assert await sequences_in(again) == [*range(101, 300), *range(5000, 6000)]

    run(scenario())


def test_a_settle_that_shares_a_transaction_with_a_refused_append_commits(bench: SqliteBench) -> None:
    async def scenario() -> None:
        spool, (first, *_) = await filled(bench)
        with full_disk(spool):
            appending = asyncio.ensure_future(spool.append([message_list(1000, first=5000)]))
            settling = asyncio.ensure_future(spool.settle([leave_all(first).home]))
            results = await asyncio.gather(appending, settling, return_exceptions=True)
        assert [type(result) for result in results] == [SpoolFull, type(None)]
        assert await sequences_in(spool) == list(range(100, 300))
        await spool.close()

    run(scenario())


def test_the_reserve_is_given_back_to_a_full_disk_and_taken_again(bench: SqliteBench) -> None:
    async def scenario() -> None:
        spool, _ = await filled(bench)
        reserve = bench.folder / "reserve"
        assert reserve.stat().st_size == RESERVE_BYTES
        spool._writer._probe_interval_s = 0.2
        with full_disk(spool):
            with pytest.raises(SpoolFull):
                await spool.append([message_list(1000)])
            assert not reserve.exists() and not spool.is_writable
        await until(lambda: spool.is_writable)
        assert reserve.stat().st_size == RESERVE_BYTES
        await spool.close()

    run(scenario())


def test_while_it_is_not_writable_appends_are_refused_unseen(bench: SqliteBench) -> None:
    async def scenario() -> None:
        spool, _ = await filled(bench)
        with broken_disk():
            with pytest.raises(SpoolError, match="see that the disk works"):
                await spool.append([message_list(1, first=7000)])
            commits = spool.commits
            for _ in range(10):
                assert not spool.is_writable
                with pytest.raises(SpoolError):
                    await spool.append([message_list(1, first=7000)])
            assert spool.commits == commits
        await until(lambda: spool.is_writable)
        await spool.append([message_list(1, first=7001)])
        assert await sequences_in(spool) == [*range(300), 7001]
        await spool.close()

    run(scenario())


def test_settles_wait_out_a_broken_disk_and_commit_in_their_order(bench: SqliteBench) -> None:
    async def scenario() -> None:
        spool, (first, second, third) = await filled(bench)
        retry = MessageList.gather(QUEUE, 10, NOW + 60, list(first.messages[:5]))
        with broken_disk():
            settles = [asyncio.ensure_future(spool.settle([leave_all(first).home], [retry]))]
            for place in range(50):
                second.home.leave(place)
                settles.append(asyncio.ensure_future(spool.settle([second.home])))
                await asyncio.sleep(0.001)
            await until(lambda: not spool.is_writable)
            settles.append(asyncio.ensure_future(spool.settle([leave_all(third).home])))
            await asyncio.sleep(0.05)
            assert not any(settle.done() for settle in settles)
        await asyncio.gather(*settles)
        assert await sequences_in(spool) == [*range(5), *range(150, 200)]
        await until(lambda: spool.is_writable)
        await bench.crash(spool)
        async with opened(bench) as again:
            assert await sequences_in(again) == [*range(5), *range(150, 200)]

    run(scenario())


def test_closing_on_a_broken_disk_ends_and_loses_nothing(bench: SqliteBench) -> None:
    async def scenario() -> None:
        spool, (first, *_) = await filled(bench)
        with broken_disk():
            settling = asyncio.ensure_future(spool.settle([leave_all(first).home]))
            await until(lambda: not spool.is_writable)
            await spool.close()
            with pytest.raises(SpoolError, match="will be sent again"):
                await settling
        async with opened(bench) as again:
            assert await sequences_in(again) == list(range(300))

    run(scenario())


def test_a_spool_opens_on_a_disk_without_room_and_begins_as_one_that_is_full(
    bench: SqliteBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        monkeypatch.setattr("momentum_push.spool.folder._MARGIN_BYTES", 1 << 60)
        async with opened(bench) as spool:
            assert not spool.is_writable
            with pytest.raises(SpoolFull):
                await spool.append([message_list(1)])
            monkeypatch.undo()
            await until(lambda: spool.is_writable)
            await spool.append([message_list(1)])

    run(scenario())


def test_a_row_that_sqlite_refuses_fails_alone(bench: SqliteBench) -> None:
    async def scenario() -> None:
        spool, (first, second, _) = await filled(bench)
        bad = MessageList.gather(QUEUE, 10, float("nan"), list(first.messages[:5]))
        results = await asyncio.gather(
            spool.append([message_list(1, first=8000)]),
            spool.settle([leave_all(first).home], [bad]),
            spool.settle([leave_all(second).home]),
            spool.append([message_list(1, first=8001)]),
            return_exceptions=True,
        )
        assert [type(result).__name__ for result in results] == ["NoneType", "BadRow", "NoneType", "NoneType"]
        assert spool.is_writable
        assert await sequences_in(spool) == [*range(100), *range(200, 300), 8000, 8001]
        await spool.close()

    run(scenario())


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_fault_of_the_writer_leaves_nobody_waiting(
    bench: SqliteBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        spool, (first, *_) = await filled(bench)

        def fail(operations: list[Operation]) -> Change:
            raise RuntimeError("a fault")

        monkeypatch.setattr(Change, "of", fail)
        with pytest.raises(SpoolError):
            await spool.append([message_list(1)])
        assert not spool.is_writable
        with pytest.raises(SpoolError):
            await spool.settle([leave_all(first).home])
        await spool.close()
        monkeypatch.undo()
        async with opened(bench) as again:
            assert await sequences_in(again) == list(range(300))

    run(scenario())


def test_free_pages_go_back_to_the_disk_when_there_is_nothing_else_to_do(
    bench: SqliteBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        monkeypatch.setattr(Database.give_back, "__defaults__", (0,))
        monkeypatch.setattr("momentum_push.spool.writer._REST_S", 0.05)
        monkeypatch.setattr("momentum_push.spool.writer._PAGES_A_REST", 20)
        spool, items = await filled(bench, 100)
        pages = page_count(spool)
        await spool.settle([leave_all(item).home for item in items])
        await until(lambda: page_count(spool) < pages / 2)
        await spool.close()

    run(scenario())


def page_count(spool: SqliteSpool) -> int:
    (pages,) = spool._reader._connection.execute("PRAGMA page_count").fetchone()
    assert isinstance(pages, int)
    return pages


def test_after_a_failed_write_the_log_begins_anew_before_input_is_taken(bench: SqliteBench) -> None:
    """What the system could not write it may have thrown away, and it calls the next fsync a success."""

    async def scenario() -> None:
        spool, (first, *_) = await filled(bench)
        before = spool._place.log_bytes()
        with broken_disk():
            with pytest.raises(SpoolError):
                await spool.append([message_list(1, first=7000)])
            settling = asyncio.ensure_future(spool.settle([leave_all(first).home]))
        await settling
        await until(lambda: spool.is_writable)
        assert spool._place.log_bytes() < before, "the log goes on after what may not be on the disk"
        await spool.close()

    run(scenario())


def test_a_log_that_cannot_be_emptied_stops_input_instead_of_growing(
    bench: SqliteBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite empties the log after a commit, and says nothing when that fails."""

    async def scenario() -> None:
        spool, (first, *_) = await filled(bench)
        checkpoint = Database.checkpoint
        fails = True

        def failing(database: Database, *, truncate: bool = False) -> None:
            if fails:
                raise SpoolError("spool: disk I/O error")
            checkpoint(database, truncate=truncate)

        monkeypatch.setattr(Database, "checkpoint", failing)
        spool._writer._log_limit = spool._place.log_bytes() + 1
        await spool.append([message_list(1000, first=1000)])
        await until(lambda: not spool.is_writable)
        await spool.settle([leave_all(first).home])
        with pytest.raises(SpoolError, match="disk I/O error"):
            await spool.append([message_list(1, first=7000)])
        await asyncio.sleep(0.1)  # five attempts
        assert not spool.is_writable
        fails = False
        await until(lambda: spool.is_writable)
        assert spool._place.log_bytes() < spool._writer._log_limit
        assert await sequences_in(spool) == [*range(100, 300), *range(1000, 2000)]
        await spool.close()

    run(scenario())


def test_a_reserve_that_cannot_be_removed_keeps_nobody_from_settling_nor_closing(
    bench: SqliteBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        spool, (first, *_) = await filled(bench)

        def failing(folder: SpoolFolder) -> None:
            raise OSError(5, "Input/output error")

        monkeypatch.setattr(SpoolFolder, "release_reserve", failing)
        with full_disk(spool):
            with pytest.raises(SpoolFull):
                await spool.append([message_list(1000, first=5000)])
            await spool.settle([leave_all(first).home])
        await until(lambda: spool.is_writable)
        await spool.close()
        monkeypatch.undo()
        async with opened(bench) as again:
            assert again.is_writable
            assert await sequences_in(again) == list(range(100, 300))

    run(scenario())
