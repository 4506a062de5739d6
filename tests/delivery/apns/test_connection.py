"""The connection over real sockets and TLS: our own peer, the simulator, nghttpd, peers that misbehave."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
import ssl
import subprocess
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import structlog
import uvloop

from momentum_push.clock import SystemClock
from momentum_push.delivery.apns import (
    ConnectFailed,
    Connection,
    ConnectionOptions,
    ConnectionState,
    ProviderKey,
    Target,
    TokenCredential,
)
from momentum_push.delivery.apns.provider_token import HeldToken
from momentum_push.message import Message, Outcome, Phase
from tests.helpers.apns import client_context, provider_certificate, provider_key, running_simulator
from tests.helpers.lists import messages, part
from tests.helpers.peer import (
    Listening,
    Peer,
    Pki,
    Served,
    apple_key,
    listening,
    pki,
    self_made,
    server_context,
)
from tests.helpers.uncollected import uncollected

TOPIC = "com.example.news"


class Certified:
    """A credential that sends nothing in its requests."""

    is_token = False

    def authorize(self, held: HeldToken | None, now: float, monotonic: float) -> HeldToken | None:
        return HeldToken(b"", 0, 0.0, 0.0)


class Bench:
    """A connection whose callbacks are written down."""

    def __init__(
        self,
        port: int,
        context: ssl.SSLContext,
        credential: Any = None,
        host: str = "localhost",
        verify_name: str = "",
        **options: Any,
    ) -> None:
        self.reads: list[list[Outcome]] = []
        self.states: list[ConnectionState] = []
        self._moved = asyncio.Event()
        self.connection = Connection(
            target=Target(host, port, "127.0.0.1", verify_name),
            context=context,
            credential=credential or Certified(),
            options=ConnectionOptions(**({"connect_timeout_s": 5.0} | options)),
            clock=SystemClock(),
            on_outcomes=self._outcomes,
            on_change=self._change,
            conn_id="0A/0B-00000-00000001",
        )

    def _outcomes(self, connection: Connection, outcomes: list[Outcome]) -> None:
        assert connection is self.connection
        self.reads.append(outcomes)
        self._moved.set()

    def _change(self, connection: Connection) -> None:
        self.states.append(connection.state)
        self._moved.set()

    @property
    def outcomes(self) -> list[Outcome]:
        return [outcome for read in self.reads for outcome in read]

    def send(self, count: int, first: int = 1, **changes: Any) -> int:
        found = messages(count, first, **changes)
        return self.connection.send([(message, TOPIC) for message in found])

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(5):
            while not condition():
                self._moved.clear()
                await self._moved.wait()

    async def send_all(self, found: list[Message]) -> None:
        """What a pool does: whenever there is room, send what is left."""
        place = 0
        while place < len(found):
            await self.until(lambda: self.connection.capacity)
            place += self.connection.send([(message, TOPIC) for message in found[place : place + 200]])


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return pki(tmp_path_factory.mktemp("pki"))


def run(story: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Tell the story on both event loops: their transports and TLS are different code."""
    for factory in (asyncio.new_event_loop, uvloop.new_event_loop):
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(story())


def trusting(files: Pki, protocols: tuple[str, ...] = ("h2",)) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(files.ca))
    context.set_alpn_protocols(list(protocols))
    return context


def token_credential() -> TokenCredential:
    return TokenCredential(ProviderKey(apple_key(), "ABCDEFGHIJ", "TEAM123456"))


def silent(peer: Peer, request: Served) -> None:
    """Answer nothing."""


@contextlib.asynccontextmanager
async def opened(
    files: Pki,
    handler: Any = None,
    make_peer: Callable[[], Peer] = Peer,
    credential: Any = None,
    **options: Any,
) -> AsyncIterator[tuple[Bench, Listening]]:
    """A connection that is open, to our own peer."""
    arguments = [handler] if handler else []
    async with listening(server_context(files.server), *arguments, make_peer=make_peer) as state:
        bench = Bench(state.port, trusting(files), credential, **options)
        await bench.connection.open()
        yield bench, state
        bench.connection.close("end of the test")


# --- the good days


