"""`/v1.0/inject` as Momentum documents it (momentum.md 5.1)."""

import asyncio
import json
from typing import Any

import pytest

from momentum_push.errors import SpoolFull
from momentum_push.injection.http_template import Template, TemplateError
from tests.helpers.http import DOMAIN, TOKEN, HttpDoor, Reply, curl, http_door
from tests.helpers.intake import Busy

TEMPLATE = (
    "From: <%=:from%>\nTo: <%= :TO %>\nMIME-Version: 1.0\n"
    "Content-Type: multipart/vnd.msys.mcmt; boundary=q\n\n"
    "--q\nContent-Type: message/rfc822\n\nSubject: x\n\nfallback\n"
    "--q\nContent-Type: message/vnd.msys.apn\n\nX-Device-Token: [%=:tok%]\n\n"
    '{"aps":{"alert":"<%= :Text %>"}}\n--q--\n'
)


def recipient(local: str = "u1", **more: Any) -> dict[str, Any]:
    keys = {"tok": TOKEN, "text": "Ferry cancelled"}
    return {"to": f"{local}@{DOMAIN}", "from": "push@example.net", "keys": keys} | more


def body(*recipients: dict[str, Any], template: str = TEMPLATE) -> dict[str, Any]:
    return {"template": template, "recipients": list(recipients) or [recipient()]}


def inject(value: Any, *headers: str) -> tuple[Reply, HttpDoor]:
    async def run() -> tuple[Reply, HttpDoor]:
        async with http_door() as door:
            return await door.post("/v1.0/inject", value, *headers), door

    return asyncio.run(run())


def test_success_has_the_documented_shape() -> None:
    reply, door = inject(body(recipient(vctx={"campaign": "ferries"}), recipient("u2")))
    assert reply.status == 200
    mids = [message.mid for message in door.intake.accepted]
    assert reply.json == {
        "status": "success",
        "results": [{"status": "success", "mid": mid, "reason": f"250 {mid}"} for mid in mids],
    }
    (origin, drafts) = door.intake.calls[0]
    assert (origin.protocol, origin.client) == ("rest", "unknown")
    assert drafts[0].mailfrom == "push@example.net"
    assert origin.context["can_relay"] == "true"
    assert drafts[0].context == {"campaign": "ferries"}
    assert drafts[0].payload == b'{"aps":{"alert":"Ferry cancelled"}}'
    assert (drafts[0].tokens, drafts[0].rcpts, drafts[0].domain) == ([TOKEN], ["u1"], DOMAIN)


@pytest.mark.parametrize("path", ["/v1.0/inject", "/v1.0/inject/"])
def test_get_answers_with_an_empty_body(path: str) -> None:
    async def run() -> None:
        async with http_door() as door:
            reply = await door.get(path)
            assert (reply.status, reply.body) == (200, b"")
            reply = await door.get(path, method="PUT")
            assert (reply.status, reply.headers["allow"]) == (405, "GET, HEAD, POST")

    asyncio.run(run())


def test_one_refused_recipient_refuses_all() -> None:
    reply, door = inject(body(recipient(), recipient(keys={"tok": "zz", "text": "x"}), recipient("u3")))
    assert reply.status == 400
    assert reply.json["status"] == "error"
    assert reply.json["reason"].startswith("recipients[1]: 553 5.1.3 BadDeviceToken: ")
    assert [result["status"] for result in reply.json["results"]] == ["error"] * 3
    assert reply.json["results"][0]["reason"] == "451 4.3.0 not injected: another recipient was refused"
    assert door.intake.accepted == []
    assert door.meters.rejections["rest", "BadDeviceToken"] == 1


WRONG: dict[str, tuple[Any, str]] = {
    "domain that is not push": (body(recipient(to="a@example.com")), "550 5.7.1 relaying denied"),
    "no domain": (body(recipient(to="nobody")), "BadRecipient"),
    "key without a value": (body(recipient(keys={"tok": TOKEN})), 'template key "text" has no value'),
    "no push part": (body(template="Subject: x\n\nhello\n"), "NoPushPart"),
    "key that is a list": (body(recipient(keys={"tok": TOKEN, "text": []})), '"text" must be a string'),
    "vctx that is an object": (body(recipient(vctx={"a": {}})), '"a" must be a string'),
    "no recipients": ({"template": TEMPLATE, "recipients": []}, "empty"),
    "template missing": ({"recipients": [recipient()]}, "template"),
    "to missing": ({"template": TEMPLATE, "recipients": [{"from": "a@b"}]}, "$.recipients[0]"),
    "to of a wrong type": (body(recipient(to=7)), "$.recipients[0].to"),
    "an array": ([], "expected"),
    "broken": (b"{", "truncated"),
    "empty": (b"", "truncated"),
    "bad UTF-8": (b'{"template":"\xff"}', "utf-8"),
    "deep": (b'{"site":' + b"[" * 100_000, "deep"),
}


