"""What was acknowledged survives: SIGKILL, SIGTERM, a full disk, a peer that dies."""

import contextlib
import json
import os
import signal
import smtplib
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.clients import curl, mail, post, send_mail, tokens
from tests.helpers.daemon import DOMAIN, DaemonProcess, conf_for, running_daemon, until
from tests.helpers.servers import free_port, running_apns

ALERT = {"aps": {"alert": "x"}}

SLOW = "rules:\n  - {name: slow, do: {delay: 0.05}}\n"


def fan_out(many: list[str]) -> dict[str, object]:
    return {"domain": DOMAIN, "device_tokens": many, "payload": ALERT}


def test_sigkill_in_the_middle_of_5000_acknowledged_messages_loses_none(tmp_path: Path) -> None:
    """Clients push until the daemon is shot; whatever they were told was accepted arrives after a restart."""
    batches = [tokens(100, f"kill {number}") for number in range(60)]
    acknowledged: list[str] = []
    with running_apns(tmp_path, SLOW) as apns:
        conf = conf_for(tmp_path, apns.port, apns.credential)
        # A rate keeps most of them waiting until the kill, however slow the machine is.
        daemon = DaemonProcess(
            tmp_path, conf.replace("apn_topic ", 'outbound_throttle_messages = "100"\n  apn_topic ')
        )
        daemon.event("started")

        def push() -> None:
            for batch in batches:
                try:
                    status, answer = post(daemon, fan_out(batch))
                except subprocess.CalledProcessError:
                    return
                if status == 200:
                    assert answer["accepted"] == len(batch)
                    acknowledged.extend(batch)

        client = threading.Thread(target=push)
        client.start()
        until(lambda: len(acknowledged) >= 5000 and apns.accepted(), "5,000 acknowledged")
        daemon.kill()
        client.join()
        delivered_before = set(apns.accepted())
        assert delivered_before < set(acknowledged), "all were delivered before the kill; nothing was shown"

        with running_daemon(tmp_path, conf):
            until(lambda: set(acknowledged) <= set(apns.accepted()), "every acknowledged message", 60)
    copies = len(apns.accepted()) - len(set(apns.accepted()))
    assert copies <= 1000, "more copies than could be in flight"


def test_sigterm_waits_for_answers_that_are_due_and_leaves_the_backlog_in_the_spool(tmp_path: Path) -> None:
    many = tokens(3000, "term")
    with running_apns(tmp_path, "rules:\n  - {name: slow, do: {delay: 0.3}}\n") as apns:
        options = "max_outbound_connections = 1\n max_streams_per_connection = 100"
        conf = conf_for(tmp_path, apns.port, apns.credential, options=options)
        daemon = DaemonProcess(tmp_path, conf)
        assert post(daemon, fan_out(many))[1]["accepted"] == 3000
        apns.wait_accepted(1)
        assert daemon.stop() == 0
        assert len(daemon.records("D")) == len(set(apns.accepted())) < 3000, "an answer was not waited for"
        with running_daemon(tmp_path, conf_for(tmp_path, apns.port, apns.credential)):
            until(lambda: set(many) <= set(apns.accepted()), "the backlog")
    assert len(apns.accepted()) == 3000, "a copy was sent although every answer was in"


def test_a_second_daemon_on_the_same_spool_is_refused(tmp_path: Path) -> None:
    with running_apns(tmp_path) as apns:
        conf = conf_for(tmp_path, apns.port, apns.credential)
        with running_daemon(tmp_path, conf) as daemon:
            second = subprocess.run(
                [sys.executable, "-m", "momentum_push", "serve", "-c", str(daemon.conf_path)],
                capture_output=True,
                text=True,
                timeout=60,
            )
            assert second.returncode == 1
            assert f"is in use by process {daemon.process.pid}" in second.stderr
            assert curl(daemon, "/readyz")[0] == 200


