"""HTTP/2 beneath the requests: what the peer allows, and what it may do to us (RFC 9113).

    frames ──► Link.take ──► Head | Chunk | Reset | Credit | Goodbye | Pong | None ──► wire
                 │ settings, windows, PING, header blocks in pieces, limits
                 └──► `out`: ACKs, WINDOW_UPDATE

Lives here: all state of a connection that is no request's. Which requests there are, and what an event
means for one, is `wire`'s. Any frame that breaks the protocol raises `Breach`, which ends the
connection; types that we do not know are skipped.

Answers are decoded without state: our first SETTINGS say HEADER_TABLE_SIZE 0, a peer reads them before
our first request, and so its answers never point into a dynamic table. A block may thus be skipped,
or read only as far as the status, without harm to the next one.

Limits against a peer that means harm: frames of MAX_FRAME bytes, header blocks of MAX_BLOCK bytes in
MAX_PIECES pieces (a flood of CONTINUATION), and MAX_IDLE_FRAMES frames of any kind (RST_STREAM, PING,
SETTINGS, empty DATA …) between two answers, or within CALM_S seconds where there are none to come.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import NamedTuple

from hpack import Decoder, Encoder, HPACKError

from momentum_push.delivery.apns import frames
from momentum_push.delivery.apns.frames import HEADER_LENGTH, Breach, Code, frame, unpad

__all__ = ["Chunk", "Credit", "Event", "Goodbye", "Head", "Link", "Pong", "Reset"]

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
PING_PAYLOAD = b"momentum"

HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE = 1, 2, 3, 4, 5
MAX_HEADER_LIST_SIZE = 6

DEFAULT_WINDOW = 65535
MAX_WINDOW = 2**31 - 1
NO_LIMIT = 2**31

MAX_BLOCK = 32768
"""Bytes of an answer's header block, packed or unpacked; APNs sends two hundred."""
MAX_PIECES = 32
MAX_IDLE_FRAMES = 10_000
"""Also what a peer may need that confirms each request twice, with thousands of them in flight."""
CALM_S = 10.0
GIVE_BACK = DEFAULT_WINDOW // 2
"""Bytes of DATA after which the connection's window is filled up again."""


class Head(NamedTuple):
    """A final answer's header block."""

    stream_id: int
    status: int
    """0: none in it; trailers, or nonsense."""
    retry_after: bytes
    is_ended: bool


class Chunk(NamedTuple):
    """A piece of an answer's body."""

    stream_id: int
    data: bytes
    is_ended: bool


class Reset(NamedTuple):
    """RST_STREAM."""

    stream_id: int
    code: int


class Credit(NamedTuple):
    """WINDOW_UPDATE for one stream."""

    stream_id: int
    octets: int


class Goodbye(NamedTuple):
    """GOAWAY; the payload has 8 bytes or more."""

    payload: bytes


class Pong(NamedTuple):
    """The ACK of our PING."""


Event = Head | Chunk | Reset | Credit | Goodbye | Pong


