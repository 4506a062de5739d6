"""The accidents of other senders (apns.md 8) and the place where they are staged.

    @accident(12, "jchambers/pushy#399")     above a test: the row that it is about, and where it happened
    NOT_OURS                                 rows that concern no client, and why

    def story(site): …                       a daemon's way out, whole: queues, pools, TLS, HTTP/2; the spool
    stage(folder, story, faults, options)    and the log in memory; at the other end the simulator with
                                             `faults` (YAML)

Time is the leaping loop's: an hour passes when nothing is to be done until then. At the end of every
story all connections are closed, no task is left, and the simulator has seen no breach of HTTP/2 or of
a stream limit.
"""

from __future__ import annotations

import asyncio
import socket
import textwrap
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from momentum_push.delivery.manager import Delivery
from momentum_push.delivery.pool import Pool
from momentum_push.delivery.settings import SettingsReader
from momentum_push.message import MAX_LIST, Disposition, Kind, Message, QueueKey
from momentum_push.meters import Meters
from momentum_push.queues import Queue, QueueManager
from momentum_push.simulator import Simulator, parse_faults
from momentum_push.simulator.ledger import Entry
from momentum_push.spool import MemorySpool
from tests.helpers.apns import provider_key
from tests.helpers.conf import config
from tests.helpers.delivery import TABLE, Log
from tests.helpers.leaping import LoopTime, run_leaping
from tests.helpers.lists import PAYLOAD, message_list, messages, part

__all__ = ["NEWS", "NOT_OURS", "REGISTRY", "TOPIC", "Site", "accident", "stage"]

REGISTRY: dict[int, list[tuple[str, str]]] = {}
"""Row: the tests about it, each with where it happened."""

NOT_OURS: dict[int, str] = {}
"""Rows that concern no client; the value says why."""

_Test = TypeVar("_Test", bound=Callable[..., None])

NEWS = "com.example.news.apns"
TOPIC = "com.example.news"
START = time.time() // 1800 * 1800
"""Where the clock of each story begins: with a slot of the provider token; certificates are good then."""
LIMIT_S = 7 * 86_400.0
"""Virtual time after which a story that still waits has failed."""


def accident(row: int, *sources: str) -> Callable[[_Test], _Test]:
    """Say which row of apns.md 8 a test is about, and where that happened."""

    def note(test: _Test) -> _Test:
        REGISTRY.setdefault(row, []).extend((test.__name__, source) for source in sources)
        return test

    return note


