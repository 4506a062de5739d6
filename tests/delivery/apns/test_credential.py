"""Credentials from configuration: which one, its files, and what is wrong with them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from momentum_push.delivery.apns.credential import (
    CertificateCredential,
    TokenCredential,
    load_credential,
)
from momentum_push.errors import Place, Problem
from tests.helpers.peer import apple_key, self_made

NOW = time.time()
APP = "com.example.news"
LINES = {
    name: line
    for line, name in enumerate(
        (
            "delivery_method",
            "apn_auth_key",
            "apn_key_id",
            "apn_team_id",
            "tls_certificate",
            "tls_key",
            "apn_topic",
            "apn_topics",
        ),
        1,
    )
}


class FakeScope(dict[str, Any]):
    """Options with defaults as the table has them; written ones have a place."""

    def __missing__(self, option: str) -> Any:
        return [] if option == "apn_topics" else ""

    def origin(self, option: str) -> Place | None:
        return Place("push.conf", LINES[option], 3) if option in self else None


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    return written(tmp_path / "AuthKey.p8", apple_key())


def written(path: Path, content: bytes, mode: int = 0o600) -> Path:
    path.write_bytes(content)
    path.chmod(mode)
    return path


def token_scope(key_file: Path, **changes: Any) -> FakeScope:
    return FakeScope(
        {
            "delivery_method": "apn",
            "apn_auth_key": str(key_file),
            "apn_key_id": "ABC1234567",
            "apn_team_id": "TEAM123456",
        }
        | changes
    )


def certificate_scope(folder: Path, days: int = 90, **changes: Any) -> FakeScope:
    made = self_made("push", uid=APP, days=days)
    certificate = written(folder / "push.pem", made.certificate, 0o644)
    key = written(folder / "push.key", made.key)
    return FakeScope(
        {"delivery_method": "apn", "tls_certificate": str(certificate), "tls_key": str(key)} | changes
    )


def failure(scope: FakeScope) -> Problem:
    credential, problems = load_credential(scope, NOW)
    assert credential is None
    [problem] = problems
    assert not problem.is_warning
    assert problem.fix
    assert "\n" not in str(problem)
    return problem


def test_a_key_makes_a_credential_that_counts_its_mints(key_file: Path) -> None:
    minted: list[str] = []
    credential, problems = load_credential(token_scope(key_file), NOW, minted.append)
    assert problems == []
    assert isinstance(credential, TokenCredential)
    assert credential.identity == "key ABC1234567 of team TEAM123456"
    assert (credential.is_token, credential.default_topic) == (True, "")
    held = credential.authorize(None, NOW, 0.0)
    assert credential.authorize(held, NOW + 1, 1.0) is held
    assert credential.authorize(None, NOW, 0.0) == held
    assert minted == ["ABC1234567"]


def test_a_certificate_makes_a_credential_with_its_topic(tmp_path: Path) -> None:
    credential, problems = load_credential(certificate_scope(tmp_path), NOW)
    assert problems == []
    assert isinstance(credential, CertificateCredential)
    assert credential.identity == f"certificate {credential.certificate.fingerprint}"
    assert (credential.is_token, credential.default_topic) == (False, APP)
    held = credential.authorize(None, NOW, 0.0)
    assert held is not None
    assert held.value == b""


def test_the_key_may_stand_in_the_certificates_file(tmp_path: Path) -> None:
    made = self_made("push", uid=APP, days=90)
    path = written(tmp_path / "both.pem", made.certificate + made.key)
    credential, problems = load_credential(FakeScope(tls_certificate=str(path)), NOW)
    assert isinstance(credential, CertificateCredential)
    assert problems == []
    path.chmod(0o644)
    assert "everybody" in failure(FakeScope(tls_certificate=str(path))).what


def test_none_switches_an_inherited_credential_off(key_file: Path) -> None:
    credential, problems = load_credential(token_scope(key_file, tls_certificate="none"), NOW)
    assert isinstance(credential, TokenCredential)
    assert problems == []


def test_both_at_once_is_an_error_because_apple_would_ignore_one(key_file: Path, tmp_path: Path) -> None:
    problem = failure(FakeScope(token_scope(key_file) | certificate_scope(tmp_path)))
    assert "both" in problem.what
    assert problem.place == Place("push.conf", LINES["apn_auth_key"], 3)


def test_no_credential_is_an_error_that_says_what_to_set() -> None:
    problem = failure(FakeScope(delivery_method="apn"))
    assert "apn_auth_key" in problem.fix
    assert problem.place == Place("push.conf", 1, 3)


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o601, 0o602, 0o777])
def test_secrets_that_others_can_touch_are_an_error(key_file: Path, tmp_path: Path, mode: int) -> None:
    key_file.chmod(mode)
    problem = failure(token_scope(key_file))
    assert str(key_file) in problem.what
    assert f"{mode:04o}" in problem.what
    scope = certificate_scope(tmp_path)
    Path(scope["tls_key"]).chmod(mode)
    assert failure(scope).place == Place("push.conf", LINES["tls_key"], 3)


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o640, 0o660])
def test_secrets_that_the_group_can_read_are_fine(key_file: Path, mode: int) -> None:
    key_file.chmod(mode)
    assert load_credential(token_scope(key_file), NOW)[1] == []


@pytest.mark.parametrize(
    ("option", "cause"),
    [("apn_auth_key", "no such file"), ("tls_certificate", "no such"), ("tls_key", "no such")],
)
def test_a_missing_file_is_named_with_its_cause(
    key_file: Path, tmp_path: Path, option: str, cause: str
) -> None:
    scope = token_scope(key_file) if option == "apn_auth_key" else certificate_scope(tmp_path)
    scope[option] = str(tmp_path / "nowhere")
    problem = failure(scope)
    assert problem.what.startswith(f'{option} "{tmp_path / "nowhere"}" cannot be read ({cause}')
    assert problem.place == Place("push.conf", LINES[option], 3)


def test_a_folder_is_no_key(key_file: Path, tmp_path: Path) -> None:
    assert "is a directory" in failure(token_scope(tmp_path)).what


@pytest.mark.parametrize(
    ("changes", "option", "what"),
    [
        ({"apn_key_id": "short"}, "apn_key_id", "10 letters"),
        ({"apn_key_id": ""}, "apn_key_id", "missing"),
        ({"apn_team_id": "x" * 11}, "apn_team_id", "10 letters"),
    ],
)
def test_ids_of_the_wrong_length_are_named(
    key_file: Path, changes: dict[str, str], option: str, what: str
) -> None:
    problem = failure(token_scope(key_file, **changes))
    assert what in problem.what
    assert problem.place == Place("push.conf", LINES[option], 3)


def test_a_key_file_with_something_else_in_it_is_named(key_file: Path) -> None:
    key_file.write_bytes(b"hello")
    problem = failure(token_scope(key_file))
    assert str(key_file) in problem.what
    assert "hello" not in str(problem)


def test_a_certificate_and_a_foreign_key_are_an_error_at_tls_key(tmp_path: Path) -> None:
    scope = certificate_scope(tmp_path)
    written(Path(scope["tls_key"]), apple_key())
    problem = failure(scope)
    assert "does not belong" in problem.what
    assert scope["tls_key"] in problem.what


@pytest.mark.parametrize(("days", "is_warning", "what"), [(10, True, "expires in"), (-3, False, "expired ")])
def test_dates_are_warned_about_in_time_and_are_an_error_in_the_end(
    tmp_path: Path, days: int, is_warning: bool, what: str
) -> None:
    _, [problem] = load_credential(certificate_scope(tmp_path, days), NOW)
    assert problem.is_warning == is_warning
    assert what in problem.what


@pytest.mark.parametrize(
    "changes", [{"apn_topic": "com.example.other"}, {"apn_topics": [APP, "com.example.other"]}]
)
def test_a_topic_that_the_certificate_does_not_cover_is_an_error(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    _, [problem] = load_credential(certificate_scope(tmp_path, **changes), NOW)
    assert "com.example.other" in problem.what
    assert APP in problem.fix
    assert not problem.is_warning


def test_a_topic_that_the_certificate_covers_is_fine(tmp_path: Path) -> None:
    assert load_credential(certificate_scope(tmp_path, apn_topic=APP, apn_topics=[APP]), NOW)[1] == []
