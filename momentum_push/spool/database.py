"""The spool's tables and every statement on them; no threads here, a connection belongs to whoever holds it.

`schema.sql` draws the tables. What this file adds is how they are written and read:

- One statement per kind and transaction, with all rows in it. `executemany` hands the interpreter's
  lock over once per row and starves beside a busy event loop (design.md 1, fact 1).
- Durability is SQLite's: write-ahead log, synchronous FULL. Only the writer checkpoints, every 10,000
  pages; reads are short, so the log starts again from its beginning and stays near 42 MB.
- Pages of 4 KB, SQLite's default, because settling writes one page per list and commit: 8 KB and 16 KB
  pages made a thousand tokens no smaller and each commit of progress two and four times as large.
- auto_vacuum is incremental: the writer gives free pages back to the disk when it has nothing else to do.

Counts come from triggers and not from this file, so no statement can forget them.
"""

from __future__ import annotations

import contextlib
import secrets
import sqlite3
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from importlib.resources import files
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from momentum_push.errors import SpoolDamaged, SpoolError, SpoolFull
from momentum_push.message import Message, QueueKey, ids
from momentum_push.message.keys import MAX_KEYS, Key, Receipt
from momentum_push.spool import queries, receipts
from momentum_push.spool.record import DamagedList
from momentum_push.spool.rows import Change, Mark, Row, Sent
from momentum_push.spool.seam import QueueCount

__all__ = ["FORMAT", "FREE_PAGES_KEPT", "PAGE_BYTES", "QUICK_LOOK_BYTES", "BadRow", "Database", "Meta"]

FORMAT = 3
_FIRST_FORMAT = 1
PAGE_BYTES = 4096
FREE_PAGES_KEPT = 4096
"""What an idle spool keeps of its free pages: 16 MB that the next messages need not wait for."""

QUICK_LOOK_BYTES = 64 << 20
"""A database of up to this size is looked through at each start, about a fifth of a second for 64 MB; damage
in a larger one is found when it is met."""

_Item = TypeVar("_Item")

_OLDEST_SQLITE = (3, 35)  # UPDATE … FROM is of 3.33, json_each built in and upsert older
_BUSY_S = 5.0
_BYTES_PER_STATEMENT = 1 << 20
_ROWS_PER_STATEMENT = 500
_WAL_BYTES_KEPT = 64 << 20
_READER_CACHE_KIB = 512
"""A page of lists is read once, and each commit empties the cache anyhow: it is for one walk of an index."""
_FULL_CODES = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE})
_OUR_FAULTS = (sqlite3.DataError, sqlite3.IntegrityError, sqlite3.ProgrammingError)

_COLUMNS = (
    "number, queue, lane, due, attempts, span, first_sequence, last_sequence, oldest, "
    "count, remaining, progress, body"
)
_WIDTH = _COLUMNS.count(",") + 1

_LACKING = {
    1: "CREATE TEMP TABLE sent (number INTEGER PRIMARY KEY, bitmap BLOB)",
    2: "CREATE TEMP TABLE keys (id INTEGER PRIMARY KEY, name, part, body, created, first, results, refusals)",
}
"""What is laid over a spool of an older format while somebody looks at it."""


class BadRow(SpoolError):
    """A row that SQLite will never take: our own fault, and no reason to try again."""


class Meta(NamedTuple):
    """What the spool knows about itself."""

    salt: int
    sequence: int
    """Numbers below it may have been used."""
    number: int
    """The highest number of a list."""


