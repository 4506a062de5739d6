"""Before the handshake and at the end: what a client's socket sees (apns.md 9.5, "connection", "abuse")."""

import asyncio
import contextlib
import errno
import shutil
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import structlog
import uvloop

from momentum_push.simulator import Simulator, VirtualTime, door, parse_faults
from momentum_push.simulator.door import Guard
from tests.helpers.apns import Key, client_context, provider_key, running_simulator, until
from tests.helpers.apns_client import START, Talk

DEADLINE_S = 5.0
needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")


@contextlib.asynccontextmanager
async def scenery(
    folder: Path, faults: str, **options: object
) -> AsyncIterator[tuple[Simulator, Key, VirtualTime]]:
    """A simulator whose time is moved by hand."""
    time = VirtualTime(START)
    async with running_simulator(folder, parse_faults(faults), scheduler=time, **options) as simulator:
        yield simulator, provider_key(folder), time


async def connect(folder: Path, simulator: Simulator, key: Key, listener: int = 1) -> Talk:
    context = client_context(folder)
    port = simulator.ports[listener - 1]
    opening = asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="localhost")
    reader, writer = await asyncio.wait_for(opening, DEADLINE_S)
    return Talk(reader, writer, key.bearer(START - 60))


# Guard


def test_connects_above_the_threshold_are_refused_for_a_time_and_then_not() -> None:
    guard = Guard()
    assert [guard.admits(float(second), 3, 100.0) for second in range(5)] == [True, True, True, False, False]
    assert not guard.admits(102.0, 3, 100.0)
    assert guard.admits(103.5, 3, 100.0)


def test_after_its_time_a_refusal_is_forgotten_with_what_led_to_it() -> None:
    guard = Guard()
    seen = [guard.admits(float(second), 3, 10.0) for second in range(16)]
    assert seen == [True] * 3 + [False] * 10 + [True] * 3


def test_slow_connects_are_never_too_many() -> None:
    guard = Guard()
    assert all(guard.admits(second * 21.0, 3, 100.0) for second in range(100))


def test_without_a_threshold_all_come_in() -> None:
    guard = Guard()
    assert all(guard.admits(0.0, 0, 100.0) for _ in range(1000))


# Before the handshake


def test_a_refused_connect_is_reset_and_the_next_is_not(tmp_path: Path) -> None:
    async def scene() -> None:
        faults = "rules: [{match: {times: 1}, do: {refuse_connect: true}}]"
        async with scenery(tmp_path, faults) as (simulator, key, _):
            with pytest.raises(ConnectionResetError):
                await connect(tmp_path, simulator, key)
            talk = await connect(tmp_path, simulator, key)
            assert await talk.status("00") == 200
            assert (simulator.ledger.connects, simulator.ledger.refused_connects) == (2, 1)
            await talk.close()

    for runner in (asyncio.run, uvloop.run):
        runner(scene())


def test_a_slow_handshake_waits_for_its_hour(tmp_path: Path) -> None:
    async def scene() -> None:
        faults = "rules: [{match: {connection: 1}, do: {handshake_delay: 8}}]"
        async with scenery(tmp_path, faults) as (simulator, key, time):
            opening = asyncio.create_task(connect(tmp_path, simulator, key))
            await until(lambda: simulator.ledger.connects)
            time.advance(7.9)
            done, _ = await asyncio.wait([opening], timeout=0.05)
            assert not done
            time.advance(0.2)
            talk = await asyncio.wait_for(opening, DEADLINE_S)
            assert await talk.status("00") == 200
            await talk.close()

    for runner in (asyncio.run, uvloop.run):
        runner(scene())


def test_a_stop_ends_handshakes_that_have_not_begun(tmp_path: Path) -> None:
    async def scene() -> None:
        async with scenery(tmp_path, "rules: [{do: {handshake_delay: 8}}]") as (simulator, key, _):
            opening = asyncio.create_task(connect(tmp_path, simulator, key))
            await until(lambda: simulator.ledger.connects)
        with pytest.raises(OSError, match=r".*"):
            await asyncio.wait_for(opening, DEADLINE_S)

    asyncio.run(scene())


