"""HTTP proxies for tests: one that does what the test says, and tinyproxy.

async with scripted(b"HTTP/1.1 407 No\\r\\n\\r\\n") as proxy:       asks nobody, says that and closes
    proxy.port, proxy.heads
async with scripted(ESTABLISHED, leads_to=port) as proxy:          says that, then carries bytes to `port`
with running_tinyproxy(tmp_path) as proxy:                         nothing of ours in it
    proxy.port, proxy.stop(), proxy.start(), proxy.log()
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.helpers.daemon import WAIT_S, until
from tests.helpers.servers import free_port, is_listening, needs

__all__ = ["ESTABLISHED", "Scripted", "Tinyproxy", "running_tinyproxy", "scripted"]

ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"


@dataclass
class Scripted:
    """A proxy on a port of its own."""

    port: int = 0
    heads: list[bytes] = field(default_factory=list)
    """What each client said up to the blank line."""
    writers: list[asyncio.StreamWriter] = field(default_factory=list)

    def cut(self) -> None:
        """Break all connections, as a proxy that is killed does."""
        for writer in self.writers:
            writer.transport.abort()


@contextlib.asynccontextmanager
async def scripted(
    *pieces: bytes, leads_to: int = 0, host: str = "127.0.0.1", stays: bool = False
) -> AsyncIterator[Scripted]:
    """Answer each CONNECT with `pieces`, one write each; then carry bytes, stay silent, or close."""
    proxy = Scripted()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        proxy.writers.append(writer)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            proxy.heads.append(await reader.readuntil(b"\r\n\r\n"))
            await _say(writer, pieces)
            if leads_to:
                await _carry(proxy, reader, writer, leads_to)
            elif stays:
                await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, host, 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        proxy.cut()


async def _say(writer: asyncio.StreamWriter, pieces: Sequence[bytes]) -> None:
    for piece in pieces:
        writer.write(piece)
        await writer.drain()
        await asyncio.sleep(0)


async def _carry(
    proxy: Scripted, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int
) -> None:
    inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", port)
    proxy.writers.append(inner_writer)
    await asyncio.gather(_pipe(reader, inner_writer), _pipe(inner_reader, writer))


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


# --- tinyproxy


TINYPROXY = """
Port {port}
Listen 127.0.0.1
Timeout 600
LogFile "{folder}/tinyproxy.log"
LogLevel Connect
MaxClients 100
Allow 127.0.0.1
{options}
"""


@dataclass
class Tinyproxy:
    """A tinyproxy that can be killed and started again on its port."""

    folder: Path
    port: int
    options: str
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Run it, and wait until it takes connections."""
        conf = self.folder / "tinyproxy.conf"
        conf.write_text(TINYPROXY.format(port=self.port, folder=self.folder, options=self.options))
        command = [needs("tinyproxy"), "-d", "-c", str(conf)]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until(lambda: is_listening(self.port), f"tinyproxy on port {self.port}")

    def stop(self) -> None:
        """Kill it, and with it every connection that it carries."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(WAIT_S)

    def log(self) -> str:
        """Return what it has logged."""
        return (self.folder / "tinyproxy.log").read_text()


@contextlib.contextmanager
def running_tinyproxy(folder: Path, options: str = "") -> Iterator[Tinyproxy]:
    """Run tinyproxy; `options` are lines of its configuration."""
    proxy = Tinyproxy(folder, free_port(), options)
    proxy.start()
    try:
        yield proxy
    finally:
        proxy.stop()