class Database:
    """One connection to the spool's database."""

    def __init__(
        self,
        path: Path,
        *,
        force_fsync: bool = True,
        is_writer: bool = True,
        log_pages: int = 10_000,
        quiet: threading.RLock | None = None,
    ) -> None:
        """Connect; an empty file gets its tables from `prepare`.

        Args:
            force_fsync: False leaves it to the system when a commit reaches the disk.
            is_writer: the connection that checkpoints; others are refused writes.
            log_pages: it does so when the write-ahead log has grown to this.
            quiet: the one of the other connection to this file, if this process has one.
        """
        if sqlite3.sqlite_version_info < _OLDEST_SQLITE:
            raise SpoolError(f"spool: SQLite {sqlite3.sqlite_version} is too old; version 3.35 is needed")
        self.path = path
        self.max_keys = MAX_KEYS
        """Receipts that are kept at most."""
        self._queue_ids: dict[QueueKey, int] = {}
        self.quiet = quiet or threading.RLock()
        """Held by whoever reads, and where the log may be moved into the database.

        Beside a reader SQLite moves only a part, calls that part done, and syncs nothing until the rest is
        moved; when that sync fails, what the system then drops of the first part is in the log no more.
        """
        with self._statement():
            self._connection = sqlite3.connect(
                path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False
            )
        try:
            self._set_up(force_fsync, is_writer, log_pages)
        except sqlite3.Error as error:
            self._connection.close()
            raise self._translate(error) from error

    def prepare(self, now: float) -> Meta:
        """Make the tables where there are none, or bring old ones to our format; then read the meta."""
        try:
            with self._statement():
                if not self._has_tables():
                    self._create(now)
                for found in range(self._check_format(), FORMAT):
                    self._migrate(found)
                self._forget_empty_queues()
                return self._meta()
        finally:
            self._roll_back()  # half a script; the next one would begin with a COMMIT

    def quick_look(self) -> None:
        """Raise SpoolDamaged where the trees of pages do not hold together; reads all of the file."""
        ((found,),) = self._select("PRAGMA quick_check(1)")
        if found != "ok":
            raise self._translate(_corrupt(found))

    def check_tables(self) -> None:
        """Refuse a file that holds no spool, or one of a format that this program does not know.

        The file is not changed: what an old format lacks is laid over it for as long as we look.
        """
        try:
            if not self._has_tables():
                raise SpoolError(f'spool: "{self.path}" holds no spool; see that spoolbase is the right one')
            for found in range(self._check_format(), FORMAT):
                self._connection.execute(_LACKING[found])
        except sqlite3.Error as error:
            raise self._translate(error) from error

    def apply(self, change: Change) -> None:
        """Commit one transaction.

        Raises:
            BadRow: SQLite refuses a value; trying again is of no use.
            SpoolFull, SpoolError: no room, or the disk failed. In each case nothing of it is kept.
        """
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            self._write(change)
            with self.quiet:
                self._connection.execute("COMMIT")
        except (sqlite3.Error, OverflowError, TypeError, ValueError) as error:
            self._queue_ids.clear()  # some may have been made in this transaction
            raise self._translate(error) from error
        finally:
            self._roll_back()

    def probe(self, now: float) -> None:
        """Write a little, to see whether the disk takes it."""
        with self._statement():
            self._connection.execute("INSERT OR REPLACE INTO meta VALUES ('probe', ?)", (now,))

    def save_sequence(self, sequence: int) -> None:
        """Give back the numbers that were reserved and not handed out."""
        with self._statement():
            self._connection.execute("UPDATE meta SET value = ? WHERE name = 'sequence'", (sequence,))

    def checkpoint(self, *, truncate: bool = False) -> None:
        """Move the write-ahead log into the database.

        Args:
            truncate: leave no log; a reader that is at work is waited for, _BUSY_S at most.

        Raises:
            SpoolFull, SpoolError: not all of it was moved; all of the log is still there and in use.
        """
        mode = "TRUNCATE" if truncate else "PASSIVE"
        ((is_busy, *_),) = self._select(f"PRAGMA wal_checkpoint({mode})")
        if is_busy and truncate:
            raise SpoolError(f'spool: the log of "{self.path}" is being read, it cannot begin anew')

    def give_back(self, pages: int, keep: int = FREE_PAGES_KEPT) -> bool:
        """Return up to `pages` free pages to the disk; False when no more than `keep` are free."""
        ((free,),) = self._select("PRAGMA freelist_count")
        if free <= keep:
            return False
        pages = min(pages, free - keep)
        with self._statement():
            # execute() would step it once, which is one page; executescript() steps it to its end
            self._connection.executescript(f"PRAGMA incremental_vacuum({pages})")
        return True

    def prune_keys(self, now: float, bite: int) -> bool:
        """Remove some of the receipts that are too old, or too many; False: there were none."""
        with self._statement():
            return bool(receipts.prune(self._connection, now, self.max_keys, bite))

    def close(self) -> None:
        self._connection.close()

    # Reading

    def overview(self) -> list[QueueCount]:
        """Return what each lane holds."""
        return [
            QueueCount(QueueKey(group, binding, domain), lane, lists, messages, oldest or 0.0, due or 0.0)
            for group, binding, domain, lane, lists, messages, oldest, due in self._select(queries.OVERVIEW)
        ]

    def page(self, queue: QueueKey, lane: int, after: tuple[float, int], limit: int) -> list[Row]:
        """Return lists after the cursor that fit into `limit` messages, at least one."""
        rows: list[Row] = []
        total = 0
        due, _ = after
        same_due = self._rows(queries.PAGE_SAME_DUE, (*queue, lane, *after))
        for row in chain(same_due, self._rows(queries.PAGE_LATER_DUE, (*queue, lane, due))):
            total += row.remaining
            if rows and total > limit:
                break
            rows.append(row)
            if total >= limit:
                break
        return rows

    def holding(self, sequence: int) -> Iterator[Row]:
        """Yield the lists whose range covers `sequence`."""
        return self._rows(queries.HOLDING, (sequence,))

    def find(self, sequence: int) -> Message | None:
        """Return the message with this number if it still waits; damaged lists are passed over."""
        for row in self.holding(sequence):
            with contextlib.suppress(DamagedList):  # `page` sets it aside, `check` reports it
                for message in row.to_list().messages:
                    if message.sequence == sequence:
                        return message
        return None

    def receipt(self, key: Key) -> Receipt | None:
        """Return what is known of a key, whatever its age."""
        with self._statement():
            return receipts.find(self._connection, key)

    def receipts(self) -> Iterator[Receipt]:
        """Yield every receipt, the oldest first."""
        with self._statement():
            yield from receipts.every(self._connection)

    def lists(self) -> Generator[Row, None, None]:
        """Yield every list, in order of number."""
        return self._rows(f"{queries.READ} ORDER BY number")

    def set_aside(self) -> list[tuple[int, str]]:
        """Return the damaged lists that were set aside, and why."""
        return self._select("SELECT number, why FROM aside ORDER BY number")

    def recount(self) -> list[tuple[Any, ...]]:
        """Return (group, binding, domain, lane, lists and messages as kept, the same as counted now)."""
        return self._select(queries.RECOUNT)

    def stray_marks(self) -> list[int]:
        """Return the numbers of lists that have marks and are not there."""
        return [number for (number,) in self._select(queries.STRAY_MARKS)]

    def integrity(self) -> list[str]:
        """Return what SQLite finds wrong with the file; it reads all of it."""
        found = [text for (text,) in self._select("PRAGMA integrity_check")]
        return [] if found == ["ok"] else found

    def _select(self, statement: str, values: Sequence[Any] = ()) -> list[Any]:
        with self._statement():
            return self._connection.execute(statement, values).fetchall()

    def _rows(self, statement: str, values: Sequence[Any] = ()) -> Generator[Row, None, None]:
        with self._statement(), closing(self._connection.execute(statement, values)) as cursor:
            for number, group, binding, domain, *columns in cursor:
                yield Row(number, QueueKey(group, binding, domain), *columns)

    # Writing

    def _write(self, change: Change) -> None:
        if change.removed:
            self._remove(change.removed)
        for marks in _slices(change.marks, lambda mark: len(mark.progress)):
            self._mark(marks)
        for rows in _slices(change.rows, lambda row: len(row.body)):
            self._add(rows)
        for items in _slices(change.sent, lambda item: len(item.bitmap)):
            self._mark_sent(items)
        for some in _slices(change.receipts, lambda receipt: len(receipt.refusals)):
            receipts.add(self._connection, some)
            receipts.make_room(self._connection, some, self.max_keys)
        for number, why in change.set_aside:
            self._set_aside(number, why)
        if change.reserve:
            self._connection.execute(
                "UPDATE meta SET value = max(value, ?) WHERE name = 'sequence'", (change.reserve,)
            )

    def _remove(self, numbers: list[int]) -> None:
        self._connection.execute(
            "DELETE FROM lists WHERE number IN (SELECT value FROM json_each(?))", (str(numbers),)
        )

    def _mark(self, marks: Sequence[Mark]) -> None:
        values = ((mark.number, mark.progress, f"{mark.remaining:04d}") for mark in marks)
        self._connection.execute(
            f"""
            UPDATE lists SET progress = given.column2, remaining = given.column3
            FROM (VALUES {_places(3, len(marks))}) AS given WHERE number = given.column1
            """,
            list(chain.from_iterable(values)),
        )

    def _mark_sent(self, items: Sequence[Sent]) -> None:
        """Write marks of lists that are there: a stray one would count for a later list of that number."""
        self._connection.execute(
            f"""
            INSERT INTO sent SELECT given.column1, given.column2
            FROM (VALUES {_places(2, len(items))}) AS given
            WHERE given.column1 IN (SELECT number FROM lists)
            ON CONFLICT (number) DO UPDATE SET bitmap = excluded.bitmap
            """,
            list(chain.from_iterable(items)),
        )

    def _add(self, rows: Sequence[Row]) -> None:
        values = [
            (
                row.number,
                self._queue_id(row.queue),
                row.lane,
                row.due,
                row.attempts,
                (row.last_sequence - row.first_sequence).bit_length(),
                row.first_sequence,
                row.last_sequence,
                row.oldest,
                row.count,
                f"{row.remaining:04d}",
                row.progress,
                row.body,
            )
            for row in rows
        ]
        self._connection.execute(
            f"INSERT INTO lists ({_COLUMNS}) VALUES {_places(_WIDTH, len(rows))}",
            list(chain.from_iterable(values)),
        )

    def _set_aside(self, number: int, why: str) -> None:
        """Move a row; one at a time, as damage is rare."""
        kept = "number, queue, lane, due, attempts, count, remaining, progress, body"
        self._connection.execute(
            f"INSERT OR IGNORE INTO aside ({kept}, why, sent) SELECT {kept}, ?, "
            "(SELECT bitmap FROM sent WHERE sent.number = lists.number) FROM lists WHERE number = ?",
            (why, number),
        )
        self._connection.execute("DELETE FROM lists WHERE number = ?", (number,))

    def _queue_id(self, queue: QueueKey) -> int:
        known = self._queue_ids.get(queue)
        if known is None:
            self._connection.execute(
                "INSERT OR IGNORE INTO queues (binding_group, binding, domain) VALUES (?, ?, ?)", queue
            )
            ((known,),) = self._connection.execute(
                "SELECT id FROM queues WHERE binding_group = ? AND binding = ? AND domain = ?", queue
            )
            self._queue_ids[queue] = known
        return known

    def _roll_back(self) -> None:
        """Undo a transaction that is still open; after some errors SQLite has done so itself."""
        if self._connection.in_transaction:
            with contextlib.suppress(sqlite3.OperationalError):
                self._connection.execute("ROLLBACK")

    # Opening

    def _set_up(self, force_fsync: bool, is_writer: bool, log_pages: int) -> None:
        execute = self._connection.execute
        if is_writer:
            execute(f"PRAGMA page_size = {PAGE_BYTES}")
            execute("PRAGMA auto_vacuum = incremental")
            execute("PRAGMA journal_mode = WAL")
            execute(f"PRAGMA journal_size_limit = {_WAL_BYTES_KEPT}")
            execute("PRAGMA secure_delete = fast")
        else:
            execute("PRAGMA query_only = 1")
            execute(f"PRAGMA cache_size = -{_READER_CACHE_KIB}")
        execute(f"PRAGMA synchronous = {'FULL' if force_fsync else 'NORMAL'}")
        execute(f"PRAGMA wal_autocheckpoint = {log_pages if is_writer else 0}")

    def _has_tables(self) -> bool:
        return bool(self._connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0])

    def _create(self, now: float) -> None:
        """Make the tables, all or none."""
        self._connection.executescript(
            f"""
            BEGIN IMMEDIATE;
            {_script("schema.sql")}
            INSERT INTO meta VALUES ('format', {FORMAT}), ('created', {now!r}),
                ('salt', '{secrets.randbits(ids.SALT_BITS):x}'), ('sequence', {ids.first_sequence(now)});
            COMMIT;
            """
        )

    def _migrate(self, found: int) -> None:
        """Bring tables to the next format, all or none; programs of that time refuse it then."""
        self._connection.executescript(
            f"""
            BEGIN IMMEDIATE;
            {_script(f"schema_from_{found}.sql")}
            UPDATE meta SET value = {found + 1} WHERE name = 'format';
            COMMIT;
            """
        )

    def _check_format(self) -> int:
        ((found,),) = self._connection.execute("SELECT value FROM meta WHERE name = 'format'")
        if found not in range(_FIRST_FORMAT, FORMAT + 1):
            raise SpoolError(
                f'spool: "{self.path}" has format {found}, this program knows format {FORMAT}; '
                f"use the program that wrote it, or choose another spoolbase"
            )
        return int(found)

    def _meta(self) -> Meta:
        values = dict(self._connection.execute("SELECT name, value FROM meta"))
        ((number,),) = self._connection.execute(
            "SELECT max(coalesce((SELECT max(number) FROM lists), 0), "
            "coalesce((SELECT max(number) FROM aside), 0))"
        )
        return Meta(int(values["salt"], 16), values["sequence"], number)

    def _forget_empty_queues(self) -> None:
        """Names of queues may come from outside, so those that hold nothing are not kept for ever."""
        self._connection.execute("DELETE FROM lanes WHERE lists = 0")
        self._connection.execute(
            "DELETE FROM queues WHERE id NOT IN (SELECT queue FROM lanes UNION SELECT queue FROM aside)"
        )

    @contextlib.contextmanager
    def _statement(self) -> Iterator[None]:
        """Read, or write and commit: beside no other, and with errors in our words."""
        try:
            with self.quiet:
                yield
        except sqlite3.Error as error:
            raise self._translate(error) from error

    def _translate(self, error: Exception) -> SpoolError:
        """Say in our words what SQLite said in its own."""
        if not isinstance(error, sqlite3.DatabaseError) or isinstance(error, _OUR_FAULTS):
            return BadRow(f"spool: {error}; this is a fault of the program, please report it")
        code = getattr(error, "sqlite_errorcode", 0)
        if code in _FULL_CODES:
            return SpoolFull(f'spool: no room for "{self.path}"; free some, what was accepted is safe')
        if code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            return SpoolDamaged(
                f'spool: "{self.path}" is damaged ({error}); '
                f"restart the daemon, it saves what can be read into a new one"
            )
        return SpoolError(f'spool: "{self.path}": {error}; see that the disk works and can be written')


def _slices(items: Sequence[_Item], size_of: Callable[[_Item], int]) -> Iterator[Sequence[_Item]]:
    """Cut a list so that each piece fits into a statement.

    By bytes too: they are copied while the interpreter's lock is held, and a megabyte takes long enough.
    """
    start = size = 0
    for end, item in enumerate(items):
        if end > start and (size >= _BYTES_PER_STATEMENT or end - start == _ROWS_PER_STATEMENT):
            yield items[start:end]
            start, size = end, 0
        size += size_of(item)
    if items:
        yield items[start:]


def _corrupt(what: str) -> sqlite3.DatabaseError:
    """The error that SQLite would have raised, had it come by there."""
    error = sqlite3.DatabaseError(" ".join(what.split()))
    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    return error


def _script(name: str) -> str:
    return files("momentum_push.spool").joinpath(name).read_text("utf-8")


def _places(columns: int, rows: int) -> str:
    row = f"({','.join('?' * columns)})"
    return ",".join([row] * rows)
