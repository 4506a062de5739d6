"""A damaged database makes way for a new one with all that can be read of it.

    spool.db  (+ -wal)  ──► spool.db.corrupt-DATE (+ -wal)     as it was, for whoever wants to look
          └─ readable ────► spool.db                           lists whose CRC is right
          └─ the rest ────► its table `aside`, and the report spool.db.corrupt-DATE.txt

When: SQLite says at the start that the database is damaged. A large one is looked through then only if
the file `damaged` is there, which a running daemon leaves when it comes across damage (it goes on with what
it has in memory, and takes no more messages). Every step may be the last before a power cut:

    1. damaged        is written                from here on a start looks through the database first
    2. spool.db.new   is filled and synced      begun anew after a crash
    3. …corrupt-DATE  become second names (links) of database and log
    4. salvaged       is written                from here on a start goes on with 5 and does nothing else
    5. the log is removed, spool.db.new renamed to spool.db, then `damaged` and `salvaged` are removed

Numbers never go back: the new spool begins above whatever number can be seen, above what a spool born
now would begin with, and two blocks on top, which is more than was ever reserved ahead.
"""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import structlog

from momentum_push.errors import SpoolError, SpoolFull
from momentum_push.message import ids
from momentum_push.spool.check import fault_of
from momentum_push.spool.database import Database
from momentum_push.spool.folder import SpoolFolder, sync_folder
from momentum_push.spool.rows import Change, Row, Sent
from momentum_push.spool.sequences import BLOCK
from momentum_push.spool.wreck import Wreck

__all__ = ["CORRUPT", "Salvaged", "forget_damage", "is_begun", "is_due", "note_damage", "salvage"]

log = structlog.get_logger()

CORRUPT = "spool.db.corrupt-"
"""What names of damaged databases begin with."""

_BATCH_BYTES = 8 << 20
_BATCH_ROWS = 500


class Salvaged(NamedTuple):
    """What became of a damaged database."""

    kept_as: str
    lists: int
    messages: int
    set_aside: int
    """Lists of which something was there, and it was not right."""
    lost: int
    """Lists that are known to have been there and cannot be read."""
    missing: int
    """Messages that should have waited, by the counts, and are not among those saved; -1: nobody knows."""
    has_lost_marks: bool
    """Marks of who may have been sent cannot be read: what `apn_unknown_outcome` forbids may happen."""


def is_due(place: SpoolFolder) -> bool:
    """Whether damage was noted, or a salvage was cut off."""
    return _damaged(place).exists() or _salvaged(place).exists()


def note_damage(place: SpoolFolder, why: str) -> None:
    """Leave word that the database is damaged, so that the next start salvages it."""
    _write(place, _damaged(place), why)


def is_begun(place: SpoolFolder) -> bool:
    """Whether a salvage was cut off after its decision: the old database is not to be opened again."""
    return _salvaged(place).exists()


def forget_damage(place: SpoolFolder) -> None:
    """There is none after all: some page could not be read, and now it can be."""
    _damaged(place).unlink(missing_ok=True)
    sync_folder(place.path)
    log.warning("spool_damage_not_found", path=str(place.database))


def salvage(place: SpoolFolder, why: str, now: float) -> None:
    """Put a new database in the place of a damaged one; the folder is locked, nobody has it open.

    Raises:
        SpoolFull: there is no room for the new one. Nothing was changed.
        SpoolError: the disk does not work.
    """
    try:
        if not _salvaged(place).exists():
            if not _damaged(place).exists():
                note_damage(place, why)
            log.error("spool_damaged", path=str(place.database), error=why or _damaged(place).read_text())
            _report(place, _make_new(place, now))
            _write(place, _salvaged(place), "")
        _swap(place)
    except sqlite3.Error as error:
        raise SpoolError(f'spool: "{place.database}" cannot be salvaged: {error}') from error
    except OSError as error:
        raise SpoolError(
            f'spool: "{error.filename or place.path}": {error.strerror}; '
            f"a damaged database is to be salvaged there, make that possible and start again"
        ) from error


