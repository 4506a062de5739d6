"""Mails and SMTP clients for tests of what comes in by SMTP."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import ipaddress
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from momentum_push.clock import ManualClock
from momentum_push.config import loads
from momentum_push.config.tables import inbound
from momentum_push.errors import Place
from momentum_push.injection.smtp import SmtpListener
from momentum_push.injection.sockets import open_sockets
from momentum_push.loggers.records import Authentication, Rejection
from momentum_push.meters import Meters
from tests.helpers.intake import DOMAIN, FakeIntake

TOKEN = "9f8e7d6c5b4a39281706f5e4d3c2b1a09f8e7d6c5b4a39281706f5e4d3c2b1a0"
PAYLOAD = b'{"aps":{"alert":"Ferry cancelled"}}'
DEADLINE_S = 5.0


def container(*parts: bytes, preamble: bytes = b"", parameter: bytes = b'boundary="b1"') -> bytes:
    """A mail that is an MCMT container of these parts, each with its headers, boundary b1."""
    head = b"From: a@example.net\r\nSubject: x\r\nContent-Type: multipart/vnd.msys.mcmt; " + parameter
    between = b"".join(b"\r\n--b1\r\n" + part for part in parts)
    return head + b"\r\n\r\n" + preamble + between + b"\r\n--b1--\r\n"


def push_part(headers: bytes = b"", body: bytes = PAYLOAD) -> bytes:
    """A push part; `headers` are further MIME headers, each with its line end."""
    return b"Content-Type: message/vnd.msys.apn\r\n" + headers + b"\r\n" + body


def mail(body: bytes = PAYLOAD) -> bytes:
    """A container of one push part with this body: inner headers, blank line, payload."""
    return container(push_part(b"", body))


def make_certificate(folder: Path, name: str = "localhost") -> tuple[Path, Path]:
    """Make a key and a self-signed certificate for `name`; return their paths, certificate first."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    paths = folder / f"{name}.crt", folder / f"{name}.key"
    paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    paths[1].chmod(0o600)
    return paths


PLACE = Place("push.conf", 3, 5)


class View(dict[str, Any]):
    """An inbound scope: the defaults that matter here, and what a test sets."""

    def __init__(self, **options: Any) -> None:
        super().__init__(INBOUND_DEFAULTS | options)
        self.own = set(options)

    def is_set(self, option: str) -> bool:
        return option in self.own

    def origin(self, option: str) -> Place | None:
        return PLACE if option in self.own else None


INBOUND_DEFAULTS: dict[str, Any] = {
    row.name: row.default for row in inbound.ROWS if not {"esmtp_listener", "global"}.isdisjoint(row.scopes)
}


class Listen:
    """A `listen` stanza whose peers are networks with options of their own, first match wins."""

    def __init__(
        self, address: str = "127.0.0.1:0", peers: dict[str, dict[str, Any]] | None = None, **options: Any
    ):
        self.address = address
        self.place = PLACE
        self.unix = address if address.startswith("/") else None
        host, _, port = address.rpartition(":")
        self.host, self.port = (host, int(port)) if self.unix is None else ("", None)
        self._own = View(**options)
        self._peers = [
            (ipaddress.ip_network(network), View(**{**options, **values}))
            for network, values in (peers or {}).items()
        ]

    def base(self) -> View:
        """The options of clients in no peer stanza."""
        return self._own

    def inbound(self, ip: str | None) -> View:
        """The options for a client address."""
        if ip is not None:
            for network, view in self._peers:
                if ipaddress.ip_address(ip) in network:
                    return view
        return self._own


class Recorder:
    """Loggers that keep what they are told."""

    def __init__(self) -> None:
        self.rejections: list[Rejection] = []
        self.authentications: list[Authentication] = []

    def rejection(self, now: float, rejection: Rejection) -> None:
        self.rejections.append(rejection)

    def authentication(self, now: float, authentication: Authentication) -> None:
        self.authentications.append(authentication)


