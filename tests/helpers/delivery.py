"""A pool's world without network and disk: scripted connections, a log, a spool in memory, a clock by hand.

async with opened_world() as world:
    await world.put(3)                            three messages, committed and queued
    await world.turns()                           let the loop go round until nothing moves
    world.connections[0].answer()                 all in flight: 200

`World` checks while it goes: no message is in flight twice, none is sent after its end; under "drop" none
before its mark is on disk, nor again when Apple may have taken it.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from importlib import resources
from typing import Any, cast

from momentum_push.clock import ManualClock
from momentum_push.delivery.apns.connection import ConnectionOptions, ConnectionState, Target
from momentum_push.delivery.apns.failures import ConnectFailed
from momentum_push.delivery.pool import Pool
from momentum_push.delivery.resolver import Resolver
from momentum_push.delivery.routes import Route
from momentum_push.delivery.services import Services
from momentum_push.delivery.settings import PoolSettings
from momentum_push.delivery.settle import Settler
from momentum_push.errors import LogError
from momentum_push.message import Disposition, Home, Kind, Message, MessageList, Outcome, Phase
from momentum_push.message.reasons import ReasonTable
from momentum_push.meters import Meters
from momentum_push.queues import Queue, QueueManager, RetryPolicy, Throttles
from momentum_push.spool import Disk, MemorySpool
from tests.helpers.lists import NOW, QUEUE, message_list

__all__ = [
    "TABLE",
    "FakeConnection",
    "FakeCredential",
    "FakeSettings",
    "Log",
    "NoNames",
    "World",
    "left",
    "one_address",
    "opened_world",
    "outcome",
    "turns",
]

TABLE = ReasonTable.parse(
    resources.files("momentum_push.message").joinpath("reasons.yaml").read_text("utf-8")
)


async def turns(count: int = 30) -> None:
    """Let the loop go round."""
    for _ in range(count):
        await asyncio.sleep(0)


def outcome(message: Message, status: int = 200, reason: str = "", **changes: Any) -> Outcome:
    """An answer of Apple's, or with `phase=` something less."""
    fields: dict[str, Any] = {"phase": Phase.ANSWERED, "status": status, "reason": reason, "size": 321}
    return Outcome(message=message, **(fields | changes))


class Log:
    """A logger that can fail; like the hub it owes what it was given and writes it at `retry`.

    `events` is shared with others, so that a test sees who came first.
    """

    def __init__(self, events: list[Any] | None = None) -> None:
        self.written: list[Disposition] = []
        self.owed: list[Disposition] = []
        self.is_failing = False
        self.events = events if events is not None else []

    def dispositions(self, now: float, items: Sequence[Disposition]) -> None:
        self.owed += items
        self.retry()

    def retry(self) -> None:
        if self.is_failing:
            raise LogError("log: no space left on device; make room")
        if self.owed:
            self.events.append(("record", [item.message.sequence for item in self.owed]))
        self.written += self.owed
        self.owed = []

    def kinds(self) -> Counter[str]:
        return Counter(item.kind.value for item in self.written)

    def texts(self, kind: Kind) -> list[str]:
        return [item.text for item in self.written if item.kind is kind]


