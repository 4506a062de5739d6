"""momentum_push/message/names.py"""

from hypothesis import given
from hypothesis import strategies as st

from momentum_push.message import names
from tests.helpers.lists import message, part

SEQUENCES = st.lists(st.integers(0, (1 << 48) - 1), min_size=1)


@given(SEQUENCES)
def test_message_ids_are_those_of_the_messages(sequences: list[int]) -> None:
    messages = [message(sequence) for sequence in sequences]
    assert names.message_ids(messages) == [one.mid for one in messages]


@given(SEQUENCES, st.lists(st.integers(0, (1 << 74) - 1), min_size=1, max_size=3))
def test_apns_ids_are_those_of_the_messages(sequences: list[int], salts: list[int]) -> None:
    parts = [part(salt=salt) for salt in salts]
    messages = [message(one, part=parts[i % len(parts)]) for i, one in enumerate(sequences)]
    assert names.apns_ids(messages) == [one.apns_id for one in messages]


def test_an_apns_id_that_the_injector_chose_stays() -> None:
    messages = [message(1), message(2, own_apns_id="9b2f0f80-0000-4000-8000-000000000000")]
    assert names.apns_ids(messages) == [one.apns_id for one in messages]
