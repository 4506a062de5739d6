"""Connections through a proxy, on both event loops: proxies that misbehave, and what is said of them."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop

from momentum_push.clock import SystemClock
from momentum_push.delivery.apns import ConnectFailed, Connection, ConnectionOptions, ConnectionState, Target
from momentum_push.delivery.apns.options import Proxy
from momentum_push.delivery.apns.provider_token import HeldToken
from momentum_push.message import Outcome, Phase
from tests.helpers.lists import messages
from tests.helpers.peer import Peer as Apple
from tests.helpers.peer import Pki, Served, listening, pki, server_context
from tests.helpers.proxies import ESTABLISHED, scripted

HEAD = b"CONNECT localhost:%d HTTP/1.1\r\nHost: localhost:%d\r\n"


class Certified:
    """A credential that sends nothing in its requests."""

    is_token = False

    def authorize(self, held: HeldToken | None, now: float, monotonic: float) -> HeldToken | None:
        return HeldToken(b"", 0, 0.0, 0.0)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return pki(tmp_path_factory.mktemp("pki"))


def run(story: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Tell the story on both event loops, and hear of every socket that was left open."""
    for factory in (asyncio.new_event_loop, uvloop.new_event_loop):
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(story())


def connection(
    files: Pki,
    proxy_port: int,
    port: int = 443,
    outcomes: list[Outcome] | None = None,
    address: str = "127.0.0.1",
    login: tuple[str, str] = ("", ""),
    timeout_s: float = 5.0,
) -> Connection:
    context = ssl.create_default_context(cafile=str(files.ca))
    context.set_alpn_protocols(["h2"])
    return Connection(
        target=Target("localhost", port, address, proxy=Proxy("proxy.example", proxy_port, *login)),
        context=context,
        credential=Certified(),
        options=ConnectionOptions(connect_timeout_s=timeout_s),
        clock=SystemClock(),
        on_outcomes=lambda _, found: (outcomes if outcomes is not None else []).extend(found),
        on_change=lambda _: None,
        conn_id="0A/0B-00000000-00000001",
    )


async def failing(found: Connection) -> str:
    with pytest.raises(ConnectFailed) as caught:
        async with asyncio.timeout(10):
            await found.open()
    assert found.state is ConnectionState.CLOSED
    assert not caught.value.is_credential
    text = str(caught.value)
    assert "proxy proxy.example:" in text and "(127.0.0.1)" in text
    return text


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.002)


# --- through


