"""What `scripts/bench e2e` runs beside the daemon: nginx as APNs, a bare aiosmtpd; and what reads."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from momentum_push.simulator import make_provider_key, make_server_certificate
from tests.bench.procs import Process
from tests.helpers.daemon import until
from tests.helpers.servers import TEAM, free_port, is_listening, needs

__all__ = ["DEADLINE_S", "SMALL_DOMAIN", "TOPIC", "Peer", "Tail", "bare", "lines_after", "nginx", "python"]

TOPIC = "com.example.ferry"
DEADLINE_S = 900.0

NGINX = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log {folder}/nginx-error.log;
events {{ worker_connections 512; }}
http {{
  log_format due '$msec $uri';
  map $http_apns_topic $is_timed {{ default 0; "{topic}" 1; }}
  access_log {folder}/timed.log due buffer=64k flush=1s if=$is_timed;
  client_body_temp_path {folder}/nginx-body;
  proxy_temp_path {folder}/nginx-proxy;
  fastcgi_temp_path {folder}/nginx-fastcgi;
  uwsgi_temp_path {folder}/nginx-uwsgi;
  scgi_temp_path {folder}/nginx-scgi;
  server {{
    listen 127.0.0.1:{port} ssl http2;
    keepalive_requests 100000000;
    http2_max_concurrent_streams 1000;
    ssl_certificate {folder}/apns/server.pem;
    ssl_certificate_key {folder}/apns/server.key;
    location /3/device/ {{ add_header apns-id $http_apns_id always; return 200; }}
  }}
}}
"""
"""Only the small domain's requests are logged, with the time: a log line for each would be nginx's cost."""

SMALL_DOMAIN = """
domain "{domain}" {{
  delivery_method = "apn"
  routes          = ( "apn://localhost?port={port}" )
  apn_topic       = "{topic}"
  {credential}
}}
"""


@dataclass
class Peer:
    """nginx, and conf lines for a provider key."""

    port: int
    credential: str
    process: Process


class Tail:
    """Counts D records as they are written."""

    def __init__(self, path: Path) -> None:
        self._path, self._at, self.count = path, 0, 0

    def look(self) -> int:
        """Return the number of D records so far."""
        if not self._path.exists():
            return 0
        with self._path.open("rb") as file:
            file.seek(self._at)
            while data := file.read(1 << 22):
                whole = data.rfind(b"\n") + 1
                self.count += data.count(b"@D@", 0, whole)
                self._at += whole
                file.seek(self._at)
                if not whole:
                    break
        return self.count


def lines_after(path: Path, start: int) -> int:
    """Return the lines of a log from byte `start` on."""
    if not path.exists():
        return 0
    with path.open("rb") as file:
        file.seek(start)
        return file.read().count(b"\n")


def python(module: str, order: dict[str, Any]) -> str:
    """Run a module as a process, with its order as JSON; return what it prints."""
    command = [sys.executable, "-m", module, json.dumps(order)]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=DEADLINE_S).stdout


@contextmanager
def bare() -> Iterator[int]:
    """Run the bare handler; gives its port."""
    command = [sys.executable, "-m", "tests.bench.bare"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        try:
            assert process.stdout is not None
            yield int(process.stdout.readline())
        finally:
            process.kill()


@contextmanager
def nginx(folder: Path) -> Iterator[Peer]:
    """Run nginx as an APNs that accepts everything; it ends with the block."""
    port = free_port()
    ca = make_server_certificate(folder / "apns").ca
    key_id = make_provider_key(folder / "AuthKey.p8")
    credential = (
        f'tls_ca = "{ca}"\n  apn_auth_key = "{folder}/AuthKey.p8"\n'
        f'  apn_key_id = "{key_id}"\n  apn_team_id = "{TEAM}"'
    )
    conf = folder / "nginx.conf"
    conf.write_text(NGINX.format(folder=folder, port=port, topic=TOPIC))
    command = [needs("nginx"), "-p", str(folder), "-c", str(conf)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            until(lambda: is_listening(port), f"nginx on port {port}")
            yield Peer(port, credential, Process(process.pid))
        finally:
            process.kill()
