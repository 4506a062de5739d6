"""Keeps lists of messages on disk from before they are acknowledged until their last record is written.

Lives here: the tables, the blob of a list, the thread that writes, the lock on the folder; and a twin in
memory that passes the same tests. Does not live here: when a message is tried again (`queues`), what its
answer meant (`delivery`). The daemon makes a spool; intake, queues and settle call it through `Spool`.

    record.py      a list as one blob, drawn; pure
    rows.py        what is written and read: rows, marks, operations; pure
    sequences.py   message numbers, reserved ahead; pure
    schema.sql     the tables; schema_from_*.sql bring old ones to that
    queries.py     what is asked of them
    database.py    how they are written and read
    receipts.py    the same for injections that came with a key
    writer.py      group commit, and what happens when the disk does not play along
    sqlite.py      the spool as the event loop sees it
    folder.py      lock and reserve
    floors.py      how much room must be left on the disk; pure
    budget.py      bytes that may be under way
    memory.py      the twin
    salvage.py     a damaged database makes way for a new one
    wreck.py       reading what can be read of it
    check.py       looking at a spool that no daemon has open
"""

from momentum_push.spool.check import at_rest, faults
from momentum_push.spool.floors import Floors
from momentum_push.spool.memory import Disk, MemorySpool
from momentum_push.spool.seam import START, QueueCount, Spool
from momentum_push.spool.sqlite import SqliteSpool, open_sqlite

__all__ = [
    "START",
    "Disk",
    "Floors",
    "MemorySpool",
    "QueueCount",
    "Spool",
    "SqliteSpool",
    "at_rest",
    "faults",
    "open_sqlite",
]
