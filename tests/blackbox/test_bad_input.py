"""What bad input gets: a clear refusal with the place or the reason, and the daemon goes on."""

import json
import smtplib
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.clients import PAYLOAD, curl, mail, post, send_mail, tokens
from tests.helpers.daemon import DOMAIN, DaemonProcess, conf_for, running_daemon, until
from tests.helpers.servers import Apns, running_apns

TOKEN = tokens(1, "bad input")[0]
ALERT = {"aps": {"alert": "x"}}

World = tuple[DaemonProcess, Apns]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder: Path = tmp_path_factory.mktemp("bad")
    limits = "max_message_size = 2000000  max_recipients_per_message = 12000  idle_time = 2"
    with running_apns(folder) as apns:
        conf = conf_for(folder, apns.port, apns.credential, smtp=limits, http="max_request_size = 1000000")
        with running_daemon(folder, conf) as daemon:
            yield daemon, apns


@pytest.fixture(autouse=True)
def _goes_on(world: World) -> Iterator[None]:
    """After each of these tests a good message still comes through."""
    yield
    daemon, _ = world
    assert post(daemon, item())[0] == 200
    assert daemon.process.poll() is None


def item(**changes: Any) -> dict[str, Any]:
    notification = {"device_token": TOKEN, "payload": ALERT, **changes}
    return {"domain": DOMAIN, "notifications": [notification]}


def raw(payload: str) -> bytes:
    """A request whose payload is any text."""
    return b'{"domain":"%s","notifications":[{"device_token":"%s","payload":%s}]}' % (
        DOMAIN.encode(),
        TOKEN.encode(),
        payload.encode("utf-8", "surrogatepass"),
    )


REFUSED = {
    "broken JSON": (b'{"domain":', 400, "BadJson", "$"),
    "not an object": (b"[1,2]", 400, "", ""),
    "empty": (b"", 400, "", ""),
    "payload is no object": (raw('"x"'), 400, "BadPayload", ""),
    "duplicate keys in the payload": (raw('{"aps":{"badge":1,"badge":2}}'), 400, "BadPayload", "badge"),
    "duplicate keys in the envelope": (b'{"domain":"a","domain":"b","notifications":[]}', 400, "", "domain"),
    "NaN": (raw('{"aps":{"badge":NaN}}'), 400, "", ""),
    "bad UTF-8": (raw('{"aps":{"alert":"?"}}').replace(b"?", b"\xff"), 400, "", ""),
    "deep nesting": (raw('{"a":' * 5000 + "1" + "}" * 5000), 400, "", ""),
    "unknown domain": (
        json.dumps({**item(), "domain": "nobody.example"}).encode(),
        400,
        "UnknownDomain",
        "nobody",
    ),
    "unknown binding": (json.dumps(item(binding="nope")).encode(), 400, "UnknownBinding", "nope"),
    "odd digits": (json.dumps(item(device_token="abc")).encode(), 400, "BadDeviceToken", ""),
    "no hex": (json.dumps(item(device_token="zz" * 32)).encode(), 400, "BadDeviceToken", ""),
    "no token": (
        json.dumps({"domain": DOMAIN, "notifications": [{"payload": ALERT}]}).encode(),
        400,
        "",
        "token",
    ),
    "collapse id with a line end": (
        json.dumps(item(collapse_id="a\r\nb: c")).encode(),
        400,
        "BadCollapseId",
        "",
    ),
    "topic with NUL": (json.dumps(item(topic="com.example\0news")).encode(), 400, "BadTopic", ""),
    "priority": (json.dumps(item(priority=7)).encode(), 400, "BadPriority", ""),
    "expired": (json.dumps(item(expiration=1)).encode(), 400, "BadExpirationDate", ""),
    "apns-id": (json.dumps(item(apns_id="x")).encode(), 400, "BadMessageId", ""),
    "push type": (json.dumps(item(push_type="carrier-pigeon")).encode(), 400, "InvalidPushType", ""),
    "badge is text": (raw('{"aps":{"badge":"3"}}'), 400, "BadPayload", "badge"),
    "payload over 4096 bytes": (
        raw(json.dumps({"aps": {"alert": "x" * 4200}})),
        400,
        "PayloadTooLarge",
        "4096",
    ),
    "request over max_request_size": (b" " * 1_000_001, 413, "", ""),
}


@pytest.mark.parametrize("name", REFUSED)
def test_http_refuses_with_the_word_and_the_place(world: World, name: str) -> None:
    daemon, _ = world
    body, wanted, error, hint = REFUSED[name]
    status, answer = post(daemon, body)
    assert status == wanted, answer
    assert answer["error"] and answer["detail"], answer
    words = json.dumps(answer)
    assert error in words
    assert hint in words
    assert TOKEN not in words


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["-X", "PUT"], 405),
        (["-H", "Content-Type: text/plain"], 415),
        (["-H", "Content-Type: application/json", "-H", "Content-Encoding: br"], 415),
        (["-H", "Content-Type: application/json", "-H", "Content-Encoding: gzip"], 400),
    ],
)
def test_http_refuses_wrong_methods_and_forms(world: World, arguments: list[str], status: int) -> None:
    found, answer = curl(world[0], "/v1/notifications", *arguments, data=b"{}")
    assert (found, bool(answer["error"])) == (status, True)


