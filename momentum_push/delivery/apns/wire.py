"""The HTTP/2 client for APNs without a socket: messages in, bytes out; bytes in, outcomes out.

    send([(message, topic)]) ─►┌──────┐─► data_to_send()
                               │ Wire │
    list[Outcome] ◄────────────└──────┘◄─ receive(bytes)          time comes in as `now` (monotonic)

Behind these methods the `h2` library keeps the protocol's state; nothing of it shows outside, so
that a leaner engine can take its place. What is ours to decide, and is decided here:

- *When a request may go out.* After the peer's SETTINGS. With provider tokens one request alone, the
  probe, until its answer proves the token (apns.md 6.1). Then up to min(peer's limit, ours); never
  HEADERS before both windows hold the whole body (apns.md 6.2). A limit that sinks below what is in
  flight stops new requests and cancels none.
- *What the end of a request means.* Each one handed to `send` and taken ends in exactly one outcome:

    END_STREAM after a status              ANSWERED
    deadline, reset, loss: status came     ANSWERED, by what came (apns.md 6.5: body missing)
    RST_STREAM REFUSED_STREAM              NOT_PROCESSED
    above last-stream-id of a GOAWAY       NOT_PROCESSED
    deadline                               UNKNOWN, and RST_STREAM CANCEL frees the peer's slot
    any other reset, connection lost       UNKNOWN

- *When the connection is of no more use*: GOAWAY (answers that are due are waited for), stream ids or
  `max_deliveries` used up, WEAR timeouts or 500s in a row (apns.md 6.3, 5.5: wedged), no room to send
  for a whole deadline. It then *drains*: takes nothing more, and `is_done` when the last answer is in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from h2.errors import ErrorCodes
from h2.events import (
    DataReceived,
    PingAckReceived,
    RemoteSettingsChanged,
    ResponseReceived,
    StreamEnded,
    StreamReset,
)
from h2.exceptions import H2Error

from momentum_push.delivery.apns.engine import make_engine
from momentum_push.delivery.apns.frames import GOAWAY, HEADER_LENGTH, FrameCutter
from momentum_push.delivery.apns.request import Field, RequestWriter, size_of
from momentum_push.delivery.apns.response import (
    Farewell,
    error_name,
    read_body,
    read_farewell,
    read_retry_after,
)
from momentum_push.errors import ProtocolError
from momentum_push.message import Message, Outcome, Phase

__all__ = ["Request", "Wire", "WireOptions"]

Request = tuple[Message, str]
"""What to send, and the topic to send it under."""

MAX_STREAM_ID = 2**31 - 1
MAX_BODY = 4096
"""Bytes kept of an answer's body; a reason needs a hundred."""
WEAR = 3
"""Timeouts, or 500s, in a row that make a connection wedged."""
TIDY_EVERY = 256
"""Requests between two sweeps of ended streams out of h2, which walks all of them."""
TYPICAL_BODY = 256


@dataclass(frozen=True, slots=True)
class WireOptions:
    """What one connection's wire needs to know."""

    authority: str
    response_timeout_s: float = 30.0
    max_streams: int = 1000
    max_deliveries: int = 0
    """Requests after which the connection drains; 0: no limit."""
    is_probing: bool = True
    """One request alone first; for provider tokens."""
    epoch: float = 0.0
    """Wall clock minus monotonic, for dates in answers."""


class _Exchange(msgspec.Struct, gc=False):
    """One request under way."""

    message: Message
    sent_at: float
    size: int
    status: int = 0
    retry_after: bytes = b""
    body: bytes = b""


