"""The simulator as a whole: certificates, listening socket, connections, ledger.

async with Simulator(cert_dir=folder) as simulator:
    …  connect to ("localhost", simulator.port), trusting simulator.ca_path
    simulator.requests
"""

import asyncio
import ssl
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Self

from momentum_push.simulator.certificates import make_server_certificate
from momentum_push.simulator.connection import Connection
from momentum_push.simulator.devices import Device, Devices
from momentum_push.simulator.faults import FaultPicker, Faults
from momentum_push.simulator.floor import Clock, Floor
from momentum_push.simulator.ledger import ConnectionEntry, Entry, Ledger
from momentum_push.simulator.request import Policy

__all__ = ["Simulator"]

_HANDSHAKE_S = 10.0
_STOP_S = 5.0
_BACKLOG = 1024


class _SystemClock:
    def now(self) -> float:
        return time.time()


class Simulator:
    """An APNs to talk to.

    Attributes:
        port: that it listens on, once started.
        ca_path: the CA that a client must trust.
        ledger: everything that came; see there. The properties below are its parts.
    """

    def __init__(
        self,
        listen: str = "127.0.0.1:0",
        cert_dir: Path | None = None,
        ledger: Path | None = None,
        faults: Faults | None = None,
        *,
        policy: Policy | None = None,
        clock: Clock | None = None,
        keep_requests: int = 100_000,
        keeps_payload: bool = False,
        is_plain: bool = False,
    ) -> None:
        """Prepare; nothing is opened before `start`.

        Args:
            listen: `HOST:PORT`, port 0 for one that is free; `[::1]:PORT` for IPv6.
            cert_dir: CA and certificates are made or found there; None: a temporary folder.
            ledger: file to which JSON lines are appended.
            policy: what is checked and how strictly.
            clock: of provider token ages, of 410s and of the ledger.
            keep_requests: how many of the latest entries stay in `requests` (up to twice as many do).
            keeps_payload: whether entries hold the payload's text beside its hash.
            is_plain: HTTP/2 without TLS, for measuring.
        """
        host, _, port = listen.rpartition(":")
        self._host, self.port = host.strip("[]") or "127.0.0.1", int(port)
        self._folder = cert_dir
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        self._is_plain = is_plain
        self._server: asyncio.Server | None = None
        self._connections: set[Connection] = set()
        self.ledger = Ledger(ledger, keep_requests, keeps_payload)
        faults = faults or Faults()
        self._floor = Floor(
            ledger=self.ledger,
            policy=policy or Policy(),
            devices=Devices(faults.devices),
            faults=faults,
            picker=FaultPicker(faults),
            clock=clock or _SystemClock(),
        )

    def __repr__(self) -> str:
        return (
            f"<simulator {self.address}: {len(self._connections)} connections, "
            f"{self.ledger.total} requests, {self.ledger.accepted.total()} accepted>"
        )

    async def start(self) -> None:
        """Make certificates where there are none, and listen."""
        if self._folder is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="apns-simulator-")
            self._folder = Path(self._temporary.name)
        context = None if self._is_plain else _context(self._folder)
        self._server = await asyncio.get_running_loop().create_server(
            self._connect,
            self._host,
            self.port,
            ssl=context,
            backlog=_BACKLOG,
            ssl_handshake_timeout=_HANDSHAKE_S if context else None,
            ssl_shutdown_timeout=_STOP_S if context else None,
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Stop listening, end all connections, close the ledger."""
        if self._server is not None:
            self._server.close()
            self._server = None
        ending = [connection.wait_ended() for connection in self._connections]
        self.drop_connections()
        await asyncio.wait_for(asyncio.gather(*ending), _STOP_S)
        self.ledger.close()
        if self._temporary is not None:
            self._temporary.cleanup()
            self._temporary = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.stop()

    @property
    def address(self) -> str:
        """`HOST:PORT` as a route would have it."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"{host}:{self.port}"

    @property
    def cert_dir(self) -> Path:
        """Where CA and certificates are; known once started."""
        if self._folder is None:
            raise RuntimeError("the simulator has not been started")
        return self._folder

    @property
    def ca_path(self) -> Path:
        """The CA's certificate, PEM."""
        return self.cert_dir / "ca.pem"

    @property
    def requests(self) -> list[Entry]:
        """The latest requests, decided ones only."""
        return self.ledger.requests

    @property
    def connections(self) -> list[ConnectionEntry]:
        """Every connection since the start, open or not."""
        return self.ledger.connections

    @property
    def accepted(self) -> Counter[str]:
        """How often a push to each token was processed."""
        return self.ledger.accepted

    @property
    def open_connections(self) -> int:
        """How many clients are connected now."""
        return len(self._connections)

    def put_device(self, device: Device) -> None:
        """Change the fate of a token while the simulator runs."""
        self._floor.devices.put(device)

    def use_faults(self, faults: Faults) -> None:
        """Exchange rules and limits while it runs; devices of `faults` are added to those that are known."""
        self._floor.faults, self._floor.picker = faults, FaultPicker(faults)
        for device in faults.devices:
            self._floor.devices.put(device)

    def drop_connections(self) -> None:
        """Cut every connection, as a failing network would."""
        for connection in list(self._connections):
            connection.abort()

    def _connect(self) -> Connection:
        return Connection(self._floor, self._is_plain, self._connections)


def _context(folder: Path) -> ssl.SSLContext:
    """Apple's side of TLS (apns.md 1.2): 1.2 or later, h2 alone, a client certificate if there is one."""
    paths = make_server_certificate(folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(paths.server, paths.server_key)
    context.load_verify_locations(paths.ca)
    context.verify_mode = ssl.CERT_OPTIONAL
    context.set_alpn_protocols(["h2"])
    return context
