"""HTTP/2 beneath the requests: every frame in every odd shape, and floods (RFC 9113)."""

from __future__ import annotations

import struct

import pytest
from hpack import Encoder
from hpack.huffman import HuffmanEncoder
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH

from momentum_push.delivery.apns import frames, link
from momentum_push.delivery.apns.frames import Breach, Code, FrameCutter, frame
from momentum_push.delivery.apns.link import Chunk, Credit, Event, Goodbye, Head, Link, Pong, Reset

OK = b"\x88"
SETTINGS = frame(frames.SETTINGS, 0, 0)


def setting(number: int, value: int) -> bytes:
    return frame(frames.SETTINGS, 0, 0, struct.pack(">HI", number, value))


class Line:
    """A link that has heard SETTINGS, and what it says of bytes."""

    def __init__(self, data: bytes = SETTINGS) -> None:
        self.sizes: list[int] = []
        self.link = Link(self.sizes.append)
        self._cutter = FrameCutter()
        self.take(data)
        self.link.out.clear()

    def take(self, data: bytes) -> list[Event]:
        events = [self.link.take(kind, whole) for kind, whole in self._cutter.cut(data)]
        return [event for event in events if event is not None]

    def breach(self, data: bytes) -> Code:
        with pytest.raises(Breach) as caught:
            self.take(data)
        return caught.value.code


def block(*fields: tuple[str, str]) -> bytes:
    encoder = Encoder()
    encoder.header_table_size = 0
    return bytes(encoder.encode(fields))


# --- frames as they should be


@pytest.mark.parametrize(
    ("data", "event"),
    [
        (frame(1, 5, 1, OK), Head(1, 200, b"", True)),
        (frame(1, 4, 1, OK), Head(1, 200, b"", False)),
        (frame(1, 5, 3, b"\x20" + OK), Head(3, 200, b"", True)),
        (frame(1, 5, 1, block((":status", "410"))), Head(1, 410, b"", True)),
        (frame(1, 5, 1, block((":status", "429"), ("retry-after", "7"))), Head(1, 429, b"7", True)),
        (frame(1, 5, 1, block(("x-trailer", "1"))), Head(1, 0, b"", True)),
        (frame(1, 4, 1, block((":status", "103"))), None),
        (frame(1, 5, 1, block((":status", "103"))), Head(1, 0, b"", True)),
        (frame(1, 5, 1, block((":status", "2000"))), Head(1, 0, b"", True)),
        (frame(1, 5, 1, block((":status", "abc"))), Head(1, 0, b"", True)),
        (frame(1, 5 | 8, 1, b"\2" + OK + b"\0\0"), Head(1, 200, b"", True)),
        (frame(1, 5 | 32, 1, bytes(5) + OK), Head(1, 200, b"", True)),
        (frame(1, 5 | 8 | 32, 1, b"\1" + bytes(5) + OK + b"\0"), Head(1, 200, b"", True)),
        (frame(1, 1, 1) + frame(9, 0, 1, OK) + frame(9, 4, 1), Head(1, 200, b"", True)),
        (frame(1, 0, 1, OK) + frame(9, 4, 1), Head(1, 200, b"", False)),
        (frame(0, 0, 1, b"ab"), Chunk(1, b"ab", False)),
        (frame(0, 1, 1), Chunk(1, b"", True)),
        (frame(0, 9, 1, b"\3ab\0\0\0"), Chunk(1, b"ab", True)),
        (frame(0, 0x29, 1, b"\0abcdefg"), Chunk(1, b"abcdefg", True)),  # DATA has no priority flag
        (frame(2, 0, 1, bytes(5)), None),
        (frame(2, 0, 2, bytes(5)), None),
        (frame(3, 0xFF, 1, b"\0\0\0\7"), Reset(1, 7)),
        (frame(6, 0, 0, bytes(8)), None),
        (frame(6, 1, 0, b"momentum"), Pong()),
        (frame(6, 1, 0, b"somebody"), None),
        (frame(7, 0, 0, bytes(8) + b"debug"), Goodbye(bytes(8) + b"debug")),
        (frame(8, 0, 1, b"\x80\0\0\1"), Credit(1, 1)),
        (frame(8, 0, 1, bytes(4)), Credit(1, 0)),
        (frame(4, 1, 0), None),
        (frame(10, 0xFF, 0, b"whatever"), None),
        (frame(200, 0, 7, b""), None),
    ],
)
def test_a_frame_means_what_it_says(data: bytes, event: Event | None) -> None:
    assert Line().take(data) == ([] if event is None else [event])


