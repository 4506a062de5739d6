"""HTTP/2 as the simulator speaks it: h2 reads and watches the client, what we say is written here.

h2's server side parses frames, decodes header blocks and checks every rule that a client must keep; a
client that breaks one ends its connection, and h2's words for it stand in the ledger. Four of its habits do
not fit a server that misbehaves on purpose, so they are taken out:

* It closes its state when a GOAWAY comes or goes. Ours goes out beside it, as bytes that it never
  sees; the client's passes without effect on the state.
* It raises, and so ends the connection, when a client opens more streams than it was told. It is told
  of no limit here; `limits` counts and `session` refuses.
* It takes every ACK for one of SETTINGS that it sent itself. Ours are remembered in their order
  (`tell`), and what they say about the client's frames holds from its ACK on.
* It counts the open streams by walking through all of them, at every request. Nobody asks it any more.

Answers, too, are written beside it: their header blocks use no dynamic table, so h2's encoder and
the client's decoder stay in step without knowing of each other, and an answer costs 2 µs instead of
60. Whoever answers a stream calls `forget`; frames that come for it later are answered RST_STREAM 5
by h2 itself, as was seen of Apple (apns.md 6.1). Windows of both directions are h2's count.

No socket here: bytes in, events out, bytes out.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from functools import lru_cache

from h2.config import H2Configuration
from h2.connection import ConnectionInputs, H2Connection, H2ConnectionStateMachine
from h2.events import Event
from h2.exceptions import ProtocolError
from h2.settings import ChangedSetting, SettingCodes, Settings
from h2.utilities import HeaderValidationFlags, validate_headers
from hpack import HeaderTuple
from hyperframe.frame import GoAwayFrame, PingFrame, RstStreamFrame, SettingsFrame

from momentum_push.simulator.fields import QuickDecoder

__all__ = [
    "MAX_STREAM",
    "ServerSide",
    "answer_frames",
    "check_fields",
    "data_frame",
    "first_settings",
    "frame",
    "goaway_frame",
    "header_block",
    "limit_settings",
    "ping_frame",
    "reset_frame",
    "without_ping_acks",
]

MAX_STREAM = 2**31 - 1
_WINDOW = 65_535
_HEADER_LIST = 8_000
_HEADERS, _DATA, _PING = 0x1, 0x0, 0x6
_END_STREAM, _END_HEADERS, _ACK = 0x1, 0x4, 0x1

_REQUEST = HeaderValidationFlags(
    is_client=False, is_trailer=False, is_response_header=False, is_push_promise=False
)
_STATUS_INDEXED = {200: b"\x88", 204: b"\x89", 400: b"\x8c", 404: b"\x8d", 500: b"\x8e"}
_NAME_INDEXED = {"content-type": b"\x0f\x10", "retry-after": b"\x0f\x26"}


class _States(H2ConnectionStateMachine):
    """h2's state machine, for which a client's GOAWAY is news and not the end."""

    def process_input(self, input_: ConnectionInputs) -> list[Event]:
        if input_ is ConnectionInputs.RECV_GOAWAY:
            return []
        return super().process_input(input_)


class ServerSide(H2Connection):
    """The server's end of a connection, as far as reading and watching go."""

    def __init__(self) -> None:
        super().__init__(
            H2Configuration(
                client_side=False,
                header_encoding=None,
                validate_inbound_headers=False,  # `check_fields` does, once for each shape
                normalize_inbound_headers=False,
            )
        )
        self.state_machine = _States()
        self.decoder = QuickDecoder(_HEADER_LIST)
        self.local_settings = Settings(
            client=False,
            initial_values={
                SettingCodes.MAX_CONCURRENT_STREAMS: MAX_STREAM,
                SettingCodes.MAX_HEADER_LIST_SIZE: _HEADER_LIST,
                SettingCodes.INITIAL_WINDOW_SIZE: _WINDOW,
            },
        )
        self.initiate_connection()
        self.data_to_send()  # its SETTINGS are not ours
        self._told: deque[Mapping[int, int]] = deque()
        self._step = 0
        self._owed = 0
        self._is_withholding = False

    @property
    def open_inbound_streams(self) -> int:
        """Nought, always: see the module's third point."""
        return 0

    def tell(self, values: Mapping[int, int]) -> bytes:
        """Return SETTINGS with `values`; what the client may do changes when it has acknowledged them."""
        self._told.append(values)
        return SettingsFrame(0, settings=dict(values)).serialize()

    def _local_settings_acked(self) -> dict[SettingCodes | int, ChangedSetting]:
        values = self._told.popleft() if self._told else {}
        before = self.local_settings.initial_window_size
        after = values.get(SettingCodes.INITIAL_WINDOW_SIZE, before)
        if after != before:
            self.local_settings[SettingCodes.INITIAL_WINDOW_SIZE] = after
            self.local_settings.acknowledge()
            self._inbound_flow_control_change_from_settings(before, after)
        self.max_inbound_frame_size = values.get(SettingCodes.MAX_FRAME_SIZE, self.max_inbound_frame_size)
        return {}

    def step_windows(self, size: int) -> None:
        """Give the connection's window back in steps of `size` bytes or more; 0: when half of it is used."""
        self._step = size

    def withhold_windows(self) -> None:
        """Give nothing back any more."""
        self._is_withholding = True

    def consume(self, stream: int, size: int) -> None:
        """Take note of `size` bytes of DATA (padding too) that were read, and give back what is due."""
        if self._is_withholding or not size:
            return
        if not self._step:
            self.acknowledge_received_data(size, stream)
            return
        self._owed += size
        if self._owed >= self._step:
            self.increment_flow_control_window(self._owed)
            self._owed = 0
        half = self._stream_half()
        state = self.streams.get(stream)
        if state is not None and state.open and state.inbound_flow_control_window <= half:
            self.increment_flow_control_window(max(1, 2 * half - state.inbound_flow_control_window), stream)

    def _stream_half(self) -> int:
        return self.local_settings.initial_window_size // 2

    def forget(self, stream: int) -> None:
        """Drop what is known of a stream that was answered or refused."""
        self.streams.pop(stream, None)

    def room(self, stream: int) -> int:
        """Return how many bytes of DATA the client lets us send on `stream`."""
        state = self.streams.get(stream)
        if state is None:
            return 0
        return min(self.outbound_flow_control_window, state.outbound_flow_control_window)

    def spend(self, stream: int, size: int) -> None:
        """Take `size` bytes of DATA from the windows."""
        self.outbound_flow_control_window -= size
        self.streams[stream].outbound_flow_control_window -= size


