"""One connection to APNs: asyncio and TLS around a `Wire`.

Lives here: moving bytes, timers, and telling the pool. What bytes mean, when a request may go out
and when a peer counts as dead is decided in `wire` and `liveness`; which connection gets which
message in the pool.

    CONNECTING ──SETTINGS──► PROBING ──first answer──► OPEN
        │                       │                        │   drain(), GOAWAY, wedged, ids used up
        │                       └──────────┬─────────────┘
        │ ConnectError                 DRAINING ──last answer──► CLOSED
        └───────────────────────────────────────────────────────►  ▲ close(), loss, dead, protocol error

Certificate connections skip PROBING. One read becomes one call of `on_outcomes` with all outcomes it
brought; `on_change` follows when state or capacity changed. `send` calls neither: its caller knows.
`close` hands out its outcomes before it returns.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Sequence
from typing import Any, Protocol, cast

import structlog

from momentum_push.clock import Clock
from momentum_push.delivery.apns.dial import Dial
from momentum_push.delivery.apns.failures import (
    STAGE_CONNECTING,
    STAGE_READING,
    ConnectFailed,
    explain,
    explain_break,
    explain_loss,
    no_http2,
)
from momentum_push.delivery.apns.liveness import Liveness, Need, Pulse
from momentum_push.delivery.apns.options import ConnectionOptions, ConnectionState, Target
from momentum_push.delivery.apns.provider_token import HeldToken
from momentum_push.delivery.apns.response import Farewell
from momentum_push.delivery.apns.wire import Request, Wire, WireOptions
from momentum_push.delivery.sizing import lifetime
from momentum_push.message import Outcome

__all__ = ["Authority", "Connection", "ConnectionOptions", "ConnectionState", "Target"]

log = structlog.get_logger()

WRITE_BUFFER = 262_144
"""Bytes written ahead of the socket before there is no room: a turn's worth of requests."""

READ_SIZE = 262_144
_READ_VIEW = memoryview(bytearray(READ_SIZE))
"""Where TLS puts what it has opened, for all connections: filled and read within one call of the loop.

uvloop takes all that the socket has with one system call, and OpenSSL opens it record by record; a peer may
put each answer into a record of its own (nginx does). Without a buffer of ours uvloop allocates READ_SIZE
bytes for each record and cuts them down to the hundred that came: half of all CPU per notification.
"""

CLOSE_TIMEOUT_S = 2.0
"""How long an orderly close waits for the peer's close_notify; nothing of ours depends on it."""


class Authority(Protocol):
    """What a connection asks of its credential."""

    is_token: bool

    def authorize(self, held: HeldToken | None, now: float, monotonic: float) -> HeldToken | None:
        """Return what to send from now on; None: this connection cannot go on (see provider_token)."""


