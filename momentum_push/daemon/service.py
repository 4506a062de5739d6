"""The daemon as a service: signals in, systemd's notify protocol out, a watchdog fed by the loop itself.

    SIGTERM, SIGINT   drain and stop       READY=1         doors are open
    SIGHUP            reload               RELOADING=1     … and READY=1 again
    SIGUSR1           reopen logs          STOPPING=1
                                           WATCHDOG=1      every half of WATCHDOG_USEC, from the loop

A loop that is stuck feeds no watchdog, and systemd restarts us. Reloads and logs are asked for in vain
while the daemon starts or stops. Without NOTIFY_SOCKET nothing is sent. Source: sd_notify(3),
systemd.service(5).
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

import structlog

from momentum_push import heap

__all__ = ["Notifier", "Served", "serve"]

STATUS_INTERVAL_S = 5.0

log = structlog.get_logger()


class Served(Protocol):
    """What is asked of the daemon."""

    async def start(self) -> None: ...
    async def stop(self) -> None: ...
    async def reload(self) -> None: ...
    def reopen_logs(self) -> None: ...
    def status_line(self) -> str: ...


class Notifier:
    """Speaks to systemd, or to nobody."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self._address = environ.get("NOTIFY_SOCKET", "")
        usec = environ.get("WATCHDOG_USEC", "")
        is_ours = environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        self.watchdog_s = int(usec) / 1e6 if usec.isdigit() and is_ours else 0.0
        """Seconds after which systemd gives us up; 0: never."""

    def send(self, *lines: str) -> None:
        """Send state lines such as `READY=1`; a supervisor that does not listen is no reason to stop."""
        if not self._address:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
                sock.setblocking(False)
                sock.sendto("\n".join(lines).encode(), address)
        except OSError as error:
            log.warning("notify_failed", error=str(error))


async def serve(daemon: Served, notifier: Notifier) -> None:
    """Start the daemon, run it until SIGTERM or SIGINT, and stop it.

    Raises:
        Whatever the start raised; nothing runs then.
    """
    loop = asyncio.get_running_loop()
    ending = asyncio.Event()
    tasks: set[asyncio.Task[None]] = set()
    is_open = False

    def run(name: str, work: Callable[[], Awaitable[None]]) -> None:
        if not is_open:
            log.warning("signal_ignored", signal=name, reason="the daemon is starting or stopping")
            return
        task = loop.create_task(_run(work))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    async def reload() -> None:
        notifier.send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
        try:
            await daemon.reload()
        finally:
            notifier.send("READY=1")

    async def reopen() -> None:
        daemon.reopen_logs()

    loop.add_signal_handler(signal.SIGTERM, ending.set)
    loop.add_signal_handler(signal.SIGINT, ending.set)
    loop.add_signal_handler(signal.SIGHUP, run, "SIGHUP", reload)
    loop.add_signal_handler(signal.SIGUSR1, run, "SIGUSR1", reopen)
    await daemon.start()
    heap.calm()
    is_open = True
    notifier.send("READY=1", f"MAINPID={os.getpid()}")
    feeding = loop.create_task(_feed(daemon, notifier))
    try:
        await ending.wait()
    finally:
        is_open = False
        if tasks:
            await asyncio.wait(tasks)  # READY=1 of a reload should not come after STOPPING=1
        notifier.send("STOPPING=1")
        await daemon.stop()
        feeding.cancel()
        await asyncio.gather(feeding, return_exceptions=True)


async def _run(work: Callable[[], Awaitable[None]]) -> None:
    """Do what a signal asked for; what goes wrong is said, and the daemon goes on."""
    try:
        await work()
    except Exception:
        log.error("signal_handler_failed", exc_info=True)


async def _feed(daemon: Served, notifier: Notifier) -> None:
    """Tell systemd that the loop turns, and how it goes."""
    interval = min(STATUS_INTERVAL_S, notifier.watchdog_s / 2 or STATUS_INTERVAL_S)
    while True:
        notifier.send("WATCHDOG=1", f"STATUS={_status(daemon)}")
        await asyncio.sleep(interval)


def _status(daemon: Served) -> str:
    """Return the daemon's line; a fault in a picture of the daemon must not get it killed."""
    try:
        return daemon.status_line()
    except Exception:
        log.error("status_failed", exc_info=True)
        return "unknown"
