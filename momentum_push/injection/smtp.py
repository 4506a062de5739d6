"""`esmtp_listener`: mail in by SMTP (momentum.md 3.3, interfaces.md 3).

Lives here: sockets that accept, sessions that are counted, start, reload and stop. The conversation
is in `smtp_session` and `smtp_handler`, options in `smtp_policy`, opening sockets in `sockets`.

    listener = SmtpListener(stanza, intake=…, records=…, meters=…, clock=…)
    await listener.start([(listen, open_sockets(listen)) for listen in stanza.listens])
    …
    await listener.stop(deadline_s)

Stopping: no new connections; a session that is sending a mail, or waits for one to be put on disk, may
finish that mail; all others are told 421 at once. After the deadline connections are cut; a mail whose
commit is under way is awaited until then too.

Reload: new connections follow the new options, sessions that are open keep theirs. Addresses that are no
longer listed stop accepting; new ones are started by `start`. Certificates are read again; turning
`use_ssl` on or off waits for a restart.

Sessions are counted under the line of the configuration that limits them, so `listener_sessions` in a
listener, a listen or a peer stanza each count what stands under that stanza (`sessions`, shared by all
listeners of a daemon because `service_sessions` is).
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import itertools
import socket
import ssl
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

import structlog

from momentum_push.clock import Clock
from momentum_push.errors import ConfigError, Problem
from momentum_push.injection.auth import PasswordFiles
from momentum_push.injection.sessions import Sessions
from momentum_push.injection.smtp_data import Budget
from momentum_push.injection.smtp_handler import IntakeLike, Records, SmtpHandler
from momentum_push.injection.smtp_policy import Policy, make_policy, validate_policy, warn_of_clear_passwords
from momentum_push.injection.smtp_session import DATA_LIMIT_S, HANDSHAKE_S, Refused, SmtpSession, trace
from momentum_push.injection.sockets import UNIX_OPTIONS, load_certificate, server_tls, unlink_sockets
from momentum_push.message.ids import first_sequence, hex_id
from momentum_push.meters import Meters

__all__ = ["DATA_BUDGET", "SmtpListener", "validate"]

DATA_BUDGET = 256 * 1024 * 1024
"""Bytes that the mails in progress of one listener may hold together."""

CUT_S = 1.0
"""For connections that were cut to be gone."""

CONCURRENCY = "421 4.4.5 Service unavailable, concurrency limit reached."

log = structlog.get_logger()


class ListenScope(Protocol):
    """What is asked of a `listen` stanza."""

    @property
    def address(self) -> str: ...
    def inbound(self, ip: str | None) -> Any: ...
    def base(self) -> Any:
        """The options of clients in no peer stanza."""


class Listener(Protocol):
    """What is asked of an `esmtp_listener` stanza."""

    @property
    def listens(self) -> Sequence[ListenScope]: ...


class Config(Protocol):
    """What is asked of the configuration."""

    def listeners(self, kind: str) -> Sequence[Any]: ...


class _Address:
    """One `listen` stanza: its options, and what was made of them."""

    def __init__(self, listen: ListenScope, passwords: PasswordFiles, hostname: str) -> None:
        self.listen = listen
        self.servers: list[asyncio.Server] = []
        self.sockets: list[socket.socket] = []
        self.tls_in_use: ssl.SSLContext | None = None
        self._passwords = passwords
        self._hostname = hostname
        self._made: dict[int, tuple[Any, Policy, ssl.SSLContext | None]] = {}

    def policy(self, ip: str | None) -> Policy:
        return self._of(ip)[1]

    def tls(self, ip: str | None) -> ssl.SSLContext | None:
        return self._of(ip)[2]

    def implicit_tls(self) -> ssl.SSLContext | None:
        """TLS from the first byte, which begins before the client's address is looked at."""
        scope = self.listen.base()
        return server_tls(scope) if scope["use_ssl"] else None

    def _of(self, ip: str | None) -> tuple[Any, Policy, ssl.SSLContext | None]:
        """Scopes are the same object for all clients of one peer stanza, so there are few of them."""
        scope = self.listen.inbound(ip)
        made = self._made.get(id(scope))
        if made is None or made[0] is not scope:
            policy = make_policy(scope, self._passwords, self._hostname)
            made = self._made[id(scope)] = (scope, policy, _tls_now(scope))
        return made


def _tls_now(scope: Any) -> ssl.SSLContext | None:
    """Build the TLS of a scope that was valid at start; files may have changed since."""
    try:
        return server_tls(scope)
    except ConfigError as error:
        log.error("smtp_tls_unusable", problems=[str(problem) for problem in error.problems])
        return None


