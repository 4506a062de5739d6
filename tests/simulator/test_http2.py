"""The frames that are written beside h2: other libraries read them."""

import hpack
import pytest
from hyperframe.frame import Frame

from momentum_push.simulator import http2


def parsed(data: bytes) -> Frame:
    frame, length = Frame.parse_frame_header(memoryview(data[:9]))
    assert len(data) == 9 + length
    frame.parse_body(memoryview(data[9:]))
    return frame


@pytest.mark.parametrize("status", [200, 204, 400, 403, 404, 405, 410, 413, 429, 500, 503])
@pytest.mark.parametrize("has_body", [True, False])
def test_answers_are_read_by_hpack_and_leave_its_table_alone(status: int, has_body: bool) -> None:
    fields = [
        ("apns-id", "A" * 36),
        ("content-type", "application/json"),
        ("retry-after", "7"),
        ("x", "y" * 300),
    ]
    frame = parsed(http2.answer_frames(5, status, fields, has_body))
    decoder = hpack.Decoder()
    assert list(decoder.decode(frame.data)) == [(":status", str(status)), *fields]
    assert not decoder.header_table.dynamic_entries
    assert ("END_STREAM" in frame.flags) is not has_body
    assert frame.stream_id == 5


@pytest.mark.parametrize("size", [0, 1, 126, 127, 128, 254, 255, 256, 20000])
def test_text_of_any_length(size: int) -> None:
    frame = parsed(http2.answer_frames(1, 200, [("n", "v" * size)], has_body=False))
    assert list(hpack.Decoder().decode(frame.data))[1] == ("n", "v" * size)


def test_ping_answers_are_cut_out_of_frames_and_nothing_else() -> None:
    ping = b"\x00\x00\x08\x06%b\x00\x00\x00\x0012345678"
    others = http2.ServerSide().tell({3: 5}) + ping % b"\x00" + http2.reset_frame(3, 7)
    assert http2.without_ping_acks(ping % b"\x01" + others + ping % b"\x01") == others


def test_first_settings_say_what_was_seen_of_apple() -> None:
    """apns.md 6.1."""
    assert parsed(http2.ServerSide().tell(http2.first_settings(1))).settings == {
        1: 4096,
        3: 1,
        4: 65535,
        5: 16384,
        6: 8000,
    }
    assert parsed(http2.ServerSide().tell(http2.limit_settings(1000))).settings == {3: 1000}


@pytest.mark.parametrize(
    ("fields", "is_good"),
    [
        ([(":method", "POST"), (":scheme", "https"), (":path", "/"), (":authority", "x")], True),
        ([(":method", "POST"), (":scheme", "https"), (":path", "/"), ("host", "x")], True),
        ([(":method", "POST"), (":scheme", "https"), (":authority", "x")], False),
        ([(":method", "POST"), (":scheme", "https"), ("host", "x"), (":path", "/")], False),
        ([(":method", "POST"), (":scheme", "https"), (":path", "/"), (":path", "/"), ("host", "x")], False),
        ([(":method", "POST"), (":scheme", "https"), (":path", "/"), ("host", "x"), ("Apns-Id", "b")], False),
        (
            [(":method", "POST"), (":scheme", "https"), (":path", "/"), ("host", "x"), ("connection", "x")],
            False,
        ),
        (
            [(":method", "POST"), (":scheme", "https"), (":path", "/"), ("host", "x"), ("a", "b\r\nc: d")],
            False,
        ),
        ([(":method", "POST"), (":scheme", "https"), (":path", "/"), ("host", "x"), ("a", "b\0")], False),
    ],
)
def test_header_fields_must_keep_to_rfc_9113(fields: list[tuple[str, str]], is_good: bool) -> None:
    names, values = zip(*((name.encode(), value.encode()) for name, value in fields), strict=True)
    for _ in range(2):
        assert (http2.check_fields(names, values) == "") is is_good


def test_each_acknowledgement_is_for_the_next_of_the_settings() -> None:
    """h2 alone would take the first one for everything that is outstanding."""
    server, acknowledged = http2.ServerSide(), b"\x00\x00\x00\x04\x01\x00\x00\x00\x00"
    server.receive_data(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00")
    seen = []
    for values in ({3: 7}, {4: 100, 5: 20_000}, {4: 300}):
        server.tell(values)
    for _ in range(4):
        server.receive_data(acknowledged)
        seen.append((server.local_settings.initial_window_size, server.max_inbound_frame_size))
    assert seen == [(65_535, 16_384), (100, 20_000), (300, 20_000), (300, 20_000)]


def test_what_is_owed_is_given_back_once_it_makes_a_step() -> None:
    server = http2.ServerSide()
    server.step_windows(1000)
    given = []
    for size in (400, 599, 1, 2500, 0, 999):
        server.consume(1, size)
        frames = server.data_to_send()
        given.append(parsed(frames).window_increment if frames else 0)
    assert given == [0, 0, 1000, 2500, 0, 0]
    server.withhold_windows()
    server.consume(1, 5000)
    assert server.data_to_send() == b""