class Client:
    """A client that says exactly what it is told to, byte by byte where it matters."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, data: bytes | str) -> None:
        """Send bytes; they leave at once."""
        self.writer.write(data.encode() if isinstance(data, str) else data)

    async def reply(self) -> str:
        """Return the next reply, all of its lines; empty at the end of the connection."""
        lines = []
        while True:
            lines.append((await asyncio.wait_for(self.reader.readline(), DEADLINE_S)).decode().rstrip("\r\n"))
            if lines[-1][3:4] != "-":
                return "\n".join(lines)

    async def say(self, command: str) -> str:
        """Send a command, return its reply."""
        self.send(command + "\r\n")
        return await self.reply()

    async def greet(self) -> str:
        """Read the greeting, say EHLO, return its reply."""
        assert (await self.reply()).startswith("220 ")
        return await self.say("EHLO client.example")

    async def begin(self, *recipients: str) -> list[str]:
        """Say MAIL and RCPT for each recipient; return the replies to RCPT."""
        assert (await self.say("MAIL FROM:<a@example.net>")).startswith("250 ")
        return [
            await self.say(f"RCPT TO:<{recipient}>") for recipient in recipients or (f"{TOKEN}@{DOMAIN}",)
        ]

    async def data(self, mail: bytes) -> str:
        """Send DATA and a mail; return the reply at its end."""
        assert (await self.say("DATA")).startswith("354 ")
        self.send(mail + b".\r\n")
        return await self.reply()

    async def mail(self, mail: bytes, *recipients: str) -> str:
        """Send a mail as a whole transaction."""
        await self.begin(*recipients)
        return await self.data(mail)

    async def is_closed(self) -> bool:
        """Whether the server ends the connection with nothing more to say."""
        try:
            return await asyncio.wait_for(self.reader.read(1), DEADLINE_S) == b""
        except ConnectionResetError:
            return True

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()


class Served:
    """A running listener with everything around it."""

    def __init__(self, listener: SmtpListener, intake: FakeIntake, records: Recorder, meters: Meters) -> None:
        self.listener = listener
        self.intake = intake
        self.records = records
        self.meters = meters
        self.addresses: list[Any] = []
        self.clients: list[Client] = []

    async def client(self, number: int = 0, **options: Any) -> Client:
        """Connect to the listener's address number `number`."""
        address = self.addresses[number]
        if isinstance(address, str):
            client = Client(*await asyncio.open_unix_connection(address))
        else:
            client = Client(*await asyncio.open_connection(address[0], address[1], **options))
        self.clients.append(client)
        return client

    async def greeted(self, number: int = 0, **options: Any) -> Client:
        """Connect and say EHLO."""
        client = await self.client(number, **options)
        await client.greet()
        return client

    async def emptied(self) -> None:
        """Wait until no session is open."""
        async with asyncio.timeout(DEADLINE_S):
            while self.listener.session_count:
                await asyncio.sleep(0.001)


RELAYING = 'relay_hosts = ("127.0.0.0/8", "::1") mcmt_reception = "allow"'


@contextlib.asynccontextmanager
async def serving(
    options: str = RELAYING, listens: Sequence[str] = ('"127.0.0.1:0" { }',), **arguments: Any
) -> AsyncIterator[Served]:
    """Run an `esmtp_listener` with these options, beside an intake that takes everything."""
    (stanza,) = loads(conf(options, listens)).listeners("esmtp_listener")
    async with serving_stanza(stanza, **arguments) as served:
        yield served


@contextlib.asynccontextmanager
async def serving_stanza(stanza: Any, **arguments: Any) -> AsyncIterator[Served]:
    """Run a listener as a configuration has it."""
    intake, records, meters = FakeIntake(), Recorder(), Meters()
    listener = SmtpListener(
        stanza, intake=intake, records=records, meters=meters, clock=ManualClock(), **arguments
    )
    served = Served(listener, intake, records, meters)
    opened = [(listen, open_sockets(listen)) for listen in stanza.listens]
    served.addresses = [sockets[0].getsockname() for _, sockets in opened]
    await listener.start(opened)
    try:
        yield served
    finally:
        await listener.stop(DEADLINE_S)
        for client in served.clients:
            await client.close()


def conf(options: str, listens: Sequence[str] = ('"127.0.0.1:0" { }',)) -> str:
    """The text of a configuration with one listener."""
    return "esmtp_listener {\n" + "\n".join(f"listen {listen}" for listen in listens) + f"\n{options}\n}}\n"
