"""One client under measurement, alone in its process: `python -m tests.bench.sender JSON` prints a `Sent`.

    Order ──► ours      our Connection, as the pool drives it: at most TURN messages a turn, a list a call
          └─► aioapns   its documented way: one `send_notification` each, many at once over its pool

Both run on uvloop. What is sent is made before the clock starts (aioapns still turns each payload into JSON
itself). With `seconds` the answers of that long are counted, after `warm_up`; else `count` are sent.
With `is_counting` the reads, writes and SSL_reads are counted, too, which costs a little.
"""

from __future__ import annotations

import asyncio
import json
import resource
import ssl
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import uvloop

from momentum_push.clock import SystemClock
from momentum_push.delivery.apns import Connection, ConnectionOptions, ProviderKey, Target, TokenCredential
from momentum_push.delivery.turns import BUDGET as TURN
from momentum_push.message import Message, Outcome
from tests.bench.peers import TOKENS
from tests.helpers.lists import messages, part

__all__ = ["TOPIC", "Order", "Sent", "payload"]

TOPIC = "com.example.ferry.cancellations"
KEY_ID, TEAM = "ABC123DEFG", "DEF123GHIJ"
DEADLINE_S = 300.0


@dataclass
class Order:
    """What to send, and where."""

    client: str
    port: int
    ca: str
    key: str
    body: int = 160
    connections: int = 1
    count: int = 0
    seconds: float = 0.0
    warm_up: float = 0.0
    streams: int = 1000
    """Requests at once on a connection."""
    is_counting: bool = False


@dataclass
class Sent:
    """What came of it."""

    answers: int
    seconds: float
    cpu: float
    """Seconds of CPU of the client's process, while it was measured."""
    reads: int = 0
    """Calls of `data_received`."""
    writes: int = 0
    """Calls of `transport.write`."""
    ssl_reads: int = 0
    faults: list[str] = field(default_factory=list)


def payload(size: int) -> bytes:
    """Return a notification of `size` bytes."""
    head, tail = b'{"aps":{"alert":{"title":"Ferry cancelled","body":"', b'"}}}'
    return head + b"x" * (size - len(head) - len(tail)) + tail


class Meter:
    """Counts answers between two moments, and says when it is enough."""

    def __init__(self, order: Order) -> None:
        self.order = order
        self.answers = 0
        self.reads = self.writes = self.ssl_reads = 0
        self.faults: list[str] = []
        self.done = asyncio.Event()
        self.left = order.count or 1 << 60
        self._start = self._cpu = 0.0
        self._before = 0

    async def run(self) -> Sent:
        """Measure; whoever sends has begun or does so now."""
        if self.order.seconds:
            await asyncio.sleep(self.order.warm_up)
        self._start, self._cpu, self._before = time.perf_counter(), _cpu(), self.answers
        limit = self.order.seconds or DEADLINE_S
        try:
            async with asyncio.timeout(limit):
                await self.done.wait()
        except TimeoutError:
            if not self.order.seconds:
                self.faults.append(f"not done after {limit:g} s")
        seconds, cpu = time.perf_counter() - self._start, _cpu() - self._cpu
        self.left = 0
        answers = self.answers - self._before
        return Sent(answers, seconds, cpu, self.reads, self.writes, self.ssl_reads, self.faults[:5])

    def take(self, count: int) -> None:
        """Note answers."""
        self.answers += count
        if self.answers == self.order.count:
            self.done.set()

    def fail(self, what: str) -> None:
        """Note what must not happen, and end."""
        self.faults.append(what)
        self.done.set()


def _cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


