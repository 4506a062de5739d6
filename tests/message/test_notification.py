"""notification.py: messages, their lists, and the progress of a list."""

import gc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from momentum_push.message import MAX_LIST, Home, Message, MessageList, Part, QueueKey, short_token
from momentum_push.message.ids import apns_id, format_mid

QUEUE = QueueKey("default", "default", "com.example.news.apns")
PART = Part(received_at=1000.0, expiration=2000, push_type="alert", priority=10, salt=5)


def messages(count: int) -> list[Message]:
    nowhere = Home(QUEUE, 10, 0.0)
    return [Message(sequence, f"{sequence:064x}", b"{}", PART, nowhere) for sequence in range(count)]


@pytest.mark.parametrize("count", [1, 7, 8, 9, MAX_LIST])
def test_gathering_gives_every_message_its_home_and_place(count):
    gathered = MessageList.gather(QUEUE, 5, 1234.0, messages(count), attempts=2)
    home = gathered.home
    assert (home.queue, home.lane, home.due, home.attempts) == (QUEUE, 5, 1234.0, 2)
    assert (home.count, home.remaining, home.number) == (count, count, 0)
    assert all(message.home is home for message in gathered.messages)
    assert [message.place for message in gathered.messages] == list(range(count))
    assert len(home.progress) == -(-count // 8)


@given(st.integers(1, 40), st.data())
def test_progress_is_exactly_the_set_of_places_that_left(count, data):
    home = MessageList.gather(QUEUE, 10, 0.0, messages(count)).home
    steps = data.draw(st.lists(st.integers(0, count - 1), max_size=60))
    left: set[int] = set()
    for place in steps:
        assert home.leave(place) == (place not in left)
        left.add(place)
        assert home.remaining == count - len(left)
    assert {place for place in range(count) if home.has_left(place)} == left
    assert sum(byte.bit_count() for byte in home.progress) == len(left)


@given(st.lists(st.integers(0, 20)), st.integers(0, 20), st.integers(0, 21))
def test_leaving_together_is_leaving_one_by_one(before, first, end):
    together, apart = (Home(QUEUE, 10, 0.0, count=21, progress=bytearray(3), remaining=21) for _ in range(2))
    for places in (before, range(first, end), before + list(range(first, end))):
        together.leave_all([Message(1, "", b"", PART, together, place) for place in places])
        for place in places:
            apart.leave(place)
        assert (together.progress, together.remaining) == (apart.progress, apart.remaining)


def test_a_message_that_moves_to_a_new_list_leaves_no_trace_of_the_old():
    first = MessageList.gather(QUEUE, 10, 0.0, messages(3))
    again = MessageList.gather(QUEUE, 10, 60.0, first.messages[1:], attempts=1)
    assert [message.place for message in again.messages] == [0, 1]
    assert first.home.count == 3 and again.home.count == 2
    assert again.messages[0].home is again.home


def test_new_homes_do_not_share_their_progress():
    one, other = Home(QUEUE, 10, 0.0), Home(QUEUE, 10, 0.0)
    one.progress.append(1)
    assert other.progress == bytearray()


def test_ids_of_a_message_follow_from_its_number():
    message = messages(8)[7]
    assert message.mid == format_mid(7)
    assert message.apns_id == apns_id(PART.salt, 7)


def test_an_apns_id_of_the_injectors_own_wins():
    message = messages(1)[0]
    message.own_apns_id = "0b1c2d3e-0000-4000-8000-123456789abc"
    assert message.apns_id == message.own_apns_id


def test_messages_stay_out_of_the_garbage_collectors_way():
    message = messages(1)[0]
    assert not gc.is_tracked(message)
    assert not gc.is_tracked(PART)


@pytest.mark.parametrize(
    ("token", "shown"), [("", ""), ("abcd", "abcd"), ("01234567", "01234567"), ("0123456789", "01234567…")]
)
def test_diagnostics_show_the_beginning_of_a_token_alone(token, shown):
    assert short_token(token) == shown


def test_a_mark_is_one_bit_and_no_progress() -> None:
    home = Home(
        QueueKey("default", "default", "a.apns"), 10, 0.0, count=9, progress=bytearray(2), remaining=9
    )
    home.unmark(8)
    assert home.sent is None and not home.is_marked(8)
    home.mark(8)
    home.mark(0)
    assert [place for place in range(9) if home.is_marked(place)] == [0, 8] and home.remaining == 9
    home.unmark(0)
    home.unmark(0)
    assert [place for place in range(9) if home.is_marked(place)] == [8] and not any(home.progress)
