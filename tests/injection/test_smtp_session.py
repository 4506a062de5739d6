"""momentum_push/injection/smtp_session.py: the limits that aiosmtpd has, lifted; and those of ours."""

from __future__ import annotations

import asyncio
import base64
import shutil
import smtplib
import socket
import ssl
import struct
import subprocess
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import uvloop

from momentum_push.injection.smtp_session import SmtpSession
from tests.helpers.intake import DOMAIN
from tests.helpers.smtp import (
    DEADLINE_S,
    PAYLOAD,
    RELAYING,
    TOKEN,
    Client,
    Served,
    container,
    mail,
    make_certificate,
    push_part,
    serving,
)
from tests.helpers.uncollected import uncollected

Runner = Callable[[Coroutine[Any, Any, None]], None]
RUNNERS = [pytest.param(asyncio.run, id="asyncio"), pytest.param(uvloop.run, id="uvloop")]


# Form


@pytest.mark.parametrize("run", RUNNERS)
def test_byte_by_byte_is_as_good_as_whole(run: Runner) -> None:
    async def main() -> None:
        async with serving() as served:
            client = await served.greeted()
            wire = f"MAIL FROM:<a@b>\r\nRCPT TO:<{TOKEN}@{DOMAIN}>\r\nDATA\r\n".encode()
            for byte in wire:
                client.send(bytes([byte]))
                await asyncio.sleep(0)
            assert [(await client.reply())[:3] for _ in range(3)] == ["250", "250", "354"]
            for byte in mail() + b".\r\nQUIT\r\n":
                client.send(bytes([byte]))
                await asyncio.sleep(0)
            assert [(await client.reply())[:3] for _ in range(2)] == ["250", "221"]
            assert await client.is_closed()
            assert [message.payload for message in served.intake.accepted] == [PAYLOAD]

    run(main())


@pytest.mark.parametrize("run", RUNNERS)
def test_pipelined_commands_are_answered_in_order(run: Runner) -> None:
    """RFC 2920; the mail's end and the next transaction come in one write."""

    async def main() -> None:
        async with serving() as served:
            client = await served.client()
            envelope = f"MAIL FROM:<a@b>\r\nRCPT TO:<{TOKEN}@{DOMAIN}>\r\nRCPT TO:<a@other>\r\nDATA\r\n"
            client.send("EHLO x\r\n" + envelope)
            replies = [(await client.reply())[:3] for _ in range(6)]
            assert replies == ["220", "250", "250", "250", "550", "354"]
            client.send(mail() + b".\r\n" + envelope.encode())
            assert [(await client.reply())[:3] for _ in range(5)] == ["250", "250", "250", "550", "354"]
            client.send(mail() + b".\r\nQUIT\r\n")
            assert [(await client.reply())[:3] for _ in range(2)] == ["250", "221"]
            assert len(served.intake.accepted) == 2

    run(main())


def test_replies_to_pipelined_commands_leave_together() -> None:
    async def main() -> None:
        async with serving() as served:
            client = await served.greeted()
            recipients = [f"RCPT TO:<{number:064x}@{DOMAIN}>\r\n" for number in range(50)]
            client.send("MAIL FROM:<a@b>\r\n" + "".join(recipients))
            first = await asyncio.wait_for(client.reader.read(1 << 16), DEADLINE_S)
            assert first.count(b"\r\n") == 51

    asyncio.run(main())


def test_a_client_that_does_not_wait_for_354_is_understood() -> None:
    async def main() -> None:
        async with serving() as served:
            client = await served.greeted()
            transaction = (
                f"MAIL FROM:<a@b>\r\nRCPT TO:<{TOKEN}@{DOMAIN}>\r\nDATA\r\n".encode() + mail() + b".\r\n"
            )
            client.send(transaction * 3 + b"QUIT\r\n")
            replies = [(await client.reply())[:3] for _ in range(13)]
            assert replies == ["250", "250", "354", "250"] * 3 + ["221"]
            assert len(served.intake.accepted) == 3

    asyncio.run(main())