def _succeed(old: _Address, new: _Address) -> _Address:
    """Hand the open sockets of an address on; TLS that begins with them shows the new certificate."""
    new.servers, new.sockets, new.tls_in_use = old.servers, old.sockets, old.tls_in_use
    if new.tls_in_use is not None:
        try:
            load_certificate(new.tls_in_use, new.listen.base())
        except ConfigError as error:
            log.error("smtp_tls_unusable", problems=[str(problem) for problem in error.problems])
    return new


class _Entrance:
    """Where the sessions of one address come in; this is a session's `Door`."""

    def __init__(self, listener: SmtpListener, address: _Address) -> None:
        self.address = address
        self.budget = listener.budget
        self.data_limit_s = listener.data_limit_s
        self._listener = listener

    @property
    def is_stopping(self) -> bool:
        return self._listener.is_stopping

    def __call__(self) -> SmtpSession:
        """Make the protocol of a new connection, for `loop.create_server`."""
        return SmtpSession(self, self._listener.handler, self._listener.new_id())

    def enter(self, session: SmtpSession, ip: str | None) -> Policy:
        return self._listener.admit(session, self.address.policy(ip))

    def leave(self, session: SmtpSession) -> None:
        self._listener.dismiss(session)

    def tls(self, session: SmtpSession) -> ssl.SSLContext | None:
        return self.address.tls(session.ip) if session.policy.is_starttls_offered else None


