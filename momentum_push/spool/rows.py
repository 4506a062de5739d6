"""What goes to the disk and comes back: rows, marks, and what a transaction makes of many of them. Pure.

    MessageList ─ snapshot ─► Home + messages ─ Row.of ─► Row ─ row.to_list ─► MessageList
    Home        ─ Mark.of ──► Mark               how far a list has come, at the moment of the call
    Home        ─ Sent.of ──► Sent               which of its messages may have been sent, likewise
    Operation                                    one append, settle or mark_sent, whole or not at all
    Change                                       all operations of one transaction, merged

A list may be marked many times, and even added and settled, before the writer gets to it: only the
last state is written (`Change.of`). A mark never brings back what a later one settled, because marks
are merged in the order of the calls and a list's remaining messages only become fewer.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec

from momentum_push.message import Home, Message, MessageList, QueueKey
from momentum_push.message.keys import Receipt
from momentum_push.spool import record

__all__ = ["Change", "Mark", "Operation", "Row", "Sent", "estimate", "snapshot"]

ROW_BYTES = 400
"""About what a list costs beside its columns, for the byte budget of what is under way."""


class Row(msgspec.Struct, frozen=True, gc=False):
    """A list as its row holds it."""

    number: int
    queue: QueueKey
    lane: int
    due: float
    attempts: int
    first_sequence: int
    last_sequence: int
    oldest: float
    count: int
    remaining: int
    progress: bytes
    body: bytes
    sent: bytes = b""
    """Read only: a new list has no marks, and those of an old one are written as `Sent`."""

    @classmethod
    def of(cls, home: Home, messages: Sequence[Message]) -> Row:
        """Encode a list; `home` is its snapshot."""
        body, first, last, oldest = record.encode(messages)
        return cls(
            home.number,
            home.queue,
            home.lane,
            home.due,
            home.attempts,
            first,
            last,
            oldest,
            home.count,
            home.remaining,
            bytes(home.progress),
            body,
        )

    def home(self) -> Home:
        """Return the list's home as it was when the row was written."""
        return Home(
            queue=self.queue,
            lane=self.lane,
            due=self.due,
            attempts=self.attempts,
            number=self.number,
            count=self.count,
            progress=bytearray(self.progress),
            remaining=self.remaining,
            sent=bytearray(self.sent) if self.sent else None,
        )

    def to_list(self) -> MessageList:
        """Build the list with the messages that are still waiting; SpoolError when it is damaged."""
        home = self.home()
        return MessageList(home, record.decode(self.body, home))


class Mark(NamedTuple):
    """How far a list has come; `remaining == 0` removes its row."""

    number: int
    progress: bytes
    remaining: int

    @classmethod
    def of(cls, home: Home) -> Mark:
        return cls(home.number, bytes(home.progress), home.remaining)


class Sent(NamedTuple):
    """Which messages of a list may have been sent."""

    number: int
    bitmap: bytes
    """Empty: none of them."""

    @classmethod
    def of(cls, home: Home) -> Sent:
        return cls(home.number, bytes(home.sent) if home.sent and any(home.sent) else b"")


def snapshot(home: Home) -> Home:
    """Return a copy of `home` that later progress does not touch."""
    return msgspec.structs.replace(home, progress=bytearray(home.progress))


def estimate(items: Sequence[MessageList]) -> int:
    """Return about how many bytes the lists will take, without looking at each message of a fan-out."""
    return sum(map(_size, items))


def _size(item: MessageList) -> int:
    messages = item.messages
    first, last = messages[0], messages[-1]
    digits = len(first.token) // 2 + len(first.rcpt) // 2
    shared = first.payload is last.payload
    payloads = len(first.payload) if shared else sum(len(message.payload) for message in messages)
    return ROW_BYTES + payloads + digits * len(messages)


class Operation(msgspec.Struct, eq=False):
    """One call of `append`, `settle` or `mark_sent`: all of it is in one transaction, or none of it is."""

    lists: list[tuple[Home, list[Message]]] = msgspec.field(default_factory=list)
    """New lists as they were at the call; `encode` turns them into rows, in the writer's thread."""
    marks: list[Mark] = msgspec.field(default_factory=list)
    sent: list[Sent] = msgspec.field(default_factory=list)
    set_aside: list[tuple[int, str]] = msgspec.field(default_factory=list)
    """Numbers of damaged lists, and what is wrong with them."""
    reserve: int = 0
    """Sequence numbers below this one may be handed out once this is on disk."""
    is_kept: bool = False
    """Tried again until it commits; an append is not, its caller is told."""
    size: int = 0
    rows: list[Row] = msgspec.field(default_factory=list)
    receipts: Sequence[Receipt] = ()

    def encode(self) -> None:
        """Turn lists into rows; SpoolError when one of them cannot be stored."""
        self.rows.extend(Row.of(home, messages) for home, messages in self.lists)
        self.lists = []


class Change(NamedTuple):
    """What one transaction does, in this order: what makes room comes first."""

    removed: list[int]
    marks: list[Mark]
    rows: list[Row]
    sent: list[Sent]
    set_aside: list[tuple[int, str]]
    reserve: int
    receipts: Sequence[Receipt] = ()

    @classmethod
    def of(cls, operations: Iterable[Operation]) -> Change:
        """Merge operations, which are in the order of their calls."""
        rows: dict[int, Row] = {}
        marks: dict[int, Mark] = {}
        sent: dict[int, Sent] = {}
        set_aside: list[tuple[int, str]] = []
        reserve = 0
        receipts: list[Receipt] = []
        for operation in operations:
            rows.update((row.number, row) for row in operation.rows)
            marks.update((mark.number, mark) for mark in operation.marks)
            sent.update((item.number, item) for item in operation.sent)
            set_aside += operation.set_aside
            reserve = max(reserve, operation.reserve)
            receipts += operation.receipts
        for number in rows.keys() & marks.keys():
            _settle_before_adding(rows, marks.pop(number))
        removed = [mark.number for mark in marks.values() if not mark.remaining]
        kept = [mark for mark in marks.values() if mark.remaining]
        return cls(removed, kept, list(rows.values()), list(sent.values()), set_aside, reserve, receipts)


def _settle_before_adding(rows: dict[int, Row], mark: Mark) -> None:
    """A list that was marked before it reached the disk gets there as marked, or not at all."""
    if mark.remaining:
        row = rows[mark.number]
        rows[mark.number] = msgspec.structs.replace(row, progress=mark.progress, remaining=mark.remaining)
    else:
        del rows[mark.number]
