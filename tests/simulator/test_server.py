"""The simulator on a real socket, met by clients that nobody here wrote: curl, nghttp, h2load."""

import asyncio
import json
import shutil
import ssl
from pathlib import Path

import pytest
import uvloop

from momentum_push.simulator import Device, Simulator, State, parse_faults
from tests.helpers.apns import (
    client_context,
    provider_certificate,
    provider_key,
    running_simulator,
    until,
)

DEADLINE_S = 20
TOKEN = "ab" * 32


def needs(program: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"{program} is not installed")


async def run(*command: str | Path) -> tuple[int, str]:
    """Run a client; return its status and everything it said."""
    process = await asyncio.create_subprocess_exec(
        *map(str, command), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    said, _ = await asyncio.wait_for(process.communicate(), DEADLINE_S)
    return process.returncode or 0, said.decode()


async def curl(simulator: Simulator, *options: str | Path, token: str = TOKEN) -> tuple[int, str, str]:
    """POST with curl; return curl's own status, what it said, and HTTP's status."""
    url = f"https://localhost:{simulator.port}/3/device/{token}"
    base = ["--http2", "-sS", "-i", "--max-time", "5", "--cacert", simulator.ca_path, "-d", '{"aps":{}}']
    code, said = await run("curl", *base, "-H", "apns-topic: com.example.news", *options, url)
    return code, said, said.split()[1] if said.startswith("HTTP/2") else ""


@needs("curl")
def test_curl_is_accepted_with_a_provider_token(tmp_path: Path) -> None:
    async def scene() -> None:
        bearer = provider_key(tmp_path).bearer()
        async with running_simulator(tmp_path, ledger=tmp_path / "l.jsonl") as simulator:
            given = "aabbccdd-0000-4000-8000-00000000ffff"
            _, said, status = await curl(
                simulator, "-H", f"authorization: {bearer}", "-H", f"apns-id: {given}"
            )
            assert status == "200"
            assert f"apns-id: {given}" in said
            assert simulator.accepted == {TOKEN: 1}
            await until(lambda: simulator.connections[0].closed_at)
            assert simulator.connections[0].violation == ""
        line = json.loads((tmp_path / "l.jsonl").read_text())
        assert (line["token"], line["status"], line["apns_id"]) == (TOKEN, 200, given)

    asyncio.run(scene())


@needs("curl")
def test_curl_reads_reasons(tmp_path: Path) -> None:
    async def scene() -> None:
        bearer = provider_key(tmp_path).bearer()
        async with running_simulator(tmp_path) as simulator:
            _, said, status = await curl(simulator)
            assert (status, said.splitlines()[-1]) == ("403", '{"reason":"MissingProviderToken"}')
            simulator.put_device(Device(TOKEN, state=State.DEAD, since=1767600000))
            _, said, status = await curl(simulator, "-H", f"authorization: {bearer}")
            assert status == "410"
            assert said.splitlines()[-1] == '{"reason":"Unregistered","timestamp":1767600000000}'

    asyncio.run(scene())


@needs("curl")
def test_curl_with_a_client_certificate_needs_no_token(tmp_path: Path) -> None:
    async def scene() -> None:
        async with running_simulator(tmp_path) as simulator:
            certificate, key = provider_certificate(tmp_path, "com.example.news")
            _, _, status = await curl(simulator, "--cert", certificate, "--key", key)
            assert status == "200"
            assert simulator.connections[0].uid == "com.example.news"
            wrong, key = provider_certificate(
                tmp_path, "com.example.news", environment="sandbox", name="sandbox"
            )
            code, _, status = await curl(simulator, "--cert", wrong, "--key", key)
            assert (code != 0, status) == (True, "")
            assert simulator.connections[1].goaways == 1

    asyncio.run(scene())


@needs("curl")
def test_certificates_of_strangers_are_refused_in_the_handshake(tmp_path: Path) -> None:
    async def scene() -> None:
        stranger = provider_certificate(tmp_path / "elsewhere")
        async with running_simulator(tmp_path) as simulator:
            code, _, status = await curl(simulator, "--cert", stranger[0], "--key", stranger[1])
            assert (code != 0, status) == (True, "")
            assert simulator.requests == []

    asyncio.run(scene())


@needs("curl")
def test_faults_are_seen_by_curl(tmp_path: Path) -> None:
    faults = parse_faults(
        """
        rules:
          - {match: {token: "01"}, do: {status: 503, retry_after: 7}}
          - {match: {token: "02"}, do: {reset: INTERNAL_ERROR}}
          - {match: {token: "03"}, do: {accept_then_close: true}}
          - {match: {token: "04"}, do: {delay: 0.2}}
          - {match: {token: "05"}, do: {goaway: {graceful: true}, delay: 0.01}}
        """
    )

    async def scene() -> None:
        bearer = f"authorization: {provider_key(tmp_path).bearer()}"
        async with running_simulator(tmp_path, faults) as simulator:
            _, said, status = await curl(simulator, "-H", bearer, token="01")
            assert (status, "retry-after: 7" in said) == ("503", True)
            assert (await curl(simulator, "-H", bearer, token="02"))[0] == 92  # HTTP/2 stream error
            code, _, _ = await curl(simulator, "-H", bearer, token="03")
            assert code != 0
            assert simulator.accepted["03"] >= 1
            assert (await curl(simulator, "-H", bearer, "-w", "%{time_total}", token="04"))[2] == "200"
            assert (await curl(simulator, "-H", bearer, token="05"))[2] == "200"

    asyncio.run(scene())


@needs("nghttp")
def test_nghttp_sees_the_settings_of_apple_and_the_raise(tmp_path: Path) -> None:
    async def scene() -> None:
        (tmp_path / "body").write_text('{"aps":{}}')
        bearer = provider_key(tmp_path).bearer()
        async with running_simulator(tmp_path) as simulator:
            headers = [f"-Hauthorization: {bearer}", "-Hapns-topic: com.example.news"]
            url = f"https://127.0.0.1:{simulator.port}/3/device/{TOKEN}"
            _, said = await run("nghttp", "-v", "-y", "-d", tmp_path / "body", *headers, url)
        assert "SETTINGS_MAX_CONCURRENT_STREAMS(0x03):1]" in said
        assert "SETTINGS_MAX_CONCURRENT_STREAMS(0x03):1000]" in said
        assert "SETTINGS_MAX_HEADER_LIST_SIZE(0x06):8000]" in said
        assert ":status: 200" in said

    asyncio.run(scene())


@needs("h2load")
def test_h2load_gets_every_answer_over_many_connections(tmp_path: Path) -> None:
    async def scene() -> None:
        (tmp_path / "body").write_text('{"aps":{"alert":"Ferry cancelled"}}')
        key = provider_key(tmp_path)
        faults = parse_faults("streams: {first: 1000}")
        async with running_simulator(tmp_path, faults) as simulator:
            headers = ["-H", f"authorization: {key.bearer()}", "-H", "apns-topic: com.example.news"]
            url = f"https://127.0.0.1:{simulator.port}/3/device/{TOKEN}"
            load = ["-n", "2000", "-c", "3", "-m", "100", "-d", tmp_path / "body"]
            _, said = await run("h2load", *load, *headers, url)
            assert "2000 succeeded, 0 failed, 0 errored" in said
            assert simulator.accepted[TOKEN] == 2000
            assert len(simulator.connections) == 3
            assert not any(each.violation or each.limit_breaches for each in simulator.connections)

    asyncio.run(scene())


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_only_h2_and_only_new_tls_are_served(tmp_path: Path) -> None:
    async def scene() -> None:
        async with running_simulator(tmp_path) as simulator:
            context = client_context(tmp_path)
            context.set_alpn_protocols(["http/1.1"])
            with pytest.raises((ssl.SSLError, ConnectionError)):
                await fetch_nothing(simulator, context)
            context = client_context(tmp_path)
            context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
            context.maximum_version = ssl.TLSVersion.TLSv1_1
            with pytest.raises((ssl.SSLError, ConnectionError)):
                await fetch_nothing(simulator, context)

    asyncio.run(scene())


async def fetch_nothing(simulator: Simulator, context: ssl.SSLContext) -> None:
    reader, writer = await asyncio.open_connection("localhost", simulator.port, ssl=context)
    try:
        if not await asyncio.wait_for(reader.read(1), 5):
            raise ConnectionError("closed")
    finally:
        writer.close()


def test_a_hanging_connection_says_nothing_and_a_stopped_simulator_ends_it(tmp_path: Path) -> None:
    async def scene() -> None:
        faults = parse_faults("rules: [{do: {hang_before_settings: true}}]")
        async with running_simulator(tmp_path, faults) as simulator:
            context = client_context(tmp_path)
            reader, writer = await asyncio.open_connection("localhost", simulator.port, ssl=context)
            writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00")
            await until(lambda: simulator.open_connections == 1)
            reading = asyncio.create_task(reader.read(1))
            done, _ = await asyncio.wait([reading], timeout=0.1)
            assert not done
        assert simulator.open_connections == 0
        result = await asyncio.wait_for(asyncio.gather(reading, return_exceptions=True), 5)
        assert result[0] == b"" or isinstance(result[0], OSError)
        writer.close()

    asyncio.run(scene())


def test_connections_can_be_cut_and_faults_exchanged_while_it_runs(tmp_path: Path) -> None:
    async def scene() -> None:
        async with running_simulator(tmp_path) as simulator:
            context = client_context(tmp_path)
            _, writer = await asyncio.open_connection("localhost", simulator.port, ssl=context)
            await until(lambda: simulator.open_connections == 1)
            simulator.drop_connections()
            await until(lambda: simulator.open_connections == 0)
            writer.close()
            simulator.use_faults(parse_faults("rules: [{when: connect, do: {close: true}}]"))
            reader, writer = await asyncio.open_connection("localhost", simulator.port, ssl=context)
            await asyncio.wait_for(reader.read(), 5)
            writer.close()
            await until(lambda: simulator.open_connections == 0)

    asyncio.run(scene())


def test_ipv6_and_uvloop_will_do_too(tmp_path: Path) -> None:
    async def scene() -> None:
        async with Simulator("[::1]:0", tmp_path / "apns") as simulator:
            assert simulator.address == f"[::1]:{simulator.port}"
            context = client_context(tmp_path)
            reader, writer = await asyncio.open_connection("::1", simulator.port, ssl=context)
            writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00")
            assert (await asyncio.wait_for(reader.readexactly(4), 5))[3] == 4  # SETTINGS
            writer.close()

    for runner in (asyncio.run, uvloop.run):
        runner(scene())


@needs("nghttp")
def test_plain_http2_is_there_for_measuring(tmp_path: Path) -> None:
    async def scene() -> None:
        async with running_simulator(tmp_path, is_plain=True) as simulator:
            _, said = await run("nghttp", "-v", f"http://127.0.0.1:{simulator.port}/3/device/{TOKEN}")
            assert ":status: 405" in said

    asyncio.run(scene())
