"""A large stream under a key, the daemon shot in its middle, more than once: nothing lost, nothing twice."""

from __future__ import annotations

import contextlib
import json
import random
import re
import socket
import urllib.request
from pathlib import Path

from momentum_push.message.ids import parse_mid
from momentum_push.spool import at_rest
from tests.helpers.clients import tokens
from tests.helpers.daemon import DOMAIN, DaemonProcess, conf_for, running_daemon, until
from tests.helpers.servers import free_port, running_apns

LINES = 20_000
CHUNK = 1 << 16


def stream_of(many: list[str]) -> bytes:
    """Every hundredth token is bad."""
    made = [
        json.dumps(
            {"device_token": "bad" if number % 100 == 7 else token, "payload": {"aps": {"alert": "x"}}}
        )
        for number, token in enumerate(many)
    ]
    return "\n".join(made).encode()


def waiting_in(folder: Path) -> list[str]:
    with at_rest(folder / "spool") as database:
        return [each.token for row in database.lists() for each in row.to_list().messages]


def receptions(daemon: DaemonProcess) -> int:
    with urllib.request.urlopen(daemon.url("/metrics"), timeout=30) as answer:
        found = re.search(r'receptions_total\{protocol="http"\} (\d+)', answer.read().decode())
    return int(found[1]) if found else 0


def send(daemon: DaemonProcess, stream: bytes, stop_at: int, kept: int = 0) -> bytes:
    """Send a stream and return what is answered.

    The daemon is killed before the byte `stop_at`, when it has taken `kept` notifications.
    """
    head = (
        f"POST /v1/notifications?domain={DOMAIN} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        'Content-Type: application/x-ndjson\r\nIdempotency-Key: "campaign 7"\r\n'
        f"Content-Length: {len(stream)}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", daemon.http_port), timeout=60) as sock:
        sock.sendall(head.encode())
        with contextlib.suppress(OSError):
            for start in range(0, len(stream), CHUNK):
                if start >= stop_at:
                    until(lambda: receptions(daemon) >= kept, f"{kept} receptions")
                    daemon.kill()
                    break
                sock.sendall(stream[start : start + CHUNK])
            return sock.makefile("rb").read()
    return b""


def results_in(answer: bytes) -> list[dict[str, str]]:
    assert answer.startswith(b"HTTP/1.1 200"), answer[:300]
    body, rest = b"", answer.partition(b"\r\n\r\n")[2]
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        body, rest = body + rest[: int(size, 16)], rest[int(size, 16) + 2 :]
    results: list[dict[str, str]] = json.loads(body)["results"]
    return results


def test_a_stream_that_was_shot_goes_on_and_is_answered_as_if_in_one_go(tmp_path: Path) -> None:
    many = tokens(LINES, "stream")
    stream, dice = stream_of(many), random.Random("stream")
    good = [token for number, token in enumerate(many) if number % 100 != 7]
    with running_apns(tmp_path) as apns:
        conf = conf_for(tmp_path, free_port(), apns.credential)  # nobody there: all of it waits
    seen = [0]
    for share in sorted(dice.uniform(0.2, 0.9) for _ in range(3)):
        daemon = DaemonProcess(tmp_path, conf)
        daemon.event("started")
        kept = int(LINES * share * 0.99) - 4000 - seen[-1]
        assert send(daemon, stream, int(len(stream) * share), kept) == b""
        found = waiting_in(tmp_path)
        assert sorted(found) == sorted(good[: len(found)])
        seen.append(len(found))
    assert seen == sorted(seen) and 0 < seen[-1] < len(good)
    with running_daemon(tmp_path, conf) as daemon:
        results = results_in(send(daemon, stream, len(stream) + CHUNK))
        assert results_in(send(daemon, stream, len(stream) + CHUNK)) == results
    assert ["error" in result for result in results] == [number % 100 == 7 for number in range(LINES)]
    with at_rest(tmp_path / "spool") as database:
        by_number = {each.sequence: each.token for row in database.lists() for each in row.to_list().messages}
    assert [by_number[parse_mid(result["id"])] for result in results if "id" in result] == good
    assert len(by_number) == len(good)
