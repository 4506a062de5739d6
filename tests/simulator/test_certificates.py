"""Throw-away certificates: good for Python's own checks, used again, and read back (apns.md 1.4)."""

import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from momentum_push.simulator.certificates import (
    make_provider_certificate,
    make_provider_key,
    make_server_certificate,
    read_provider_certificate,
    read_topics,
    write_topics,
)


def handshake(
    server: ssl.SSLContext, client: ssl.SSLContext, name: str
) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """Join two TLS ends in memory; both are through when this returns."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    here = client.wrap_bio(to_client, to_server, server_hostname=name)
    there = server.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(4):
        for end in (here, there):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return here, there


def contexts(folder: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    paths = make_server_certificate(folder)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(paths.server, paths.server_key)
    server.load_verify_locations(paths.ca)
    server.verify_mode = ssl.CERT_REQUIRED
    client = ssl.create_default_context(cafile=str(paths.ca))
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    server.verify_flags |= ssl.VERIFY_X509_STRICT
    return server, client


@pytest.mark.parametrize(
    "name", ["localhost", "127.0.0.1", "::1", "api.push.apple.com", "api.sandbox.push.apple.com"]
)
def test_strict_verification_passes_both_ways(tmp_path: Path, name: str) -> None:
    server, client = contexts(tmp_path)
    client.load_cert_chain(*make_provider_certificate(tmp_path, ["com.example.news"]))
    _, there = handshake(server, client, name)
    der = there.getpeercert(binary_form=True)
    assert der is not None
    assert read_provider_certificate(der).uid == "com.example.news"


def test_other_names_do_not_pass(tmp_path: Path) -> None:
    server, client = contexts(tmp_path)
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(server, client, "api.example.com")


def test_what_lies_there_is_used_again_while_it_is_good(tmp_path: Path) -> None:
    paths = make_server_certificate(tmp_path)
    before = [path.read_bytes() for path in (paths.ca, paths.server, paths.server_key)]
    make_server_certificate(tmp_path)
    assert [path.read_bytes() for path in (paths.ca, paths.server, paths.server_key)] == before
    paths.server.write_bytes(b"rubbish")
    make_server_certificate(tmp_path)
    assert paths.ca.read_bytes() != before[0]


def test_keys_are_their_owners_alone(tmp_path: Path) -> None:
    paths = make_server_certificate(tmp_path)
    _, provider = make_provider_certificate(tmp_path, ["com.example.news"])
    key_id = make_provider_key(tmp_path / "k.p8")
    for path in (paths.ca_key, paths.server_key, provider, tmp_path / "k.p8"):
        assert path.stat().st_mode & 0o777 == 0o600
    assert len(key_id) == 10
    assert b"BEGIN PRIVATE KEY" in (tmp_path / "k.p8").read_bytes()


@pytest.mark.parametrize(
    ("environment", "read"),
    [("sandbox", {"sandbox"}), ("production", {"production"}), ("both", {"sandbox", "production"})],
)
def test_provider_certificates_read_back(tmp_path: Path, environment: str, read: set[str]) -> None:
    topics = ["com.example.news", "com.example.news.voip", "com.example.news.complication"]
    path, _ = make_provider_certificate(tmp_path, topics, environment)
    certificate = x509.load_pem_x509_certificate(path.read_bytes())
    found = read_provider_certificate(certificate.public_bytes(Encoding.DER))
    assert (found.uid, list(found.topics), found.environments) == (topics[0], topics, frozenset(read))
    assert "Apple Push Services: com.example.news" in certificate.subject.rfc4514_string()


def test_the_topic_list_is_drawn_as_apple_draws_it() -> None:
    assert write_topics(["a.b", "a.b.voip"]) == bytes.fromhex(
        "301e" "0c03612e62" "3005" "0c03617070" "0c08612e622e766f6970" "3006" "0c04766f6970"
    )  # fmt: skip


@given(st.lists(st.text(min_size=1, max_size=300), min_size=1, max_size=30, unique=True))
def test_any_topic_list_reads_back(topics: list[str]) -> None:
    assert read_topics(write_topics(topics)) == tuple(topics)


@pytest.mark.parametrize("damage", [b"\x0c\x01a", b"\x30\x05\x0c\x03a", b"\x30\x82\xff", b"\x30"])
def test_damaged_topic_lists_are_errors(damage: bytes) -> None:
    with pytest.raises(ValueError, match=r"extension|cut off"):
        read_topics(damage)