def test_a_stop_ends_handshakes_that_go_on_for_ever(tmp_path: Path) -> None:
    async def scene() -> None:
        async with scenery(tmp_path, "") as (simulator, _, _):
            reader, writer = await asyncio.open_connection("127.0.0.1", simulator.port)
            await until(lambda: simulator.ledger.connects)
        with contextlib.suppress(ConnectionResetError):
            assert await asyncio.wait_for(reader.read(), DEADLINE_S) == b""
        writer.close()
        assert simulator.open_connections == 0

    for runner in (asyncio.run, uvloop.run):
        runner(scene())


def test_a_simulator_that_was_stopped_starts_again_where_it_was(tmp_path: Path) -> None:
    async def scene() -> None:
        simulator, key = Simulator(["127.0.0.1:0", "127.0.0.1:0"], tmp_path / "apns"), provider_key(tmp_path)
        async with simulator:
            ports = simulator.ports
        async with simulator:
            assert simulator.ports == ports
            talk = await connect(tmp_path, simulator, key)
            await talk.close()

    asyncio.run(scene())


def test_a_shut_listener_is_not_there_until_it_is_again(tmp_path: Path) -> None:
    async def scene() -> None:
        faults = "rules: [{match: {connection: 2}, do: {shut_listener: 30}}]"
        async with scenery(tmp_path, faults) as (simulator, key, time):
            talk, port = await connect(tmp_path, simulator, key), simulator.port
            slips: list[object] = []
            asyncio.get_running_loop().set_exception_handler(lambda loop, slip: slips.append(slip))
            with pytest.raises(ConnectionResetError):
                await connect(tmp_path, simulator, key)
            for _ in range(3):
                with pytest.raises(ConnectionRefusedError):
                    await connect(tmp_path, simulator, key)
            assert simulator.is_listening == [False]
            assert await talk.status("00") == 200
            time.advance(30)
            again = await connect(tmp_path, simulator, key)
            assert await again.status("00") == 200
            assert (simulator.port, simulator.is_listening, slips) == (port, [True], [])
            await talk.close()
            await again.close()

    for runner in (asyncio.run, uvloop.run):
        runner(scene())


def test_a_simulator_that_stops_while_shut_stays_shut(tmp_path: Path) -> None:
    async def scene() -> None:
        faults = "rules: [{do: {shut_listener: 30}}]"
        async with scenery(tmp_path, faults) as (simulator, key, time):
            with pytest.raises(ConnectionResetError):
                await connect(tmp_path, simulator, key)
        time.advance(60)
        assert simulator.is_listening == [False]

    asyncio.run(scene())


def test_too_many_connects_a_minute_are_an_attack(tmp_path: Path) -> None:
    async def scene() -> None:
        async with scenery(tmp_path, "abuse: {connects: 3, refuse: 300}") as (simulator, key, time):
            talks = [await connect(tmp_path, simulator, key) for _ in range(3)]
            for _ in range(2):
                with pytest.raises(ConnectionResetError):
                    await connect(tmp_path, simulator, key)
                time.advance(100)
            assert [await talk.status("00") for talk in talks] == [200] * 3
            time.advance(101)
            talks.append(await connect(tmp_path, simulator, key))
            assert simulator.ledger.refused_connects == 2
            for talk in talks:
                await talk.close()

    asyncio.run(scene())


class OutOfDescriptors(socket.socket):
    """A listening socket that cannot take anybody in, for a while."""

    failures = 1

    def accept(self) -> tuple[socket.socket, object]:
        if self.failures:
            self.failures -= 1
            raise OSError(errno.EMFILE, "too many open files")
        return super().accept()