class FakeConnection:
    """A connection that does what the test says; keeps the promises that `Connection` makes."""

    def __init__(
        self,
        world: World,
        target: Target,
        conn_id: str,
        settings: FakeSettings,
        on_outcomes: Callable[[Any, list[Outcome]], None],
        on_change: Callable[[Any], None],
    ) -> None:
        self.world, self.target, self.conn_id, self.settings = world, target, conn_id, settings
        self._on_outcomes, self._on_change = on_outcomes, on_change
        self.state = ConnectionState.CONNECTING
        self.room = world.room
        self.flight: list[Message] = []
        self.sent: list[list[Message]] = []
        self.topics: list[str] = []
        self.goaway_reason = ""
        self.drain_reason = ""
        self.blame = ""
        self.takes = 1 << 30
        self.trip = world.room
        self.is_window_bound = False
        self.loss: ConnectFailed | None = None

    @property
    def remote(self) -> str:
        return self.target.address

    @property
    def in_flight(self) -> int:
        return len(self.flight)

    @property
    def capacity(self) -> int:
        is_open = self.state in (ConnectionState.OPEN, ConnectionState.PROBING)
        room = 1 if self.state is ConnectionState.PROBING else self.room
        return max(0, room - len(self.flight)) if is_open else 0

    async def open(self) -> None:
        self.world.dials += 1
        try:
            await self.world.dial(self)
        except asyncio.CancelledError:
            self.state = ConnectionState.CLOSED
            raise
        self.state = ConnectionState.PROBING if self.world.is_probing else ConnectionState.OPEN

    def send(self, requests: Sequence[tuple[Message, str]]) -> int:
        taken = [message for message, _ in requests][: min(self.capacity, self.takes)]
        if len(taken) < len(requests):
            self.room = len(self.flight) + len(taken)
        self.world.note_sent(taken)
        self.flight += taken
        if taken:
            self.sent.append(taken)
            self.topics += [topic for _, topic in requests[: len(taken)]]
        return len(taken)

    def drain(self, why: str) -> None:
        if self.state in (ConnectionState.DRAINING, ConnectionState.CLOSED):
            return
        self.state, self.drain_reason = ConnectionState.DRAINING, why
        self._finish()

    def close(self, why: str) -> None:
        if self.state is not ConnectionState.CLOSED:
            self._lose(Phase.UNKNOWN, why)

    # --- what the test makes the peer do

    def answer(self, count: int | None = None, status: int = 200, reason: str = "", **changes: Any) -> None:
        """Answer the first `count` requests (all) with one read."""
        count = len(self.flight) if count is None else count
        messages, self.flight = self.flight[:count], self.flight[count:]
        if messages and self.state is ConnectionState.PROBING:
            self.state = ConnectionState.OPEN
        changes = {"seconds": self.world.rtt} | changes
        self._tell([outcome(message, status, reason, **changes) for message in messages])

    def refuse(self) -> None:
        """Refuse all that is in flight, RST_STREAM REFUSED_STREAM, and stay open."""
        messages, self.flight = self.flight, []
        self._tell([Outcome(message, Phase.NOT_PROCESSED, reason="REFUSED_STREAM") for message in messages])

    def goaway(self, reason: str, processed: int = 0) -> None:
        """Say goodbye: the first `processed` requests will be answered, the others come back."""
        self.goaway_reason = reason
        self.blame = f"GOAWAY {reason}"
        back, self.flight = self.flight[processed:], self.flight[:processed]
        self.state = ConnectionState.DRAINING
        self._tell([Outcome(message, Phase.NOT_PROCESSED, reason=reason) for message in back])

    def breach(self, why: str) -> None:
        """Do what ends a connection without GOAWAY or loss: break HTTP/2, leave no room, refuse all."""
        self.blame = why
        self._lose(Phase.NOT_PROCESSED, why)

    def time_out(self, count: int) -> None:
        """Leave the first `count` requests unanswered to their deadline, and stay open."""
        messages, self.flight = self.flight[:count], self.flight[count:]
        self._tell([Outcome(message, Phase.UNKNOWN, reason="no answer within 30 s") for message in messages])

    def die(self) -> None:
        """Be lost without a goodbye."""
        self._lose(Phase.UNKNOWN, "connection lost: reset")

    def _lose(self, phase: Phase, why: str) -> None:
        self.state = ConnectionState.CLOSED
        messages, self.flight = self.flight, []
        self._tell([Outcome(message, phase, reason=why) for message in messages])

    def _tell(self, outcomes: list[Outcome]) -> None:
        self.world.note_back(outcomes)
        if outcomes:
            self._on_outcomes(self, outcomes)
        self._finish()

    def _finish(self) -> None:
        if self.state is ConnectionState.DRAINING and not self.flight:
            self.state = ConnectionState.CLOSED
        self._on_change(self)


@dataclass(frozen=True)
class FakeCredential:
    identity: str = "key ABC123DEFG of team TEAM123456"
    default_topic: str = ""


@dataclass(frozen=True)
class FakeSettings(PoolSettings):
    """Settings whose connections are scripted; `world.settings(…)` makes them."""

    world: Any = None

    def connection(
        self, target: Target, conn_id: str, on_outcomes: Any, on_change: Any, chance: float
    ) -> Any:
        made = FakeConnection(self.world, target, conn_id, self, on_outcomes, on_change)
        self.world.made.append(made)
        return made


async def one_address(host: str, port: int) -> list[str]:
    """A name server that says the same of every name."""
    return ["192.0.2.1"]


class NoNames(Resolver):
    """Every name is its own address, and known at once."""

    async def choose(self, routes: Sequence[Route], used: Any, chance: float) -> Target:
        return Target(routes[0].host, routes[0].port, f"192.0.2.{len(used()) + 1}")