@pytest.mark.parametrize("name", WRONG)
def test_failures_have_one_shape(name: str) -> None:
    value, what = WRONG[name]
    reply, door = inject(value)
    assert reply.status == 400
    assert set(reply.json) == {"status", "reason", "results"}
    assert reply.json["status"] == "error"
    assert what.lower() in reply.json["reason"].lower()
    assert door.intake.accepted == []


@pytest.mark.parametrize(
    ("failure", "seconds"), [(SpoolFull("spool: no room"), "10"), (Busy(7), "7")], ids=["disk", "busy"]
)
def test_what_is_our_fault_is_503(failure: Exception, seconds: str) -> None:
    async def run() -> None:
        async with http_door() as door:
            door.intake.failure = failure
            reply = await door.post("/v1.0/inject", body())
            assert (reply.status, reply.headers["retry-after"]) == (503, seconds)
            assert reply.json["status"] == "error"

    asyncio.run(run())


def test_media_types_of_curl_and_none_are_json_and_xml_is_refused() -> None:
    for kind, status in {
        "application/x-www-form-urlencoded": 200,
        "application/json; charset=utf-8": 200,
        "text/xml": 415,
    }.items():
        reply, _ = inject(body(), f"Content-Type: {kind}")
        assert reply.status == status, kind
        assert reply.json["status"] == ("success" if status == 200 else "error")


def test_vctx_can_hold_the_token_and_keys_override_to_and_from() -> None:
    template = TEMPLATE.replace("X-Device-Token: [%=:tok%]\n", "Return-Path: <%=:from%>\n")
    keys = {"text": 5, "from": "else@example.net"}
    reply, door = inject(body(recipient(keys=keys, vctx={"DLV_Dest_ID": TOKEN}), template=template))
    assert reply.status == 200
    (_, drafts) = door.intake.calls[0]
    assert drafts[0].tokens == [TOKEN]
    assert drafts[0].return_path == "else@example.net"
    assert drafts[0].payload == b'{"aps":{"alert":"5"}}'


def test_each_recipient_has_its_own_sender() -> None:
    other = recipient("u2") | {"from": "<other@example.net>"}
    _, door = inject(body(recipient(), other))
    (_, drafts) = door.intake.calls[0]
    assert [draft.mailfrom for draft in drafts] == ["push@example.net", "other@example.net"]


def test_curl_with_expect_and_its_own_content_type() -> None:
    async def run() -> None:
        async with http_door() as door:
            data = json.dumps(body(recipient(site={"any": 1}))).encode()
            reply = await curl(
                "-H", "Expect: 100-continue", "--data-binary", "@-", f"{door.url}/v1.0/inject/", stdin=data
            )  # fmt: skip
            assert reply.status == 200
            assert len(door.intake.accepted) == 1

    asyncio.run(run())


TEMPLATES = [
    ("a\nb\r\nc\rd", {}, b"a\r\nb\r\nc\r\nd"),
    ("<%= :x %>[%=:X%]<%=  :  x  %>", {"x": "1"}, b"111"),
    ("<%= x %>", {}, b"<%= x %>"),
    ("<%=:x%>", {"x": "\u00fc\n"}, "\u00fc\n".encode()),
    ("a\n..b\n.c", {}, b"a\r\n.b\r\nc"),
    ("..b", {}, b".b"),
    ("a\n.\n", {}, b"a\r\n"),
    ("a\n.", {}, b"a\r\n"),
    ("a\n..\nb", {}, b"a\r\n.\r\nb"),
]


@pytest.mark.parametrize(("text", "values", "expected"), TEMPLATES)
def test_templates(text: str, values: dict[str, str], expected: bytes) -> None:
    assert Template(text).fill(values) == expected


def test_dot_stuff_leaves_dots_alone() -> None:
    assert Template("a\n.b\n.\nc", dot_stuff=True).fill({}) == b"a\r\n.b\r\n.\r\nc"


def test_a_dot_alone_inside_a_message_is_an_error() -> None:
    with pytest.raises(TemplateError, match="a dot alone"):
        Template("a\n.\nb").fill({})
