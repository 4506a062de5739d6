"""The receivers as the core sees them: started, configured, restarted, stopped; the daemon's `Doors`.

    core ─┬─ listening sockets, opened once, shared ─┬─► receiver 1
          │                                          ├─► receiver 2      each a seat: process, link, reception
          └─ a link and a socket for sockets ────────┴─► …

The core keeps every listening socket open and accepts on none, so that clients wait in the backlog, and are
not refused, while receivers die, restart or read a new configuration. One that dies is restarted, after
a pause that doubles while it dies young; one that does not answer for SILENCE_TICKS looks is killed and
restarted likewise. Receivers get the configuration that the core has found valid, not the file: nothing can
change in between, and it need not be readable for whoever the daemon has become.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import pickle
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog

import momentum_push
from momentum_push.config import Config
from momentum_push.errors import ConfigError, Place, Problem
from momentum_push.injection.doors import KINDS, name_of
from momentum_push.injection.frames import Configure, Stop
from momentum_push.injection.receiver import IGNORED, MAX_SOCKETS
from momentum_push.injection.reception import Node, Reception
from momentum_push.injection.sockets import close_sockets, open_sockets

__all__ = ["Receivers"]

START_S = 30.0
"""For a receiver to open its doors, or to follow a reload."""

GATHER_S = 1.0
"""For receivers to say what they counted, when somebody looks at the node."""

REAP_S = 5.0
GRACE_S = 3.0
"""Beyond the deadline of a stop, for receivers that cut connections off."""

WATCH_S = 5.0
SILENCE_TICKS = 6
STEADY_S = 10.0
"""A receiver that lived as long did not die of its start."""

FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 30.0
LOOP = 3
"""Early deaths in a row that are called a crash loop."""

log = structlog.get_logger()

Addresses = dict[str, list[socket.socket]]


@dataclass(eq=False)
class Seat:
    """One receiver's place, whoever sits in it."""

    number: int
    process: subprocess.Popen[bytes] | None = None
    reception: Reception | None = None
    sockets: socket.socket | None = None
    """Our end of the socket for listening sockets."""
    lost: asyncio.Event = field(default_factory=asyncio.Event)
    started_at: float = 0.0
    deaths: int = 0
    """Early ones, in a row."""
    answers: dict[int, asyncio.Future[str]] = field(default_factory=dict)
    """By number of `Configure`; the result is the problem, or empty."""
    lent: set[str] = field(default_factory=set)
    """Names of the listening sockets that it has."""
    is_open: bool = False
    """Whether its doors follow the configuration, so that a reload must tell it of a new one."""
    look: asyncio.Future[None] | None = None
    silent: int = 0

    def on_ready(self, number: int, problem: str) -> None:
        """Note that the doors follow a `Configure`."""
        answer = self.answers.pop(number, None)
        if answer is not None and not answer.done():
            answer.set_result(problem)

    def on_lost(self) -> None:
        """Note that the receiver is gone."""
        for answer in self.answers.values():
            if not answer.done():
                answer.set_result("it ended")
        self.answers.clear()
        self.is_open = False
        self.lost.set()

    def kill(self) -> None:
        """End the process, whatever it does."""
        if self.process is not None:
            self.process.kill()


