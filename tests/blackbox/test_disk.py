"""The disk from outside: too little room, and a database that is damaged while nobody looks."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from momentum_push.spool.database import PAGE_BYTES
from tests.helpers.clients import curl, mail, post, send_mail, tokens
from tests.helpers.daemon import DOMAIN, conf_for, running_daemon, until
from tests.helpers.servers import running_apns

ALERT = {"aps": {"alert": "x"}}


def fan_out(many: list[str]) -> dict[str, object]:
    return {"domain": DOMAIN, "device_tokens": many, "payload": ALERT}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 MB, mounted for the test."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", folder], capture_output=True)
    if done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr.decode().strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def test_below_the_floor_input_is_refused_what_waits_is_delivered_and_room_opens_the_doors_again(
    tmp_path: Path, small_disk: Path
) -> None:
    with running_apns(tmp_path) as apns:
        text = conf_for(
            tmp_path,
            apns.port,
            apns.credential,
            options="suspend_delivery = true",
            extra_global="min_free_space = 20971520",
        ).replace(f'spoolbase = "{tmp_path}/spool"', f'spoolbase = "{small_disk}/spool"')
        with running_daemon(tmp_path, text) as daemon:
            many = tokens(100, "waiting")
            assert post(daemon, fan_out(many))[1]["accepted"] == 100
            ballast = small_disk / "ballast"
            with ballast.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, free_bytes(small_disk) - (18 << 20))
            until(lambda: curl(daemon, "/readyz")[0] == 503, "not ready")
            status, answer = post(daemon, fan_out(tokens(1, "late")))
            assert (status, answer["error"]) == (503, "ServiceUnavailable")
            assert "no room" in answer["detail"]
            code, reply = send_mail(daemon, mail(tokens(1, "late by mail")[0]))
            assert (code, reply[:5]) == (452, "4.3.1"), reply
            metrics = curl(daemon, "/metrics")[1]
            assert "momentum_push_spool_writable 0.0" in metrics

            daemon.conf_path.write_text(text.replace("suspend_delivery = true", "suspend_delivery = false"))
            daemon.signal(signal.SIGHUP)
            until(lambda: set(many) <= set(apns.accepted()), "what waits is delivered below the floor")
            ballast.unlink()
            until(lambda: curl(daemon, "/readyz")[0] == 200, "ready again by itself")
            assert post(daemon, fan_out(tokens(1, "after")))[1]["accepted"] == 1


def test_a_database_that_was_damaged_is_salvaged_and_the_rest_is_delivered(tmp_path: Path) -> None:
    with running_apns(tmp_path) as apns:
        text = conf_for(tmp_path, apns.port, apns.credential, options="suspend_delivery = true")
        sent = [tokens(100, f"damage {number}") for number in range(40)]
        with running_daemon(tmp_path, text) as daemon:
            for many in sent:
                assert post(daemon, fan_out(many))[1]["accepted"] == 100
        path = tmp_path / "spool" / "spool.db"
        pages = path.stat().st_size // PAGE_BYTES
        with path.open("r+b") as file:
            file.seek(pages // 2 * PAGE_BYTES)
            file.write(b"\xff" * PAGE_BYTES)
        before = check(tmp_path)
        assert before.returncode == 1 and "FAIL database" in before.stdout

        open_text = text.replace("suspend_delivery = true", "suspend_delivery = false")
        with running_daemon(tmp_path, open_text) as daemon:
            assert curl(daemon, "/readyz")[0] == 200
            until(lambda: curl(daemon, "/stats/summary")[1]["TotalQueueSize"] == 0, "an empty queue")
            report = daemon.event("spool_salvaged")
            assert 0 < report["missing"] <= 400 and report["messages"] + report["missing"] == 4000
            assert len(set(apns.accepted())) == report["messages"]
            assert "spool_salvaged" in "".join(daemon.lines("paniclog.ec"))
            assert post(daemon, fan_out(tokens(1, "after")))[1]["accepted"] == 1
        after = check(tmp_path)
        assert after.returncode == 1 and f"{report['messages']} messages" in after.stdout
        for kept in path.parent.glob("spool.db.corrupt-*"):
            kept.unlink()
        assert check(tmp_path).returncode == 0


def check(folder: Path) -> subprocess.CompletedProcess[str]:
    (conf,) = folder.glob("*.conf")
    command = [sys.executable, "-m", "momentum_push", "spool", "check", "-c", str(conf)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def free_bytes(folder: Path) -> int:
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize
