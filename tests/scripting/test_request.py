"""Requests and answers: decoded when looked at, written back when changed, checked when assigned."""

import pytest

from momentum_push.errors import ScriptError
from momentum_push.scripting import Request, Response
from tests.helpers.scripts import PAYLOAD, TOKEN, a_message

FIELDS = {
    "token": "cd" * 32,
    "topic": "a.b",
    "push_type": "background",
    "priority": 5,
    "expiration": 0,
    "collapse_id": "c",
    "apns_id": "9f8e0000-0000-4000-8000-000000000000",
}


def test_a_request_shows_what_will_be_sent():
    message = a_message(sequence=(5 << 32) + 9, collapse_id="c")
    request = Request(message, "com.example.news")
    assert (request.command, request.id, request.token) == (2, 9, TOKEN)
    assert (request.expiry, request.expiration) == (1_800_000_000, 1_800_000_000)
    assert dict(request.headers) == {
        "apns-topic": "com.example.news",
        "apns-push-type": "alert",
        "apns-priority": "10",
        "apns-expiration": "1800000000",
        "apns-collapse-id": "c",
        "apns-id": message.apns_id,
    }
    assert len(request.headers) == 6 and not request.is_changed


@pytest.mark.parametrize(("name", "value"), FIELDS.items(), ids=FIELDS)
def test_what_is_assigned_is_shown_and_noted(name, value):
    request = Request(a_message(), "t")
    setattr(request, name, value)
    assert getattr(request, name) == value
    assert request.changes == {name: value} and request.is_changed


def test_headers_are_another_view_of_the_same():
    request = Request(a_message(collapse_id="c"), "t")
    request.headers["APNS-Priority"] = "5"
    del request.headers["apns-collapse-id"]
    assert (request.priority, request.collapse_id) == (5, "")
    assert "apns-collapse-id" not in request.headers
    for wrong in (
        lambda: request.headers.__delitem__("apns-id"),
        lambda: request.headers.__setitem__("x", "y"),
    ):
        with pytest.raises(ScriptError):
            wrong()


@pytest.mark.parametrize("value", ["high", -1, 1.5, None, True, float("nan"), float("inf"), "1.5", 1e300])
def test_what_is_no_whole_number_is_refused(value):
    request = Request(a_message())
    with pytest.raises(ScriptError, match="priority"):
        request.priority = value
    assert not request.is_changed


@pytest.mark.parametrize(
    ("edit", "after"),
    [
        (lambda request: request.json, None),
        (
            lambda request: request.json["aps"].update(badge=3),
            b'{"aps":{"alert":"Ferry cancelled","badge":3}}',
        ),
        (lambda request: request.json["aps"].update(alert="Ferry cancelled"), None),
        (lambda request: setattr(request, "json", {"a": 1 << 70}), b'{"a":1180591620717411303424}'),
        (lambda request: setattr(request, "payload", PAYLOAD), None),
        (lambda request: setattr(request, "payload", b"{}"), b"{}"),
    ],
)
def test_a_payload_is_new_only_when_it_changed(edit, after):
    request = Request(a_message())
    edit(request)
    assert request.new_payload == after
    assert request.is_changed == (after is not None)


def test_a_look_at_a_payload_changes_nothing_however_it_was_written():
    request = Request(a_message(b'{ "a" : "\\u00e4" }'))
    assert request.json == {"a": "ä"} and request.new_payload is None


def test_a_payload_that_nobody_looks_at_is_not_decoded():
    request = Request(a_message(b"not json at all"))
    assert request.new_payload is None


@pytest.mark.parametrize("wrong", [{"a": object()}, {"a": {1, 2}} | {"b": object()}])
def test_what_json_has_not_is_an_error(wrong):
    with pytest.raises(ScriptError, match="json"):
        Request(a_message()).json = wrong


@pytest.mark.parametrize("wrong", [b"{", b'{"a":"\xff"}', "text"])
def test_a_payload_must_stay_json(wrong):
    request = Request(a_message())
    with pytest.raises(ScriptError):
        request.payload = wrong
    assert request.new_payload is None


def test_an_answer_can_be_given_another_status():
    response = Response(a_message(), 8, 410, "Unregistered", 1_700_000_000)
    assert (response.command, response.id, response.status, response.is_changed) == (8, 7, 8, False)
    assert (response.http_status, response.reason, response.timestamp) == (410, "Unregistered", 1_700_000_000)
    response.status = 1.0
    assert response.status == 1 and response.is_changed
    with pytest.raises(ScriptError, match=r"resp\.status"):
        response.status = "bad"


def test_what_is_sent_instead_stands_at_the_same_place():
    message = a_message(topic="named")
    request = Request(message, "t")
    assert request.applied() == (message, "t") and request.applied()[0] is message
    for name, value in FIELDS.items():
        setattr(request, name, value)
    request.payload = b"{}"
    copy, topic = request.applied()
    assert (copy.sequence, copy.place, copy.home) == (message.sequence, message.place, message.home)
    assert (copy.token, copy.payload, copy.apns_id, topic) == (
        FIELDS["token"],
        b"{}",
        FIELDS["apns_id"],
        "a.b",
    )
    shared = ("topic", "push_type", "priority", "expiration", "collapse_id")
    assert {name: getattr(copy.part, name) for name in shared} == {name: FIELDS[name] for name in shared}
    assert copy.part.received_at == message.part.received_at
    assert message.token == TOKEN and message.part.topic == "named", "what is kept is the original"


def test_a_part_is_shared_as_long_as_nothing_in_it_changed():
    message = a_message()
    request = Request(message, "t")
    request.token = "cd" * 32
    assert request.applied()[0].part is message.part
