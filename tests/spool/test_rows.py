"""`rows.py`: how operations of one transaction merge, and that a snapshot stands still."""

from __future__ import annotations

from momentum_push.message import MessageList
from momentum_push.spool.rows import Change, Mark, Operation, Row, Sent, estimate, snapshot
from tests.helpers.lists import message_list


def numbered(number: int, count: int = 3) -> MessageList:
    item = message_list(count)
    item.home.number = number
    return item


def added(item: MessageList) -> Operation:
    operation = Operation(lists=[(snapshot(item.home), item.messages)])
    operation.encode()
    return operation


def marked(item: MessageList, *places: int) -> Operation:
    for place in places:
        item.home.leave(place)
    return Operation(marks=[Mark.of(item.home)])


def test_a_row_gives_back_its_list() -> None:
    item = numbered(7, 10)
    item.home.leave(4)
    found = Row.of(snapshot(item.home), item.messages).to_list()
    assert [message.sequence for message in found.messages] == [1, 2, 3, 4, 6, 7, 8, 9, 10]
    assert (found.home.number, found.home.count, found.home.remaining) == (7, 10, 9)


def test_a_snapshot_does_not_see_later_progress() -> None:
    item = numbered(1)
    before, mark = snapshot(item.home), Mark.of(item.home)
    item.home.leave(0)
    assert before.remaining == mark.remaining == 3
    assert bytes(before.progress) == mark.progress == b"\0"


def test_of_several_marks_the_last_one_counts() -> None:
    item = numbered(1)
    change = Change.of([marked(item, 0), marked(item, 1)])
    assert [(mark.number, mark.progress, mark.remaining) for mark in change.marks] == [(1, b"\3", 1)]
    assert change.removed == []


def test_a_list_that_is_done_is_removed_and_not_marked() -> None:
    item = numbered(1)
    change = Change.of([marked(item, 0), marked(item, 1, 2)])
    assert (change.removed, change.marks) == ([1], [])


def test_a_list_that_is_marked_in_the_transaction_that_adds_it_is_added_as_marked() -> None:
    item = numbered(1)
    change = Change.of([added(item), marked(item, 0)])
    assert change.marks == [] and [(row.progress, row.remaining) for row in change.rows] == [(b"\1", 2)]


def test_a_list_that_is_done_in_the_transaction_that_adds_it_never_reaches_the_disk() -> None:
    item = numbered(1)
    change = Change.of([added(item), marked(item, 0, 1, 2)])
    assert change.rows == change.marks == change.removed == []


def test_the_highest_reservation_counts() -> None:
    assert Change.of([Operation(reserve=5), Operation(reserve=9), Operation(reserve=7)]).reserve == 9


def test_an_estimate_is_near_what_is_written() -> None:
    for item in (message_list(1000), message_list(1)):
        body = added(item).rows[0].body
        assert len(body) / 2 < estimate([item]) < len(body) * 3


def test_of_several_marks_of_what_was_sent_the_last_one_counts() -> None:
    item = numbered(7, 9)
    item.home.mark(0)
    item.home.mark(8)
    first = Sent.of(item.home)
    item.home.unmark(0)
    change = Change.of([Operation(sent=[first]), Operation(sent=[Sent.of(item.home)])])
    assert first.bitmap == b"\1\1" and change.sent == [Sent(7, b"\0\1")]


def test_a_list_without_marks_is_written_as_one() -> None:
    item = numbered(7, 9)
    assert Sent.of(item.home) == Sent(7, b"")
    item.home.mark(3)
    item.home.unmark(3)
    assert Sent.of(item.home) == Sent(7, b"")
