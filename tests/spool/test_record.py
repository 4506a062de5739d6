"""`record.py`: a list goes through its blob and comes back the same, and damage is never taken for a list."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from momentum_push.errors import SpoolError
from momentum_push.message import Home, Message, Part
from momentum_push.spool import record
from tests.helpers.lists import NOW, QUEUE, message, message_list, messages, part, token_of
from tests.helpers.spools import facts

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
HEX = st.binary(min_size=32, max_size=32).map(bytes.hex)
TOKENS = st.one_of(HEX, HEX.map(str.upper), TEXT, st.just("ab cd" * 2), st.just("é" * 4))
PARTS = st.builds(
    Part,
    received_at=st.floats(0, 4e9),
    expiration=st.integers(0, 2**40),
    push_type=TEXT,
    priority=st.sampled_from([10, 5, 1]),
    topic=TEXT,
    collapse_id=TEXT,
    salt=st.integers(0, 2**74 - 1),
    protocol=TEXT,
    client=TEXT,
    mailfrom=TEXT,
    return_path=TEXT,
    conn_id=TEXT,
    batch_id=TEXT,
    context=st.dictionaries(TEXT, TEXT, max_size=3),
    conn_context=st.dictionaries(TEXT, TEXT, max_size=3),
    size=st.integers(0, 2**31),
)


@st.composite
def any_messages(draw: st.DrawFn) -> list[Message]:
    """Lists of all kinds: few parts or many, tokens of one form or mixed, numbers in a run or scattered."""
    parts = draw(st.lists(PARTS, min_size=1, max_size=4))
    payloads = draw(st.lists(st.binary(max_size=40), min_size=1, max_size=4))
    tokens = draw(st.sampled_from([HEX, TOKENS]))
    rcpts = draw(st.sampled_from([st.just(""), TEXT]))
    own_ids = draw(st.sampled_from([st.just(""), TEXT]))
    numbers = draw(
        st.one_of(
            st.lists(st.integers(0, 2**48 - 1), min_size=1, max_size=20),
            st.integers(1, 20).map(lambda count: list(range(5, 5 + count))),
        )
    )
    home = home_of(len(numbers))
    return [
        Message(
            sequence=number,
            token=draw(tokens),
            payload=draw(st.sampled_from(payloads)),
            part=draw(st.sampled_from(parts)),
            home=home,
            place=place,
            rcpt=draw(rcpts),
            own_apns_id=draw(own_ids),
        )
        for place, number in enumerate(numbers)
    ]


def home_of(count: int, number: int = 7) -> Home:
    progress = bytearray((count + 7) // 8)
    return Home(QUEUE, 10, NOW, number=number, count=count, progress=progress, remaining=count)


def round_trip(given_messages: list[Message]) -> list[Message]:
    return record.decode(record.encode(given_messages).body, home_of(len(given_messages)))


@given(any_messages())
@settings(max_examples=100, deadline=None)
def test_what_is_packed_comes_back_the_same(given_messages: list[Message]) -> None:
    assert list(map(facts, round_trip(given_messages))) == list(map(facts, given_messages))


@given(any_messages(), st.data())
@settings(max_examples=50, deadline=None)
def test_only_the_waiting_come_back_and_keep_their_place(
    given_messages: list[Message], data: st.DataObject
) -> None:
    home = home_of(len(given_messages))
    for place in data.draw(st.sets(st.integers(0, home.count - 1))):
        home.leave(place)
    waiting = [message for message in given_messages if not home.has_left(message.place)]
    decoded = record.decode(record.encode(given_messages).body, home)
    assert list(map(facts, decoded)) == list(map(facts, waiting))
    assert all(message.home is home for message in decoded)


@given(any_messages())
@settings(max_examples=50, deadline=None)
def test_the_row_knows_its_range_and_its_oldest_message(given_messages: list[Message]) -> None:
    packed = record.encode(given_messages)
    numbers = [message.sequence for message in given_messages]
    oldest = min(message.part.received_at for message in given_messages)
    assert (packed.first, packed.last, packed.oldest) == (min(numbers), max(numbers), oldest)


@pytest.mark.parametrize("rcpts", ["none", "tokens", "odd"])
def test_a_flipped_or_missing_byte_is_recognised_wherever_it_is(rcpts: str) -> None:
    given_messages = messages(5)
    for place, item in enumerate(given_messages):
        item.rcpt = {"none": "", "tokens": item.token, "odd": f"müller{place}"}[rcpts]
    body = record.encode(given_messages).body
    for place in range(len(body)):
        for bit in (0x01, 0x80):
            damaged = bytearray(body)
            damaged[place] ^= bit
            with pytest.raises(SpoolError, match=r"^spool: list 7: .*; set aside, .*spool check"):
                record.decode(bytes(damaged), home_of(5))
        with pytest.raises(SpoolError, match="list 7"):
            record.decode(body[:place], home_of(5))


@pytest.mark.parametrize("count", [1, 4, 6, 9, 1000])
def test_a_row_of_another_length_is_recognised(count: int) -> None:
    with pytest.raises(SpoolError, match=f"list 7: progress covers {count} of 5 messages"):
        record.decode(record.encode(messages(5)).body, home_of(count))


def test_a_later_layout_is_refused_by_its_version() -> None:
    body = bytes([record.VERSION + 1]) + record.encode(messages(1)).body[1:]
    with pytest.raises(SpoolError, match="layout version 2 is unknown, this program knows 1"):
        record.decode(body, home_of(1))


def test_a_thousand_tokens_with_one_payload_cost_33_bytes_each() -> None:
    """design.md 1: a campaign of a million tokens takes 33 MB."""
    assert len(record.encode(message_list(1000).messages).body) < 33_000


def test_rcpts_that_equal_their_tokens_cost_nothing() -> None:
    plain, same = messages(1000), messages(1000)
    for item in same:
        item.rcpt = item.token
    assert len(record.encode(same).body) == len(record.encode(plain).body)
    assert [item.rcpt for item in round_trip(same)] == [item.token for item in same]


def test_shared_objects_are_shared_again() -> None:
    first, second, *_ = round_trip(messages(3))
    assert first.payload is second.payload and first.part is second.part


def test_many_parts_and_payloads_find_their_messages() -> None:
    given_messages = [
        message(3 * number, payload=b"%d" % (number % 300), part=part(size=number % 400))
        for number in range(1000)
    ]
    assert [(m.payload, m.part.size) for m in round_trip(given_messages)] == [
        (m.payload, m.part.size) for m in given_messages
    ]


@pytest.mark.parametrize("count", [0, 1001])
def test_a_list_has_1_to_1000_messages(count: int) -> None:
    with pytest.raises(SpoolError, match=f"a list of {count} messages"):
        record.encode(messages(count))


@pytest.mark.parametrize(
    "changes",
    [
        {"rcpt": "\udc80"},
        {"token": "\udfff"},
        {"part": part(context={"key": "\ud800"})},
        {"part": part(salt=-1)},
        {"sequence": 2**70},
    ],
)
def test_what_cannot_be_stored_is_refused_before_it_is_in(changes: dict[str, object]) -> None:
    item = message(**{"sequence": 1, **changes})  # type: ignore[arg-type]
    with pytest.raises(SpoolError, match="cannot be stored"):
        record.encode([item])


def test_the_fields_of_a_part_keep_their_places() -> None:
    """Parts are stored by position; a new field goes at the end, with a default."""
    assert Part.__struct_fields__[:16] == (
        "received_at",
        "expiration",
        "push_type",
        "priority",
        "topic",
        "collapse_id",
        "salt",
        "protocol",
        "client",
        "mailfrom",
        "return_path",
        "conn_id",
        "batch_id",
        "context",
        "conn_context",
        "size",
    )


def test_a_blob_of_version_1_is_read_by_every_later_program() -> None:
    """A blob as this version writes it, kept here: lists on disk outlive the program that wrote them."""
    body = bytes.fromhex(BLOB)
    (found,) = record.decode(body, home_of(1))
    assert facts(found) == facts(message(5, part=part(), token=token_of(5)))


BLOB = (
    "018278e9539905c40091dc0010cb41da56dbe0000000ce6964aa00a5616c6572740ab0636f6d2e6578616d706c652e6e"
    "657773a0c40401234567a468747470af3139322e302e322e373a3430303031a0a0b430302f30312d30303030302d3030"
    "303030303031b430302f30322d30303030302d3030303030303032808000c40091c4237b22617073223a7b22616c6572"
    "74223a2246657272792063616e63656c6c6564227d7dc4009240c4206701682e310e05bf1dc1da5602ae7c349709f21c"
    "9fe297a9c80a321cc4fd6806c0c0"
)


def test_a_progress_that_does_not_fit_its_count_is_recognised() -> None:
    home = home_of(5)
    home.progress[0] |= 2
    with pytest.raises(SpoolError, match="list 7: 4 messages wait, 5 should"):
        record.decode(record.encode(messages(5)).body, home)
