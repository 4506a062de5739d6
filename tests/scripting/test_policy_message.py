"""The message object: always text, own wishes visible, nothing carried out."""

import pytest

from momentum_push.errors import ScriptError
from momentum_push.message import Home, QueueKey
from momentum_push.scripting import HeaderEdit, PolicyMessage, Stored, Subject
from momentum_push.scripting.constants import (
    CTX_CONN,
    CTX_MESS,
    ENVELOPE_COMPLETE,
    ENVELOPE_FROM,
    ENVELOPE_TO,
)
from momentum_push.scripting.policy_message import known_groups
from tests.helpers.scripts import PAYLOAD, TOKEN, a_message

HEADERS = b"Subject: =?utf-8?q?F=C3=A4hre?=\r\nReceived: one\r\nReceived: two\r\nX-Bad: =?nosuch?q?a?=\r\n"
MAIL = HEADERS + b"\r\nthe body\r\n"


def a_msg(**fields) -> PolicyMessage:
    return PolicyMessage(Subject(**fields))


@pytest.mark.parametrize("scope", [CTX_MESS, CTX_CONN])
def test_context_is_text_and_shows_what_was_wished(scope):
    fields = {"context": {"a": "1"}} if scope == CTX_MESS else {"conn_context": {"a": "1"}}
    msg = a_msg(**fields)
    assert [msg.context_get(scope, key) for key in "ab"] == ["1", ""]
    assert [msg.context_exists(scope, key) for key in "ab"] == [1, 0]
    assert msg.wishes is None, "looking wishes for nothing"
    msg.context_set(scope, "b", 2.0)
    assert msg.context_exists_and_get(scope, "b") == (1, "2")
    assert [msg.context_delete(scope, key) for key in "abc"] == [1, 1, 0]
    assert msg.context_exists_and_get(scope, "a") == (0, "")
    wished = msg.wishes.context if scope == CTX_MESS else msg.wishes.conn_context
    assert wished == {"a": None, "b": None}


def test_what_was_given_is_never_written_to():
    given = {"a": "1"}
    msg = a_msg(context=given)
    msg.context_set(CTX_MESS, "a", "2")
    assert given == {"a": "1"}


@pytest.mark.parametrize(
    "wrong",
    [
        lambda msg: msg.context_get(3, "a"),
        lambda msg: msg.context_set(CTX_MESS, "a", None),
        lambda msg: msg.context_set(CTX_MESS, "a", True),
        lambda msg: msg.header("Sub:ject", "x"),
        lambda msg: msg.header("Subject", "a\r\nBcc: x"),
        lambda msg: msg.header("Subject", "a", "sideways"),
        lambda msg: msg.code(99, "x"),
        lambda msg: msg.code("five", "x"),
        lambda msg: msg.inject("a@b", ""),
        lambda msg: msg.inject("a@b", "nobody"),
        lambda msg: msg.inject("a@b", ",".join(["a@b"] * 1001)),
        lambda msg: msg.binding("default"),
        lambda msg: msg.reception_peer("half"),
    ],
)
def test_what_makes_no_sense_is_an_error_and_no_wish(wrong):
    msg = a_msg(raw=MAIL)
    with pytest.raises(ScriptError):
        wrong(msg)
    assert msg.wishes is None or not (msg.wishes.injects or msg.wishes.headers or msg.wishes.context)


def test_headers_are_read_decoded_and_edited():
    msg = a_msg(raw=MAIL)
    assert msg.header("subject") == ["Fähre"]
    assert msg.header("Received") == ["one", "two"]
    assert msg.header("X-Bad") == ["=?nosuch?q?a?="]
    assert msg.header("X-None") == []
    assert msg.header("Received", "zero", "prepend") is True
    assert msg.header("received") == ["zero", "one", "two"]
    assert msg.header("X-New", "x", "append") and msg.header("Subject", "new")
    assert msg.header("Received", "") and msg.header("Received") == []
    assert msg.header("Received", "") is False
    assert msg.wishes.headers == [
        HeaderEdit("Received", "zero", "prepend"),
        HeaderEdit("X-New", "x", "append"),
        HeaderEdit("Subject", "new", "replace"),
        HeaderEdit("Received", "", "replace"),
    ]


