"""Cutting bytes into frames."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from momentum_push.delivery.apns.frames import FrameCutter, requests_of
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


@given(
    found=st.lists(
        st.tuples(st.binary(min_size=1, max_size=40), st.binary(max_size=40)), min_size=1, max_size=9
    ),
    first=st.integers(0, 1000),
    step=st.integers(10, 50),
)
def test_requests_are_header_blocks_and_bodies_in_frames_that_the_peer_takes(
    found: list[tuple[bytes, bytes]], first: int, step: int
) -> None:
    blocks, bodies = zip(*found, strict=True)
    columns = [[block[:1] for block in blocks], [block[1:] for block in blocks]]
    pieces = requests_of(2 * first + 1, columns, list(map(len, blocks)), list(bodies), step)
    told: dict[int, list[bytes]] = {}
    for kind, frame in FrameCutter().cut(b"".join(pieces)):
        flags, stream, payload = frame[4], int.from_bytes(frame[5:9]), frame[9:]
        assert len(payload) <= step
        parts = told.setdefault(stream, [])
        if kind != 9:  # CONTINUATION goes on with what HEADERS began
            parts.append(b"")
        assert (kind, len(parts)) in [(1, 1), (9, 1), (0, len(parts))]
        parts[-1] += payload
        assert flags in (0, 4 if kind else 1)
        parts += [b"end"] * (flags == 4)
    ends = {stream: (parts[0], b"".join(parts[2:])) for stream, parts in told.items()}
    assert ends == {2 * (first + place) + 1: pair for place, pair in enumerate(found)}
