"""momentum_push/message/names.py"""

from hypothesis import given
from hypothesis import strategies as st

from momentum_push.message import names
from tests.helpers.lists import message, part

SEQUENCES = st.one_of(
    st.lists(st.integers(0, (1 << 48) - 1), max_size=3),
    st.lists(st.integers(0, (1 << 48) - 1), min_size=names.FEW, max_size=12),
    st.builds(
        lambda first, count: list(range(first, first + count)), st.integers(0, 1 << 47), st.integers(1, 50)
    ),
    st.builds(
        lambda first, steps: [first + step for step in steps],
        st.integers(0, 1 << 47),
        st.lists(st.integers(0, 70_000), min_size=5),
    ),
)
"""Any; one behind the other; near each other, in any order, across borders of digits and of 32 bits."""


@given(SEQUENCES)
def test_message_ids_are_those_of_the_messages(sequences: list[int]) -> None:
    messages = [message(sequence) for sequence in sequences]
    assert names.message_ids(messages) == [one.mid for one in messages]


@given(SEQUENCES, st.lists(st.integers(0, (1 << 74) - 1), min_size=1, max_size=3))
def test_apns_ids_are_those_of_the_messages(sequences: list[int], salts: list[int]) -> None:
    parts = [part(salt=salt) for salt in salts]
    messages = [message(one, part=parts[i % len(parts)]) for i, one in enumerate(sequences)]
    assert names.apns_ids(messages) == [one.apns_id for one in messages]


@given(SEQUENCES, st.lists(st.integers(0, (1 << 74) - 1), min_size=1, max_size=2), st.booleans())
def test_both_stand_in_their_places_in_the_text_of_each(
    sequences: list[int], salts: list[int], has_own: bool
) -> None:
    parts = [part(salt=salt) for salt in salts]
    messages = [message(one, part=parts[i % len(parts)]) for i, one in enumerate(sequences)]
    if has_own:
        messages.append(message(7, own_apns_id="9b2f0f80-0000-4000-8000-000000000000"))
    expected = "".join(f"«{one.mid}→{one.apns_id}»," for one in messages)
    assert names.both(messages, "«", "→", "»,") == expected
    assert names.lines(messages, "«", "»\n") == "".join(f"«{one.mid}»\n" for one in messages)


def test_an_apns_id_that_the_injector_chose_stays() -> None:
    own = {5: "9b2f0f80-0000-4000-8000-000000000000"}
    messages = [message(number, own_apns_id=own.get(number, "")) for number in range(2 * names.FEW)]
    assert names.apns_ids(messages) == [one.apns_id for one in messages]
