"""Cutting bytes into frames."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from momentum_push.delivery.apns.frames import FrameCutter
from momentum_push.errors import ProtocolError

FRAMES = st.lists(st.tuples(st.integers(0, 255), st.binary(max_size=50)), max_size=6)


def frame(kind: int, body: bytes) -> bytes:
    return len(body).to_bytes(3) + bytes((kind, 0, 0, 0, 0, 1)) + body


@given(frames=FRAMES, step=st.integers(1, 70), tail=st.binary(max_size=8))
def test_frames_come_out_as_they_went_in_however_they_are_cut(
    frames: list[tuple[int, bytes]], step: int, tail: bytes
) -> None:
    whole = [frame(kind, body) for kind, body in frames]
    data = b"".join(whole) + tail
    cutter = FrameCutter()
    found = [cut for start in range(0, len(data), step) for cut in cutter.cut(data[start : start + step])]
    assert found == [(kind, made) for (kind, _), made in zip(frames, whole, strict=True)]


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"\x00\x40\x01\0\0\0\0\0\0", "16385 bytes"),
        (b"HTTP/1.1 400 Bad Request", "speaks HTTP/1.1"),
        (b"<html><body>", "speaks HTTP/1.1"),
    ],
)
def test_a_frame_that_is_too_long_is_refused_before_it_is_kept(data: bytes, what: str) -> None:
    with pytest.raises(ProtocolError, match=what):
        list(FrameCutter().cut(data))
