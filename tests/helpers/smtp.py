"""Mails and SMTP clients for tests of what comes in by SMTP."""

from __future__ import annotations

import datetime
import ipaddress
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from momentum_push.config.tables import inbound
from momentum_push.errors import Place

TOKEN = "9f8e7d6c5b4a39281706f5e4d3c2b1a09f8e7d6c5b4a39281706f5e4d3c2b1a0"
PAYLOAD = b'{"aps":{"alert":"Ferry cancelled"}}'


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
