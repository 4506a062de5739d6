"""Reading a damaged database: whatever SQLite can still reach, so that one bad page costs only its rows.

    numbers ◄── the table from both ends, and its three indexes, from both ends each
    rows    ◄── each by its number; where SQLite stumbles, that one is lost and the next is tried
    page 1  ◄── when that is bad SQLite reads nothing at all: in a copy it is replaced by the one of a new
                spool, whose oldest tables begin on the same pages

Where no index can be read to its end, the numbers between the two ends of the table are searched by
halves, at most MAX_PROBES times. The file itself is opened read-only and never changed.

What is judged here is whether SQLite gives a row; whether it is the row that was written says its CRC.
"""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from momentum_push.message import QueueKey
from momentum_push.spool.database import PAGE_BYTES, Database
from momentum_push.spool.rows import Row

__all__ = ["Found", "Wreck"]

MAX_PROBES = 200_000

_COLUMNS = (
    "number, queue, lane, due, attempts, first_sequence, last_sequence, oldest, count, "
    "CAST(remaining AS INTEGER), CAST(progress AS BLOB), CAST(body AS BLOB)"
)
_TYPES: tuple[type | tuple[type, ...], ...] = (
    *(int, int, int, (int, float), int, int, int, (int, float), int),
    *(int, bytes, bytes),
)
_INDEXES = ("lists_due", "lists_oldest", "lists_span")
_KNOWN = frozenset({"meta", "queues", "lists", "sent", "lanes", "aside"})


class Found(NamedTuple):
    """What the number of a list leads to."""

    number: int
    values: tuple[Any, ...] = ()
    """As in the table `aside`, without `why`; empty: it cannot be read."""
    row: Row | None = None
    """None: there is something, but not what belongs there."""
    why: str = ""


