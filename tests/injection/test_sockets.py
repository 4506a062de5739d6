"""momentum_push/injection/sockets.py: listening sockets and the server's TLS."""

from __future__ import annotations

import socket
import ssl
import stat
from pathlib import Path
from typing import Any

import pytest

from momentum_push.errors import ConfigError
from momentum_push.injection.sockets import close_sockets, open_sockets, server_tls, validate_tls
from tests.helpers.smtp import PLACE, Listen, View, make_certificate


@pytest.mark.parametrize(
    ("address", "family", "bound"),
    [
        ("127.0.0.1:0", socket.AF_INET, "127.0.0.1"),
        ("[::1]:0", socket.AF_INET6, "::1"),
        (":0", socket.AF_INET, "0.0.0.0"),
        ("*:0", socket.AF_INET, "0.0.0.0"),
        ("[*]:0", socket.AF_INET6, "::"),
    ],
)
def test_address_says_family_and_interface(address: str, family: int, bound: str) -> None:
    """momentum.md 3.1."""
    (opened,) = open_sockets(Listen(address))
    try:
        assert (opened.family, opened.getsockname()[0]) == (family, bound)
        assert opened.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    finally:
        close_sockets([opened])


def test_both_wildcards_share_a_port() -> None:
    (first,) = open_sockets(Listen("*:0"))
    port = first.getsockname()[1]
    second = open_sockets(Listen(f"[*]:{port}"))
    close_sockets([first, *second])


def test_unix_socket_has_its_mode_and_goes_when_it_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "push.sock"
    (opened,) = open_sockets(Listen(str(path), file_mode=0o640))
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    close_sockets([opened])
    assert not path.exists()
    close_sockets([opened])


def test_leftover_of_a_dead_process_is_replaced_and_a_live_socket_is_not(tmp_path: Path) -> None:
    path = tmp_path / "push.sock"
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(str(path))
    dead.close()
    opened = open_sockets(Listen(str(path)))
    with pytest.raises(ConfigError) as raised:
        open_sockets(Listen(str(path)))
    assert raised.value.problems[0].place == PLACE
    close_sockets(opened)


def test_a_file_in_the_way_stays(tmp_path: Path) -> None:
    path = tmp_path / "push.sock"
    path.write_text("precious")
    with pytest.raises(ConfigError):
        open_sockets(Listen(str(path)))
    assert path.read_text() == "precious"


@pytest.mark.parametrize("address", ["192.0.2.1:0", "no-such-host.invalid:0"])
def test_address_that_is_not_ours_is_a_problem_at_the_stanza(address: str) -> None:
    with pytest.raises(ConfigError) as raised:
        open_sockets(Listen(address))
    (problem,) = raised.value.problems
    assert problem.place == PLACE
    assert address in problem.what


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    certificate, key = make_certificate(tmp_path)
    return {"tls_certificate": str(certificate), "tls_key": str(key)}


def test_no_certificate_no_tls() -> None:
    assert server_tls(View()) is None


@pytest.mark.parametrize(
    ("protocols", "lowest", "highest"),
    [
        ("+ALL", ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.MAXIMUM_SUPPORTED),
        ("+ALL:-TLSv1.3", ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_2),
        ("+SSLv3:+TLSv1:+TLSv1.3", ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.MAXIMUM_SUPPORTED),
        ("TLSv1.2", ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_2),
    ],
)
def test_protocols_below_1_2_are_never_spoken(
    files: dict[str, str], protocols: str, lowest: int, highest: int
) -> None:
    context = server_tls(View(**files, tls_protocols=protocols))
    assert context is not None
    assert (context.minimum_version, context.maximum_version) == (lowest, highest)


@pytest.mark.parametrize(
    ("has_authority", "mode", "verification"),
    [
        (False, "", ssl.CERT_NONE),
        (True, "", ssl.CERT_OPTIONAL),
        (True, "none", ssl.CERT_NONE),
        (True, "require", ssl.CERT_REQUIRED),
    ],
)
def test_verify_mode_says_whether_clients_show_a_certificate(
    files: dict[str, str], has_authority: bool, mode: str, verification: ssl.VerifyMode
) -> None:
    """momentum.md 3.3."""
    authority = files["tls_certificate"] if has_authority else ""
    context = server_tls(View(**files, tls_client_ca=authority, tls_verify_mode=mode))
    assert context is not None
    assert context.verify_mode is verification


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"tls_certificate": "/nonexistent.crt"}, "tls_certificate"),
        ({"tls_key": "/nonexistent.key"}, "tls_key"),
        ({"tls_client_ca": "/nonexistent.crt"}, "tls_client_ca"),
        ({"tls_verify_mode": "require"}, "tls_verify_mode"),
        ({"tls_ciphers": "NONSENSE"}, "tls_ciphers"),
        ({"tls_protocols": "+SSLv3"}, "tls_protocols"),
    ],
)
def test_what_cannot_be_used_is_a_problem_that_names_the_option(
    files: dict[str, str], options: dict[str, Any], named: str
) -> None:
    (problem,) = validate_tls(View(**{**files, **options}))
    assert problem.place == PLACE
    assert named in problem.what
    assert not problem.is_warning


def test_key_must_be_secret_and_belong_to_the_certificate(files: dict[str, str], tmp_path: Path) -> None:
    """interfaces.md 2, Secrets."""
    assert validate_tls(View(**files)) == []
    other = make_certificate(tmp_path, "other")[1]
    (problem,) = validate_tls(View(**{**files, "tls_key": str(other)}))
    assert "mismatch" in problem.what
    Path(files["tls_key"]).chmod(0o644)
    (problem,) = validate_tls(View(**files))
    assert "read by everybody" in problem.what


def test_tls_from_the_first_byte_needs_a_certificate() -> None:
    (problem,) = validate_tls(View(use_ssl=True))
    assert "tls_certificate" in problem.what


def test_ciphersuites_that_are_not_obeyed_are_warned_about(files: dict[str, str]) -> None:
    (problem,) = validate_tls(View(**files, tlsv13_ciphersuites="TLS_AES_128_GCM_SHA256"))
    assert problem.is_warning
