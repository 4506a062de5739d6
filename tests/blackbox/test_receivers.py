"""`receivers = N`: the doors in other processes, and everything that counts still counts for the node."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import signal
import smtplib
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.helpers.clients import curl, mail, post, send_mail, tokens
from tests.helpers.daemon import DOMAIN, DaemonProcess, conf_for, running_daemon, until
from tests.helpers.servers import Apns, running_apns

POST = "POST /v1/notifications HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
LATE = "com.example.late.apns"
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
    children = Path(f"/proc/{daemon.process.pid}/task/{daemon.process.pid}/children").read_text()
    return [int(pid) for pid in children.split() if not is_gone(int(pid))]


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
        daemon.wait_removed()
        daemon.kill()
    with running_daemon(tmp_path, text) as daemon:
        assert [ask(daemon, number, body) for number, body in enumerate(bodies)] == first
        post(daemon, fan_out(tokens(1, "last")))
        assert len(daemon.wait_records("D", 25)) == 25


def test_a_receiver_that_is_killed_costs_what_it_had_not_answered_and_the_others_go_on(
    tmp_path: Path, apns: Apns
) -> None:
    with running_daemon(tmp_path, conf(tmp_path, apns, 2)) as daemon:
        with Pusher(daemon, "killed") as pusher:
            until(lambda: len(pusher.acknowledged) >= 100, "some were acknowledged")
            for deaths in (1, 2, 3):  # the same seat each time: what survives is the other's
                before = pids(daemon)
                victim = max(before)
                os.kill(victim, signal.SIGKILL)
                assert min(before) in anew(daemon, victim), "a neighbour went with it"
                assert restarts(daemon) == deaths
            seen = len(pusher.acknowledged)
            until(lambda: len(pusher.acknowledged) >= seen + 100, "the doors go on")
        assert pusher.refused == []
        daemon.event("receiver_died")
        daemon.event("receiver_crash_loop")
        until(lambda: set(pusher.acknowledged) <= set(apns.accepted()), "every acknowledged message")


def anew(daemon: DaemonProcess, victim: int) -> list[int]:
    """Wait until two receivers run, none of them `victim`; return them."""
    until(lambda: len(pids(daemon)) == 2 and victim not in pids(daemon), "a new receiver")
    return pids(daemon)


def restarts(daemon: DaemonProcess) -> int:
    found = re.findall(r"receiver_restarts_total\{[^}]*\} ([0-9.]+)", curl(daemon, "/metrics")[1])
    return int(sum(map(float, found)))


def test_signals_of_the_terminal_are_not_for_receivers_and_a_reload_reaches_all_without_a_refusal(
    tmp_path: Path, apns: Apns
) -> None:
    text = conf(tmp_path, apns, 4)
    with running_daemon(tmp_path, text) as daemon:
        before = pids(daemon)
        for pid in before:
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
                os.kill(pid, number)
        with Pusher(daemon, "reloaded") as pusher:
            until(lambda: len(pusher.acknowledged) >= 50, "some were acknowledged")
            daemon.conf_path.write_text(text + text[text.index("domain ") :].replace(DOMAIN, LATE))
            daemon.signal(signal.SIGHUP)
            daemon.event("reloaded")
            seen = len(pusher.acknowledged)
            until(lambda: len(pusher.acknowledged) >= seen + 100, "the doors go on")
        assert (pusher.refused, pusher.broken) == ([], 0)
        assert pids(daemon) == before
        for number in range(8):
            status, answer = post(daemon, {**fan_out(tokens(1, f"late {number}")), "domain": LATE})
            assert status == 200, answer
        os.kill(before[0], signal.SIGKILL)  # a receiver that is just starting follows a reload as well
        daemon.event("receiver_died")
        daemon.events[:] = [daemon.event("started")]
        daemon.conf_path.write_text(text)
        daemon.signal(signal.SIGHUP)
        daemon.event("reloaded")
        until(lambda: len(pids(daemon)) == 4, "a new receiver")
        daemon.event("receiver_started")
        for number in range(8):
            assert post(daemon, {**fan_out(tokens(1, f"past {number}")), "domain": LATE})[0] == 400


def test_counts_are_those_of_the_node_whichever_receiver_is_asked(tmp_path: Path, apns: Apns) -> None:
    with running_daemon(tmp_path, conf(tmp_path, apns, 4)) as daemon:
        for number in range(1, 13):
            assert curl(daemon, "/nowhere")[0] == 404
            found = re.search(r'rejections_total\{error="BadPath",[^}]*\} (\d+)', curl(daemon, "/metrics")[1])
            assert found is not None and int(found[1]) == number
        with smtplib.SMTP("127.0.0.1", daemon.smtp_port, timeout=30) as client:
            client.ehlo()
            for _ in range(4):
                text = curl(daemon, "/metrics")[1]
                assert 'inbound_sessions{protocol="esmtp"} 1.0' in text
        assert curl(daemon, "/stats/summary", "-X", "DELETE")[0] == 200
        assert curl(daemon, "/stats/summary")[1]["RejectedMessages"] == 0
        assert sum("nothing at this path" in line for line in daemon.lines("rejectlog.ec")) == 12


def test_a_stop_under_load_answers_what_is_under_way_and_loses_nothing(tmp_path: Path, apns: Apns) -> None:
    daemon = DaemonProcess(tmp_path, conf(tmp_path, apns, 2))
    with Pusher(daemon, "stopped") as pusher:
        until(lambda: len(pusher.acknowledged) >= 100, "some were acknowledged")
        receivers = pids(daemon)
        assert daemon.stop() == 0
        assert all(is_gone(pid) for pid in receivers)
    assert pusher.broken <= 4, "a request that had begun got no answer"
    daemon_again = DaemonProcess(tmp_path, conf(tmp_path, apns, 0))
    until(lambda: set(pusher.acknowledged) <= set(apns.accepted()), "every acknowledged message")
    daemon_again.stop()


def test_a_core_that_is_killed_takes_its_receivers_along_and_the_addresses_are_free(
    tmp_path: Path, apns: Apns
) -> None:
    daemon = DaemonProcess(tmp_path, conf(tmp_path, apns, 2))
    smtp, http = daemon.smtp_port, daemon.http_port
    with Pusher(daemon, "core") as pusher:
        until(lambda: len(pusher.acknowledged) >= 100, "some were acknowledged")
        receivers = pids(daemon)
        daemon.kill()
        until(lambda: all(is_gone(pid) for pid in receivers), "the receivers' end")
    for port in (smtp, http):
        socket.create_server(("127.0.0.1", port)).close()
    with running_daemon(tmp_path, conf(tmp_path, apns, 0)):
        until(lambda: set(pusher.acknowledged) <= set(apns.accepted()), "every acknowledged message")


def greet(port: int, http: bool) -> tuple[socket.socket, bool]:
    """Connect; return the connection and whether it was let in."""
    sock = socket.create_connection(("127.0.0.1", port), timeout=20)
    if http:
        sock.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    first = sock.recv(1000)
    return sock, first.startswith((b"220", b"HTTP/1.1 200"))


@pytest.mark.parametrize("http", [False, True], ids=["smtp", "http"])
def test_a_limit_on_connections_is_exact_over_four_receivers(tmp_path: Path, apns: Apns, http: bool) -> None:
    limits = {"smtp": "listener_sessions = 5", "http": "listener_sessions = 5"}
    with running_daemon(tmp_path, conf(tmp_path, apns, 4, **limits)) as daemon:
        port = daemon.http_port if http else daemon.smtp_port
        with ThreadPoolExecutor(16) as pool:
            answers = list(pool.map(lambda _: greet(port, http), range(16)))
        inside = [sock for sock, is_in in answers if is_in]
        assert len(inside) == 5
        for sock, is_in in answers:
            if not is_in:
                sock.close()
        for sock in inside[:2]:
            sock.close()
        more = until(lambda: _two_more(port, http), "two places are free again")
        extra, is_in = greet(port, http)
        assert not is_in
        for sock in (extra, *more, *inside[2:]):
            sock.close()


def test_a_throttle_is_exact_over_four_receivers(tmp_path: Path, apns: Apns) -> None:
    """What goes out is the core's alone, whoever let it in."""
    options = 'outbound_throttle_messages = "20/3600"'
    with running_daemon(tmp_path, conf(tmp_path, apns, 4, options=options)) as daemon:
        with Pusher(daemon, "throttled", clients=8) as pusher:
            until(lambda: len(pusher.acknowledged) >= 400, "400 acknowledged", 60)
            daemon.wait_records("D", 20)
        status, answer = post(daemon, fan_out(tokens(3, "one more")))
        assert (status, answer["accepted"], pusher.refused) == (200, 3, [])
        _, summary = curl(daemon, "/stats/summary")
        assert summary["DeliveredMessages"] == 20
        assert summary["TotalQueueSize"] == len(pusher.acknowledged) + 3 - 20
        assert len(daemon.wait_records("D", 20)) == 20


def _two_more(port: int, http: bool) -> list[socket.socket]:
    answers = [greet(port, http) for _ in range(2)]
    if all(is_in for _, is_in in answers):
        return [sock for sock, _ in answers]
    for sock, _ in answers:
        sock.close()
    return []


def test_a_mail_that_comes_again_has_the_same_reply_and_is_sent_once(tmp_path: Path, apns: Apns) -> None:
    text = conf(tmp_path, apns, 2, smtp="idempotent_message_id = true")
    mails = [
        f"Message-ID: <{number}@example.net>\r\n".encode() + mail(tokens(1, f"known {number}")[0])
        for number in range(4)
    ]
    with running_daemon(tmp_path, text) as daemon:
        first = [send_mail(daemon, content) for content in mails]
        assert [code for code, _ in first] == [250] * 4
        daemon.wait_records("D", 4)
        daemon.wait_removed()
        daemon.kill()
    with running_daemon(tmp_path, text) as daemon:
        assert [send_mail(daemon, content) for content in mails] == first
        assert send_mail(daemon, mail(tokens(1, "last")[0]))[0] == 250
        assert len(daemon.wait_records("D", 5)) == 5