class Wreck:
    """A damaged database, open for reading."""

    def __init__(self, path: Path) -> None:
        """Open it; beside it a copy is made where its first page is of no use (`close` removes it)."""
        self._copy = path.with_name(f"{path.name}.copy")
        self.has_lost_marks = False
        self._probes = MAX_PROBES
        self._connection = _connect(path)
        self._is_patched = not self._can_be_read()
        if self._is_patched:
            self._connection.close()
            _copy_with_new_head(path, self._copy)
            self._connection = _connect(self._copy)
        self.queues = self._read_queues()

    def close(self) -> None:
        self._connection.close()
        _remove(self._copy)

    def meta(self) -> dict[str, Any]:
        """Return what is left of what the spool knew of itself."""
        return dict(self._all("SELECT name, value FROM meta"))

    def messages_noted(self) -> int:
        """Return how many messages should wait, as the counts have it; 0: they cannot be read."""
        return sum(count for (count,) in self._all("SELECT messages FROM lanes") if isinstance(count, int))

    def highest_sequence(self) -> int:
        """Return the highest message number that some list is filed under; 0: none can be read."""
        statement = "SELECT last_sequence FROM lists INDEXED BY lists_span"
        return max((value for (value,) in self._all(statement) if isinstance(value, int)), default=0)

    def lists(self) -> Iterator[Found]:
        """Yield every list of which there is a trace, in order of number."""
        for number in self._numbers():
            yield self._list(number)

    def set_aside(self) -> Iterator[dict[str, Any]]:
        """Yield the rows of damaged lists that were set aside before."""
        for row in self._table("aside"):
            if isinstance(row.get("body"), bytes) and isinstance(row.get("why"), str):
                yield row

    def others(self) -> Iterator[tuple[str, Iterator[dict[str, Any]]]]:
        """Yield the name and the rows of every table that this module knows nothing of.

        None with a new first page: in a spool that was once brought to a later format the newer tables
        begin elsewhere, and what would be read for their rows is another table's.
        """
        if self._is_patched:
            return
        for (name,) in self._all("SELECT name FROM sqlite_master WHERE type = 'table'"):
            if name not in _KNOWN and not name.startswith("sqlite_"):
                yield name, self._table(name)

    # Lists

    def _list(self, number: int) -> Found:
        try:
            values = self._connection.execute(
                f"SELECT {_COLUMNS} FROM lists NOT INDEXED WHERE number = ?", (number,)
            ).fetchone()
        except sqlite3.Error as error:
            return Found(number, why=str(error))
        if values is None:
            return Found(number, why="an index knows it, and it is not there")
        marks = self._marks(number)
        if marks and self._is_patched and len(marks) != len(values[10]):
            self.has_lost_marks, marks = True, b""
        _, queue, lane, due, attempts, _, _, _, count, remaining, progress, body = values
        kept = (number, queue, lane, due, attempts, count, f"{remaining:04d}", progress, body, marks or None)
        if not all(isinstance(value, kind) for value, kind in zip(values, _TYPES, strict=True)):
            return Found(number, kept, why="holds values of other types than a list has")
        if queue not in self.queues:
            return Found(number, kept, why=f"the name of its queue {queue} cannot be read")
        return Found(number, kept, Row(*(number, self.queues[queue], *values[2:], marks)))

    def _marks(self, number: int) -> bytes:
        try:
            found = self._connection.execute(
                "SELECT CAST(bitmap AS BLOB) FROM sent WHERE number = ?", (number,)
            ).fetchone()
        except sqlite3.Error as error:
            self.has_lost_marks |= "no such table" not in str(error)
            return b""
        return found[0] if found else b""

    def _numbers(self) -> list[int]:
        found: set[int] = set()
        is_complete = False
        for index in _INDEXES:
            numbers, is_whole = self._from_both_ends(
                f"SELECT number FROM lists INDEXED BY {index} ORDER BY {_order(index)}"
            )
            found.update(numbers)
            is_complete |= is_whole
        numbers, is_whole = self._from_both_ends("SELECT number FROM lists NOT INDEXED ORDER BY number ASC")
        found.update(numbers)
        if not (is_complete or is_whole) and found:
            self._search(min(found), max(found), found)
        return sorted(found)

    def _from_both_ends(self, statement: str) -> tuple[list[int], bool]:
        """Return what a statement finds before it stumbles, forwards and backwards; and if it did not."""
        forwards, is_whole = self._until_error(statement)
        if is_whole:
            return forwards, True
        backwards, _ = self._until_error(statement.replace(" ASC", " DESC"))
        return forwards + backwards, False

    def _until_error(self, statement: str, values: Sequence[Any] = ()) -> tuple[list[int], bool]:
        found: list[int] = []
        try:
            for (number,) in self._connection.execute(statement, values):
                if isinstance(number, int):
                    found.append(number)
        except sqlite3.Error:
            return found, False
        return found, True

    def _search(self, low: int, high: int, found: set[int]) -> None:
        """Look for numbers from `low` to `high` where the table cannot be read in one go."""
        todo = [(low, high)]
        while todo and self._probes:
            self._probes -= 1
            low, high = todo.pop()
            between = "FROM lists NOT INDEXED WHERE number BETWEEN ? AND ? ORDER BY number"
            upwards, is_whole = self._until_error(f"SELECT number {between}", (low, high))
            found.update(upwards)
            if is_whole or low >= high:
                continue
            low = upwards[-1] + 1 if upwards else low
            middle = (low + high) // 2
            todo += [(low, middle), (middle + 1, high)]

    # Tables

    def _can_be_read(self) -> bool:
        """Whether SQLite finds the tables at all."""
        try:
            self._connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
            self._connection.execute("SELECT 1 FROM lists WHERE number = 0").fetchone()
        except sqlite3.Error:
            return False
        return True

    def _read_queues(self) -> dict[int, QueueKey]:
        """Return the names by number, from the table and from its index, which holds all of it again."""
        found = {}
        for source in ("NOT INDEXED", "INDEXED BY sqlite_autoindex_queues_1"):
            for number, *names in self._all(
                f"SELECT id, binding_group, binding, domain FROM queues {source}"
            ):
                if all(isinstance(name, str) for name in names):
                    found[number] = QueueKey(*names)
        return found

    def _table(self, name: str) -> Iterator[dict[str, Any]]:
        with contextlib.suppress(sqlite3.Error):
            cursor = self._connection.execute(f"SELECT * FROM {name}")
            names = [column[0] for column in cursor.description]
            for values in cursor:
                yield dict(zip(names, values, strict=True))

    def _all(self, statement: str) -> list[tuple[Any, ...]]:
        """Return the rows up to the first that cannot be read."""
        found: list[tuple[Any, ...]] = []
        with contextlib.suppress(sqlite3.Error):
            found.extend(self._connection.execute(statement))
        return found


def _connect(path: Path) -> sqlite3.Connection:
    """Open for reading; a reader neither moves the log nor removes it when it closes."""
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)
    connection.text_factory = lambda text: text.decode("utf-8", "replace")
    connection.execute("PRAGMA writable_schema = ON")  # or a file that is cut short is not read at all
    return connection


def _order(index: str) -> str:
    columns = {
        "lists_due": ("queue", "lane", "due", "number"),
        "lists_oldest": ("queue", "lane", "oldest"),
        "lists_span": ("span", "first_sequence", "last_sequence"),
    }
    return ", ".join(f"{column} ASC" for column in columns[index])


def _copy_with_new_head(path: Path, copy: Path) -> None:
    """Copy a database and its log; the first page comes from a new spool."""
    _remove(copy)
    database = Database(copy)
    database.prepare(0.0)
    database.checkpoint(truncate=True)
    database.close()
    head = bytearray(copy.read_bytes()[:PAGE_BYTES])
    _remove(copy)
    shutil.copyfile(path, copy)
    log = Path(f"{path}-wal")
    if log.exists():
        shutil.copyfile(log, f"{copy}-wal")
    pages = copy.stat().st_size // PAGE_BYTES
    head[28:32] = pages.to_bytes(4, "big")
    head[32:40] = bytes(8)  # no free pages: none is to be handed out
    with copy.open("r+b") as file:
        file.write(head)


def _remove(path: Path) -> None:
    for suffix in ("", "-wal", "-shm", "-journal"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)