@pytest.mark.parametrize("size", [2_000, 1_000_000])
def test_a_line_may_be_as_long_as_the_mail(size: int) -> None:
    async def main() -> None:
        async with serving() as served:
            served.intake.refuse = lambda draft, token: None
            payload = b'{"a":"' + b"x" * size + b'"}'
            client = await served.greeted()
            assert (await client.mail(mail(payload))).startswith("250 2.0.0 ")
            assert served.intake.accepted[0].payload == payload
            assert served.listener.budget.used == 0

    asyncio.run(main())


def test_bytes_of_any_kind_reach_the_payload_untouched() -> None:
    """Bare LF, bare CR, NUL, 8 bit, lines that begin with dots; JSON's rules are judged elsewhere."""
    payload = b'{\0"\xff\xfe":\n.\n..\r.\r"a\n"}'
    lines = b'{"a":\r\n.\r\n..\r\n"b"}'

    async def main() -> None:
        async with serving() as served:
            client = await served.greeted()
            await client.mail(mail(payload))
            await client.mail(mail(lines).replace(b"\r\n.", b"\r\n.."))
            assert [message.payload for message in served.intake.accepted] == [payload, lines]

    asyncio.run(main())


def test_encoded_parts_arrive_decoded() -> None:
    encoded = push_part(b"Content-Transfer-Encoding: base64\r\n", base64.encodebytes(PAYLOAD))

    async def main() -> None:
        async with serving() as served:
            client = await served.greeted()
            assert (await client.mail(container(encoded))).startswith("250 ")
            assert served.intake.accepted[0].payload == PAYLOAD

    asyncio.run(main())


def test_ten_thousand_recipients_are_one_draft() -> None:
    async def main() -> None:
        async with serving() as served:
            client = await served.greeted()
            await client.say("MAIL FROM:<a@b>")
            tokens = [f"{number:064x}" for number in range(10_000)]
            for start in range(0, len(tokens), 500):
                client.send(
                    "".join(f"RCPT TO:<{token}@{DOMAIN}>\r\n" for token in tokens[start : start + 500])
                )
                for _ in range(500):
                    assert (await client.reply()).startswith("250 ")
            assert "(10000 recipients)" in await client.data(mail())
            ((_, drafts),) = served.intake.calls
            assert [draft.tokens for draft in drafts] == [tokens]

    asyncio.run(main())


def test_commands_may_be_long_but_not_endless() -> None:
    async def main() -> None:
        async with serving() as served:
            served.intake.refuse = lambda draft, token: None
            client = await served.greeted()
            token = "ab" * 256
            assert (await client.mail(mail(), f"{token}@{DOMAIN}")).startswith("250 2.0.0 ")
            assert (await client.say("MAIL FROM:<" + "a" * 5000 + "@b>")).startswith("500 ")
            assert (await client.say("NOOP " + "x" * 200_000)).startswith("500 ")
            assert (await client.mail(mail())).startswith("250 2.0.0 ")

    asyncio.run(main())


def test_unknown_words_leave_nothing_behind() -> None:
    """aiosmtpd keeps a limit for every word that a client makes up, for all sessions and for ever."""

    async def main() -> None:
        async with serving() as served:
            client = await served.greeted()
            assert (await client.say("FOO")).startswith("500 ")
            from momentum_push.injection.smtp_session import SmtpSession

            assert len(SmtpSession.command_size_limits) == 0

    asyncio.run(main())


# The client's end


