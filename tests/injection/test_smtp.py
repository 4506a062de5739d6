"""momentum_push/injection/smtp.py: listeners: admission, reload, stopping, validation."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import uvloop

from momentum_push.config import loads
from momentum_push.injection.sessions import Sessions
from momentum_push.injection.smtp import validate
from momentum_push.injection.sockets import open_sockets
from tests.helpers.intake import DOMAIN
from tests.helpers.smtp import (
    DEADLINE_S,
    RELAYING,
    TOKEN,
    conf,
    mail,
    make_certificate,
    serving,
    serving_stanza,
)

Runner = Callable[[Coroutine[Any, Any, None]], None]
RUNNERS = [pytest.param(asyncio.run, id="asyncio"), pytest.param(uvloop.run, id="uvloop")]

BUSY = "421 4.4.5 Service unavailable, concurrency limit reached."


@pytest.mark.parametrize("run", RUNNERS)
@pytest.mark.parametrize("option", ["listener_sessions", "service_sessions"])
def test_session_too_many_is_told_so_and_a_free_place_is_taken(run: Runner, option: str) -> None:
    """momentum.md 3.3."""

    async def main() -> None:
        async with serving(f"{option} = 2") as served:
            first, _ = await served.greeted(), await served.greeted()
            third = await served.client()
            assert await third.reply() == BUSY
            assert await third.is_closed()
            assert served.meters.inbound_sessions["esmtp"] == 2
            assert [(found.code, found.phase) for found in served.records.rejections] == [(421, "connect")]
            await first.say("QUIT")
            async with asyncio.timeout(DEADLINE_S):
                while served.listener.session_count == 2:
                    await asyncio.sleep(0.001)
            await served.greeted()

    run(main())


def test_limits_count_under_the_stanza_that_sets_them() -> None:
    listens = (
        '"127.0.0.1:0" { listener_sessions = 1 }',
        '"127.0.0.2:0" { }',
        '"127.0.0.3:0" { peer "127.0.0.3" { listener_sessions = 1 } }',
    )

    async def main() -> None:
        async with serving("listener_sessions = 2", listens) as served:
            await served.greeted(0)
            assert await (await served.client(0)).reply() == BUSY
            await served.greeted(1)
            await served.greeted(1)
            assert await (await served.client(1)).reply() == BUSY
            await served.greeted(2, local_addr=("127.0.0.3", 0))
            assert await (await served.client(2, local_addr=("127.0.0.3", 0))).reply() == BUSY
            assert await (await served.client(2, local_addr=("127.0.0.4", 0))).reply() == BUSY

    asyncio.run(main())


def test_service_sessions_count_over_listeners_that_share_their_counts() -> None:
    text = (
        "service_sessions = 1\n"
        + conf("").replace("listener", 'listener "a"')
        + conf("").replace("listener", 'listener "b"')
    )
    one, two = loads(text).listeners("esmtp_listener")
    sessions = Sessions()

    async def main() -> None:
        async with serving_stanza(one, sessions=sessions) as a, serving_stanza(two, sessions=sessions) as b:
            client = await a.greeted()
            assert await (await b.client()).reply() == BUSY
            await client.say("QUIT")
            await a.emptied()
            assert repr(sessions) == "<Sessions {}>"
            await b.greeted()

    asyncio.run(main())


def test_denied_peer_is_turned_away() -> None:
    async def main() -> None:
        async with serving('peer "127.0.0.9" { always_deny = true }') as served:
            denied = await served.client(local_addr=("127.0.0.9", 0))
            assert await denied.reply() == "554 5.7.1 access denied"
            assert await denied.is_closed()
            await served.greeted()
            assert served.meters.rejections["esmtp", "AccessDenied"] == 1

    asyncio.run(main())


@pytest.mark.parametrize("run", RUNNERS)
def test_unix_socket_and_ipv6_are_served(run: Runner, tmp_path: Path) -> None:
    """A Unix socket counts as this host."""
    path = tmp_path / "smtp.sock"

    async def main() -> None:
        async with serving(RELAYING, (f'"{path}" {{ }}', '"[::1]:0" { }')) as served:
            for number, client_name in ((0, "unknown"), (1, "::1:")):
                client = await served.greeted(number)
                assert (await client.mail(mail())).startswith("250 2.0.0 ")
                assert served.intake.calls[number][0].client.startswith(client_name)
        assert not os.path.exists(path)

    run(main())


# Stopping


@pytest.mark.parametrize("run", RUNNERS)
def test_stop_lets_mails_finish_and_tells_the_others(run: Runner) -> None:
    """interfaces.md 2, Stopping."""

    async def main() -> None:
        async with serving() as served:
            served.intake.gate = asyncio.Event()
            idle, committing, sending = [await served.greeted() for _ in range(3)]
            await committing.begin()
            answer = asyncio.create_task(committing.data(mail()))
            await asyncio.wait_for(served.intake.entered.wait(), DEADLINE_S)
            await sending.begin()
            await sending.say("DATA")
            stopping = asyncio.create_task(served.listener.stop(DEADLINE_S))
            assert (await idle.reply()).startswith("421 4.3.2 ")
            assert await idle.is_closed()
            with pytest.raises(OSError):
                await served.client()
            assert not stopping.done()
            served.intake.gate.set()
            sending.send(mail() + b".\r\n")
            assert (await answer).startswith("250 2.0.0 ")
            for client in (committing, sending):
                while not (await client.reply()).startswith("421 4.3.2 "):
                    pass
                assert await client.is_closed()
            await stopping
            assert (served.listener.session_count, len(served.intake.accepted)) == (0, 2)

    run(main())


@pytest.mark.parametrize("run", RUNNERS)
def test_stop_has_an_end(run: Runner) -> None:
    async def main() -> None:
        async with serving() as served:
            client = await served.greeted()
            await client.begin()
            await client.say("DATA")
            client.send("x")
            await served.listener.stop(0.05)
            assert await client.is_closed()
            assert served.listener.session_count == 0
            assert served.listener.budget.used == 0

    run(main())


# Reload


def test_reload_is_for_new_connections() -> None:
    async def main() -> None:
        async with serving("banner_hostname = one.example") as served:
            old = await served.greeted()
            (stanza,) = loads(conf(RELAYING + " banner_hostname = two.example")).listeners("esmtp_listener")
            assert served.listener.reload(stanza) == []
            new = await served.client()
            assert await new.reply() == "220 two.example ESMTP"
            await new.say("EHLO x")
            assert (await new.mail(mail())).startswith("250 ")
            assert await old.begin(f"{TOKEN}@{DOMAIN}") == ["550 5.7.1 relaying denied"]

    asyncio.run(main())


@pytest.mark.parametrize("run", RUNNERS)
def test_reload_closes_addresses_that_are_gone_and_names_new_ones(run: Runner) -> None:
    async def main() -> None:
        async with serving(RELAYING, ('"127.0.0.1:0" { }', '"127.0.0.2:0" { }')) as served:
            staying = await served.greeted(1)
            text = conf(RELAYING, ('"127.0.0.1:0" { }', '"127.0.0.3:0" { }'))
            (stanza,) = loads(text).listeners("esmtp_listener")
            (added,) = served.listener.reload(stanza)
            assert added.address == "127.0.0.3:0"
            sockets = open_sockets(added)
            served.addresses.append(sockets[0].getsockname())
            await served.listener.start([(added, sockets)])
            await served.greeted(2)
            await served.greeted(0)
            with pytest.raises(OSError):
                await served.client(1)
            assert (await staying.mail(mail())).startswith("250 ")

    run(main())


@pytest.mark.parametrize("run", RUNNERS)
def test_reload_shows_the_new_certificate(run: Runner, tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path)
    options = f'{RELAYING} use_ssl = true tls_certificate = "{certificate}" tls_key = "{key}"'

    async def main() -> None:
        async with serving(options) as served:
            old = certificate.read_bytes()
            make_certificate(tmp_path)
            (stanza,) = loads(conf(options)).listeners("esmtp_listener")
            served.listener.reload(stanza)
            trusting = ssl.create_default_context(cafile=str(certificate))
            await served.greeted(ssl=trusting, server_hostname="localhost")
            assert certificate.read_bytes() != old

    run(main())


# Validation


def problems(options: str) -> list[str]:
    return [str(problem) for problem in validate(loads(conf(options)))]


def test_good_configuration_has_no_problems(tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path)
    users = tmp_path / "users"
    users.write_text("anna:secret\n")
    users.chmod(0o600)
    assert problems("") == []
    assert (
        problems(
            f'{RELAYING} tls_certificate = "{certificate}" tls_key = "{key}"\n'
            f'authplainparameters = [ uri = "file://{users}" ] enable_authentication = true\n'
            'smtp_extensions = ("ENHANCEDSTATUSCODES", "STARTTLS", "AUTH PLAIN")'
        )
        == []
    )


@pytest.mark.parametrize(
    ("options", "named", "is_warning"),
    [
        ('smtp_extensions = ("STARTTLS")', "STARTTLS without tls_certificate", False),
        ('smtp_extensions = ("AUTH PLAIN")', "AUTH PLAIN without authplainparameters", False),
        ('smtp_extensions = ("AUTH NTLM")', '"NTLM" is not supported', False),
        ('smtp_extensions = ("XCLIENT")', "XCLIENT is not supported", True),
        ("enable_authentication = true", "enable_authentication without", False),
        ("use_ssl = true", "use_ssl without tls_certificate", False),
        ('inbound_throttle_messages = "10"', "inbound_throttle_messages is not obeyed", True),
        ('peer "192.0.2.0/24" { use_ssl = true }', "use_ssl without tls_certificate", False),
        (
            'authplainparameters = [ uri = "file:///nonexistent" ] smtp_extensions = ("AUTH PLAIN")',
            'password file "/nonexistent" cannot be read',
            False,
        ),
    ],
)
def test_what_cannot_work_is_said_once_with_its_place(options: str, named: str, is_warning: bool) -> None:
    (problem,) = problems(options)
    assert named in problem
    assert ("warning:" in problem) == is_warning
    assert "test.conf:" in problem or "/nonexistent" in problem


@pytest.mark.parametrize(
    ("address", "is_warned"),
    [
        ("127.0.0.1:25", False),
        ("[::1]:25", False),
        ("/run/a.sock", False),
        (":25", True),
        ("192.0.2.1:25", True),
    ],
)
def test_passwords_in_clear_text_on_a_network_are_warned_about(
    address: str, is_warned: bool, tmp_path: Path
) -> None:
    users = tmp_path / "users"
    users.write_text("anna:secret\n")
    users.chmod(0o600)
    auth = f'authplainparameters = [ uri = "file://{users}" ] smtp_extensions = ("AUTH PLAIN")'
    found = validate(loads(conf(auth, (f'"{address}" {{ }}',))))
    assert [problem.is_warning for problem in found] == [True] * is_warned


def test_what_is_listening_says_so() -> None:
    async def main() -> None:
        async with serving() as served:
            client = await served.greeted()
            assert repr(served.listener) == "<SmtpListener on 127.0.0.1:0: 1 sessions, 0 commits>"
            (session,) = served.listener._open
            assert repr(session).endswith(f"{client.writer.get_extra_info('sockname')[1]} waiting, 0 mails>")

    asyncio.run(main())


def test_ids_of_a_listener_alone_differ() -> None:
    async def main() -> None:
        async with serving() as served:
            assert len({served.listener.new_id() for _ in range(1000)}) == 1000

    asyncio.run(main())