@pytest.mark.parametrize(
    ("fields", "body", "raw"),
    [
        ({"raw": MAIL}, b"the body\r\n", MAIL),
        ({"raw": b"A: b\n\nx\r\n\r\ny"}, b"x\r\n\r\ny", b"A: b\n\nx\r\n\r\ny"),
        ({"raw": b"A: b\r\n"}, b"", b"A: b\r\n"),
        ({"payload": PAYLOAD}, PAYLOAD, b""),
    ],
)
def test_body_and_raw(fields, body, raw):
    msg = a_msg(**fields)
    assert (msg.body(), msg.text(), msg.raw()) == (body, body, (raw, len(raw)))
    assert msg.get_message_size() == (len(raw) or len(PAYLOAD))


def test_the_envelope_is_shown_in_the_ways_of_the_manual():
    msg = a_msg(mailfrom="a@b.c", rcptto="x@news.apns")
    assert msg.envelope(ENVELOPE_FROM) == ("a", "b.c")
    assert msg.envelope(ENVELOPE_TO | ENVELOPE_COMPLETE) == ("x@news.apns", "")
    assert msg.routing_domain() == "news.apns"
    assert msg.mailfrom("d@e.f") == "d@e.f" and msg.rcptto("y@other.apns") == "y@other.apns"
    assert msg.routing_domain() == "other.apns"
    assert (msg.wishes.mailfrom, msg.wishes.rcptto) == ("d@e.f", "y@other.apns")


def test_bindings_are_chosen_among_those_there_are():
    groups = known_groups({"default": ["default", "solo"], "bulk": ["b1", "b2"]})
    msg = PolicyMessage(Subject(binding="default", binding_group="default"), groups=groups)
    assert (msg.binding(), msg.binding_group()) == ("default", "default")
    assert msg.binding("nosuch") is None and msg.wishes is None
    assert msg.binding("b2") == "b2" and msg.binding_group() == "bulk"
    assert msg.binding_group("nosuch") is None
    assert msg.binding_group("bulk") == "bulk" and msg.binding() == "b1"


@pytest.mark.parametrize(
    ("reason", "code"),
    [(None, (550, "5.7.0 discarded by policy")), ("554 5.1.1 no", (554, "5.1.1 no")), ("no", (550, "no"))],
)
def test_discard_and_code_are_wishes(reason, code):
    msg = a_msg()
    assert msg.code() is None
    msg.discard(reason)
    assert msg.wishes.discarded == code
    assert msg.code(451, "4.7.1 later") == (451, "4.7.1 later") == msg.code()


def test_where_codes_mean_nothing_they_are_errors():
    msg = PolicyMessage(Subject(), may_refuse=False)
    for wrong in (lambda: msg.code(550, "x"), msg.discard):
        with pytest.raises(ScriptError, match="cannot be used in this hook"):
            wrong()


def test_inject_takes_the_context_of_its_moment():
    msg = a_msg(context={"a": "1", "b": "2"})
    msg.context_delete(CTX_MESS, "a")
    msg.inject("f@x", " one@y , two@z,")
    msg.context_set(CTX_MESS, "c", "3")
    (inject,) = msg.wishes.injects
    assert (inject.recipients, inject.context) == (("one@y", "two@z"), {"b": "2"})


@pytest.mark.parametrize(
    ("flag", "part"), [("ip", "2001:db8::1"), ("port", "25"), ("all", "[2001:db8::1]:25")]
)
def test_addresses_are_taken_apart(flag, part):
    assert a_msg(peer="[2001:db8::1]:25").reception_peer(flag) == part


def test_a_message_of_ours_shows_what_was_injected_and_what_delivery_added():
    message = a_message(context={"campaign": "x"}, mailfrom="a@b", client="1.2.3.4:5", size=99)
    message.rcpt = "u1"
    message.home = Home(QueueKey("bulk", "b1", "news.apns"), 10, 0.0, attempts=2)
    msg = PolicyMessage(Stored(message, {"DLV_Response_Status": "8"}))
    assert msg.context_get(CTX_MESS, "DLV_Dest_ID") == TOKEN
    assert msg.context_get(CTX_MESS, "campaign") == "x"
    assert msg.context_get(CTX_MESS, "DLV_Response_Status") == "8"
    assert (msg.mailfrom(), msg.rcptto(), msg.binding(), msg.binding_group()) == (
        "a@b",
        "u1@news.apns",
        "b1",
        "bulk",
    )
    assert (msg.num_retries, msg.priority, msg.get_message_size(), msg.body()) == (2, 1, 99, PAYLOAD)
    assert msg.id == message.mid and msg.reception_peer("ip") == "1.2.3.4"
    assert msg.get_delivery_method() == "apn" and not msg.is_mcmt() and msg.header("Subject") == []
