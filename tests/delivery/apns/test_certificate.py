"""Provider certificates: topics, environment, dates, and the key that belongs to them (apns.md 1.4)."""

from __future__ import annotations

import time

import pytest

from momentum_push.delivery.apns.certificate import (
    Certificate,
    CertificateFault,
    Environment,
    read_certificate,
)
from tests.helpers.peer import SelfMade, apple_key, key_pem, self_made

APP = "com.example.news"
OID = "1.2.840.113635.100.6.3."
NULL = b"\x05\x00"


def text(value: str) -> bytes:
    return bytes((0x0C, len(value))) + value.encode()


def sequence(*items: bytes) -> bytes:
    body = b"".join(items)
    if len(body) < 128:
        return bytes((0x30, len(body))) + body
    return b"\x30\x82" + len(body).to_bytes(2) + body


def topics(*names: str) -> bytes:
    return sequence(*(item for name in names for item in (text(name), sequence(text("kind")))))


def made(uid: str = APP, **changes: object) -> SelfMade:
    return self_made(f"Apple Push Services: {uid}", uid=uid, **changes)  # type: ignore[arg-type]


def read(certificate: SelfMade) -> Certificate:
    return read_certificate(certificate.certificate, certificate.key)


def test_a_universal_certificate_says_all_its_topics() -> None:
    names = (APP, f"{APP}.voip", f"{APP}.complication")
    found = read(made(extensions=[(OID + "1", NULL), (OID + "2", NULL), (OID + "6", topics(*names))]))
    assert found.topics == names
    assert found.default_topic == APP
    assert found.environment is Environment.UNIVERSAL
    assert len(found.fingerprint) == 16
    assert found.not_before < time.time() < found.not_after


def test_long_lists_of_topics_are_read_too() -> None:
    names = tuple(f"{APP}.topic{number}" for number in range(60))
    assert read(made(extensions=[(OID + "6", topics(*names))])).topics == (APP, *names)


def test_an_old_certificate_has_its_uid_for_a_topic_and_one_environment() -> None:
    found = read(made(extensions=[(OID + "1", NULL)]))
    assert (found.topics, found.default_topic) == ((APP,), APP)
    assert found.environment is Environment.DEVELOPMENT
    assert read(made(extensions=[(OID + "2", NULL)])).environment is Environment.PRODUCTION


def test_voip_topics_of_older_certificates_count() -> None:
    found = read(made(extensions=[(OID + "4", topics(f"{APP}.voip"))]))
    assert found.topics == (APP, f"{APP}.voip")


def test_a_certificate_without_marks_says_nothing() -> None:
    found = read(made(uid=""))
    assert (found.topics, found.default_topic, found.environment) == ((), "", Environment.UNMARKED)


@pytest.mark.parametrize(
    "der", [b"", b"\x30", b"\x30\x05\x0c", b"\x30\x84\xff\xff\xff\xff", b"\x0c\x01a", b"\x30\x03\x0c\x01\xff"]
)
def test_an_extension_that_does_not_parse_is_left_aside(der: bytes) -> None:
    assert read(made(extensions=[(OID + "6", der)])).topics == (APP,)


DAY = 86_400.0


@pytest.mark.parametrize(
    ("days", "starts_in", "complaint", "is_error"),
    [
        (90, -1, "", False),
        (31, -1, "", False),
        (20, -1, "expires in 19 days", False),
        (-1, -400, "expired 1 day ago", True),
        (90, 1, "is not valid yet", True),
    ],
)
def test_dates_are_judged(days: int, starts_in: int, complaint: str, is_error: bool) -> None:
    what, fix, found_error = read(made(days=days, starts_in=starts_in)).complaint(time.time() + 1)
    assert (what, found_error) == (complaint, is_error)
    assert bool(fix) == bool(what)


def test_the_key_must_belong_to_the_certificate_and_be_readable() -> None:
    certificate = made()
    for pem, what in (
        (apple_key(), "does not belong"),
        (b"", "no private key"),
        (certificate.certificate, "no private key"),
        (key_pem(certificate.private, b"secret"), "encrypted"),
    ):
        with pytest.raises(CertificateFault, match=what) as caught:
            read_certificate(certificate.certificate, pem)
        assert caught.value.option == "tls_key"


@pytest.mark.parametrize(
    "pem", [b"", b"\x30\x82\x01", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
)
def test_what_is_no_certificate_is_refused_in_words(pem: bytes) -> None:
    with pytest.raises(CertificateFault, match="no certificate in PEM form") as caught:
        read_certificate(pem, apple_key())
    assert caught.value.option == "tls_certificate"