class Receivers:
    """All receivers of a daemon.

    Args:
        count: how many.
        node: what they share.
        opened: sockets that are open already, by their names in `Doors`; what is taken is removed.
        on_restart: called with the number of a receiver that is started again.
    """

    def __init__(self, count: int, node: Node, opened: Addresses, on_restart: Callable[[int], None]) -> None:
        self._node = node
        self._opened = opened
        self._on_restart = on_restart
        self._seats = [Seat(number) for number in range(1, count + 1)]
        self._sockets: Addresses = {}
        self._config = b""
        self._orders = 0
        self._keepers: list[asyncio.Task[None]] = []
        self._is_stopping = asyncio.Event()

    def __repr__(self) -> str:
        alive = sum(1 for seat in self._seats if not seat.lost.is_set())
        return f"<Receivers {alive} of {len(self._seats)}: {', '.join(self._sockets) or 'no doors'}>"

    # --- looking in

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
        return {kind: [name_of(sock) for sock in self._of(kind)] for kind, _ in KINDS}

    def _ports(self, kind: str) -> list[int]:
        return [sock.getsockname()[1] for sock in self._of(kind) if sock.family != socket.AF_UNIX]

    def _of(self, kind: str) -> list[socket.socket]:
        return [sock for name, found in self._sockets.items() if name.startswith(kind) for sock in found]

    async def gather(self) -> None:
        """Have every receiver say what it counted, so that the meters are those of the node."""
        tells = [seat.reception.tell() for seat in self._seats if seat.reception is not None]
        if tells:
            await asyncio.wait(tells, timeout=GATHER_S)

    async def looked_at(self, look: Callable[[], Any]) -> Any:
        """Return what `look` returns once every receiver has said what it counted."""
        await self.gather()
        return look()

    # --- start, reload, stop

    async def start(self, config: Config) -> None:
        """Open every address, start all receivers and wait until their doors are open.

        Raises:
            ConfigError: an address cannot be used, or a receiver does not start; nothing is left of it then.
        """
        self._sockets = self._open_all(config)
        self._config = pickle.dumps(config)
        try:
            problems = await asyncio.gather(*(self._seat(seat) for seat in self._seats))
            if any(problems):
                place = config.glob.origin("receivers") or Place(str(config.path))
                what = f"receiver {1 + [bool(problem) for problem in problems].index(True)} does not start"
                fix = "; ".join(filter(None, problems)).replace("\n", " | ")
                raise ConfigError([Problem(place, what, fix)])
        except BaseException:
            await self.stop(0.0)
            raise
        loop = asyncio.get_running_loop()
        self._keepers = [loop.create_task(self._keep(seat)) for seat in self._seats]
        self._keepers.append(loop.create_task(self._watch()))

    async def reload(self, config: Config) -> None:
        """Have all receivers follow a new configuration; one that cannot is started anew.

        Raises:
            ConfigError: a new address cannot be used; nothing was changed.
        """
        sockets = self._open_all(config)
        gone = [sock for name, found in self._sockets.items() if name not in sockets for sock in found]
        self._sockets, self._config = sockets, pickle.dumps(config)
        seats = [seat for seat in self._seats if seat.is_open]  # one that is just starting looks by itself
        problems = await asyncio.gather(*(self._configure(seat) for seat in seats))
        for seat, problem in zip(seats, problems, strict=True):
            if problem:
                log.error("receiver_not_reloaded", receiver=seat.number, problem=problem)
                seat.kill()
        close_sockets(gone)

    async def stop(self, deadline_s: float) -> None:
        """Shut every door; what is under way may finish within the deadline."""
        self._is_stopping.set()
        for sockets in self._sockets.values():
            close_sockets(sockets)
        self._sockets = {}
        alive = [seat for seat in self._seats if seat.process is not None]
        for seat in alive:
            if seat.reception is not None:
                seat.reception.link.send(Stop(deadline_s))
        with suppress(TimeoutError):
            async with asyncio.timeout(deadline_s + GRACE_S):
                for seat in alive:
                    await seat.lost.wait()
        for seat in alive:
            if not seat.lost.is_set():
                log.warning("receiver_killed", receiver=seat.number, reason="it did not stop in time")
                seat.kill()
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        await asyncio.gather(*(self._reap(seat) for seat in alive))

    def _open_all(self, config: Config) -> Addresses:
        """Return the sockets of a configuration: those that are open already, and new ones."""
        sockets: Addresses = {}
        fresh: list[socket.socket] = []
        try:
            for kind, stanza in KINDS:
                for listen in (listen for one in config.listeners(stanza) for listen in one.listens):
                    name = f"{kind} {listen.address}"
                    found = self._sockets.get(name) or self._opened.pop(name, [])
                    if not found:
                        found = open_sockets(listen)
                        fresh += found
                    sockets[name] = found
        except BaseException:
            close_sockets(fresh)
            raise
        return sockets

    # --- one receiver

    async def _seat(self, seat: Seat) -> str:
        """Start a process for a seat and have it open its doors; return why that failed, or nothing."""
        try:
            await self._spawn(seat)
        except OSError as error:
            seat.lost.set()
            return str(error)
        config, problem = b"", ""
        while config is not self._config and not problem:  # a reload may have come in between
            config = self._config
            problem = await self._configure(seat)
        seat.is_open = not problem
        return problem

    async def _spawn(self, seat: Seat) -> None:
        link, its_link = socket.socketpair()
        seat.sockets, its_sockets = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        seat.sockets.setblocking(False)
        seat.lost.clear()
        seat.lent, seat.look, seat.silent = set(), None, 0
        seat.started_at = asyncio.get_running_loop().time()
        with link, its_link, its_sockets:
            seat.process = _start(seat.number, its_link, its_sockets)
            reception = Reception(self._node, seat.on_ready, seat.on_lost)
            loop = asyncio.get_running_loop()
            await loop.create_unix_connection(lambda: reception.link, sock=link.dup())
        seat.reception = reception

    async def _configure(self, seat: Seat) -> str:
        """Give a receiver configuration and sockets as they are now; return why that failed, or nothing."""
        assert seat.reception is not None
        self._orders += 1
        number = self._orders
        answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        seat.answers[number] = answer
        try:
            missing = {name: found for name, found in self._sockets.items() if name not in seat.lent}
            bundles = _send_sockets(seat, missing)
            seat.lent = set(self._sockets)
            salt = self._node.salt.to_bytes(16)
            seat.reception.link.send(Configure(number, self._config, salt, len(self._seats), bundles))
            async with asyncio.timeout(START_S):
                return await answer
        except TimeoutError:
            return f"no answer in {START_S:g} s"
        except OSError as error:
            return f"its sockets cannot be sent ({error.strerror})"
        finally:
            seat.answers.pop(number, None)

    async def _keep(self, seat: Seat) -> None:
        """See to it that somebody sits in a seat."""
        while True:
            await seat.lost.wait()
            if self._is_stopping.is_set():
                return
            unanswered = seat.reception.unanswered if seat.reception is not None else 0
            status = await self._reap(seat)
            lived = asyncio.get_running_loop().time() - seat.started_at
            seat.deaths = 0 if lived >= STEADY_S else seat.deaths + 1
            pause = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2**seat.deaths)
            event = "receiver_crash_loop" if seat.deaths >= LOOP else "receiver_died"
            log.error(
                event,
                receiver=seat.number,
                status=status,
                lived=round(lived, 3),
                unanswered=unanswered,
                pause=pause,
            )
            with suppress(TimeoutError):
                await asyncio.wait_for(self._is_stopping.wait(), pause)
            if self._is_stopping.is_set():
                return
            self._on_restart(seat.number)
            problem = await self._seat(seat)
            if problem:
                log.error("receiver_not_started", receiver=seat.number, problem=problem)
                seat.kill()
            else:
                log.info("receiver_started", receiver=seat.number, pid=seat.process and seat.process.pid)

    async def _reap(self, seat: Seat) -> int | None:
        """Fetch the status of a process that ended, or will not; return it."""
        process, seat.process, seat.reception = seat.process, None, None
        if seat.sockets is not None:
            seat.sockets.close()
        if process is None:
            return None
        try:
            return await asyncio.to_thread(process.wait, REAP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            return await asyncio.to_thread(process.wait)

    async def _watch(self) -> None:
        """Kill receivers that do not answer: a loop that is stuck serves nobody, and holds connections."""
        while True:
            await asyncio.sleep(WATCH_S)
            for seat in self._seats:
                if seat.reception is None or seat.lost.is_set():
                    continue
                if seat.look is None or seat.look.done():
                    seat.look, seat.silent = seat.reception.tell(), 0
                    continue
                seat.silent += 1
                if seat.silent >= SILENCE_TICKS:
                    log.error("receiver_silent", receiver=seat.number, seconds=WATCH_S * seat.silent)
                    seat.kill()


def _start(number: int, link: socket.socket, sockets: socket.socket) -> subprocess.Popen[bytes]:
    """Start the process of a receiver, from the same files as ours."""
    here = str(Path(momentum_push.__file__).parent.parent)
    path = os.pathsep.join(filter(None, (here, os.environ.get("PYTHONPATH"))))
    level = logging.getLevelName(logging.getLogger().level).lower()
    arguments = [str(link.fileno()), str(sockets.fileno()), str(number), level]
    # Signals of the terminal are held back until the receiver ignores them.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, IGNORED)
    try:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "momentum_push.injection.receiver", *arguments],
            stdin=subprocess.DEVNULL,
            pass_fds=(link.fileno(), sockets.fileno()),
            env={**os.environ, "PYTHONPATH": path},
        )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _send_sockets(seat: Seat, sockets: Mapping[str, Sequence[socket.socket]]) -> int:
    """Send listening sockets with their names; return in how many messages."""
    assert seat.sockets is not None
    pairs: list[tuple[str, Any]] = [(name, sock) for name, found in sockets.items() for sock in found]
    starts = range(0, len(pairs), MAX_SOCKETS)
    for start in starts:
        bundle = pairs[start : start + MAX_SOCKETS]
        names = json.dumps([name for name, _ in bundle]).encode()
        socket.send_fds(seat.sockets, [names], [sock.fileno() for _, sock in bundle])
    return len(starts)