def test_a_token_connection_probes_then_opens_and_answers_come_in_lists(files: Pki) -> None:
    async def story() -> None:
        async with opened(files, credential=token_credential()) as (bench, state):
            connection = bench.connection
            assert (connection.state, connection.capacity) == (ConnectionState.PROBING, 1)
            assert bench.send(10) == 1
            await bench.until(lambda: connection.capacity == 1000)
            assert bench.states == [ConnectionState.OPEN]
            assert bench.send(100, first=2) == 100
            assert connection.in_flight == 100
            await bench.until(lambda: len(bench.outcomes) == 101)
            assert {outcome.status for outcome in bench.outcomes} == {200}
            assert len(bench.reads) < 20
            tokens = {request["authorization"] for request in state.peers[0].requests}
            assert len(tokens) == 1
            assert connection.remote == "127.0.0.1"
            assert "open" in repr(connection)

    run(story)


def test_one_send_is_one_authorization_and_one_write(files: Pki) -> None:
    async def story() -> None:
        asked: list[float] = []

        class Counting(Certified):
            def authorize(self, held: HeldToken | None, now: float, monotonic: float) -> HeldToken | None:
                asked.append(now)
                return HeldToken(b"bearer x", 0, now, monotonic)

        async with opened(files, silent, credential=Counting()) as (bench, _):
            transport = Noting(bench.connection._transport)
            bench.connection._transport = transport  # type: ignore[assignment]
            assert bench.send(100) == 100
            assert (len(asked), len(transport.written)) == (1, 1)

    run(story)


class Noting:
    """A transport that writes down what it passes on."""

    def __init__(self, transport: Any) -> None:
        self._transport = transport
        self.written: list[int] = []

    def write(self, data: bytes) -> None:
        self.written.append(len(data))
        self._transport.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


def test_draining_waits_for_the_last_answer_then_says_goodbye(files: Pki) -> None:
    async def story() -> None:
        async with opened(files, silent) as (bench, state):
            bench.send(2)
            bench.connection.drain("reload")
            assert (bench.connection.state, bench.connection.capacity) == (ConnectionState.DRAINING, 0)
            await until_asked(bench, state, 2)
            for stream_id in (1, 3):
                state.peers[0].answer(stream_id)
            state.flush()
            await bench.until(lambda: bench.connection.state is ConnectionState.CLOSED)
            assert bench.connection.close_reason == "reload"
            assert [outcome.status for outcome in bench.outcomes] == [200, 200]
            assert bench.states == [ConnectionState.DRAINING, ConnectionState.CLOSED]

    run(story)


async def until_asked(bench: Bench, state: Listening, count: int) -> None:
    """Wait until the peer has read `count` requests."""
    async with asyncio.timeout(5):
        while len(state.peers[0].requests) < count:
            await asyncio.sleep(0.002)


def test_closing_hands_out_what_is_in_flight_before_it_returns(files: Pki) -> None:
    async def story() -> None:
        async with opened(files, silent) as (bench, _):
            bench.send(3)
            bench.connection.close("stopping")
            assert [outcome.phase for outcome in bench.outcomes] == [Phase.UNKNOWN] * 3
            assert bench.connection.state is ConnectionState.CLOSED
            assert (bench.connection.capacity, bench.connection.send([])) == (0, 0)
            assert bench.send(1) == 0
            bench.connection.close("again")
            bench.connection.drain("again")
            assert bench.connection.close_reason == "stopping"
            assert len(bench.outcomes) == 3

    run(story)


def test_a_jump_of_the_clock_replaces_the_connection(files: Pki) -> None:
    class Jumped(Certified):
        def authorize(self, held: HeldToken | None, now: float, monotonic: float) -> HeldToken | None:
            return None

    async def story() -> None:
        async with opened(files, credential=Jumped()) as (bench, _):
            assert bench.send(1) == 0
            await bench.until(lambda: bench.connection.state is ConnectionState.CLOSED)
            assert "clock" in bench.connection.close_reason

    run(story)


def test_a_full_socket_stops_new_requests_until_it_drains(files: Pki) -> None:
    async def story() -> None:
        async with opened(files, silent) as (bench, _):
            bench.connection.pause_writing()
            assert (bench.connection.capacity, bench.send(1), bench.states) == (0, 0, [])
            bench.connection.resume_writing()
            assert bench.connection.capacity > 0
            assert bench.states == [ConnectionState.OPEN]

    run(story)


# --- trouble while open


