"""All listeners of a daemon: opened together, or not at all; reloaded and closed together.

Sockets are opened before anything is served, so that an address in use is an error at start and
nothing was accepted in vain. A reload opens what is new before it closes what is gone; an address that moves
from one stanza to another keeps its socket, and whoever knocks meanwhile waits in its backlog.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterable

from momentum_push.clock import Clock
from momentum_push.config import Config, Listener, ListenScope
from momentum_push.errors import Problem
from momentum_push.injection import smtp
from momentum_push.injection.auth import PasswordFiles, validate_passwords
from momentum_push.injection.http import BODY_BUDGET, Views, build_app
from momentum_push.injection.http_access import Gate, Records
from momentum_push.injection.http_server import HttpListener
from momentum_push.injection.notifications import Door
from momentum_push.injection.sessions import Sessions
from momentum_push.injection.smtp import DATA_BUDGET, SmtpListener
from momentum_push.injection.sockets import close_sockets, open_sockets, validate_tls
from momentum_push.meters import Meters

__all__ = ["KINDS", "Doors", "name_of", "open_privileged", "validate"]

FIRST_FREE_PORT = 1024
"""Ports below it are root's (ip(7))."""

LEAST_BUDGET = 32 * 1024 * 1024
"""Bytes of bodies, or of mails, that a receiver may hold however many there are."""

KINDS = (("smtp", "esmtp_listener"), ("http", "http_listener"))

Opened = list[tuple[ListenScope, list[socket.socket]]]