def check_fields(names: tuple[bytes, ...], values: Sequence[bytes]) -> str:
    """Return what is wrong with the header fields of a request (RFC 9113 section 8), empty for nothing.

    The names are h2's to check, and clients send the same ones again and again; values are held against
    the three bytes that must not stand in them.
    """
    joined = b"\n".join(values)
    if joined.count(b"\n") >= len(values) or b"\r" in joined or b"\0" in joined:
        return "header value with CR, LF or NUL"
    return _check_names(names)


@lru_cache(maxsize=256)
def _check_names(names: tuple[bytes, ...]) -> str:
    values = {b":method": b"POST", b":path": b"/", b":scheme": b"https", b"te": b"trailers"}
    try:
        for _ in validate_headers([HeaderTuple(name, values.get(name, b"x")) for name in names], _REQUEST):
            pass
    except ProtocolError as error:
        return f"{type(error).__name__}: {error}"
    return ""


def first_settings(limit: int, window: int = _WINDOW) -> dict[int, int]:
    """Return what the first SETTINGS say (apns.md 6.1)."""
    return {
        SettingsFrame.MAX_CONCURRENT_STREAMS: limit,
        SettingsFrame.HEADER_TABLE_SIZE: 4_096,
        SettingsFrame.INITIAL_WINDOW_SIZE: window,
        SettingsFrame.MAX_FRAME_SIZE: 16_384,
        SettingsFrame.MAX_HEADER_LIST_SIZE: _HEADER_LIST,
    }


def limit_settings(limit: int) -> dict[int, int]:
    """Return what SETTINGS with a new stream limit say."""
    return {SettingsFrame.MAX_CONCURRENT_STREAMS: limit}


def ping_frame() -> bytes:
    """Return a PING of ours."""
    return PingFrame(0, opaque_data=b"simulate").serialize()


def goaway_frame(last: int, code: int, debug: bytes) -> bytes:
    """Return a GOAWAY."""
    goaway = GoAwayFrame(0, last_stream_id=last, error_code=code, additional_data=debug)
    return goaway.serialize()


def reset_frame(stream: int, code: int) -> bytes:
    """Return an RST_STREAM."""
    return RstStreamFrame(stream, error_code=code).serialize()


def header_block(status: int, fields: Sequence[tuple[str, str]]) -> bytes:
    """Return a header block; it leaves the dynamic table alone. Status 0: trailers, which have none."""
    block = bytearray(_STATUS_INDEXED.get(status) or b"\x08\x03%03d" % status if status else b"")
    for name, value in fields:
        block += _NAME_INDEXED.get(name) or b"\x00" + _text(name)
        block += _text(value)
    return bytes(block)


def answer_frames(stream: int, status: int, fields: Sequence[tuple[str, str]], has_body: bool) -> bytes:
    """Return the HEADERS of an answer; without a body they end the stream."""
    flags = _END_HEADERS if has_body else _END_HEADERS | _END_STREAM
    return frame(_HEADERS, flags, stream, header_block(status, fields))


def data_frame(stream: int, body: bytes) -> bytes:
    """Return a DATA frame that ends its stream."""
    return frame(_DATA, _END_STREAM, stream, body)


def without_ping_acks(frames: bytes) -> bytes:
    """Return whole frames less the PING answers among them."""
    kept, at = bytearray(), 0
    while at < len(frames):
        end = at + 9 + int.from_bytes(frames[at : at + 3], "big")
        if frames[at + 3] != _PING or not frames[at + 4] & _ACK:
            kept += frames[at:end]
        at = end
    return bytes(kept)


def frame(kind: int, flags: int, stream: int, content: bytes) -> bytes:
    """Return any frame."""
    return b"%b%c%c%b%b" % (len(content).to_bytes(3, "big"), kind, flags, stream.to_bytes(4, "big"), content)


def _text(text: str) -> bytes:
    """A string literal of HPACK, plain; lengths of 127 and more take further bytes (RFC 7541 5.1)."""
    raw = text.encode("latin-1")
    size = len(raw)
    if size < 127:
        return bytes((size,)) + raw
    head, size = bytearray((127,)), size - 127
    while size >= 128:
        head.append(size & 127 | 128)
        size >>= 7
    head.append(size)
    return bytes(head) + raw