class Wire:
    """One connection's protocol state; see the module's head."""

    def __init__(self, options: WireOptions) -> None:
        self.options = options
        self.is_ready = False
        """The peer's SETTINGS have come."""
        self.is_proven = not options.is_probing
        self.drain_reason = ""
        """Why nothing more is taken; empty: it is."""
        self.farewell: Farewell | None = None
        """The last GOAWAY."""
        self.error = ""
        """What the peer did against the protocol; the connection is to be closed."""
        self.last_heard = 0.0
        self.pinged_at: float | None = None
        """When the PING that waits for its ACK went out."""
        self.sent = 0
        self._exchanges: dict[int, _Exchange] = {}  # by stream id, and so in the order of their deadlines
        self._writer = RequestWriter(options.authority)
        self._cutter = FrameCutter()
        self._h2 = make_engine()
        self._next_id = 1
        self._limit = 0  # so that nothing goes out before SETTINGS
        self._wanted_window = 0  # bytes of the body that did not fit, until it would
        self._typical_body = TYPICAL_BODY
        self._choked_at: float | None = None
        self._timeouts = 0
        self._faults = 0
        self._handlers: dict[type, Callable[[Any, float, list[Outcome]], None]] = {
            ResponseReceived: self._on_response,
            DataReceived: self._on_data,
            StreamEnded: self._on_end,
            StreamReset: self._on_reset,
            RemoteSettingsChanged: self._on_settings,
            PingAckReceived: self._on_ping_ack,
        }

    # --- what there is to know

    @property
    def in_flight(self) -> int:
        """Requests that wait for their answer."""
        return len(self._exchanges)

    @property
    def oldest_sent(self) -> float | None:
        """When the request went out that has waited longest; None: nothing is in flight."""
        for exchange in self._exchanges.values():
            return exchange.sent_at
        return None

    @property
    def is_draining(self) -> bool:
        """Whether no more requests are taken."""
        return bool(self.drain_reason)

    @property
    def is_done(self) -> bool:
        """Whether the connection may be closed without loss: draining, and nothing is due."""
        return bool(self.error) or (self.is_draining and not self._exchanges)

    @property
    def capacity(self) -> int:
        """Messages that `send` would take now, by the size of the last ones; exact when it says 0."""
        slots = self._slots()
        window = self._window()
        if slots <= 0 or window <= 0 or window < self._wanted_window:
            return 0
        return min(slots, max(1, window // self._typical_body))

    def __repr__(self) -> str:
        state = self.error or self.drain_reason or ("open" if self.is_ready else "waiting for SETTINGS")
        return f"<wire {state}, {self.in_flight} of {self._limit} streams, window {self._window()}>"

    # --- out

    def initiate(self) -> None:
        """Queue our preface and SETTINGS."""
        self._h2.initiate_connection()

    def data_to_send(self) -> bytes:
        """Return, once, the bytes to be written now."""
        return self._h2.data_to_send()

    def send(self, requests: Sequence[Request], authorization: bytes, now: float) -> int:
        """Take as many of `requests`, from the front, as streams and windows allow.

        Returns:
            How many were taken; each of them will have exactly one outcome.
        """
        taken = octets = 0
        slots = min(self._slots(), len(requests))
        while taken < slots:
            message, topic = requests[taken]
            body = message.payload
            if len(body) > self._window():
                self._wanted_window = len(body)
                break
            self._open_stream(message, self._writer.fields(message, topic, authorization), now)
            taken += 1
            octets += len(body)
        if taken:
            self._typical_body = max(1, octets // taken)
            self._count(taken)
        self._watch_room(now)
        return taken

    def ping(self, now: float) -> None:
        """Queue a PING; its ACK clears `pinged_at`."""
        self._h2.ping(b"momentum")
        self.pinged_at = now

    def drain(self, why: str) -> None:
        """Take no more requests."""
        self.drain_reason = self.drain_reason or why

    def farewell_bytes(self) -> bytes:
        """Return what is left to be written before an orderly close: our own GOAWAY."""
        try:
            self._h2.close_connection()
        except H2Error:
            return b""  # h2 has said it already, when the peer broke the protocol
        return self._h2.data_to_send()

    # --- in

    def receive(self, data: bytes, now: float) -> list[Outcome]:
        """Take what one read brought; return the outcomes it means."""
        outcomes: list[Outcome] = []
        self.last_heard = now
        try:
            for kind, frame in self._cutter.cut(data):
                if kind == GOAWAY:
                    self._on_goaway(frame[HEADER_LENGTH:], now, outcomes)
                else:
                    for event in self._h2.receive_data(frame):
                        if (handler := self._handlers.get(type(event))) is not None:
                            handler(event, now, outcomes)
        except (H2Error, ProtocolError) as error:
            self._fail(str(error) or type(error).__name__, now, outcomes)
        self._watch_room(now)
        return outcomes

    def connection_lost(self, why: str, now: float) -> list[Outcome]:
        """Return the outcomes of all that is in flight; nothing more will come."""
        self.drain(why)
        outcomes: list[Outcome] = []
        self._end_all(Phase.UNKNOWN, why, now, outcomes)
        return outcomes

    # --- time

    def next_deadline(self) -> float | None:
        """Return when `expire` has something to do; None: never, as things are."""
        oldest = self.oldest_sent
        due = self._choked_at if oldest is None else oldest
        return None if due is None else due + self.options.response_timeout_s

    def expire(self, now: float) -> list[Outcome]:
        """End the requests whose deadline has passed, and a connection that has had no room for as long."""
        outcomes: list[Outcome] = []
        limit = now - self.options.response_timeout_s
        late: list[int] = []
        for stream_id, exchange in self._exchanges.items():
            if exchange.sent_at > limit:
                break
            late.append(stream_id)
        for stream_id in late:
            self._cancel(stream_id, now, outcomes)
        if self._choked_at is not None and self._choked_at <= limit:
            self.drain("the peer left no room for a request")
        self._watch_room(now)
        return outcomes

    # --- inside: out

    def _slots(self) -> int:
        if self.drain_reason:
            return 0
        allowed = min(self._limit, self.options.max_streams if self.is_proven else 1)
        slots = allowed - len(self._exchanges)
        if self.options.max_deliveries:
            slots = min(slots, self.options.max_deliveries - self.sent)
        return min(slots, (MAX_STREAM_ID - self._next_id) // 2 + 1)

    def _window(self) -> int:
        settings = self._h2.remote_settings
        return min(self._h2.outbound_flow_control_window, settings.initial_window_size)

    def _open_stream(self, message: Message, fields: list[Field], now: float) -> None:
        stream_id, body = self._next_id, message.payload
        self._h2.send_headers(stream_id, fields)
        step = self._h2.max_outbound_frame_size
        for start in range(0, max(len(body) - step, 0), step):
            self._h2.send_data(stream_id, body[start : start + step])
        last = (max(len(body), 1) - 1) // step * step
        self._h2.send_data(stream_id, body[last:], end_stream=True)
        self._exchanges[stream_id] = _Exchange(message, now, size_of(fields, body))
        self._next_id += 2

    def _count(self, taken: int) -> None:
        before, self.sent = self.sent, self.sent + taken
        if before // TIDY_EVERY != self.sent // TIDY_EVERY:
            self._h2.tidy()
        if self.options.max_deliveries and self.sent >= self.options.max_deliveries:
            self.drain("max_deliveries_per_connection")
        elif self._next_id > MAX_STREAM_ID:
            self.drain("stream ids used up")

    def _watch_room(self, now: float) -> None:
        """Note since when there has been no room at all although nothing is in flight."""
        if self._wanted_window and self._window() >= self._wanted_window:
            self._wanted_window = 0
        is_free = self.capacity > 0 or self._exchanges or not self.is_ready or self.drain_reason
        if is_free:
            self._choked_at = None
        elif self._choked_at is None:
            self._choked_at = now

    # --- inside: in

    def _on_settings(self, event: RemoteSettingsChanged, now: float, outcomes: list[Outcome]) -> None:
        self.is_ready = True
        self._limit = self._h2.remote_settings.max_concurrent_streams

    def _on_ping_ack(self, event: PingAckReceived, now: float, outcomes: list[Outcome]) -> None:
        self.pinged_at = None

    def _on_response(self, event: ResponseReceived, now: float, outcomes: list[Outcome]) -> None:
        exchange = self._exchanges.get(event.stream_id)
        if exchange is None:
            return
        for name, value in event.headers:
            if name == b":status":
                exchange.status = int(value) if value.isdigit() else 0
            elif name == b"retry-after":
                exchange.retry_after = value

    def _on_data(self, event: DataReceived, now: float, outcomes: list[Outcome]) -> None:
        # The stream's own window is let go: an answer of 64 KB would be a fault, the deadline ends it.
        self._h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        exchange = self._exchanges.get(event.stream_id)
        if exchange is not None and len(exchange.body) < MAX_BODY:
            exchange.body += event.data

    def _on_end(self, event: StreamEnded, now: float, outcomes: list[Outcome]) -> None:
        self._end(event.stream_id, Phase.UNKNOWN, "answer without a status", now, outcomes)

    def _on_reset(self, event: StreamReset, now: float, outcomes: list[Outcome]) -> None:
        is_refused = event.error_code == ErrorCodes.REFUSED_STREAM
        phase = Phase.NOT_PROCESSED if is_refused else Phase.UNKNOWN
        why = f"RST_STREAM {error_name(int(event.error_code))}"
        self._end(event.stream_id, phase, why, now, outcomes)

    def _on_goaway(self, payload: bytes, now: float, outcomes: list[Outcome]) -> None:
        if len(payload) < 8:
            raise ProtocolError(f"the peer sent a GOAWAY of {len(payload)} bytes; 8 are the least")
        self.farewell = farewell = read_farewell(payload)
        self.drain(f"GOAWAY {farewell.reason}")
        above = [stream_id for stream_id in self._exchanges if stream_id > farewell.last_stream_id]
        for stream_id in above:
            self._end(stream_id, Phase.NOT_PROCESSED, f"GOAWAY {farewell.reason}", now, outcomes)

    def _fail(self, what: str, now: float, outcomes: list[Outcome]) -> None:
        self.error = what
        self.drain(what)
        self._end_all(Phase.UNKNOWN, what, now, outcomes)

    # --- inside: ends

    def _cancel(self, stream_id: int, now: float, outcomes: list[Outcome]) -> None:
        self._h2.reset_stream(stream_id, ErrorCodes.CANCEL)
        why = f"no answer within {self.options.response_timeout_s:g} s"
        self._end(stream_id, Phase.UNKNOWN, why, now, outcomes)
        self._timeouts += 1
        if self._timeouts >= WEAR:
            self.drain(f"{self._timeouts} requests in a row without an answer")

    def _end_all(self, phase: Phase, why: str, now: float, outcomes: list[Outcome]) -> None:
        for stream_id in list(self._exchanges):
            self._end(stream_id, phase, why, now, outcomes)

    def _end(self, stream_id: int, phase: Phase, why: str, now: float, outcomes: list[Outcome]) -> None:
        """Settle one request; where a status had come, by that."""
        exchange = self._exchanges.pop(stream_id, None)
        if exchange is None:
            return  # settled before: reset after the answer, second GOAWAY, answer after our CANCEL
        if exchange.status:
            outcomes.append(self._answer(exchange, now))
            return
        seconds = now - exchange.sent_at
        outcomes.append(Outcome(exchange.message, phase, reason=why, size=exchange.size, seconds=seconds))

    def _answer(self, exchange: _Exchange, now: float) -> Outcome:
        self.is_proven = True
        self._timeouts = 0
        self._faults = self._faults + 1 if exchange.status == 500 else 0
        if self._faults >= WEAR:
            self.drain(f"{self._faults} answers in a row with status 500")
        reason, unregistered_at = read_body(exchange.body) if exchange.body else ("", 0)
        wait = exchange.retry_after
        return Outcome(
            exchange.message,
            Phase.ANSWERED,
            exchange.status,
            reason,
            unregistered_at,
            read_retry_after(wait, self.options.epoch + now) if wait else 0.0,
            exchange.size,
            now - exchange.sent_at,
        )
