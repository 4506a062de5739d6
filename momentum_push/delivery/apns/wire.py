"""The HTTP/2 client for APNs without a socket: messages in, bytes out; bytes in, outcomes out.

    send([(message, topic)]) ─►┌──────┐─► data_to_send()
                               │ Wire │
    list[Outcome] ◄────────────└──────┘◄─ receive(bytes)          time comes in as `now` (monotonic)

The protocol beneath the requests (settings, windows, header blocks in pieces, a peer's misdeeds) is in
`link`, what a request looks like in `request`. Two paths are kept short, because everything takes them:
`send`, which writes the requests of one injection in columns, and the answer that is one frame and begins
with `:status 200` in one byte: it is settled where it lies, nothing else of it is read, for nothing else of
it counts (apns.md 4.1). What is decided here:

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
    windows of its stream beyond 2^31-1    UNKNOWN, and RST_STREAM
    body above INITIAL_WINDOW_SIZE         NOT_PROCESSED, nothing of it is sent; the connection drains

- *When the connection is of no more use*: GOAWAY (answers that are due are waited for), stream ids or
  `max_deliveries` used up, `wear`, no `room` to send for a whole deadline. It then *drains*: takes nothing
  more, and `is_done` when the last answer is in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice, repeat
from operator import add
from typing import Any

from momentum_push.delivery.apns.exchange import Exchange
from momentum_push.delivery.apns.frames import (
    END_HEADERS,
    END_STREAM,
    FRAME_HEAD,
    HEADER_LENGTH,
    HEADERS,
    MAX_FRAME,
    RST_STREAM,
    Breach,
    Code,
    FrameCutter,
    requests_of,
)
from momentum_push.delivery.apns.link import (
    MAX_IDLE_FRAMES,
    MAX_WINDOW,
    Chunk,
    Credit,
    Goodbye,
    Head,
    Link,
    Pong,
    Reset,
)
from momentum_push.delivery.apns.options import WireOptions
from momentum_push.delivery.apns.request import RequestWriter
from momentum_push.delivery.apns.response import Farewell, error_name, read_farewell
from momentum_push.delivery.apns.room import Room
from momentum_push.delivery.apns.wear import Wear
from momentum_push.message import Message, Outcome, Phase

__all__ = ["Request", "Wire", "WireOptions"]

Request = tuple[Message, str]
"""What to send, and the topic to send it under."""

MAX_STREAM_ID = 2**31 - 1

_WHOLE = END_HEADERS | END_STREAM  # flags of an answer that is one frame
_SHORTEST = 1 << 8  # length and type of the shortest frame that has a status
_LONGEST = MAX_FRAME << 8 | 0xFF  # length and type of the longest frame there may be
_RESET = 4 << 8 | RST_STREAM  # length and type of a reset
_STATUS_200 = 0x88  # `:status 200` as the first field of a block: entry 8 of the static table


class Wire:
    """One connection's protocol state; see the module's head."""

    def __init__(self, options: WireOptions) -> None:
        self.options = options
        self.is_proven = not options.is_probing
        self.drain_reason = ""
        """Why nothing more is taken; empty: it is."""
        self.blame = ""
        """What the peer did that made it drain; empty: nothing, it was our wish."""
        self.farewell: Farewell | None = None
        """The last GOAWAY."""
        self.error = ""
        """What the peer did against the protocol; the connection is to be closed."""
        self.last_heard = 0.0
        self.pinged_at: float | None = None
        """When the PING that waits for its ACK went out."""
        self.sent = 0
        self._exchanges: dict[int, Exchange] = {}  # by stream id, and so in the order of their deadlines
        self._writer = RequestWriter(options.authority, auto_collapse=options.auto_collapse)
        self._link = Link(self._writer.resize)
        self._cutter = FrameCutter()
        self._next_id = 1
        self._unfit: list[Outcome] = []  # taken, never to be sent: no window of the peer's will hold them
        self._room = Room(self._link, options.max_streams)
        self._wear = Wear()

    # --- what there is to know

    @property
    def is_ready(self) -> bool:
        """Whether the peer's SETTINGS have come."""
        return self._link.is_ready

    @property
    def in_flight(self) -> int:
        """Requests whose outcome is still to come."""
        return len(self._exchanges) + len(self._unfit)

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
        return bool(self.error) or (self.is_draining and not self._exchanges and not self._unfit)

    @property
    def capacity(self) -> int:
        """Messages that `send` would take now, by the size of the last ones; see `room`."""
        return self._room.messages(self._slots(), is_idle=not self._exchanges)

    @property
    def trip(self) -> int:
        """Messages that it moves in one round trip, once proven."""
        return self._room.trip

    @property
    def is_window_bound(self) -> bool:
        """Whether windows limit a trip, and not the number of streams."""
        return self._room.is_window_bound

    def __repr__(self) -> str:
        state = self.error or self.drain_reason or ("open" if self.is_ready else "waiting for SETTINGS")
        link = self._link
        return f"<wire {state}, {self.in_flight} of {link.max_streams} streams, window {link.room}>"

    # --- out

    def initiate(self) -> None:
        """Queue our preface and SETTINGS."""
        self._link.initiate()

    def data_to_send(self) -> bytes:
        """Return, once, the bytes to be written now."""
        out = self._link.out
        data = b"".join(out)
        out.clear()
        return data

    def send(self, requests: Sequence[Request], authorization: bytes, now: float) -> int:
        """Take as many of `requests`, from the front, as streams and windows allow.

        Returns:
            How many were taken; each of them will have exactly one outcome, some at the next `give_back`.
        """
        link, first, unfit = self._link, self._next_id, len(self._unfit)
        window, longest = link.window, link.initial_window
        run: list[Message] = []
        part, shared = None, ""
        for message, topic in islice(requests, max(self._slots(), 0)):
            length = len(message.payload)
            if length > longest:
                self._return(message, now)
                continue
            if length > window:
                self._room.wanted = length
                break
            window -= length
            if message.part is not part or topic is not shared:
                self._write(run, shared, authorization, now)
                part, shared, run = message.part, topic, []
            run.append(message)
        self._write(run, shared, authorization, now)
        if taken := (self._next_id - first) >> 1:
            self._count(taken, link.window - window)
        self._watch_room(now)
        return taken + len(self._unfit) - unfit

    def give_back(self) -> list[Outcome]:
        """Return, once, the outcomes of what was taken and cannot be sent here."""
        outcomes, self._unfit = self._unfit, []
        return outcomes

    def ping(self, now: float) -> None:
        """Queue a PING; its ACK clears `pinged_at`."""
        self._link.ping()
        self.pinged_at = now

    def drain(self, why: str) -> None:
        """Take no more requests."""
        self.drain_reason = self.drain_reason or why

    def farewell_bytes(self) -> bytes:
        """Return what is left to be written before an orderly close: our own GOAWAY."""
        if not self.error:  # otherwise it has been said
            self._link.goodbye(Code.NO_ERROR)
        return self.data_to_send()

    # --- in

    def receive(self, data: bytes, now: float) -> list[Outcome]:
        """Take what one read brought; return the outcomes it means."""
        outcomes: list[Outcome] = []
        self.last_heard = now
        if self.error:
            return outcomes
        try:
            for kind, frame in self._cutter.cut(data, partial(self._accept, now, outcomes)):
                event = self._link.take(kind, frame)
                if event is not None:
                    _HANDLERS[type(event)](self, event, now, outcomes)
        except Breach as breach:
            self._fail(breach, now, outcomes)
        self._link.calm(now, bool(outcomes))
        self._watch_room(now)
        return outcomes

    def connection_lost(self, why: str, now: float, is_refused: bool = False) -> list[Outcome]:
        """Return the outcomes of all that is in flight; nothing more will come.

        Args:
            is_refused: the peer never let us in, so that nothing of it was processed.
        """
        self.drain(why)
        outcomes = self.give_back()
        self._end_all(Phase.NOT_PROCESSED if is_refused else Phase.UNKNOWN, why, now, outcomes)
        return outcomes

    # --- time

    def next_deadline(self) -> float | None:
        """Return when `expire` has something to do; None: never, as things are."""
        oldest = self.oldest_sent
        due = self._room.choked_at if oldest is None else oldest
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
        choked_at = self._room.choked_at
        if choked_at is not None and choked_at <= limit:
            self._blame(self._room.complaint)
        self._watch_room(now)
        return outcomes

    # --- inside: out

    def _slots(self) -> int:
        if self.drain_reason or not self._link.is_ready:
            return 0
        allowed = self._room.streams if self.is_proven else min(self._link.max_streams, 1)
        slots = allowed - len(self._exchanges)
        if self.options.max_deliveries:
            slots = min(slots, self.options.max_deliveries - self.sent)
        return min(slots, (MAX_STREAM_ID - self._next_id) // 2 + 1)

    def _write(self, run: list[Message], topic: str, authorization: bytes, now: float) -> None:
        """Write requests that share a part; as many at once as their header blocks allow."""
        while run:
            columns, lengths, sizes = self._writer.blocks(run, topic, authorization)
            done, run, first = run[: len(sizes)], run[len(sizes) :], self._next_id
            bodies = [message.payload for message in done]
            self._link.out += requests_of(first, columns, lengths, bodies, self._link.max_frame)
            self._next_id += 2 * len(done)
            exchanges = map(Exchange, done, repeat(now), map(add, sizes, map(len, bodies)))
            self._exchanges.update(zip(range(first, self._next_id, 2), exchanges, strict=True))

    def _return(self, message: Message, now: float) -> None:
        """Hand a message back whose body is larger than any stream's window here, and retire the peer.

        To wait for a larger INITIAL_WINDOW_SIZE would hold up everything behind it.
        """
        why = f"INITIAL_WINDOW_SIZE {self._link.initial_window} is too small for {len(message.payload)} bytes"
        self._unfit.append(Outcome(message, Phase.NOT_PROCESSED, reason=why))
        self._blame(f"the peer's {why}")

    def _count(self, taken: int, octets: int) -> None:
        self._room.spend(taken, octets)
        self.sent += taken
        if self.options.max_deliveries and self.sent >= self.options.max_deliveries:
            self.drain("max_deliveries_per_connection")
        elif self._next_id > MAX_STREAM_ID:
            self.drain("stream ids used up")

    def _watch_room(self, now: float) -> None:
        """Note whether the peer leaves room where it should."""
        is_excused = bool(self._exchanges or self.drain_reason or not self._link.is_ready)
        self._room.watch(self._slots(), is_excused, now)

    def _blame(self, why: str) -> None:
        """Take no more requests, and it is the peer's doing; empty: it did nothing."""
        self.blame = self.blame or why
        self.drain(why)

    # --- inside: in

    def _accept(self, now: float, outcomes: list[Outcome], data: bytes, start: int) -> int:
        """Settle the requests whose answers are one frame with status 200, frame behind frame.

        With them go resets of streams that have ended, which mean nothing: some peers send one behind each
        answer to a body that they did not read.

        Returns:
            Where the first frame begins that is not as simple as that.
        """
        link, exchanges, read, end = self._link, self._exchanges, FRAME_HEAD.unpack_from, len(data)
        if link.is_inside_block:
            return start
        answered, ended, allowed = len(outcomes), 0, MAX_IDLE_FRAMES - link.idle_frames
        while start + HEADER_LENGTH < end:
            kind, flags, stream_id = read(data, start)
            after = start + HEADER_LENGTH + (kind >> 8)
            if after > end:
                break
            if flags == _WHOLE and kind & 0xFF == HEADERS and data[start + HEADER_LENGTH] == _STATUS_200:
                exchange = exchanges.get(stream_id)
                if exchange is None or exchange.status or not _SHORTEST <= kind <= _LONGEST:
                    break
                del exchanges[stream_id]
                seconds, size = now - exchange.sent_at, exchange.size
                outcomes.append(Outcome(exchange.message, Phase.ANSWERED, 200, "", 0, 0.0, size, seconds))
            elif (
                kind != _RESET
                or stream_id in exchanges
                or not stream_id & 1
                or stream_id >= self._next_id
                or ended >= allowed
            ):
                break
            else:
                ended += 1
            start = after
        link.idle_frames += ended
        if len(outcomes) > answered:
            self.is_proven = True
            self._wear.answered(200)
        return start

    def _exchange_of(self, stream_id: int) -> Exchange | None:
        """Return the request of a stream; None: it has ended, and what comes late for it is nothing to us."""
        if stream_id >= self._next_id or not stream_id & 1:
            raise Breach(f"the peer sent a frame for stream {stream_id}, which was never opened")
        return self._exchanges.get(stream_id)

    def _on_pong(self, event: Pong, now: float, outcomes: list[Outcome]) -> None:
        self.pinged_at = None

    def _on_head(self, event: Head, now: float, outcomes: list[Outcome]) -> None:
        exchange = self._exchange_of(event.stream_id)
        if exchange is None:
            return
        if not exchange.status:  # what follows later are trailers
            exchange.status, exchange.retry_after = event.status, event.retry_after
        if event.is_ended:
            self._end_of_stream(event.stream_id, now, outcomes)

    def _on_chunk(self, event: Chunk, now: float, outcomes: list[Outcome]) -> None:
        exchange = self._exchange_of(event.stream_id)
        if exchange is None:
            return
        exchange.add(event.data)
        if event.is_ended:
            self._end_of_stream(event.stream_id, now, outcomes)

    def _end_of_stream(self, stream_id: int, now: float, outcomes: list[Outcome]) -> None:
        self._end(stream_id, Phase.UNKNOWN, "answer without a status", now, outcomes)

    def _on_reset(self, event: Reset, now: float, outcomes: list[Outcome]) -> None:
        exchange = self._exchange_of(event.stream_id)
        phase = Phase.NOT_PROCESSED if event.code == Code.REFUSED_STREAM else Phase.UNKNOWN
        if exchange is not None and not exchange.status:
            self._blame(self._wear.refused(exchange.sent_at, now))
        self._end(event.stream_id, phase, f"RST_STREAM {error_name(event.code)}", now, outcomes)

    def _on_credit(self, event: Credit, now: float, outcomes: list[Outcome]) -> None:
        exchange = self._exchange_of(event.stream_id)
        if exchange is None:
            return
        exchange.credit += event.octets
        left = self._link.initial_window - len(exchange.message.payload)
        if not event.octets:
            self._give_up(event.stream_id, Code.PROTOCOL_ERROR, now, outcomes)
        elif left + exchange.credit > MAX_WINDOW:
            self._give_up(event.stream_id, Code.FLOW_CONTROL_ERROR, now, outcomes)

    def _give_up(self, stream_id: int, code: Code, now: float, outcomes: list[Outcome]) -> None:
        self._link.reset(stream_id, code)
        self._end(stream_id, Phase.UNKNOWN, f"the peer's window update: {code.name}", now, outcomes)

    def _on_goodbye(self, event: Goodbye, now: float, outcomes: list[Outcome]) -> None:
        self.farewell = farewell = read_farewell(event.payload)
        self._blame(f"GOAWAY {farewell.reason}")
        above = [stream_id for stream_id in self._exchanges if stream_id > farewell.last_stream_id]
        for stream_id in above:
            self._end(stream_id, Phase.NOT_PROCESSED, f"GOAWAY {farewell.reason}", now, outcomes)

    def _fail(self, breach: Breach, now: float, outcomes: list[Outcome]) -> None:
        self.error = str(breach)
        self._blame(self.error)
        self._link.goodbye(breach.code)
        self._end_all(Phase.UNKNOWN, self.error, now, outcomes)

    # --- inside: ends

    def _cancel(self, stream_id: int, now: float, outcomes: list[Outcome]) -> None:
        self._link.reset(stream_id, Code.CANCEL)
        why = f"no answer within {self.options.response_timeout_s:g} s"
        self._end(stream_id, Phase.UNKNOWN, why, now, outcomes)
        self._blame(self._wear.timed_out())

    def _end_all(self, phase: Phase, why: str, now: float, outcomes: list[Outcome]) -> None:
        for stream_id in list(self._exchanges):
            self._end(stream_id, phase, why, now, outcomes)

    def _end(self, stream_id: int, phase: Phase, why: str, now: float, outcomes: list[Outcome]) -> None:
        """Settle one request; where a status had come, by that."""
        exchange = self._exchanges.pop(stream_id, None)
        if exchange is None:
            return  # settled before: reset after the answer, second GOAWAY, answer after our CANCEL
        if not exchange.status:
            outcomes.append(exchange.end(phase, why, now))
            return
        outcomes.append(exchange.answer(now, self.options.epoch))
        self.is_proven = True
        self._blame(self._wear.answered(exchange.status))


_HANDLERS: dict[type, Callable[[Wire, Any, float, list[Outcome]], None]] = {
    Head: Wire._on_head,
    Chunk: Wire._on_chunk,
    Reset: Wire._on_reset,
    Credit: Wire._on_credit,
    Goodbye: Wire._on_goodbye,
    Pong: Wire._on_pong,
}
