"""The daemon: makes every object, joins them, and takes them down in reverse.

    start    records ─► spool ─► queues, delivery ─► intake ─► doors ─► recall what the spool holds
    stop     doors shut ─► intake's last commit ─► answers that are due ─► spool ─► records

Rooms on one row meet here alone: HTTP shows what `exposition` renders through callables it is given,
intake hands stored lists to the queues through one, and so on. The order of stopping keeps the
promises: what was acknowledged is on disk, what was answered has its record before it leaves the disk.
A start that fails takes down what it had built, in the same order. Reloads and the stop wait for
each other.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import structlog

from momentum_push import heap
from momentum_push.clock import Clock, SystemClock
from momentum_push.config import Config, load
from momentum_push.daemon.checks import read_reasons, validate
from momentum_push.daemon.lag import LagProbe
from momentum_push.daemon.privileges import drop_privileges
from momentum_push.daemon.receivers import Receivers
from momentum_push.daemon.status import queue_statuses
from momentum_push.delivery.manager import Delivery
from momentum_push.delivery.settings import SettingsReader
from momentum_push.errors import ConfigError, LogError, Place, Problem, SpoolDamaged, SpoolError, SpoolFull
from momentum_push.exposition import Snapshot, Summary, mailq, render
from momentum_push.exposition.stats import MAILQ_LIMIT
from momentum_push.injection import Intake, Routing
from momentum_push.injection.doors import Doors, open_privileged
from momentum_push.injection.http import Views
from momentum_push.injection.reception import Node
from momentum_push.injection.sessions import Sessions
from momentum_push.injection.sockets import close_sockets
from momentum_push.loggers import Loggers
from momentum_push.loggers import build as build_loggers
from momentum_push.loggers.diagnostics import on_error
from momentum_push.message import Cancel, QueueKey
from momentum_push.message.ids import first_sequence, hex_id
from momentum_push.message.reasons import ReasonTable
from momentum_push.message.rules import Rules
from momentum_push.meters import Meters
from momentum_push.queues import Queue, QueueManager
from momentum_push.spool import Floors, SqliteSpool, open_sqlite

__all__ = ["Daemon"]

SWITCH_INTERVAL_S = 0.0002
"""How long a thread may keep the interpreter: the spool's writer must get its turns beside a busy loop.

