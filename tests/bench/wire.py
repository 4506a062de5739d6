"""`scripts/bench wire`: our client alone, beside aioapns and h2load, in turns of one run.

    nginx ×(160, 4,000 bytes)     ours | aioapns (several numbers of tasks, the best counts) | h2load
    nghttpd, Apple's window       ours | h2load, directly and with a round trip, 1 … 128 connections
    counts                        system calls, reads, writes, SSL_reads per 1,000 notifications
    micro                         the wire without a socket

Each client is a process of its own; CPU is its own, from its first request to its last answer (h2load: of the
whole process). Every measurement is made `rounds` times, the clients taking turns, so that whatever
else the machine does falls on all of them; median, least and most are reported (h2load far away, a mere
yardstick there: once). aioapns needs the answer's `apns-id`, which nghttpd does not send, and loses requests
to a small window: it meets nginx only.
"""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from math import ceil
from pathlib import Path
from statistics import median
from typing import NamedTuple

from tests.bench.peers import SMALL, Peer, nghttpd, nginx, relay
from tests.bench.sender import TOPIC, Order, Sent, payload
from tests.helpers.lists import token_of
from tests.helpers.peer import Pki, apple_key, pki
from tests.helpers.servers import needs

__all__ = ["BODIES", "CONNECTIONS", "Count", "Plan", "Row", "counts", "distance", "rates", "run"]

BODIES = (160, 4000)
CONNECTIONS = (1, 2, 4, 8, 16, 32, 64, 128)
TASKS = (100, 1000)
"""Requests at once that aioapns is tried with."""
STEP = 32 * 1024
"""Bytes that a window of 65,535 lets through per round trip (apns.md 6.2)."""
LIMIT_S = 400.0
AIOAPNS_SHARE = 15
"""A slow client sends this much less."""


class Row(NamedTuple):
    """One line of the table: medians, and rates from least to most."""

    peer: str
    body: int
    connections: int
    client: str
    rate: float
    least: float
    most: float
    cpu_us: float
    bound: float = 0.0
    """Notifications a second that the window allows; 0: it does not limit."""
    relay_cpu: float = 0.0
    """Share of a core that the relay took."""


class Count(NamedTuple):
    """Per 1,000 notifications; -1: not to be seen from outside."""

    peer: str
    body: int
    client: str
    system_calls: float
    reads: float
    writes: float
    ssl_reads: float


@dataclass
class Plan:
    """What one run shares."""

    folder: Path
    count: int
    rounds: int
    seconds: float
    files: Pki
    key: Path

    @classmethod
    def of(cls, folder: Path, count: int, rounds: int, seconds: float) -> Plan:
        key = folder / "AuthKey.p8"
        key.write_bytes(apple_key())
        return cls(folder, count, rounds, seconds, pki(folder), key)

    def order(self, client: str, peer: Peer, body: int, **changes: object) -> Order:
        return replace(Order(client, peer.port, str(self.files.ca), str(self.key), body), **changes)  # type: ignore[arg-type]

    def subfolder(self, name: str) -> Path:
        made = self.folder / name
        made.mkdir()
        return made


# --- runs


