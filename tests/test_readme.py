"""The README says what the program does: its tables agree with the program's own."""

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from momentum_push.cli import _group
from momentum_push.config import OPTIONS, Option

TEXT = (Path(__file__).parents[1] / "README.md").read_text()
ROWS = {
    match[1]: [cell.strip() for cell in match[0].strip("|\n").split("|")]
    for match in re.finditer(r"^\| `([a-z_]+)` \|[^\n]*\n", TEXT, re.MULTILINE)
}

ADDED = """apn_topic apn_topics apn_auth_key apn_key_id apn_team_id apn_push_type apn_priority
apn_strict_payload max_streams_per_connection max_outbound_connection_age
max_connects_per_minute apn_unknown_outcome apn_dead_token_limit collapse_waiting delivery_weight
apn_ping_interval apn_push_types apn_reasons_file allow_insecure_tls drain_timeout log_device_tokens"""


def default_of(row: Option) -> str:
    if row.default in ("", [], None):
        return "none"
    return str(row.default).lower() if isinstance(row.default, bool) else str(row.default)


@pytest.mark.parametrize("name", ADDED.split())
def test_options_that_momentum_did_not_have_are_listed(name: str) -> None:
    assert name in ROWS


@pytest.mark.parametrize("name", ROWS)
def test_listed_options_have_the_scopes_and_defaults_of_the_table(name: str) -> None:
    row = next(row for row in OPTIONS if row.name == name)
    assert ROWS[name][1:3] == [", ".join(row.scopes), default_of(row)]


def test_no_placeholder_is_left() -> None:
    assert not re.search(r"^@[A-Z]+@$", TEXT, re.MULTILINE)


@pytest.mark.parametrize("name", ["serve", "check", "dump-config", "inject", "simulate", "spool", "demo"])
def test_every_command_has_help_with_an_example(name: str) -> None:
    assert f"`{name}`" in TEXT or f"momentum-push {name}" in TEXT
    answer = CliRunner().invoke(_group, [name, "--help"])
    assert answer.exit_code == 0
    assert f"momentum-push {name}" in answer.output
    assert "Example" in answer.output