def _make_new(place: SpoolFolder, now: float) -> Salvaged:
    """Steps 2 and 3."""
    new = _new(place)
    for suffix in ("", "-wal", "-shm"):
        Path(f"{new}{suffix}").unlink(missing_ok=True)
    place.release_reserve()
    place.make(new)
    with closing(Wreck(place.database)) as wreck:
        try:
            figures = _fill(new, wreck, now)
        except SpoolFull as error:
            room = place.bytes_used() >> 20
            raise SpoolFull(
                f"spool: no room to salvage the damaged database; free {room} MB in {place.path}"
            ) from error
        marks = wreck.has_lost_marks
    saved, messages, aside, lost, noted = figures
    kept_as = _keep_old(place, now)
    missing = max(0, noted - messages) if noted else -1
    return Salvaged(kept_as.name, saved, messages, aside, lost, missing, marks)


def _fill(path: Path, wreck: Wreck, now: float) -> tuple[int, int, int, int, int]:
    """Fill a new database; return lists and messages in it, lists set aside, lists lost, messages noted."""
    lists = messages = lost = 0
    numbers = [wreck.highest_sequence() + 1, ids.first_sequence(now)]
    aside: list[dict[str, Any]] = list(wreck.set_aside())
    before = len(aside)
    with closing(Database(path)) as database:
        database.prepare(now)
        for rows, damaged, gone in _batches(wreck):
            database.apply(
                Change([], [], rows, [Sent(row.number, row.sent) for row in rows if row.sent], [], 0)
            )
            lists += len(rows)
            messages += sum(row.remaining for row in rows)
            numbers += [row.last_sequence + 1 for row in rows]
            numbers = [max(numbers)]
            aside += damaged
            lost += gone
    meta = wreck.meta()
    if isinstance(meta.get("sequence"), int):
        numbers.append(meta["sequence"])
    meta["sequence"] = min(max(numbers) + 2 * BLOCK, 1 << ids.SEQUENCE_BITS)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        _copy_rest(connection, wreck, meta, aside)
    _sync(path)
    return lists, messages, len(aside) - before, lost, wreck.messages_noted()


def _batches(wreck: Wreck) -> Iterator[tuple[list[Row], list[dict[str, Any]], int]]:
    """Yield whole lists, damaged ones as rows of `aside`, and how many are lost; some at a time."""
    rows: list[Row] = []
    damaged: list[dict[str, Any]] = []
    lost = size = 0
    for found in wreck.lists():
        why = found.why or (fault_of(found.row) if found.row else "")
        if found.row is not None and not why:
            rows.append(found.row)
        elif found.values:
            damaged.append(dict(zip(_ASIDE, (*found.values, why), strict=True)))
        else:
            lost += 1
        size += len(found.values[8]) if found.values and isinstance(found.values[8], bytes) else 0
        if size >= _BATCH_BYTES or len(rows) >= _BATCH_ROWS:
            yield rows, damaged, lost
            rows, damaged = [], []
            lost = size = 0
    yield rows, damaged, lost


_ASIDE = (
    "number",
    "queue",
    "lane",
    "due",
    "attempts",
    "count",
    "remaining",
    "progress",
    "body",
    "sent",
    "why",
)


def _copy_rest(
    connection: sqlite3.Connection, wreck: Wreck, meta: dict[str, Any], aside: list[dict[str, Any]]
) -> None:
    """Copy what the spool knew of itself, lists that are set aside with their queues, and other tables."""
    connection.execute("BEGIN IMMEDIATE")
    for name in ("salt", "sequence", "created"):
        if name in meta and _makes_sense(name, meta[name]):
            connection.execute("UPDATE meta SET value = ? WHERE name = ?", (meta[name], name))
    numbers = _queue_numbers(connection)
    for row in aside:
        key = wreck.queues.get(row["queue"])
        if key is not None and key not in numbers:
            connection.execute("INSERT INTO queues (binding_group, binding, domain) VALUES (?, ?, ?)", key)
            numbers = _queue_numbers(connection)
        _insert(connection, "aside", row | {"queue": numbers.get(key, 0)})
    for name, rows in wreck.others():
        for row in rows:
            _insert(connection, name, row)
    connection.execute("COMMIT")


