"""Answers in unusual frames, read by hpack and hyperframe (apns.md 9.5, "streams")."""

import pytest
from hpack import Decoder
from hyperframe.frame import ContinuationFrame, DataFrame, Frame, HeadersFrame, PriorityFrame

from momentum_push.simulator.faults import Body, Shape
from momentum_push.simulator.shapes import Shaped, shaped_body, write_shaped

USUAL = b'{"reason":"BadDeviceToken"}'
FIELDS = [("apns-id", "A" * 36), ("content-type", "application/json")]


def written(shape: Shape, body: bytes | None = USUAL, status: int = 400) -> tuple[list[Frame], Shaped]:
    shaped = write_shaped(5, status, FIELDS, body, shape)
    data, frames = shaped.head + shaped.tail, []
    while data:
        frame, length = Frame.parse_frame_header(memoryview(data[:9]))
        frame.parse_body(memoryview(data[9 : 9 + length]))
        frames.append(frame)
        data = data[9 + length :]
    assert {frame.stream_id for frame in frames} == {5}
    return frames, shaped


def kinds(frames: list[Frame]) -> list[type]:
    return [type(frame) for frame in frames]


def fields(*frames: Frame) -> list[tuple[str, str]]:
    block = b"".join(frame.data for frame in frames)  # type: ignore[attr-defined]
    return [(str(name), str(value)) for name, value in Decoder().decode(block)]


def test_no_shape_is_the_usual_pair() -> None:
    frames, shaped = written(Shape())
    assert kinds(frames) == [HeadersFrame, DataFrame]
    assert fields(frames[0]) == [(":status", "400"), *FIELDS]
    assert ("END_STREAM" in frames[0].flags, "END_STREAM" in frames[1].flags) == (False, True)
    assert shaped.cost == len(USUAL)


def test_without_a_body_headers_end_the_stream() -> None:
    frames, shaped = written(Shape(), None)
    assert (kinds(frames), shaped.cost) == ([HeadersFrame], 0)
    assert "END_STREAM" in frames[0].flags


@pytest.mark.parametrize("count", [1, 2, 5, 50])
def test_a_body_in_pieces_is_the_same_body(count: int) -> None:
    frames, _ = written(Shape(pieces=count))
    pieces = [frame for frame in frames if isinstance(frame, DataFrame)]
    assert len(pieces) == count
    assert b"".join(piece.data for piece in pieces) == USUAL
    assert ["END_STREAM" in piece.flags for piece in pieces] == [False] * (count - 1) + [True]


@pytest.mark.parametrize("count", [1, 3])
def test_continuations_carry_the_rest_of_the_header_block(count: int) -> None:
    frames, _ = written(Shape(continuations=count))
    assert kinds(frames) == [HeadersFrame] + [ContinuationFrame] * count + [DataFrame]
    assert fields(*frames[:-1]) == [(":status", "400"), *FIELDS]
    ends = ["END_HEADERS" in frame.flags for frame in frames[:-1]]
    assert ends == [False] * count + [True]


def test_padding_is_paid_for() -> None:
    frames, shaped = written(Shape(padding=20, pieces=2))
    assert all("PADDED" in frame.flags for frame in frames)
    assert fields(frames[0]) == [(":status", "400"), *FIELDS]
    assert shaped.cost == len(USUAL) + 2 * 21
    assert sum(frame.flow_controlled_length for frame in frames[1:]) == shaped.cost  # type: ignore[attr-defined]


@pytest.mark.parametrize("body", [USUAL, None])
def test_trailers_end_the_stream(body: bytes | None) -> None:
    frames, _ = written(Shape(has_trailers=True), body)
    assert isinstance(frames[-1], HeadersFrame)
    assert ["END_STREAM" in frame.flags for frame in frames] == [False] * (len(frames) - 1) + [True]
    assert fields(frames[-1]) == [("apns-trailer", "end")]


def test_priority_comes_as_frame_and_as_flag() -> None:
    frames, _ = written(Shape(has_priority=True, padding=3, continuations=1))
    assert kinds(frames) == [PriorityFrame, HeadersFrame, ContinuationFrame, DataFrame]
    assert "PRIORITY" in frames[1].flags
    assert fields(*frames[1:3]) == [(":status", "400"), *FIELDS]


def test_an_interim_answer_comes_first_and_ends_nothing() -> None:
    frames, _ = written(Shape(interim=103))
    assert fields(frames[0]) == [(":status", "103")]
    assert "END_STREAM" not in frames[0].flags
    assert fields(frames[1])[0] == (":status", "400")


@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        (None, USUAL),
        (Body.NONE, None),
        (Body.EMPTY, b""),
        (Body.NULL, b'{"reason":null}'),
        (Body.LIST, b'["reason"]'),
    ],
)
def test_bodies(body: Body | None, wanted: bytes | None) -> None:
    assert shaped_body(USUAL, Shape(body=body)) == wanted


def test_every_odd_body_is_some_body() -> None:
    assert all(shaped_body(USUAL, Shape(body=body)) is not None for body in Body if body is not Body.NONE)