class Connection(asyncio.BufferedProtocol):
    """See the module's head."""

    def __init__(
        self,
        *,
        target: Target,
        context: ssl.SSLContext,
        credential: Authority,
        options: ConnectionOptions,
        clock: Clock,
        on_outcomes: Callable[[Connection, list[Outcome]], None],
        on_change: Callable[[Connection], None],
        conn_id: str,
        chance: float = 1.0,
    ) -> None:
        self.target, self.options, self.conn_id = target, options, conn_id
        self.close_reason = ""
        """Why it is CLOSED; empty while it is not."""
        self.loss: ConnectFailed | None = None
        """How it was lost after it was open: no goodbye, or no sign of life; None where it was not."""
        self._context, self._credential, self._clock = context, credential, clock
        self._on_outcomes, self._on_change = on_outcomes, on_change
        self._liveness = Liveness(
            options.ping_interval_s,
            options.busy_ping_interval_s,
            options.ping_timeout_s,
            options.idle_timeout_s,
        )
        self._wire = Wire(
            WireOptions(
                authority=target.name,
                response_timeout_s=options.response_timeout_s,
                max_streams=options.max_streams,
                max_deliveries=options.max_deliveries,
                auto_collapse=options.auto_collapse,
                is_probing=credential.is_token,
                epoch=clock.now() - clock.monotonic(),
            )
        )
        self._held: HeldToken | None = None
        self._dial = Dial(target, target.proxy) if target.proxy is not None else None
        self._transport: asyncio.Transport | None = None
        self._heard: asyncio.Future[None] | None = None  # done at SETTINGS; whoever opens waits for it
        self._failure: ConnectFailed | None = None  # found after SETTINGS, before `open` got its turn
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due = 0.0
        self._is_paused = False
        self._idle_since = clock.monotonic()
        age = lifetime(options.max_age_s, chance)
        self._ends_at = self._idle_since + age if age else None
        self._told: tuple[ConnectionState, int] = (ConnectionState.CONNECTING, 0)

    # --- what there is to know

    @property
    def state(self) -> ConnectionState:
        """Where the connection is in its life."""
        if self.close_reason:
            return ConnectionState.CLOSED
        if not self._wire.is_ready:
            return ConnectionState.CONNECTING
        if self._wire.is_draining:
            return ConnectionState.DRAINING
        return ConnectionState.OPEN if self._wire.is_proven else ConnectionState.PROBING

    @property
    def capacity(self) -> int:
        """Messages it would take now; `send` may take fewer where bodies are large."""
        return 0 if self._is_paused or self.close_reason else self._wire.capacity

    @property
    def trip(self) -> int:
        """Messages that it moves in one round trip."""
        return self._wire.trip

    @property
    def is_window_bound(self) -> bool:
        """Whether windows limit a trip, and not the number of streams."""
        return self._wire.is_window_bound

    @property
    def in_flight(self) -> int:
        """Requests that wait for their answer."""
        return self._wire.in_flight

    @property
    def remote(self) -> str:
        """The address at the other end of our socket: the peer's, or its proxy's."""
        return self.target.address

    @property
    def farewell(self) -> Farewell | None:
        """The peer's last GOAWAY."""
        return self._wire.farewell

    @property
    def goaway_reason(self) -> str:
        """The last GOAWAY's reason word, else its text, else its code's name; empty: there was none."""
        return self._wire.farewell.reason if self._wire.farewell is not None else ""

    @property
    def drain_reason(self) -> str:
        """Why it takes no more requests; empty: it does."""
        return self._wire.drain_reason

    @property
    def blame(self) -> str:
        """What the peer did that it takes no more requests; empty: nothing, or what `loss` says."""
        return self._wire.blame

    def __repr__(self) -> str:
        why = self.close_reason or self._wire.drain_reason
        return (
            f"<connection {self.conn_id} to {self.target}: {self.state.value}{f' ({why})' if why else ''}, "
            f"{self.in_flight} in flight, room for {self.capacity}>"
        )

    # --- life

    async def open(self) -> None:
        """Connect: TCP, TLS, ALPN, and wait for the peer's SETTINGS.

        Raises:
            ConnectFailed: all of that within `connect_timeout_s`, or this; the connection is CLOSED then.
        """
        self._heard = asyncio.get_running_loop().create_future()
        try:
            await self._connect(self._heard)
        except ConnectFailed as failure:
            self._shut(str(failure), is_orderly=False)
            raise
        except asyncio.CancelledError:
            self._shut("given up while connecting", is_orderly=False)
            raise
        finally:
            self._heard = self._failure = None  # an exception knows the frames it came through, and they us
        self._idle_since = self._clock.monotonic()
        self._told = (self.state, self.capacity)
        self._arm()

    def send(self, requests: Sequence[Request]) -> int:
        """Send as many of `requests`, from the front, as there is room for; one write.

        Returns:
            How many were taken; each of them will come back in exactly one outcome.
        """
        if self._transport is None or not self.capacity:
            return 0
        monotonic = self._clock.monotonic()
        held = self._credential.authorize(self._held, self._clock.now(), monotonic)
        if held is None:
            asyncio.get_running_loop().call_soon(self.drain, "the clock jumped; a new connection is needed")
            return 0
        self._held = held
        before = self._wire.in_flight
        taken = self._wire.send(requests, held.value, monotonic)
        self._flush()
        if self._wire.is_draining and self._wire.in_flight > before:
            asyncio.get_running_loop().call_soon(self._give_back)
        self._arm()
        self._told = (self.state, self.capacity)
        return taken

    def _give_back(self) -> None:
        self._settle(self._wire.give_back())

    def drain(self, why: str) -> None:
        """Take no more requests; close when the last answer is in."""
        if not self.close_reason:
            self._wire.drain(why)
            self._settle([])

    def close(self, why: str) -> None:
        """Close at once; what is in flight comes back as UNKNOWN before this returns."""
        if self.close_reason:
            return
        outcomes = self._wire.connection_lost(why, self._clock.monotonic())
        self._fail_open(ConnectFailed(f"{self.target}: {why}", stage=STAGE_CONNECTING))
        self._shut(why, is_orderly=not outcomes)
        self._tell(outcomes)

    # --- asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's does not derive from it
        self._transport.set_write_buffer_limits(WRITE_BUFFER)

    def get_buffer(self, sizehint: int) -> memoryview:
        return _READ_VIEW

    def buffer_updated(self, nbytes: int) -> None:
        self.data_received(bytes(_READ_VIEW[:nbytes]))

    def data_received(self, data: bytes) -> None:
        if self.close_reason:
            return
        before = self._wire.farewell
        outcomes = self._wire.receive(data, self._clock.monotonic())
        if self._wire.farewell is not before:
            self._log_farewell()
        self._settle(outcomes)

    def pause_writing(self) -> None:
        self._is_paused = True
        self._told = (self.state, 0)  # the pool asks before it sends; what it waits for is room

    def resume_writing(self) -> None:
        self._is_paused = False
        self._tell([])

    def connection_lost(self, exc: Exception | None) -> None:
        # The transport knows us still (uvloop's by `get_buffer`): whoever lets go frees both at once. Left to
        # the collector, which counts objects and no bytes, TLS's buffers would lie about for many minutes.
        self._transport = None
        if self.close_reason:
            return
        if self._heard is not None:
            self._fail_open(explain_loss(str(self.target), exc))
            return
        why = self._wire.drain_reason or (f"connection lost: {exc}" if exc else "closed by the peer")
        if not self._wire.is_draining:
            self.loss = explain_break(str(self.target), exc)
        is_refused = self.loss is not None and self.loss.is_credential
        outcomes = self._wire.connection_lost(why, self._clock.monotonic(), is_refused)
        self._shut(why, is_orderly=False)
        self._tell(outcomes)

    # --- inside

    async def _connect(self, heard: asyncio.Future[None]) -> None:
        where, limit = str(self.target), self.options.connect_timeout_s
        try:
            async with asyncio.timeout(limit) as deadline:
                await self._handshake()
                await heard
            if self._wire.is_done:
                self._fail_open(ConnectFailed(f"{where}: {self.drain_reason}", stage=STAGE_CONNECTING))
            if self._failure is not None:
                raise self._failure
        except ConnectFailed:
            raise
        except OSError as error:
            if not deadline.expired():
                raise explain(where, error) from error
            stage, step = STAGE_CONNECTING, f"{where}: no answer"
            if self._transport is not None:
                stage, step = STAGE_READING, f"{where}: TLS is up, but no HTTP/2 SETTINGS came"
            elif self._dial is not None:
                step = self._dial.waiting
            fix = "check the proxy" if self._dial is not None else "check the network"
            raise ConnectFailed(
                f"{step} within {limit:g} s; {fix}, see connect_timeout", stage=stage
            ) from error
        finally:
            del heard  # its exception knows this frame

    async def _handshake(self) -> None:
        loop = asyncio.get_running_loop()
        if self._dial is None:
            place: dict[str, Any] = {"host": self.target.address, "port": self.target.port}
        else:
            place = {"sock": await self._dial.run()}
        transport, _ = await loop.create_connection(
            lambda: self,
            **place,
            ssl=self._context,
            server_hostname=self.target.name,
            ssl_handshake_timeout=self.options.connect_timeout_s + 1,  # ours rings first and says more
            ssl_shutdown_timeout=CLOSE_TIMEOUT_S,
        )
        if self.close_reason:
            transport.abort()
            raise ConnectFailed(f"{self.target}: {self.close_reason}", stage=STAGE_CONNECTING)
        protocol = transport.get_extra_info("ssl_object").selected_alpn_protocol()
        if protocol != "h2":
            raise no_http2(str(self.target), protocol)
        self._wire.initiate()
        self._flush()

    def _settle(self, outcomes: list[Outcome]) -> None:
        """After anything that moved the wire: write what is due, close what is done, tell the pool."""
        self._flush()
        if outcomes:
            self._idle_since = self._clock.monotonic()
        if self._heard is not None:
            self._watch_opening()
        elif self._wire.is_done and not self.close_reason:
            self._shut(self._wire.error or self._wire.drain_reason, is_orderly=True)
        self._arm()
        self._tell(outcomes)

    def _watch_opening(self) -> None:
        """SETTINGS are what `open` waits for; a GOAWAY or nonsense before it returns is a failed connect."""
        wire, where = self._wire, str(self.target)
        if wire.farewell is not None:
            text = (
                f"{where}: the peer said goodbye at once ({wire.farewell.reason}); see credential and routes"
            )
            self._fail_open(
                ConnectFailed(
                    text,
                    stage=STAGE_READING,
                    reason=wire.farewell.reason,
                )
            )
        elif wire.error:
            self._fail_open(
                ConnectFailed(f"{where}: {wire.error}; check host and port in routes", stage=STAGE_READING)
            )
        elif wire.is_ready and self._heard is not None and not self._heard.done():
            self._heard.set_result(None)

    def _fail_open(self, failure: ConnectFailed) -> None:
        self._failure = self._failure or failure
        if self._heard is not None and not self._heard.done():
            self._heard.set_exception(failure)

    def _flush(self) -> None:
        if self._transport is None or self.close_reason:
            return
        if data := self._wire.data_to_send():
            self._transport.write(data)

    def _shut(self, why: str, is_orderly: bool) -> None:
        """Close the transport; with a GOAWAY and TLS's close_notify where the peer may be listening."""
        self.close_reason = why or "closed"
        if self.blame and self.farewell is None and self._heard is None:
            log.warning("connection_retired", conn_id=self.conn_id, remote=self.remote, reason=self.blame)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._transport is None:
            return
        if is_orderly and not self._transport.is_closing():
            self._transport.write(self._wire.farewell_bytes())
            self._transport.close()
        else:
            self._transport.abort()

    def _tell(self, outcomes: list[Outcome]) -> None:
        """Hand out outcomes, then say so if state or capacity is not what was told last."""
        if outcomes:
            self._on_outcomes(self, outcomes)
        now = (self.state, self.capacity)
        if now != self._told and self._heard is None:
            self._told = now
            self._on_change(self)

    def _log_farewell(self) -> None:
        farewell = self._wire.farewell
        assert farewell is not None
        log.info(
            "goaway_received",
            conn_id=self.conn_id,
            remote=self.remote,
            reason=farewell.reason,
            code=farewell.code,
            last_stream_id=farewell.last_stream_id,
            in_flight=self.in_flight,
        )

    # --- timers: one, that may ring too early, because re-arming it at each read costs more

    def _pulse(self) -> Pulse:
        wire = self._wire
        return Pulse(wire.last_heard, wire.oldest_sent, wire.pinged_at, self._idle_since)

    def _arm(self) -> None:
        if self.close_reason or self._heard is not None:
            return
        ends_at = None if self._wire.is_draining else self._ends_at
        moments = (self._wire.next_deadline(), self._liveness.next_check(self._pulse()), ends_at)
        due = min((moment for moment in moments if moment is not None), default=None)
        if due is None or (self._timer is not None and self._timer_due <= due):
            return
        if self._timer is not None:
            self._timer.cancel()
        wait = max(0.0, due - self._clock.monotonic())
        self._timer, self._timer_due = asyncio.get_running_loop().call_later(wait, self._ring), due

    def _ring(self) -> None:
        self._timer = None
        now = self._clock.monotonic()
        outcomes = self._wire.expire(now)
        if self._ends_at is not None and now >= self._ends_at:
            self._wire.drain("max_outbound_connection_age")
        need = self._liveness.need(self._pulse(), now)
        if need is Need.PING:
            self._wire.ping(now)
        elif need is Need.CLOSE:
            self._wire.drain("idle_timeout")
        elif need is Need.ABORT:
            why = f"no answer to PING within {self._liveness.ping_timeout_s:g} s"
            self.loss = ConnectFailed(f"{self.target}: {why}", stage=STAGE_READING)
            outcomes += self._wire.connection_lost(why, now)
            self._shut(why, is_orderly=False)
        self._settle(outcomes)
