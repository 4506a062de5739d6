"""The wire against HTTP/2 servers that nobody here wrote: nginx, nghttpd and Node's http2, over TLS.

The same story for all three; then Node alone, which does for each request what its collapse id says.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections import Counter
from pathlib import Path

import pytest

from momentum_push.delivery.apns.wire import Wire, WireOptions
from momentum_push.message import Message, Outcome, Phase
from tests.helpers.daemon import until
from tests.helpers.http2_servers import SERVERS, Node, running, running_nghttpd, running_node
from tests.helpers.lists import messages, part
from tests.helpers.peer import Pki, pki

TOPIC = "com.example.news"
WAIT_S = 10.0
TOKEN = b"bearer a.b.c"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return pki(tmp_path_factory.mktemp("pki"))


class Line:
    """A wire and its socket; blocking, for these tests want bytes and no loop."""

    def __init__(self, port: int, files: Pki, read_size: int = 65536) -> None:
        context = ssl.create_default_context(cafile=str(files.ca))
        context.set_alpn_protocols(["h2"])
        raw = socket.create_connection(("127.0.0.1", port), timeout=WAIT_S)
        self.socket = context.wrap_socket(raw, server_hostname="localhost")
        self.wire = Wire(WireOptions("localhost", is_probing=False))
        self.outcomes: list[Outcome] = []
        self._read_size = read_size
        self.wire.initiate()
        while not self.wire.is_ready:
            self.turn()

    def __enter__(self) -> Line:
        return self

    def __exit__(self, *error: object) -> None:
        self.socket.close()

    def flush(self) -> None:
        if data := self.wire.data_to_send():
            self.socket.sendall(data)

    def turn(self) -> None:
        """Write what is due, then take one read; the end of the connection ends what is in flight."""
        self.flush()
        data = self.socket.recv(self._read_size)
        self.outcomes += self.wire.receive(data, 0.0) if data else self.wire.connection_lost("closed", 0.0)
        assert not self.wire.error
        self.flush()

    def send_all(self, found: list[Message], list_size: int = 200) -> list[Outcome]:
        """Send all, and wait for all outcomes; return those of this call."""
        before, place = len(self.outcomes), 0
        while len(self.outcomes) < before + len(found):
            if place < len(found) and self.wire.capacity:
                batch = [(message, TOPIC) for message in found[place : place + list_size]]
                place += self.wire.send(batch, TOKEN, 0.0)
            self.turn()
        return self.outcomes[before:]

    def behave(self, *behaviours: str) -> list[Outcome]:
        """Send one message for each behaviour; return the outcomes in the order of the messages."""
        first = 1 + len(self.outcomes)
        found = [
            message
            for number, behaviour in enumerate(behaviours, first)
            for message in messages(1, number, shared=part(collapse_id=behaviour))
        ]
        outcomes = self.send_all(found)
        return sorted(outcomes, key=lambda outcome: outcome.message.sequence)


# --- all of them


@pytest.mark.parametrize("name", SERVERS)
@pytest.mark.parametrize("read_size", [65536, 37])
def test_everything_is_answered_once(name: str, read_size: int, files: Pki, tmp_path: Path) -> None:
    found = messages(1500 if read_size > 1000 else 150)
    with running(name, files, tmp_path) as port, Line(port, files, read_size) as line:
        outcomes = line.send_all(found)
    assert Counter(o.message.sequence for o in outcomes) == Counter(m.sequence for m in found)
    assert {(o.phase, o.status) for o in outcomes} == {(Phase.ANSWERED, 200)}


@pytest.mark.parametrize("name", SERVERS)
def test_lists_of_many_parts_topics_and_large_bodies_are_understood(
    name: str, files: Pki, tmp_path: Path
) -> None:
    found = [
        message
        for number in range(120)
        for message in messages(
            2,
            1 + 2 * number,
            payload=b'{"aps":{}}' + b" " * (number * 41),
            shared=part(push_type=f"kind{number % 50}", collapse_id="ok", expiration=number),
        )
    ]
    with running(name, files, tmp_path) as port, Line(port, files) as line:
        outcomes = line.send_all(found, list_size=31)
    assert {(o.phase, o.status) for o in outcomes} == {(Phase.ANSWERED, 200)}


def test_small_windows_and_a_small_table_of_nghttpd_are_obeyed(files: Pki, tmp_path: Path) -> None:
    options = ("-w12", "-W13", "-m3", "--header-table-size=100", "--padding=100")
    found = messages(300, payload=b'{"aps":{}}' + b" " * 3_500)
    with running_nghttpd(files, tmp_path, *options) as port, Line(port, files) as line:
        outcomes = line.send_all(found)
    assert {(o.phase, o.status) for o in outcomes} == {(Phase.ANSWERED, 200)}


# --- Node


@pytest.mark.parametrize("read_size", [65536, 11])
@pytest.mark.parametrize("padding", [0, 2])
def test_each_answer_of_node_is_read_as_it_was_meant(padding: int, read_size: int, files: Pki) -> None:
    expected = {
        "ok": (Phase.ANSWERED, 200, ""),
        "bad": (Phase.ANSWERED, 400, "BadDeviceToken"),
        "gone": (Phase.ANSWERED, 410, "Unregistered"),
        "pieces": (Phase.ANSWERED, 400, "BadTopic"),
        "hints": (Phase.ANSWERED, 200, ""),
        "trailers": (Phase.ANSWERED, 400, "BadTopic"),
        "long": (Phase.ANSWERED, 200, ""),
        "later": (Phase.ANSWERED, 429, "TooManyRequests"),
        "refused": (Phase.NOT_PROCESSED, 0, "RST_STREAM REFUSED_STREAM"),
        "broken": (Phase.UNKNOWN, 0, "RST_STREAM INTERNAL_ERROR"),
        "closed": (Phase.ANSWERED, 200, ""),
        "ping": (Phase.ANSWERED, 200, ""),
    }
    names = [*expected] * 3
    with running_node(files, padding=padding) as node, Line(node.port, files, read_size) as line:
        outcomes = line.behave(*names)
        assert line.wire.in_flight == 0
    assert [(o.phase, o.status, o.reason) for o in outcomes] == [expected[name] for name in names]
    assert [o.retry_after for o in outcomes[7::12]] == [7.0] * 3


def test_settings_of_node_may_fall_and_rise_at_any_time(files: Pki) -> None:
    with running_node(files) as node, Line(node.port, files) as line:
        for _ in range(3):
            line.behave("shrink")
            assert {o.status for o in line.behave(*["ok"] * 9, "bad", "gone")} == {200, 400, 410}
            line.behave("grow")
            assert {o.status for o in line.send_all(messages(300, 1 + len(line.outcomes)))} == {200}
        # Node writes a request down before it answers; another thread reads what it writes.
        until(lambda: len(node.lines) >= len(line.outcomes), "the last of Node's lines")
        requests = node.requests()
    assert len(requests) == len(line.outcomes)
    assert all(request["headers"]["authorization"] == TOKEN.decode() for request in requests)


def test_node_sees_the_fields_and_which_of_them_are_secret(files: Pki) -> None:
    with running_node(files) as node, Line(node.port, files) as line:
        [outcome, _] = line.behave("ok", "ok")
        _wait_for(node, 2)
    message = outcome.message
    first, second = node.requests()
    assert first["headers"] == {
        ":method": "POST",
        ":scheme": "https",
        ":authority": "localhost",
        ":path": f"/3/device/{message.token}",
        "authorization": TOKEN.decode(),
        "apns-topic": TOPIC,
        "apns-push-type": "alert",
        "apns-priority": "10",
        "apns-expiration": str(message.part.expiration),
        "apns-collapse-id": "ok",
        "apns-id": message.apns_id,
    }
    assert first["size"] == len(message.payload)
    assert set(second["never"]) == {":path", "apns-expiration", "apns-collapse-id", "apns-id"}


def _wait_for(node: Node, count: int) -> None:
    async def story() -> None:
        async with asyncio.timeout(WAIT_S):
            while len(node.lines) < count:
                await asyncio.sleep(0.005)

    asyncio.run(story())


def test_a_goaway_of_node_leaves_nothing_open_and_nothing_lost(files: Pki) -> None:
    with running_node(files) as node, Line(node.port, files) as line:
        outcomes = line.behave("ok", "goaway", *["ok"] * 20)
    assert line.wire.is_done
    assert line.wire.farewell is not None
    assert line.wire.farewell.reason == "Shutdown"
    assert [o.status for o in outcomes[:2]] == [200, 200]
    assert {o.phase for o in outcomes} <= {Phase.ANSWERED, Phase.NOT_PROCESSED, Phase.UNKNOWN}
    assert len(outcomes) == 22


@pytest.mark.parametrize("limit", [1, 7])
def test_node_never_sees_more_streams_than_it_allows(limit: int, files: Pki) -> None:
    settings = {"maxConcurrentStreams": limit, "initialWindowSize": 5000, "headerTableSize": 0}
    with running_node(files, settings) as node, Line(node.port, files) as line:
        assert {o.status for o in line.send_all(messages(60))} == {200}
        assert max(request["open"] for request in node.requests()) <= limit
