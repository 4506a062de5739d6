"""The daemon as a whole, in this process: starts that fail, reloads, and the order of the stop."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from momentum_push.clock import ManualClock, SystemClock
from momentum_push.config import load
from momentum_push.daemon import Daemon
from momentum_push.daemon import daemon as daemon_module
from momentum_push.delivery.manager import UNUSABLE
from momentum_push.errors import ConfigError, LogError, MomentumPushError, SpoolInUse
from momentum_push.message import Draft, Message, Origin
from momentum_push.meters import Meters
from momentum_push.spool import open_sqlite
from tests.helpers.apns import Key, provider_key, until
from tests.helpers.lists import PAYLOAD, token_of

DOMAIN = "com.example.news.apns"


class Site:
    """A conf file in a folder, that can be written again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.key: Key = provider_key(folder)
        self.key.path.chmod(0o600)
        self.path = folder / "ecelerity.conf"
        with socket.socket() as sock:  # nobody listens here
            sock.bind(("127.0.0.1", 0))
            self.apns_port = sock.getsockname()[1]
        self.write()

    def write(self, *, extra: str = "", options: str = "", domain: str = DOMAIN, **changes: str) -> None:
        smtp = changes.get("smtp", 'esmtp_listener "mail" { listen "127.0.0.1:0" { } }')
        http = changes.get("http", 'http_listener "web" { listen "127.0.0.1:0" { } }')
        log = changes.get("log", "apnlog.ec")
        self.path.write_text(
            f"""
            spoolbase = "{self.folder}/spool"
            pidfile = "{changes.get("pidfile", f"{self.folder}/pid")}"
            drain_timeout = 1
            {smtp}
            {http}
            apn_logger "one" {{ logfile = "{self.folder}/{log}" }}
            domain "{domain}" {{
              delivery_method = "apn"  routes = ( "apn://127.0.0.1?port={self.apns_port}" )
              apn_topic = "com.example.news"  apn_auth_key = "{self.key.path}"
              apn_key_id = "{self.key.key_id}"  apn_team_id = "{self.key.team_id}"
              {options}
            }}
            {extra}
            """
        )

    def daemon(self) -> Daemon:
        return Daemon(load(self.path))


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


@asynccontextmanager
async def running(site: Site) -> AsyncIterator[Daemon]:
    async with asyncio.timeout(30):
        daemon = site.daemon()
        await daemon.start()
        try:
            yield daemon
        finally:
            await daemon.stop()


async def inject(daemon: Daemon, count: int = 1, domain: str = DOMAIN) -> list[Message]:
    draft = Draft(domain=domain, payload=PAYLOAD, tokens=[token_of(number) for number in range(count)])
    results = await daemon.intake.accept(Origin(protocol="http"), [draft])
    assert all(isinstance(result, Message) for result in results), results
    return [result for result in results if isinstance(result, Message)]


def ports(daemon: Daemon) -> list[int]:
    return daemon.doors.smtp_ports + daemon.doors.http_ports


