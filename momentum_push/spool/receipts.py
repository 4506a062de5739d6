"""Receipts of injections under keys: the statements on the table `keys`; `database.py` has the connection.

They are written in the transaction of the messages that they are about, so neither is there without the
other, whatever happens. The table cannot grow without end: each transaction that adds some takes twice as
many of the oldest away, if their day is over or there are too many; the writer does the rest when it has
nothing else to do. Rows are numbered in the order of their coming, so the oldest are at the front, and a
bite costs the same however large the table is.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from itertools import chain

from momentum_push.message.keys import KEY_LIFETIME_S, Key, Receipt

__all__ = ["add", "every", "find", "make_room", "prune"]

_COLUMNS = "name, part, body, created, first, results, refusals"
_READ = f"SELECT {_COLUMNS} FROM keys"
_MORE = 16  # than twice what comes, so that a few that come shrink what is there


def add(connection: sqlite3.Connection, receipts: Sequence[Receipt]) -> None:
    """Write receipts; one of the same name is a day old, or it would have been obeyed."""
    rows = [(key.name, key.part, key.body, *values) for key, *values in receipts]
    places = ",".join(["(?,?,?,?,?,?,?)"] * len(rows))
    connection.execute(
        f"INSERT OR REPLACE INTO keys ({_COLUMNS}) VALUES {places}", list(chain.from_iterable(rows))
    )


def make_room(connection: sqlite3.Connection, receipts: Sequence[Receipt], limit: int) -> None:
    """Take more of the old ones away than came, as far as there are any."""
    prune(connection, receipts[-1].created, limit, 2 * len(receipts) + _MORE)


def prune(connection: sqlite3.Connection, now: float, limit: int, bite: int) -> int:
    """Remove those of the `bite` oldest whose day is over, or that are more than `limit`; return how many."""
    return connection.execute(
        """
        DELETE FROM keys WHERE id IN (
            SELECT id FROM (SELECT id, created FROM keys ORDER BY id LIMIT ?)
            WHERE created <= ? OR id <= (SELECT max(id) FROM keys) - ?
        )
        """,
        (bite, now - KEY_LIFETIME_S, limit),
    ).rowcount


def find(connection: sqlite3.Connection, key: Key) -> Receipt | None:
    """Return what is known of a name and part, whatever its age."""
    rows = connection.execute(f"{_READ} WHERE name = ? AND part = ?", (key.name, key.part)).fetchall()
    return _receipt(rows[0]) if rows else None


def every(connection: sqlite3.Connection) -> Iterator[Receipt]:
    """Yield all, the oldest first."""
    yield from map(_receipt, connection.execute(f"{_READ} ORDER BY id"))


def _receipt(row: tuple[bytes, int, bytes, float, int, int, bytes]) -> Receipt:
    name, part, body, created, first, results, refusals = row
    return Receipt(Key(name, body, part), created, first, results, refusals)
