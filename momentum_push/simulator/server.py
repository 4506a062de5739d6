"""The simulator as a whole: certificates, listening addresses, connections, ledger.

async with Simulator(cert_dir=folder) as simulator:
    …  connect to ("localhost", simulator.port), trusting simulator.ca_path
    simulator.requests

With a `VirtualTime` for its scheduler every delay and every age passes when the test says so.
"""

import asyncio
import ssl
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Self

from momentum_push.simulator.certificates import make_server_certificate
from momentum_push.simulator.connection import Connection
from momentum_push.simulator.devices import Device, Devices
from momentum_push.simulator.door import Door, Guard
from momentum_push.simulator.faults import Faults
from momentum_push.simulator.floor import Clock, Floor
from momentum_push.simulator.ledger import ConnectionEntry, Entry, Ledger
from momentum_push.simulator.names import Names
from momentum_push.simulator.picker import FaultPicker
from momentum_push.simulator.request import Policy
from momentum_push.simulator.schedule import RealTime, Scheduler

__all__ = ["Simulator"]

_STOP_S = 5.0


class Simulator:
    """An APNs to talk to.

    Attributes:
        port: that it listens on, once started; the first one of several.
        ca_path: the CA that a client must trust.
        ledger: everything that came; see there. The properties below are its parts.
        names: what a name server says; a client in this process may be given `names.look_up`.
    """

    def __init__(
        self,
        listen: str | Sequence[str] = "127.0.0.1:0",
        cert_dir: Path | None = None,
        ledger: Path | None = None,
        faults: Faults | None = None,
        *,
        policy: Policy | None = None,
        clock: Clock | None = None,
        scheduler: Scheduler | None = None,
        keep_requests: int = 100_000,
        keeps_payload: bool = False,
        is_plain: bool = False,
    ) -> None:
        """Prepare; nothing is opened before `start`.

        Args:
            listen: `HOST:PORT`, port 0 for one that is free; `[::1]:PORT` for IPv6. Of several, the
                first is listener 1 to a rule.
            cert_dir: CA and certificates are made or found there; None: a temporary folder.
            ledger: file to which JSON lines are appended.
            policy: what is checked and how strictly.
            clock: of provider token ages, of 410s and of the ledger; None: the scheduler's.
            scheduler: of delays and of everything else that takes time; None: real time.
            keep_requests: how many of the latest entries stay in `requests` (up to twice as many do).
            keeps_payload: whether entries hold the payload's text beside its hash.
            is_plain: HTTP/2 without TLS, for measuring.
        """
        self._folder = cert_dir
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        self._is_plain = is_plain
        self._connections: set[Connection] = set()
        self.ledger = Ledger(ledger, keep_requests, keeps_payload)
        faults, scheduler = faults or Faults(), scheduler or RealTime()
        self._policy = policy or Policy()
        self._floor = Floor(
            ledger=self.ledger,
            policy=_on_the_clock(self._policy, faults),
            devices=Devices(faults.devices),
            faults=faults,
            picker=FaultPicker(faults),
            clock=clock or scheduler,
            scheduler=scheduler,
        )
        self.names = Names(faults.names, scheduler)
        self._doors: list[Door] = []
        self._listen = (listen,) if isinstance(listen, str) else tuple(listen)

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
        self._floor.started_at = self._floor.clock.now()
        guard = Guard()
        if self._doors:  # it was stopped; come back where clients look for it
            self._listen = tuple(self.addresses)
            self._doors.clear()
        try:
            for number, listen in enumerate(self._listen, 1):
                factory = partial(Connection, self._floor, self._is_plain, self._connections, number)
                door = Door(number, listen, self._floor, guard, context, factory)
                await door.open()
                self._doors.append(door)
        except OSError:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Stop listening, end all connections, close the ledger."""
        for door in self._doors:
            await door.close()
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
    def port(self) -> int:
        return self.ports[0]

    @property
    def ports(self) -> list[int]:
        """Of every listening address, in their order."""
        return [door.port for door in self._doors] or [int(self._listen[0].rpartition(":")[2])]

    @property
    def address(self) -> str:
        """`HOST:PORT` as a route would have it; the first of several."""
        return self.addresses[0]

    @property
    def addresses(self) -> list[str]:
        """All of them, in their order."""
        return [door.address for door in self._doors] or list(self._listen)

    @property
    def is_listening(self) -> list[bool]:
        """Of each address, whether it is; a fault may have shut it for a while."""
        return [door.is_open for door in self._doors]

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
        self._floor.policy = _on_the_clock(self._policy, faults)
        for device in faults.devices:
            self._floor.devices.put(device)

    def drop_connections(self) -> None:
        """Cut every connection, as a failing network would."""
        for connection in list(self._connections):
            connection.abort()


def _on_the_clock(policy: Policy, faults: Faults) -> Policy:
    return replace(policy, clock_offset_s=faults.clock_offset_s) if faults.clock_offset_s else policy


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