class Doors:
    """The ways in: every `esmtp_listener` and every `http_listener`.

    Args:
        opened: sockets that are open already, by their names in here; what is taken is removed.
        share: how many processes serve the same addresses; each has a part of the memory for bodies.
    """

    def __init__(
        self,
        *,
        intake: Door,
        records: Records,
        meters: Meters,
        clock: Clock,
        views: Views,
        new_conn_id: Callable[[], str],
        opened: dict[str, list[socket.socket]] | None = None,
        sessions: Sessions | None = None,
        share: int = 1,
    ) -> None:
        self._intake = intake
        self._records = records
        self._meters = meters
        self._clock = clock
        self._views = views
        self._new_conn_id = new_conn_id
        self._opened = opened if opened is not None else {}
        self._passwords = PasswordFiles()
        self._sessions = sessions if sessions is not None else Sessions()
        self._share = share
        self._smtp: dict[str, SmtpListener] = {}
        self._http: HttpListener | None = None
        self._sockets: dict[str, list[socket.socket]] = {}
        """Listening sockets by address, `smtp :25` or `http :8081`."""
        self._owners: dict[str, str] = {}
        """The SMTP stanza that serves an address."""

    def __repr__(self) -> str:
        return f"<Doors {', '.join(self._sockets) or 'none open'}>"

    @property
    def smtp_ports(self) -> list[int]:
        """TCP ports on which SMTP is spoken."""
        return self._ports("smtp ")

    @property
    def http_ports(self) -> list[int]:
        """TCP ports on which HTTP is spoken."""
        return self._ports("http ")

    def addresses(self) -> dict[str, list[str]]:
        """Return the addresses in use, for diagnostics."""
        return {
            kind: [
                name_of(sock)
                for address, socks in self._sockets.items()
                if address.startswith(kind)
                for sock in socks
            ]
            for kind in ("smtp", "http")
        }

    async def start(self, config: Config) -> None:
        """Open every address of the configuration, then accept.

        Raises:
            ConfigError: an address or its TLS cannot be used; nothing is open then.
        """
        smtp_opened, http_opened, _ = self._open_all(config)
        try:
            self._http = HttpListener(
                self._app(config), self._clock, self._new_conn_id, sessions=self._sessions
            )
            for stanza in config.listeners("esmtp_listener"):
                await self._smtp_listener(stanza).start(smtp_opened[stanza.instance])
                self._own(stanza, smtp_opened[stanza.instance])
            await self._http.start(http_opened)
        except BaseException:
            await self.stop(0.0)
            raise

    async def reload(self, config: Config) -> None:
        """Follow a new configuration: addresses that stay keep their sockets and connections.

        Raises:
            ConfigError: a new address or its TLS cannot be used; nothing was changed.
        """
        smtp_opened, http_opened, fresh_addresses = self._open_all(config)
        assert self._http is not None
        try:
            await self._http.reload(http_opened)
        except BaseException:
            self._close(fresh_addresses)
            raise
        for stanza in config.listeners("esmtp_listener"):
            listener = self._smtp_listener(stanza)
            fresh = set(map(id, listener.reload(stanza)))
            await listener.start([pair for pair in smtp_opened[stanza.instance] if id(pair[0]) in fresh])
            self._own(stanza, smtp_opened[stanza.instance])
        kept = {stanza.instance for stanza in config.listeners("esmtp_listener")}
        for instance in self._smtp.keys() - kept:
            await self._smtp.pop(instance).stop(0.0)
        self._forget(config)

    async def stop(self, deadline_s: float) -> None:
        """Shut every door; what is under way may finish within the deadline."""
        stops = [listener.stop(deadline_s) for listener in self._smtp.values()]
        if self._http is not None:
            stops.append(self._http.stop(deadline_s))
        await asyncio.gather(*stops)
        for sockets in self._sockets.values():  # of listeners that were never started
            close_sockets(sock for sock in sockets if sock.fileno() >= 0)
        self._sockets.clear()

    def _close(self, addresses: Iterable[str]) -> None:
        for address in addresses:
            close_sockets(self._sockets.pop(address))

    def _open_all(self, config: Config) -> tuple[dict[str, Opened], Opened, list[str]]:
        """Open what is not open yet, and say which that was; on an error close it."""
        fresh: list[str] = []
        try:
            smtp_opened = {
                stanza.instance: self._open("smtp", stanza, fresh)
                for stanza in config.listeners("esmtp_listener")
            }
            http_opened = [
                pair
                for stanza in config.listeners("http_listener")
                for pair in self._open("http", stanza, fresh)
            ]
        except BaseException:
            self._close(fresh)
            raise
        return smtp_opened, http_opened, fresh

    def _open(self, kind: str, stanza: Listener, fresh: list[str]) -> Opened:
        opened: Opened = []
        for listen in stanza.listens:
            address = f"{kind} {listen.address}"
            if address not in self._sockets:
                sockets = self._opened.pop(address, []) or open_sockets(listen)
                self._sockets[address] = sockets
                fresh.append(address)
                opened.append((listen, sockets))
            elif kind == "smtp" and self._owners[address] != stanza.instance:
                opened.append((listen, [sock.dup() for sock in self._sockets[address]]))
            else:
                opened.append((listen, []))
        return opened

    def _own(self, stanza: Listener, opened: Opened) -> None:
        """Remember whose an address is, and by which sockets."""
        for listen, sockets in opened:
            address = f"smtp {listen.address}"
            self._owners[address] = stanza.instance
            if sockets:
                self._sockets[address] = sockets

    def _forget(self, config: Config) -> None:
        """Forget the addresses that a reload closed."""
        kept = {
            f"{kind} {listen.address}"
            for kind, stanza in KINDS
            for listener in config.listeners(stanza)
            for listen in listener.listens
        }
        for address in self._sockets.keys() - kept:
            del self._sockets[address]

    def _smtp_listener(self, stanza: Listener) -> SmtpListener:
        listener = self._smtp.get(stanza.instance)
        if listener is None:
            listener = self._smtp[stanza.instance] = SmtpListener(
                stanza,
                intake=self._intake,
                records=self._records,
                meters=self._meters,
                clock=self._clock,
                new_id=self._new_conn_id,
                sessions=self._sessions,
                passwords=self._passwords,
                data_budget=max(DATA_BUDGET // self._share, LEAST_BUDGET),
            )
        return listener

    def _app(self, config: Config) -> Gate:
        return build_app(
            intake=self._intake,
            views=self._views,
            meters=self._meters,
            records=self._records,
            clock=self._clock,
            next_batch=self._new_conn_id,
            passwords=self._passwords,
            dot_stuff=any(scope["dot_stuff"] for scope in config.modules("restinjector")),
            body_budget=max(BODY_BUDGET // self._share, LEAST_BUDGET),
        )

    def _ports(self, kind: str) -> list[int]:
        return [
            sock.getsockname()[1]
            for address, sockets in self._sockets.items()
            if address.startswith(kind)
            for sock in sockets
            if sock.family != socket.AF_UNIX
        ]


def open_privileged(config: Config) -> dict[str, list[socket.socket]]:
    """Open the addresses that only root may, by their names in `Doors`; for use before root is given up.

    Raises:
        ConfigError: one of them cannot be used; none is open then.
    """
    opened: dict[str, list[socket.socket]] = {}
    try:
        for kind, stanzas in KINDS:
            for stanza in config.listeners(stanzas):
                for listen in stanza.listens:
                    if listen.port is not None and 0 < listen.port < FIRST_FREE_PORT:
                        opened[f"{kind} {listen.address}"] = open_sockets(listen)
    except BaseException:
        for sockets in opened.values():
            close_sockets(sockets)
        raise
    return opened


def validate(config: Config) -> list[Problem]:
    """Say what is wrong with every listener; opens nothing."""
    problems = smtp.validate(config)
    for listener in config.listeners("http_listener"):
        for listen in listener.listens:
            scope = listen.inbound(None)
            problems += validate_tls(scope)
            if scope["enable_authentication"]:
                problems += validate_passwords(scope, "authplainparameters")
    return problems


def name_of(sock: socket.socket) -> str:
    """Return a listening address as diagnostics show it."""
    name = sock.getsockname()
    return str(name) if sock.family == socket.AF_UNIX else f"{name[0]}:{name[1]}"