async def is_open(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


async def assert_nothing_left(before: int) -> None:
    """No task, thread, timer or descriptor of a daemon is left."""
    for _ in range(5):
        await asyncio.sleep(0)
    assert asyncio.all_tasks() == {asyncio.current_task()}
    gc.collect()
    names = [thread.name for thread in threading.enumerate() if "spool" in thread.name]
    assert names == []
    await until(lambda: descriptors() <= before)


# --- start and stop


def test_start_opens_the_doors_and_stop_leaves_nothing(site: Site) -> None:
    async def scenario() -> None:
        before = descriptors()
        async with running(site) as daemon:
            opened = ports(daemon)
            assert [await is_open(port) for port in opened] == [True, True]
            assert (daemon.is_ready(), (site.folder / "pid").read_text()) == ((True, ""), f"{os.getpid()}\n")
            assert "active 0, delayed 0" in daemon.status_line()
        assert [await is_open(port) for port in opened] == [False, False]
        assert not (site.folder / "pid").exists()
        assert daemon.is_ready()[0] is False
        await assert_nothing_left(before)

    asyncio.run(scenario())


def test_stop_is_done_once_and_before_a_start_it_is_nothing(site: Site) -> None:
    async def scenario() -> None:
        await site.daemon().stop()
        async with running(site) as daemon:
            await asyncio.gather(daemon.stop(), daemon.stop())
            await daemon.reload()

    asyncio.run(scenario())


def test_what_was_acknowledged_is_there_after_a_restart(site: Site) -> None:
    async def scenario() -> None:
        async with running(site) as daemon:
            await inject(daemon, 3)
        async with running(site) as daemon:
            assert daemon.snapshot().active + daemon.snapshot().delayed == 3
            queue = daemon.queues.all()[0]
            await until(lambda: daemon.queues.resident == 3)
            assert queue.key.domain == DOMAIN

    asyncio.run(scenario())


def test_the_order_of_the_stop(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Doors, intake, answers, queues, spool, records (see the module's head)."""

    async def scenario() -> None:
        order: list[str] = []
        async with running(site) as daemon:

            def watch(name: str, thing: Any, method: str) -> None:
                inner = getattr(thing, method)

                def noted(*arguments: Any) -> Any:
                    order.append(name)
                    return inner(*arguments)

                monkeypatch.setattr(thing, method, noted)

            for name, thing, method in (
                ("doors", daemon.doors, "stop"),
                ("intake", daemon.intake, "close"),
                ("delivery", daemon.delivery, "stop"),
                ("queues", daemon.queues, "close"),
                ("spool", daemon.spool, "close"),
                ("records", daemon.records, "close"),
            ):
                watch(name, thing, method)
        assert order == ["doors", "intake", "delivery", "queues", "spool", "records"]

    asyncio.run(scenario())


def test_a_step_of_the_stop_that_fails_leaves_no_other_undone(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        before = descriptors()
        daemon = site.daemon()
        await daemon.start()

        async def fail(deadline_s: float) -> None:
            raise RuntimeError("a bug")

        inner = daemon.delivery.stop
        monkeypatch.setattr(daemon.delivery, "stop", fail)
        with pytest.raises(RuntimeError, match="a bug"):
            await daemon.stop()
        await inner(0.0)
        assert not (site.folder / "pid").exists()
        await assert_nothing_left(before)

    asyncio.run(scenario())


# --- starts that fail


async def assert_start_fails(site: Site, kind: type[MomentumPushError], text: str) -> None:
    before = descriptors()
    daemon = site.daemon()
    with pytest.raises(kind) as caught:
        await daemon.start()
    assert text in str(caught.value)
    await assert_nothing_left(before)


def test_a_spool_in_use_is_said_and_everything_closed_again(site: Site) -> None:
    async def scenario() -> None:
        meters, clock = Meters(), SystemClock()
        spool = await open_sqlite(site.folder / "spool", meters=meters, clock=clock)
        daemon = site.daemon()
        with pytest.raises(SpoolInUse):
            await daemon.start()
        await spool.close()
        async with running(site):
            pass

    asyncio.run(scenario())


@pytest.mark.parametrize("kind", ["smtp", "http"])
def test_a_port_in_use_is_said_and_everything_closed_again(site: Site, kind: str) -> None:
    async def scenario() -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            stanza = {"smtp": "esmtp_listener", "http": "http_listener"}[kind]
            site.write(**{kind: f'{stanza} "x" {{ listen "127.0.0.1:{port}" {{ }} }}'})
            await assert_start_fails(site, ConfigError, f"127.0.0.1:{port}")

    asyncio.run(scenario())


def test_a_log_folder_that_is_missing_is_said(site: Site) -> None:
    site.write(log="missing/apnlog.ec")
    asyncio.run(assert_start_fails(site, ConfigError, "missing"))
    assert not (site.folder / "spool").exists()


def test_a_pidfile_that_cannot_be_written_is_said_and_everything_closed_again(site: Site) -> None:
    site.write(pidfile=f"{site.folder}/missing/pid")
    asyncio.run(assert_start_fails(site, ConfigError, "pidfile"))


def test_a_start_that_is_cancelled_leaves_nothing(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        async with running(site) as daemon:
            await inject(daemon, 2)
        before = descriptors()
        daemon = site.daemon()
        write = daemon._write_pidfile

        def slow() -> None:
            write()
            raise KeyboardInterrupt

        monkeypatch.setattr(daemon, "_write_pidfile", slow)
        with pytest.raises(KeyboardInterrupt):
            try:
                await daemon.start()
            finally:
                await assert_nothing_left(before)

    asyncio.run(scenario())


@pytest.mark.parametrize("fault", ["log", "spool", "configuration"])
def test_sockets_that_were_opened_as_root_are_closed_again(
    site: Site, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    opened = socket.socket()
    monkeypatch.setattr(daemon_module, "open_privileged", lambda config: {"smtp 127.0.0.1:25": [opened]})
    if fault == "log":
        site.write(log="missing/apnlog.ec")
    elif fault == "spool":
        (site.folder / "spool").write_text("a file")
    else:
        site.key.path.unlink()

    async def scenario() -> None:
        before = descriptors() - 1
        with pytest.raises(MomentumPushError):
            await site.daemon().start()
        assert opened.fileno() == -1
        await assert_nothing_left(before)

    asyncio.run(scenario())


def test_errors_of_check_are_errors_of_the_start(site: Site) -> None:
    site.key.path.unlink()
    asyncio.run(assert_start_fails(site, ConfigError, "AuthKey.p8"))


# --- reloads


def test_a_reload_follows_listeners(site: Site) -> None:
    async def scenario() -> None:
        async with running(site) as daemon:
            (smtp,), (http,) = daemon.doors.smtp_ports, daemon.doors.http_ports
            more = 'esmtp_listener "more" { listen "localhost:0" { } }'
            site.write(http="", extra=more)
            await daemon.reload()
            assert smtp in daemon.doors.smtp_ports
            assert [await is_open(port) for port in daemon.doors.smtp_ports] == [True] * len(
                daemon.doors.smtp_ports
            )
            assert len(daemon.doors.smtp_ports) > 1
            assert (daemon.doors.http_ports, await is_open(http)) == ([], False)

    asyncio.run(scenario())


def test_an_address_that_moves_to_another_stanza_stays_open(site: Site) -> None:
    async def scenario() -> None:
        async with running(site) as daemon:
            (port,) = daemon.doors.smtp_ports
            site.write(smtp='esmtp_listener "renamed" { listen "127.0.0.1:0" { } }')
            await daemon.reload()
            assert daemon.doors.smtp_ports == [port]
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            assert (await asyncio.wait_for(reader.readline(), 5)).startswith(b"220 ")
            writer.close()

    asyncio.run(scenario())


def test_a_reload_follows_loggers(site: Site) -> None:
    async def scenario() -> None:
        async with running(site) as daemon:
            site.write(log="other.ec")
            await daemon.reload()
            await inject(daemon)
            await until(lambda: "@T@" in (site.folder / "other.ec").read_text())
            assert "@T@" not in (site.folder / "apnlog.ec").read_text()

    asyncio.run(scenario())


def test_the_messages_of_a_domain_that_was_removed_are_held_and_kept(site: Site) -> None:
    async def scenario() -> None:
        async with running(site) as daemon:
            await inject(daemon, 3)
            site.write(domain="com.example.other.apns")
            await daemon.reload()
            queue = daemon.queues.all()[0]
            await until(lambda: queue.hold_reason == UNUSABLE)
            assert (queue.active, await stored(daemon)) == (3, 3)
            draft = Draft(domain=DOMAIN, payload=PAYLOAD, tokens=[token_of(1)])
            (refusal,) = await daemon.intake.accept(Origin(protocol="http"), [draft])
            assert not isinstance(refusal, Message)
            site.write()
            await daemon.reload()
            await until(lambda: queue.hold_reason == "outage")
            assert await stored(daemon) == 3

    asyncio.run(scenario())


async def stored(daemon: Daemon) -> int:
    return sum(row.messages for row in await daemon.spool.overview())


@pytest.mark.parametrize(
    "broken",
    [
        {"options": 'apn_key_id = "short"'},
        {"extra": "no_such_option = 1"},
        {"log": "missing/apnlog.ec"},
        {"smtp": 'esmtp_listener "new" { listen "192.0.2.1:25" { } }'},
    ],
    ids=["option", "name", "log", "address"],
)
def test_a_reload_that_fails_changes_nothing(site: Site, broken: dict[str, str]) -> None:
    """momentum.md 1.9."""

    async def scenario() -> None:
        async with running(site) as daemon:
            config, opened, loggers = daemon.config, ports(daemon), list(daemon.records.loggers)
            site.write(**broken)  # type: ignore[arg-type]
            await daemon.reload()
            assert (daemon.config, ports(daemon)) == (config, opened)
            assert daemon.records.loggers == loggers
            assert [await is_open(port) for port in opened] == [True, True]
            await inject(daemon)

    asyncio.run(scenario())


def test_a_reload_lets_go_of_no_log_that_owes_records(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        async with running(site) as daemon:
            config, loggers = daemon.config, list(daemon.records.loggers)

            def owes() -> None:
                raise LogError("log: no space left on device")

            monkeypatch.setattr(daemon.records, "retry", owes)
            site.write(log="other.ec")
            await daemon.reload()
            assert (daemon.config, daemon.records.loggers) == (config, loggers)
            monkeypatch.undo()

    asyncio.run(scenario())


def test_an_old_log_that_cannot_be_closed_does_not_close_the_new_one(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        async with running(site) as daemon:
            old = daemon.records.loggers[0]

            def fail() -> None:
                raise LogError("log: i/o error")

            monkeypatch.setattr(type(old), "close", lambda self: fail() if self is old else None)
            site.write(log="other.ec")
            await daemon.reload()
            await inject(daemon)
            await until(lambda: "@T@" in (site.folder / "other.ec").read_text())
            monkeypatch.undo()

    asyncio.run(scenario())


def test_reloads_wait_for_each_other(site: Site) -> None:
    async def scenario() -> None:
        async with running(site) as daemon:
            await asyncio.gather(*(daemon.reload() for _ in range(4)))
            assert [await is_open(port) for port in ports(daemon)] == [True, True]

    asyncio.run(scenario())


# --- looking in


def test_the_picture_agrees_with_what_was_injected(site: Site) -> None:
    async def scenario() -> None:
        async with running(site) as daemon:
            await inject(daemon, 5)
            await until(lambda: daemon.queues.all()[0].hold_reason == "outage")
            snapshot = daemon.snapshot()
            (queue,) = snapshot.queues
            assert (queue.receptions, queue.active, snapshot.is_ready) == (5, 5, True)
            assert b"momentum_push_receptions_total" in daemon._views().metrics()
            assert json.dumps(daemon._views().mailq(None, None, None))

    asyncio.run(scenario())


def test_a_running_daemon_looks_at_its_certificates_every_day(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(daemon_module, "TICK_S", 0.001)

    async def scenario() -> None:
        seen = {"looks": 0, "ticks": 0}

        def note(name: str) -> Callable[..., None]:
            def noted(*_: Any) -> None:
                seen[name] += 1

            return noted

        async def two_ticks() -> None:
            ticks = seen["ticks"]
            async with asyncio.timeout(10):
                while seen["ticks"] < ticks + 2:
                    await asyncio.sleep(0.001)

        clock = ManualClock(time.time())
        daemon = Daemon(load(site.path), clock)
        await daemon.start()
        try:
            monkeypatch.setattr(daemon.delivery, "look_at_certificates", note("looks"))
            monkeypatch.setattr(daemon._summary, "sample", note("ticks"))
            await two_ticks()
            for days in (1, 2, 3):
                clock.advance(86_399)
                await two_ticks()
                assert seen["looks"] == days - 1
                clock.advance(1)
                await two_ticks()
                assert seen["looks"] == days
        finally:
            await daemon.stop()

    asyncio.run(scenario())
