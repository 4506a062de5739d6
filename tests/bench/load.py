"""The load of `scripts/bench e2e`, alone in its process: `python -m tests.bench.load ORDER` writes a `Load`.

    bodies, mails, made before the clock starts ──► Line (one connection, one request at a time) ──► door

    batches   BATCH notifications with payloads of their own a request, as fast as answers come
    singles   one notification a request, as fast as answers come
    open      one notification a request, each at its due time, whatever became of those before
    million   one request with `count` tokens and one payload; `first_s`: until the answer's first byte
    smtp      one recipient a mail
    smtp_rcpt BATCH recipients a mail

Open loop: what is late is late from its *due* time on, so a daemon that stands still for a second is seen by
a thousand requests and not by one. Tokens are numbers: who finds one in a log knows when it was due.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import uvloop

__all__ = ["BATCH", "Load", "Order", "token"]

BATCH = 1000
BODIES = 200
"""Different bodies; they are sent again and again."""
PAYLOAD = '{"aps":{"alert":{"title":"Ferry cancelled","body":"The 18:40 to Helgoland does not run today."}}'
KINDS = ("batches", "singles", "open", "million", "smtp", "smtp_rcpt")


@dataclass
class Order:
    """What to send, and where."""

    kind: str
    port: int
    domain: str
    count: int
    connections: int = 8
    rate: float = 0.0
    """Requests a second, where `kind` is `open`."""
    deadline_s: float = 300.0
    out: str = ""
    """Where the `Load` goes: half a megabyte of latencies is too much for a pipe."""


@dataclass
class Load:
    """What came of it."""

    messages: int
    seconds: float
    cpu: float
    began: float
    """Epoch seconds at which number 0 was due."""
    first_s: float = 0.0
    latencies: list[float] = field(default_factory=list)
    """Seconds from due time to the answer's end, by number; `open` only."""
    lateness: list[float] = field(default_factory=list)
    """Seconds from due time to our `write`: what of the latency is this program's, or waited for a line."""


def token(number: int) -> str:
    """Return the device token with this number."""
    return f"{number:064x}"


def _post(body: bytes) -> bytes:
    head = "POST /v1/notifications HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def _batch(domain: str, first: int, count: int) -> bytes:
    items = ",".join(
        f'{{"device_token":"{token(n)}","payload":{PAYLOAD},"n":{n}}}}}' for n in range(first, first + count)
    )
    return _post(f'{{"domain":"{domain}","notifications":[{items}]}}'.encode())


def _single(domain: str, number: int) -> bytes:
    return _post(f'{{"domain":"{domain}","device_token":"{token(number)}","payload":{PAYLOAD}}}}}'.encode())


def _fan_out(domain: str, count: int) -> bytes:
    many = ",".join(f'"{token(n)}"' for n in range(count))
    return _post(f'{{"domain":"{domain}","payload":{PAYLOAD}}},"device_tokens":[{many}]}}'.encode())


class Line(asyncio.Protocol):
    """One HTTP connection; `on_answer` is called at each answer's end."""

    def __init__(self, on_answer: Callable[[Line], None]) -> None:
        self.on_answer = on_answer
        self.number = -1
        self.first_at = 0.0
        self.fault = ""
        self._transport: Any = None
        self._seen = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self.fault = self.fault or f"connection lost: {exc}"
        self.on_answer(self)

    def send(self, request: bytes) -> None:
        """Write one request."""
        self.first_at = 0.0
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self.first_at = self.first_at or time.perf_counter()
        seen = self._seen
        seen += data
        if _is_whole(seen):
            if seen[9:12] != b"200":
                self.fault = seen[:300].decode()
            self._seen = bytearray()
            self.on_answer(self)


def _is_whole(answer: bytearray) -> bool:
    """Whether an answer of ours has come to its end."""
    end = answer.find(b"\r\n\r\n")
    if end < 0:
        return False
    at = answer.find(b"ontent-length: ", 0, end)
    if at < 0:
        return answer.endswith(b"0\r\n\r\n")
    return len(answer) >= end + 4 + int(answer[at + 15 : answer.find(b"\r", at)])


