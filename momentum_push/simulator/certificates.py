"""Throw-away certificates and keys: a CA, the server's certificate, and what a provider would get from Apple.

    DIR/ca.pem      what a client must trust (`tls_ca`)
    DIR/ca.key      signs the two below; never leaves DIR, mode 0600
    DIR/server.pem  for localhost, 127.0.0.1, ::1 and Apple's two push hosts
    DIR/server.key  mode 0600

They are used again while they are valid for another day, so that clients keep their trust over
restarts. Provider certificates look like Apple's universal ones (apns.md 1.4): UID and CN of the
subject, the two markers, and the topic list, whose DER is written and read here by hand because it is
three kinds of element deep and no library knows it.
"""

import base64
import datetime as dt
import hashlib
import ipaddress
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

__all__ = [
    "ENVIRONMENTS",
    "Paths",
    "ProviderCertificate",
    "make_provider_certificate",
    "make_provider_key",
    "make_server_certificate",
    "public_pem",
    "read_provider_certificate",
    "read_topics",
    "write_topics",
]

ENVIRONMENTS = ("sandbox", "production")

_HOSTS = ("localhost", "api.push.apple.com", "api.sandbox.push.apple.com", "api.development.push.apple.com")
_ADDRESSES = ("127.0.0.1", "::1")
_MARKERS = {
    "sandbox": ObjectIdentifier("1.2.840.113635.100.6.3.1"),
    "production": ObjectIdentifier("1.2.840.113635.100.6.3.2"),
}
_TOPICS = ObjectIdentifier("1.2.840.113635.100.6.3.6")
_NULL = b"\x05\x00"
_SEQUENCE, _UTF8 = 0x30, 0x0C
_LIFE = dt.timedelta(days=365)
_SPARE = dt.timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Paths:
    """Where `make_server_certificate` put things."""

    ca: Path
    ca_key: Path
    server: Path
    server_key: Path

    @classmethod
    def below(cls, folder: Path) -> "Paths":
        return cls(folder / "ca.pem", folder / "ca.key", folder / "server.pem", folder / "server.key")


@dataclass(frozen=True, slots=True)
class ProviderCertificate:
    """What the simulator reads in a client's certificate."""

    uid: str
    topics: tuple[str, ...]
    environments: frozenset[str]
    fingerprint: str


def make_server_certificate(folder: Path) -> Paths:
    """Make CA and server certificate in `folder`, or use those that lie there and are still good."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = Paths.below(folder)
    if not _is_usable(paths):
        ca_key, ca = _make_ca()
        server_key, server = _make_server(ca_key, ca)
        _write_key(paths.ca_key, ca_key)
        _write_key(paths.server_key, server_key)
        paths.ca.write_bytes(_pem(ca))
        paths.server.write_bytes(_pem(server) + _pem(ca))
    return paths


def make_provider_certificate(
    folder: Path, topics: Sequence[str], environment: str = "both", name: str = "provider"
) -> tuple[Path, Path]:
    """Make a client certificate as Apple issues them; the CA of `folder` signs it.

    Args:
        folder: the simulator's `cert_dir`.
        topics: the first one is the subject's UID; all of them stand in extension 6.3.6.
        environment: `sandbox`, `production` or `both`.
        name: file name without ending; two certificates in one folder need two.

    Returns:
        Paths of certificate and key, both PEM.
    """
    paths = make_server_certificate(folder)
    ca = x509.load_pem_x509_certificate(paths.ca.read_bytes())
    ca_key = _load_key(paths.ca_key)
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.USER_ID, topics[0]),
            x509.NameAttribute(NameOID.COMMON_NAME, f"Apple Push Services: {topics[0]}"),
        ]
    )
    builder = _leaf(subject, key, ca, ExtendedKeyUsageOID.CLIENT_AUTH)
    for each in ENVIRONMENTS if environment == "both" else (environment,):
        builder = builder.add_extension(x509.UnrecognizedExtension(_MARKERS[each], _NULL), critical=False)
    builder = builder.add_extension(x509.UnrecognizedExtension(_TOPICS, write_topics(topics)), critical=False)
    certificate_path, key_path = folder / f"{name}.pem", folder / f"{name}.key"
    _write_key(key_path, key)
    certificate_path.write_bytes(_pem(builder.sign(ca_key, hashes.SHA256())))
    return certificate_path, key_path


def read_provider_certificate(der: bytes) -> ProviderCertificate:
    """Read UID, topics and environments of a client's certificate; what is missing stays empty."""
    certificate = x509.load_der_x509_certificate(der)
    uids = certificate.subject.get_attributes_for_oid(NameOID.USER_ID)
    uid = str(uids[0].value) if uids else ""
    topics: tuple[str, ...] = (uid,) if uid else ()
    environments = set()
    for extension in certificate.extensions:
        for environment, marker in _MARKERS.items():
            if extension.oid == marker:
                environments.add(environment)
        if extension.oid == _TOPICS and isinstance(extension.value, x509.UnrecognizedExtension):
            topics = read_topics(extension.value.value)
    fingerprint = hashlib.sha256(der).hexdigest()
    return ProviderCertificate(uid, topics, frozenset(environments), fingerprint)


