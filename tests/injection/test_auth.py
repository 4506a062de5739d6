"""momentum_push/injection/auth.py: password files."""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import Any

import pytest

from momentum_push.errors import Place
from momentum_push.injection.auth import (
    PasswordFile,
    PasswordFiles,
    Verdict,
    parse_basic,
    password_path,
    validate_passwords,
)

PLACE = Place("a.conf", 3, 5)


class View(dict[str, Any]):
    def origin(self, option: str) -> Place | None:
        return PLACE


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "users"
    path.write_bytes(b"# users\n\nanna:secret\r\nberta:a:b \n\xc3\xa9:\xc3\xa9\n")
    path.chmod(0o600)
    return path


@pytest.mark.parametrize(
    ("user", "password", "verdict"),
    [
        ("anna", "secret", Verdict.PASS),
        (b"anna", b"secret", Verdict.PASS),
        ("berta", "a:b ", Verdict.PASS),
        ("é", "é", Verdict.PASS),
        ("anna", "Secret", Verdict.FAIL),
        ("anna", "secret ", Verdict.FAIL),
        ("anna", "", Verdict.FAIL),
        ("Anna", "secret", Verdict.FAIL),
        ("carla", "\n", Verdict.FAIL),
        ("carla", "", Verdict.FAIL),
        ("", "", Verdict.FAIL),
        ("# users", "", Verdict.FAIL),
    ],
)
def test_user_and_password_must_both_be_those_of_one_line(
    path: Path, user: str | bytes, password: str | bytes, verdict: Verdict
) -> None:
    """momentum.md 3.3."""
    assert PasswordFile(str(path)).check(user, password) is verdict


def test_changed_file_is_read_at_the_next_login(path: Path) -> None:
    users = PasswordFile(str(path))
    assert users.check("anna", "secret") is Verdict.PASS
    path.write_text("anna:changed\n")
    os.utime(path, ns=(1, 1))
    assert users.check("anna", "secret") is Verdict.FAIL
    assert users.check("anna", "changed") is Verdict.PASS


@pytest.mark.parametrize("damage", ["gone", "broken", "directory"])
def test_file_that_cannot_be_used_is_an_error_not_a_refusal_and_not_a_pass(path: Path, damage: str) -> None:
    users = PasswordFile(str(path))
    assert users.check("anna", "secret") is Verdict.PASS
    path.unlink()
    if damage == "broken":
        path.write_text("anna:secret\nno colon\n")
    elif damage == "directory":
        path.mkdir()
    assert users.check("anna", "secret") is Verdict.ERROR
    assert users.check("anna", "secret") is Verdict.ERROR


@pytest.mark.parametrize(
    ("uri", "found"),
    [
        ("file:///etc/push/users", "/etc/push/users"),
        ("file://localhost/etc/users", "/etc/users"),
        ("file:///a%20b", "/a b"),
        ("file://host/etc/users", None),
        ("digest:///etc/users", None),
        ("/etc/users", None),
        ("", None),
    ],
)
def test_only_file_uris_name_a_password_file(uri: str, found: str | None) -> None:
    assert password_path({"uri": uri}) == found


def test_one_file_is_kept_once_for_all_listeners(path: Path) -> None:
    files = PasswordFiles()
    parameters = {"uri": f"file://{path}"}
    assert files.get(parameters) is files.get(dict(parameters)) is not None
    assert files.get({"uri": "ecauth://"}) is None


OPTION = "authplainparameters"


def test_good_file_and_no_file_have_no_problems(path: Path) -> None:
    assert validate_passwords(View({OPTION: {"uri": f"file://{path}"}}), OPTION) == []
    assert validate_passwords(View({OPTION: {}}), OPTION) == []


@pytest.mark.parametrize("parameters", [{"uri": "ecauth://"}, {"realm": "x"}])
def test_other_user_stores_are_errors_at_the_options_place(parameters: dict[str, str]) -> None:
    """interfaces.md 2: a security option that is not implemented is an error."""
    (problem,) = validate_passwords(View({OPTION: parameters}), OPTION)
    assert problem.place == PLACE
    assert not problem.is_warning


def test_every_bad_line_is_a_problem_that_does_not_repeat_it(path: Path) -> None:
    path.write_text("hunter2\nanna:x\n:y\nberta:\nanna:z\n")
    problems = validate_passwords(View({OPTION: {"uri": f"file://{path}"}}), OPTION)
    assert [problem.place for problem in problems] == [Place(str(path), line, 1) for line in (1, 3, 4, 5)]
    assert not any(secret in str(problem) for problem in problems for secret in ("hunter2", ":y", "z;"))


def test_missing_file_is_an_error_and_an_open_one_a_warning(path: Path) -> None:
    path.chmod(0o644)
    (problem,) = validate_passwords(View({OPTION: {"uri": f"file://{path}"}}), OPTION)
    assert (problem.place, problem.is_warning) == (PLACE, True)
    path.unlink()
    (problem,) = validate_passwords(View({OPTION: {"uri": f"file://{path}"}}), OPTION)
    assert (problem.place, problem.is_warning) == (PLACE, False)
    assert str(path) in problem.what


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("Basic " + base64.b64encode(b"anna:a:b").decode(), (b"anna", b"a:b")),
        ("basic  " + base64.b64encode(b"anna:").decode(), (b"anna", b"")),
        ("Basic " + base64.b64encode(b"anna").decode(), None),
        ("Basic !!!", None),
        ("Basic é", None),
        ("Basic", None),
        ("Bearer abc", None),
        ("", None),
    ],
)
def test_basic_credentials_are_read_as_bytes(value: str, found: tuple[bytes, bytes] | None) -> None:
    assert parse_basic(value) == found
