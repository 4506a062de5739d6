"""Lanes, dues and holds of one queue."""

from momentum_push.message import Message, MessageList
from momentum_push.queues import Queue
from tests.helpers.lists import NOW, QUEUE, message_list


def numbered(number: int, *, first: int, count: int = 3, lane: int = 10, due: float = NOW) -> MessageList:
    batch = message_list(count, first=first, lane=lane, due=due)
    batch.home.number = number
    return batch


def sequences(messages: list[Message]) -> list[int]:
    return [message.sequence for message in messages]


def filled(*batches: MessageList, now: float = NOW) -> Queue:
    queue = Queue(QUEUE)
    for batch in batches:
        queue.lanes[batch.home.lane].add(batch, now)
    return queue


def test_lane_10_goes_before_5_before_1_and_each_in_order() -> None:
    queue = filled(
        numbered(1, first=10, lane=1),
        numbered(2, first=20, lane=5),
        numbered(3, first=30),
        numbered(4, first=40),
    )
    assert sequences(queue.take(7, NOW)) == [30, 31, 32, 40, 41, 42, 20]
    assert sequences(queue.take(100, NOW)) == [21, 22, 10, 11, 12]
    assert queue.take(1, NOW) == []


def test_what_is_put_back_comes_first_again_in_its_lane() -> None:
    queue = filled(numbered(1, first=10), numbered(2, first=20, lane=5))
    taken = queue.take(5, NOW)
    queue.put_back(taken[1:])
    assert (queue.active, sequences(queue.take(9, NOW))) == (5, [11, 12, 20, 21, 22])


def test_delayed_lists_become_active_when_they_are_due_earliest_first() -> None:
    queue = filled(numbered(1, first=10, due=NOW + 20), numbered(2, first=20, due=NOW + 10))
    assert (queue.active, queue.delayed, queue.wakes_at(NOW)) == (0, 6, NOW + 10)
    assert queue.take(9, NOW + 9.9) == []
    assert not queue.has_due(NOW + 9.9)
    assert queue.has_due(NOW + 10)
    assert sequences(queue.take(9, NOW + 20)) == [20, 21, 22, 10, 11, 12]


def test_a_hold_stops_everything_and_moves_nothing() -> None:
    queue = filled(numbered(1, first=10))
    queue.hold(NOW + 30, "outage")
    assert queue.take(9, NOW + 29) == []
    assert not queue.has_due(NOW + 29)
    assert (queue.active, queue.delayed, queue.wakes_at(NOW)) == (3, 0, NOW + 30)
    assert repr(queue).endswith("A: 3 D: 0, held: outage>")
    assert len(queue.take(9, NOW + 30)) == 3


def test_release_ends_a_hold() -> None:
    queue = filled(numbered(1, first=10))
    queue.hold(NOW + 30, "outage")
    queue.release()
    assert queue.has_due(NOW)
    assert queue.hold_reason == ""


def test_stored_messages_count_as_active_once_their_first_is_due() -> None:
    queue = filled(numbered(1, first=10))
    queue.lanes[10].books.store(numbered(2, first=20, due=NOW + 5))
    assert queue.sizes(NOW) == (3, 3)
    assert queue.sizes(NOW + 5) == (6, 0)


def test_the_oldest_message_is_found_among_active_and_delayed() -> None:
    assert Queue(QUEUE).oldest() is None
    assert filled(numbered(1, first=10), numbered(2, first=20, due=NOW + 9)).oldest() == NOW


def test_lanes_that_come_back_mixed_keep_each_their_order() -> None:
    """As outcomes of one read do: answers come in the order in which the peer finished."""
    queue = filled(numbered(1, first=10), numbered(2, first=20, lane=5))
    first, second = queue.take(3, NOW), queue.take(3, NOW)
    queue.put_back([message for pair in zip(first, second, strict=True) for message in pair])
    assert sequences(queue.take(9, NOW)) == [10, 11, 12, 20, 21, 22]
