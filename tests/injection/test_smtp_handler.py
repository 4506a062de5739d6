"""momentum_push/injection/smtp_handler.py: who may send what to whom, and the answers."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from momentum_push.errors import SpoolError, SpoolFull
from momentum_push.injection.keyring import KeyInUse
from momentum_push.injection.smtp_handler import refusal_reply
from momentum_push.message import Refusal
from tests.helpers.intake import DOMAIN, Busy
from tests.helpers.smtp import PAYLOAD, RELAYING, TOKEN, Client, Served, container, mail, serving

X_TOKEN = f"X-Device-Token: {TOKEN}\r\n\r\n".encode()
OTHER = "ab" * 32


def talk(
    options: str,
    conversation: Callable[[Served, Client], Awaitable[None]],
    listens: tuple[str, ...] | None = None,
) -> Served:
    """Hold a conversation with a listener that has these options; the client has said EHLO."""

    async def run() -> Served:
        async with _serving(options, listens) as served:
            client = await served.greeted()
            await conversation(served, client)
            await client.close()
            return served

    return asyncio.run(run())


@contextlib.asynccontextmanager
async def _serving(options: str, listens: tuple[str, ...] | None) -> AsyncIterator[Served]:
    async with serving(options, listens or ('"127.0.0.1:0" { }',)) as served:
        yield served


def test_answer_names_the_first_message_after_the_commit() -> None:
    """interfaces.md 3."""

    async def conversation(served: Served, client: Client) -> None:
        served.intake.gate = asyncio.Event()
        await client.begin(f"{TOKEN}@{DOMAIN}", f"{OTHER}@{DOMAIN.upper()}")
        answer = asyncio.create_task(client.data(mail()))
        await served.intake.entered.wait()
        assert not answer.done()
        served.intake.gate.set()
        first = served.intake
        assert await answer == f"250 2.0.0 {first.accepted[0].mid} accepted (2 recipients)"
        assert await client.mail(mail(X_TOKEN + PAYLOAD), f"Reader.1@{DOMAIN}") == (
            f"250 2.0.0 {first.accepted[2].mid} accepted"
        )

    served = talk(RELAYING, conversation)
    messages = served.intake.accepted
    assert [message.token for message in messages] == [TOKEN, OTHER, TOKEN]
    assert [message.rcpt for message in messages] == [TOKEN, OTHER, "Reader.1"]
    assert {message.payload for message in messages} == {PAYLOAD}


def test_origin_says_where_a_mail_came_from() -> None:
    async def conversation(served: Served, client: Client) -> None:
        await client.mail(mail())
        await client.mail(mail())

    (first, _), (second, _) = talk(RELAYING + ' context = [ tenant = "a" ]', conversation).intake.calls
    assert (first.protocol, first.mailfrom, first.user) == ("esmtp", "a@example.net", "")
    assert first.client.startswith("127.0.0.1:")
    assert first.context == {"tenant": "a"}
    assert first.conn_id == second.conn_id != ""
    assert len({first.conn_id, first.batch_id, second.batch_id}) == 3


def test_ehlo_lists_what_is_configured() -> None:
    """momentum.md 3.3."""

    async def run() -> None:
        extensions = 'smtp_extensions = ("ENHANCEDSTATUSCODES")'
        options = f'banner_hostname = "push.example" max_message_size = 5000 {extensions}'
        async with serving(options) as served:
            client = await served.client()
            assert await client.reply() == "220 push.example ESMTP"
            assert (await client.say("EHLO x")).split("\n") == [
                "250-push.example says EHLO to 127.0.0.1",
                "250-PIPELINING",
                "250-ENHANCEDSTATUSCODES",
                "250-8BITMIME",
                "250-SMTPUTF8",
                "250 SIZE 5000",
            ]
            assert await client.say("HELO x") == "250 push.example says HELO to 127.0.0.1"
            await client.close()

    asyncio.run(run())


def test_static_banner_replaces_the_greeting() -> None:
    async def run() -> None:
        async with serving('static_banner = "220 go ahead, friend"') as served:
            client = await served.client()
            assert await client.reply() == "220 go ahead, friend"
            await client.close()

    asyncio.run(run())


DENIED = "550 5.7.1 relaying denied"

RELAY = [
    ("a stranger", "", DOMAIN, False),
    ("open_relay", "open_relay = true", DOMAIN, True),
    ("open_relay, another domain", "open_relay = true", "example.com", False),
    ("relay_hosts", 'relay_hosts = ("127.0.0.1/32")', DOMAIN, True),
    ("relay_hosts of others", 'relay_hosts = ("192.0.2.0/24", "2001:db8::/32")', DOMAIN, False),
    ("relay_domains", f'relay_domains = ("{DOMAIN}")', DOMAIN, True),
    ("relay_domains, wildcard", 'relay_domains = ("*.News.apns")', DOMAIN, True),
    ("relay_domains, other wildcard", 'relay_domains = ("*.weather.apns")', DOMAIN, False),
    ("a wildcard is not its own domain", f'relay_domains = ("*.{DOMAIN}")', DOMAIN, False),
    ("always_allow", "always_allow = true", DOMAIN, True),
    ("in a peer", 'peer "127.0.0.0/8" { open_relay = true }', DOMAIN, True),
    ("in another peer", 'peer "192.0.2.0/24" { open_relay = true }', DOMAIN, False),
]


@pytest.mark.parametrize(
    ("options", "domain", "is_taken"), [row[1:] for row in RELAY], ids=[row[0] for row in RELAY]
)
def test_recipient_is_taken_for_an_app_from_those_who_may(options: str, domain: str, is_taken: bool) -> None:
    """interfaces.md 2, Recipients."""

    async def conversation(served: Served, client: Client) -> None:
        (reply,) = await client.begin(f"4711@{domain}")
        assert reply == ("250 2.1.5 recipient accepted" if is_taken else DENIED)

    served = talk(options, conversation)
    assert [(found.code, found.phase) for found in served.records.rejections] == [(550, "rcptto")] * (
        not is_taken
    )
    assert served.meters.rejections["esmtp", "RelayingDenied"] == (not is_taken)


@pytest.mark.parametrize(
    ("options", "recipient", "is_taken"),
    [
        ("", "4711", False),
        (f'domain_for_unqualified_recipient_addresses = "{DOMAIN}"', "4711", True),
        ("", f"a_b@{DOMAIN}", True),
        ("", f"Jörg@{DOMAIN}", True),
        ("", f'"a b"@{DOMAIN}', True),
        ("", f"@relay.example:4711@{DOMAIN}", True),
        ("", "a@apn_example.com", False),
        ("", "a@[192.0.2.1]", False),
    ],
)
def test_recipient_may_have_any_local_part(options: str, recipient: str, is_taken: bool) -> None:
    """momentum.md 1.6: underscores; RFC 6531: UTF-8."""

    async def conversation(served: Served, client: Client) -> None:
        (reply,) = await client.begin(recipient)
        assert reply.startswith("250 " if is_taken else DENIED)

    talk(RELAYING + options, conversation)


def test_underscore_domains_are_domains() -> None:
    async def conversation(served: Served, client: Client) -> None:
        served.intake.domains.add("apn_example.com")
        assert await client.begin("a@apn_example.com") == ["250 2.1.5 recipient accepted"]

    talk(RELAYING, conversation)


@pytest.mark.parametrize("address", ["<a b@x>", "a@b@c", "<a@b", "<@>", "<a@b@c>", "<a@\udcff>"])
def test_malformed_addresses_are_refused(address: str) -> None:
    async def conversation(served: Served, client: Client) -> None:
        await client.say("MAIL FROM:<>")
        client.send(f"RCPT TO:{address}\r\n".encode(errors="surrogateescape"))
        assert (await client.reply())[:3] in ("501", "553", "555")

    talk(RELAYING, conversation)


PLAIN = b"Subject: x\r\n\r\nhello\r\n"

CONTENT = [
    ("plain mail", RELAYING, PLAIN, f"4711@{DOMAIN}", "550 5.6.0 mail: no multipart/vnd.msys.mcmt"),
    ("plain mail, passthru", "open_relay = true", PLAIN, f"4711@{DOMAIN}", "550 5.6.0 mail:"),
    ("no push part", RELAYING, container(b"\r\ntext"), f"4711@{DOMAIN}", "550 5.6.0 container:"),
    (
        "broken",
        RELAYING,
        container(parameter=b"x=y"),
        f"4711@{DOMAIN}",
        "550 5.6.0 mail headers: Content-Type",
    ),
    ("passthru", "open_relay = true", mail(), f"{TOKEN}@{DOMAIN}", "550 5.7.1 MCMT not permitted"),
    (
        "reject",
        'open_relay = true mcmt_reception = "reject"',
        mail(),
        f"{TOKEN}@{DOMAIN}",
        "550 5.7.1 MCMT not permitted",
    ),
    (
        "the context's word counts",
        'open_relay = true context = [ mcmt_reception = "allow" ]',
        mail(),
        f"{TOKEN}@{DOMAIN}",
        "250 2.0.0 ",
    ),
    ("no token", RELAYING, mail(), f"4711@{DOMAIN}", "553 5.1.3 recipient in"),
    (
        "bad token",
        RELAYING,
        mail(b"X-Device-Token: xyz\r\n\r\n{}"),
        f"4711@{DOMAIN}",
        "553 5.1.3 device token",
    ),
    (
        "too large for Apple",
        RELAYING,
        mail(b"{" + b"x" * 5000 + b"}"),
        f"{TOKEN}@{DOMAIN}",
        "552 5.3.4 payload",
    ),
    (
        "NUL in a header",
        RELAYING,
        mail(b"apns-topic: a\0\r\n\r\n{}"),
        f"{TOKEN}@{DOMAIN}",
        "550 5.6.0 part 1",
    ),
]


@pytest.mark.parametrize(
    ("options", "content", "recipient", "reply"),
    [row[1:] for row in CONTENT],
    ids=[row[0] for row in CONTENT],
)
def test_content_is_refused_with_its_reason(options: str, content: bytes, recipient: str, reply: str) -> None:
    """interfaces.md 2 (Recipients) and 3."""

    async def conversation(served: Served, client: Client) -> None:
        assert (await client.mail(content, recipient)).startswith(reply)
        assert (await client.say("NOOP")).startswith("250 ")

    served = talk(options, conversation)
    assert bool(served.intake.accepted) == reply.startswith("250")
    assert [found.phase for found in served.records.rejections] == ["data"] * (not reply.startswith("250"))


def test_one_bad_recipient_refuses_the_whole_mail_and_is_named_in_short() -> None:
    async def conversation(served: Served, client: Client) -> None:
        served.intake.refuse = lambda draft, token: (
            Refusal("BadDeviceToken", f"device token {token[:8]}…: no") if token == OTHER else None
        )
        reply = await client.mail(mail(), f"{TOKEN}@{DOMAIN}", f"{OTHER}@{DOMAIN}")
        assert reply == ("553 5.1.3 device token abababab?: no (1 of 2 recipients refused, nothing queued)")

    assert talk(RELAYING, conversation).intake.accepted == []


@pytest.mark.parametrize(
    ("error", "code"),
    [
        ("BadDeviceToken", "553 5.1.3"),
        ("MissingDeviceToken", "553 5.1.3"),
        ("PayloadTooLarge", "552 5.3.4"),
        ("McmtNotPermitted", "550 5.7.1"),
        ("BadTopic", "550 5.6.0"),
        ("Anything", "550 5.6.0"),
    ],
)
def test_refusals_have_their_code_and_one_line(error: str, code: str) -> None:
    reply = refusal_reply(Refusal(error, "a\r\nb\0" + "c" * 1000))
    assert reply.startswith(f"{code} a  b c")
    assert len(reply) < 510


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (SpoolFull("spool: /var/spool: full"), "452 4.3.1 "),
        (SpoolError("spool: /var/spool: broken"), "452 4.3.1 "),
        (Busy(), "421 4.3.2 "),
        (KeyInUse(), "451 4.3.0 "),
        (RuntimeError("boom /etc/secret"), "451 4.3.0 "),
    ],
)
def test_what_is_our_fault_is_temporary_and_tells_no_paths(failure: Exception, code: str) -> None:
    """interfaces.md 3."""

    async def conversation(served: Served, client: Client) -> None:
        served.intake.failure = failure
        reply = await client.mail(mail())
        assert reply.startswith(code)
        assert "/" not in reply
        served.intake.failure = None
        assert (await client.mail(mail())).startswith("250 2.0.0 ")

    talk(RELAYING, conversation)


TOO_LARGE = "552 5.3.4 message size limit exceeded"


def test_size_is_limited_when_announced_and_when_sent() -> None:
    async def conversation(served: Served, client: Client) -> None:
        assert await client.say("MAIL FROM:<a@b> SIZE=2001") == TOO_LARGE
        assert (await client.say("MAIL FROM:<a@b> SIZE=2000")).startswith("250 ")
        await client.say("RSET")
        assert await client.mail(mail(b"{" + b"x" * 2000 + b"}")) == TOO_LARGE
        assert (await client.mail(mail())).startswith("250 2.0.0 ")

    served = talk(RELAYING + " max_message_size = 2000", conversation)
    assert served.listener.budget.used == 0


def test_recipients_beyond_a_limit_are_for_another_transaction() -> None:
    async def conversation(served: Served, client: Client) -> None:
        replies = await client.begin(*[f"{TOKEN}@{DOMAIN}"] * 3)
        assert [reply[:9] for reply in replies] == ["250 2.1.5", "250 2.1.5", "452 4.5.3"]
        assert "(2 recipients)" in await client.data(mail())
        replies = await client.begin(*[f"{TOKEN}@{DOMAIN}"] * 2)
        assert [reply[:9] for reply in replies] == ["250 2.1.5", "452 4.5.3"]

    talk(RELAYING + " max_recipients_per_message = 2 max_recipients_per_connection = 3", conversation)


def test_receptions_of_a_connection_are_limited() -> None:
    async def conversation(served: Served, client: Client) -> None:
        assert (await client.mail(mail())).startswith("250 ")
        assert (await client.say("MAIL FROM:<a@b>")).startswith("421 ")
        assert await client.is_closed()

    talk(RELAYING + " max_receptions_per_connection = 1", conversation)


@pytest.mark.parametrize(
    ("options", "commands"),
    [
        ("", [("MAIL FROM:<>", "250"), ("RSET", "250"), ("DATA", "503"), ("RCPT TO:<a@b>", "503")]),
        ("allow_null_envelope_sender = false", [("MAIL FROM:<>", "550"), ("MAIL FROM:<a@b>", "250")]),
        ("", [("MAIL FROM:<a@b>", "250"), ("MAIL FROM:<a@b>", "503"), ("DATA", "503"), ("DATA x", "501")]),
        ("", [("BDAT 5 LAST", "500"), ("MAIL FROM:<a@b> BODY=BINARYMIME", "501"), ("AUTH PLAIN", "504")]),
        ("", [("STARTTLS", "454"), ("STARTTLS x", "501"), ("NOOP", "250"), ("QUIT", "221")]),
        ("", [("MAIL FROM:<a@b> SMTPUTF8 BODY=8BITMIME SIZE=10", "250")]),
    ],
)
def test_commands_are_answered(options: str, commands: list[tuple[str, str]]) -> None:
    async def conversation(served: Served, client: Client) -> None:
        for command, code in commands:
            assert (await client.say(command))[:3] == code, command

    talk(RELAYING + options, conversation)


def test_ehlo_is_needed_only_where_it_is_required() -> None:
    async def run() -> None:
        async with serving(
            RELAYING, ('"127.0.0.1:0" { }', '"127.0.0.2:0" { require_ehlo = true }')
        ) as served:
            client = await served.client()
            await client.reply()
            assert (await client.mail(mail())).startswith("250 ")
            strict = await served.client(1)
            await strict.reply()
            assert (await strict.say("MAIL FROM:<a@b>")).startswith("501 ")
            await strict.say("HELO x")
            assert (await strict.mail(mail())).startswith("250 ")
            await client.close()
            await strict.close()

    asyncio.run(run())


# Login


@pytest.fixture
def auth(tmp_path: Path) -> str:
    path = tmp_path / "users"
    path.write_text("anna:secret\n")
    path.chmod(0o600)
    parameters = f'[ uri = "file://{path}" ]'
    return (
        f'smtp_extensions = ( "AUTH LOGIN PLAIN" ) authplainparameters = {parameters} '
        f'authloginparameters = {parameters} mcmt_reception = "allow"\n'
    )


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def test_login_opens_the_relay_and_is_recorded(auth: str) -> None:
    async def conversation(served: Served, client: Client) -> None:
        ehlo = await client.say("EHLO x")
        assert "250-AUTH=LOGIN PLAIN\n250 AUTH LOGIN PLAIN" in ehlo
        assert await client.begin(f"4711@{DOMAIN}") == [DENIED]
        await client.say("RSET")
        assert (await client.say("AUTH PLAIN " + b64("\0anna\0wrong"))).startswith("535 5.7.8 ")
        assert (await client.say("auth plain " + b64("\0anna\0secret"))).startswith("235 2.7.0 ")
        assert (await client.say("AUTH PLAIN " + b64("\0anna\0secret"))).startswith("503 ")
        assert (await client.mail(mail())).startswith("250 2.0.0 ")

    served = talk(auth, conversation)
    ((origin, _),) = served.intake.calls
    assert (origin.user, origin.context) == ("anna", {"auth_user": "anna"})
    assert [(found.user, found.is_accepted) for found in served.records.authentications] == [
        ("anna", False),
        ("anna", True),
    ]


def test_login_by_challenge(auth: str) -> None:
    async def conversation(served: Served, client: Client) -> None:
        assert (await client.say("AUTH LOGIN")).startswith("334 ")
        assert (await client.say(b64("anna"))).startswith("334 ")
        assert (await client.say(b64("secret"))).startswith("235 ")

    talk(auth, conversation)


def test_login_is_demanded_of_all_but_relay_hosts(auth: str) -> None:
    """momentum.md 3.3: relay_hosts are exempt from authentication."""

    async def conversation(served: Served, client: Client) -> None:
        assert await client.say("MAIL FROM:<a@b>") == "530 5.7.0 Authentication required"
        await client.say("AUTH PLAIN " + b64("\0anna\0secret"))
        assert (await client.mail(mail())).startswith("250 2.0.0 ")

    async def exempt(served: Served, client: Client) -> None:
        assert (await client.mail(mail())).startswith("250 2.0.0 ")

    talk(auth + "enable_authentication = true", conversation)
    talk(auth + 'enable_authentication = true relay_hosts = ("127.0.0.0/8")', exempt)


def test_third_wrong_password_ends_the_session(auth: str) -> None:
    async def conversation(served: Served, client: Client) -> None:
        for _ in range(2):
            assert (await client.say("AUTH PLAIN " + b64("\0anna\0x"))).startswith("535 ")
        assert (await client.say("AUTH PLAIN " + b64("\0anna\0x"))).startswith("535 ")
        assert (await client.reply()).startswith("421 4.7.0 ")
        assert await client.is_closed()

    talk(auth, conversation)


def test_users_that_cannot_be_looked_up_are_a_temporary_error(auth: str, tmp_path: Path) -> None:
    async def conversation(served: Served, client: Client) -> None:
        (tmp_path / "users").unlink()
        assert (await client.say("AUTH PLAIN " + b64("\0anna\0secret"))).startswith("454 4.7.0 ")

    talk(auth, conversation)


def identified(name: str = "<1@example.net>", trace: str = "", body: bytes = PAYLOAD) -> bytes:
    head = f"Received: {trace}\r\nMessage-ID: {name}\r\n" if name else ""
    return head.encode() + mail(body)


ONE, TWO = f"{TOKEN}@{DOMAIN}", f"{OTHER}@{DOMAIN}"


@pytest.mark.parametrize(
    ("second", "recipients", "is_same"),
    [
        (identified(), (ONE, TWO), True),
        (identified(trace="by relay2"), (ONE, TWO), True),
        (identified(), (TWO, ONE.replace(DOMAIN, DOMAIN.upper())), True),
        (identified("<2@example.net>"), (ONE, TWO), False),
        (identified(body=PAYLOAD.replace(b"}", b" }", 1)), (ONE, TWO), False),
        (identified(body=b"apns-priority: 5\r\n\r\n" + PAYLOAD), (ONE, TWO), False),
        (identified(), (ONE,), False),
        (identified(""), (ONE, TWO), False),
    ],
)
def test_a_mail_is_the_same_by_message_id_recipients_and_push_part(
    second: bytes, recipients: tuple[str, ...], is_same: bool
) -> None:
    async def conversation(served: Served, client: Client) -> None:
        assert (await client.mail(identified(), ONE, TWO)).startswith("250 ")
        assert (await client.mail(second, *recipients)).startswith("250 ")
        first, other = served.intake.keys
        assert first is not None
        assert (first == other) == is_same

    talk(f"{RELAYING} idempotent_message_id = true", conversation)


@pytest.mark.parametrize(
    ("options", "content"), [("", identified()), ("idempotent_message_id = true", mail())]
)
def test_without_the_option_or_a_message_id_there_is_no_key(options: str, content: bytes) -> None:
    async def conversation(served: Served, client: Client) -> None:
        await client.mail(content, ONE)
        assert served.intake.keys == [None]

    talk(f"{RELAYING} {options}", conversation)