def test_out_of_descriptors_a_listener_rests_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door, "_PAUSE_S", 0.02)
    monkeypatch.setattr(socket, "socket", OutOfDescriptors)

    async def scene() -> None:
        async with scenery(tmp_path, "") as (simulator, key, _):
            talk = await connect(tmp_path, simulator, key)
            assert await talk.status("00") == 200
            await talk.close()

    with structlog.testing.capture_logs() as logs:
        asyncio.run(scene())
    assert [each["event"] for each in logs].count("simulator_accept_failed") == 1


# Several addresses


def test_of_several_listeners_one_is_broken_for_chosen_tokens(tmp_path: Path) -> None:
    async def scene() -> None:
        faults = "rules: [{match: {listener: 2, token: '55'}, do: {status: 500}}]"
        listen = ["127.0.0.1:0", "127.0.0.1:0", "[::1]:0"]
        async with scenery(tmp_path, faults, listen=listen) as (simulator, key, _):
            assert len(set(simulator.ports)) == 3
            assert simulator.addresses[2] == f"[::1]:{simulator.ports[2]}"
            one, two = await connect(tmp_path, simulator, key), await connect(tmp_path, simulator, key, 2)
            assert [await one.status("00"), await one.status("55")] == [200, 200]
            assert [await two.status("00"), await two.status("55")] == [200, 500]
            assert [each.listener for each in simulator.connections] == [1, 2]
            await one.close()
            await two.close()

    for runner in (asyncio.run, uvloop.run):
        runner(scene())


def test_an_address_that_is_taken_leaves_none_of_the_others_open(tmp_path: Path) -> None:
    async def scene() -> None:
        async with running_simulator(tmp_path) as first:
            second = Simulator(["127.0.0.1:0", first.address], tmp_path / "apns")
            with pytest.raises(OSError, match="in use"):
                await second.start()
            assert second.is_listening == [False]

    asyncio.run(scene())


# The end of a connection


@pytest.mark.parametrize(
    ("how", "ending"),
    [
        ("clean", ("close_notify", "")),
        ("no_notify", ("nothing", "FIN")),
        ("reset", ("nothing", "RST")),
    ],
)
def test_a_client_can_tell_how_a_connection_ended(tmp_path: Path, how: str, ending: tuple[str, str]) -> None:
    async def scene() -> None:
        faults = f"rules: [{{when: connect, do: {{close: {how}}}}}]"
        async with scenery(tmp_path, faults) as (simulator, _, _):
            seen = await asyncio.to_thread(_read_to_the_end, client_context(tmp_path), simulator.port)
            assert seen == ending
            await until(lambda: simulator.open_connections == 0)

    for runner in (asyncio.run, uvloop.run):
        runner(scene())


def _read_to_the_end(context: ssl.SSLContext, port: int) -> tuple[str, str]:
    """What TLS and what TCP say at the end; side by side, as Python's own wrapper takes RST for EOF."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls, tcp_end, tls_end, is_shaken = (
        context.wrap_bio(incoming, outgoing, server_hostname="localhost"),
        "",
        "nothing",
        False,
    )
    with socket.create_connection(("127.0.0.1", port), DEADLINE_S) as plain:
        while not tcp_end:
            try:
                if not is_shaken:
                    tls.do_handshake()
                    is_shaken = True
                while tls_end == "nothing":
                    tls_end = "nothing" if tls.read(4096) else "close_notify"
            except ssl.SSLWantReadError:
                pass
            if tls_end == "close_notify":
                break  # FIN comes when we have let go, too
            try:
                plain.sendall(outgoing.read())
                data = plain.recv(65_536)
                incoming.write(data)
                tcp_end = "" if data else "FIN"
            except ConnectionResetError:
                tcp_end = "RST"
    return tls_end, tcp_end


def test_a_half_closed_connection_goes_on_reading(tmp_path: Path) -> None:
    async def scene() -> None:
        faults = "rules: [{match: {token: '55'}, do: {close: half}}]"
        async with scenery(tmp_path, faults) as (simulator, key, _):
            talk = await connect(tmp_path, simulator, key)
            assert await talk.status("00") == 200
            talk.write("55")
            assert await talk.read_all()  # to its end: FIN has come
            assert simulator.open_connections in (0, 1)  # asyncio's client lets go of its half at once
            await talk.close()

    asyncio.run(scene())


def test_half_closed_beneath_a_client_that_stays(tmp_path: Path) -> None:
    """Plain HTTP/2, so that the client's half can stay open: its next request is read, and never answered."""

    async def scene() -> None:
        faults = "rules: [{match: {token: '55'}, do: {close: half}}]"
        async with scenery(tmp_path, faults, is_plain=True) as (simulator, key, _):
            reader, writer = await asyncio.open_connection("127.0.0.1", simulator.port)
            talk = Talk(reader, writer, key.bearer(START - 60))
            assert await talk.status("00") == 200
            talk.write("55")
            await talk.read_all()
            talk.write("66")
            await until(lambda: simulator.accepted["66"] == 1)
            assert simulator.open_connections == 1
            await talk.close()

    for runner in (asyncio.run, uvloop.run):
        runner(scene())


