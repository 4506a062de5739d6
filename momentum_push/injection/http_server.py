"""Opening, changing and closing the HTTP doors; uvicorn inside our loop, on sockets that we own.

    HttpListener ── OpenDoor (a `listen` stanza) ── asyncio servers ── BoundedProtocol per connection
         │
         └─ one uvicorn ServerState: Date header, connections, requests in progress

uvicorn's `Server` is not used: it takes the process's signals, sleeps in steps of 0.1 s and knows one TLS
context. What we need of it, its protocol and its configuration, stands alone. Signals are the daemon's.

Stopping: no new connection, idle ones are closed, requests in progress are served until the deadline,
each connection closes behind its answer; what is left then is cut off. A client that was cut off has no
answer, so it sends again; messages of its that were committed are then sent twice (at least once).
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable, Sequence
from email.utils import formatdate
from typing import Any

import structlog
from uvicorn.config import Config
from uvicorn.server import ServerState

from momentum_push.clock import Clock
from momentum_push.injection.http_access import Gate, Listen, Notes, Options
from momentum_push.injection.http_protocol import BoundedProtocol, Limits
from momentum_push.injection.sessions import Quota, Sessions
from momentum_push.injection.sockets import UNIX_OPTIONS, close_sockets, server_tls

__all__ = ["HttpListener", "OpenDoor"]

log = structlog.get_logger()

TLS_HANDSHAKE_S = 10.0


class OpenDoor:
    """One `listen` stanza, its servers and its connections; connections look at it for every request."""

    def __init__(
        self,
        listen: Listen,
        sockets: Sequence[socket.socket],
        notes: Notes,
        sessions: Sessions,
        on_left: Callable[[], None],
    ) -> None:
        self.listen = listen
        self.sockets = list(sockets)
        self.notes = notes
        self._sessions = sessions
        self._on_left = on_left
        self.servers: list[asyncio.Server] = []
        self._connections: dict[BoundedProtocol, Sequence[Quota]] = {}

    def __repr__(self) -> str:
        return f"<OpenDoor {self.listen.address}: {len(self._connections)} connections>"

    def options_for(self, client: tuple[str, int] | None) -> Options:
        """Return the options in effect for a client's address."""
        return self.listen.inbound(client[0] if client and client[0] else None)

    def entered(self, connection: BoundedProtocol, limit: int) -> bool:
        """Note a connection; False when there are `limit` already (0: no limit)."""
        quotas = self._quotas(limit)
        is_room = self._sessions.enter(quotas)
        self._connections[connection] = quotas if is_room else ()
        self.notes.meters.inbound_sessions["http"] += 1
        return is_room

    def _quotas(self, limit: int) -> Sequence[Quota]:
        return (Quota(("http", self.listen.address), limit),) if limit else ()

    def quotas_of(self, ip: str | None) -> Sequence[Quota]:
        """Return the limits for a client's address."""
        return self._quotas(self.listen.inbound(ip)["listener_sessions"])

    def left(self, connection: BoundedProtocol) -> None:
        """Forget a connection."""
        self._sessions.leave(self._connections.pop(connection, ()))
        self.notes.meters.inbound_sessions["http"] -= 1
        self._on_left()


