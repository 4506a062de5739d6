"""Receipts on disk: with their lists or not at all, and never more than there may be."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from momentum_push.clock import ManualClock
from momentum_push.errors import SpoolError
from momentum_push.message.keys import KEY_LIFETIME_S, Key, Receipt
from momentum_push.meters import Meters
from momentum_push.spool import at_rest, faults, open_sqlite
from momentum_push.spool.database import BadRow, Database
from momentum_push.spool.rows import Change, Operation, Row
from tests.helpers.lists import NOW, message_list
from tests.helpers.spools import until


def receipts(count: int, first: int = 1, created: float = NOW) -> list[Receipt]:
    return [
        Receipt(Key(number.to_bytes(16, "big"), b"body"), created, number, 1, b"")
        for number in range(first, first + count)
    ]


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with closing(Database(tmp_path / "spool.db", force_fsync=False)) as made:
        made.max_keys = 100
        made.prepare(NOW)
        yield made


def put(database: Database, some: list[Receipt]) -> None:
    database.apply(Change.of([Operation(receipts=some)]))


def kept(database: Database) -> list[int]:
    return [receipt.first for receipt in database.receipts()]


def test_beyond_the_limit_the_oldest_go(database: Database) -> None:
    for first in range(1, 1000, 10):
        put(database, receipts(10, first))
        assert len(kept(database)) <= 100
    assert kept(database) == list(range(901, 1001))


def test_those_whose_day_is_over_go_as_others_come_and_no_younger_one(database: Database) -> None:
    put(database, receipts(60))
    put(database, receipts(30, 100, NOW + 5))
    now = NOW + KEY_LIFETIME_S
    for number in range(10):
        put(database, receipts(1, 500 + number, now))
    assert kept(database) == [*range(100, 130), *range(500, 510)]


def test_a_bite_is_no_larger_than_it_may_be(database: Database) -> None:
    put(database, receipts(60))
    assert not database.prune_keys(NOW + KEY_LIFETIME_S - 1, 50)
    assert database.prune_keys(NOW + KEY_LIFETIME_S, 50)
    assert kept(database) == list(range(51, 61))
    assert database.prune_keys(NOW + KEY_LIFETIME_S, 50)
    assert not database.prune_keys(NOW + KEY_LIFETIME_S, 50)


def test_the_writer_prunes_when_it_has_nothing_else_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("momentum_push.spool.writer._REST_S", 0.01)

    async def scenario() -> None:
        clock = ManualClock(NOW)
        spool = await open_sqlite(tmp_path / "s", force_fsync=False, meters=Meters(), clock=clock)
        try:
            await spool.append([message_list(1)], receipts(20))
            clock.advance(KEY_LIFETIME_S)
            with closing(Database(tmp_path / "s" / "spool.db", is_writer=False)) as look:
                await until(lambda: not kept(look))
                assert [row.count for row in look.lists()] == [1]
        finally:
            await spool.close()

    asyncio.run(scenario())


def test_lists_and_receipts_are_one_transaction(database: Database) -> None:
    """A list that SQLite refuses takes its receipt with it, and the other way round."""
    item = message_list(1)
    item.home.number = 1
    row = Row.of(item.home, item.messages)
    bad = receipts(1)[0]._replace(first=1 << 70)
    with pytest.raises(BadRow):
        database.apply(Change.of([Operation(rows=[row], receipts=[bad])]))
    assert (list(database.lists()), kept(database)) == ([], [])
    database.apply(Change.of([Operation(rows=[row])]))
    with pytest.raises(SpoolError):  # a list of that number is there
        database.apply(Change.of([Operation(rows=[row], receipts=receipts(1))]))
    assert kept(database) == []


def test_check_finds_a_receipt_that_cannot_be_read(tmp_path: Path) -> None:
    async def scenario() -> None:
        spool = await open_sqlite(tmp_path / "s", meters=Meters(), clock=ManualClock(NOW))
        await spool.append([], [*receipts(1), receipts(1, 7)[0]._replace(refusals=b"nonsense")])
        await spool.close()

    asyncio.run(scenario())
    with at_rest(tmp_path / "s") as database:
        ((where, why),) = faults(database)
    assert where == "keys"
    assert why.startswith("receipt of message 7 on: its refusals cannot be read")
