"""Looking at a spool that no daemon has open; nothing in it is changed.

The lock is taken while we look, so that no daemon starts meanwhile and no running one is looked at: what
a daemon holds in memory is ahead of its disk, and its own console tells more.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import msgspec

from momentum_push.errors import SpoolError
from momentum_push.spool import record
from momentum_push.spool.database import Database
from momentum_push.spool.folder import SpoolFolder
from momentum_push.spool.rows import Row

__all__ = ["at_rest", "fault_of", "faults"]


@contextmanager
def at_rest(path: Path, mode: int = 0o640) -> Iterator[Database]:
    """Lock the spool in the folder `path` and give access to its tables.

    Raises:
        SpoolInUse: a daemon has it open.
        SpoolError: there is none, or it cannot be read.
    """
    folder = SpoolFolder(path, mode)
    if (path / "salvaged").exists():
        raise SpoolError(
            f'spool: "{path}" is being salvaged, which was cut off; start the daemon to finish it'
        )
    if not folder.database.exists():
        raise SpoolError(f'spool: "{path}" holds no spool; see that spoolbase is the right one')
    folder.open(create=False)
    try:
        with closing(Database(folder.database)) as database:
            database.check_tables()
            yield database
    finally:
        folder.close()


def faults(database: Database) -> Iterator[tuple[str, str]]:
    """Yield everything that is wrong: the list's number, or what else, and why. Reads all of the spool."""
    yield from _traces(database.path.parent)
    try:
        for text in database.integrity():
            yield "database", text
        for row in database.lists():
            why = fault_of(row)
            if why:
                yield str(row.number), why
    except SpoolError as error:
        yield "database", str(error)
        return
    for number, why in database.set_aside():
        yield str(number), f"set aside: {why}"
    for receipt in database.receipts():
        try:
            receipt.check()
        except ValueError as error:
            yield "keys", f"receipt of message {receipt.first} on: {error}"
    for number in database.stray_marks():
        yield str(number), "has marks of what was sent, and is not there"
    for group, binding, domain, lane, *counts in database.recount():
        if counts[:2] != counts[2:]:
            kept, counted = f"{counts[0]} lists, {counts[1]} messages", f"{counts[2]} and {counts[3]}"
            yield (
                "counts",
                f"({group}, {binding}, {domain}) lane {lane}: {kept} are noted, {counted} are there",
            )


def _traces(folder: Path) -> Iterator[tuple[str, str]]:
    """What a daemon left word of (`salvage.py`)."""
    damaged = folder / "damaged"
    if damaged.exists():
        text = damaged.read_text("utf-8", "replace").strip()
        yield "database", f"{text}; this was met while the daemon ran"
    for report in sorted(folder.glob("spool.db.corrupt-*.txt")):
        text = report.read_text("utf-8", "replace").strip()
        yield "database", f"was damaged and salvaged: {text}; see {report.stem} and remove it with its report"


def fault_of(row: Row) -> str:
    """Return what is wrong with a row, empty for nothing."""
    try:
        row.to_list()
        everybody = record.decode(row.body, _untouched(row).home())
    except record.DamagedList as error:
        return error.what
    numbers = [message.sequence for message in everybody]
    if (min(numbers), max(numbers)) == (row.first_sequence, row.last_sequence):
        return ""
    filed = f"{row.first_sequence} to {row.last_sequence}"
    return f"holds messages {min(numbers)} to {max(numbers)}, but is filed under {filed}"


def _untouched(row: Row) -> Row:
    """The row as it was before anything of it was sent."""
    return msgspec.structs.replace(row, remaining=row.count, progress=bytes(len(row.progress)))
