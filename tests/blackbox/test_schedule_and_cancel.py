"""`deliver_at` and DELETE from outside: kept over a restart, sent when due, taken back for good."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.clients import post, tokens
from tests.helpers.daemon import DOMAIN, DaemonProcess, conf_for, running_daemon
from tests.helpers.servers import Apns, running_apns

PATH = "/v1/notifications"
CANCELLED = "554 5.7.0 [internal] cancelled by the injector"


@pytest.fixture(scope="module")
def apns(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Apns]:
    with running_apns(tmp_path_factory.mktemp("apns")) as apns:
        yield apns


def schedule(daemon: DaemonProcess, many: list[str], seconds: float, **more: Any) -> list[str]:
    """Post for later and return the message ids."""
    body = {"domain": DOMAIN, "device_tokens": many, "payload": {"aps": {"alert": "x"}}, **more}
    status, answer = post(daemon, body | {"deliver_at": int(time.time() + seconds)})
    assert status == 200, answer
    return [result["id"] for result in answer["results"]]


def delete(daemon: DaemonProcess, path: str) -> tuple[int, dict[str, Any]]:
    command = ["curl", "-sS", "-X", "DELETE", "-w", "\n%{http_code}", "--max-time", "20", daemon.url(path)]
    body, _, status = subprocess.run(command, capture_output=True, text=True, check=True).stdout.rpartition(
        "\n"
    )
    return int(status), json.loads(body)


@pytest.mark.parametrize("receivers", [0, 2])
def test_what_is_cancelled_is_gone_and_the_rest_is_sent_when_it_is_due(
    apns: Apns, tmp_path: Path, receivers: int
) -> None:
    conf = conf_for(tmp_path, apns.port, apns.credential, extra_global=f"receivers = {receivers}")
    many = tokens(3, f"schedule {receivers}")
    with running_daemon(tmp_path, conf) as daemon:
        first, second, third = schedule(daemon, many, 3600, collapse_id="ferry")
        assert delete(daemon, f"{PATH}/{first}") == (200, {"cancelled": 1, "on_their_way": 0})
        assert delete(daemon, f"{PATH}/{first}")[0] == 404
        (record,) = daemon.wait_records("P", 1)
        assert (record.mid, record.reason) == (first, CANCELLED)
        assert daemon.stop() == 0
    with running_daemon(tmp_path, conf) as daemon:
        query = f"?domain={DOMAIN}&collapse_id=ferry"
        assert delete(daemon, f"{PATH}{query}&device_token={many[1]}")[1]["cancelled"] == 1
        assert delete(daemon, PATH + query)[1]["cancelled"] == 1
        assert {record.mid for record in daemon.wait_records("P", 3)} == {first, second, third}
        due = time.time() + 2
        sent = schedule(daemon, tokens(2, f"soon {receivers}"), 2)
        assert [record.mid for record in daemon.wait_records("D", 2)] == sent
        assert time.time() >= int(due)
    assert not set(many) & {request["token"] for request in apns.requests()}
