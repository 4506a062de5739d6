"""One connection of the simulator, without its socket: bytes in, bytes and a few wishes out.

    receive(data) ─► h2 events ─► streams ─┬─► rules.judge ─► FaultPicker ─► answer | fault
                                           └─► refused: over the limit, above the last stream
    take(): frames of this turn, in order     shell: later(), close(), stop_reading()

A stream is *open* from its HEADERS to our END_STREAM or a reset by either side; that count is what
the limit is held against, at once when it falls and without waiting for the client's ACK, as Apple does
(apns.md 6.1). A request is *decided* when it is recorded in the ledger: as a rule with its answer; at
once, though the answer is late or never comes, where a fault says `processed`; at the end of the
connection, as not processed, where no answer was due yet. So a GOAWAY never denies
what the ledger has as processed.

The parts that do it are `limits`, `answers`, `farewell` and `pacing`; `line` draws how they hang together.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial

from h2 import events
from h2.exceptions import ProtocolError

from momentum_push.simulator.answers import Answers
from momentum_push.simulator.farewell import BREACH, Farewell
from momentum_push.simulator.faults import Action, CloseMoment, Debug, GoAway, LastStream
from momentum_push.simulator.floor import Floor
from momentum_push.simulator.http2 import check_fields, ping_frame, reset_frame, without_ping_acks
from momentum_push.simulator.ledger import ConnectionEntry
from momentum_push.simulator.limits import Limits
from momentum_push.simulator.line import Line, Shell, Stream
from momentum_push.simulator.pacing import Pacing
from momentum_push.simulator.picker import PLAIN, Strike
from momentum_push.simulator.request import Peer, Verdict, read_request
from momentum_push.simulator.rules import judge

__all__ = ["Session"]

_MAX_BODY = 1 << 20
_PROTOCOL_ERROR, _STREAM_CLOSED, _REFUSED = 1, 5, 7
_ABUSED = GoAway(debug=Debug.EMPTY, close=CloseMoment.NOW)


class Session:
    """The server's side of one connection."""

    def __init__(self, floor: Floor, shell: Shell, entry: ConnectionEntry, peer: Peer) -> None:
        self._floor = floor
        self._shell = shell
        self._row = entry
        self._peer = peer
        self._line = line = Line(floor, shell, entry, peer)
        self._h2, self._open, self._out = line.h2, line.open, line.out
        self._limits = Limits(line)
        self._answers = Answers(line)
        self._farewell = Farewell(line)
        self._pacing = Pacing(line)
        self._complete: list[Stream] = []
        self._wedge: Strike | None = None
        self._bad_tokens = 0
        self._refused: set[int] = set()
        """In this read; h2 has seen their DATA before it was told, and does not refuse it."""
        self._is_silent = False
        self._answers_pings = True
        self._hole_s = 0.0
        self._heard_at = 0.0
        self._handlers: dict[type, Callable[..., None]] = {
            events.RequestReceived: self._on_request,
            events.DataReceived: self._on_data,
            events.StreamEnded: self._on_end,
            events.StreamReset: self._on_reset,
            events.WindowUpdated: self._on_room,
            events.RemoteSettingsChanged: self._on_room,
            events.SettingsAcknowledged: self._on_acknowledged,
            events.PingReceived: self._on_ping,
            events.PingAckReceived: self._on_ping_ack,
            events.ConnectionTerminated: self._on_goaway,
        }

    def __repr__(self) -> str:
        return f"<session {self._row.number}: {len(self._open)} of {self._limits.current} streams>"

    # What the shell calls

    def start(self) -> None:
        """Send the first SETTINGS, or do what a fault says of this connection."""
        strike = self._floor.picker.on_connect(self._row.number, self._row.listener, self._floor.age())
        action = strike.action if strike is not None else Action()
        if action.is_hanging:
            self._is_silent = True
            return
        if action.goaway is not None and action.goaway.is_first:
            self._is_silent = True
            self._farewell.go_away(action.goaway)
            return
        self._limits.start()
        certificate = self._peer.certificate
        if certificate is not None and self._floor.policy.environment not in certificate.environments:
            refusal = GoAway(LastStream.NONE, reason="BadCertificateEnvironment", close=CloseMoment.NOW)
            self._farewell.go_away(refusal)
            return
        self._change_connection(action)
        if action.goaway is not None:
            self._farewell.go_away(action.goaway)
        if action.is_close:
            self._shell.close(action.closing)

    def receive(self, data: bytes) -> None:
        """Take what one read brought: many requests, one turn, all answers at once."""
        if self._is_silent or self._is_swallowed():
            return
        self._heard_at = self._floor.clock.now()
        try:
            seen = self._h2.receive_data(data)
        except ProtocolError as error:
            self._row.violation = f"{type(error).__name__}: {error}"
            self._out.append(self._h2.data_to_send())
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
            self._out.append(own if self._answers_pings else without_ping_acks(own))
        if self._complete:
            complete, self._complete = self._complete, []
            self._serve(complete)
        self._refused.clear()
        self._floor.ledger.flush()

    def take(self) -> bytes:
        """Return what is to be written now."""
        data = b"".join(self._out)
        self._out.clear()
        return data if not self._hole_s or not self._is_swallowed() else b""

    def end(self) -> None:
        """Note what was still open when the connection ended."""
        for stream in list(self._open.values()):
            self._line.decide(stream, "connection_lost" if stream.is_complete else "incomplete")
        self._open.clear()
        self._row.closed_at = self._floor.clock.now()
        self._floor.ledger.flush()

    # Frames of the client

    def _on_request(self, event: events.RequestReceived) -> None:
        number = event.stream_id
        self._line.highest = max(self._line.highest, number)
        self._row.requests += 1
        names, values = zip(*event.headers, strict=True)
        problem = check_fields(names, values)
        stream = Stream(number, read_request(names, values))
        if problem:
            self._row.violation = problem
            self._refuse(stream, _PROTOCOL_ERROR, "violation")
        elif len(self._open) >= self._limits.current:
            self._row.refused_streams += 1
            self._row.limit_breaches += len(self._open) >= self._limits.acknowledged
            self._refuse(stream, _REFUSED, "stream_limit")
            if self._floor.faults.has_breach_goaway and self._farewell.last is None:
                self._farewell.go_away(BREACH)
        else:
            stream.is_dropped = self._farewell.last is not None and number > self._farewell.last
            self._open[number] = stream
            self._row.peak_streams = max(self._row.peak_streams, len(self._open))

    def _on_data(self, event: events.DataReceived) -> None:
        self._h2.consume(event.stream_id, event.flow_controlled_length)
        stream = self._open.get(event.stream_id)
        if stream is not None:
            if len(stream.body) < _MAX_BODY:
                stream.body += event.data
        elif event.stream_id in self._refused:
            self._out.append(reset_frame(event.stream_id, _STREAM_CLOSED))

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
            self._answers.forget(stream)
            self._line.decide(stream, "cancelled")
            self._line.finish(stream)

    def _on_room(self, event: events.Event) -> None:
        self._answers.on_room()

    def _on_acknowledged(self, event: events.SettingsAcknowledged) -> None:
        self._limits.on_acknowledged()

    def _on_ping(self, event: events.PingReceived) -> None:
        self._row.pings += 1

    def _on_ping_ack(self, event: events.PingAckReceived) -> None:
        self._row.ping_acks += 1

    def _on_goaway(self, event: events.ConnectionTerminated) -> None:
        self._farewell.drain()

    # Requests

    def _serve(self, complete: Iterable[Stream]) -> None:
        floor, peer, now = self._floor, self._peer, self._floor.clock.now()
        is_free, age = self._pacing.is_free, floor.age()
        for stream in complete:
            if stream.is_dropped:
                self._farewell.drop(stream)
                continue
            if stream.number not in self._open:
                continue
            changes = len(peer.token_changes)
            verdict = judge(stream.request, peer, floor.policy, floor.devices, now)
            if peer.has_proved:
                self._limits.on_proof()
            strike = self._wedge or floor.picker.on_request(
                stream.request,
                self._row.number,
                self._row.listener,
                age,
                verdict=verdict,
                has_new_token=len(peer.token_changes) > changes,
            )
            if strike is None and is_free:
                self._answer(stream, verdict)
            else:
                self._strike(stream, verdict, strike or PLAIN)
        self._row.token_changes = peer.token_changes

    def _strike(self, stream: Stream, verdict: Verdict, strike: Strike) -> None:
        """Put off what a fault says for as long as it says."""
        action, act = strike.action, partial(self._act, stream, verdict, strike)
        if action.is_wedge:
            kept = replace(action, is_wedge=False, goaway=None, limit=None, settings=(), is_pinging=False)
            self._wedge = Strike(strike.name, kept, strike.delay_s)
        wait = strike.delay_s + (0.0 if self._pacing.is_free else self._pacing.delay())
        if action.delay is None and not wait and not action.shuffle:
            act()
            return
        if action.is_processed and verdict.status == 200:
            self._line.decide(stream, strike.name, is_processed=True)
        if action.shuffle:
            self._pacing.shuffle(action.shuffle, act)
        else:
            self._pacing.later(wait, act)

    def _act(self, stream: Stream, verdict: Verdict, strike: Strike) -> None:
        """Do what a fault says, now that its delay is over."""
        action, decide = strike.action, self._line.decide
        if self._open.get(stream.number) is not stream:
            return  # cancelled or dropped while it waited
        self._change_connection(action)
        if action.goaway is not None:
            self._farewell.go_away(action.goaway)
        is_processed = action.is_processed and verdict.status == 200
        if stream.is_dropped:
            pass
        elif action.is_close:
            decide(stream, strike.name, is_processed)
            self._shell.close(action.closing)
        elif action.reset is not None:
            decide(stream, strike.name, is_processed)
            self._out.append(reset_frame(stream.number, action.reset))
            if action.then_reset is not None:
                self._out.append(reset_frame(stream.number, action.then_reset))
            self._line.finish(stream)
        elif action.is_silent:
            decide(stream, strike.name, is_processed)
        else:
            if action.status:
                verdict = Verdict(action.status, action.reason, int((action.timestamp or 0) * 1000))
            self._answer(stream, verdict, strike, is_processed)
        self._floor.ledger.flush()

    def _answer(
        self, stream: Stream, verdict: Verdict, strike: Strike = PLAIN, is_processed: bool = False
    ) -> None:
        action = strike.action
        entry = self._line.decide(stream, strike.name, is_processed or verdict.status == 200, verdict)
        self._answers.send(stream, verdict, entry.apns_id, action.retry_after, action.shape)
        self._limits.on_answer(verdict)
        if verdict.reason == "BadDeviceToken":
            self._bad_tokens += 1
            if self._bad_tokens == self._floor.faults.abuse.bad_tokens:
                self._farewell.go_away(_ABUSED)

    def _refuse(self, stream: Stream, code: int, fault: str) -> None:
        self._line.decide(stream, fault)
        self._out.append(reset_frame(stream.number, code))
        self._refused.add(stream.number)
        self._h2.forget(stream.number)

    # The connection

    def _change_connection(self, action: Action) -> None:
        if action is PLAIN.action:
            return
        if action.limit is not None:
            self._limits.set(action.limit, action.limit_for_s)
        if action.settings:
            self._limits.announce(dict(action.settings))
        if action.is_pinging:
            self._out.append(ping_frame())
        if action.is_ping_ignored:
            self._answers_pings = False
        if action.is_window_withheld:
            self._h2.withhold_windows()
        if action.black_hole_s:
            self._hole_s = action.black_hole_s
            self._heard_at = self._floor.clock.now()
        if action.is_deaf:
            self._shell.stop_reading()

    def _is_swallowed(self) -> bool:
        """Whether the path between us has forgotten this connection; it does not remember again."""
        if not self._hole_s or self._floor.clock.now() - self._heard_at <= self._hole_s:
            return False
        self._is_silent = True
        self._heard_at = float("-inf")
        self._shell.stop_reading()
        return True
