"""Peers for black-box tests, each a process of its own: the simulator, and nginx as an APNs.

    with running_apns(tmp_path, faults="rules: …") as apns:      momentum-push simulate
        apns.port, apns.credential                                 conf lines for a provider key
        apns.accepted()                                            tokens of accepted requests, in order
    with running_nginx(tmp_path) as apns:                        nothing of ours in it

A server that is not installed skips the test with the reason, but in CI, where it must be there, the
test fails instead: `.ci/run` installs them.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from momentum_push.simulator import make_provider_key, make_server_certificate
from tests.helpers.daemon import WAIT_S, until

__all__ = ["Apns", "free_port", "is_listening", "needs", "running_apns", "running_nginx"]

TEAM = "TEAM123456"


def needs(program: str, package: str = "") -> str:
    """Return the path of a program; skip the test (in CI: fail it) when it is not installed."""
    found = shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if found is None and os.environ.get("CI"):
        raise AssertionError(f"{program} is not installed; .ci/run should have done that")
    if found is None:
        pytest.skip(f"{program} is not installed; on Debian: apt-get install {package or program}")
    return found


def free_port() -> int:
    """Return a port that nobody listens on just now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


@dataclass
class Apns:
    """A peer that plays APNs, its ledger, and how to get in."""

    folder: Path
    port: int
    ledger: Path
    ca: Path
    key: Path
    key_id: str

    @property
    def credential(self) -> str:
        """Conf lines for a provider key."""
        return (
            f'tls_ca = "{self.ca}"\n  apn_auth_key = "{self.key}"\n'
            f'  apn_key_id = "{self.key_id}"\n  apn_team_id = "{TEAM}"'
        )

    def requests(self) -> list[dict[str, Any]]:
        """Return the ledger's whole lines."""
        if not self.ledger.exists():
            return []
        return [json.loads(line) for line in self.ledger.read_text().split("\n")[:-1]]

    def accepted(self) -> list[str]:
        """Return the tokens of accepted requests, in order."""
        return [request["token"] for request in self.requests() if request["status"] == 200]

    def wait_accepted(self, count: int) -> list[str]:
        """Wait until `count` requests were accepted."""
        until(lambda: len(self.accepted()) >= count, f"{count} accepted requests, has {len(self.accepted())}")
        return self.accepted()


def _apns(folder: Path, port: int) -> Apns:
    certificates = folder / "apns"
    ca = make_server_certificate(certificates).ca
    key = folder / "AuthKey.p8"
    key_id = make_provider_key(key)
    return Apns(folder, port, folder / "ledger.json", ca, key, key_id)


@contextlib.contextmanager
def running_apns(folder: Path, faults: str = "", port: int = 0) -> Iterator[Apns]:
    """Run `momentum-push simulate`."""
    apns = _apns(folder, port)
    command = [sys.executable, "-m", "momentum_push", "simulate", "--listen", f"127.0.0.1:{port}"]
    command += ["--cert-dir", str(folder / "apns"), "--ledger", str(apns.ledger)]
    if faults:
        path = folder / "faults.yaml"
        path.write_text(faults)
        command += ["--faults", str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line.startswith("listening on "), line
            apns.port = int(line.split(",")[0].rpartition(":")[2])
            yield apns
        finally:
            process.terminate()
            process.wait(WAIT_S)


NGINX = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log {folder}/nginx-error.log;
events {{ worker_connections 512; }}
http {{
  log_format ledger escape=json '{{"status":$status,"token":"$token","topic":"$http_apns_topic",'
    '"apns_id":"$http_apns_id","push_type":"$http_apns_push_type","priority":"$http_apns_priority",'
    '"expiration":"$http_apns_expiration","authorization":"$http_authorization","size":$request_length}}';
  access_log {folder}/ledger.json ledger;
  client_body_temp_path {folder}/nginx-body;
  proxy_temp_path {folder}/nginx-proxy;
  fastcgi_temp_path {folder}/nginx-fastcgi;
  uwsgi_temp_path {folder}/nginx-uwsgi;
  scgi_temp_path {folder}/nginx-scgi;
  map $uri $token {{ "~^/3/device/(?<digits>[0-9a-f]+)$" $digits; }}
  server {{
    listen 127.0.0.1:{port} ssl http2;
    keepalive_requests 100000000;
    http2_max_concurrent_streams 1000;
    ssl_certificate {folder}/apns/server.pem;
    ssl_certificate_key {folder}/apns/server.key;
    {locations}
    location /3/device/ {{ add_header apns-id $http_apns_id always; return 200; }}
    location / {{ return 404 '{{"reason":"BadPath"}}'; }}
  }}
}}
"""


@contextlib.contextmanager
def running_nginx(folder: Path, locations: str = "") -> Iterator[Apns]:
    """Run nginx as an APNs that accepts everything, but for `locations`; its access log is the ledger."""
    nginx = needs("nginx")
    apns = _apns(folder, free_port())
    conf = folder / "nginx.conf"
    conf.write_text(NGINX.format(folder=folder, port=apns.port, locations=locations))
    with subprocess.Popen([nginx, "-p", str(folder), "-c", str(conf)], stderr=subprocess.DEVNULL) as process:
        try:
            until(lambda: is_listening(apns.port), f"nginx on port {apns.port}")
            yield apns
        finally:
            process.terminate()
            process.wait(WAIT_S)


def is_listening(port: int) -> bool:
    """Whether somebody takes connections on this port."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False