class HttpListener:
    """All HTTP doors of a daemon.

    Args:
        app: the gate (`http.build_app`).
        next_conn: ids of connections.
        sessions: counts for `listener_sessions`.
    """

    def __init__(
        self,
        app: Gate,
        clock: Clock,
        next_conn: Callable[[], str],
        limits: Limits | None = None,
        sessions: Sessions | None = None,
    ) -> None:
        self._notes = app.notes
        self._clock = clock
        self._next_conn = next_conn
        self._limits = limits or Limits()
        self._sessions = sessions if sessions is not None else Sessions()
        self._doors: dict[str, OpenDoor] = {}
        self._state = ServerState()
        self._left = asyncio.Event()
        self._ticker: asyncio.TimerHandle | None = None
        self._config = Config(
            app,
            http=BoundedProtocol,
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
        )
        self._config.load()
        # What it warns of (broken requests, limits) is counted and recorded by us; the rest is the gate's.
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)

    def __repr__(self) -> str:
        return f"<HttpListener {list(self._doors.values())}, {len(self._state.tasks)} requests>"

    @property
    def connections(self) -> int:
        """Connections that are open now."""
        return len(self._state.connections)

    @property
    def ports(self) -> list[int]:
        """TCP ports that are listened on."""
        return [
            sock.getsockname()[1]
            for door in self._doors.values()
            for sock in door.sockets
            if sock.family != socket.AF_UNIX
        ]

    async def start(self, listens: Sequence[tuple[Listen, Sequence[socket.socket]]]) -> None:
        """Begin to accept on sockets that listen already (`sockets.open_sockets`); they are ours from now on.

        Raises:
            ConfigError: TLS of a listen stanza cannot be used.
        """
        self._tick()
        for listen, sockets in listens:
            door = OpenDoor(listen, sockets, self._notes, self._sessions, self._left.set)
            self._doors[listen.address] = door
            door.servers = await self._serve(door)

    async def reload(self, listens: Sequence[tuple[Listen, Sequence[socket.socket]]]) -> None:
        """Go over to a new configuration without closing a connection.

        Doors whose address stays keep their sockets (give none for them) and take the new options, for
        the next request of each connection, and new TLS, for the next connection. New addresses are opened,
        those that are gone are closed.

        Raises:
            ConfigError: TLS of a listen stanza cannot be used; nothing was changed.
        """
        contexts = [_tls(listen) for listen, _ in listens]
        gone = self._doors.keys() - {listen.address for listen, _ in listens}
        for address in gone:
            _close(self._doors.pop(address))
        for (listen, sockets), tls in zip(listens, contexts, strict=True):
            door = self._doors.get(listen.address)
            if door is None:
                await self.start([(listen, sockets)])
                continue
            old, door.listen = door.servers, listen
            door.servers = await self._serve(door, tls)
            for server in old:
                server.close()

    async def _serve(self, door: OpenDoor, tls: ssl.SSLContext | None = None) -> list[asyncio.Server]:
        """Accept on duplicates of the door's sockets, so that closing a server leaves the door open."""
        loop = asyncio.get_running_loop()
        context = tls or _tls(door.listen)
        options: Any = {"ssl": context, "backlog": door.listen.inbound(None)["listen_backlog"]}
        if context is not None:
            options["ssl_handshake_timeout"] = TLS_HANDSHAKE_S
        servers: list[asyncio.Server] = []
        for sock in door.sockets:
            make = self._sessions.at_door(lambda: self._connect(door), door.quotas_of)
            is_unix = sock.family == socket.AF_UNIX
            create: Any = loop.create_unix_server if is_unix else loop.create_server
            more = UNIX_OPTIONS if is_unix else {}
            servers.append(await create(make, sock=sock.dup(), **options, **more))
        return servers

    def _connect(self, door: OpenDoor) -> BoundedProtocol:
        return BoundedProtocol(self._config, self._state, door, self._next_conn(), self._limits)

    def _tick(self) -> None:
        """Renew the Date header, once a second."""
        if self._ticker is not None:
            self._ticker.cancel()
        date = formatdate(self._clock.now(), usegmt=True).encode()
        self._state.default_headers = [(b"date", date)]
        self._ticker = asyncio.get_running_loop().call_later(1.0, self._tick)

    async def stop(self, deadline_s: float) -> None:
        """Close the doors; serve what is in progress for at most `deadline_s`, then cut off."""
        for door in self._doors.values():
            _close(door)
        self._doors.clear()
        for connection in list(self._state.connections):
            connection.shutdown()
        try:
            async with asyncio.timeout(deadline_s):
                await self._finish()
        except TimeoutError:
            await self._cut_off()
        if self._ticker is not None:
            self._ticker.cancel()

    async def _finish(self) -> None:
        """Wait until every request has its answer and every connection is closed."""
        while self._state.tasks:
            await asyncio.wait(list(self._state.tasks))
        while self._state.connections:
            self._left.clear()
            await self._left.wait()

    async def _cut_off(self) -> None:
        log.warning(
            "http_requests_cut_off", requests=len(self._state.tasks), connections=len(self._state.connections)
        )
        for connection in list(self._state.connections):
            connection.transport.abort()
        tasks = list(self._state.tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=1.0)


def _tls(listen: Listen) -> ssl.SSLContext | None:
    options: Any = listen.inbound(None)
    return server_tls(options) if options["use_ssl"] else None


def _close(door: OpenDoor) -> None:
    for server in door.servers:
        server.close()
    close_sockets(door.sockets)