# Time


def test_an_hour_of_token_life_on_a_real_socket_takes_no_time(tmp_path: Path) -> None:
    async def scene() -> None:
        faults = "rules: [{match: {token: '55'}, do: {delay: 60}}]"
        async with scenery(tmp_path, faults) as (simulator, key, time):
            talk = await connect(tmp_path, simulator, key)
            assert await talk.status("00") == 200
            late = talk.write("55")
            await until(lambda: simulator.connections[0].requests == 2)
            await asyncio.sleep(0)  # the read that brought it has been dealt with
            time.advance(60)
            assert await talk.answer(late) == 200
            time.advance(3600)
            assert await talk.status("00") == 403
            assert simulator.requests[-1].reason == "ExpiredProviderToken"
            await talk.close()

    for runner in (asyncio.run, uvloop.run):
        runner(scene())


def test_apples_clock_goes_wrong_while_it_runs(tmp_path: Path) -> None:
    async def scene() -> None:
        async with scenery(tmp_path, "") as (simulator, key, _):
            talk = await connect(tmp_path, simulator, key)
            assert await talk.status("00") == 200
            simulator.use_faults(parse_faults("clock_offset: 3600"))
            assert await talk.status("00") == 403
            await talk.close()

    asyncio.run(scene())


# Clients that nobody here wrote


@needs_curl
def test_curl_understands_odd_frames_and_tells_apart_odd_ends(tmp_path: Path) -> None:
    faults = parse_faults(
        """
        window: {initial: 10, step: 32768}
        rules:
          - match: {token: "01"}
            do: {status: 410, answer: {pieces: 5, trailers: true, continuations: 3, padding: 9, interim: 103}}
          - {match: {token: "02"}, do: {status: 500, answer: {body: none}}}
          - {match: {token: "03"}, do: {close: reset}}
          - {match: {token: "04"}, do: {answer: {continuations: 2, priority: true}}}
        """
    )

    async def scene() -> None:
        key = provider_key(tmp_path)
        async with running_simulator(tmp_path, faults) as simulator:
            said = [await asyncio.to_thread(_curl, simulator, key, f"0{number}") for number in range(1, 5)]
            assert said[0] == (0, '{"reason":"Unregistered"}410')
            assert said[1] == (0, "500")
            assert said[2][0] != 0
            assert said[3] == (0, "200")
            assert not any(each.violation for each in simulator.connections)

    asyncio.run(scene())


def _curl(simulator: Simulator, key: Key, token: str) -> tuple[int, str]:
    done = subprocess.run(
        ["curl", "--http2", "-s", "--max-time", "5", "--cacert", simulator.ca_path, "-w", "%{http_code}",
         "-H", "apns-topic: com.example.news", "-H", f"authorization: {key.bearer()}", "-d", "{}" + " " * 99,
         f"https://localhost:{simulator.port}/3/device/{token}"],
        capture_output=True, text=True, timeout=10, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout
