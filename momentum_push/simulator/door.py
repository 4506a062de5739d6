"""A listening address: takes connections in, or turns them away before a word was said.

    accept ─► Guard: too many this minute? ─► rules for the door ─► TLS handshake ─► Connection
                    └── RST ──┘                 └─ RST, later, shut ┘

Accepted sockets are handed to the event loop one by one, so that what happens before the handshake can be
faulty too. A refusal is an RST on a connection that the kernel has already taken; a *shut* door does
not listen at all, and the client's connect itself fails.
"""

import asyncio
import contextlib
import os
import socket
import ssl
import struct
from collections import deque
from collections.abc import Callable

import structlog

from momentum_push.simulator.floor import Floor

__all__ = ["Door", "Guard", "end_direction", "has_left", "reset_on_close"]

_BACKLOG = 1024
_AT_ONCE = 64
_HANDSHAKE_S = 10.0
_SHUTDOWN_S = 5.0
_MINUTE_S = 60.0
_PAUSE_S = 1.0
_LEFT = (7, 8)  # TCP_CLOSE, TCP_CLOSE_WAIT of <netinet/tcp.h>
log = structlog.get_logger()


class Guard:
    """Counts connects; above so many a minute, all are refused for a time (apns.md 9.5, "abuse")."""

    def __init__(self) -> None:
        self._times: deque[float] = deque()
        self._refused_until = float("-inf")

    def admits(self, now: float, most: int, refuse_s: float) -> bool:
        """Whether a connect at `now` is let in; `most` of 0 lets all in."""
        if not most:
            return True
        if now < self._refused_until:
            return False
        while self._times and self._times[0] <= now - _MINUTE_S:
            self._times.popleft()
        self._times.append(now)
        if len(self._times) <= most:
            return True
        self._times.clear()
        self._refused_until = now + refuse_s
        return False


class Door:
    """One listening address.

    Attributes:
        number: ordinal among the simulator's, from 1.
        port: that it listens on, once opened.
    """

    def __init__(
        self,
        number: int,
        listen: str,
        floor: Floor,
        guard: Guard,
        context: ssl.SSLContext | None,
        factory: Callable[[], asyncio.Protocol],
    ) -> None:
        host, _, port = listen.rpartition(":")
        self.number = number
        self.host, self.port = host.strip("[]") or "127.0.0.1", int(port)
        self._floor = floor
        self._guard = guard
        self._context = context
        self._factory = factory
        self._listening: list[socket.socket] = []
        self._waiting: set[socket.socket] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_closed = False

    @property
    def address(self) -> str:
        """`HOST:PORT` as a route would have it."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_open(self) -> bool:
        return bool(self._listening)

    async def open(self) -> None:
        """Listen.

        Raises:
            OSError: the address cannot be had.
        """
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        try:
            for family, *_, address in dict.fromkeys(found):
                self._listen(family, (str(address[0]), self.port))
        except OSError:
            self._shut()
            raise

    async def close(self) -> None:
        """Stop listening; handshakes under way and connections that wait for theirs end."""
        self._is_closed = True
        self._shut()
        for client in self._waiting:
            client.close()
        self._waiting.clear()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_SHUTDOWN_S)

    def _listen(self, family: int, address: tuple[str, int]) -> None:
        listening = socket.create_server(address, family=family, backlog=_BACKLOG)
        listening.setblocking(False)
        self.port = listening.getsockname()[1]
        self._listening.append(listening)
        asyncio.get_running_loop().add_reader(listening.fileno(), self._on_ready, listening)

    def _shut(self) -> None:
        loop = asyncio.get_running_loop()
        for listening in self._listening:
            loop.remove_reader(listening.fileno())
            listening.close()
        self._listening.clear()

    def _shut_for(self, seconds: float) -> None:
        places = [(each.family, each.getsockname()[0]) for each in self._listening]
        self._shut()

        def reopen() -> None:
            if not self._is_closed:
                for family, host in places:
                    self._listen(family, (host, self.port))

        self._floor.scheduler.later(seconds, reopen)

    def _on_ready(self, listening: socket.socket) -> None:
        for _ in range(_AT_ONCE):
            if listening not in self._listening:
                return  # shut by one of those just taken in
            try:
                client, _address = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:  # out of descriptors: let some go first
                log.warning("simulator_accept_failed", address=self.address, error=str(error))
                self._rest(listening)
                return
            client.setblocking(False)
            self._admit(client)

    def _rest(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        loop.remove_reader(listening.fileno())

        def resume() -> None:
            if listening in self._listening:
                loop.add_reader(listening.fileno(), self._on_ready, listening)

        loop.call_later(_PAUSE_S, resume)

    def _admit(self, client: socket.socket) -> None:
        floor, abuse = self._floor, self._floor.faults.abuse
        floor.ledger.connects += 1
        if not self._guard.admits(floor.clock.now(), abuse.connects, abuse.refuse_s):
            self._refuse(client)
            return
        strike = floor.picker.on_accept(floor.ledger.connects, self.number, floor.age())
        if strike is None:
            self._welcome(client)
        elif strike.action.is_connect_refused or strike.action.shut_s:
            self._refuse(client)
            if strike.action.shut_s:
                self._shut_for(strike.action.shut_s)
        else:
            self._waiting.add(client)
            floor.scheduler.later(strike.action.handshake_delay_s, lambda: self._welcome_late(client))

    def _welcome_late(self, client: socket.socket) -> None:
        if client in self._waiting:
            self._waiting.discard(client)
            self._welcome(client)

    def _welcome(self, client: socket.socket) -> None:
        task = asyncio.get_running_loop().create_task(self._shake_hands(client))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _shake_hands(self, client: socket.socket) -> None:
        is_tls = self._context is not None
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                self._factory,
                client,
                ssl=self._context,
                ssl_handshake_timeout=_HANDSHAKE_S if is_tls else None,
                ssl_shutdown_timeout=_SHUTDOWN_S if is_tls else None,
            )
        except OSError as error:  # ssl.SSLError among them
            log.info("simulator_handshake_failed", address=self.address, error=str(error))
            client.close()

    def _refuse(self, client: socket.socket) -> None:
        self._floor.ledger.refused_connects += 1
        reset_on_close(client.fileno())
        client.close()


def reset_on_close(descriptor: int) -> None:
    """Have the last close of a TCP connection send RST instead of FIN."""
    with _borrowed(descriptor) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def end_direction(descriptor: int) -> None:
    """Send FIN, beneath TLS; what the client sends still arrives."""
    with _borrowed(descriptor) as connection, contextlib.suppress(OSError):  # it may be gone already
        connection.shutdown(socket.SHUT_WR)


def has_left(descriptor: int) -> bool:
    """Whether the client has closed its direction, though that has not been read; unknown outside Linux."""
    if descriptor < 0 or not hasattr(socket, "TCP_INFO"):
        return descriptor < 0
    with _borrowed(descriptor) as connection:
        return connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] in _LEFT


def _borrowed(descriptor: int) -> socket.socket:
    """A second handle: event loops guard theirs against being meddled with."""
    return socket.socket(fileno=os.dup(descriptor))