def _makes_sense(name: str, value: Any) -> bool:
    if name != "salt":
        return isinstance(value, int | float)
    try:
        return 0 <= int(value, 16) < 1 << ids.SALT_BITS
    except (TypeError, ValueError):
        return False


def _queue_numbers(connection: sqlite3.Connection) -> dict[Any, int]:
    found = connection.execute("SELECT binding_group, binding, domain, id FROM queues")
    return {tuple(key): number for *key, number in found}


def _insert(connection: sqlite3.Connection, table: str, row: dict[str, Any]) -> None:
    """Insert what fits: a damaged row may have values that the table does not take, an old one no column."""
    known = {name for _, name, *_ in connection.execute(f"PRAGMA table_info({table})")}
    names = [name for name in row if name in known]
    if names:
        connection.execute(
            f"INSERT OR IGNORE INTO {table} ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})",
            [row[name] for name in names],
        )


# Files


def _keep_old(place: SpoolFolder, now: float) -> Path:
    """Step 3: second names, so that the first stay until the swap."""
    date = datetime.fromtimestamp(now, UTC).strftime("%Y%m%dT%H%M%SZ")
    old = place.path / f"{CORRUPT}{date}"
    for suffix in ("", "-wal"):
        source = Path(f"{place.database}{suffix}")
        target = Path(f"{old}{suffix}")
        target.unlink(missing_ok=True)
        if source.exists():
            _link(source, target)
    sync_folder(place.path)
    return old


def _link(source: Path, target: Path) -> None:
    """Give a file a second name; where file systems have no such thing, a copy does."""
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS):
            raise
        shutil.copyfile(source, target)
        _sync(target)


def _swap(place: SpoolFolder) -> None:
    """Step 5; may be done again at any point. A log must never meet a database that it is not of."""
    for suffix in ("-wal", "-shm"):
        Path(f"{place.database}{suffix}").unlink(missing_ok=True)
    sync_folder(place.path)
    if _new(place).exists():
        os.replace(_new(place), place.database)
        sync_folder(place.path)
    _damaged(place).unlink(missing_ok=True)
    sync_folder(place.path)
    _salvaged(place).unlink(missing_ok=True)
    sync_folder(place.path)


def _report(place: SpoolFolder, found: Salvaged) -> None:
    """Tell it to the log and to a file beside what is left."""
    text = (
        f"{found.messages} messages in {found.lists} lists were saved; "
        f"{found.set_aside} lists are damaged and set aside; {found.lost} lists cannot be read; "
        + ("how many messages are missing is not known" if found.missing < 0 else "")
        + (f"{found.missing} messages are missing" if found.missing >= 0 else "")
        + ("; marks of who may have been sent are lost" if found.has_lost_marks else "")
    )
    _write(place, place.path / f"{found.kept_as}.txt", text + "\n")
    log.error("spool_salvaged", **found._asdict(), fix="see momentum-push spool check")


def _write(place: SpoolFolder, path: Path, text: str) -> None:
    place.make(path)
    path.write_text(text, "utf-8")
    _sync(path)
    sync_folder(place.path)


def _sync(path: Path) -> None:
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def _new(place: SpoolFolder) -> Path:
    return place.path / "spool.db.new"


def _damaged(place: SpoolFolder) -> Path:
    return place.path / "damaged"


def _salvaged(place: SpoolFolder) -> Path:
    return place.path / "salvaged"
