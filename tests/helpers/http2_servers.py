"""HTTP/2 servers that nobody here wrote, each a process of its own: nginx, nghttpd, Node's http2.

with running_node(files) as node:          how it behaves is said by each request's collapse id
    node.port, node.requests()
with running_nghttpd(files, tmp_path) as port:      answers everything with 200
with running("nginx", files, tmp_path) as port:     one of the three by name
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from tests.helpers.daemon import WAIT_S, until
from tests.helpers.peer import Pki
from tests.helpers.servers import NGINX, free_port, is_listening, needs

__all__ = ["SERVERS", "Node", "running", "running_nghttpd", "running_node"]

SERVERS = ("nginx", "nghttpd", "node")


@dataclass
class Node:
    """A running `http2_server.js`, and the requests that it has seen."""

    port: int
    lines: list[str] = field(default_factory=list)

    def requests(self) -> list[dict[str, Any]]:
        """Return `headers`, `never` (indexed names), `size` of the body and `open` streams, in order."""
        return [json.loads(line) for line in self.lines]


@contextlib.contextmanager
def running_node(files: Pki, settings: dict[str, int] | None = None, padding: int = 0) -> Iterator[Node]:
    """Run Node's http2 as an APNs; `settings` in Node's words, `padding` 2: as much as fits."""
    node = needs("node", package="nodejs")
    options = {"pem": str(files.server), "settings": settings or {}, "padding": padding}
    script = Path(__file__).with_name("http2_server.js")
    command = [node, str(script), json.dumps(options)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            assert process.stdout is not None
            server = Node(int(process.stdout.readline()))
            threading.Thread(target=_collect, args=(process.stdout, server.lines), daemon=True).start()
            yield server
        finally:
            process.kill()
            process.wait(WAIT_S)


def _collect(stream: IO[str], lines: list[str]) -> None:
    with contextlib.suppress(ValueError):  # closed while we read: the process was ended
        lines.extend(stream)


@contextlib.contextmanager
def running_nghttpd(files: Pki, folder: Path, *options: str) -> Iterator[int]:
    """Run nghttpd, which answers every POST with 200; `options` are its own."""
    nghttpd = needs("nghttpd", package="nghttp2-server")
    port = free_port()
    root = folder / "htdocs" / "3" / "device"
    root.mkdir(parents=True)
    command = [nghttpd, "-a", "127.0.0.1", "-d", str(folder / "htdocs"), "--echo-upload", *options]
    command += [str(port), str(files.server), str(files.server)]
    with _serving(command, port):
        yield port


@contextlib.contextmanager
def running_plain_nginx(files: Pki, folder: Path) -> Iterator[int]:
    """Run nginx with the test's own certificate."""
    nginx = needs("nginx")
    port = free_port()
    (folder / "apns").mkdir()
    for name in ("server.pem", "server.key"):
        (folder / "apns" / name).write_bytes(files.server.read_bytes())
    conf = folder / "nginx.conf"
    conf.write_text(NGINX.format(folder=folder, port=port, locations=""))
    with _serving([nginx, "-p", str(folder), "-c", str(conf)], port):
        yield port


@contextlib.contextmanager
def running(name: str, files: Pki, folder: Path) -> Iterator[int]:
    """Run one of SERVERS; it answers every request with 200."""
    if name == "node":
        with running_node(files) as node:
            yield node.port
    else:
        run = {"nginx": running_plain_nginx, "nghttpd": running_nghttpd}[name]
        with run(files, folder) as port:
            yield port


@contextlib.contextmanager
def _serving(command: list[str], port: int) -> Iterator[None]:
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            until(lambda: is_listening(port), f"{command[0]} on port {port}")
            yield
        finally:
            process.terminate()
            process.wait(WAIT_S)
