"""The unit: what systemd is told about the daemon (momentum.md 10.4, interfaces.md 1)."""

import os
import shutil
import subprocess
from collections import defaultdict
from pathlib import Path

import pytest

UNIT = Path(__file__).parent.parent / "systemd" / "momentum-push.service"
PROGRAM = "/opt/momentum-push/bin/momentum-push"
CONF = "/etc/momentum-push/ecelerity.conf"
DRAIN_TIMEOUT_S = 15


def read_unit(text: str) -> dict[str, dict[str, list[str]]]:
    """Sections → keys → all values; configparser would drop repeated keys."""
    sections: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    section = ""
    for line in map(str.strip, text.splitlines()):
        if line.startswith("["):
            section = line.strip("[]")
        elif line and not line.startswith("#"):
            key, _, value = line.partition("=")
            sections[section][key].append(value)
    return sections


@pytest.fixture(scope="module")
def unit():
    return read_unit(UNIT.read_text())


@pytest.fixture(scope="module")
def service(unit):
    return unit["Service"]


def one(service, key):
    (value,) = service[key]
    return value


def test_the_daemon_says_when_it_is_ready_and_alive(service):
    assert one(service, "Type") == "notify"
    assert one(service, "WatchdogSec") == "60"
    assert one(service, "Restart") == "on-failure"


def test_a_broken_configuration_neither_starts_nor_reloads(service):
    check = f"{PROGRAM} check -c {CONF}"
    assert service["ExecStartPre"] == [check]
    assert service["ExecReload"] == [check, "/bin/kill -HUP $MAINPID"]
    assert one(service, "ExecStart") == f"{PROGRAM} serve -c {CONF}"


def test_stopping_leaves_time_for_the_drain(service):
    assert int(one(service, "TimeoutStopSec")) > 2 * DRAIN_TIMEOUT_S
    assert one(service, "KillMode") == "mixed"


def test_it_runs_as_its_own_user_in_its_own_folders(service):
    assert one(service, "User") == one(service, "Group") == "momentum-push"
    for folder in ("State", "Logs", "Runtime", "Configuration"):
        assert one(service, f"{folder}Directory") == "momentum-push"
    assert one(service, "ReadWritePaths") == "-/var/spool/momentum-push"


def test_binding_low_ports_is_its_only_privilege(service):
    assert (
        one(service, "AmbientCapabilities") == one(service, "CapabilityBoundingSet") == "CAP_NET_BIND_SERVICE"
    )
    assert one(service, "NoNewPrivileges") == "yes"
    assert int(one(service, "LimitNOFILE")) >= 65536


def test_it_starts_with_the_machine(unit):
    assert unit["Install"]["WantedBy"] == ["multi-user.target"]
    assert unit["Unit"]["Wants"] == ["network-online.target"]


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["systemd-analyze", *arguments], capture_output=True, text=True, timeout=30)


needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze here")


@pytest.fixture
def startable(tmp_path):
    """The unit with a program that exists here: verify looks for the files it names."""
    path = tmp_path / UNIT.name
    program = shutil.which("true") or "/bin/true"
    path.write_text(UNIT.read_text().replace(PROGRAM, os.path.realpath(program)))
    return path


@needs_systemd
def test_systemd_finds_no_fault_in_the_unit(startable):
    result = analyze("verify", "--man=no", str(startable))
    ours = [line for line in result.stderr.splitlines() if UNIT.name in line]
    assert result.returncode == 0 and not ours, result.stderr


@needs_systemd
def test_systemd_would_find_a_fault(startable):
    startable.write_text(startable.read_text().replace("WatchdogSec=60", "WatchdogSec=soon"))
    assert f"{UNIT.name}:" in analyze("verify", "--man=no", str(startable)).stderr


@needs_systemd
def test_the_sandbox_is_tight(startable):
    result = analyze("security", "--offline=true", "--threshold=25", str(startable))
    if "offline" in result.stderr:
        pytest.skip("this systemd-analyze cannot score a file")
    assert result.returncode == 0, result.stdout.splitlines()[-1]