@pytest.mark.parametrize("status", [200, 204, 400, 403, 404, 405, 410, 413, 429, 500, 503, 599])
@pytest.mark.parametrize("kind", [0x48, 0x08, 0x18])
@pytest.mark.parametrize("huffman", [True, False])
def test_a_status_is_read_however_it_is_packed(status: int, kind: int, huffman: bool) -> None:
    word = b"%d" % status
    value = bytes((len(_huffman(word)) | 0x80,)) + _huffman(word) if huffman else b"\3" + word
    [event] = Line().take(frame(1, 4, 1, bytes((kind,)) + value + b"\x0f\x26\x017"))
    assert isinstance(event, Head)
    assert event.status == status
    assert event.retry_after == b"7" or status in (403, 410, 413)


def _huffman(word: bytes) -> bytes:
    return bytes(HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH).encode(word))


def test_settings_are_obeyed_in_their_order_and_acknowledged() -> None:
    line = Line()
    payload = b"".join(struct.pack(">HI", *pair) for pair in ((3, 9), (3, 7), (4, 1), (5, 20000), (99, 5)))
    line.take(frame(4, 0, 0, payload) + setting(1, 0) + setting(1, 70000))
    assert (line.link.max_streams, line.link.initial_window, line.link.max_frame) == (7, 1, 20000)
    assert line.sizes == [0, 70000]
    assert line.link.room == 1
    assert line.link.out == [frame(4, 1, 0)] * 3


def test_a_ping_is_answered_with_its_own_bytes() -> None:
    line = Line()
    line.take(frame(6, 0, 0, b"12345678"))
    assert line.link.out == [frame(6, 1, 0, b"12345678")]


def test_data_is_given_back_in_large_steps_padding_included() -> None:
    line = Line()
    for _ in range(3):
        line.take(frame(0, 8, 1, b"\xff" + bytes(16_000)))
    assert line.link.out == [frame(8, 0, 0, (48_003).to_bytes(4))]


def test_what_is_sent_first_says_that_answers_must_need_no_table() -> None:
    made = Link(lambda size: None)
    made.initiate()
    [data] = made.out
    assert data.startswith(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
    assert struct.pack(">HI", 1, 0) in data


# --- frames as they should not be


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (frame(0, 0, 0), Code.PROTOCOL_ERROR),
        (frame(0, 0, 2), Code.PROTOCOL_ERROR),
        (frame(0, 8, 1), Code.PROTOCOL_ERROR),
        (frame(0, 8, 1, b"\3ab"), Code.PROTOCOL_ERROR),
        (frame(1, 4, 0, OK), Code.PROTOCOL_ERROR),
        (frame(1, 4, 4, OK), Code.PROTOCOL_ERROR),
        (frame(1, 4 | 32, 1, b"\0\0\0\0"), Code.PROTOCOL_ERROR),
        (frame(1, 4, 1, b"\xff"), Code.COMPRESSION_ERROR),
        (frame(1, 4, 1, b"\xbe"), Code.COMPRESSION_ERROR),  # index 62: there is no table
        (frame(1, 4, 1, b"\x3f\xe1\x1f" + OK), Code.COMPRESSION_ERROR),  # a table of 4,096
        (frame(1, 0, 1, OK) + frame(6, 0, 0, bytes(8)), Code.PROTOCOL_ERROR),
        (frame(1, 0, 1, OK) + frame(9, 4, 3), Code.PROTOCOL_ERROR),
        (frame(1, 0, 1, OK) + frame(99, 0, 1), Code.PROTOCOL_ERROR),
        (frame(9, 4, 1, OK), Code.PROTOCOL_ERROR),
        (frame(2, 0, 1, bytes(4)), Code.FRAME_SIZE_ERROR),
        (frame(3, 0, 1, bytes(3)), Code.FRAME_SIZE_ERROR),
        (frame(3, 0, 0, bytes(4)), Code.PROTOCOL_ERROR),
        (frame(4, 0, 0, bytes(5)), Code.FRAME_SIZE_ERROR),
        (frame(4, 1, 0, bytes(6)), Code.FRAME_SIZE_ERROR),
        (frame(4, 0, 1), Code.PROTOCOL_ERROR),
        (setting(2, 2), Code.PROTOCOL_ERROR),
        (setting(4, 2**31), Code.FLOW_CONTROL_ERROR),
        (setting(5, 16383), Code.PROTOCOL_ERROR),
        (setting(5, 2**24), Code.PROTOCOL_ERROR),
        (frame(5, 4, 1, b"\0\0\0\2"), Code.PROTOCOL_ERROR),
        (frame(6, 0, 0, bytes(7)), Code.FRAME_SIZE_ERROR),
        (frame(6, 0, 1, bytes(8)), Code.PROTOCOL_ERROR),
        (frame(7, 0, 0, bytes(7)), Code.FRAME_SIZE_ERROR),
        (frame(7, 0, 1, bytes(8)), Code.PROTOCOL_ERROR),
        (frame(8, 0, 0, bytes(4)), Code.PROTOCOL_ERROR),
        (frame(8, 0, 0, b"\x7f\xff\xff\xff"), Code.FLOW_CONTROL_ERROR),
        (frame(8, 0, 0, bytes(3)), Code.FRAME_SIZE_ERROR),
    ],
)
def test_a_frame_against_the_rules_ends_the_connection_with_the_right_code(data: bytes, code: Code) -> None:
    assert Line().breach(data) is code