class Ours:
    """Our connections, fed like the pool feeds them."""

    def __init__(self, meter: Meter) -> None:
        self._meter, self._place = meter, 0
        self._ring = messages(TOKENS, shared=part(topic=TOPIC), payload=payload(meter.order.body))

    async def send(self) -> Sent:
        order = self._meter.order
        key = ProviderKey(Path(order.key).read_bytes(), KEY_ID, TEAM)
        context = _context(self._meter)
        credential = TokenCredential(key)
        async with asyncio.TaskGroup() as opening:
            for number in range(order.connections):
                link = Connection(
                    target=Target("localhost", order.port, "127.0.0.1"),
                    context=context,
                    credential=credential,
                    options=ConnectionOptions(max_streams=order.streams, connect_timeout_s=60),
                    clock=SystemClock(),
                    on_outcomes=self._settle,
                    on_change=self._feed,
                    conn_id=str(number),
                )
                if order.is_counting:
                    _count(link, self._meter)
                opening.create_task(self._open(link))
        self._begin()
        return await self._meter.run()

    async def _open(self, link: Connection) -> None:
        await link.open()
        self._links = [*getattr(self, "_links", []), link]

    def _begin(self) -> None:
        for link in self._links:
            self._feed(link)

    def _settle(self, link: Connection, outcomes: list[Outcome]) -> None:
        self._meter.take(len(outcomes))
        if any(outcome.status != 200 for outcome in outcomes):
            bad = next(outcome for outcome in outcomes if outcome.status != 200)
            self._meter.fail(f"{bad.phase.name} {bad.status} {bad.reason}")
        self._feed(link)

    def _feed(self, link: Connection) -> None:
        """Send at most a turn's worth; the rest in the loop's next turn."""
        meter = self._meter
        room = min(link.capacity, TURN, meter.left)
        if room <= 0:
            return
        taken = link.send([(message, TOPIC) for message in self._next(room)])
        self._place += taken
        meter.left -= taken
        if taken == TURN:
            asyncio.get_running_loop().call_soon(self._feed, link)

    def _next(self, count: int) -> list[Message]:
        start = self._place % TOKENS
        return self._ring[start : start + count]  # shorter at the end of the ring, no matter


def _count(link: Any, meter: Meter) -> None:
    """Count a protocol's reads and writes; both clients name these two alike."""
    received, made = link.data_received, link.connection_made

    def data_received(data: bytes) -> None:
        meter.reads += 1
        received(data)

    link.data_received = data_received
    link.connection_made = lambda transport: made(_Writes(transport, meter))


class _Writes:
    """A transport that counts its writes."""

    def __init__(self, transport: Any, meter: Meter) -> None:
        self._transport, self._meter = transport, meter

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        if data:
            self._meter.writes += 1
        self._transport.write(data)


def _context(meter: Meter) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=meter.order.ca)
    context.set_alpn_protocols(["h2"])
    if meter.order.is_counting:

        class Counted(ssl.SSLObject):
            def read(self, *details: Any) -> Any:
                meter.ssl_reads += 1
                return super().read(*details)

        context.sslobject_class = Counted
    return context


class Aioapns:
    """aioapns as its documentation says, with many tasks at once."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter

    async def send(self) -> Sent:
        from aioapns import APNs, NotificationRequest, PushType
        from aioapns.connection import APNsProductionClientProtocol as Protocol

        order, meter = self._meter.order, self._meter
        Protocol.APNS_SERVER, Protocol.APNS_PORT = "localhost", order.port
        self._client = APNs(
            key=Path(order.key).read_text(),
            key_id=KEY_ID,
            team_id=TEAM,
            topic=TOPIC,
            max_connections=order.connections,
            ssl_context=_context(meter),
        )
        if order.is_counting:
            made = Protocol.__init__

            def init(protocol: Any, *details: Any, **named: Any) -> None:
                made(protocol, *details, **named)
                _count(protocol, meter)

            Protocol.__init__ = init  # type: ignore[method-assign]
        form, many = json.loads(payload(order.body)), messages(TOKENS)
        self._requests = [
            NotificationRequest(message.token, form, time_to_live=3600, push_type=PushType.ALERT)
            for message in many
        ]
        await self._client.send_notification(
            NotificationRequest(many[0].token, form)
        )  # SETTINGS are here now
        workers = [asyncio.create_task(self._work()) for _ in range(order.streams * order.connections)]
        sent = await meter.run()
        for worker in workers:
            worker.cancel()
        return sent

    async def _work(self) -> None:
        meter = self._meter
        while meter.left > 0 and self._requests:
            meter.left -= 1
            request = self._requests.pop()
            answer = await self._client.send_notification(request)
            self._requests.append(request)
            if not answer.is_successful:
                meter.fail(f"{answer.status} {answer.description}")
            meter.take(1)


CLIENTS: dict[str, Callable[[Meter], Any]] = {"ours": Ours, "aioapns": Aioapns}


async def _main(order: Order) -> None:
    sent = await CLIENTS[order.client](Meter(order)).send()
    print(json.dumps(asdict(sent)))


if __name__ == "__main__":
    uvloop.run(_main(Order(**json.loads(sys.argv[1]))))