@pytest.mark.parametrize("run", RUNNERS)
def test_half_closed_connection_still_gets_its_answers(run: Runner) -> None:
    async def main() -> None:
        async with serving() as served:
            client = await served.client()
            envelope = f"EHLO x\r\nMAIL FROM:<a@b>\r\nRCPT TO:<{TOKEN}@{DOMAIN}>\r\nDATA\r\n".encode()
            client.send(envelope + mail() + b".\r\n")
            client.writer.write_eof()
            assert [(await client.reply())[:3] for _ in range(6)] == [
                "220",
                "250",
                "250",
                "250",
                "354",
                "250",
            ]
            assert await client.is_closed()
            assert len(served.intake.accepted) == 1

    run(main())


def vanish(client: Client) -> None:
    """Close with a reset: no waiting, no goodbye."""
    client.writer.get_extra_info("socket").setsockopt(
        socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
    )
    client.writer.transport.abort()


@pytest.mark.parametrize("run", RUNNERS)
@pytest.mark.parametrize("is_reset", [False, True], ids=["close", "reset"])
def test_mail_whose_client_vanished_in_mid_commit_is_taken_once(run: Runner, is_reset: bool) -> None:
    """design.md 3: EOF cancels `handle_DATA` in mid-commit (shield it)."""

    async def main() -> None:
        async with serving() as served:
            served.intake.gate = asyncio.Event()
            client = await served.greeted()
            await client.begin()
            await client.say("DATA")
            client.send(mail() + b".\r\n")
            await asyncio.wait_for(served.intake.entered.wait(), DEADLINE_S)
            if is_reset:
                vanish(client)
                await served.emptied()
            else:
                await client.close()
            served.intake.gate.set()
            await served.emptied()
            await served.listener.stop(DEADLINE_S)
            assert (len(served.intake.calls), len(served.intake.accepted)) == (1, 1)

    run(main())


@pytest.mark.parametrize("run", RUNNERS)
def test_mail_and_end_of_file_in_one_go_is_taken_once(run: Runner) -> None:
    async def main() -> None:
        async with serving() as served:
            client = await served.greeted()
            await client.begin()
            await client.say("DATA")
            client.send(mail() + b".\r\n")
            await client.close()
            await asyncio.wait_for(served.intake.entered.wait(), DEADLINE_S)
            await served.emptied()
            await served.listener.stop(DEADLINE_S)
            assert len(served.intake.accepted) == 1

    run(main())


@pytest.mark.parametrize("run", RUNNERS)
@pytest.mark.parametrize("sent", ["", "EHLO", "EHLO x\r\n", "DATA"])
def test_client_that_goes_before_its_last_dot_leaves_nothing_behind(run: Runner, sent: str) -> None:
    async def main() -> None:
        async with serving() as served:
            client = await served.greeted()
            if sent == "DATA":
                await client.begin()
                await client.say("DATA")
                client.send(mail() + b".\r")
            else:
                client.send(sent)
            await client.close()
            await served.emptied()
            assert served.intake.calls == []
            assert served.listener.budget.used == 0
            assert served.meters.inbound_sessions["esmtp"] == 0

    run(main())


# Time


@pytest.mark.parametrize("run", RUNNERS)
def test_silence_ends_the_session(run: Runner) -> None:
    async def main() -> None:
        async with serving(RELAYING + " idle_time = 1") as served:
            client = await served.greeted()
            for session in served.listener._open:
                session._active -= 10.0  # as if the last command were long ago
                session._timeout_handle.cancel()
                session._timeout_cb()
            assert (await client.reply()).startswith("421 4.4.2 ")
            assert await client.is_closed()
            await served.emptied()

    run(main())


@pytest.mark.parametrize("run", RUNNERS)
def test_data_that_trickles_in_has_an_end(run: Runner) -> None:
    """One byte now and then renews the idle timer, but not the limit of the whole."""

    async def main() -> None:
        async with serving(RELAYING + " idle_time = 60", data_limit_s=0.15) as served:
            client = await served.greeted()
            await client.begin()
            assert (await client.say("DATA")).startswith("354 ")
            reply = asyncio.create_task(client.reply())
            while not reply.done():
                client.send("x")
                await asyncio.wait((reply,), timeout=0.02)
            assert (await reply).startswith("421 4.4.2 ")
            assert await client.is_closed()
            await served.emptied()
            assert served.listener.budget.used == 0

    run(main())