def test_goaway_takes_it_out_of_service_at_once_and_names_its_reason(files: Pki) -> None:
    async def story() -> None:
        async with opened(files, silent) as (bench, state):
            bench.send(3)
            await until_asked(bench, state, 3)
            state.peers[0].goaway(1, debug=b'{"reason":"Shutdown"}')
            state.flush()
            await bench.until(lambda: bench.outcomes)
            assert [outcome.phase for outcome in bench.outcomes] == [Phase.NOT_PROCESSED] * 2
            assert (bench.connection.state, bench.connection.goaway_reason) == (
                ConnectionState.DRAINING,
                "Shutdown",
            )
            state.peers[0].answer(1)
            state.flush()
            await bench.until(lambda: bench.connection.state is ConnectionState.CLOSED)
            assert bench.outcomes[-1].status == 200

    run(story)


@pytest.mark.parametrize("how", ["abort", "close"])
def test_a_peer_that_goes_leaves_unknown_outcomes(files: Pki, how: str) -> None:
    async def story() -> None:
        async with opened(files, silent) as (bench, state):
            bench.send(2)
            await until_asked(bench, state, 2)
            getattr(state.transports[0], how)()
            await bench.until(lambda: bench.connection.state is ConnectionState.CLOSED)
            assert [outcome.phase for outcome in bench.outcomes] == [Phase.UNKNOWN] * 2
            assert bench.outcomes[0].reason

    run(story)


def test_a_request_without_an_answer_ends_at_its_deadline(files: Pki) -> None:
    async def story() -> None:
        async with opened(files, silent, response_timeout_s=0.05) as (bench, state):
            bench.send(1)
            await bench.until(lambda: bench.outcomes)
            assert bench.outcomes[0].reason == "no answer within 0.05 s"
            async with asyncio.timeout(5):
                while not state.peers[0].resets:
                    await asyncio.sleep(0.002)
            assert bench.connection.state is ConnectionState.OPEN

    run(story)


def test_a_peer_that_does_not_answer_pings_is_dead(files: Pki) -> None:
    async def story() -> None:
        times = {"busy_ping_interval_s": 0.05, "ping_timeout_s": 0.05}
        async with opened(files, silent, lambda: Peer(answers_pings=False), **times) as (bench, state):
            bench.send(1)
            await bench.until(lambda: bench.connection.state is ConnectionState.CLOSED)
            assert "PING" in bench.connection.close_reason
            assert [outcome.phase for outcome in bench.outcomes] == [Phase.UNKNOWN]
            assert state.peers[0].pings == 1

    run(story)


def test_an_idle_connection_is_kept_by_pings_and_closed_after_idle_timeout(files: Pki) -> None:
    async def story() -> None:
        times = {"ping_interval_s": 0.05, "ping_timeout_s": 1.0, "idle_timeout_s": 0.3}
        async with opened(files, **times) as (bench, state):
            await bench.until(lambda: bench.connection.state is ConnectionState.CLOSED)
            assert bench.connection.close_reason == "idle_timeout"
            assert state.peers[0].pings >= 2

    run(story)


def test_a_connection_of_its_age_takes_no_more_and_closes_behind_the_last_answer(files: Pki) -> None:
    async def story() -> None:
        async with opened(files, silent, max_age_s=0.2, idle_timeout_s=0.0) as (bench, state):
            bench.send(1)
            await until_asked(bench, state, 1)
            await bench.until(lambda: bench.connection.state is ConnectionState.DRAINING)
            assert (bench.connection.drain_reason, bench.connection.in_flight) == (
                "max_outbound_connection_age",
                1,
            )

    run(story)


def test_what_no_window_holds_comes_back_as_soon_as_the_loop_goes_round(files: Pki) -> None:
    async def story() -> None:
        async with opened(files, make_peer=lambda: Peer(window=10)) as (bench, _):
            with structlog.testing.capture_logs() as logs:
                assert bench.send(1) == 1
                await bench.until(lambda: bench.connection.state is ConnectionState.CLOSED)
            assert [(entry["event"], "INITIAL_WINDOW_SIZE 10" in entry["reason"]) for entry in logs] == [
                ("connection_retired", True)
            ], "an operator hears of it"
            assert [item.phase for item in bench.outcomes] == [Phase.NOT_PROCESSED]
            assert "INITIAL_WINDOW_SIZE 10" in bench.connection.close_reason

    run(story)