A commit asks for it about ten times, so this is what a busy loop adds to each. With 0.5 ms the mean commit
beside batches took 3 to 6 ms, with 0.2 ms 2 to 4, at no more CPU."""

TICK_S = 1.0
CERTIFICATES_S = 86_400.0
"""How often a running daemon looks at the dates of its certificates."""
LONGEST_ALARM_S = 60.0
"""Wall clocks jump; no timer trusts one for longer."""

_FIXED = ("spoolbase", "spool_mode", "force_fsync", "receivers", "pidfile", "log_hires_timestamp")
"""Global options that a reload cannot change."""

log = structlog.get_logger()


class Daemon:
    """One running daemon; `start`, `stop`, and between them `reload` and `reopen_logs`.

    Raises (from `start`):
        ConfigError: what `check` would say, and sockets, folders and files that cannot be opened.
        SpoolError: the spool cannot be used.
    """

    def __init__(self, config: Config, clock: Clock | None = None) -> None:
        self.config = config
        self.clock = clock or SystemClock()
        self.meters = Meters()
        self._started_at = self.clock.monotonic()
        self._next_conn = first_sequence(self.clock.now())
        self._summary = Summary(self.meters, self._started_at)
        self._is_started = False
        self._is_stopping = False
        self._timer: asyncio.TimerHandle | None = None
        self._ticker: asyncio.Task[None] | None = None
        self._lag: LagProbe | None = None
        self._forget_panics: Callable[[], None] = _nothing
        self._pidfile: Path | None = None
        self._opened: dict[str, list[socket.socket]] = {}
        self._changing = asyncio.Lock()
        self.records: Loggers
        self.spool: SqliteSpool
        self.queues: QueueManager
        self.delivery: Delivery
        self.intake: Intake
        self.doors: Doors | Receivers
        self._rules_of: Callable[[QueueKey], Rules]

    def __repr__(self) -> str:
        return f"<Daemon {self.status_line()}>"

    # ── start and stop ───────────────────────────────────────────────────────────────────────────

    async def start(self) -> None:
        """Build everything and open the doors."""
        self._opened = open_privileged(self.config)
        try:
            drop_privileges(self.config)
            self._refuse_errors(validate(self.config, self.clock))
            for problem in self.config.warnings:
                log.warning("configuration_warning", problem=str(problem))
            await self._start()
        except BaseException:
            await self._take_down(0.0)
            raise
        loop = asyncio.get_running_loop()
        self._ticker = loop.create_task(self._tick())
        self._lag = LagProbe(self.meters, self.clock, loop.call_later)
        self._lag.start()
        self._is_started = True
        log.info("started", configuration=str(self.config.path), pid=os.getpid(), **self.doors.addresses())

    async def _start(self) -> None:
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        heap.settle()
        self.records = build_loggers(self.config)
        self._forget_panics = on_error(self._panic)
        await self._open_spool()
        self._build(read_reasons(self.config))
        self.queues.recall(await self.spool.overview())
        await self.doors.start(self.config)
        self._write_pidfile()

    async def stop(self) -> None:
        """Close the doors, wait up to `drain_timeout` for answers that are due, commit, let go."""
        if not self._is_started or self._is_stopping:
            return
        self._is_stopping = True
        async with self._changing:
            drain_s = float(self.config.glob["drain_timeout"])
            log.info(
                "stopping",
                drain_timeout=drain_s,
                in_flight=sum(pool.in_flight for pool in self.delivery.pools.values()),
            )
            await self._take_down(drain_s)
            log.info("stopped")

    async def _take_down(self, drain_s: float) -> None:
        """Undo whatever was built, in reverse; each step is done whatever became of those before."""
        async with AsyncExitStack() as undo:
            if hasattr(self, "records"):
                undo.callback(self._close_records)
            undo.callback(self._remove_pidfile)
            for sockets in self._opened.values():  # that no door took
                undo.callback(close_sockets, sockets)
            if hasattr(self, "spool"):
                undo.push_async_callback(self.spool.close)
            undo.push_async_callback(self._stop_timers)
            if hasattr(self, "doors"):
                undo.push_async_callback(self.queues.close)
                undo.push_async_callback(self.delivery.stop, drain_s)
                undo.push_async_callback(self.intake.close)
                undo.push_async_callback(self.doors.stop, drain_s)

    async def _stop_timers(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._lag is not None:
            self._lag.stop()
        if self._ticker is not None:
            self._ticker.cancel()
            await asyncio.gather(self._ticker, return_exceptions=True)

    async def reload(self) -> None:
        """Read the configuration again and go by it; on any error nothing changes (momentum.md 1.9)."""
        async with self._changing:
            if self._is_stopping or not self._is_started:
                return
            try:
                await self._reload()
            except (ConfigError, LogError) as error:
                log.error("reload_failed", problems=str(error).splitlines())

    async def _reload(self) -> None:
        config = load(self.config.path)
        self._refuse_errors(validate(config, self.clock))
        reasons = read_reasons(config)
        self.records.retry()  # files that owe records cannot be let go of, nor opened anew in mid-line
        records = build_loggers(config)
        reader = self._reader(config)
        before, self._rules_of = (
            self._rules_of,
            reader.rules,
        )  # for receivers, which ask as soon as they follow
        try:
            await self.doors.reload(config)
        except BaseException:
            self._rules_of = before
            records.close()
            raise
        self._change_records(records)
        for problem in config.warnings + self._fixed_changes(config):
            log.warning("configuration_warning", problem=str(problem))
        self.config = config
        self.intake.routing = Routing(config, reader.rules)
        glob = config.glob
        self.queues.set_max_resident(glob["max_resident_messages"], glob["max_resident_bytes"])
        self.spool.set_floors(_floors(config))
        self.spool.set_max_keys(glob["max_idempotency_keys"])
        self.delivery.configure(reader, reasons)
        log.info("reloaded", configuration=str(config.path))

    def _change_records(self, records: Loggers) -> None:
        """Go over to new loggers; the doors have changed already, so the old ones go on where that fails."""
        try:
            self.records.take_over(records)
        except LogError as error:
            log.error("log_write_failed", error=str(error))
            if self.records.loggers is not records.loggers:
                records.close()

    def reopen_logs(self) -> None:
        """Open all log files by name again, after they were rotated."""
        try:
            self.records.reopen()
        except LogError as error:
            log.error("reopen_logs_failed", error=str(error))
        else:
            log.info("logs_reopened")

    # ── looking in ───────────────────────────────────────────────────────────────────────────────

    def snapshot(self) -> Snapshot:
        """Return all gauges of this moment."""
        now = self.clock.now()
        statuses = queue_statuses(self.queues.all(), self.delivery.pools, self.meters, now)
        return Snapshot(
            queues=statuses,
            spool_bytes=self.spool.bytes_used,
            spool_free_bytes=self.spool.room.bytes,
            spool_free_inodes=self.spool.room.inodes,
            spool_is_writable=self.spool.is_writable,
            resident_bytes=self.queues.resident_bytes,
            uptime_s=self.clock.monotonic() - self._started_at,
            is_ready=self.is_ready()[0],
            is_writable=self.spool.is_writable and self.records.is_writable,
            inbound_sessions=dict(self.meters.inbound_sessions),
            log_bytes_pending=self.records.pending,
            loop_lag_peak_s=self.meters.loop_lag_peak.recent(self.clock.monotonic()),
        )

    def is_ready(self) -> tuple[bool, str]:
        """Whether messages are taken, and if not, why."""
        if self._is_stopping:
            return False, "the daemon is stopping"
        if not self.spool.is_writable:
            return False, _what_to_do(self.spool.obstacle)
        return self.intake.is_ready, "" if self.intake.is_ready else "the intake is closed"

    def status_line(self) -> str:
        """Return one line for systemd's status."""
        if not self._is_started:
            return "starting"
        snapshot = self.snapshot()
        figures = self._summary.render(snapshot, self.clock.monotonic())
        return (
            f"active {snapshot.active}, delayed {snapshot.delayed}, "
            f"in {figures['ReceptionRate']:.0f}/s, out {figures['DeliveryRate']:.0f}/s, "
            f"{snapshot.outbound_connections} connections"
        )

    # ── inside ───────────────────────────────────────────────────────────────────────────────────

    async def _open_spool(self) -> None:
        glob = self.config.glob
        self.spool = await open_sqlite(
            Path(glob["spoolbase"]),
            mode=glob["spool_mode"],
            force_fsync=glob["force_fsync"],
            meters=self.meters,
            clock=self.clock,
            floors=_floors(self.config),
        )
        self.spool.set_max_keys(glob["max_idempotency_keys"])

    def _build(self, reasons: ReasonTable) -> None:
        """Build what lies between spool and sockets; nothing of it works yet."""
        config = self.config
        reader = self._reader(config)
        self.queues = QueueManager(
            self.spool,
            self.clock,
            self._on_due,
            config.glob["max_resident_messages"],
            self._set_alarm,
            config.glob["max_resident_bytes"],
        )
        self.delivery = Delivery(
            reader=reader,
            table=reasons,
            queues=self.queues,
            records=self.records,
            spool=self.spool,
            meters=self.meters,
            clock=self.clock,
            new_conn_id=self._new_conn_id,
            is_hurried=lambda: self.intake.is_hurried,
        )
        self.intake = Intake(
            routing=Routing(config, reader.rules),
            store=self.spool,
            records=self.records,
            queues=self.queues,
            meters=self.meters,
            clock=self.clock,
            take_back=self.delivery.cancel,
        )
        self._rules_of = reader.rules
        count = config.glob["receivers"]
        self.doors = self._receivers(count) if count else self._doors()

    def _doors(self) -> Doors:
        return Doors(
            intake=self.intake,
            records=self.records,
            meters=self.meters,
            clock=self.clock,
            views=self._views(),
            new_conn_id=self._new_conn_id,
            opened=self._opened,
        )

    def _receivers(self, count: int) -> Receivers:
        views = self._views()
        node = Node(
            intake=self.intake,
            records=self.records,
            meters=self.meters,
            sessions=Sessions(),
            salt=self.spool.salt,
            answers={
                "rules": lambda keys: [self._rules_of(QueueKey(*key)) for key in keys],
                "cancel": lambda wish: self.intake.cancel(Cancel(**wish)),
                "ids": self._take_conn_numbers,
                "is_ready": views.is_ready,
                "mailq": views.mailq,
                "metrics": lambda: receivers.looked_at(views.metrics),
                "summary": lambda: receivers.looked_at(views.summary),
                "reset_summary": lambda: receivers.looked_at(views.reset_summary),
            },
        )
        receivers = Receivers(count, node, self._opened, self._on_restart)
        return receivers

    def _on_restart(self, number: int) -> None:
        self.meters.receiver_restarts[str(number)] += 1

    def _views(self) -> Views:
        return Views(
            metrics=lambda: render(self.meters, self.snapshot()),
            summary=lambda: self._summary.render(self.snapshot(), self.clock.monotonic()),
            reset_summary=lambda: self._summary.reset(self.clock.monotonic()),
            mailq=self._mailq,
            is_ready=self.is_ready,
        )

    def _mailq(self, domain: str | None, binding: str | None, limit: int | None) -> Mapping[str, Any]:
        return mailq(
            self.snapshot().queues, domain or "", binding or "", MAILQ_LIMIT if limit is None else limit
        )

    def _reader(self, config: Config) -> SettingsReader:
        return SettingsReader(config, self.clock, self._on_mint)

    def _on_mint(self, key_id: str) -> None:
        self.meters.provider_token_mints[key_id] += 1

    def _on_due(self, queue: Queue) -> None:
        self.delivery.on_due(queue)

    def _new_conn_id(self) -> str:
        return hex_id(self._take_conn_numbers(1))

    def _take_conn_numbers(self, count: int) -> int:
        first, self._next_conn = self._next_conn, self._next_conn + count
        return first

    def _set_alarm(self, when: float) -> None:
        """Wake the queues at `when` (epoch seconds)."""
        if self._timer is not None:
            self._timer.cancel()
        wait = min(LONGEST_ALARM_S, max(0.0, when - self.clock.now()))
        self._timer = asyncio.get_running_loop().call_later(wait, self._ring)

    def _ring(self) -> None:
        self._timer = None
        self.queues.wake(self.clock.now())

    async def _tick(self) -> None:
        """Each second: heartbeats, what logs owe, samples; a minute: free memory; a day: certificates."""
        looked_at = trimmed_at = self.clock.monotonic()
        while True:
            try:
                self.records.tick(self.clock.now())
            except LogError as error:
                log.error("log_write_failed", error=str(error))
            self.spool.watch()
            monotonic = self.clock.monotonic()
            self._summary.sample(monotonic)
            if monotonic - trimmed_at >= heap.TRIM_S:
                trimmed_at = monotonic
                heap.trim()
            if monotonic - looked_at >= CERTIFICATES_S:
                looked_at = monotonic
                self.delivery.look_at_certificates()
            await asyncio.sleep(TICK_S)

    def _panic(self, module: str, text: str) -> None:
        self.records.panic(self.clock.now(), module, text)

    def _close_records(self) -> None:
        self._forget_panics()
        try:
            self.records.close()
        except LogError as error:
            log.error("log_write_failed", error=str(error))

    def _write_pidfile(self) -> None:
        path = self.config.glob["pidfile"]
        if not path:
            return
        try:
            Path(path).write_text(f"{os.getpid()}\n")
        except OSError as error:
            place = self.config.glob.origin("pidfile") or Place(str(self.config.path))
            what = f'pidfile "{path}" cannot be written ({str(error.strerror).lower()})'
            raise ConfigError([Problem(place, what, "make its folder, writable for this user")]) from error
        self._pidfile = Path(path)

    def _remove_pidfile(self) -> None:
        if self._pidfile is not None:
            self._pidfile.unlink(missing_ok=True)

    def _fixed_changes(self, config: Config) -> list[Problem]:
        """Return a warning for each changed option that needs a restart."""
        return [
            Problem(
                config.glob.origin(option) or Place(str(config.path)),
                f'"{option}" changed and takes effect at the next start',
                "restart the daemon",
                True,
            )
            for option in _FIXED
            if config.glob[option] != self.config.glob[option]
        ]

    @staticmethod
    def _refuse_errors(problems: Sequence[Problem]) -> None:
        errors = [problem for problem in problems if not problem.is_warning]
        if errors:
            raise ConfigError(errors)
        for problem in problems:
            log.warning("configuration_warning", problem=str(problem))


def _what_to_do(obstacle: SpoolError | None) -> str:
    """Say why the spool takes no messages, without names of files: whoever asks need not be the operator."""
    if isinstance(obstacle, SpoolDamaged):
        return "the spool is damaged; restart the daemon, it saves what can be read"
    if isinstance(obstacle, SpoolFull):
        return "the spool has too little room; make room on its disk"
    return "the spool cannot be written; see that its disk works"


def _floors(config: Config) -> Floors:
    return Floors(config.glob["min_free_space"], config.glob["min_free_inodes"])


def _nothing() -> None:
    """What is done before there is something to do."""