@dataclass
class World:
    """Everything around one pool."""

    room: int = 1000
    rtt: float = 0.1
    """Seconds that every answer takes."""
    is_probing: bool = False
    """Connections prove their token with one request first."""
    max_resident: int = 0
    options: dict[str, Any] = field(default_factory=dict)
    """Fields of `PoolSettings`."""
    disk: Disk = field(default_factory=Disk)

    def __post_init__(self) -> None:
        self.clock = ManualClock(NOW)
        self.log = Log()
        self.meters = Meters()
        self.spool = MemorySpool(self.clock, self.disk)
        self.made: list[FakeConnection] = []
        self.dials = 0
        self.refusal: ConnectFailed | None = None
        self.gate: asyncio.Event | None = None
        self.flying: set[int] = set()
        self.sends: Counter[int] = Counter()
        self.exposed: set[int] = set()
        self.put_count = 0
        self.queues = QueueManager(self.spool, self.clock, self._on_due, self.max_resident)
        self.settler = Settler(
            records=self.log,
            spool=self.spool,
            queues=self.queues,
            meters=self.meters,
            clock=self.clock,
            on_unblocked=lambda: self.pool.wake(),
            gap_s=0.0,
        )
        self.services = Services(
            self.settler,
            self.spool,
            self.queues,
            TABLE,
            Throttles(),
            self.meters,
            self.clock,
            lambda: "00/01-00000-1",
        )
        self.queue = self.queues.get(QUEUE)
        self.pool = Pool(self.queue, self.settings(**self.options), self.services, NoNames())

    def settings(self, **changes: Any) -> FakeSettings:
        fields: dict[str, Any] = {
            "routes": (Route("apns.test", 443),),
            "credential": FakeCredential(),
            "context": cast(Any, None),
            "options": ConnectionOptions(),
            "retry": RetryPolicy(),
            "clock": self.clock,
            "max_connections": 4,
            "world": self,
        }
        return FakeSettings(**(fields | changes))

    def _on_due(self, queue: Queue) -> None:
        if hasattr(self, "pool"):
            self.pool.wake()

    async def dial(self, connection: FakeConnection) -> None:
        if self.gate is not None:
            await self.gate.wait()
        if self.refusal is not None:
            connection.state = ConnectionState.CLOSED
            raise self.refusal

    def refuse(self, text: str = "apns.test:443: connection refused; see routes") -> None:
        """Let every connect fail from now on."""
        self.refusal = ConnectFailed(text, stage=0)

    # --- what the test does

    async def put(self, count: int = 1, **changes: Any) -> MessageList:
        """Commit and queue a list."""
        batch = message_list(count, first=self.put_count + 1, **({"due": self.clock.now()} | changes))
        self.put_count += count
        work = self.spool.append([batch])
        self.queues.expect([batch])
        await work
        self.queues.add([batch])
        await turns()
        return batch

    async def advance(self, seconds: float) -> None:
        """Let time pass, and what is due happen."""
        self.clock.advance(seconds)
        self.queues.wake(self.clock.now())
        await turns()

    # --- what the test looks at

    @property
    def connections(self) -> list[FakeConnection]:
        return cast(Any, self.pool.connections)

    async def stored(self) -> int:
        """Messages on disk."""
        await self.settler.flush()
        return sum(row.messages for row in await self.spool.overview())

    def note_sent(self, messages: Sequence[Message]) -> None:
        for message in messages:
            assert message.sequence not in self.flying, "in flight twice"
            assert not message.home.has_left(message.place), "sent after its end"
            assert not self.pool.settings.drops_unknown or self.is_marked(message), (
                "sent before it was marked"
            )
            assert not self.pool.settings.drops_unknown or message.sequence not in self.exposed, "sent twice"
            self.exposed.add(message.sequence)
            self.flying.add(message.sequence)
            self.sends[message.sequence] += 1

    def is_marked(self, message: Message) -> bool:
        """Whether the disk knows that a message may have been sent."""
        sent = self.disk.rows[message.home.number].sent
        return bool(sent and sent[message.place >> 3] >> (message.place & 7) & 1)

    def note_back(self, outcomes: Sequence[Outcome]) -> None:
        for item in outcomes:
            self.flying.discard(item.message.sequence)
            if item.phase < Phase.UNKNOWN or (item.phase is Phase.ANSWERED and item.status != 200):
                self.exposed.discard(item.message.sequence)


@asynccontextmanager
async def opened_world(**options: Any) -> AsyncIterator[World]:
    """A world whose pool is stopped in the end."""
    room, rtt = options.pop("room", 1000), options.pop("rtt", 0.1)
    world = World(
        room=room,
        rtt=rtt,
        is_probing=options.pop("probing", False),
        max_resident=options.pop("max_resident", 0),
        disk=options.pop("disk", None) or Disk(),
        options=options,
    )
    try:
        yield world
    finally:
        await world.pool.stop(0.0)
        await world.settler.flush()
        await world.queues.close()


def left(home: Home) -> list[int]:
    """Places of a list that were settled."""
    return [place for place in range(home.count) if home.has_left(place)]
