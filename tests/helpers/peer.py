"""An APNs peer for tests of the wire and the connection: h2's server side, in memory or on a TLS port.

    peer = Peer(max_streams=1)             bytes in, requests out; you say what is answered
    join(wire, peer)                       carry bytes both ways until both are silent; returns outcomes
    async with listening(handler) as port  the same behind TLS; `handler(peer, request)` answers
    pki(folder)                            a CA with certificates for localhost, made now

GOAWAY, refusals and breaches of limits are written with hyperframe beside h2, which knows better.
"""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, PingReceived, RequestReceived, StreamEnded, StreamReset
from h2.settings import SettingCodes, Settings
from hyperframe.frame import GoAwayFrame

from momentum_push.delivery.apns.wire import Wire
from momentum_push.message import Outcome

__all__ = ["Peer", "Pki", "Served", "apple_key", "join", "listening", "pki", "self_made"]


@dataclass
class Served:
    """One request as the peer saw it."""

    stream_id: int
    headers: list[tuple[bytes, bytes]]
    body: bytes = b""

    def __getitem__(self, name: str) -> str:
        return dict(self.headers)[name.encode()].decode()

    def get(self, name: str) -> str | None:
        value = dict(self.headers).get(name.encode())
        return None if value is None else value.decode()


class Peer:
    """The server's side of one connection, without a socket."""

    def __init__(
        self,
        max_streams: int = 1000,
        window: int = 65535,
        *,
        is_silent: bool = False,
        answers_pings: bool = True,
        opens_window: bool = True,
    ) -> None:
        self.h2 = H2Connection(H2Configuration(client_side=False, header_encoding=None))
        self.h2.local_settings = Settings(
            client=False,
            initial_values={
                SettingCodes.MAX_CONCURRENT_STREAMS: max_streams,
                SettingCodes.INITIAL_WINDOW_SIZE: window,
                SettingCodes.MAX_HEADER_LIST_SIZE: 8000,
            },
        )
        if not is_silent:
            self.h2.initiate_connection()
        self.requests: list[Served] = []
        self.open: dict[int, Served] = {}
        self.resets: list[tuple[int, int]] = []
        self.pings = 0
        self._opens_window = opens_window
        self._answers_pings = answers_pings
        self._raw = b""
        self.most_open = 0

    def receive(self, data: bytes) -> list[Served]:
        """Take what the client wrote; return the requests that are complete now."""
        complete = []
        for event in self.h2.receive_data(data):
            if isinstance(event, RequestReceived):
                self.open[event.stream_id] = Served(event.stream_id, list(event.headers))
                self.most_open = max(self.most_open, len(self.open))
            elif isinstance(event, DataReceived):
                self.open[event.stream_id].body += event.data
                if self._opens_window:
                    self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, StreamEnded):
                complete.append(self.open[event.stream_id])
            elif isinstance(event, StreamReset):
                self.resets.append((event.stream_id, int(event.error_code)))
                self.open.pop(event.stream_id, None)
            elif isinstance(event, PingReceived):
                self.pings += 1
        self.requests += complete
        return complete

    def answer(
        self,
        stream_id: int,
        status: int = 200,
        body: bytes = b"",
        headers: Sequence[tuple[bytes, bytes]] = (),
        is_ended: bool = True,
    ) -> None:
        """Answer a request; `is_ended` False leaves the stream open."""
        fields = [(b":status", b"%d" % status), *headers]
        self.h2.send_headers(stream_id, fields, end_stream=is_ended and not body)
        if body:
            self.h2.send_data(stream_id, body, end_stream=is_ended)
        if is_ended:
            self.open.pop(stream_id, None)

    def reset(self, stream_id: int, code: int) -> None:
        """Write RST_STREAM."""
        self.h2.reset_stream(stream_id, code)
        self.open.pop(stream_id, None)

    def limit(self, max_streams: int) -> None:
        """Announce another MAX_CONCURRENT_STREAMS."""
        self.h2.update_settings({SettingCodes.MAX_CONCURRENT_STREAMS: max_streams})

    def goaway(self, last_stream_id: int, code: int = 0, debug: bytes = b"") -> None:
        """Write GOAWAY after what is due already; h2 does not notice."""
        frame = GoAwayFrame(0, last_stream_id=last_stream_id, error_code=code, additional_data=debug)
        self.raw(frame.serialize())

    def raw(self, data: bytes) -> None:
        """Write bytes as they are, after what is due already."""
        self._raw += self.h2.data_to_send() + data

    def take(self) -> bytes:
        """Return what is to be written."""
        data = self._raw + self.h2.data_to_send()
        self._raw = b""
        return data if self._answers_pings else _without_ping_acks(data)


def _without_ping_acks(data: bytes) -> bytes:
    kept, start = b"", 0
    while start < len(data):
        end = start + 9 + int.from_bytes(data[start : start + 3])
        if data[start + 3] != 6:
            kept += data[start:end]
        start = end
    return kept


def join(wire: Wire, peer: Peer, now: float = 0.0, step: int = 0) -> list[Outcome]:
    """Carry bytes both ways until both are silent; `step` cuts what the wire reads into pieces."""
    outcomes: list[Outcome] = []
    while True:
        out = wire.data_to_send()
        if out:
            peer.receive(out)
        back = peer.take()
        if not out and not back:
            return outcomes
        size = step or max(len(back), 1)
        for start in range(0, len(back), size):
            outcomes += wire.receive(back[start : start + size], now)


