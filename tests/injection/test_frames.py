"""What core and receiver say to each other: nothing of a message is lost, however the bytes arrive."""

from __future__ import annotations

import msgspec
import pytest

from momentum_push.errors import ProtocolError
from momentum_push.injection.frames import (
    MAX_FRAME,
    FromReceiver,
    Injection,
    Splitter,
    encode,
    messages_of,
    runs_of,
)
from momentum_push.message import Home, Message, Part, QueueKey

SALT = 1 << 73 | 4711
QUEUE = QueueKey("group", "binding", "com.example.news.apns")
VALUES = {int: 5, float: 1_767_600_000.5, str: "text", dict: {"key": "value"}}


def part(**changes: object) -> Part:
    """A part in which no field has its default."""
    kinds = [type(default) for default in msgspec.structs.astuple(Part(1.0, 1, "alert", 10))]
    fields = {name: VALUES[kind] for name, kind in zip(Part.__struct_fields__, kinds, strict=True)}
    return Part(**(fields | {"salt": SALT} | changes))  # type: ignore[arg-type]


def messages(shared: Part, count: int, payloads: list[bytes], due: float = 7.0) -> list[Message]:
    home = Home(QUEUE, 5, due)
    return [
        Message(0, f"{n:064x}", payloads[n % len(payloads)], shared, home, 0, f"rcpt{n}", f"id{n}")
        for n in range(count)
    ]


def crossed(sent: list[Message]) -> list[Message]:
    frame = Injection(1, "http", runs_of(sent), True)
    (body,) = Splitter().feed(encode(frame))
    back = msgspec.msgpack.decode(body, type=FromReceiver)
    assert isinstance(back, Injection)
    return messages_of(back.runs, SALT)


@pytest.mark.parametrize("payloads", [[b"{}"], [b"{}", b'{"n":1}']], ids=["shared", "own"])
@pytest.mark.parametrize("count", [1, 5])
def test_every_field_of_a_message_crosses(payloads: list[bytes], count: int) -> None:
    """A field that is new in `Message` must be added to `Run`; new ones of `Part` cross by themselves."""
    sent = messages(part(), count, payloads) + messages(part(topic="other"), 2, payloads, due=9.0)
    for before, after in zip(sent, crossed(sent), strict=True):
        for name in Message.__struct_fields__:
            if name != "home":
                assert getattr(after, name) == getattr(before, name), name
        assert (after.home.queue, after.home.lane, after.home.due) == (QUEUE, 5, before.home.due)


def test_messages_that_shared_part_and_home_share_them_again() -> None:
    got = crossed(messages(part(), 5, [b"{}"]))
    assert len({id(message.home) for message in got}) == len({id(message.part) for message in got}) == 1


def test_messages_without_names_of_their_own_cross_without_them() -> None:
    home = Home(QUEUE, 10, 1.0)
    sent = [Message(0, f"{n:064x}", b"{}", part(), home) for n in range(3)]
    assert runs_of(sent)[0].rcpts is None
    assert [(message.rcpt, message.own_apns_id) for message in crossed(sent)] == [("", "")] * 3


@pytest.mark.parametrize("step", [1, 3, 4, 5, 1000])
def test_frames_are_found_whatever_the_pieces_they_come_in(step: int) -> None:
    bodies = [b"", b"a", b"b" * 300, b"c" * 5]
    stream = b"".join(len(body).to_bytes(4) + body for body in bodies) + b"\0\0\0\5tail"
    splitter = Splitter()
    found = [body for at in range(0, len(stream), step) for body in splitter.feed(stream[at : at + step])]
    assert found == bodies
    assert list(splitter.feed(b"s")) == [b"tails"]


def test_a_stream_out_of_step_is_given_up() -> None:
    with pytest.raises(ProtocolError):
        list(Splitter().feed((MAX_FRAME + 1).to_bytes(4)))
