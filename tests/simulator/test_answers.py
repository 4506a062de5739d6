"""Answers in odd frames, to a client of h2 that would not put up with anything illegal (apns.md 9.5)."""

import pytest
from h2 import events
from hyperframe.frame import PriorityFrame

from tests.helpers.apns import Key, provider_key
from tests.helpers.apns_client import OK, of, ready, rule


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Key:
    return provider_key(tmp_path_factory.mktemp("keys"))


# Frames


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        ("body: none", b""),
        ("body: empty", b""),
        ("body: invalid", b'{"reason":"Bad\xff\xfe'),
        ("body: text", b"<html>upstream connect error</html>"),
        ("body: null_reason", b'{"reason":null}'),
        ("pieces: 7", b'{"reason":"InternalServerError"}'),
        ("trailers: true", b'{"reason":"InternalServerError"}'),
        ("continuations: 3", b'{"reason":"InternalServerError"}'),
        ("padding: 255", b'{"reason":"InternalServerError"}'),
        ("priority: true", b'{"reason":"InternalServerError"}'),
        ("interim: 103", b'{"reason":"InternalServerError"}'),
        (
            "pieces: 4, trailers: true, continuations: 2, padding: 9, priority: true, interim: 100",
            b'{"reason":"InternalServerError"}',
        ),
    ],
)
def test_a_refusal_in_odd_frames_arrives_and_frees_its_stream(key: Key, answer: str, body: bytes) -> None:
    pair = ready(key, rule(f"{{status: 500, answer: {{{answer}}}}}"))
    stream = pair.push("55")
    assert (pair.headers(stream)[":status"], pair.body(stream)) == ("500", body)
    assert any(isinstance(each, events.StreamEnded) and each.stream_id == stream for each in pair.events)
    assert repr(pair.session).endswith("0 of 1000 streams>")
    assert pair.answer(pair.push("66")) == OK


@pytest.mark.parametrize("answer", ["trailers: true", "continuations: 2", "padding: 9", "interim: 100"])
def test_a_success_in_odd_frames_is_one(key: Key, answer: str) -> None:
    pair = ready(key, rule(f"{{answer: {{{answer}}}}}"))
    assert pair.answer(pair.push("55")) == OK
    assert pair.floor.ledger.accepted["55"] == 1


def test_a_success_may_have_a_body(key: Key) -> None:
    pair = ready(key, rule("{answer: {body: text}}"))
    stream = pair.push("55")
    assert (pair.headers(stream)[":status"], pair.body(stream)[:6]) == ("200", b"<html>")


def test_priority_frames_are_seen(key: Key) -> None:
    pair = ready(key, rule("{answer: {priority: true}}"))
    assert [frame.stream_id for frame in of(pair, PriorityFrame)] == []
    stream = pair.push("55")
    assert [frame.stream_id for frame in of(pair, PriorityFrame)] == [stream]


def test_padding_keeps_to_the_clients_window(key: Key) -> None:
    pair = ready(key, rule("{status: 500, answer: {padding: 200, trailers: true}}"))
    pair.client.update_settings({4: 100})
    pair.feed()
    stream = pair.push("55")
    assert (pair.headers(stream)[":status"], pair.body(stream)) == ("500", b"")
    pair.client.increment_flow_control_window(50, stream)
    pair.feed()
    assert pair.body(stream) == b""
    pair.client.increment_flow_control_window(500, stream)
    pair.feed()
    assert pair.answer(stream) == (500, {"reason": "InternalServerError"})


def test_a_server_pings_too_and_counts_the_answer(key: Key) -> None:
    pair = ready(key, rule("{ping: true}"))
    assert pair.answer(pair.push("55")) == OK
    assert pair.row.ping_acks == 1