def test_a_peer_that_talks_rubbish_loses_the_connection(files: Pki) -> None:
    async def story() -> None:
        async with opened(files, silent) as (bench, state):
            bench.send(1)
            await until_asked(bench, state, 1)
            state.peers[0].raw(b"HTTP/1.1 500 Internal Server Error\r\n\r\n")
            state.flush()
            await bench.until(lambda: bench.connection.state is ConnectionState.CLOSED)
            assert "HTTP/1.1" in bench.connection.close_reason
            assert [outcome.phase for outcome in bench.outcomes] == [Phase.UNKNOWN]

    run(story)


# --- connections that never come about


async def failing(bench: Bench) -> ConnectFailed:
    with pytest.raises(ConnectFailed) as caught:
        await bench.connection.open()
    assert bench.connection.state is ConnectionState.CLOSED
    assert bench.states == []
    text = str(caught.value)
    assert ": " in text
    assert "; " in text
    assert "\n" not in text
    return caught.value


@pytest.mark.parametrize(
    ("server", "host", "words"),
    [
        ("expired", "localhost", "certificate has expired"),
        ("stranger", "localhost", "ostname mismatch"),
        ("server", "api.push.apple.com", "ostname mismatch"),
    ],
)
def test_a_server_that_does_not_prove_its_name_is_refused(
    files: Pki, server: str, host: str, words: str
) -> None:
    async def story() -> None:
        async with listening(server_context(getattr(files, server))) as state:
            failure = await failing(Bench(state.port, trusting(files), host=host))
            assert words in str(failure)
            assert failure.stage == 17

    run(story)


def test_a_server_of_an_unknown_issuer_is_refused(files: Pki) -> None:
    async def story() -> None:
        async with listening(server_context(files.server)) as state:
            context = ssl.create_default_context()
            context.set_alpn_protocols(["h2"])
            failure = await failing(Bench(state.port, context))
            assert "tls_ca" in str(failure)

    run(story)


def test_the_route_may_name_whom_the_server_stands_for(files: Pki) -> None:
    async def story() -> None:
        async with listening(server_context(files.server)) as state:
            bench = Bench(state.port, trusting(files), host="relay.example", verify_name="localhost")
            await bench.connection.open()
            bench.send(1)
            await bench.until(lambda: bench.outcomes)
            assert state.peers[0].requests[0][":authority"] == "localhost"
            bench.connection.close("end")

    run(story)


@pytest.mark.parametrize("protocols", [(), ("http/1.1",)])
def test_a_peer_that_speaks_http_1_is_refused_in_words(files: Pki, protocols: tuple[str, ...]) -> None:
    async def story() -> None:
        async with listening(server_context(files.server, protocols)) as state:
            failure = await failing(Bench(state.port, trusting(files)))
            assert "not HTTP/2" in str(failure)

    run(story)


def test_a_peer_without_tls_is_refused(files: Pki) -> None:
    async def story() -> None:
        async with listening(None) as state:
            failure = await failing(Bench(state.port, trusting(files)))
            assert "TLS" in str(failure)

    run(story)


def test_a_peer_that_accepts_and_says_nothing_runs_into_connect_timeout(files: Pki) -> None:
    async def story() -> None:
        with socket.create_server(("127.0.0.1", 0)) as deaf:
            port = deaf.getsockname()[1]
            failure = await failing(Bench(port, trusting(files), connect_timeout_s=0.1))
            assert "within 0.1 s" in str(failure)

    run(story)


def test_a_peer_that_hangs_before_its_settings_runs_into_connect_timeout(files: Pki) -> None:
    async def story() -> None:
        async with listening(server_context(files.server), make_peer=lambda: Peer(is_silent=True)) as state:
            failure = await failing(Bench(state.port, trusting(files), connect_timeout_s=0.2))
            assert "no HTTP/2 SETTINGS" in str(failure)

    run(story)


def test_a_closed_port_is_refused_in_words(files: Pki) -> None:
    async def story() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        failure = await failing(Bench(port, trusting(files)))
        assert "connection refused" in str(failure)
        assert failure.stage == 0

    run(story)


@pytest.mark.parametrize("after_settings", [False, True])
def test_goaway_instead_of_a_welcome_is_a_fault_of_the_credential(files: Pki, after_settings: bool) -> None:
    def farewell() -> Peer:
        peer = Peer(is_silent=not after_settings)
        peer.goaway(0, debug=b'{"reason":"BadCertificateEnvironment"}')
        return peer

    async def story() -> None:
        async with listening(server_context(files.server), make_peer=farewell) as state:
            failure = await failing(Bench(state.port, trusting(files)))
            assert (failure.reason, failure.stage) == ("BadCertificateEnvironment", 9)

    run(story)


