"""`Idempotency-Key`: the same answer to the same request, and nothing is queued twice."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from momentum_push.errors import SpoolError
from momentum_push.injection.http_lines import MAX_BATCH, MAX_LINE, batches, ended
from tests.helpers.http import FakeListen, HttpDoor, Reply, http_door, raw
from tests.helpers.lists import token_of
from tests.helpers.taking import DOMAIN, Door

PATH = "/v1/notifications"
NDJSON = "Content-Type: application/x-ndjson"
KEY = 'Idempotency-Key: "8e03978e-40d5"'


def play(scene: Callable[[HttpDoor, Door], Coroutine[Any, Any, None]], **options: Any) -> None:
    async def with_deadline() -> None:
        async with asyncio.timeout(30):
            taking = Door()
            async with http_door(FakeListen(**options), intake=taking.intake) as door:
                await scene(door, taking)

    asyncio.run(with_deadline())


def body(count: int = 3, **more: Any) -> dict[str, Any]:
    return {
        "domain": DOMAIN,
        "notifications": [
            {"device_token": token_of(n) if n % 7 else "bad", "payload": {"aps": {"alert": "x"}}}
            for n in range(1, count + 1)
        ],
    } | more


def lines(count: int, first: int = 1) -> bytes:
    """Every 7th token is bad, every 11th line no JSON."""
    made = [
        json.dumps(
            {"device_token": token_of(n) if n % 7 else "bad", "payload": {"aps": {"alert": f"n{n}"}}}
        ).encode()
        if n % 11
        else b"{no json"
        for n in range(first, first + count)
    ]
    return b"\n".join(made) + b"\n"


def test_a_request_that_comes_again_has_the_same_answer_and_queues_nothing() -> None:
    async def scene(door: HttpDoor, taking: Door) -> None:
        first = await door.post(PATH, body(20), KEY)
        assert (first.status, first.json["accepted"], first.json["rejected"]) == (200, 18, 2)
        again = await door.post(PATH, body(20), KEY)
        assert (again.status, again.body) == (first.status, first.body)
        assert len(taking.store.sequences) == 18
        bare = await door.post(PATH, body(20), "idempotency-key: 8e03978e-40d5")
        assert bare.body == first.body
        other = await door.post(PATH, body(20), 'Idempotency-Key: "other"')
        assert other.json["results"] != first.json["results"]
        assert len(taking.store.sequences) == 36

    play(scene)


def test_another_body_is_422_and_says_what_to_do() -> None:
    async def scene(door: HttpDoor, taking: Door) -> None:
        await door.post(PATH, body(3), KEY)
        reply = await door.post(PATH, body(4), KEY)
        assert (reply.status, reply.json["error"]) == (422, "IdempotencyKeyReused")
        assert "use a new key" in reply.json["detail"]
        assert len(taking.store.sequences) == 3
        assert door.meters.rejections["http", "IdempotencyKeyReused"] == 1

    play(scene)


def test_while_the_first_is_under_way_it_is_409_with_retry_after() -> None:
    async def scene(door: HttpDoor, taking: Door) -> None:
        taking.store.gate.clear()
        first = asyncio.create_task(door.post(PATH, body(3), KEY))
        while not taking.store.entered:
            await asyncio.sleep(0.001)
        reply = await door.post(PATH, body(3), KEY)
        assert (reply.status, reply.json["error"]) == (409, "IdempotencyKeyInUse")
        assert reply.headers["retry-after"] == "1"
        taking.store.gate.set()
        assert (await door.post(PATH, body(3), KEY)).body == (await first).body

    play(scene)


@pytest.mark.parametrize(
    "value", ['""', "", '"a', "two words", "a, b", '"\\x"', '"' + "k" * 256 + '"', '"ä"', '"a";q=1']
)
def test_a_header_that_is_no_key_is_400(value: str) -> None:
    async def scene(door: HttpDoor, taking: Door) -> None:
        reply = await door.post(PATH, body(), f"Idempotency-Key: {value}".encode().decode("latin-1"))
        assert (reply.status, reply.json["error"]) == (400, "BadIdempotencyKey")
        assert not taking.store.commits

    play(scene)


def test_two_headers_are_400() -> None:
    async def scene(door: HttpDoor, taking: Door) -> None:
        assert (await door.post(PATH, body(), KEY, KEY)).status == 400
        assert (await door.post(PATH, lines(2), NDJSON, KEY, KEY)).status == 400

    play(scene)


def test_a_key_is_of_its_domain_and_its_kind_of_request() -> None:
    async def scene(door: HttpDoor, taking: Door) -> None:
        await door.post(PATH, body(1), KEY)
        await door.post(PATH, body(1, domain="com.example.other.apns"), KEY)
        await door.post(f"{PATH}?domain={DOMAIN}", lines(1), NDJSON, KEY)
        assert len(taking.store.sequences) == 3

    play(scene)


def test_a_stream_that_comes_again_has_the_same_answer() -> None:
    async def scene(door: HttpDoor, taking: Door) -> None:
        stream = lines(2500)
        first = await door.post(f"{PATH}?domain={DOMAIN}", stream, NDJSON, KEY)
        count = len(taking.store.sequences)
        assert first.json["accepted"] == count > 1900
        again = await door.post(f"{PATH}?domain={DOMAIN}", stream, NDJSON, KEY)
        assert (again.status, again.body) == (first.status, first.body)
        assert len(taking.store.sequences) == count
        assert taking.meters.duplicate_injections == {"http": 3}

    play(scene)


@pytest.mark.parametrize("other", [lines(2000), lines(3000), lines(2501), b"\n" + lines(2499, 2)])
def test_a_shorter_longer_or_other_stream_under_the_key_is_422(other: bytes) -> None:
    async def scene(door: HttpDoor, taking: Door) -> None:
        await door.post(f"{PATH}?domain={DOMAIN}", lines(2500), NDJSON, KEY)
        count = len(taking.store.sequences)
        reply = await door.post(f"{PATH}?domain={DOMAIN}", other, NDJSON, KEY)
        assert (reply.status, reply.json["error"]) == (422, "IdempotencyKeyReused")
        assert len(taking.store.sequences) == count

    play(scene)


def test_a_stream_goes_on_where_the_disk_gave_up() -> None:
    async def scene(door: HttpDoor, taking: Door) -> None:
        append = taking.store.append

        async def twice(*given: Any) -> None:
            if taking.store.entered == 2:
                raise SpoolError("spool: broken; mend it")
            await append(*given)

        taking.store.append = twice  # type: ignore[method-assign]
        broken = await door.post(f"{PATH}?domain={DOMAIN}", lines(4500), NDJSON, KEY)
        assert broken.status == 503
        half = taking.store.sequences[:]
        taking.store.append = append  # type: ignore[method-assign]
        whole = await door.post(f"{PATH}?domain={DOMAIN}", lines(4500), NDJSON, KEY)
        assert whole.status == 200
        assert whole.json["results"][:2000] == broken.json["results"]
        assert len(set(taking.store.sequences)) == len(taking.store.sequences) == whole.json["accepted"]
        assert taking.store.sequences[: len(half)] == half
        again = await door.post(f"{PATH}?domain={DOMAIN}", lines(4500), NDJSON, KEY)
        assert again.body == whole.body

    play(scene)


@pytest.mark.parametrize("cut", [100, 150_000, 300_000, 390_000])
def test_a_stream_whose_client_went_away_goes_on_where_it_ended(cut: int) -> None:
    async def scene(door: HttpDoor, taking: Door) -> None:
        stream, plain = lines(4500), await door.post(f"{PATH}?domain={DOMAIN}", lines(4500), NDJSON)
        before = len(taking.store.sequences)
        head = f"POST {PATH}?domain={DOMAIN} HTTP/1.1\r\nHost: x\r\n{NDJSON}\r\n{KEY}\r\n"
        _, writer = await asyncio.open_connection("127.0.0.1", door.port)
        writer.write(f"{head}Content-Length: {len(stream)}\r\n\r\n".encode() + stream[:cut])
        await writer.drain()
        writer.close()
        reply = await _patiently(door, stream)
        assert reply.json["accepted"] == plain.json["accepted"] == len(taking.store.sequences) - before
        assert [list(one) for one in reply.json["results"]] == [list(one) for one in plain.json["results"]]

    play(scene)


async def _patiently(door: HttpDoor, stream: bytes) -> Reply:
    while True:
        reply = await door.post(f"{PATH}?domain={DOMAIN}", stream, NDJSON, KEY)
        if reply.status != 409:
            return reply
        await asyncio.sleep(0.01)


def test_a_template_injection_that_comes_again_has_the_same_answer() -> None:
    template = (
        "Content-Type: multipart/vnd.msys.mcmt; boundary=q\n\n--q\nContent-Type: message/vnd.msys.apn\n\n"
        'X-Device-Token: <%=:tok%>\n\n{"aps":{"alert":"x"}}\n--q--\n'
    )
    recipients = [
        {"to": f"u{n}@{DOMAIN}", "from": "push@example.net", "keys": {"tok": token_of(n)}} for n in (1, 2, 3)
    ]
    request = {"template": template, "recipients": recipients}

    async def scene(door: HttpDoor, taking: Door) -> None:
        first = await door.post("/v1.0/inject", request, KEY)
        assert first.status == 200
        assert (await door.post("/v1.0/inject", request, KEY)).body == first.body
        assert len(taking.store.sequences) == 3
        other = await door.post("/v1.0/inject", request | {"recipients": recipients[:1]}, KEY)
        assert other.status == 422
        assert other.json["status"] == "error"

    play(scene)


def test_what_was_refused_as_a_whole_may_be_put_right_under_its_key() -> None:
    async def scene(door: HttpDoor, taking: Door) -> None:
        bad = await door.post(PATH, body(1, domain="unknown.example"), KEY)
        assert bad.status == 400
        assert (await door.post(PATH, body(1), KEY)).status == 200

    play(scene)


def test_without_a_key_nothing_is_remembered() -> None:
    async def scene(door: HttpDoor, taking: Door) -> None:
        for _ in range(2):
            await raw(door.port, b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            await door.post(PATH, body(2))
        assert len(taking.store.sequences) == 4
        assert not taking.store.receipts

    play(scene)


@pytest.mark.parametrize("length", [1047, 1048, 1049, 1055, 2000])
def test_lists_that_are_full_in_both_measures_are_cut_alike(length: int) -> None:
    text = (b"x" * length + b"\n") * 4000

    async def cut(step: int) -> list[int]:
        async def chunks() -> AsyncIterator[bytes]:
            for start in range(0, len(text), step):
                yield text[start : start + step]

        return [len(lines) async for lines in batches(chunks())]

    fit = min(1000, MAX_BATCH // length)
    whole = [fit] * (4000 // fit) + [4000 % fit] * bool(4000 % fit)
    for step in (len(text), 1_000_000, 300_001, 65_536, 10_007):
        assert asyncio.run(cut(step)) == whole, step


def test_a_line_that_was_half_there_when_a_list_ended_counts_in_the_next() -> None:
    short, long, rest = b"x\n" * 1000, b"y" * 60_000, b"\n" + (b"z" * 1000 + b"\n") * 999

    async def cut(*pieces: bytes) -> list[int]:
        async def chunks() -> AsyncIterator[bytes]:
            for piece in pieces:
                yield piece

        return [len(lines) async for lines in batches(chunks())]

    assert asyncio.run(cut(short + long, rest)) == asyncio.run(cut(short + long + rest)) == [1000, 989, 11]


def test_a_stream_has_its_key_between_its_lists_as_well() -> None:
    async def scene(door: HttpDoor, taking: Door) -> None:
        stream = lines(2500)
        head = (
            f"POST {PATH}?domain={DOMAIN} HTTP/1.1\r\nHost: x\r\n{NDJSON}\r\n{KEY}\r\nConnection: close\r\n"
        )
        reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
        writer.write(f"{head}Content-Length: {len(stream)}\r\n\r\n".encode() + stream[:-1])
        while not taking.store.commits:
            await asyncio.sleep(0.001)
        assert (await door.post(f"{PATH}?domain={DOMAIN}", stream, NDJSON, KEY)).status == 409
        writer.write(stream[-1:])
        assert (await reader.read()).startswith(b"HTTP/1.1 200")
        writer.close()
        assert (await door.post(f"{PATH}?domain={DOMAIN}", stream, NDJSON, KEY)).status == 200
        assert taking.store.commits and taking.meters.duplicate_injections == {"http": 3}

    play(scene)


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.sampled_from([0, 1, 300, 5000, 60_000, MAX_LINE, MAX_LINE + 1]), max_size=90),
    many=st.integers(0, 2500),
    cuts=st.lists(st.integers(1, 200_000), max_size=30),
)
def test_lists_of_a_stream_are_the_same_however_it_is_cut(
    sizes: list[int], many: int, cuts: list[int]
) -> None:
    text = b"".join(b"x" * size + b"\n" for size in sizes) + b"short\n" * many + b"end"

    async def chunks(steps: list[int]) -> AsyncIterator[bytes]:
        start = 0
        for step in steps:
            yield text[start : start + step]
            start += step
        yield text[start:]

    async def cut(steps: list[int]) -> list[list[int]]:
        return [[line.number for line in lines] async for lines in batches(chunks(steps))]

    async def compare() -> None:
        whole = await cut([])
        assert await cut(cuts) == whole
        held = [
            (numbers, last) async for lines, last in ended(batches(chunks(cuts))) for numbers in [len(lines)]
        ]
        assert held == [(len(numbers), number == len(whole)) for number, numbers in enumerate(whole, 1)]
        async for some in batches(chunks(cuts)):
            assert len(some) <= 1000
            assert sum(len(line.text or b"") for line in some) <= MAX_BATCH

    asyncio.run(compare())
