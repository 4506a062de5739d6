"""Signals in, notify protocol out; the real thing over real sockets and real signals."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from momentum_push.daemon import service
from momentum_push.daemon.service import Notifier, serve
from tests.helpers.apns import until


class FakeDaemon:
    """Notes what it is asked for; `gates` hold a step until they are opened."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.gates: dict[str, asyncio.Event] = {}
        self.errors: dict[str, Exception] = {}

    async def _step(self, name: str) -> None:
        self.calls.append(name)
        if name in self.gates:
            await self.gates[name].wait()
        if name in self.errors:
            raise self.errors[name]

    async def start(self) -> None:
        await self._step("start")

    async def stop(self) -> None:
        await self._step("stop")

    async def reload(self) -> None:
        await self._step("reload")

    def reopen_logs(self) -> None:
        self.calls.append("reopen")

    def status_line(self) -> str:
        if "status" in self.errors:
            raise self.errors["status"]
        return "active 0, delayed 0"


@contextmanager
def supervisor(folder: Path, name: str = "notify") -> Iterator[tuple[Notifier, socket.socket]]:
    """A socket as systemd holds it, and a notifier that knows it."""
    path = str(folder / name)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(path)
        sock.setblocking(False)
        yield Notifier({"NOTIFY_SOCKET": path}), sock


def said(sock: socket.socket) -> list[str]:
    """What arrived so far, one item a datagram; statuses are left out."""
    found = []
    while True:
        try:
            text = sock.recv(65536).decode()
        except BlockingIOError:
            return found
        if not text.startswith("WATCHDOG"):
            found.append(text.split("\n")[0])


def kill(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)


def play(daemon: FakeDaemon, notifier: Notifier, scene: Any) -> None:
    """Run `serve` beside a scene that ends it."""

    async def scenario() -> None:
        async with asyncio.timeout(20):
            serving = asyncio.create_task(serve(daemon, notifier))
            await scene(serving)
            await serving

    asyncio.run(scenario())


# --- the notifier


def test_lines_go_to_the_socket_in_one_datagram(tmp_path: Path) -> None:
    with supervisor(tmp_path) as (notifier, sock):
        notifier.send("READY=1", "MAINPID=7")
        assert sock.recv(100) == b"READY=1\nMAINPID=7"


def test_an_abstract_socket_is_found_too() -> None:
    name = f"momentum-push-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind("\0" + name)
        Notifier({"NOTIFY_SOCKET": "@" + name}).send("READY=1")
        assert sock.recv(100) == b"READY=1"


def test_without_a_supervisor_nothing_is_sent() -> None:
    Notifier({}).send("READY=1")


def test_a_supervisor_that_is_gone_or_full_is_no_reason_to_stop(tmp_path: Path) -> None:
    Notifier({"NOTIFY_SOCKET": str(tmp_path / "gone")}).send("READY=1")
    with supervisor(tmp_path) as (notifier, _):
        for _ in range(2000):
            notifier.send("WATCHDOG=1")


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({}, 0.0),
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, 0.0),
        ({"WATCHDOG_USEC": "soon"}, 0.0),
    ],
)
def test_the_watchdog_is_ours_when_it_says_so(environ: dict[str, str], seconds: float) -> None:
    """sd_watchdog_enabled(3)."""
    assert Notifier(environ).watchdog_s == seconds


# --- serving


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_daemon_and_systemd_is_told(tmp_path: Path, number: signal.Signals) -> None:
    daemon = FakeDaemon()
    with supervisor(tmp_path) as (notifier, sock):

        async def scene(serving: asyncio.Task[None]) -> None:
            heard: list[str] = []
            await until(lambda: heard.extend(said(sock)) or "READY=1" in heard)
            kill(number)
            await serving
            heard += said(sock)
            assert heard == ["READY=1", "STOPPING=1"]

        play(daemon, notifier, scene)
    assert daemon.calls == ["start", "stop"]


