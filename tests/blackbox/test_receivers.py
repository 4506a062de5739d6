"""`receivers = N`: the doors in other processes, and everything that counts still counts for the node."""

from __future__ import annotations

import contextlib
import itertools
import json
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.clients import mail, post, send_mail, tokens
from tests.helpers.daemon import DOMAIN, DaemonProcess, conf_for, running_daemon
from tests.helpers.servers import Apns, running_apns

POST = "POST /v1/notifications HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
ALERT = {"aps": {"alert": "x"}}


@pytest.fixture(scope="module")
def apns(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Apns]:
    with running_apns(tmp_path_factory.mktemp("apns")) as apns:
        yield apns


def conf(folder: Path, apns: Apns, receivers: int, **more: str) -> str:
    return conf_for(folder, apns.port, apns.credential, extra_global=f"receivers = {receivers}", **more)


def fan_out(many: list[str]) -> dict[str, object]:
    return {"domain": DOMAIN, "device_tokens": many, "payload": ALERT}


def pids(daemon: DaemonProcess) -> list[int]:
    """Return the processes of the receivers that run."""
    found = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(daemon.process.pid)], capture_output=True, text=True
    )
    return [int(pid) for pid in found.stdout.split()]


def is_gone(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return stat.read_text().rpartition(")")[2].split()[0] == "Z"
    return True


class Pusher:
    """Clients that push until told to stop, and remember what was acknowledged."""

    def __init__(self, daemon: DaemonProcess, name: str, clients: int = 4) -> None:
        self.acknowledged: list[str] = []
        self.refused: list[str] = []
        self.broken = 0
        self._port = daemon.http_port
        self._ending = threading.Event()
        self._threads = [threading.Thread(target=self._push, args=(f"{name} {n}",)) for n in range(clients)]

    def __enter__(self) -> Pusher:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *details: object) -> None:
        self._ending.set()
        for thread in self._threads:
            thread.join(30)

    def _push(self, name: str) -> None:
        for number in itertools.count():
            if self._ending.is_set():
                return
            many = tokens(10, f"{name} {number}")
            body = json.dumps(fan_out(many)).encode()
            head = f"{POST}Content-Length: {len(body)}\r\n\r\n"
            try:
                with socket.create_connection(("127.0.0.1", self._port), timeout=20) as sock:
                    sock.sendall(head.encode() + body)
                    answer = sock.makefile("rb").read()
            except ConnectionRefusedError:
                self.refused.append(name)
                return
            except OSError:
                self.broken += 1
                continue
            if answer.startswith(b"HTTP/1.1 200"):
                self.acknowledged += many
            elif not answer:
                self.broken += 1
            else:
                self.refused.append(answer[:400].decode())


def test_what_comes_through_any_receiver_is_one_flow_with_one_row_of_ids(tmp_path: Path, apns: Apns) -> None:
    with running_daemon(tmp_path, conf(tmp_path, apns, 4)) as daemon:
        assert len(pids(daemon)) == 4
        ids: list[str] = []
        for number in range(12):
            status, answer = post(daemon, fan_out(tokens(3, f"http {number}")))
            assert (status, answer["accepted"]) == (200, 3)
            ids += [result["id"] for result in answer["results"]]
        for number in range(4):
            code, text = send_mail(daemon, mail(tokens(1, f"smtp {number}")[0]))
            assert code == 250, text
            ids.append(text.split()[1])
        assert len(set(ids)) == 40
        delivered = daemon.wait_records("D", 40)
        assert {record.mid for record in delivered} == set(ids)
        receptions = [line for line in daemon.lines("mainlog.ec") if "@R@" in line]
        assert len(receptions) == 40


def test_a_key_is_known_to_all_receivers_and_over_a_kill(tmp_path: Path, apns: Apns) -> None:
    text, bodies = conf(tmp_path, apns, 4), [fan_out([*tokens(3, f"keyed {n}"), "bad"]) for n in range(8)]

    def ask(daemon: DaemonProcess, number: int, body: dict[str, object]) -> tuple[int, bytes]:
        data = json.dumps(body).encode()
        head = f'{POST}Idempotency-Key: "k{number}"\r\nContent-Length: {len(data)}\r\n\r\n'
        with socket.create_connection(("127.0.0.1", daemon.http_port), timeout=20) as sock:
            sock.sendall(head.encode() + data)
            answer = sock.makefile("rb").read()
        return int(answer.split()[1]), answer.partition(b"\r\n\r\n")[2]

    with running_daemon(tmp_path, text) as daemon:
        first = [ask(daemon, number, body) for number, body in enumerate(bodies)]
        assert [status for status, _ in first] == [200] * 8
        assert [ask(daemon, number, body) for number, body in enumerate(bodies)] == first
        assert ask(daemon, 0, bodies[1])[0] == 422
        daemon.wait_records("D", 24)
        daemon.kill()
    with running_daemon(tmp_path, text) as daemon:
        assert [ask(daemon, number, body) for number, body in enumerate(bodies)] == first
        post(daemon, fan_out(tokens(1, "last")))
        assert len(daemon.wait_records("D", 25)) == 25