def test_goaway_right_behind_settings_is_found_before_open_returns(files: Pki) -> None:
    """Two reads of one loop turn: the first ends the wait, the second makes it vain."""

    def farewell() -> Peer:
        peer = Peer()
        peer.goaway(0, debug=b'{"reason":"BadCertificate"}')
        return peer

    async def story() -> None:
        async with listening(server_context(files.server), make_peer=farewell) as state:
            bench = Bench(state.port, trusting(files))
            whole = bench.connection.data_received

            def by_frames(data: bytes) -> None:
                while data:
                    end = 9 + int.from_bytes(data[:3])
                    whole(data[:end])
                    data = data[end:]

            bench.connection.data_received = by_frames  # type: ignore[method-assign]
            assert (await failing(bench)).reason == "BadCertificate"
            assert bench.connection.goaway_reason == "BadCertificate"

    run(story)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize(
    ("certificate", "alert"),
    [("", "certificate required"), ("expired", "expired"), ("foreign", "unknown ca")],
)
def test_a_refused_client_certificate_is_a_fault_of_the_credential(
    files: Pki, tmp_path: Path, version: ssl.TLSVersion, certificate: str, alert: str
) -> None:
    """With TLS 1.3 the alert comes when the client believes that the handshake is over."""
    context = trusting(files)
    context.maximum_version = version
    if certificate == "foreign":
        stranger = self_made("client")
        (tmp_path / "client.pem").write_bytes(stranger.certificate + stranger.key)
        context.load_cert_chain(tmp_path / "client.pem")
    elif certificate:
        context.load_cert_chain(files.expired)

    async def story() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            # asyncio's server never sends its alert, a blocking one does
            strict = server_context(files.server, client_ca=files.ca)
            refusing = asyncio.create_task(asyncio.to_thread(refuse, listener, strict))
            failure = await failing(Bench(listener.getsockname()[1], context))
            await refusing
            if certificate or version is ssl.TLSVersion.TLSv1_3:
                assert alert in str(failure)
                assert (failure.is_credential, failure.stage) == (True, 17)
            else:
                assert "handshake failure" in str(failure)  # TLS 1.2 has no word for it

    run(story)


def refuse(listener: socket.socket, context: ssl.SSLContext) -> None:
    """Serve one handshake that must fail; read on, so that the alert is not overtaken by a reset."""
    listener.settimeout(5)
    raw, _ = listener.accept()
    raw.settimeout(5)
    wrapped = context.wrap_socket(raw, server_side=True, do_handshake_on_connect=False)
    with pytest.raises(ssl.SSLError):
        wrapped.do_handshake()
    with socket.socket(fileno=wrapped.detach()) as bare:
        bare.shutdown(socket.SHUT_WR)
        with contextlib.suppress(OSError):
            while bare.recv(4096):
                pass


@pytest.mark.parametrize("how", ["close", "drain"])
def test_closing_while_connecting_ends_the_wait_at_once(files: Pki, how: str) -> None:
    async def story() -> None:
        is_silent = how == "close"  # a drained one waits for SETTINGS, which come
        async with listening(
            server_context(files.server), make_peer=lambda: Peer(is_silent=is_silent)
        ) as state:
            bench = Bench(state.port, trusting(files), connect_timeout_s=60)
            task = asyncio.ensure_future(bench.connection.open())
            async with asyncio.timeout(5):
                await asyncio.sleep(0)
                while is_silent and not state.peers:
                    await asyncio.sleep(0.002)
                getattr(bench.connection, how)("reload")
                with pytest.raises(ConnectFailed, match="reload"):
                    await task
            assert bench.connection.state is ConnectionState.CLOSED

    run(story)


def test_cancelling_open_leaves_nothing_behind(files: Pki) -> None:
    async def story() -> None:
        with socket.create_server(("127.0.0.1", 0)) as deaf:
            bench = Bench(deaf.getsockname()[1], trusting(files))
            task = asyncio.ensure_future(bench.connection.open())
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert bench.connection.state is ConnectionState.CLOSED

    run(story)


# --- what is left of it


async def drained(bench: Bench, state: Listening) -> None:
    bench.send(1)
    await bench.until(lambda: bench.outcomes)
    bench.connection.drain("its time has come")