def test_hangup_reloads_and_usr1_reopens(tmp_path: Path) -> None:
    daemon = FakeDaemon()
    with supervisor(tmp_path) as (notifier, sock):

        async def scene(serving: asyncio.Task[None]) -> None:
            heard: list[str] = []
            await until(lambda: heard.extend(said(sock)) or "READY=1" in heard)
            kill(signal.SIGHUP)
            await until(lambda: heard.extend(said(sock)) or len(heard) == 3)
            assert heard[1:] == ["RELOADING=1", "READY=1"]
            kill(signal.SIGUSR1)
            await until(lambda: "reopen" in daemon.calls)
            kill(signal.SIGTERM)

        play(daemon, notifier, scene)
    assert daemon.calls == ["start", "reload", "reopen", "stop"]


def test_a_reload_that_breaks_ends_nothing_and_is_over_for_systemd(tmp_path: Path) -> None:
    daemon = FakeDaemon()
    daemon.errors["reload"] = RuntimeError("a bug")
    with supervisor(tmp_path) as (notifier, sock):

        async def scene(serving: asyncio.Task[None]) -> None:
            await until(lambda: "READY=1" in said(sock))
            kill(signal.SIGHUP)
            await until(lambda: "READY=1" in said(sock))
            assert not serving.done()
            kill(signal.SIGTERM)

        play(daemon, notifier, scene)
    assert daemon.calls[-1] == "stop"


def test_signals_during_the_start_wait_or_are_ignored(tmp_path: Path) -> None:
    """READY=1 must not be said before the doors are open; a stop is not forgotten."""
    daemon = FakeDaemon()

    async def scene(serving: asyncio.Task[None]) -> None:
        await until(lambda: daemon.calls == ["start"])
        for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGTERM):
            kill(number)
        for _ in range(10):
            await asyncio.sleep(0)
        assert (daemon.calls, said(sock)) == (["start"], [])
        daemon.gates["start"].set()

    with supervisor(tmp_path) as (notifier, sock):

        async def gated(serving: asyncio.Task[None]) -> None:
            daemon.gates["start"] = asyncio.Event()
            await scene(serving)

        play(daemon, notifier, gated)
    assert daemon.calls == ["start", "stop"]


def test_the_stop_waits_for_a_reload(tmp_path: Path) -> None:
    daemon = FakeDaemon()
    with supervisor(tmp_path) as (notifier, sock):

        async def scene(serving: asyncio.Task[None]) -> None:
            daemon.gates["reload"] = asyncio.Event()
            await until(lambda: "READY=1" in said(sock))
            kill(signal.SIGHUP)
            await until(lambda: "reload" in daemon.calls)
            kill(signal.SIGTERM)
            await asyncio.sleep(0.01)
            assert "stop" not in daemon.calls
            daemon.gates["reload"].set()
            await serving
            assert said(sock) == ["RELOADING=1", "READY=1", "STOPPING=1"]

        play(daemon, notifier, scene)


def test_a_start_that_fails_is_not_served(tmp_path: Path) -> None:
    daemon = FakeDaemon()
    daemon.errors["start"] = RuntimeError("no spool")

    async def scene(serving: asyncio.Task[None]) -> None:
        with pytest.raises(RuntimeError, match="no spool"):
            await serving

    with supervisor(tmp_path) as (notifier, sock), pytest.raises(RuntimeError):
        play(daemon, notifier, scene)
        assert said(sock) == []


def test_the_watchdog_is_fed_from_the_loop_also_when_the_status_breaks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "STATUS_INTERVAL_S", 0.005)
    daemon = FakeDaemon()
    with supervisor(tmp_path) as (notifier, sock):

        def fed() -> list[str]:
            texts = []
            while True:
                try:
                    texts.append(sock.recv(65536).decode())
                except BlockingIOError:
                    return [text for text in texts if text.startswith("WATCHDOG=1\n")]

        async def scene(serving: asyncio.Task[None]) -> None:
            await until(lambda: "WATCHDOG=1\nSTATUS=active 0, delayed 0" in fed())
            daemon.errors["status"] = RuntimeError("a bug")
            await until(lambda: "WATCHDOG=1\nSTATUS=unknown" in fed())
            kill(signal.SIGTERM)

        play(daemon, notifier, scene)
