"""What `scripts/bench wire` sends to: nginx, nghttpd with Apple's window, and a long way to either.

    with nginx(folder, files, body) as peer:          peer.port, peer.cpu() in seconds
    with nghttpd(folder, files) as peer:              -w 16 -W 16: windows of 65,535 bytes, as Apple's
    with relay(peer, round_trip_ms=100) as far:       the same peer, half a round trip away

nginx counts what it discards as a flood: after thousands of bodies of 4,000 bytes that `return 200` did not
read, any client gets a GOAWAY. So large bodies are read, by `mirror`, for all clients alike; small ones are
discarded, because what reading a body costs nginx grows with the number that the connection has seen.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.helpers.daemon import until
from tests.helpers.lists import token_of
from tests.helpers.peer import Pki
from tests.helpers.servers import free_port, is_listening, needs

__all__ = ["SMALL", "TOKENS", "Peer", "nghttpd", "nginx", "relay"]

STOP_S = 10.0
TOKENS = 8192
"""Different device tokens that clients send to."""
SMALL = 1000
"""Bytes of a body up to which nginx may discard it: headers outweigh it in nginx's count."""

CONF = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log {folder}/nginx-error.log;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  server {{
    listen 127.0.0.1:{port} ssl http2;
    keepalive_requests 100000000;
    http2_max_concurrent_streams 1000;
    client_body_buffer_size 16k;
    ssl_certificate {pem};
    ssl_certificate_key {pem};
    location /3/device/ {{ {answer} }}
    location @ok {{ add_header apns-id $http_apns_id always; return 200; }}
    location = /copy {{ internal; return 204; }}
  }}
}}
"""
DISCARD = "add_header apns-id $http_apns_id always; return 200;"
READ = "mirror /copy; error_page 405 =200 @ok; stub_status;"
"""`stub_status` refuses POST with 405, after `mirror` has read the body; `return` would come before."""


@dataclass
class Peer:
    """A running server or relay."""

    name: str
    port: int
    pid: int

    def cpu(self) -> float:
        """Return the seconds of CPU that it has used."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def nginx(folder: Path, files: Pki, body: int) -> Iterator[Peer]:
    """Run nginx for bodies of `body` bytes; it answers 200 with the request's `apns-id`."""
    program, port = needs("nginx"), free_port()
    conf = folder / "nginx.conf"
    answer = DISCARD if body <= SMALL else READ
    conf.write_text(CONF.format(folder=folder, port=port, pem=files.server, answer=answer))
    command = [program, "-p", str(folder), "-c", str(conf)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process, _ended(process):
        until(lambda: is_listening(port), f"nginx on port {port}")
        yield Peer("nginx", port, process.pid)


@contextmanager
def nghttpd(folder: Path, files: Pki) -> Iterator[Peer]:
    """Run nghttpd with Apple's windows; it answers 200, by an empty file for each token."""
    program, port = needs("nghttpd", "nghttp2-server"), free_port()
    devices = folder / "3" / "device"
    devices.mkdir(parents=True)
    for number in range(TOKENS + 1):
        (devices / token_of(number)).touch()
    command = [program, "-a", "127.0.0.1", "-d", str(folder), "-w16", "-W16", "-m1000"]
    command += [str(port), str(files.server), str(files.server)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process, _ended(process):
        until(lambda: is_listening(port), f"nghttpd on port {port}")
        yield Peer("nghttpd", port, process.pid)


@contextmanager
def relay(peer: Peer, round_trip_ms: float) -> Iterator[Peer]:
    """Run a relay to `peer`."""
    command = [sys.executable, "-m", "tests.bench.relay", str(peer.port), str(round_trip_ms)]
    with (
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process,
        _ended(process),
    ):
        assert process.stdout is not None
        port = int(process.stdout.readline())
        yield Peer(f"{peer.name}, {round_trip_ms:g} ms away", port, process.pid)


@contextmanager
def _ended(process: subprocess.Popen[str] | subprocess.Popen[bytes]) -> Iterator[None]:
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
