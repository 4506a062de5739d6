"""The TLS context: always verifying, never weaker than HTTP/2 allows (apns.md 1.2)."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest

from momentum_push.delivery.apns.certificate import read_certificate
from momentum_push.delivery.apns.credential import CertificateCredential
from momentum_push.delivery.apns.tls import build_context
from momentum_push.errors import Place
from tests.helpers.peer import self_made


class FakeScope(dict[str, Any]):
    """Options with the table's defaults."""

    DEFAULTS = {
        "tls_verify": "host",
        "allow_insecure_tls": False,
        "tls_ciphers": "DEFAULT",
        "tls_protocols": "+ALL",
    }

    def __missing__(self, option: str) -> Any:
        return self.DEFAULTS.get(option, "")

    def origin(self, option: str) -> Place | None:
        return Place("push.conf", 7, 3) if option in self else None


def built(**options: Any) -> ssl.SSLContext:
    context, problems = build_context(FakeScope(options), None)
    assert problems == []
    assert context is not None
    return context


def refused(**options: Any) -> str:
    context, [problem] = build_context(FakeScope(options), None)
    assert context is None
    assert problem.place == Place("push.conf", 7, 3)
    assert problem.fix
    return problem.what


@pytest.mark.parametrize(
    ("verify", "insecure", "verifies"),
    [
        ("host", False, True),
        ("ca", False, True),
        ("optional", True, True),
        ("no", False, True),
        ("host", True, True),
        ("no", True, False),
    ],
)
def test_chain_and_name_are_verified_unless_two_options_say_no(
    verify: str, insecure: bool, verifies: bool
) -> None:
    context = built(tls_verify=verify, allow_insecure_tls=insecure)
    assert context.check_hostname == verifies
    assert context.verify_mode == (ssl.CERT_REQUIRED if verifies else ssl.CERT_NONE)


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [
        ("", 2, 3),
        ("+ALL", 2, 3),
        ("+all -TLSv1.3", 2, 2),
        ("+TLSv1.3", 3, 3),
        ("TLSv1.2:TLSv1.3", 2, 3),
        ("+SSLv3 +TLSv1 +TLSv1.2", 2, 2),
    ],
)
def test_protocols_are_chosen_and_never_below_1_2(text: str, low: int, high: int) -> None:
    context = built(tls_protocols=text)
    versions = {2: ssl.TLSVersion.TLSv1_2, 3: ssl.TLSVersion.TLSv1_3}
    assert (context.minimum_version, context.maximum_version) == (versions[low], versions[high])


@pytest.mark.parametrize(
    ("text", "what"), [("+TLSv1.1", "neither"), ("-ALL", "neither"), ("+TLSv9", "no TLS protocol")]
)
def test_protocols_that_leave_nothing_are_an_error(text: str, what: str) -> None:
    assert what in refused(tls_protocols=text)


def old_ciphers(context: ssl.SSLContext) -> list[str]:
    return [cipher["name"] for cipher in context.get_ciphers() if cipher["protocol"] != "TLSv1.3"]


@pytest.mark.parametrize(
    "text",
    [
        "DEFAULT",
        "ALL:!aNULL",
        "HIGH",
        "ECDHE-RSA-AES128-GCM-SHA256:AES128-SHA",
        "ALL:COMPLEMENTOFALL:@SECLEVEL=0",
    ],
)
def test_ciphers_are_ephemeral_and_aead_whatever_was_asked_for(text: str) -> None:
    found = old_ciphers(built(tls_ciphers=text))
    assert found
    assert all("DHE" in name and ("GCM" in name or "POLY1305" in name or "CCM" in name) for name in found)


def test_a_cipher_list_that_is_fit_is_obeyed() -> None:
    name = "ECDHE-ECDSA-AES256-GCM-SHA384"
    assert old_ciphers(built(tls_ciphers=name)) == [name]


@pytest.mark.parametrize(
    ("text", "what"), [("NONSENSE", "selects no cipher"), ("AES128-SHA", "HTTP/2 forbids")]
)
def test_ciphers_that_leave_nothing_are_an_error(text: str, what: str) -> None:
    assert what in refused(tls_ciphers=text)


def test_a_security_option_that_cannot_be_obeyed_is_an_error() -> None:
    if hasattr(ssl.SSLContext, "set_ciphersuites"):
        built(tlsv13_ciphersuites="TLS_AES_128_GCM_SHA256")
    else:
        assert "cannot be set" in refused(tlsv13_ciphersuites="TLS_AES_128_GCM_SHA256")


def test_tls_ca_is_added_to_the_systems_roots(tmp_path: Path) -> None:
    path = tmp_path / "ca.pem"
    path.write_bytes(self_made("Our CA", is_ca=True).certificate)
    before = len(built().get_ca_certs())
    assert len(built(tls_ca=str(path)).get_ca_certs()) == before + 1


def test_a_tls_ca_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    path = tmp_path / "ca.pem"
    assert "no such file" in refused(tls_ca=str(path))
    path.write_text("hello")
    assert "no certificate" in refused(tls_ca=str(path))


def test_a_certificate_is_loaded_and_trouble_with_its_chain_is_named(tmp_path: Path) -> None:
    made = self_made("push")
    path = tmp_path / "push.pem"
    path.write_bytes(made.certificate + made.key)
    credential = CertificateCredential(read_certificate(path.read_bytes(), made.key), str(path), str(path))
    context, problems = build_context(FakeScope(), credential)
    assert context is not None
    assert problems == []
    path.unlink()
    context, [problem] = build_context(FakeScope(tls_certificate=str(path)), credential)
    assert context is None
    assert str(path) in problem.what