class Mailer(asyncio.Protocol):
    """One SMTP connection; commands go in one write, the content after 354."""

    def __init__(self, on_answer: Callable[[Mailer], None]) -> None:
        self.on_answer = on_answer
        self.fault = ""
        self._transport: Any = None
        self._content = b""
        self._owed = 1  # the greeting
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self.fault = self.fault or f"connection lost: {exc}"
        self.on_answer(self)

    def greet(self) -> None:
        """Say EHLO; its answer is an answer as others."""
        self._owed = 1
        self._transport.write(b"EHLO bench\r\n")

    def send(self, request: tuple[bytes, bytes, int]) -> None:
        """Write the commands of one mail; `request` is commands, content, replies to the commands."""
        commands, self._content, self._owed = request
        self._transport.write(commands)

    def data_received(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\r\n")
        for line in lines:
            if line[:1] not in b"23":
                self.fault = line.decode()
            self._owed -= line[3:4] == b" "
        if self._owed > 0:
            return
        if self._content and not self.fault:
            content, self._content, self._owed = self._content, b"", 1
            self._transport.write(content)
        else:
            self.on_answer(self)


def _mails(domain: str, rcpts: int) -> list[tuple[bytes, bytes, int]]:
    from tests.helpers.clients import mail  # takes a second, which the other kinds need not wait

    requests = []
    for first in range(0, BODIES * rcpts, rcpts):
        names = [token(n) for n in range(first, first + rcpts)] if rcpts > 1 else ["4711"]
        commands = "".join(f"RCPT TO:<{name}@{domain}>\r\n" for name in names)
        content = mail("" if rcpts > 1 else token(first), PAYLOAD + "}") + b".\r\n"
        requests.append((f"MAIL FROM:<push@example.net>\r\n{commands}DATA\r\n".encode(), content, rcpts + 2))
    return requests


class Closed:
    """Every line sends its next request when the one before is answered."""

    def __init__(self, requests: list[Any], total: int, deadline_s: float) -> None:
        self._requests, self._total, self._deadline_s = requests, total, deadline_s
        self._started = self._answered = 0
        self._done = asyncio.Event()
        self.fault = ""

    def on_answer(self, line: Any) -> None:
        """Count an answer and send the next request."""
        self.fault = self.fault or line.fault
        self._answered += 1
        if self.fault or self._answered == self._total:
            self._done.set()
        elif self._started < self._total:
            self._next(line)

    def _next(self, line: Any) -> None:
        self._started += 1
        line.send(self._requests[self._started % len(self._requests)])

    async def run(self, lines: list[Any]) -> None:
        """Send all; faults end it."""
        for line in lines[: self._total]:
            self._next(line)
        async with asyncio.timeout(self._deadline_s):
            await self._done.wait()


class Open:
    """Each request at its due time, on a line that is free, or as soon as one is."""

    def __init__(self, order: Order) -> None:
        self._order = order
        self._requests = [_single(order.domain, number) for number in range(order.count)]
        self._free: deque[Line] = deque()
        self._late: deque[int] = deque()
        self._next = self._answered = 0
        self._done = asyncio.Event()
        self.began = 0.0
        self.latencies = [0.0] * order.count
        self.lateness = [0.0] * order.count
        self.fault = ""

    def on_answer(self, line: Line) -> None:
        """Note the latency; take the next request that is due."""
        self.fault = self.fault or line.fault
        self.latencies[line.number] = time.perf_counter() - self._due(line.number)
        self._answered += 1
        if self.fault or self._answered == self._order.count:
            self._done.set()
        elif self._late:
            self._send(line, self._late.popleft())
        else:
            self._free.append(line)

    def _due(self, number: int) -> float:
        return self.began + number / self._order.rate

    def _send(self, line: Line, number: int) -> None:
        line.number = number
        self.lateness[number] = time.perf_counter() - self._due(number)
        line.send(self._requests[number])

    def _tick(self) -> None:
        now = time.perf_counter()
        while self._next < self._order.count and self._due(self._next) <= now:
            if self._free:
                self._send(self._free.popleft(), self._next)
            else:
                self._late.append(self._next)
            self._next += 1
        if self._next < self._order.count:
            asyncio.get_running_loop().call_later(0.001, self._tick)

    async def run(self, lines: list[Line]) -> None:
        """Send all."""
        self._free.extend(lines)
        self.began = time.perf_counter() + 0.05
        self._tick()
        async with asyncio.timeout(self._order.deadline_s):
            await self._done.wait()


def _requests(order: Order) -> tuple[list[Any], int]:
    """Return the requests that are sent in turn, and the messages in each."""
    domain = order.domain
    if order.kind == "batches":
        most = min(BODIES, max(1, order.count // BATCH))
        return [_batch(domain, n * BATCH, BATCH) for n in range(most)], BATCH
    if order.kind == "singles":
        return [_single(domain, n) for n in range(min(order.count, 20_000))], 1
    if order.kind == "million":
        return [_fan_out(domain, order.count)], order.count
    return (_mails(domain, BATCH), BATCH) if order.kind == "smtp_rcpt" else (_mails(domain, 1), 1)


def _ignore(line: Any) -> None:
    pass


async def _connect(order: Order, make: Callable[[], Any]) -> list[Any]:
    loop = asyncio.get_running_loop()
    made = [await loop.create_connection(make, "127.0.0.1", order.port) for _ in range(order.connections)]
    return [protocol for _, protocol in made]


async def _greeted(order: Order, lines: list[Mailer], on_answer: Callable[[Mailer], None]) -> None:
    """Read the greetings and say EHLO, in turn on each line."""
    for line in lines:
        answered = asyncio.Event()
        async with asyncio.timeout(order.deadline_s):
            while line._owed:  # the greeting comes by itself, and is no answer
                await asyncio.sleep(0.001)
            line.on_answer = lambda line, answered=answered: answered.set()  # type: ignore[misc]
            line.greet()
            await answered.wait()
        line.on_answer = on_answer


async def run(order: Order) -> Load:
    """Send what was ordered.

    Raises:
        RuntimeError: an answer that is none of the good ones.
        TimeoutError: it took longer than `deadline_s`.
    """
    if order.kind == "open":
        story: Any = Open(order)
        messages = order.count
    else:
        requests, each = _requests(order)
        total = max(1, order.count // each)
        story = Closed(requests, total, order.deadline_s)
        messages = total * each
    kind: Any = Mailer if order.kind.startswith("smtp") else Line
    # A greeting is no answer to a mail: the story hears of a Mailer's answers after that.
    heard = _ignore if kind is Mailer else story.on_answer
    lines = await _connect(order, lambda: kind(heard))
    if kind is Mailer:
        await _greeted(order, lines, story.on_answer)
    cpu, began, wall = _cpu(), time.perf_counter(), time.time()
    await story.run(lines)
    seconds = time.perf_counter() - began
    if story.fault:
        raise RuntimeError(f"bad answer: {story.fault}")
    load = Load(messages, seconds, _cpu() - cpu, wall)
    if order.kind == "open":
        load.began = wall + story.began - began
        load.latencies, load.lateness = story.latencies, story.lateness
    elif order.kind == "million":
        load.first_s = lines[0].first_at - began
    return load


def _cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def numbers(lines: Iterator[str]) -> Iterator[tuple[float, int]]:
    """Yield (epoch seconds, number) from nginx's lines `$msec $uri`."""
    for line in lines:
        at, _, uri = line.partition(" ")
        yield float(at), int(uri.strip().rpartition("/")[2], 16)


if __name__ == "__main__":
    ordered = Order(**json.loads(sys.argv[1]))
    Path(ordered.out).write_text(json.dumps(asdict(uvloop.run(run(ordered)))))
