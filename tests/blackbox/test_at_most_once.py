"""`apn_unknown_outcome = "drop"`: no device gets a notification twice, whatever ends the daemon."""

import contextlib
import subprocess
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from momentum_push.delivery.marking import AHEAD
from momentum_push.delivery.records import FORSAKEN
from tests.helpers.clients import curl, post, tokens
from tests.helpers.daemon import DOMAIN, DaemonProcess, Record, conf_for, parse_record, running_daemon, until
from tests.helpers.servers import Apns, running_apns, running_nginx

KILLS = 4
BATCH = 250
STREAMS = 100
CONNECTIONS = 2

OPTIONS = f"""
  max_outbound_connections = {CONNECTIONS}
  max_streams_per_connection = {STREAMS}
  apn_unknown_outcome = "drop"
"""


def slow_simulator(folder: Path) -> AbstractContextManager[Apns]:
    return running_apns(folder, "rules:\n  - {name: slow, do: {delay: 0.1}}\n")


def push(daemon: DaemonProcess, name: str, acknowledged: dict[str, str]) -> None:
    """Post until the daemon is gone; note message ids by token."""
    for number in range(12):
        many = tokens(BATCH, f"{name} {number}")
        try:
            status, answer = post(daemon, {"domain": DOMAIN, "device_tokens": many, "payload": {"aps": {}}})
        except subprocess.CalledProcessError:
            return
        if status == 200:
            acknowledged.update(zip(many, (result["id"] for result in answer["results"]), strict=True))


def shoot_under_load(folder: Path, conf: str, apns: Apns, name: str, acknowledged: dict[str, str]) -> None:
    """One life of a daemon that ends while it takes messages in and sends them."""
    before = len(apns.requests())
    daemon = DaemonProcess(folder, conf)
    try:
        daemon.event("started")
        client = threading.Thread(target=push, args=(daemon, name, acknowledged))
        client.start()
        until(lambda: len(apns.requests()) > before + 700, "a daemon under load")
    finally:
        daemon.kill()
    client.join()


def whole_records(daemon: DaemonProcess) -> list[Record]:
    """The records but for those that a kill tore; their messages are not settled and get another one."""
    records = []
    for line in daemon.lines():
        with contextlib.suppress(ValueError, IndexError, KeyError):
            records.append(parse_record(line))
    return records


@pytest.mark.parametrize("peer", [running_nginx, slow_simulator])
def test_no_token_is_sent_twice_over_kills_and_every_message_has_a_record(
    tmp_path: Path, peer: Callable[[Path], AbstractContextManager[Apns]]
) -> None:
    acknowledged: dict[str, str] = {}
    with peer(tmp_path) as apns:
        conf = conf_for(tmp_path, apns.port, apns.credential, options=OPTIONS)
        for life in range(KILLS):
            shoot_under_load(tmp_path, conf, apns, f"life {life}", acknowledged)
        with running_daemon(tmp_path, conf) as daemon:
            until(lambda: curl(daemon, "/stats/summary")[1]["TotalQueueSize"] == 0, "an empty queue", 60)
            records = whole_records(daemon)

    sent = Counter(request["token"] for request in apns.requests())
    assert [token for token, count in sent.items() if count > 1] == []
    ended = {record.mid for record in records if record.kind in "DP"}
    assert [mid for mid in acknowledged.values() if mid not in ended] == []
    delivered = {record.mid for record in records if record.kind == "D"}
    unknown = [record for record in records if record.kind == "P" and record.mid not in delivered]
    assert {record.reason for record in unknown} <= {FORSAKEN}
    assert unknown or peer is running_nginx, "nothing was in flight at any kill; nothing was shown"
    assert len(unknown) <= KILLS * (AHEAD + CONNECTIONS * STREAMS), "more were given up than could be marked"
    assert sum(count for token, count in sent.items() if token in acknowledged) > KILLS * 500


def test_an_orderly_stop_gives_nothing_up(tmp_path: Path) -> None:
    """What is marked and was not sent yet is unmarked on disk before the daemon ends."""
    many = tokens(4000, "orderly")
    with slow_simulator(tmp_path) as apns:
        conf = conf_for(tmp_path, apns.port, apns.credential, options=OPTIONS)
        for life in range(2):
            with running_daemon(tmp_path, conf) as daemon:
                if not life:
                    body = {"domain": DOMAIN, "device_tokens": many, "payload": {"aps": {}}}
                    assert post(daemon, body)[1]["accepted"] == len(many)
                apns.wait_accepted(500 * (life + 1))
        with running_daemon(tmp_path, conf) as daemon:
            until(lambda: curl(daemon, "/stats/summary")[1]["TotalQueueSize"] == 0, "an empty queue", 60)
            assert daemon.records("P") == []
        assert sorted(apns.accepted()) == sorted(many)