WELCOMES = {
    "at once": (ESTABLISHED,),
    "HTTP/1.0": (b"HTTP/1.0 200 OK\r\n\r\n",),
    "byte by byte": tuple(bytes([byte]) for byte in ESTABLISHED),
    "with a body's header": (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",),
    "after a 100": (b"HTTP/1.1 100 Continue\r\n\r\n", ESTABLISHED),
}


@pytest.mark.parametrize("welcome", WELCOMES.values(), ids=WELCOMES)
def test_notifications_go_through_and_tls_is_with_apple(welcome: tuple[bytes, ...], files: Pki) -> None:
    async def story() -> None:
        outcomes: list[Outcome] = []
        async with (
            listening(server_context(files.server)) as apple,
            scripted(*welcome, leads_to=apple.port) as proxy,
        ):
            found = connection(files, proxy.port, apple.port, outcomes)
            await found.open()
            assert found.send([(message, "com.example.news") for message in messages(100)]) == 100
            await until(lambda: len(outcomes) == 100)
            assert {outcome.status for outcome in outcomes} == {200}
            assert proxy.heads == [HEAD % (apple.port, apple.port) + b"\r\n"]
            assert found.remote == "127.0.0.1"
            assert "through proxy proxy.example" in repr(found)
            found.close("end of the test")

    run(story)


def test_a_user_is_sent_and_shown_nowhere(files: Pki) -> None:
    async def story() -> None:
        async with (
            listening(server_context(files.server)) as apple,
            scripted(ESTABLISHED, leads_to=apple.port) as proxy,
        ):
            found = connection(files, proxy.port, apple.port, login=("push", "s3cr3t"))
            await found.open()
            assert proxy.heads[0].endswith(b"Proxy-Authorization: Basic cHVzaDpzM2NyM3Q=\r\n\r\n")
            assert "s3cr3t" not in repr(found) + repr(found.target) + str(found.target)
            found.close("end of the test")

    run(story)


def test_a_proxy_may_live_on_ipv6(files: Pki) -> None:
    async def story() -> None:
        async with (
            listening(server_context(files.server)) as apple,
            scripted(ESTABLISHED, leads_to=apple.port, host="::1") as proxy,
        ):
            found = connection(files, proxy.port, apple.port, address="::1")
            await found.open()
            assert found.remote == "::1"
            found.close("end of the test")

    run(story)


def test_a_proxy_that_dies_in_mid_flight_leaves_unknown_outcomes(files: Pki) -> None:
    def silent(peer: Apple, request: Served) -> None:
        """Answer nothing."""

    async def story() -> None:
        outcomes: list[Outcome] = []
        async with (
            listening(server_context(files.server), silent) as apple,
            scripted(ESTABLISHED, leads_to=apple.port) as proxy,
        ):
            found = connection(files, proxy.port, apple.port, outcomes)
            await found.open()
            found.send([(message, "com.example.news") for message in messages(3)])
            await until(lambda: apple.peers[0].requests)
            proxy.cut()
            await until(lambda: found.state is ConnectionState.CLOSED)
            assert [outcome.phase for outcome in outcomes] == [Phase.UNKNOWN] * 3

    run(story)


# --- not through


REFUSALS = {
    "407": ((b"HTTP/1.1 407 Auth\r\n\r\n",), "does not accept our user and password"),
    "403": ((b"HTTP/1.0 403 Filtered\r\n\r\n",), "does not allow a connection to localhost:443"),
    "502": ((b"HTTP/1.1 502 Bad", b" Gateway\r\nX: y\r\n\r\n"), "cannot connect to localhost:443"),
    "closing": ((), "without an answer to CONNECT"),
    "half": ((b"HTTP/1.1 200 OK\r\n",), "in the middle of its answer"),
    "garbage": ((b"220 mail.example ESMTP\r\n",), "does not speak HTTP"),
    "1 MB": ((b"HTTP/1.1 200 OK\r\nX: " + b"y" * (1 << 20),), "more than 16384 bytes"),
    "early": ((ESTABLISHED + b"hello",), "before TLS began"),
    "no TLS": ((ESTABLISHED, b"hello"), "localhost:443 through proxy"),
    "closing after": ((ESTABLISHED,), "localhost:443 through proxy"),
}


@pytest.mark.parametrize(("pieces", "words"), REFUSALS.values(), ids=REFUSALS)
def test_a_proxy_that_refuses_is_named_with_what_to_do(
    pieces: tuple[bytes, ...], words: str, files: Pki
) -> None:
    async def story() -> None:
        async with scripted(*pieces) as proxy:
            text = await failing(connection(files, proxy.port, login=("push", "s3cr3t")))
            assert words in text or "before TLS began" in text  # "no TLS": one read or two
            assert "; " in text
            assert "s3cr3t" not in text

    run(story)


SILENCES = {
    "no word": ((), "did not answer CONNECT"),
    "a dribble": ((b"HTTP/1.1 2", b"00 OK\r\n"), "but never ended its header"),
    "a tunnel to nowhere": ((ESTABLISHED,), "no TLS came about"),
}


@pytest.mark.parametrize(("pieces", "words"), SILENCES.values(), ids=SILENCES)
def test_a_proxy_that_hangs_runs_into_connect_timeout(
    pieces: tuple[bytes, ...], words: str, files: Pki
) -> None:
    async def story() -> None:
        async with scripted(*pieces, stays=True) as proxy:
            text = await failing(connection(files, proxy.port, timeout_s=0.2))
            assert words in text
            assert "within 0.2 s; check the proxy, see connect_timeout" in text

    run(story)


def test_a_proxy_that_is_not_there_is_named(files: Pki) -> None:
    async def story() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        text = await failing(connection(files, port))
        assert text.startswith(f"proxy proxy.example:{port} (127.0.0.1): connection refused; ")

    run(story)


def test_cancelling_while_the_proxy_thinks_closes_its_socket(files: Pki) -> None:
    async def story() -> None:
        async with scripted(stays=True) as proxy:
            found = connection(files, proxy.port)
            task = asyncio.ensure_future(found.open())
            await until(lambda: proxy.heads)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await until(lambda: proxy.writers[0].transport.is_closing())
            assert found.state is ConnectionState.CLOSED

    run(story)