def make_provider_key(path: Path) -> str:
    """Write a provider key as Apple's `.p8` (PKCS#8 PEM, P-256, mode 0600); return its key id."""
    key = ec.generate_private_key(ec.SECP256R1())
    path.parent.mkdir(parents=True, exist_ok=True)
    _write_key(path, key)
    numbers = key.public_key().public_bytes(
        serialization.Encoding.X962, serialization.PublicFormat.CompressedPoint
    )
    return base64.b32encode(hashlib.sha256(numbers).digest())[:10].decode()


def public_pem(path: Path) -> str:
    """Return the public half of a `.p8`, for a simulator that shall verify signatures."""
    public = _load_key(path).public_key()
    return public.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    ).decode()


def write_topics(topics: Sequence[str]) -> bytes:
    """Write extension 6.3.6: a SEQUENCE that alternates topics and SEQUENCEs of kinds (apns.md 1.4)."""
    parts = bytearray()
    for topic in topics:
        kind = topic.removeprefix(topics[0]).lstrip(".") or "app"
        parts += _element(_UTF8, topic.encode())
        parts += _element(_SEQUENCE, _element(_UTF8, kind.encode()))
    return _element(_SEQUENCE, bytes(parts))


def read_topics(der: bytes) -> tuple[str, ...]:
    """Return the topics of extension 6.3.6; `write_topics` is the inverse.

    Raises:
        ValueError: not of that form.
    """
    (outer,) = _elements(der)
    if outer[0] != _SEQUENCE:
        raise ValueError("extension 1.2.840.113635.100.6.3.6 is no SEQUENCE")
    return tuple(content.decode() for tag, content in _elements(outer[1]) if tag == _UTF8)


def _element(tag: int, content: bytes) -> bytes:
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    digits = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(digits))) + digits + content


def _elements(der: bytes) -> list[tuple[int, bytes]]:
    found, at = [], 0
    while at < len(der):
        tag, size, at = der[at], int.from_bytes(der[at + 1 : at + 2] or b"\x7f"), at + 2
        if size & 0x80:
            width = size & 0x7F
            size, at = int.from_bytes(der[at : at + width], "big"), at + width
        if at + size > len(der):
            raise ValueError("DER element is cut off")
        found.append((tag, der[at : at + size]))
        at += size
    return found


def _make_ca() -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "APNs simulator, throw-away CA")])
    usage = _usage(key_cert_sign=True, crl_sign=True)
    builder = (
        _builder(name, name, key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
    )
    return key, builder.sign(key, hashes.SHA256())


def _make_server(
    ca_key: ec.EllipticCurvePrivateKey, ca: x509.Certificate
) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    key = ec.generate_private_key(ec.SECP256R1())
    names: list[x509.GeneralName] = [x509.DNSName(host) for host in _HOSTS]
    names += [x509.IPAddress(ipaddress.ip_address(address)) for address in _ADDRESSES]
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, _HOSTS[1])])
    builder = _leaf(subject, key, ca, ExtendedKeyUsageOID.SERVER_AUTH)
    builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return key, builder.sign(ca_key, hashes.SHA256())


def _leaf(
    subject: x509.Name, key: ec.EllipticCurvePrivateKey, ca: x509.Certificate, purpose: ObjectIdentifier
) -> x509.CertificateBuilder:
    issuer_id = ca.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return (
        _builder(subject, ca.subject, key)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(digital_signature=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer_id), critical=False
        )
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey
) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SPARE)
        .not_valid_after(now + _LIFE)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _usage(
    *, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        encipher_only=False,
        decipher_only=False,
    )


def _is_usable(paths: Paths) -> bool:
    files = (paths.ca, paths.ca_key, paths.server, paths.server_key)
    if not all(path.is_file() for path in files):
        return False
    try:
        ca = x509.load_pem_x509_certificate(paths.ca.read_bytes())
        server = x509.load_pem_x509_certificate(paths.server.read_bytes())
        server.verify_directly_issued_by(ca)
    except (ValueError, TypeError, InvalidSignature):
        return False
    soon = dt.datetime.now(dt.UTC) + _SPARE
    return ca.not_valid_after_utc > soon and server.not_valid_after_utc > soon


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _load_key(path: Path) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError(f"{path}: not an elliptic curve key; make it anew")
    return key


def _write_key(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "wb") as file:
        os.fchmod(file.fileno(), 0o600)
        file.write(pem)
