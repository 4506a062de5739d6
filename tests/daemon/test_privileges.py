"""`security { user … }`: root is given up after the ports are open, and never taken by name alone."""

import grp
import os
import pwd
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from momentum_push.config import loads
from momentum_push.daemon.privileges import drop_privileges, validate
from momentum_push.errors import ConfigError
from tests.helpers.clients import post, tokens
from tests.helpers.daemon import DOMAIN, conf_for, running_daemon
from tests.helpers.servers import running_apns


def test_names_that_this_machine_does_not_know_are_errors_with_their_place() -> None:
    config = loads(
        'security {\n  user = "nobody-here"\n  group = "no-group"\n  supplemental_groups = ( "x-y" )\n}\n'
    )
    missing = [(2, "user", "nobody-here"), (3, "group", "no-group"), (4, "group", "x-y")]
    assert [str(problem) for problem in validate(config)] == [
        f'test.conf:{line}:3: {kind} "{name}" does not exist on this machine; '
        f"create the {kind}, or correct the name"
        for line, kind, name in missing
    ]
    with pytest.raises(ConfigError):
        drop_privileges(config)


def test_without_a_stanza_nothing_changes() -> None:
    before = os.getresuid()
    drop_privileges(loads(""))
    assert os.getresuid() == before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give up root")
def test_root_is_given_up_whole_in_a_child() -> None:
    program = (
        "import os\nfrom momentum_push.config import loads\n"
        "from momentum_push.daemon.privileges import drop_privileges\n"
        "drop_privileges(loads('security { user = \"nobody\" }'))\n"
        "print(os.getresuid(), os.getresgid(), os.getgroups())"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    uid, gid = pwd.getpwnam("nobody").pw_uid, pwd.getpwnam("nobody").pw_gid
    assert done.stdout.strip() == f"{(uid,) * 3} {(gid,) * 3} []"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can open such ports and give up root")
def test_a_daemon_with_a_low_port_runs_as_its_user(tmp_path: Path) -> None:
    if not all(map(is_readable_by_others, (Path(sys.base_prefix), Path(sys.prefix)))):
        pytest.skip("this Python cannot be read by another user, who then cannot run the daemon")
    port = next(port for port in range(1023, 600, -1) if is_free(port))
    with running_apns(tmp_path) as apns:
        group = grp.getgrgid(pwd.getpwnam("nobody").pw_gid).gr_name
        extra = f'security {{ user = "nobody"  group = "{group}" }}'
        conf = conf_for(tmp_path, apns.port, apns.credential, extra_global=extra)
        conf = conf.replace(
            'http_listener  { listen "127.0.0.1:0"', f'http_listener  {{ listen "127.0.0.1:{port}"'
        )
        for path in (tmp_path, *tmp_path.rglob("*")):
            os.chown(path, pwd.getpwnam("nobody").pw_uid, -1)
        for parent in tmp_path.parents[:2]:
            parent.chmod(parent.stat().st_mode | 0o011)
        with running_daemon(tmp_path, conf) as daemon:
            status = Path(f"/proc/{daemon.process.pid}/status").read_text()
            assert f"Uid:\t{pwd.getpwnam('nobody').pw_uid}\t" in status
            assert daemon.http_port == port
            body = {"domain": DOMAIN, "device_tokens": tokens(3), "payload": {"aps": {}}}
            assert post(daemon, body)[1]["accepted"] == 3
            apns.wait_accepted(3)


def is_readable_by_others(path: Path) -> bool:
    return all(folder.stat().st_mode & 0o001 for folder in (path, *path.parents))


def is_free(port: int) -> bool:
    with socket.socket() as sock:
        try:
            sock.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
