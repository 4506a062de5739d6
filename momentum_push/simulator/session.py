"""One connection of the simulator, without its socket: bytes in, bytes and a few wishes out.

    receive(data) ─► h2 events ─► streams ─┬─► rules.judge ─► FaultPicker ─► answer | fault
                                           └─► refused: over the limit, above the last stream
    out: frames of this turn, in order     shell: later(), close(), stop_reading()

A stream is *open* from its HEADERS to our END_STREAM or a reset by either side; that count is what
the limit is held against, at once when it falls and without waiting for the client's ACK, as Apple does
(apns.md 6.1). A request is *decided* when it is recorded in the ledger: as a rule with its answer; at
once, though the answer is late or never comes, where a fault says `processed`; at the end of the
connection, as not processed, where no answer was due yet. So a GOAWAY never denies
what the ledger has as processed.
"""

import json
from collections.abc import Callable, Iterable
from typing import Protocol

from h2 import events
from h2.exceptions import ProtocolError

from momentum_push.simulator.faults import Action, CloseMoment, Debug, GoAway, LastStream, Strike
from momentum_push.simulator.floor import Floor
from momentum_push.simulator.http2 import (
    MAX_STREAM,
    ServerSide,
    answer_frames,
    check_fields,
    data_frame,
    goaway_frame,
    reset_frame,
    settings_frame,
    without_ping_acks,
)
from momentum_push.simulator.ledger import ConnectionEntry, Entry, new_apns_id
from momentum_push.simulator.request import Peer, Request, Verdict, read_request
from momentum_push.simulator.rules import judge

__all__ = ["Session", "Shell"]

_MAX_BODY = 1 << 20
_DRAIN_S = 30.0
_PROTOCOL_ERROR, _REFUSED = 1, 7
_TEXT = b"Maximum active streams violated for this endpoint."
_DEBUG = {Debug.TEXT: _TEXT, Debug.EMPTY: b"", Debug.INVALID: b'{"reason":\xff\xfe'}


class Shell(Protocol):
    """What a session asks of whoever holds its socket."""

    def later(self, seconds: float, call: Callable[[], None]) -> None:
        """Call back after `seconds`, then write what is in `out`."""

    def close(self) -> None:
        """Close after what is in `out` now has been written."""

    def stop_reading(self) -> None:
        """Let the client's bytes pile up."""


class Stream:
    """A request on its way."""

    __slots__ = ("body", "entry", "is_complete", "is_dropped", "number", "request")

    def __init__(self, number: int, request: Request) -> None:
        self.number = number
        self.request = request
        self.body = bytearray()
        self.is_complete = False
        self.is_dropped = False
        self.entry: Entry | None = None
        """Set when it is decided."""