def test_while_apns_cannot_be_reached_messages_wait_with_one_record_and_then_arrive(tmp_path: Path) -> None:
    port = free_port()
    many = tokens(200, "outage")
    with running_apns(tmp_path) as apns:
        credential = apns.credential
    with running_daemon(tmp_path, conf_for(tmp_path, port, credential)) as daemon:
        assert post(daemon, fan_out(many))[1]["accepted"] == 200
        (record,) = daemon.wait_records("T", 1)
        assert (record.remote, record.size, record.status) == ("", "0", "255")
        assert "refused" in record.reason.lower()
        daemon.event("connect_failed")
        with running_apns(tmp_path, port=port) as apns:
            until(lambda: set(many) <= set(apns.accepted()), "all after the outage")
        assert len(daemon.records("T")) == 1


def test_a_peer_that_dies_in_the_middle_costs_nothing(tmp_path: Path) -> None:
    port = free_port()
    many = tokens(4000, "dying peer")
    with running_apns(tmp_path, SLOW, port=port) as apns:
        conf = conf_for(tmp_path, port, apns.credential, options="max_outbound_connections = 1")
        daemon = DaemonProcess(tmp_path, conf)
        assert post(daemon, fan_out(many))[1]["accepted"] == 4000
        apns.wait_accepted(500)
    with running_apns(tmp_path, port=port) as apns:
        until(lambda: set(many) <= set(apns.accepted()), "all after the peer came back")
        until(lambda: curl(daemon, "/stats/summary")[1]["TotalQueueSize"] == 0, "an empty queue")
    assert daemon.stop() == 0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of a few megabytes, mounted for the test."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", folder], capture_output=True)
    if done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr.decode().strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def test_a_full_disk_refuses_input_goes_on_delivering_and_recovers_by_itself(
    tmp_path: Path, small_disk: Path
) -> None:
    with running_apns(tmp_path) as apns:
        conf = conf_for(tmp_path, apns.port, apns.credential, options="suspend_delivery = true")
        conf = conf.replace(f'spoolbase = "{tmp_path}/spool"', f'spoolbase = "{small_disk}/spool"')
        with running_daemon(tmp_path, conf) as daemon:
            before = tokens(100, "before")
            assert post(daemon, fan_out(before))[1]["accepted"] == 100
            ballast = small_disk / "ballast"
            fill(ballast)

            payloads = [{"aps": {"alert": "x" * 3900}, "n": number} for number in range(2000)]
            items = [
                {"device_token": token, "payload": payload}
                for token, payload in zip(tokens(2000, "no room"), payloads, strict=True)
            ]
            status, answer = post(daemon, {"domain": DOMAIN, "notifications": items})
            assert (status, answer["error"]) == (503, "ServiceUnavailable"), answer
            assert "no room" in answer["detail"]
            assert curl(daemon, "/readyz")[0] == 503
            assert curl(daemon, "/healthz")[0] == 200
            code, text = send_mail(daemon, mail(tokens(1, "smtp no room")[0], json.dumps(payloads[0])))
            assert (code, text[:5]) in ((452, "4.3.1"), (250, "2.0.0")), text

            ballast.unlink()
            until(lambda: curl(daemon, "/readyz")[0] == 200, "ready again by itself")
            after = tokens(100, "after")
            assert post(daemon, fan_out(after))[1]["accepted"] == 100

            daemon.conf_path.write_text(conf.replace("suspend_delivery = true", "suspend_delivery = false"))
            daemon.signal(signal.SIGHUP)
            until(lambda: {*before, *after} <= set(apns.accepted()), "what was acknowledged")


def fill(path: Path) -> None:
    """Write until the disk is full."""
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(b"x" * 65536):
            pass


def test_a_client_that_vanishes_before_the_reply_has_its_message_delivered_once(tmp_path: Path) -> None:
    (token,) = tokens(1, "vanished")
    with (
        running_apns(tmp_path) as apns,
        running_daemon(tmp_path, conf_for(tmp_path, apns.port, apns.credential)) as daemon,
    ):
        client = smtplib.SMTP("127.0.0.1", daemon.smtp_port, timeout=30)
        client.ehlo()
        client.mail("push@example.net")
        client.rcpt(f"4711@{DOMAIN}")
        client.docmd("DATA")
        client.send(mail(token) + b".\r\n")
        assert client.sock is not None
        client.sock.close()
        assert apns.wait_accepted(1) == [token]
        daemon.wait_records("D", 1)
        assert apns.accepted() == [token]