CONTAINER = 'Content-Type: multipart/vnd.msys.mcmt; boundary="b1"\r\n'

MAILS = {
    "no push part": (b"Subject: x\r\n\r\nhello\r\n", "550 5.6.0"),
    "no boundary": (mail(TOKEN, container="Content-Type: multipart/vnd.msys.mcmt\r\n"), "550 5.6.0"),
    "broken JSON": (mail(TOKEN, "{broken"), "550 5.6.0"),
    "trailing comma": (mail(TOKEN, '{"aps":{},}'), "550 5.6.0"),
    "no payload": (mail(TOKEN, ""), "550 5.6.0"),
    "no token": (mail(""), "553 5.1.3"),
    "odd token": (mail(TOKEN[:-1]), "553 5.1.3"),
    "no hex": (mail("zz" * 32), "553 5.1.3"),
    "bad base64": (mail(TOKEN, "!!!!", "Content-Transfer-Encoding: base64\r\n"), "550 5.6.0"),
    "NUL in a header": (mail(TOKEN, PAYLOAD, "apns-topic: com.example\0news\r\n"), "550 5.6.0"),
    "bad priority": (mail(TOKEN, PAYLOAD, "apns-priority: urgent\r\n"), "550 5.6.0"),
    "payload too large": (mail(TOKEN, json.dumps({"aps": {"alert": "x" * 5000}})), "552 5.3.4"),
    "line of a megabyte": (mail(TOKEN, json.dumps({"aps": {"alert": "x" * 1_000_000}})), "552 5.3.4"),
    "over max_message_size": (mail(TOKEN, "x" * 2_000_100), "552 5.3.4"),
}


@pytest.mark.parametrize("name", MAILS)
def test_smtp_refuses_with_code_and_reason(world: World, name: str) -> None:
    content, wanted = MAILS[name]
    code, text = send_mail(world[0], content)
    assert f"{code} {text}".startswith(wanted), text
    assert TOKEN not in text
    until(
        lambda: any(wanted[:3] in line for line in world[0].lines("rejectlog.ec")), "a line in the rejectlog"
    )


@pytest.mark.parametrize(
    ("rcpt", "wanted"),
    [("4711@elsewhere.example", 550), ("4711", 550), (f"a b@{DOMAIN}", 501), (f"{'x' * 900}@{DOMAIN}", 250)],
)
def test_smtp_refuses_recipients_that_are_not_ours(world: World, rcpt: str, wanted: int) -> None:
    with smtplib.SMTP("127.0.0.1", world[0].smtp_port, timeout=30) as client:
        client.ehlo()
        client.mail("push@example.net")
        code, _ = client.docmd("RCPT", f"TO:<{rcpt}>")
        assert code == wanted or (wanted == 501 and 500 <= code < 560)


def test_ten_thousand_recipients_are_one_fan_out(world: World) -> None:
    daemon, apns = world
    many = tokens(10_000, "ten thousand")
    with (
        socket.create_connection(("127.0.0.1", daemon.smtp_port), timeout=60) as sock,
        sock.makefile("rb") as answers,
    ):
        sock.sendall(b"EHLO client\r\n")
        read_reply(answers)
        read_reply(answers)
        sock.sendall(b"MAIL FROM:<push@example.net>\r\n")
        assert read_reply(answers).startswith("250")
        for start in range(0, len(many), 500):
            batch = many[start : start + 500]
            sock.sendall("".join(f"RCPT TO:<{token}@{DOMAIN}>\r\n" for token in batch).encode())
            assert all(read_reply(answers).startswith("250") for _ in batch)
        sock.sendall(b"DATA\r\n")
        assert read_reply(answers).startswith("354")
        sock.sendall(mail() + b".\r\n")
        assert "accepted (10000 recipients)" in read_reply(answers)
    until(lambda: set(many) <= set(apns.accepted()), "10,000 at the peer")


def read_reply(answers: Any) -> str:
    """Read one reply of SMTP, all its lines."""
    lines = []
    while True:
        line = answers.readline().decode()
        assert line, "connection closed"
        lines.append(line)
        if line[3:4] != "-":
            return "".join(lines)


def test_a_client_that_sends_one_byte_a_second_is_let_go(world: World) -> None:
    """`idle_time` is 2 s here; a silent client stands for a slow one, and both doors must end it."""
    daemon, _ = world
    for port, beginning in ((daemon.smtp_port, b"EH"), (daemon.http_port, b"PO")):
        with socket.create_connection(("127.0.0.1", port), timeout=30) as sock:
            sock.sendall(beginning)
            while sock.recv(4096):
                pass


def test_connections_that_say_nothing_leave_room_for_one_that_does(world: World) -> None:
    daemon, _ = world
    idle = [socket.create_connection(("127.0.0.1", daemon.smtp_port), timeout=30) for _ in range(200)]
    try:
        assert send_mail(daemon, mail(TOKEN))[0] == 250
    finally:
        for sock in idle:
            sock.close()