class Session:
    """The server's side of one connection.

    Attributes:
        out: bytes to write; whoever writes them clears the list.
    """

    def __init__(self, floor: Floor, shell: Shell, entry: ConnectionEntry, peer: Peer) -> None:
        self.out: list[bytes] = []
        self._floor = floor
        self._shell = shell
        self._row = entry
        self._peer = peer
        self._h2 = ServerSide()
        self._open: dict[int, Stream] = {}
        self._starved: dict[int, bytes] = {}
        self._highest = 0
        self._last: int | None = None
        self._is_draining = False
        self._is_silent = False
        self._answers_pings = True
        self._limit = 0
        self._unacknowledged: list[int] = []
        self._acknowledged = MAX_STREAM
        self._is_raised = False
        self._handlers: dict[type, Callable[..., None]] = {
            events.RequestReceived: self._on_request,
            events.DataReceived: self._on_data,
            events.StreamEnded: self._on_end,
            events.StreamReset: self._on_reset,
            events.WindowUpdated: self._on_room,
            events.RemoteSettingsChanged: self._on_room,
            events.SettingsAcknowledged: self._on_acknowledged,
            events.PingReceived: self._on_ping,
            events.ConnectionTerminated: self._on_goaway,
        }
        self._complete: list[Stream] = []

    def __repr__(self) -> str:
        return f"<session {self._row.number}: {len(self._open)} of {self._limit} streams>"

    # What the shell calls

    def start(self) -> None:
        """Send the first SETTINGS, or do what a fault says of this connection."""
        faults, strike = self._floor.faults, self._floor.picker.on_connect(self._row.number)
        if strike is not None and strike.action.is_hanging:
            self._is_silent = True
            return
        self._is_raised = self._peer.certificate is not None
        self._set_limit(faults.full_limit if self._is_raised else faults.first_limit, is_first=True)
        certificate = self._peer.certificate
        if certificate is not None and self._floor.policy.environment not in certificate.environments:
            refusal = GoAway(LastStream.NONE, reason="BadCertificateEnvironment", close=CloseMoment.NOW)
            self._go_away(refusal)
        elif strike is not None:
            self._change_connection(strike.action)
            if strike.action.goaway is not None:
                self._go_away(strike.action.goaway)
            if strike.action.is_close:
                self._shell.close()

    def receive(self, data: bytes) -> None:
        """Take what one read brought: many requests, one turn, all answers in `out`."""
        if self._is_silent:
            return
        try:
            seen = self._h2.receive_data(data)
        except ProtocolError as error:
            self._row.violation = f"{type(error).__name__}: {error}"
            self.out.append(self._h2.data_to_send())
            self._is_silent = True
            self._shell.close()
            return
        handlers = self._handlers
        for event in seen:
            handler = handlers.get(type(event))
            if handler is not None:
                handler(event)
        own = self._h2.data_to_send()
        if own:
            self.out.append(own if self._answers_pings else without_ping_acks(own))
        if self._complete:
            complete, self._complete = self._complete, []
            self._serve(complete)
        self._floor.ledger.flush()

    def end(self) -> None:
        """Note what was still open when the connection ended."""
        for stream in list(self._open.values()):
            self._decide(stream, "connection_lost" if stream.is_complete else "incomplete")
        self._open.clear()
        self._row.closed_at = self._floor.clock.now()
        self._floor.ledger.flush()

    # Frames of the client

    def _on_request(self, event: events.RequestReceived) -> None:
        number = event.stream_id
        self._highest = max(self._highest, number)
        self._row.requests += 1
        names, values = zip(*event.headers, strict=True)
        problem = check_fields(names, values)
        stream = Stream(number, read_request(names, values))
        if problem:
            self._row.violation = problem
            self._refuse(stream, _PROTOCOL_ERROR, "violation")
        elif len(self._open) >= self._limit:
            self._row.refused_streams += 1
            self._row.limit_breaches += len(self._open) >= self._acknowledged
            self._refuse(stream, _REFUSED, "stream_limit")
        else:
            stream.is_dropped = self._last is not None and number > self._last
            self._open[number] = stream
            self._row.peak_streams = max(self._row.peak_streams, len(self._open))

    def _on_data(self, event: events.DataReceived) -> None:
        self._h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        stream = self._open.get(event.stream_id)
        if stream is not None and len(stream.body) < _MAX_BODY:
            stream.body += event.data

    def _on_end(self, event: events.StreamEnded) -> None:
        stream = self._open.get(event.stream_id)
        if stream is not None:
            stream.is_complete = True
            stream.request.body = bytes(stream.body)
            self._complete.append(stream)

    def _on_reset(self, event: events.StreamReset) -> None:
        stream = self._open.get(event.stream_id)
        if stream is not None:
            self._row.client_resets += 1
            self._starved.pop(stream.number, None)
            self._decide(stream, "cancelled")
            self._finish(stream)

    def _on_room(self, event: events.Event) -> None:
        for number, body in list(self._starved.items()):
            if self._h2.room(number) < len(body):
                continue
            del self._starved[number]
            self._send_body(self._open[number], body)

    def _on_acknowledged(self, event: events.SettingsAcknowledged) -> None:
        if self._unacknowledged:
            self._acknowledged = self._unacknowledged.pop(0)

    def _on_ping(self, event: events.PingReceived) -> None:
        self._row.pings += 1

    def _on_goaway(self, event: events.ConnectionTerminated) -> None:
        self._drain()

    # Requests

    def _serve(self, complete: Iterable[Stream]) -> None:
        floor, now = self._floor, self._floor.clock.now()
        for stream in complete:
            if stream.is_dropped:
                self._drop(stream)
                continue
            if stream.number not in self._open:
                continue
            verdict = judge(stream.request, self._peer, floor.policy, floor.devices, now)
            if self._peer.has_proved and not self._is_raised:
                self._is_raised = True
                self._set_limit(floor.faults.full_limit)
            strike = floor.picker.on_request(stream.request, self._row.number)
            if strike is None:
                self._answer(stream, verdict)
            else:
                self._strike(stream, verdict, strike)
        self._row.token_changes = self._peer.token_changes

    def _strike(self, stream: Stream, verdict: Verdict, strike: Strike) -> None:
        if strike.action.delay is None:
            self._act(stream, verdict, strike)
            return
        if strike.action.is_processed and verdict.status == 200:
            self._decide(stream, strike.name, is_processed=True)
        self._shell.later(strike.delay_s, lambda: self._act(stream, verdict, strike))

    def _act(self, stream: Stream, verdict: Verdict, strike: Strike) -> None:
        """Do what a fault says, now that its delay is over."""
        action = strike.action
        if self._open.get(stream.number) is not stream:
            return  # cancelled or dropped while it waited
        self._change_connection(action)
        if action.goaway is not None:
            self._go_away(action.goaway)
        is_processed = action.is_processed and verdict.status == 200
        if stream.is_dropped:
            pass
        elif action.is_close:
            self._decide(stream, strike.name, is_processed)
            self._shell.close()
        elif action.reset is not None:
            self._decide(stream, strike.name, is_processed)
            self.out.append(reset_frame(stream.number, action.reset))
            self._finish(stream)
        elif action.is_silent:
            self._decide(stream, strike.name, is_processed)
        elif action.status:
            wanted = Verdict(action.status, action.reason, int((action.timestamp or 0) * 1000))
            self._answer(stream, wanted, strike.name, is_processed, action.retry_after)
        else:
            self._answer(stream, verdict, strike.name, is_processed)
        self._floor.ledger.flush()

    def _answer(
        self,
        stream: Stream,
        verdict: Verdict,
        fault: str = "",
        is_processed: bool = False,
        retry_after: str = "",
    ) -> None:
        entry = self._decide(stream, fault, is_processed or verdict.status == 200, verdict)
        status, reason, timestamp = verdict
        fields = [("apns-id", entry.apns_id)]
        if self._floor.policy.environment == "sandbox":
            fields.append(("apns-unique-id", new_apns_id().lower()))
        if status == 200:
            self.out.append(answer_frames(stream.number, status, fields, has_body=False))
            self._finish(stream)
            return
        if retry_after:
            fields.append(("retry-after", retry_after))
        fields.append(("content-type", "application/json"))
        self.out.append(answer_frames(stream.number, status, fields, has_body=True))
        body = b'{"reason":"%b","timestamp":%d}' if timestamp else b'{"reason":"%b"}'
        body %= (reason.encode(), timestamp) if timestamp else (reason.encode(),)
        if self._h2.room(stream.number) < len(body):
            self._starved[stream.number] = body
        else:
            self._send_body(stream, body)

    def _send_body(self, stream: Stream, body: bytes) -> None:
        self._h2.spend(stream.number, len(body))
        self.out.append(data_frame(stream.number, body))
        self._finish(stream)

    def _decide(
        self, stream: Stream, fault: str, is_processed: bool = False, verdict: Verdict | None = None
    ) -> Entry:
        """Write the request into the ledger, once; the first decision stands."""
        if stream.entry is not None:
            return stream.entry
        entry = stream.entry = self._floor.ledger.draw_up(
            self._row, stream.number, stream.request, self._credential()
        )
        entry.at = self._floor.clock.now()
        entry.processed = is_processed
        entry.fault = fault
        if verdict is not None:
            entry.status, entry.reason = verdict.status, verdict.reason
        self._floor.ledger.record(entry)
        return entry

    def _credential(self) -> str:
        if self._peer.certificate is not None:
            return self._peer.certificate.uid
        return self._peer.credential.key.key_id if self._peer.credential is not None else ""

    def _finish(self, stream: Stream) -> None:
        self._open.pop(stream.number, None)
        self._h2.forget(stream.number)
        if self._is_draining and not self._open:
            self._shell.close()

    def _refuse(self, stream: Stream, code: int, fault: str) -> None:
        self._decide(stream, fault)
        self.out.append(reset_frame(stream.number, code))
        self._h2.forget(stream.number)

    def _drop(self, stream: Stream) -> None:
        """Let go of a stream above the last one of a GOAWAY; nothing is said about it."""
        stream.is_dropped = True
        self._decide(stream, "above_last_stream")
        if stream.is_complete:
            self._finish(stream)

    # The connection

    def _set_limit(self, limit: int, is_first: bool = False) -> None:
        self._limit = limit
        self._unacknowledged.append(limit)
        self.out.append(settings_frame(limit, is_first))

    def _change_connection(self, action: Action) -> None:
        if action.limit is not None:
            self._is_raised = True
            self._set_limit(action.limit)
        if action.is_ping_ignored:
            self._answers_pings = False
        if action.is_deaf:
            self._shell.stop_reading()

    def _go_away(self, goaway: GoAway) -> None:
        self._row.goaways += 1
        debug = _debug(goaway)
        if goaway.is_graceful:
            self.out.append(goaway_frame(MAX_STREAM, 0, debug))
            self._shell.later(goaway.notice_s, lambda: self._part(goaway, self._highest))
        else:
            self._part(goaway, self._last_stream(goaway.last))

    def _last_stream(self, which: LastStream) -> int:
        """Return the highest stream that is let pass; never lower than one that was processed."""
        decided = (s.number for s in self._open.values() if s.entry is not None and s.entry.processed)
        floor = max(decided, default=0)
        waiting = sorted(number for number, stream in self._open.items() if stream.entry is None)
        if which is LastStream.ALL or not waiting:
            return self._highest
        if which is LastStream.NONE:
            return max(floor, waiting[0] - 2, 0)
        return max(floor, waiting[(len(waiting) - 1) // 2])

    def _part(self, goaway: GoAway, last: int) -> None:
        """Send the frame that names the last stream, and let go of those above it."""
        frame = goaway_frame(last, goaway.code, _debug(goaway))
        self.out.extend([frame, frame] if goaway.is_twice else [frame])
        self._last = last
        for stream in [each for number, each in self._open.items() if number > last]:
            self._drop(stream)
        if goaway.close is CloseMoment.NOW:
            self._shell.close()
        elif goaway.close is CloseMoment.DRAINED:
            self._drain()

    def _drain(self) -> None:
        self._is_draining = True
        if self._open:
            self._shell.later(_DRAIN_S, self._shell.close)
        else:
            self._shell.close()


def _debug(goaway: GoAway) -> bytes:
    if goaway.debug is Debug.JSON:
        return json.dumps({"reason": goaway.reason}, separators=(",", ":")).encode()
    return _DEBUG[goaway.debug]