class Link:
    """State of one connection, requests aside; see the module's head."""

    def __init__(self, on_table_size: Callable[[int], None]) -> None:
        self.out: list[bytes] = []
        """Bytes to be written, in order."""
        self.is_ready = False
        """The peer's SETTINGS have come."""
        self.max_streams = NO_LIMIT
        self.max_frame = frames.MAX_FRAME
        self.initial_window = DEFAULT_WINDOW
        self.window = DEFAULT_WINDOW
        """Bytes of DATA that the connection may send."""
        self.widest = DEFAULT_WINDOW
        """The most that `window` has been; the peer refills it when about half is gone."""
        self.idle_frames = 0
        """Frames since the last answer."""
        self._on_table_size = on_table_size
        self._calm_at = 0.0
        self._received = 0  # bytes of DATA not given back yet: always below GIVE_BACK
        self._block = bytearray()  # of HEADERS that go on in CONTINUATION
        self._block_stream = 0  # 0: no such block is open
        self._block_pieces = 0
        self._is_block_end = False
        self._decoder = Decoder(max_header_list_size=MAX_BLOCK)
        self._decoder.header_table_size = self._decoder.max_allowed_table_size = 0

    @property
    def is_inside_block(self) -> bool:
        """Whether a header block is still to be continued."""
        return bool(self._block_stream)

    @property
    def room(self) -> int:
        """Bytes that the body of one new request may have now."""
        return min(self.window, self.initial_window)

    # --- out

    def initiate(self) -> None:
        """Queue our preface and SETTINGS."""
        ours = {HEADER_TABLE_SIZE: 0, ENABLE_PUSH: 0, MAX_HEADER_LIST_SIZE: MAX_BLOCK}
        payload = b"".join(struct.pack(">HI", *setting) for setting in ours.items())
        self.out.append(PREFACE + frame(frames.SETTINGS, 0, 0, payload))

    def ping(self) -> None:
        """Queue a PING."""
        self.out.append(frame(frames.PING, 0, 0, PING_PAYLOAD))

    def reset(self, stream_id: int, code: Code) -> None:
        """Queue RST_STREAM."""
        self.out.append(frame(frames.RST_STREAM, 0, stream_id, code.to_bytes(4)))

    def goodbye(self, code: Code) -> None:
        """Queue GOAWAY; its last-stream-id is 0, as a client has no streams of the peer's."""
        self.out.append(frame(frames.GOAWAY, 0, 0, bytes(4) + code.to_bytes(4)))

    # --- in

    def calm(self, now: float, has_answered: bool) -> None:
        """Note the end of one read."""
        if has_answered or now >= self._calm_at:
            self.idle_frames = 0
            self._calm_at = now + CALM_S

    def take(self, kind: int, whole: bytes) -> Event | None:
        """Obey one frame; return what it means for requests.

        Raises:
            Breach: the peer broke the protocol.
        """
        self.idle_frames += 1
        if self.idle_frames > MAX_IDLE_FRAMES:
            raise Breach(f"the peer sent {MAX_IDLE_FRAMES} frames without an answer", Code.ENHANCE_YOUR_CALM)
        if not self.is_ready and kind not in (frames.SETTINGS, frames.GOAWAY):
            raise Breach(f"the peer began with a frame of type {kind}, not with SETTINGS")
        if self._block_stream and kind != frames.CONTINUATION:
            raise Breach(f"the peer sent a frame of type {kind} inside a header block")
        handler = _HANDLERS.get(kind)
        if handler is None:
            return None
        stream_id = int.from_bytes(whole[5:HEADER_LENGTH]) & 0x7FFFFFFF
        if (kind in _OF_CONNECTION and stream_id) or (kind in _OF_STREAM and not stream_id & 1):
            raise Breach(f"the peer sent a frame of type {kind} on stream {stream_id}")
        return handler(self, whole[4], stream_id, whole[HEADER_LENGTH:])

    # --- in: header blocks

    def _on_headers(self, flags: int, stream_id: int, payload: bytes) -> Event | None:
        piece, is_ended = unpad(payload, flags), bool(flags & frames.END_STREAM)
        if flags & frames.END_HEADERS:
            return self._read_block(stream_id, piece, is_ended)
        self._block_stream, self._block_pieces, self._is_block_end = stream_id, 1, is_ended
        self._block[:] = piece
        return None

    def _on_continuation(self, flags: int, stream_id: int, payload: bytes) -> Event | None:
        if stream_id != self._block_stream:
            raise Breach(f"the peer sent CONTINUATION on stream {stream_id} out of place")
        self._block += payload
        self._block_pieces += 1
        if len(self._block) > MAX_BLOCK or self._block_pieces > MAX_PIECES:
            raise Breach("the peer sent a header block without an end", Code.ENHANCE_YOUR_CALM)
        if not flags & frames.END_HEADERS:
            return None
        self._block_stream = 0
        return self._read_block(stream_id, bytes(self._block), self._is_block_end)

    def _read_block(self, stream_id: int, block: bytes, is_ended: bool) -> Event | None:
        for length in _FINAL_LENGTHS:
            if (final := _FINAL.get(block[:length])) is not None:
                return Head(stream_id, final, b"", is_ended)
        try:
            fields = self._decoder.decode(block, raw=True)
        except (HPACKError, IndexError, TypeError, UnicodeDecodeError) as error:  # hpack raises these, too
            text = f"the peer sent a header block that cannot be decoded ({error})"
            raise Breach(text, Code.COMPRESSION_ERROR) from error
        status, retry_after = 0, b""
        for name, value in fields:
            if name == b":status":
                status = int(value) if len(value) == 3 and value.isdigit() else 0
            elif name == b"retry-after":
                retry_after = value
        if status // 100 == 1 and not is_ended:
            return None  # informational, the answer follows
        return Head(stream_id, status if status >= 200 else 0, retry_after, is_ended)

    # --- in: the other frames

    def _on_data(self, flags: int, stream_id: int, payload: bytes) -> Event | None:
        # Padding counts. The stream's own window is let go: an answer of 64 KB would be a fault, the
        # deadline ends it.
        self._received += len(payload)
        if self._received > GIVE_BACK:
            self.out.append(frame(frames.WINDOW_UPDATE, 0, 0, self._received.to_bytes(4)))
            self._received = 0
        data = unpad(payload, flags & ~frames.HAS_PRIORITY)
        return Chunk(stream_id, data, bool(flags & frames.END_STREAM))

    def _on_reset(self, flags: int, stream_id: int, payload: bytes) -> Event | None:
        _check_length("RST_STREAM", payload, 4)
        return Reset(stream_id, int.from_bytes(payload))

    def _on_priority(self, flags: int, stream_id: int, payload: bytes) -> Event | None:
        _check_length("PRIORITY", payload, 5)
        return None

    def _on_push(self, flags: int, stream_id: int, payload: bytes) -> Event | None:
        raise Breach("the peer sent PUSH_PROMISE, which our SETTINGS forbid")

    def _on_ping(self, flags: int, stream_id: int, payload: bytes) -> Event | None:
        _check_length("PING", payload, 8)
        if flags & frames.ACK:
            return Pong() if payload == PING_PAYLOAD else None
        self.out.append(frame(frames.PING, frames.ACK, 0, payload))
        return None

    def _on_goaway(self, flags: int, stream_id: int, payload: bytes) -> Event | None:
        if len(payload) < 8:
            text = f"the peer sent a GOAWAY of {len(payload)} bytes; 8 are the least"
            raise Breach(text, Code.FRAME_SIZE_ERROR)
        return Goodbye(payload)

    def _on_window_update(self, flags: int, stream_id: int, payload: bytes) -> Event | None:
        _check_length("WINDOW_UPDATE", payload, 4)
        octets = int.from_bytes(payload) & 0x7FFFFFFF
        if stream_id:
            return Credit(stream_id, octets)
        if not octets:
            raise Breach("the peer opened the connection's window by 0 bytes")
        self.window += octets
        if self.window > MAX_WINDOW:
            raise Breach("the peer opened the connection's window too far", Code.FLOW_CONTROL_ERROR)
        self.widest = max(self.widest, self.window)
        return None

    def _on_settings(self, flags: int, stream_id: int, payload: bytes) -> Event | None:
        if flags & frames.ACK:
            _check_length("ACK of SETTINGS", payload, 0)
            return None
        if len(payload) % 6:
            raise Breach(f"the peer sent SETTINGS of {len(payload)} bytes", Code.FRAME_SIZE_ERROR)
        for setting, value in struct.iter_unpack(">HI", payload):
            self._set(setting, value)
        self.is_ready = True
        self.out.append(frame(frames.SETTINGS, frames.ACK, 0))
        return None

    def _set(self, setting: int, value: int) -> None:
        """Obey one setting.

        A changed INITIAL_WINDOW_SIZE is nothing to streams whose body is out. MAX_HEADER_LIST_SIZE is
        advice that we leave: our lists have 500 bytes, and a peer with less room answers 431.
        """
        if setting == MAX_CONCURRENT_STREAMS:
            self.max_streams = value
        elif setting == INITIAL_WINDOW_SIZE:
            if value > MAX_WINDOW:
                raise Breach(f"the peer set INITIAL_WINDOW_SIZE {value}", Code.FLOW_CONTROL_ERROR)
            self.initial_window = value
        elif setting == MAX_FRAME_SIZE:
            if not frames.MAX_FRAME <= value < 1 << 24:
                raise Breach(f"the peer set MAX_FRAME_SIZE {value}")
            self.max_frame = value
        elif setting == HEADER_TABLE_SIZE:
            self._on_table_size(value)
        elif setting == ENABLE_PUSH and value > 1:
            raise Breach(f"the peer set ENABLE_PUSH {value}")


