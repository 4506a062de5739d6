"""A receiver: the doors in a process of their own (design.md 5), `python -m momentum_push.injection.receiver`

    the core ── two inherited sockets ──► receiver
                  link      frames (`injection.frames`), both ways
                  sockets   listening sockets, beside each `Configure`

Started by the core alone (`daemon.receivers`). It holds no spool, log, queue or key to Apple: what it is told
is the configuration, what it cannot decide it asks. Signals of the terminal and of service managers reach it
as well and are not for it; it ends when the core says so, and at once when the core is gone, for then nothing
that it could answer is true.
"""

from __future__ import annotations

import asyncio
import json
import os
import pickle
import signal
import socket
import sys
from typing import Any

import structlog
import uvloop

from momentum_push import heap
from momentum_push.clock import SystemClock
from momentum_push.config import Config
from momentum_push.errors import ConfigError
from momentum_push.injection.doors import Doors
from momentum_push.injection.frames import Answer, Configure, Failed, FromCore, Ready, Stop, Taken, Tell
from momentum_push.injection.link import Link
from momentum_push.injection.remote import (
    Core,
    CoreUnreachable,
    Ids,
    RemoteIntake,
    RemoteRecords,
    Reporter,
    remote_views,
)
from momentum_push.injection.sockets import Borrowed
from momentum_push.injection.vestibule import RemoteSessions
from momentum_push.loggers import diagnostics
from momentum_push.meters import Meters

__all__ = ["IGNORED", "MAX_SOCKETS", "main"]

IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
"""For the core alone, which passes on what they mean. The core blocks them while it starts us."""

MAX_SOCKETS = 200
"""Listening sockets in one message; the system takes 253 (unix(7))."""

REPORT_S = 1.0

CORE_GONE = 3
"""Exit status where the core is gone."""

log = structlog.get_logger()


class Receiver:
    """The doors of this process, and what stands between them and the core."""

    def __init__(self, sockets: socket.socket) -> None:
        self._sockets = sockets
        self._clock = SystemClock()
        self._meters = Meters()
        self._core = Core()
        self._core.link = Link(FromCore, self._on_frame, self._on_lost)
        self._reporter = Reporter(self._core, self._meters)
        self._records = RemoteRecords(self._core, self._reporter)
        self._ids = Ids(self._core)
        self._opened: dict[str, list[socket.socket]] = {}
        self._orders: asyncio.Queue[Configure | Stop] = asyncio.Queue()
        self._intake: RemoteIntake | None = None
        self._doors: Doors | None = None
        self._is_ending = False

    async def run(self, link: socket.socket) -> None:
        """Serve until the core says that it is enough."""
        loop = asyncio.get_running_loop()
        await loop.create_unix_connection(lambda: self._core.link, sock=link)
        diagnostics.on_error(lambda module, text: self._records.panic(self._clock.now(), module, text))
        reporting = loop.create_task(self._report())
        while isinstance(order := await self._orders.get(), Configure):
            await self._configure(order)
        reporting.cancel()
        self._is_ending = True
        if self._doors is not None:
            await self._doors.stop(order.deadline_s)
        self._reporter.report()
        self._core.link.close()
        while not self._core.link.is_lost:
            await asyncio.sleep(0.005)  # until what was sent is with the core

    def _on_frame(self, frame: Any) -> None:
        if isinstance(frame, Taken | Failed):
            assert self._intake is not None  # nothing was sent before there was one
            self._intake.on_outcome(frame)
        elif isinstance(frame, Answer):
            self._core.on_answer(frame)
        elif isinstance(frame, Tell):
            self._reporter.report(frame.number)
        else:
            self._orders.put_nowait(frame)

    def _on_lost(self) -> None:
        if not self._is_ending:
            log.warning("core_gone")
            os._exit(CORE_GONE)  # no answer may leave any more, not even by an orderly end

    async def _configure(self, order: Configure) -> None:
        """Open the doors, or have them follow a new configuration; say how it went."""
        problem = ""
        try:
            config: Config = pickle.loads(order.config)
            self._borrow(order.bundles)
            if self._doors is None:
                await self._open(config, order)
            else:
                await self._doors.reload(config)
            assert self._intake is not None
            self._intake.follow(config)
        except (ConfigError, CoreUnreachable, OSError) as error:
            problem = str(error)
        self._core.link.send(Ready(order.number, problem))

    async def _open(self, config: Config, order: Configure) -> None:
        await self._ids.fill()
        self._intake = RemoteIntake(self._core, config, int.from_bytes(order.salt), self._clock)
        doors = Doors(
            intake=self._intake,
            records=self._records,
            meters=self._meters,
            clock=self._clock,
            views=remote_views(self._core),
            new_conn_id=self._ids,
            opened=self._opened,
            sessions=RemoteSessions(self._core),
            share=order.share,
        )
        await doors.start(config)
        self._doors = doors
        heap.calm()

    def _borrow(self, bundles: int) -> None:
        """Take listening sockets; whoever sent the order has put them there before."""
        for _ in range(bundles):
            names, numbers, _, _ = socket.recv_fds(self._sockets, 1 << 20, MAX_SOCKETS)
            for name, number in zip(json.loads(names), numbers, strict=True):
                self._opened.setdefault(name, []).append(Borrowed(fileno=number))

    async def _report(self) -> None:
        trimmed_at = self._clock.monotonic()
        while True:
            await asyncio.sleep(REPORT_S)
            self._reporter.report()
            if self._clock.monotonic() - trimmed_at >= heap.TRIM_S:
                trimmed_at = self._clock.monotonic()
                heap.trim()
            if self._records.dropped:
                log.warning("records_dropped", records=self._records.dropped)
                self._records.dropped = 0


def main(link: int, sockets: int, number: int, level: str) -> None:
    """Run a receiver on two inherited file descriptors; `number` stands in its diagnostics."""
    for ignored in IGNORED:
        signal.signal(ignored, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, IGNORED)
    diagnostics.configure(level=level)
    heap.settle()
    structlog.contextvars.bind_contextvars(receiver=number)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        receiver = Receiver(socket.socket(fileno=sockets))
        runner.run(receiver.run(socket.socket(fileno=link)))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