# --- keys and certificates


@dataclass(frozen=True)
class Pki:
    """Files of a CA and what it issued."""

    ca: Path
    server: Path
    expired: Path
    stranger: Path
    client: Path


def pki(folder: Path) -> Pki:
    """Make a CA, and certificates with keys for `localhost` and 127.0.0.1; PEM files in `folder`."""
    made = self_made("Test CA", is_ca=True)
    files = {"ca": made.certificate}
    for name, host, days in (
        ("server", "localhost", 30),
        ("expired", "localhost", -1),
        ("stranger", "elsewhere.example", 30),
        ("client", "client", 30),
    ):
        leaf = self_made(host, issuer=made, days=days)
        files[name] = leaf.certificate + leaf.key
    for name, content in files.items():
        path = folder / f"{name}.pem"
        path.write_bytes(content)
        path.chmod(0o600)
    return Pki(**{name: folder / f"{name}.pem" for name in files})


@dataclass
class SelfMade:
    """A certificate and its key, PEM, and as objects for issuing."""

    certificate: bytes
    key: bytes
    subject: x509.Name
    private: ec.EllipticCurvePrivateKey


def self_made(
    name: str,
    *,
    issuer: SelfMade | None = None,
    is_ca: bool = False,
    days: int = 30,
    starts_in: int = -400,
    uid: str = "",
    extensions: Sequence[tuple[str, bytes]] = (),
) -> SelfMade:
    """Make a certificate that ends `days` from now; `extensions` are (dotted oid, DER)."""
    private = ec.generate_private_key(ec.SECP256R1())
    attributes = [x509.NameAttribute(NameOID.COMMON_NAME, name)]
    if uid:
        attributes.append(x509.NameAttribute(NameOID.USER_ID, uid))
    subject = x509.Name(attributes)
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.subject if issuer else subject)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + datetime.timedelta(days=starts_in))
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.BasicConstraints(is_ca, None), critical=True)
    )
    if name == "localhost":
        names: list[x509.GeneralName] = [
            x509.DNSName("localhost"),
            x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
        ]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    elif not is_ca:
        names = [x509.DNSName(name)]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    for oid, der in extensions:
        builder = builder.add_extension(
            x509.UnrecognizedExtension(x509.ObjectIdentifier(oid), der), critical=False
        )
    certificate = builder.sign(issuer.private if issuer else private, hashes.SHA256())
    return SelfMade(certificate.public_bytes(serialization.Encoding.PEM), key_pem(private), subject, private)


def key_pem(private: Any, passphrase: bytes = b"") -> bytes:
    """Write a private key as Apple's `.p8` files are: PKCS#8 PEM."""
    kind = serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
    return bytes(private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, kind))


@cache
def apple_key() -> bytes:
    """A provider's signing key, the same for the whole run."""
    return key_pem(ec.generate_private_key(ec.SECP256R1()))


def server_context(
    pem: Path, protocols: Sequence[str] = ("h2",), client_ca: Path | None = None
) -> ssl.SSLContext:
    """TLS for a listening peer; with `client_ca` it wants a client certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    if protocols:
        context.set_alpn_protocols(list(protocols))
    if client_ca:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(client_ca)
    return context


# --- on a port

Handler = Callable[[Peer, Served], None]


def accept(peer: Peer, request: Served) -> None:
    """Answer 200."""
    peer.answer(request.stream_id, headers=[(b"apns-id", request["apns-id"].encode())])


@dataclass
class Listening:
    """A peer on a port."""

    port: int
    peers: list[Peer] = field(default_factory=list)
    transports: list[asyncio.Transport] = field(default_factory=list)

    def flush(self) -> None:
        """Write what tests have put into the peers by hand."""
        for peer, transport in zip(self.peers, self.transports, strict=True):
            if not transport.is_closing():
                transport.write(peer.take())


class _Session(asyncio.Protocol):
    def __init__(self, listening: Listening, peer: Peer, handler: Handler) -> None:
        self._listening, self._peer, self._handler = listening, peer, handler

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport
        self._listening.peers.append(self._peer)
        self._listening.transports.append(self._transport)
        transport.write(self._peer.take())  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        for request in self._peer.receive(data):
            self._handler(self._peer, request)
        if not self._transport.is_closing():
            self._transport.write(self._peer.take())


@asynccontextmanager
async def listening(
    context: ssl.SSLContext | None,
    handler: Handler = accept,
    make_peer: Callable[[], Peer] = Peer,
) -> AsyncIterator[Listening]:
    """Serve on a free port of 127.0.0.1 until the block ends."""
    loop = asyncio.get_running_loop()
    state = Listening(0)
    server = await loop.create_server(
        lambda: _Session(state, make_peer(), handler), "127.0.0.1", 0, ssl=context
    )
    state.port = server.sockets[0].getsockname()[1]
    try:
        yield state
    finally:
        server.close()
        for transport in state.transports:
            with suppress(OSError):
                transport.abort()