class SmtpListener:
    """One `esmtp_listener` stanza.

    Args:
        new_id: gives connection and batch ids; the daemon's own, so that doors do not give the same ones.
        sessions: counts for limits that several listeners share.
        data_limit_s: for one DATA command, from 354 to the last dot.
    """

    def __init__(
        self,
        stanza: Listener,
        *,
        intake: IntakeLike,
        records: Records,
        meters: Meters,
        clock: Clock,
        new_id: Callable[[], str] | None = None,
        sessions: Sessions | None = None,
        passwords: PasswordFiles | None = None,
        data_limit_s: float = DATA_LIMIT_S,
        data_budget: int = DATA_BUDGET,
    ) -> None:
        self.new_id = new_id or _ids(clock.now())
        self.budget = Budget(data_budget)
        self.data_limit_s = data_limit_s
        self.is_stopping = False
        self.handler = SmtpHandler(
            door=self, intake=intake, records=records, meters=meters, clock=clock, new_id=self.new_id
        )
        self._meters = meters
        self._counts = sessions if sessions is not None else Sessions()
        self._passwords = passwords or PasswordFiles()
        self._hostname = socket.gethostname()
        self._entrances: dict[str, _Entrance] = {}
        self._open: set[SmtpSession] = set()
        self._commits: set[asyncio.Task[str]] = set()
        self._emptied = asyncio.Event()

    def __repr__(self) -> str:
        addresses = ", ".join(self._entrances) or "nowhere"
        return f"<SmtpListener on {addresses}: {len(self._open)} sessions, {len(self._commits)} commits>"

    @property
    def session_count(self) -> int:
        """Sessions that are open."""
        return len(self._open)

    # Lifecycle

    async def start(self, opened: Iterable[tuple[ListenScope, Sequence[socket.socket]]]) -> None:
        """Accept on sockets that `open_sockets` has opened; call it again for addresses that are new."""
        for listen, sockets in opened:
            entrance = self._entrance(listen)
            entrance.address.sockets += sockets
            for listening in sockets:
                entrance.address.servers.append(await self._serve(entrance, listening))
            log.info("smtp_listening", address=listen.address)

    def _entrance(self, listen: ListenScope) -> _Entrance:
        entrance = self._entrances.get(listen.address)
        if entrance is None:
            address = _Address(listen, self._passwords, self._hostname)
            entrance = self._entrances[listen.address] = _Entrance(self, address)
        return entrance

    async def _serve(self, entrance: _Entrance, listening: socket.socket) -> asyncio.Server:
        loop = asyncio.get_running_loop()
        tls = entrance.address.tls_in_use = entrance.address.tls_in_use or entrance.address.implicit_tls()
        is_unix = listening.family == socket.AF_UNIX
        create: Any = loop.create_unix_server if is_unix else loop.create_server
        server: asyncio.Server = await create(
            self._counts.at_door(entrance, lambda ip: entrance.address.policy(ip).quotas),
            sock=listening,
            ssl=tls,
            backlog=entrance.address.listen.base()["listen_backlog"],
            ssl_handshake_timeout=HANDSHAKE_S if tls else None,
            **(UNIX_OPTIONS if is_unix else {}),
        )
        return server

    def reload(self, stanza: Listener) -> list[ListenScope]:
        """Follow a new configuration; return the addresses that are new, for `start`."""
        wanted = {listen.address: listen for listen in stanza.listens}
        for address in [address for address in self._entrances if address not in wanted]:
            self._shut(self._entrances.pop(address).address)
        for address, entrance in self._entrances.items():
            entrance.address = _succeed(
                entrance.address, _Address(wanted[address], self._passwords, self._hostname)
            )
        return [listen for address, listen in wanted.items() if address not in self._entrances]

    async def stop(self, deadline_s: float) -> None:
        """Close the door; wait up to `deadline_s` for mails that are under way."""
        self.is_stopping = True
        for entrance in self._entrances.values():
            self._shut(entrance.address)
        for session in list(self._open):
            if not session.is_in_data:
                session.hang_up("421 4.3.2 shutting down")
        if not await self._is_empty_within(deadline_s):
            log.warning("smtp_sessions_cut", sessions=len(self._open), commits=len(self._commits))
            for session in list(self._open):
                session.abort()
            await self._is_empty_within(CUT_S)

    async def _is_empty_within(self, deadline_s: float) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(deadline_s):
                while self._open or self._commits:
                    self._emptied.clear()
                    await self._emptied.wait()
        return not self._open and not self._commits

    def _shut(self, address: _Address) -> None:
        unlink_sockets(address.sockets)
        for server in address.servers:
            server.close()
        address.servers, address.sockets = [], []

    # Sessions

    def admit(self, session: SmtpSession, policy: Policy) -> Policy:
        """Take a connection, or say why not."""
        if self.is_stopping:
            raise Refused("421 4.3.2 shutting down")
        if policy.is_denied:
            self._refuse(session, "554 5.7.1 access denied", "AccessDenied")
        if not self._counts.enter(policy.quotas):
            self._refuse(session, CONCURRENCY, "TooManySessions")
        self._open.add(session)
        self._meters.inbound_sessions["esmtp"] += 1
        return policy

    def _refuse(self, session: SmtpSession, reply: str, error: str) -> None:
        self.handler.reject(
            session.client, self.listen_address(session), session.conn_id, "connect", reply, error
        )
        raise Refused(reply)

    def dismiss(self, session: SmtpSession) -> None:
        """Let a session go that was admitted."""
        self._open.discard(session)
        self._counts.leave(session.policy.quotas)
        self._meters.inbound_sessions["esmtp"] -= 1
        self._emptied.set()

    def hold(self, commit: asyncio.Task[str]) -> None:
        """Keep a commit that may outlive its session; whoever stops us waits for it."""
        self._commits.add(commit)
        commit.add_done_callback(self._release)

    def _release(self, commit: asyncio.Task[str]) -> None:
        self._commits.discard(commit)
        self._emptied.set()
        if not commit.cancelled() and (error := commit.exception()) is not None:
            log.error("smtp_commit_failed", trace=trace(error))

    def listen_address(self, session: SmtpSession) -> str:
        """Return the `ip:port` on which a session came in."""
        name = session.transport.get_extra_info("sockname") if session.transport else None
        return f"{name[0]}:{name[1]}" if isinstance(name, tuple) else str(name or "")


def _ids(now: float) -> Callable[[], str]:
    numbers = itertools.count(first_sequence(now))
    return lambda: hex_id(next(numbers))


def validate(config: Config) -> list[Problem]:
    """Say what is wrong with every `esmtp_listener`; no network I/O.

    Each listen stanza is looked at as clients of no peer stanza see it, then as those of each peer do.
    """
    problems: set[Problem] = set()
    for listener in config.listeners("esmtp_listener"):
        for listen in listener.listens:
            for scope in _scopes(listen):
                problems.update(validate_policy(scope))
                if not _is_local(listen):
                    problems.update(warn_of_clear_passwords(scope))
    return sorted(problems)


def _is_local(listen: Any) -> bool:
    """Whether only this host can reach an address."""
    try:
        return listen.unix is not None or ipaddress.ip_address(listen.host).is_loopback
    except ValueError:  # a wildcard or a name
        return bool(listen.host == "localhost")


def _scopes(listen: Any) -> list[Any]:
    """Return the scopes of a listen stanza: each peer's is found by an address in it.

    Could be simpler if the configuration named the peers of an address.
    """
    networks = [network for network, _ in getattr(listen, "_peers", ())]
    return [listen.base(), *(listen.inbound(str(network.network_address)) for network in networks)]