def rates(plan: Plan, say: Callable[[str], None]) -> Iterator[Row]:
    """Against nginx, as fast as each can."""
    for body in BODIES:
        with nginx(plan.subfolder(f"nginx-{body}"), plan.files, body) as peer:
            many = _count_for(plan, body)
            few = max(many // AIOAPNS_SHARE, 1)
            clients: dict[str, Order] = {"ours": plan.order("ours", peer, body, count=many)}
            for tasks in TASKS:
                name = f"aioapns, {tasks} at once"
                clients[name] = plan.order("aioapns", peer, body, count=few, streams=tasks)
            clients["h2load"] = plan.order("h2load", peer, body, count=many)
            found: dict[str, list[Sent]] = {name: [] for name in clients}
            for number in range(plan.rounds):
                for name, order in clients.items():
                    say(f"nginx, {body} bytes, {name}, round {number + 1}")
                    found[name].append(run(order, plan.folder))
            yield from (_row(peer.name, body, 1, name, sents) for name, sents in found.items())


def distance(
    plan: Plan, body: int, round_trip_ms: float, connections: Sequence[int], say: Callable[[str], None]
) -> Iterator[Row]:
    """Against Apple's window, `round_trip_ms` away (0: directly), for so long as the plan says."""
    with ExitStack() as stack:
        folder = plan.subfolder(f"nghttpd-{body}-{round_trip_ms:g}")
        server = stack.enter_context(nghttpd(folder, plan.files))
        peer = stack.enter_context(relay(server, round_trip_ms)) if round_trip_ms else server
        for number in connections:
            bound = number * STEP / body / (round_trip_ms / 1000) if round_trip_ms else 0.0
            found: dict[str, list[Sent]] = {"ours": [], "h2load": []}
            used = 0.0
            warm_up = 0.5 + 5 * round_trip_ms / 1000 + number / 60
            seconds = max(plan.seconds, 3 * round_trip_ms / 1000)
            for client in ["ours"] * plan.rounds + ["h2load"]:
                say(f"{peer.name}, {body} bytes, {number} connections, {client}")
                order = plan.order(client, peer, body, connections=number, seconds=seconds, warm_up=warm_up)
                before = peer.cpu()
                found[client].append(run(order, plan.folder))
                if client == "ours":
                    used += (peer.cpu() - before) / (seconds + warm_up) / plan.rounds
            share = used if round_trip_ms else 0.0
            yield from (_row(peer.name, body, number, c, s, bound, share) for c, s in found.items())


def _count_for(plan: Plan, body: int) -> int:
    """Return how many to send: nginx takes the longer for each body that it reads, the more it has read."""
    return plan.count if body <= SMALL else plan.count // 4


def counts(plan: Plan, say: Callable[[str], None]) -> Iterator[Count]:
    """System calls by perf or strace: a run less a short one, so that starting up does not count."""
    for body in BODIES:
        with nginx(plan.subfolder(f"counts-nginx-{body}"), plan.files, body) as peer:
            for client in ("ours", "aioapns", "h2load"):
                say(f"counts, nginx, {body} bytes, {client}")
                yield _count(plan, client, peer, body)
        with nghttpd(plan.subfolder(f"counts-nghttpd-{body}"), plan.files) as peer:
            for client in ("ours", "h2load"):
                say(f"counts, nghttpd, {body} bytes, {client}")
                yield _count(plan, client, peer, body)


def _count(plan: Plan, client: str, peer: Peer, body: int) -> Count:
    short = 500
    many = max(_count_for(plan, body) // (AIOAPNS_SHARE if client == "aioapns" else 1), 2 * short)
    streams = min(TASKS) if client == "aioapns" else 1000
    order = plan.order(client, peer, body, count=many, streams=streams, is_counting=True)
    long_run, sent = _counted(order, plan.folder)
    short_run, _ = _counted(replace(order, count=short), plan.folder)
    calls = (long_run - short_run) / (many - short) * 1000
    inside = [-1.0] * 3
    if client != "h2load":
        inside = [value / sent.answers * 1000 for value in (sent.reads, sent.writes, sent.ssl_reads)]
    return Count(peer.name, body, client, calls, *inside)


def _row(
    peer: str,
    body: int,
    connections: int,
    client: str,
    sents: list[Sent],
    bound: float = 0.0,
    relay_cpu: float = 0.0,
) -> Row:
    found = [sent.answers / sent.seconds for sent in sents]
    cpu = median(sent.cpu / max(sent.answers, 1) * 1e6 for sent in sents)
    return Row(peer, body, connections, client, median(found), min(found), max(found), cpu, bound, relay_cpu)


# --- one client, one process


def run(order: Order, folder: Path) -> Sent:
    """Run a client to its end.

    Raises:
        RuntimeError: it failed, or had answers other than 200.
    """
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    text = _output(_command(order, folder))
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if order.client != "h2load":
        return _checked(order, Sent(**json.loads(text)))
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return _checked(order, _read_h2load(order, text, cpu))


def _checked(order: Order, sent: Sent) -> Sent:
    if sent.faults or not sent.answers:
        raise RuntimeError(
            f"bench wire: {order.client} against port {order.port}: {sent.faults or 'no answer'}"
        )
    return sent


def _command(order: Order, folder: Path) -> list[str]:
    if order.client != "h2load":
        return [sys.executable, "-m", "tests.bench.sender", json.dumps(asdict(order))]
    body = folder / f"body-{order.body}"
    body.write_bytes(payload(order.body))
    paths = folder / "paths"
    apns_id = "0a1b2c3d-0a1b-4a1b-8a1b-0a1b2c3d4e5f"
    uri = f"https://127.0.0.1:{order.port}/3/device/"
    # The id stands in the path as well: nghttp2 indexes the header, ours must send it whole each time.
    paths.write_text("".join(f"{uri}{token_of(number)}?apns-id={apns_id}\n" for number in range(1000)))
    command = [needs("h2load", "nghttp2-client"), "-i", str(paths), "-m", str(order.streams), "-d", str(body)]
    command += ["-c", str(order.connections), "-H", f"apns-id: {apns_id}", "-H", f"apns-topic: {TOPIC}"]
    command += ["-H", "authorization: bearer " + "x" * 220, "-H", "apns-push-type: alert"]
    command += ["-H", "apns-priority: 10", "-H", "apns-expiration: 1768204800"]
    if order.count:
        return [*command, "-n", str(order.count)]
    return [
        *command,
        "-D",
        f"{ceil(order.seconds)}",
        "--warm-up-time",
        f"{ceil(order.warm_up)}",
    ]  # whole seconds


def _read_h2load(order: Order, text: str, cpu: float) -> Sent:
    rate = re.search(r"finished in .*?, ([\d.]+) req/s", text)
    good = re.search(r"status codes: (\d+) 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx", text)
    if rate is None or good is None:
        return Sent(0, 1.0, cpu, faults=[text[-300:]])
    answers = int(good[1])
    faults = [good[0]] if any(map(int, good.groups()[1:])) or answers < order.count else []
    return Sent(answers, answers / max(float(rate[1]), 1e-9), cpu, faults=faults)


def _counted(order: Order, folder: Path) -> tuple[int, Sent]:
    """Return the number of system calls of the whole process, and what it says of itself."""
    report, command = folder / "calls", _command(order, folder)
    is_perf = _has_perf()
    if is_perf:
        watch = ["perf", "stat", "-x,", "-e", "raw_syscalls:sys_enter", "-o", str(report), "--"]
    else:
        watch = [needs("strace"), "-c", "-f", "-o", str(report)]
    text = _output([*watch, *command])
    sent = Sent(0, 0, 0) if order.client == "h2load" else _checked(order, Sent(**json.loads(text)))
    found = report.read_text()
    if is_perf:
        return int(next(line.split(",")[0] for line in found.splitlines() if "sys_enter" in line)), sent
    return int(found.splitlines()[-1].split()[3]), sent  # 100.00  seconds  usecs/call  calls  [errors]  total


def _has_perf() -> bool:
    if shutil.which("perf") is None:
        return False
    command = ["perf", "stat", "-e", "raw_syscalls:sys_enter", "true"]
    return subprocess.run(command, capture_output=True, timeout=30, check=False).returncode == 0


def _output(command: list[str]) -> str:
    root = Path(__file__).parents[2]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        cwd=root,
        check=False,
        env={**os.environ, "LC_ALL": "C"},
    )
    if done.returncode:
        raise RuntimeError(f"bench wire: {command[0]}: {(done.stderr or done.stdout)[-600:]}")
    return done.stdout
