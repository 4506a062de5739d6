"""The asyncio side of a connection: moves bytes and obeys its `Session`.

One read may hold hundreds of requests; they are fed as one piece and all answers go out with one
write. A client that does not read is not read from either, so nothing piles up here.
"""

import asyncio
from collections.abc import Callable
from typing import cast

import structlog

from momentum_push.simulator.certificates import read_provider_certificate
from momentum_push.simulator.door import end_direction, has_left, reset_on_close
from momentum_push.simulator.faults import Closing
from momentum_push.simulator.floor import Floor
from momentum_push.simulator.request import Peer
from momentum_push.simulator.schedule import Timer
from momentum_push.simulator.session import Session

__all__ = ["Connection"]

_WATCH_S = 0.5
_CLOSE_S = 2.0
log = structlog.get_logger()


class Connection(asyncio.Protocol):
    """One client; it stands in `connections` from the end of the handshake to its own.

    asyncio makes a protocol before the handshake and forgets it without a word where that fails.
    """

    def __init__(
        self, floor: Floor, is_plain: bool, connections: set["Connection"], listener: int = 1
    ) -> None:
        self._floor = floor
        self._is_plain = is_plain
        self._connections = connections
        self._listener = listener
        self._timers: set[Timer] = set()
        self._is_deaf = False
        self._is_mute = False
        self._is_closing = False
        self._session: Session | None = None
        self._ended = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._loop = asyncio.get_running_loop()
        self._connections.add(self)
        tls = transport.get_extra_info("ssl_object")
        remote = _address(transport.get_extra_info("peername"))
        row = self._floor.ledger.open_connection(remote, self._floor.clock.now(), self._listener)
        self._row = row
        if not self._is_plain and tls.selected_alpn_protocol() != "h2":
            row.violation = "ALPN did not yield h2"
            self.abort()
            return
        der = tls.getpeercert(binary_form=True) if tls is not None else None
        certificate = read_provider_certificate(der) if der else None
        row.uid = certificate.uid if certificate is not None else ""
        self._session = Session(self._floor, self, row, Peer(certificate=certificate))
        log.info("simulator_connection_opened", connection=row.number, remote=remote, uid=row.uid)
        self._session.start()
        self._flush()

    def data_received(self, data: bytes) -> None:
        if self._session is not None and not self._is_closing:
            self._session.receive(data)
            self._flush()

    def connection_lost(self, error: Exception | None) -> None:
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
        if self._session is not None:
            self._session.end()
            violation = self._row.violation
            log.info(
                "simulator_connection_closed", session=repr(self._session), error=error, violation=violation
            )
        self._connections.discard(self)
        self._ended.set()

    def pause_writing(self) -> None:
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        if not self._is_deaf:
            self._transport.resume_reading()

    def later(self, seconds: float, call: Callable[[], None]) -> None:
        """Call back after `seconds` of the simulator's time, unless the connection ends before."""

        def fire() -> None:
            self._timers.discard(timer)
            call()
            self._flush()

        timer = self._floor.scheduler.later(seconds, fire)
        self._timers.add(timer)

    def close(self, how: Closing = Closing.CLEAN) -> None:
        """Write what is due and close as asked; abort if the client does not let go."""
        if self._is_closing or self._descriptor() < 0:
            return
        self._flush()
        if how is Closing.HALF:
            self._is_mute = True
            end_direction(self._descriptor())
            return
        self._is_closing = True
        if how is Closing.RESET:
            reset_on_close(self._descriptor())
            self._transport.abort()
            return
        if how is Closing.NO_NOTIFY:
            end_direction(self._descriptor())
        else:
            self._transport.close()
        self._loop.call_later(_CLOSE_S, self._transport.abort)

    def stop_reading(self) -> None:
        self._is_deaf = True
        self._transport.pause_reading()
        self._watch()

    def _watch(self) -> None:
        """Who does not read does not see the client leave either; look, or the socket stays for ever."""
        if self._ended.is_set():
            return
        if has_left(self._descriptor()):
            self.abort()
        else:
            self._loop.call_later(_WATCH_S, self._watch)

    async def wait_ended(self) -> None:
        """Return when the connection is gone."""
        await self._ended.wait()

    def abort(self) -> None:
        """End it at once."""
        self._is_closing = True
        self._transport.abort()

    def _descriptor(self) -> int:
        """Return the socket's, -1 when it is gone and that has not been told yet."""
        socket = self._transport.get_extra_info("socket")
        return -1 if socket is None else cast(int, socket.fileno())

    def _flush(self) -> None:
        if self._session is not None:
            data = self._session.take()
            if data and not (self._is_closing or self._is_mute):
                self._transport.write(data)


def _address(peer: object) -> str:
    return f"{peer[0]}:{peer[1]}" if isinstance(peer, tuple) else str(peer)