def _openings(status: int) -> list[bytes]:
    """Return the ways in which a header block may begin to say `status`: packed or not, indexed or not."""
    words = [(b":status", b"%d" % status)]
    packed = [Encoder().encode(words, huffman=huffman) for huffman in (True, False)]
    if len(packed[0]) == 1:
        return packed[:1]
    return [bytes((kind,)) + block[1:] for block in packed for kind in (0x48, 0x08, 0x18)]


# Statuses that are Apple's last word on a message: nobody asks for `retry-after` beside them. A list of
# dead tokens gets one of these for each, and hpack would take ten times the time of all the rest.
_FINAL = {opening: status for status in (200, 400, 403, 404, 410, 413) for opening in _openings(status)}
_FINAL_LENGTHS = sorted({len(opening) for opening in _FINAL})


def _check_length(name: str, payload: bytes, length: int) -> None:
    if len(payload) != length:
        text = f"the peer sent {name} of {len(payload)} bytes; {length} is right"
        raise Breach(text, Code.FRAME_SIZE_ERROR)


_OF_CONNECTION = frozenset((frames.SETTINGS, frames.PING, frames.GOAWAY))
_OF_STREAM = frozenset((frames.DATA, frames.HEADERS, frames.RST_STREAM, frames.CONTINUATION))
_HANDLERS: dict[int, Callable[[Link, int, int, bytes], Event | None]] = {
    frames.DATA: Link._on_data,
    frames.HEADERS: Link._on_headers,
    frames.PRIORITY: Link._on_priority,
    frames.RST_STREAM: Link._on_reset,
    frames.SETTINGS: Link._on_settings,
    frames.PUSH_PROMISE: Link._on_push,
    frames.PING: Link._on_ping,
    frames.GOAWAY: Link._on_goaway,
    frames.WINDOW_UPDATE: Link._on_window_update,
    frames.CONTINUATION: Link._on_continuation,
}
