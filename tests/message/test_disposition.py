"""momentum_push/message/disposition.py: deliveries in columns are what each of them would be by itself."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from momentum_push.loggers.columns import Batch, batches
from momentum_push.loggers.macros import NAMESPACES, compile_format, table
from momentum_push.message import Deliveries, Disposition, Home, Message
from tests.helpers.lists import NOW, QUEUE, message, part, queue_key
from tests.helpers.records import disposition

PARTS = [
    part(),
    part(topic="", mailfrom="a@b", received_at=NOW - 7.5),
    part(context={"DLV_Dest_Addr": "you", "campaign": 'a"@\\'}, received_at=NOW + 100),
]
HOMES = [Home(QUEUE, 10, NOW, count=99), Home(queue_key("other.apns"), 5, NOW, attempts=2, count=99)]
ROWS = st.lists(
    st.tuples(st.sampled_from(PARTS), st.sampled_from(HOMES), st.integers(100, 9999)), min_size=1, max_size=12
)
FORMAT = '@"'.join(f"%{name}" for name in sorted(table(NAMESPACES)) if "{}" not in name)


def deliveries(rows: list[tuple[object, Home, int]], has_topics: bool) -> Deliveries:
    messages = [
        message(number, part=kind, home=home, rcpt="r" * (number % 3))
        for number, (kind, home, _) in enumerate(rows)
    ]
    found = Deliveries(messages, [size for *_, size in rows], disposition(message=messages[0], text="250 ok"))
    if has_topics:
        found.set_topics(topic)
    return found


def topic(message: Message) -> str:
    return message.part.topic or "default"


@given(rows=ROWS, has_topics=st.booleans())
def test_one_made_for_whoever_asks_has_all_that_is_its_own(
    rows: list[tuple[object, Home, int]], has_topics: bool
) -> None:
    found = deliveries(rows, has_topics)
    expected = [
        disposition(
            message=made,
            text="250 ok",
            attempt=home.attempts + 1,
            size=size,
            topic=topic(made) if has_topics else "",
        )
        for made, (_, home, size) in zip(found.messages, rows, strict=True)
    ]
    assert list(found) == found[:] == expected
    assert (found[-1], len(found)) == (expected[-1], len(expected))


@given(rows=ROWS, has_topics=st.booleans())
def test_records_are_the_same_in_columns_and_one_by_one(
    rows: list[tuple[object, Home, int]], has_topics: bool
) -> None:
    found = deliveries(rows, has_topics)
    [(kind, batch)] = batches(found, NOW)
    alone: list[Disposition] = list(found)
    assert kind is alone[0].kind
    for text in (FORMAT, "%i", "a%i", "é%i|%%", "%i%i", "a%d%i@%B", "plain", ""):
        form = compile_format(text, table(NAMESPACES))
        expected = "".join(form.render(Batch([item], NOW)) for item in alone)
        assert form.render(batch) == form.render(Batch(alone, NOW)) == expected
        assert expected.count("\n") == len(rows)
