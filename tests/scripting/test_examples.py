"""The examples in conf/policy: each hook is there, runs, and does what its comment says."""

from pathlib import Path

import pytest

from momentum_push.message import Home, QueueKey
from momentum_push.scripting import HOOKS, Accept, PolicyMessage, Request, Response, Stored, Subject, Vctx
from momentum_push.scripting.constants import CTX_MESS
from tests.helpers.scripts import Stage, a_message

CONF = Path(__file__).parents[2] / "conf"
MAIL = b"X-Campaign: ferries\r\nSubject: x\r\n\r\nbody"


@pytest.fixture(params=["policy.every_hook", "policy.every_hook_py"])
def ready(request):
    """A stage, and the engine of one example."""
    stage = Stage()
    engine = stage.engine(CONF, request.param)
    engine.start()
    yield stage, engine
    engine.stop()
    assert stage.panics == []


def a_msg(**fields) -> PolicyMessage:
    return PolicyMessage(Subject(**fields), groups={"default": "default", "tenant.net": "tenants"})


def test_every_hook_is_there_and_runs(ready):
    _, engine = ready
    message = a_message()
    message.home = Home(QueueKey("default", "default", "news.apns"), 10, 0.0)
    made = {
        "msg": lambda: a_msg(raw=MAIL, rcptto="x@news.apns", mailfrom="a@b.c", peer="127.0.0.1:9"),
        "vctx": lambda: Vctx(recipients=["x@news.apns"]),
        "accept": Accept,
        "req": lambda: Request(message, "t"),
        "resp": lambda: Response(message, 8, 410, "Unregistered"),
        "str": lambda: "text",
    }
    for hook in HOOKS:
        assert engine.is_used(hook.name), hook.name
        engine.call(hook.name, *(made[kind]() for kind in hook.arguments))


def test_connections_senders_and_recipients_are_refused(ready):
    _, engine = ready
    for hook, arguments, code in [
        ("validate_connect", (Accept(5001),), 421),
        ("validate_mailfrom", ("", Accept()), 550),
        ("validate_rcptto", (a_msg(), "x@retired.apns", Accept()), 550),
    ]:
        vctx = Vctx()
        assert engine.call(hook, *arguments, vctx) == 1
        assert vctx.code[0] == code


def test_messages_are_marked_stopped_and_bound(ready):
    _, engine = ready
    msg = a_msg(raw=MAIL, rcptto=f"t-{'ab' * 32}@news.apns", mailfrom="a@tenant.net")
    engine.call("validate_data", msg, Accept(), Vctx())
    engine.call("validate_data_spool_each_rcpt", msg, Accept(), Vctx())
    engine.call("validate_set_binding", msg)
    assert msg.wishes.context == {"campaign": "ferries", "DLV_Dest_ID": "ab" * 32}
    assert msg.binding() == "tenant.net"
    stopped = a_msg(context={"campaign": "stopped"})
    assert engine.call("msg_gen_data_spool", stopped) == 1 and stopped.wishes.code[0] == 550
    assert engine.call_reception(a_msg(peer="127.0.0.1:5"), "reject") == "allow"
    assert engine.call_reception(a_msg(peer="10.0.0.1:5"), "reject") == "reject"


def test_requests_answers_and_failures(ready):
    stage, engine = ready
    request = Request(a_message(b'{"aps":{"badge":100}}'), "t")
    engine.call("apn_request_eval", request, a_msg())
    assert request.new_payload == b'{"aps":{"badge":99}}'
    engine.call("apn_response_eval", Response(a_message(), 8, 410, "Unregistered"), a_msg())
    assert stage.commands["dead_tokens"](["dead_tokens"]) == "dead tokens: 1"
    message = a_message(mailfrom="a@b.c")
    message.home = Home(QueueKey("default", "default", "news.apns"), 10, 0.0)
    failed = PolicyMessage(Stored(message, {"DLV_Response_Status": "8"}))
    engine.call("generic_delivery_msg_dispose", failed)
    assert failed.wishes.injects[0].recipients == ("fallback@sms.example.com",)
    assert failed.context_get(CTX_MESS, "DLV_Response_Status") == ""
