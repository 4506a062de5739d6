"""`momentum-push simulate`, as a process."""

import contextlib
import json
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from momentum_push.cli.simulate import command
from tests.helpers.apns import provider_key

MAIN = "from momentum_push.cli.simulate import command; command()"


@contextlib.contextmanager
def simulate(*options: str) -> Iterator[tuple[subprocess.Popen[str], str, int]]:
    """Start the command; give the process, its first line, and its port."""
    process = subprocess.Popen([sys.executable, "-c", MAIN, *options], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        yield process, line, int(line.split(",")[0].rpartition(":")[2])
    finally:
        process.kill()
        process.wait(10)


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_says_where_it_listens_serves_and_ends_with_nought(tmp_path: Path, number: signal.Signals) -> None:
    folder, ledger, faults = tmp_path / "certs", tmp_path / "ledger.jsonl", tmp_path / "faults.yaml"
    faults.write_text("devices: [{token: '00ff', state: dead, since: 1767600000}]")
    options = [
        "--listen",
        "127.0.0.1:0",
        "--cert-dir",
        folder,
        "--ledger",
        ledger,
        "--faults",
        faults,
        "--payloads",
    ]
    with simulate(*map(str, options)) as (process, line, port):
        assert line == f"listening on 127.0.0.1:{port}, CA in {folder}/ca.pem\n"
        said = subprocess.run(
            ["curl", "-sS", "--http2", "--cacert", folder / "ca.pem", "-d", '{"aps":{}}', "--max-time", "5",
             "-H", "apns-topic: com.example.news", "-H", f"authorization: {provider_key(tmp_path).bearer()}",
             f"https://localhost:{port}/3/device/00ff"],
            capture_output=True, text=True, timeout=10, check=True,
        )  # fmt: skip
        assert said.stdout == '{"reason":"Unregistered","timestamp":1767600000000}'
        process.send_signal(number)
        assert process.wait(10) == 0
    entry = json.loads(ledger.read_text())
    assert (entry["token"], entry["reason"], entry["payload"]) == ("00ff", "Unregistered", '{"aps":{}}')


def test_it_may_listen_in_several_places(tmp_path: Path) -> None:
    options = ["--listen", "127.0.0.1:0", "--listen", "127.0.0.1:0", "--cert-dir", str(tmp_path)]
    with simulate(*options) as (_, line, port):
        first, second = line.removeprefix("listening on ").split(",")[0].split()
        assert second == f"127.0.0.1:{port}"
        for address in (first, second):
            host, _, number = address.rpartition(":")
            socket.create_connection((host, int(number)), 5).close()


def test_a_bad_fault_file_is_status_one_and_one_line_a_problem(tmp_path: Path) -> None:
    (tmp_path / "f.yaml").write_text("seed: x\nrule: []\n")
    options = ["--cert-dir", str(tmp_path / "c"), "--faults", str(tmp_path / "f.yaml")]
    result = CliRunner().invoke(command, options)
    assert result.exit_code == 1
    lines = result.stderr.splitlines()
    assert lines[0].startswith(f"{tmp_path}/f.yaml:1:7: seed: 'x' will not do; make it")
    assert lines[1].startswith(f'{tmp_path}/f.yaml:2:1: unknown key "rule"')


def test_a_port_that_is_taken_is_status_one_with_a_remedy(tmp_path: Path) -> None:
    with simulate("--listen", "127.0.0.1:0", "--cert-dir", str(tmp_path)) as (_, _, port):
        options = ["--listen", f"127.0.0.1:{port}", "--cert-dir", str(tmp_path)]
        result = CliRunner().invoke(command, options)
    assert result.exit_code == 1
    assert f"cannot start on 127.0.0.1:{port}" in result.stderr
    assert "choose another --listen" in result.stderr


def test_wrong_usage_is_status_two() -> None:
    assert CliRunner().invoke(command, ["--listen", "nowhere"]).exit_code == 2
    assert CliRunner().invoke(command, ["--order", "random"]).exit_code == 2


def test_help_has_an_example_and_the_fault_files_format() -> None:
    said = CliRunner().invoke(command, ["--help"]).output
    for word in (
        "Example:",
        "momentum-push simulate --listen",
        "hang_before_settings",
        "probability",
        "shut_listener",
    ):
        assert word in said