class Site:
    """See the module's head; `domains` are their options in conf's words."""

    def __init__(
        self, folder: Path, simulator: Simulator, clock: LoopTime, domains: Mapping[str, str]
    ) -> None:
        self.folder, self.simulator, self.clock = folder, simulator, clock
        self.meters = Meters()
        self.log = Log()
        self.spool = MemorySpool(clock)
        self.domains = dict(domains)
        self.put_count = 0
        self._alarm: asyncio.TimerHandle | None = None
        self._connections = 0
        self.queues = QueueManager(self.spool, clock, self._on_due, 0, self._set_alarm)
        self.delivery = Delivery(
            reader=self._reader(),
            table=TABLE,
            queues=self.queues,
            records=self.log,
            spool=self.spool,
            meters=self.meters,
            clock=clock,
            new_conn_id=self._new_conn_id,
        )

    def _reader(self) -> SettingsReader:
        text = "\n".join(
            f'domain "{domain}" {{ delivery_method = "apn" tls_ca = "{self.simulator.ca_path}"\n'
            f'routes = ( "apn://localhost?port={self.simulator.port}" )\n{options} }}'
            for domain, options in self.domains.items()
        )
        return SettingsReader(config(text), self.clock)

    def _new_conn_id(self) -> str:
        self._connections += 1
        return f"00/00-00000-{self._connections:08X}"

    def _on_due(self, queue: Queue) -> None:
        self.delivery.on_due(queue)

    def _set_alarm(self, when: float) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm = self.clock.later(max(0.0, when - self.clock.now()), self._ring)

    def _ring(self) -> None:
        self.queues.wake(self.clock.now())

    # --- what a story does

    async def put(
        self, count: int = 1, domain: str = NEWS, payload: bytes = PAYLOAD, **shared: Any
    ) -> list[Message]:
        """Commit and queue messages; `shared` are fields of their part."""
        now = self.clock.now()
        common = part(**({"received_at": now, "expiration": int(now) + 604_800} | shared))
        queue = QueueKey("default", "default", domain)
        of = messages(count, self.put_count + 1, common, payload=payload)
        self.put_count += count
        for start in range(0, count, MAX_LIST):
            batch = message_list(queue=queue, due=now, of=of[start : start + MAX_LIST])
            work = self.spool.append([batch])
            self.queues.expect([batch])
            await work
            self.queues.add([batch])
        return of

    def reload(self, **domains: str) -> None:
        """Go by other options of the one domain, or of those named."""
        self.domains.update(domains)
        self.delivery.configure(self._reader(), TABLE)

    async def until(self, condition: Callable[[], object], limit_s: float = LIMIT_S) -> float:
        """Let time pass until `condition()` holds; return the seconds that took, to within a tenth."""
        begin, step = self.clock.monotonic(), 0.001
        while not condition():
            assert self.clock.monotonic() - begin < limit_s, f"waited {limit_s:g} s in vain: {self!r}"
            await asyncio.sleep(step)
            step = min(step * 1.5, max(0.05, (self.clock.monotonic() - begin) / 20))
        return self.clock.monotonic() - begin

    async def end(self, limit_s: float = LIMIT_S) -> float:
        """Let time pass until every message has ended; return the seconds that took."""
        return await self.until(lambda: self.ended.total() >= self.put_count, limit_s)

    # --- what it looks at

    def __repr__(self) -> str:
        pools = [(repr(pool), pool.connections) for pool in self.delivery.pools.values()]
        return f"{dict(self.kinds)} of {self.put_count}, {pools}"

    @property
    def pool(self) -> Pool:
        """The pool of the first domain that has one."""
        return next(iter(self.delivery.pools.values()))

    @property
    def records(self) -> list[Disposition]:
        return self.log.written

    @property
    def kinds(self) -> Counter[str]:
        return self.log.kinds()

    @property
    def ended(self) -> Counter[int]:
        """How often each message ended: once, by rights."""
        return Counter(item.message.sequence for item in self.log.written if item.kind is not Kind.TEMPFAIL)

    @property
    def requests(self) -> list[Entry]:
        """What the simulator decided on, in order."""
        return self.simulator.requests

    @property
    def copies(self) -> int:
        """Notifications that a device got more than once."""
        return sum(count - 1 for count in self.simulator.accepted.values())

    def of(self, *sequences: int) -> list[Entry]:
        """The requests for some messages."""
        tokens = {item.message.token for item in self.log.written if item.message.sequence in sequences}
        return [entry for entry in self.requests if entry.token in tokens]

    async def leave(self) -> None:
        """Stop as SIGTERM would, and look whether anything stays behind."""
        pools = list(self.delivery.pools.values())
        await self.delivery.stop(0.0)
        await self.queues.close()
        if self._alarm is not None:
            self._alarm.cancel()
        assert [pool.connections for pool in pools if pool.connections] == []
        assert max(self.ended.values(), default=1) == 1, "a message ended twice"


def stage(
    folder: Path,
    story: Callable[[Site], Awaitable[None]],
    faults: str = "",
    options: str = "",
    *,
    domains: Mapping[str, str] | None = None,
    addresses: Sequence[str] = ("127.0.0.1",),
    credential: str = "",
    **simulated: Any,
) -> Site:
    """Play `story` at a site; return it as it was left.

    Args:
        folder: for keys and certificates; the simulator's are made there once.
        faults: a fault file (`simulate --help`).
        options: of the domain, beside topic and credential.
        domains: their options, where the one domain with one key will not do.
        addresses: that the simulator listens on and its name stands for.
        simulated: arguments of `Simulator`.
    """
    sites: list[Site] = []

    async def scenario() -> None:
        clock = LoopTime(START)
        port = _free_port() if len(addresses) > 1 else 0
        simulator = Simulator(
            [f"{address}:{port}" for address in addresses],
            folder / "apns",
            faults=parse_faults("seed: 7\n" + textwrap.dedent(faults)),
            scheduler=clock,
            **simulated,
        )
        async with simulator:
            said = f'apn_topic = "{TOPIC}" {credential or key_options(folder)} {options}'
            if "max_outbound_connections" not in options:
                said += " max_outbound_connections = 4"
            site = Site(folder, simulator, clock, domains or {NEWS: said})
            sites.append(site)
            try:
                await story(site)
            finally:
                await site.leave()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        assert not others, f"left behind: {others}"
        for connection in simulator.connections:
            assert (connection.limit_breaches, connection.violation) == (0, ""), connection

    run_leaping(scenario(), {"localhost": list(addresses)})
    return sites[0]


def key_options(folder: Path, name: str = "AuthKey", team_id: str = "TEAM123456") -> str:
    """Make a provider key; return the options that name it."""
    key = provider_key(folder, name, team_id)
    key.path.chmod(0o600)
    return f'apn_auth_key = "{key.path}" apn_key_id = "{key.key_id}" apn_team_id = "{key.team_id}"'


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])
