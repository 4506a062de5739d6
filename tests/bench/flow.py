"""`scripts/bench flow`: each leg of the way on its own, one daemon, one client process, nginx as APNs.

The queue is suspended while messages come in, so that the doors are measured without the way out; then a
reload lets everything go. The clients send prepared bytes over one connection per kind and read the
answers, so that they take as little of the machine as Python can. Single messages come over CLIENTS
connections at once, for each waits for its own commit.
"""

import http.client
import json
import signal
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, NamedTuple

from tests.helpers.clients import mail, tokens
from tests.helpers.daemon import DOMAIN, DaemonProcess, conf_for, until
from tests.helpers.servers import running_nginx

__all__ = ["Row", "flow", "replies", "session"]

BATCH = 1000
CLIENTS = 16
PAYLOAD = {
    "aps": {"alert": {"title": "Ferry cancelled", "body": "The 18:40 to Helgoland does not run today."}}
}
DEADLINE_S = 600.0


class Row(NamedTuple):
    """One measurement."""

    what: str
    messages: int
    seconds: float


def flow(folder: Path, count: int, receivers: int = 0) -> list[Row]:
    """Measure every leg with about `count` messages; single ones are measured with a tenth."""
    with running_nginx(folder) as apns:
        doors = f"receivers = {receivers}"
        suspended = "suspend_delivery = true"
        conf = conf_for(folder, apns.port, apns.credential, options=suspended, extra_global=doors)
        daemon = DaemonProcess(folder, conf)
        daemon.event("started")
        legs: list[tuple[str, Callable[[DaemonProcess, list[str]], int], int]] = [
            ("HTTP in, one payload, 1,000 tokens a request", _http_fan_out, count),
            ("HTTP in, 1,000 notifications a request", _http_batches, count),
            ("HTTP in, 1 notification a request, 16 clients", _http_singles, count // 10),
            ("SMTP in, 1,000 recipients a mail", _smtp_fan_out, count),
            ("SMTP in, 1 recipient a mail, 16 clients", _smtp_singles, count // 10),
        ]
        rows: list[Row] = []
        for what, leg, messages in legs:
            many = tokens(messages, what)
            started = time.perf_counter()
            sent = leg(daemon, many)
            rows.append(Row(what, sent, time.perf_counter() - started))
        rows.append(_out(daemon, conf, sum(row.messages for row in rows)))
        daemon.stop()
    return rows


def _out(daemon: DaemonProcess, conf: str, total: int) -> Row:
    """Let everything go and wait for the last record."""
    records = daemon.folder / "apnlog.ec"
    daemon.conf_path.write_text(conf.replace("suspend_delivery = true", ""))
    started = time.perf_counter()
    daemon.signal(signal.SIGHUP)
    until(lambda: records.read_bytes().count(b"@D@") >= total, "the last record", DEADLINE_S)
    return Row("out: answered, recorded, removed", total, time.perf_counter() - started)


def _slices(many: list[str]) -> Iterator[list[str]]:
    return (many[start : start + BATCH] for start in range(0, len(many), BATCH))


def _post(daemon: DaemonProcess, bodies: list[bytes]) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", daemon.http_port, timeout=DEADLINE_S)
    for body in bodies:
        connection.request("POST", "/v1/notifications", body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 200, answer.status
    connection.close()


def _http_fan_out(daemon: DaemonProcess, many: list[str]) -> int:
    forms = ({"domain": DOMAIN, "device_tokens": part, "payload": PAYLOAD} for part in _slices(many))
    _post(daemon, [json.dumps(form).encode() for form in forms])
    return len(many)


def _http_batches(daemon: DaemonProcess, many: list[str]) -> int:
    _post(daemon, [_batch(part) for part in _slices(many)])
    return len(many)


def _batch(part: list[str]) -> bytes:
    items = [{"device_token": token, "payload": {**PAYLOAD, "n": n}} for n, token in enumerate(part)]
    return json.dumps({"domain": DOMAIN, "notifications": items}).encode()


def _http_singles(daemon: DaemonProcess, many: list[str]) -> int:
    return _in_parallel(many, lambda share: _post(daemon, [_batch([token]) for token in share]))


def _in_parallel(many: list[str], send: Callable[[list[str]], None]) -> int:
    """Send shares over CLIENTS connections at once: what waits for its own fsync alone measures the disk."""
    shares = [many[start::CLIENTS] for start in range(CLIENTS)]
    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(send, shares))
    return len(many)


def _smtp_fan_out(daemon: DaemonProcess, many: list[str]) -> int:
    content = mail(payload=json.dumps(PAYLOAD)) + b".\r\n"
    with session(daemon.smtp_port) as (sock, answers):
        for part in _slices(many):
            rcpts = "".join(f"RCPT TO:<{token}@{DOMAIN}>\r\n" for token in part)
            sock.sendall(f"MAIL FROM:<push@example.net>\r\n{rcpts}DATA\r\n".encode())
            replies(answers, len(part) + 2)
            sock.sendall(content)
            replies(answers, 1)
    return len(many)


def _smtp_singles(daemon: DaemonProcess, many: list[str]) -> int:
    return _in_parallel(many, lambda share: _send_mails(daemon, share))


def _send_mails(daemon: DaemonProcess, many: list[str]) -> None:
    with session(daemon.smtp_port) as (sock, answers):
        for token in many:
            sock.sendall(f"MAIL FROM:<push@example.net>\r\nRCPT TO:<4711@{DOMAIN}>\r\nDATA\r\n".encode())
            replies(answers, 3)
            sock.sendall(mail(token, json.dumps(PAYLOAD)) + b".\r\n")
            replies(answers, 1)


class session:
    """An SMTP connection that has said EHLO."""

    def __init__(self, port: int) -> None:
        self._sock = socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_S)
        self._answers = self._sock.makefile("rb")

    def __enter__(self) -> tuple[socket.socket, IO[bytes]]:
        replies(self._answers, 1)
        self._sock.sendall(b"EHLO bench\r\n")
        replies(self._answers, 1)
        return self._sock, self._answers

    def __exit__(self, *details: object) -> None:
        self._answers.close()
        self._sock.close()


def replies(answers: IO[bytes], count: int) -> None:
    """Read `count` replies, which must be good ones."""
    while count:
        line = answers.readline()
        assert line[:1] in (b"2", b"3"), line
        count -= line[3:4] == b" "
