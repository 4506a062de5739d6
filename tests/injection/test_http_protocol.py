"""Slow, greedy and rude clients; limits are set short."""

import asyncio
from typing import Any

import pytest

from momentum_push.injection.http_protocol import Limits
from tests.helpers.http import DOMAIN, TOKEN, FakeListen, HttpDoor, Reply, http_door, parse, raw

BODY = f'{{"domain":"{DOMAIN}","device_tokens":["{TOKEN}"],"payload":{{"aps":{{}}}}}}'.encode()
HEAD = b"POST /v1/notifications HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(BODY)
SHORT = Limits(header_timeout_s=0.15, body_grace_s=0.15, write_timeout_s=0.3, linger_s=0.5)


def with_door(talk: Any, limits: Limits = SHORT, **options: Any) -> HttpDoor:
    async def run() -> HttpDoor:
        async with http_door(FakeListen(**options), limits) as door:
            await talk(door)
            return door

    return asyncio.run(run())


def test_headers_that_never_end_get_408() -> None:
    async def talk(door: HttpDoor) -> None:
        reply = await raw(door.port, b"GET /healthz HTTP/1.1\r\nHost: x\r\n", b"X-A: b\r\n", pause=0.05)
        assert (reply.status, reply.json["error"]) == (408, "RequestTimeout")

    door = with_door(talk)
    assert door.meters.rejections["http", "RequestTimeout"] == 1
    assert [rejection.code for rejection in door.records.rejections] == [408]


def test_a_connection_that_says_nothing_is_closed_without_a_word() -> None:
    async def talk(door: HttpDoor) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
        assert await asyncio.wait_for(reader.read(), 5) == b""
        writer.close()

    with_door(talk)


@pytest.mark.parametrize("pieces", [1, 50])
def test_headers_that_are_too_long_get_431(pieces: int) -> None:
    async def talk(door: HttpDoor) -> None:
        line = b"X-A: " + b"a" * (70_000 // pieces) + b"\r\n"
        reply = await raw(door.port, b"GET /healthz HTTP/1.1\r\nHost: x\r\n", *[line] * pieces, b"\r\n")
        assert (reply.status, reply.json["error"]) == (431, "HeadersTooLarge")

    with_door(talk, Limits())


def test_one_header_without_end_is_stopped() -> None:
    async def talk(door: HttpDoor) -> None:
        reply = await raw(door.port, b"GET / HTTP/1.1\r\nX: ", *[b"a" * 10_000] * 20)
        assert reply.status == 431

    with_door(talk, Limits())


def test_a_body_that_dribbles_gets_408() -> None:
    async def talk(door: HttpDoor) -> None:
        dribble = [BODY[at : at + 1] for at in range(10)]
        reply = await raw(door.port, HEAD, *dribble, pause=0.06)
        assert (reply.status, reply.json["error"]) == (408, "RequestTimeout")
        assert door.intake.calls == []

    with_door(talk)


def test_a_body_that_never_begins_gets_408() -> None:
    async def talk(door: HttpDoor) -> None:
        assert (await raw(door.port, HEAD)).status == 408

    with_door(talk)


def test_the_time_of_a_commit_is_not_the_clients() -> None:
    async def talk(door: HttpDoor) -> None:
        door.intake.gate = asyncio.Event()
        asyncio.get_running_loop().call_later(0.5, door.intake.gate.set)
        body = f'{{"device_token":"{TOKEN}","payload":{{}}}}\n'.encode() * 12_000
        head = (
            b"POST /v1/notifications?domain=%s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" % DOMAIN.encode()
        )
        head += b"Content-Type: application/x-ndjson\r\nContent-Length: %d\r\n\r\n" % len(body)
        reply = await raw(door.port, head + body)
        assert reply.status == 200

    # So fast a body is asked for that the half second of the commit would make any client late.
    with_door(talk, Limits(body_grace_s=0.15, min_body_rate=1_000_000_000))


def test_requests_follow_each_other_on_one_connection_and_in_one_packet() -> None:
    async def talk(door: HttpDoor) -> None:
        last = HEAD.replace(b"Host", b"Connection: close\r\nHost")
        reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
        writer.write((HEAD + BODY) * 3 + last + BODY)
        data = await asyncio.wait_for(reader.read(), 5)
        writer.close()
        assert data.count(b"HTTP/1.1 200 OK") == 4

    with_door(talk)


def test_idle_time_closes_a_connection_between_requests() -> None:
    async def talk(door: HttpDoor) -> None:
        door.listen.options["idle_time"] = 0.1
        reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert parse(await asyncio.wait_for(reader.read(), 5)).status == 200
        writer.close()

    with_door(talk, Limits())


def test_connections_above_listener_sessions_get_503() -> None:
    async def talk(door: HttpDoor) -> None:
        _, first = await asyncio.open_connection("127.0.0.1", door.port)
        first.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        reply = await door.get("/healthz")
        assert (reply.status, reply.headers["retry-after"]) == (503, "1")
        first.close()
        await first.wait_closed()
        async with asyncio.timeout(5):
            while (await door.get("/healthz")).status != 200:
                await asyncio.sleep(0.01)

    with_door(talk, Limits(), listener_sessions=1)


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc",
        b"GET\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST /v1/notifications HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET http:// HTTP/1.1\r\n\r\n",
        b"\r\n\r\n\x00",
    ],
)
def test_what_is_not_http_gets_400_and_nothing_breaks(data: bytes) -> None:
    async def talk(door: HttpDoor) -> None:
        reply = await raw(door.port, data)
        assert reply.status == 400
        assert (await door.get("/healthz")).status == 200

    with_door(talk, Limits(header_timeout_s=5))