def test_every_read_in_data_renews_the_idle_timer() -> None:
    async def main() -> None:
        async with serving(RELAYING + " idle_time = 1") as served:
            client = await served.greeted()
            await client.begin()
            await client.say("DATA")
            (session,) = served.listener._open
            session._active -= 10.0
            client.send(mail())
            async with asyncio.timeout(DEADLINE_S):
                while not served.listener.budget.used:
                    await asyncio.sleep(0.001)
            assert session._expires_at() > session.loop.time()
            client.send(b".\r\n")
            assert (await client.reply()).startswith("250 2.0.0 ")

    asyncio.run(main())


def test_the_disk_may_take_its_time() -> None:
    async def main() -> None:
        async with serving(RELAYING + " idle_time = 1") as served:
            served.intake.gate = asyncio.Event()
            client = await served.greeted()
            await client.begin()
            answer = asyncio.create_task(client.data(mail()))
            await asyncio.wait_for(served.intake.entered.wait(), DEADLINE_S)
            (session,) = served.listener._open
            session._active -= 10.0
            session._timeout_cb()
            served.intake.gate.set()
            assert (await answer).startswith("250 2.0.0 ")

    asyncio.run(main())


# Memory


def test_mails_in_progress_share_a_budget() -> None:
    async def main() -> None:
        async with serving(data_budget=100_000) as served:
            first, second = await served.greeted(), await served.greeted()
            for client in (first, second):
                await client.begin()
                await client.say("DATA")
            first.send(b"x" * 90_000)
            async with asyncio.timeout(DEADLINE_S):
                while served.listener.budget.used < 90_000:
                    await asyncio.sleep(0.001)
            second.send(b"x" * 90_000 + b"\r\n.\r\n")
            assert await second.reply() == "421 4.3.0 message is too large to process at this time"
            assert await second.is_closed()
            first.send(b"\r\n.\r\n")
            assert (await first.reply()).startswith("550 5.6.0 ")

    asyncio.run(main())


# TLS


def tls_options(folder: Path, more: str = "") -> str:
    certificate, key = make_certificate(folder)
    return f'{RELAYING} tls_certificate = "{certificate}" tls_key = "{key}" {more}'


def trusting(folder: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(folder / "localhost.crt"))


STARTTLS = 'smtp_extensions = ("STARTTLS")'


@pytest.mark.parametrize("run", RUNNERS)
def test_starttls_begins_the_session_anew(run: Runner, tmp_path: Path) -> None:
    """RFC 3207 section 4.2."""

    async def main() -> None:
        async with serving(tls_options(tmp_path, STARTTLS + " require_ehlo = true")) as served:
            client = await served.client()
            assert "250 STARTTLS" in await client.greet()
            await client.begin()
            assert (await client.say("STARTTLS")).startswith("220 ")
            await client.writer.start_tls(trusting(tmp_path), server_hostname="localhost")
            assert (await client.say("DATA")).startswith("501 5.5.1 ")
            assert "STARTTLS" not in await client.say("EHLO x")
            assert (await client.say("DATA")).startswith("503 ")
            assert (await client.say("STARTTLS")).startswith("503 ")
            assert (await client.mail(mail())).startswith("250 2.0.0 ")
            assert (await client.say("QUIT")).startswith("221 ")
            await client.close()
            await served.emptied()

    run(main())


@pytest.mark.parametrize("run", RUNNERS)
def test_commands_sent_along_with_starttls_end_the_session(run: Runner, tmp_path: Path) -> None:
    """starttls_injection_policy = reject; CVE-2011-0411 and its children."""

    async def main() -> None:
        async with serving(tls_options(tmp_path, STARTTLS)) as served:
            client = await served.greeted()
            client.send("STARTTLS\r\nMAIL FROM:<evil@example.org>\r\n")
            assert (await client.reply()).startswith("554 5.5.1 ")
            assert await client.is_closed()

    run(main())


