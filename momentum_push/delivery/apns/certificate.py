"""Reading a provider certificate: topics, environment, dates (apns.md 1.4). Pure: bytes in.

    subject UID 0.9.2342.19200300.100.1.1     bundle id, the default topic
    1.2.840.113635.100.6.3.1, .2              marks: good for development, production; both: universal
    1.2.840.113635.100.6.3.4                  topics for VoIP on older certificates
    1.2.840.113635.100.6.3.6                  all topics of a universal certificate:

        SEQUENCE ├ UTF8String topic
                 ├ SEQUENCE ├ UTF8String kind …        app, voip, complication, …
                 ├ UTF8String topic
                 └ SEQUENCE …

Extensions that do not parse are left aside: Apple checks the topic anyway, we only say so earlier.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID, ObjectIdentifier

__all__ = ["Certificate", "CertificateFault", "Environment", "read_certificate"]

_APPLE = "1.2.840.113635.100.6.3."
DEVELOPMENT = ObjectIdentifier(_APPLE + "1")
PRODUCTION = ObjectIdentifier(_APPLE + "2")
VOIP_TOPICS = ObjectIdentifier(_APPLE + "4")
ALL_TOPICS = ObjectIdentifier(_APPLE + "6")

WARNING_S = 30 * 86400
_UTF8, _SEQUENCE = 0x0C, 0x30


class CertificateFault(ValueError):
    """The certificate or its key cannot be used; `option` names the option at fault."""

    def __init__(self, option: str, what: str, fix: str) -> None:
        super().__init__(f"{what}; {fix}")
        self.option, self.what, self.fix = option, what, fix


class Environment(enum.Enum):
    """Which of Apple's hosts the certificate is good for."""

    UNIVERSAL = "universal"
    PRODUCTION = "production"
    DEVELOPMENT = "development"
    UNMARKED = "unmarked"


@dataclass(frozen=True, slots=True)
class Certificate:
    """What a provider certificate says."""

    default_topic: str
    """The subject's UID; empty where it has none, or where several topics make a choice necessary."""
    topics: tuple[str, ...]
    """All topics it is good for; empty where it does not say."""
    environment: Environment
    not_before: float
    not_after: float
    """Epoch seconds."""
    fingerprint: str
    """SHA-256, the first 16 hex digits: enough to tell one's own certificates apart."""

    def serves(self, environment: str) -> bool:
        """Whether it is good for `production` or `development`, as far as it says (apns.md 1.4)."""
        if self.environment in (Environment.UNIVERSAL, Environment.UNMARKED):
            return True
        return self.environment is Environment(environment)

    def complaint(self, now: float) -> tuple[str, str, bool]:
        """Return what is wrong with its dates, how to fix it, and whether that is an error; "": nothing."""
        fix = "renew it in Apple's developer account"
        if now >= self.not_after:
            return f"expired {_ago(now - self.not_after)}", fix, True
        if now < self.not_before:
            return "is not valid yet", "check this host's clock", True
        if self.not_after - now < WARNING_S:
            return f"expires in {int((self.not_after - now) // 86400)} days", fix, False
        return "", "", False


def read_certificate(pem: bytes, key_pem: bytes) -> Certificate:
    """Read a certificate and check that the key belongs to it.

    Args:
        pem: the certificate, first in its file; what follows is its chain.
        key_pem: the private key, not encrypted.

    Raises:
        CertificateFault: with the option at fault.
    """
    try:
        certificate = x509.load_pem_x509_certificate(pem)
        topics = _topics(certificate)
        uid = _uid(certificate)
    except (ValueError, UnsupportedAlgorithm):
        fix = "convert Apple's .cer with: openssl x509 -inform der -in FILE.cer -out FILE.pem"
        raise CertificateFault("tls_certificate", "this is no certificate in PEM form", fix) from None
    _check_key(certificate, key_pem)
    return Certificate(
        default_topic=uid if len(topics) <= 1 or uid in topics else "",
        topics=topics or ((uid,) if uid else ()),
        environment=_environment(certificate),
        not_before=certificate.not_valid_before_utc.timestamp(),
        not_after=certificate.not_valid_after_utc.timestamp(),
        fingerprint=certificate.fingerprint(hashes.SHA256()).hex()[:16],
    )


def _check_key(certificate: x509.Certificate, pem: bytes) -> None:
    try:
        key = load_pem_private_key(pem, password=None)
    except TypeError:
        raise CertificateFault("tls_key", "the key is encrypted", "remove its passphrase") from None
    except (ValueError, UnsupportedAlgorithm):
        fix = "name the key's file in tls_key"
        raise CertificateFault("tls_key", "there is no private key in PEM form", fix) from None
    ours = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    theirs = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if ours != theirs:
        fix = "take the key that the certificate was requested with"
        raise CertificateFault("tls_key", "the key does not belong to the certificate", fix)


def _uid(certificate: x509.Certificate) -> str:
    for attribute in certificate.subject.get_attributes_for_oid(NameOID.USER_ID):
        return str(attribute.value)
    return ""


def _environment(certificate: x509.Certificate) -> Environment:
    is_development = _extension(certificate, DEVELOPMENT) is not None
    is_production = _extension(certificate, PRODUCTION) is not None
    if is_development and is_production:
        return Environment.UNIVERSAL
    if is_production:
        return Environment.PRODUCTION
    return Environment.DEVELOPMENT if is_development else Environment.UNMARKED


def _topics(certificate: x509.Certificate) -> tuple[str, ...]:
    topics: list[str] = []
    for oid in (ALL_TOPICS, VOIP_TOPICS):
        if (value := _extension(certificate, oid)) is not None:
            topics += _texts(value)
    if topics and (uid := _uid(certificate)):
        topics.insert(0, uid)
    return tuple(dict.fromkeys(topics))


def _extension(certificate: x509.Certificate, oid: ObjectIdentifier) -> bytes | None:
    try:
        value = certificate.extensions.get_extension_for_oid(oid).value
    except x509.ExtensionNotFound:
        return None
    return value.value if isinstance(value, x509.UnrecognizedExtension) else None


def _texts(der: bytes) -> list[str]:
    """Return the UTF8Strings that stand in the outer sequence; those of inner sequences are kinds."""
    try:
        tag, body, _ = _element(der)
        texts: list[str] = []
        while tag == _SEQUENCE and body:
            inner, value, body = _element(body)
            if inner == _UTF8:
                texts.append(value.decode())
    except (IndexError, UnicodeDecodeError):
        return []
    return texts


def _element(der: bytes) -> tuple[int, bytes, bytes]:
    """Split one DER element off: tag, contents, the rest (X.690 section 8.1)."""
    tag, length, start = der[0], der[1], 2
    if length & 0x80:
        start += length & 0x7F
        length = int.from_bytes(der[2:start])
    end = start + length
    if end > len(der):
        raise IndexError(end)
    return tag, der[start:end], der[end:]


def _ago(seconds: float) -> str:
    days = int(seconds // 86400)
    return f"{days} day{'s' if days > 1 else ''} ago" if days else "today"
