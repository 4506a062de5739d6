"""`check`: what it prints and how it ends (interfaces.md 1)."""

from click.testing import CliRunner

from momentum_push.cli import check
from momentum_push.errors import ConfigError, Place, Problem


def run(*args, env=None):
    return CliRunner().invoke(check.command, args, env=env)


def conf(tmp_path, text):
    path = tmp_path / "push.conf"
    path.write_text(text)
    return path


def test_a_valid_configuration_is_said_to_be_valid(tmp_path):
    result = run("-c", str(conf(tmp_path, "retry_interval = 60\n")))
    assert (result.exit_code, result.stdout) == (0, "Configuration valid\n")


def test_errors_are_printed_sorted_one_a_line_and_the_status_is_1(tmp_path):
    path = conf(
        tmp_path, 'snmp { }\nmcmt_reception = "allow"\ndomain "apn.example.com" {\n  max_conections = 1\n}\n'
    )
    result = run("-c", str(path))
    assert result.exit_code == 1
    assert result.stdout.splitlines() == [
        f'{path}:1:1: warning: stanza "snmp" has no use in a push daemon; it is ignored',
        f'{path}:2:1: option "mcmt_reception" is not legal in global scope; '
        "it belongs in esmtp_listener, listen, peer, pathway or pathway_group",
        f'{path}:4:3: unknown option "max_conections" in domain "apn.example.com"; '
        'did you mean "max_outbound_connections"?',
    ]


def test_warnings_are_printed_and_do_not_change_the_status(tmp_path):
    path = conf(tmp_path, "gcm_ttl = 3\n")
    result = run("-c", str(path))
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        f'{path}:1:1: warning: option "gcm_ttl" has no use in a push daemon; it is ignored',
        "Configuration valid",
    ]


def test_a_missing_file_is_named(tmp_path):
    result = run("-c", str(tmp_path / "gone.conf"))
    assert result.exit_code == 1
    assert result.stdout == (
        f"{tmp_path}/gone.conf: the file cannot be read (no such file or directory); "
        "create it or correct the name\n"
    )


def test_without_c_the_search_path_is_walked(tmp_path):
    (tmp_path / "ecelerity.conf").write_text("")
    assert run(env={"EC_CONF_SEARCH_PATH": str(tmp_path)}).exit_code == 0


def test_no_configuration_at_all_is_said_on_stderr(tmp_path, monkeypatch):
    monkeypatch.setattr("momentum_push.config.loader.DEFAULT_FILE", tmp_path / "none.conf")
    result = run(env={"EC_CONF_SEARCH_PATH": str(tmp_path)})
    assert (result.exit_code, result.stderr) == (1, "No configuration found\n")


def test_other_rooms_problems_count(tmp_path, monkeypatch):
    path = conf(tmp_path, "")
    problem = Problem(Place(str(path), 9, 1), "tls_key cannot be read", "make it readable")
    monkeypatch.setattr(check, "VALIDATORS", [lambda config: [problem]])
    result = run("-c", str(path))
    assert (result.exit_code, result.stdout) == (1, f"{path}:9:1: tls_key cannot be read; make it readable\n")


def test_a_problem_that_two_rooms_find_is_printed_once(capsys):
    problem = Problem(Place("x", 1, 1), "bad", "fix it")
    assert check.report(ConfigError([problem]), [problem]) == 1
    assert capsys.readouterr().out == "x:1:1: bad; fix it\n"


def test_help_has_an_example():
    assert "Example: momentum-push check -c" in run("--help").stdout