@pytest.mark.parametrize("first", [frame(1, 5, 1, OK), frame(6, 0, 0, bytes(8)), frame(99, 0, 0)])
def test_a_peer_must_begin_with_settings(first: bytes) -> None:
    assert Line(b"").breach(first) is Code.PROTOCOL_ERROR


# --- floods


@pytest.mark.parametrize(
    "whole",
    [
        frame(frames.RST_STREAM, 0, 1, bytes(4)),
        frame(frames.PING, 0, 0, bytes(8)),
        frame(frames.PING, 1, 0, bytes(8)),
        SETTINGS,
        frame(frames.DATA, 0, 1),
        frame(frames.WINDOW_UPDATE, 0, 1, b"\0\0\0\1"),
        frame(frames.PRIORITY, 0, 1, bytes(5)),
        frame(77, 0, 0),
    ],
)
def test_a_flood_of_frames_that_answer_nothing_ends_the_connection(whole: bytes) -> None:
    line = Line()
    line.link.calm(0.0, has_answered=True)
    count = link.MAX_IDLE_FRAMES
    line.take(whole * (count // 2))
    line.link.calm(1.0, has_answered=False)
    assert line.breach(whole * count) is Code.ENHANCE_YOUR_CALM


@pytest.mark.parametrize(("now", "has_answered"), [(1.0, True), (link.CALM_S, False)])
def test_answers_and_time_make_good_for_other_frames(now: float, has_answered: bool) -> None:
    line = Line()
    line.link.calm(0.0, has_answered=True)
    for _ in range(3):
        line.take(frame(frames.PING, 0, 0, bytes(8)) * link.MAX_IDLE_FRAMES)
        line.link.calm(now, has_answered)
        now += link.CALM_S


@pytest.mark.parametrize("piece", [b"", b"\0" * 16_000])
def test_a_header_block_without_an_end_ends_the_connection(piece: bytes) -> None:
    line = Line()
    line.take(frame(frames.HEADERS, 0, 1, piece))
    assert line.breach(frame(frames.CONTINUATION, 0, 1, piece) * link.MAX_PIECES) is Code.ENHANCE_YOUR_CALM


def test_a_small_block_that_unpacks_to_a_large_list_ends_the_connection() -> None:
    line = Line()
    fields = b"".join(b"\0\1x\x7f\x81\x01" + b"~" * 256 for _ in range(60))
    assert len(fields) < frames.MAX_FRAME
    large = b"\xf1" * 16_000  # `www-authenticate: ` from the static table, 48 bytes each by RFC 7541's count
    assert line.take(frame(1, 5, 1, OK + fields)) == [Head(1, 200, b"", True)]
    assert line.breach(frame(1, 5, 1, large)) is Code.COMPRESSION_ERROR