def test_a_client_that_leaves_in_mid_body_is_forgotten() -> None:
    async def talk(door: HttpDoor) -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", door.port)
        writer.write(HEAD + BODY[:10])
        await writer.drain()
        writer.close()
        async with asyncio.timeout(5):
            while door.listener.connections:
                await asyncio.sleep(0.01)
        assert door.intake.calls == []

    with_door(talk)


def test_a_client_that_does_not_read_its_answer_is_cut_off() -> None:
    async def talk(door: HttpDoor) -> None:
        tokens = ",".join([f'"{TOKEN}"'] * 100_000)
        body = f'{{"domain":"{DOMAIN}","device_tokens":[{tokens}],"payload":{{}}}}'.encode()
        reader, writer = await asyncio.open_connection("127.0.0.1", door.port, limit=1000)
        writer.write(HEAD.replace(str(len(BODY)).encode(), str(len(body)).encode()) + body)
        async with asyncio.timeout(8):
            await writer.drain()
            await door.intake.entered.wait()
            while door.listener.connections:
                await asyncio.sleep(0.02)
        writer.close()
        del reader

    with_door(talk, Limits(write_timeout_s=0.3), max_request_size=0)


async def slow_stop(door: HttpDoor, deadline_s: float) -> list[Reply | BaseException]:
    """Stop while one request waits for its commit and another connection is idle."""
    door.intake.gate = asyncio.Event()
    request = asyncio.create_task(raw(door.port, HEAD + BODY))
    idle = asyncio.create_task(raw(door.port, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"))
    await door.intake.entered.wait()
    stop = asyncio.create_task(door.listener.stop(deadline_s))
    await idle
    if deadline_s > 0.5:
        door.intake.gate.set()
    await stop
    return await asyncio.gather(request, return_exceptions=True)


def test_stop_answers_what_is_in_commit_and_takes_nothing_new() -> None:
    async def talk(door: HttpDoor) -> None:
        (reply,) = await slow_stop(door, 5.0)
        assert isinstance(reply, Reply)
        assert reply.status == 200
        assert reply.headers["connection"] == "close"
        with pytest.raises(OSError):
            await raw(door.port, b"")

    with_door(talk, Limits())


def test_stop_cuts_off_at_its_deadline() -> None:
    async def talk(door: HttpDoor) -> None:
        (reply,) = await slow_stop(door, 0.1)
        assert not isinstance(reply, Reply)
        assert door.listener.connections == 0

    with_door(talk, Limits())