@pytest.mark.parametrize("run", RUNNERS)
def test_handshake_that_fails_frees_the_session(run: Runner, tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tls_options(tmp_path, STARTTLS)) as served:
            client = await served.greeted()
            await client.say("STARTTLS")
            client.send("this is no TLS at all\r\n" * 10)
            await asyncio.wait_for(client.reader.read(), DEADLINE_S)
            await served.emptied()

    run(main())


@pytest.mark.parametrize("run", RUNNERS)
def test_tls_from_the_first_byte(run: Runner, tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tls_options(tmp_path, "use_ssl = true")) as served:
            client = await served.greeted(ssl=trusting(tmp_path), server_hostname="localhost")
            assert (await client.mail(mail())).startswith("250 2.0.0 ")
            await client.close()
            await served.emptied()

    run(main())


@pytest.mark.parametrize("run", RUNNERS)
@pytest.mark.parametrize("how", ["", STARTTLS, "use_ssl = true"])
@pytest.mark.parametrize("is_orderly", [True, False])
def test_a_client_that_has_gone_leaves_nothing(
    run: Runner, tmp_path: Path, how: str, is_orderly: bool
) -> None:
    """TLS has a quarter of a megabyte for each; the collector counts objects, and comes when it comes."""
    context = _unchecked()

    def send(port: int) -> None:
        kind, tls = (smtplib.SMTP_SSL, {"context": context}) if "use_ssl" in how else (smtplib.SMTP, {})
        client = kind("127.0.0.1", port, timeout=DEADLINE_S, **tls)
        if how == STARTTLS:
            client.starttls(context=context)
        assert client.sendmail("a@example.net", [f"{TOKEN}@{DOMAIN}"], mail()) == {}
        if is_orderly:
            client.quit()
        client.close()

    async def main() -> None:
        async with serving(tls_options(tmp_path, how)) as served, asyncio.timeout(DEADLINE_S):
            await asyncio.to_thread(send, served.addresses[0][1])
            while left():
                await asyncio.sleep(0.005)

    with uncollected(SmtpSession, ssl.SSLObject) as left:
        run(main())


# Clients that others wrote


def in_thread(options: str, work: Callable[[int], None]) -> Served:
    async def main() -> Served:
        async with serving(options) as served:
            await asyncio.to_thread(work, served.addresses[0][1])
            await served.emptied()
            return served

    return asyncio.run(main())


def test_smtplib_is_served(tmp_path: Path) -> None:
    def work(port: int) -> None:
        with smtplib.SMTP("127.0.0.1", port, timeout=DEADLINE_S) as client:
            client.starttls(context=_unchecked())
            refused = client.sendmail("a@example.net", [f"{TOKEN}@{DOMAIN}", "a@other"], mail())
            assert refused == {"a@other": (550, b"5.7.1 relaying denied")}

    assert len(in_thread(tls_options(tmp_path, STARTTLS), work).intake.accepted) == 1


def _unchecked() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def test_swaks_is_served(tmp_path: Path) -> None:
    swaks = shutil.which("swaks")
    if swaks is None:
        pytest.skip("swaks is not installed")
    (tmp_path / "mail").write_bytes(mail().replace(b"\r\n", b"\n"))

    def work(port: int) -> None:
        command = [
            swaks,
            "--server",
            f"127.0.0.1:{port}",
            "--to",
            f"{TOKEN}@{DOMAIN}",
            "--from",
            "a@example.net",
        ]
        done = subprocess.run(
            [*command, "--data", f"@{tmp_path / 'mail'}", "--pipeline"],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "accepted" in done.stdout

    assert [message.payload for message in in_thread(RELAYING, work).intake.accepted] == [PAYLOAD]
