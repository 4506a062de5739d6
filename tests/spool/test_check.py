"""`check.py` on spools that are whole, damaged, missing, and in use."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from momentum_push.errors import SpoolError, SpoolInUse
from momentum_push.spool import at_rest, faults
from tests.helpers.lists import message_list
from tests.helpers.spools import SqliteBench, opened


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A spool with lists 1 and 2; of the second some was sent."""
    bench = SqliteBench(tmp_path)

    async def fill() -> None:
        async with opened(bench) as spool:
            whole, begun = message_list(20, first=100), message_list(10, first=200)
            await spool.append([whole, begun])
            begun.home.leave(0)
            await spool.settle([begun.home])

    asyncio.run(fill())
    return bench.folder


def found(folder: Path) -> list[tuple[str, str]]:
    with at_rest(folder) as database:
        return list(faults(database))


def test_a_whole_spool_has_no_faults(folder: Path) -> None:
    assert found(folder) == []


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        ("UPDATE lists SET body = x'00' WHERE number = 1", [("1", "1 bytes are too few")]),
        (
            "UPDATE lists SET body = substr(body, 1, 90) || x'00' || substr(body, 92) WHERE number = 2",
            [("2", "checksum does not match")],
        ),
        (
            "UPDATE lists SET first_sequence = 7 WHERE number = 1",
            [("1", "holds messages 100 to 119, but is filed under 7 to 119")],
        ),
        (
            "UPDATE lists SET progress = x'ff00' WHERE number = 2",
            [("2", "2 messages wait, 9 should")],
        ),
        (
            "INSERT INTO sent VALUES (1, x'ff')",
            [("1", "1 bytes of marks for 20 messages")],
        ),
        (
            "INSERT INTO sent VALUES (7, x'ff')",
            [("7", "has marks of what was sent, and is not there")],
        ),
        (
            "UPDATE lanes SET messages = 30",
            [
                (
                    "counts",
                    "(default, default, com.example.news.apns) lane 10: "
                    "2 lists, 30 messages are noted, 2 and 29 are there",
                )
            ],
        ),
    ],
)
def test_every_fault_is_named(folder: Path, damage: str, expected: list[tuple[str, str]]) -> None:
    with closing(sqlite3.connect(folder / "spool.db", isolation_level=None)) as database:
        database.execute(damage)
    assert found(folder) == expected


def test_damaged_pages_are_found(folder: Path) -> None:
    pages = bytearray((folder / "spool.db").read_bytes())
    for start in range(4096, len(pages), 4096):
        pages[start : start + 200] = b"\xff" * 200
    (folder / "spool.db").write_bytes(pages)
    try:
        assert found(folder)
    except SpoolError as error:  # so much that it cannot even be opened
        assert "is damaged" in str(error)


def test_a_folder_without_a_spool_is_said_to_be_one(tmp_path: Path) -> None:
    with pytest.raises(SpoolError, match="holds no spool; see that spoolbase is the right one"):
        found(tmp_path)
    (tmp_path / "spool.db").touch()
    with pytest.raises(SpoolError, match="holds no spool"):
        found(tmp_path)


def test_a_spool_in_use_is_not_looked_at(tmp_path: Path) -> None:
    bench = SqliteBench(tmp_path)

    async def scenario() -> None:
        async with opened(bench):
            with pytest.raises(SpoolInUse):
                found(bench.folder)

    asyncio.run(scenario())
