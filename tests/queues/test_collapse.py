"""The newest is always sent; an older one only where nothing newer is known."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from momentum_push.message import Message
from momentum_push.queues.collapse import COLLAPSED, Collapse
from tests.helpers.lists import NOW, message, part, token_of


def one(number: int, token: int = 1, **changes: object) -> Message:
    fields = {"collapse_id": "ferry", "received_at": NOW + number} | changes
    return message(number, token=token_of(token), part=part(**fields))


def test_the_older_ones_collapse_into_the_newest_by_name() -> None:
    table = Collapse()
    table.note([one(1), one(2), one(3)])
    assert table.final(one(1)) == table.final(one(2)) == f"{COLLAPSED} {one(3).mid}"
    assert table.final(one(3)) is None
    assert table.final(one(3)) is None, "also when it is tried again"


def test_only_the_same_token_id_topic_and_push_type_collapse() -> None:
    table = Collapse()
    table.note([one(1), one(2, token=2), one(3, collapse_id="bus"), one(4, topic="com.example.other")])
    table.note([one(5, push_type="background"), one(6, collapse_id="")])
    assert table.final(one(1)) is None


def test_what_was_sent_already_still_keeps_an_older_one_from_overwriting_it() -> None:
    table = Collapse()
    table.note([one(2)])
    assert table.final(one(2)) is None
    assert table.final(one(1)) is not None


def test_a_scheduled_message_counts_from_its_time() -> None:
    table = Collapse()
    scheduled = one(1, deliver_at=NOW + 100)
    table.note([one(2)])
    assert table.final(one(2)) is None, "tomorrow's does not swallow today's"
    table.meet([scheduled])
    assert table.final(one(2)) is not None
    table.note([one(3, received_at=NOW + 101)])
    assert table.final(scheduled) is not None


def test_a_clock_that_jumps_back_does_not_make_the_newest_old() -> None:
    table = Collapse()
    table.note([one(1, received_at=NOW + 3600)])
    table.note([one(2, received_at=NOW)])
    assert (table.final(one(1, received_at=NOW + 3600)) is None, table.final(one(2, received_at=NOW))) == (
        False,
        None,
    )


def test_the_table_is_bounded_and_forgets_what_was_met_first() -> None:
    table = Collapse(limit=2)
    table.note([one(1, token=1), one(2, token=2)])
    table.note([one(3, token=1), one(4, token=3)])
    assert table.final(one(1, token=1)) is not None
    assert table.final(one(0, token=2)) is None, "forgotten: it is sent as without the option"


@given(st.lists(st.integers(1, 3), max_size=30), st.randoms(use_true_random=False))
def test_whatever_order_they_are_read_in_the_newest_of_each_is_sent_and_sent_last(
    tokens: list[int], dice: object
) -> None:
    table, messages = Collapse(), [one(number, token=token) for number, token in enumerate(tokens, 1)]
    order = messages[:]
    dice.shuffle(order)  # type: ignore[attr-defined]
    for each in order[: len(order) // 2]:
        table.meet([each])
    sent = [each for each in order if table.final(each) is None]
    for token in set(tokens):
        numbers = [each.sequence for each in sent if each.token == token_of(token)]
        assert numbers == sorted(numbers)
        assert numbers[-1] == max(each.sequence for each in messages if each.token == token_of(token))