async def closed(bench: Bench, state: Listening) -> None:
    bench.connection.close("the daemon stops")


async def lost(bench: Bench, state: Listening) -> None:
    state.transports[0].abort()


@pytest.mark.parametrize("end", [drained, closed, lost])
def test_a_connection_that_has_ended_gives_the_buffers_of_tls_back_at_once(
    files: Pki, end: Callable[[Bench, Listening], Coroutine[Any, Any, None]]
) -> None:
    """A quarter of a megabyte each: nothing for a collector that counts objects, and comes in minutes."""

    async def story() -> None:
        async with opened(files) as (bench, state):
            tls = weakref.ref(bench.connection._transport.get_extra_info("ssl_object"))  # type: ignore[union-attr]
            await end(bench, state)
            async with asyncio.timeout(5):
                while tls() is not None:
                    await asyncio.sleep(0.002)
            assert bench.connection.state is ConnectionState.CLOSED

    with uncollected():
        run(story)


def test_a_connection_that_never_came_about_is_gone_with_its_failure(files: Pki) -> None:
    """Exceptions know the frames they came through, and those what they worked on."""

    def farewell() -> Peer:
        peer = Peer(is_silent=True)
        peer.goaway(0)
        return peer

    async def story() -> None:
        async with listening(server_context(files.server), make_peer=farewell) as state:
            bench = Bench(state.port, trusting(files))
            gone = weakref.ref(bench.connection)
            with contextlib.suppress(ConnectFailed):
                await bench.connection.open()
            assert bench.connection.state is ConnectionState.CLOSED
            del bench.connection
            async with asyncio.timeout(5):
                while gone() is not None:
                    await asyncio.sleep(0.002)

    with uncollected():
        run(story)


# --- peers that others wrote


def test_the_simulator_accepts_what_we_send_with_a_token(tmp_path: Path) -> None:
    async def story() -> None:
        async with running_simulator(tmp_path) as simulator:
            key = provider_key(tmp_path)
            credential = TokenCredential(ProviderKey(key.path.read_bytes(), key.key_id, key.team_id))
            bench = Bench(simulator.port, client_context(tmp_path), credential)
            await bench.connection.open()
            await bench.send_all(messages(300, shared=part(expiration=2_000_000_000)))
            await bench.until(lambda: len(bench.outcomes) == 300)
            bench.connection.close("end")
            assert {(outcome.status, outcome.reason) for outcome in bench.outcomes} == {(200, "")}
            assert len(simulator.requests) == 300

    run(story)


def test_the_simulator_accepts_what_we_send_with_a_certificate(tmp_path: Path) -> None:
    async def story() -> None:
        async with running_simulator(tmp_path) as simulator:
            certificate = provider_certificate(tmp_path, TOPIC)
            bench = Bench(simulator.port, client_context(tmp_path, certificate))
            await bench.connection.open()
            await bench.send_all(messages(50, shared=part(expiration=2_000_000_000)))
            await bench.until(lambda: len(bench.outcomes) == 50)
            bench.connection.close("end")
            assert {(outcome.status, outcome.reason) for outcome in bench.outcomes} == {(200, "")}

    run(story)


@pytest.mark.skipif(shutil.which("nghttpd") is None, reason="nghttpd is not installed")
def test_nghttpd_with_apples_window_answers_everything(files: Pki, tmp_path: Path) -> None:
    async def story() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        command = [
            "nghttpd",
            "-w16",
            "-W16",
            f"-d{tmp_path}",
            str(port),
            str(files.server),
            str(files.server),
        ]
        server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            bench = await patient(port, files)
            big = b'{"aps":{"alert":"' + b"x" * 3_000 + b'"}}'
            await bench.send_all(messages(200, payload=big))
            await bench.until(lambda: len(bench.outcomes) == 200)
            assert {outcome.phase for outcome in bench.outcomes} == {Phase.ANSWERED}
            bench.connection.close("end")
        finally:
            server.terminate()
            server.wait(5)

    run(story)


async def patient(port: int, files: Pki) -> Bench:
    """Connect to a process that is still starting."""
    for _ in range(100):
        bench = Bench(port, trusting(files))
        try:
            await bench.connection.open()
            return bench
        except ConnectFailed:
            await asyncio.sleep(0.05)
    raise AssertionError("nothing listens")
