"""What can be said of a configuration before it is used: every room is asked, nothing is touched."""

from __future__ import annotations

from pathlib import Path

import pytest

from momentum_push.clock import ManualClock
from momentum_push.config import load
from momentum_push.daemon.checks import read_reasons, validate
from momentum_push.errors import ConfigError
from momentum_push.message.reasons import Action
from tests.helpers.apns import provider_key
from tests.helpers.lists import NOW

DOMAIN = "com.example.news.apns"


def conf(folder: Path, extra: str = "", domain: str = "") -> Path:
    key = provider_key(folder)
    key.path.chmod(0o600)
    path = folder / "ecelerity.conf"
    path.write_text(
        f"""
        spoolbase = "{folder}/spool"
        esmtp_listener {{ listen "127.0.0.1:0" {{ }} }}
        apn_logger "one" {{ logfile = "{folder}/logs/apnlog.ec" }}
        domain "{DOMAIN}" {{
          delivery_method = "apn"  routes = ( "apn://api.push.apple.com" )  apn_topic = "com.example.news"
          apn_auth_key = "{key.path}" apn_key_id = "{key.key_id}" apn_team_id = "{key.team_id}"
          {domain}
        }}
        {extra}
        """
    )
    return path


def said(path: Path) -> list[str]:
    return [str(problem) for problem in validate(load(path), ManualClock(NOW))]


def test_a_good_configuration_has_no_problems_and_nothing_is_made(tmp_path: Path) -> None:
    """interfaces.md 1: a spool or log folder that is missing is no error here."""
    path = conf(tmp_path)
    before = sorted(tmp_path.iterdir())
    assert said(path) == []
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("extra", "domain", "text"),
    [
        ("", 'routes = ( "__mx__" )', "mail routing does not lead to Apple"),
        ("", 'apn_auth_key = "{folder}/gone.p8"', "gone.p8"),
        ('apn_reasons_file = "{folder}/gone.yaml"', "", "cannot be read (no such file or directory)"),
        ('apn_logger "two" { logfile = "x" log_delivery_format = "%{nope}" }', "", "%{nope}"),
        (
            'esmtp_listener "tls" { listen "127.0.0.1:0" { tls_certificate = "{folder}/gone.pem" } }',
            "",
            "gone.pem",
        ),
    ],
)
def test_every_room_is_asked(tmp_path: Path, extra: str, domain: str, text: str) -> None:
    problems = said(conf(tmp_path, *(text.replace("{folder}", str(tmp_path)) for text in (extra, domain))))
    errors = [problem for problem in problems if "warning:" not in problem]
    assert len(errors) == 1
    assert text in errors[0]
    assert errors[0].startswith(str(tmp_path / "ecelerity.conf"))


def test_problems_come_sorted_by_place_and_once(tmp_path: Path) -> None:
    group = 'binding_group "g" { binding "b" { } }'
    extra = f'apn_reasons_file = "{tmp_path}/gone.yaml" {group}'
    problems = validate(load(conf(tmp_path, extra, 'routes = ( "__mx__" )')), ManualClock(NOW))
    assert problems == sorted(set(problems))
    assert len(problems) == 2


@pytest.mark.parametrize(
    ("extra", "domain", "option"),
    [
        ("", "scope_max_outbound_connections = 3", "scope_max_outbound_connections"),
        ("server_max_outbound_connections = 3", "", "server_max_outbound_connections"),
    ],
)
def test_options_of_a_later_version_are_warned_of_where_they_stand(
    tmp_path: Path, extra: str, domain: str, option: str
) -> None:
    problems = validate(load(conf(tmp_path, extra, domain)), ManualClock(NOW))
    (problem,) = [problem for problem in problems if option in problem.what]
    assert problem.is_warning
    assert problem.place.line > 0


def test_defaults_are_not_warned_of(tmp_path: Path) -> None:
    assert said(conf(tmp_path, "receivers = 0", 'blackhole = "false"')) == []


# --- the reason table


def test_the_built_in_table_is_read(tmp_path: Path) -> None:
    table = read_reasons(load(conf(tmp_path)))
    assert table.lookup(410, "Unregistered").action is Action.PERMFAIL


def test_an_operators_row_lies_over_it(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("- {status: 410, reason: Unregistered, action: tempfail}\n")
    table = read_reasons(load(conf(tmp_path, f'apn_reasons_file = "{tmp_path}/mine.yaml"')))
    assert table.lookup(410, "Unregistered").action is Action.TEMPFAIL


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"- {status: 410, reason: Unregistered, action: shrug}\n", "mine.yaml:1:"),
        (b"\xff\xfe", "not utf-8"),
    ],
)
def test_a_row_or_file_that_is_wrong_is_named(tmp_path: Path, content: bytes, text: str) -> None:
    (tmp_path / "mine.yaml").write_bytes(content)
    config = load(conf(tmp_path, f'apn_reasons_file = "{tmp_path}/mine.yaml"'))
    with pytest.raises(ConfigError) as caught:
        read_reasons(config)
    assert text in str(caught.value)
