"""Bodies: gzip in pieces, limits after decompression, the budget."""

import asyncio
import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from momentum_push.injection.http_answers import RequestRefused
from momentum_push.injection.http_body import PIECE, Budget, Gunzip
from momentum_push.injection.http_lines import MAX_LINE, Line, Splitter, batches
from tests.helpers.http import DOMAIN, TOKEN, FakeListen, HttpDoor, Reply, http_door, raw

POST = b"POST /v1/notifications HTTP/1.1\r\nHost: x\r\n"
BODY = f'{{"domain":"{DOMAIN}","device_tokens":["{TOKEN}"],"payload":{{"aps":{{}}}}}}'.encode()


def inflate(data: bytes, step: int) -> bytes:
    gunzip = Gunzip()
    pieces = [out for at in range(0, len(data), step) for out in gunzip.feed(data[at : at + step])]
    gunzip.finish()
    assert all(0 < len(piece) <= PIECE for piece in pieces)
    return b"".join(pieces)


@pytest.mark.parametrize("step", [1, 7, 1_000_000])
@pytest.mark.parametrize(
    "text",
    [b"", b"a", BODY * 3, b"x" * (PIECE * 3), bytes(range(256)) * 1000],
    ids=["empty", "one", "body", "bomb", "mixed"],
)
def test_gzip_comes_out_whole_in_bounded_pieces(text: bytes, step: int) -> None:
    assert inflate(gzip.compress(text), step) == text


def test_members_follow_each_other_and_padding_is_passed_over() -> None:
    data = gzip.compress(b"one,") + gzip.compress(b"two") + b"\0" * 40
    assert inflate(data, 3) == inflate(data, 10_000) == b"one,two"


@given(st.binary(min_size=1, max_size=60))
def test_rubbish_is_refused_and_nothing_else_happens(data: bytes) -> None:
    try:
        inflate(data, 5)
    except RequestRefused as refused:
        assert (refused.status, refused.error) == (400, "BadEncoding")


def post(body: bytes, *headers: str, **options: object) -> tuple[Reply, HttpDoor]:
    async def run() -> tuple[Reply, HttpDoor]:
        async with http_door(FakeListen(**options)) as door:  # type: ignore[arg-type]
            return await door.post("/v1/notifications", body, *headers), door

    return asyncio.run(run())


def test_gzip_is_taken_and_its_limit_counts_what_comes_out() -> None:
    body = gzip.compress(BODY)
    for size, status in ((len(BODY), 200), (len(BODY) - 1, 413)):
        reply, door = post(body, "Content-Encoding: GZip", max_request_size=size)
        assert reply.status == status
        assert len(door.intake.accepted) == (status == 200)
    assert reply.json["error"] == "RequestTooLarge"


@pytest.mark.parametrize(
    ("body", "headers", "status", "error"),
    [
        (b"not gzip at all", ["Content-Encoding: gzip"], 400, "BadEncoding"),
        (gzip.compress(BODY)[:-9], ["Content-Encoding: gzip"], 400, "BadEncoding"),
        (b"", ["Content-Encoding: gzip"], 400, "BadEncoding"),
        (zlib.compress(BODY), ["Content-Encoding: deflate"], 415, "UnsupportedEncoding"),
        (BODY, ["Content-Encoding: gzip, gzip"], 415, "UnsupportedEncoding"),
        (BODY, ["Content-Encoding: gzip", "Content-Encoding: br"], 415, "UnsupportedEncoding"),
        (gzip.compress(b" " * 50_000_000), ["Content-Encoding: gzip"], 413, "RequestTooLarge"),
        (BODY, ["Content-Type: text/plain"], 415, "UnsupportedMediaType"),
        (b" " * 1_000_001, [], 413, "RequestTooLarge"),
    ],
)
def test_bodies_that_cannot_be_taken(body: bytes, headers: list[str], status: int, error: str) -> None:
    reply, door = post(body, *headers)
    assert (reply.status, reply.json["error"]) == (status, error)
    assert door.meters.rejections["http", error] == 1


def test_a_chunked_body_is_measured_as_it_comes() -> None:
    async def run() -> None:
        async with http_door(FakeListen(max_request_size=150)) as door:
            head = POST + b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
            whole = b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)
            assert (await raw(door.port, head + whole)).status == 200
            reply = await raw(
                door.port, head, b"40\r\n" + b" " * 64 + b"\r\n", b"80\r\n" + b" " * 128 + b"\r\n"
            )
            assert reply.status == 413  # and the answer arrives although the client was still sending

    asyncio.run(run())


def test_a_body_that_is_announced_too_large_is_refused_before_it_is_sent() -> None:
    async def run() -> None:
        async with http_door() as door:
            reply = await raw(door.port, POST + b"Content-Length: 1000001\r\nExpect: 100-continue\r\n\r\n")
            assert reply.status == 413
            assert reply.headers["connection"] == "close"

    asyncio.run(run())


def test_budget_is_given_back_and_a_request_alone_is_always_served() -> None:
    budget = Budget(100)
    with budget.hold() as alone:
        alone.grow(500)
        with budget.hold() as second, pytest.raises(RequestRefused) as caught:
            second.grow(1)
        assert (caught.value.status, caught.value.headers["Retry-After"]) == (503, "1")
    assert budget.used == 0


LINES = [
    (b"", []),
    (b"a", [(1, b"a")]),
    (b"a\n", [(1, b"a")]),
    (b"a\r\n\n  \nb\n", [(1, b"a\r"), (4, b"b")]),
    (b"x" * (MAX_LINE + 1) + b"\nb", [(1, None), (2, b"b")]),
    (b"a\n" + b"x" * (MAX_LINE * 3), [(1, b"a"), (2, None)]),
    (b"x" * MAX_LINE + b"\n", [(1, b"x" * MAX_LINE)]),
]


@pytest.mark.parametrize("step", [1, 1000, 10_000_000])
@pytest.mark.parametrize(("data", "lines"), LINES, ids=range(len(LINES)))
def test_lines_are_the_same_however_the_stream_is_cut(
    data: bytes, lines: list[tuple[int, bytes | None]], step: int
) -> None:
    step = max(step, len(data) // 500)
    splitter = Splitter()
    found: list[Line] = []
    for at in range(0, len(data), step):
        found += splitter.feed(data[at : at + step])
        assert len(splitter._rest) <= MAX_LINE
    assert found + splitter.finish() == [Line(*line) for line in lines]


def test_lists_have_at_most_a_thousand_lines() -> None:
    async def run() -> list[int]:
        async def chunks():  # type: ignore[no-untyped-def]
            yield b"x\n" * 2500
            yield b"y" * 10

        return [len(batch) async for batch in batches(chunks())]

    assert asyncio.run(run()) == [1000, 1000, 501]
