"""`scripts/bench e2e`: the whole way, load ─► daemon ─► nginx as APNs, each a process of its own.

    part        the queue                    what is measured
    batches     empty, flowing               accepted/s, delivered/s (D records), CPU of each process, memory
    aioapns     -                            the client library alone against the same nginx, at once
    singles     empty, flowing               requests/s
    idle        empty                        open loop: due time to answer, due time to nginx's log
    million     held back                    one request, a million tokens: until durable; the loop's lag
    backlog     grows to --count, held back  CPU of accepting, by what is queued
    restart     --count                      until started, until the first record; memory
    drain       a domain drains              open loop on another domain; CPU of delivering, by what is queued
    smtp        empty, flowing               mails/s, recipients/s, beside a bare aiosmtpd

All processes share the machine. Delivered means: the D record is in the log, which is read to count them.
"""

from __future__ import annotations

import http.client
import json
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.bench.e2e_world import (
    DEADLINE_S,
    SMALL_DOMAIN,
    TOPIC,
    Peer,
    Tail,
    bare,
    lines_after,
    nginx,
    python,
)
from tests.bench.load import BATCH, Load, Order, numbers
from tests.bench.procs import Process, fsync_times, quantile
from tests.bench.rooms import rooms, watched
from tests.bench.sender import Order as ClientOrder
from tests.helpers.daemon import DOMAIN, DaemonProcess, conf_for, until

__all__ = ["PARTS", "Bench", "Found", "Plan", "bench"]

PARTS = ("batches", "aioapns", "singles", "idle", "million", "backlog", "drain")
SMALL = "com.example.ferry.apns"
STOP_S = 30.0
RATE = 1000.0


@dataclass
class Plan:
    """How much of what."""

    folder: Path
    count: int
    """Messages of the backlog, and tokens of the one request."""
    batches: int
    singles: int
    open_s: float = 10.0
    receivers: int = 0
    with_smtp: bool = False
    with_profile: bool = False
    parts: tuple[str, ...] = PARTS


@dataclass
class Found:
    """All figures of a run, as JSON has them: part -> name -> value; and curves."""

    parts: dict[str, dict[str, float]] = field(default_factory=dict)
    curves: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    """Name -> points: CPU in µs over the depth of the queue, latency in ms over the share of requests."""


class Bench:
    """Daemon and nginx, and what is asked of them."""

    def __init__(self, plan: Plan, peer: Peer) -> None:
        self.plan, self.found = plan, Found()
        self._nginx, self._port, self._credential = peer.process, peer.port, peer.credential
        self.daemon = self._start("")
        self.tail = Tail(plan.folder / "apnlog.ec")

    # --- the daemon --------------------------------------------------------------------------------

    def _conf(self, options: str) -> str:
        small = SMALL_DOMAIN.format(domain=SMALL, port=self._port, topic=TOPIC, credential=self._credential)
        more = f"receivers = {self.plan.receivers}" if self.plan.receivers else ""
        return conf_for(
            self.plan.folder, self._port, self._credential, options=options, extra=small, extra_global=more
        )

    def _start(self, options: str) -> DaemonProcess:
        daemon = DaemonProcess(self.plan.folder, self._conf(options))
        daemon.event("started", DEADLINE_S)
        return daemon

    def _hold(self, is_held: bool) -> None:
        """Hold the large domain back, or let it go."""
        before = sum(event.get("event") == "reloaded" for event in self.daemon.events)
        self.daemon.conf_path.write_text(self._conf("suspend_delivery = true" if is_held else ""))
        self.daemon.signal(signal.SIGHUP)
        until(
            lambda: sum(e.get("event") == "reloaded" for e in self.daemon.events) > before, "the reload", 30
        )

    @property
    def process(self) -> Process:
        """The daemon and its receivers."""
        return Process(self.daemon.process.pid)

    def stop(self) -> None:
        """End it."""
        if self.daemon.process.poll() is None:
            self.daemon.process.terminate()
            try:
                self.daemon.process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self.daemon.kill()

    def summary(self, method: str = "GET") -> dict[str, Any]:
        """Ask for `/stats/summary`, or reset it."""
        connection = http.client.HTTPConnection("127.0.0.1", self.daemon.http_port, timeout=30)
        connection.request(method, "/stats/summary")
        answer: dict[str, Any] = json.loads(connection.getresponse().read())
        connection.close()
        return answer

    def load(self, kind: str, count: int, *, domain: str = DOMAIN, **more: Any) -> Load:
        """Run the load and wait for its end."""
        port = more.pop("port", None) or self._door(kind)
        out = self.plan.folder / "load.json"
        order = Order(kind, port, domain, count, deadline_s=DEADLINE_S, out=str(out), **more)
        python("tests.bench.load", asdict(order))
        return Load(**json.loads(out.read_text()))

    def _door(self, kind: str) -> int:
        return self.daemon.smtp_port if kind.startswith("smtp") else self.daemon.http_port

    def wait_delivered(self, count: int) -> None:
        """Wait until so many D records are in the log."""
        until(lambda: self.tail.look() >= count, f"{count} records", DEADLINE_S)

    @contextmanager
    def _core(self) -> Iterator[dict[str, float]]:
        """Note what part of the time the main thread ran, and what part it waited for a core."""
        shares: dict[str, float] = {}
        own, at = self.process, time.perf_counter()
        ran, waited = own.main_cpu(), own.main_waited()
        yield shares
        wall = time.perf_counter() - at
        shares["main_thread_ran"] = (own.main_cpu() - ran) / wall
        shares["main_thread_waited_for_a_core"] = (own.main_waited() - waited) / wall

    # --- parts -------------------------------------------------------------------------------------

    def flow(self, name: str, kind: str, count: int, connections: int) -> None:
        """Let `count` messages in and out at once."""
        before, own, peer = self.tail.look(), self.process.cpu(), self._nginx.cpu()
        self.process.forget_peak()
        with self._core() as shares:
            load = self.load(kind, count, connections=connections)
            accepted_at = time.perf_counter()
            self.wait_delivered(before + load.messages)
        # The load's process starts and makes its bodies first: delivery began when it did.
        seconds = time.perf_counter() - accepted_at + load.seconds
        each = 1e6 / load.messages
        self.found.parts[name] = {
            "messages": load.messages,
            "accepted_per_s": load.messages / load.seconds,
            "delivered_per_s": load.messages / seconds,
            "daemon_us": (self.process.cpu() - own) * each,
            "nginx_us": (self._nginx.cpu() - peer) * each,
            "load_us": load.cpu * each,
            "daemon_peak_mb": self.process.peak(),
            **shares,
        }

    def aioapns(self, count: int) -> None:
        """The client library against the same nginx, the better number of tasks."""
        key, ca = self.plan.folder / "AuthKey.p8", self.plan.folder / "apns" / "ca.pem"
        best: dict[str, float] = {}
        for streams in (100, 1000):
            order = ClientOrder("aioapns", self._port, str(ca), str(key), count=count, streams=streams)
            text = python("tests.bench.sender", asdict(order))
            sent = json.loads(text)
            assert not sent["faults"], sent["faults"]
            rate = sent["answers"] / sent["seconds"]
            if rate > best.get("delivered_per_s", 0.0):
                best = {"delivered_per_s": rate, "client_us": sent["cpu"] / sent["answers"] * 1e6}
        self.found.parts["aioapns"] = best

    def latency(self, name: str, rate: float = RATE) -> None:
        """Open loop on the small domain."""
        count = int(self.plan.open_s * rate)
        log = self.plan.folder / "timed.log"
        start = log.stat().st_size if log.exists() else 0
        fsyncs = fsync_times(self.plan.folder)
        cpu = self.process.cpu()
        with self._core() as shares:
            load = self.load("open", count, domain=SMALL, connections=64, rate=rate)
        cpu = self.process.cpu() - cpu
        until(lambda: lines_after(log, start) >= count, "nginx's log of the open loop", 60)
        with log.open() as file:
            file.seek(start)
            at_apns = [at - load.began - number / rate for at, number in numbers(file)]
        for what, values in (("answer", load.latencies), ("APNs", at_apns)):
            marks = [0.5, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999, 1.0]
            self.found.curves[f"latency, {name}, to {what}"] = [
                (share, quantile(values, share) * 1e3) for share in marks
            ]
        self.found.parts[name] = {
            **{f"fsync_{p}_ms": quantile(fsyncs, share) * 1e3 for p, share in QUANTILES},
            **{f"answer_{p}_ms": quantile(load.latencies, share) * 1e3 for p, share in QUANTILES},
            **{f"apns_{p}_ms": quantile(at_apns, share) * 1e3 for p, share in QUANTILES},
            "load_late_p99_ms": quantile(load.lateness, 0.99) * 1e3,
            "daemon_us": cpu / count * 1e6,
            **shares,
        }

    def million(self) -> None:
        """One request with all the tokens; held back, so that it is the door alone."""
        self._hold(True)
        self.summary("DELETE")
        self.process.forget_peak()
        cpu = self.process.cpu()
        with self._core() as shares:
            load = self.load("million", self.plan.count, connections=1)
        self.found.parts["million"] = {
            "messages": load.messages,
            "durable_s": load.first_s,
            "answer_s": load.seconds,
            "loop_lag_max_ms": self.summary()["LoopLagMax"] * 1e3,
            "daemon_us": (self.process.cpu() - cpu) / load.messages * 1e6,
            "daemon_peak_mb": self.process.peak(),
            **shares,
        }
        before = self.tail.look()
        self._hold(False)
        self.wait_delivered(before + load.messages)

    def backlog(self) -> None:
        """Fill the queue in steps; each costs what it costs."""
        self._hold(True)
        self.process.forget_peak()
        step = max(BATCH, self.plan.count // 10)
        steps = [min(10_000, step), *[step] * 10]
        queued, points, seconds = 0, [], 0.0
        for size in steps:
            size = min(size, self.plan.count - queued)
            if size < BATCH:
                break
            cpu = self.process.cpu()
            load = self.load("batches", size, connections=2)
            queued += load.messages
            seconds += load.seconds
            points.append((queued, (self.process.cpu() - cpu) / load.messages * 1e6))
        self.found.curves["CPU of accepting"] = points
        self.found.parts["backlog"] = {
            "messages": queued,
            "accepted_per_s": queued / seconds,
            "daemon_us": sum(cost for _, cost in points) / len(points),
            "daemon_mb": self.process.memory(),
            "daemon_peak_mb": self.process.peak(),
        }

    def drain(self) -> None:
        """Start anew with what is queued, and let it go while another domain has its open loop."""
        queued = int(self.found.parts["backlog"]["messages"])
        self.stop()
        before = self.tail.look()
        began = time.perf_counter()
        self.daemon = self._start("")
        started_s = time.perf_counter() - began
        self.wait_delivered(before + 1)
        self.found.parts["restart"] = {
            "queued": queued,
            "started_s": started_s,
            "first_record_s": time.perf_counter() - began,
            "daemon_mb": self.process.memory(),
        }
        self.latency("drain")
        at, cpu, done = time.perf_counter(), self.process.cpu(), self.tail.look()
        points, first = [], (at, cpu, done)
        total = before + queued + int(self.plan.open_s * RATE)
        while done < total:
            assert time.perf_counter() < at + DEADLINE_S, "the backlog does not drain"
            time.sleep(0.02)
            now_done, now_cpu = self.tail.look(), self.process.cpu()
            if now_done - done >= min(50_000, queued // 10) or now_done >= total:
                points.append((total - now_done, (now_cpu - cpu) / (now_done - done) * 1e6))
                cpu, done = now_cpu, now_done
        self.found.curves["CPU of delivering"] = points
        spent = time.perf_counter() - first[0]
        messages = max(1, done - first[2])
        self.found.parts["drain"] |= {
            "left_after_open_loop": total - first[2],
            "delivered_per_s": messages / spent,
            "daemon_us_out": (self.process.cpu() - first[1]) / messages * 1e6,
            "daemon_peak_mb": self.process.peak(),
        }

    def smtp(self) -> None:
        """Mails, beside a bare aiosmtpd, in turns."""
        for name, kind, count, connections in (
            ("smtp", "smtp", self.plan.singles, 16),
            ("smtp_rcpt", "smtp_rcpt", self.plan.batches, 4),
        ):
            self.flow(name, kind, count, connections)
            with bare() as port:
                load = self.load(kind, count, port=port, connections=connections)
            row = self.found.parts[name]
            row["bare_per_s"] = load.messages / load.seconds
            row["of_bare"] = row["accepted_per_s"] / row["bare_per_s"]

    def profile(self) -> None:
        """Sample the main thread: single requests in and out, batches in, and the same batches out."""
        plan = self.plan
        self._spied(
            "singles, in and out", lambda: self.load("singles", plan.singles, connections=64).messages
        )
        self.wait_quiet()
        self._hold(True)
        before = self.tail.look()
        count = self._spied("batches, in", lambda: self.load("batches", plan.batches, connections=4).messages)

        def let_out() -> int:
            self._hold(False)
            self.wait_delivered(before + count)
            return count

        self._spied("batches, out", let_out)

    def _spied(self, name: str, work: Callable[[], int]) -> int:
        """Do work on so many messages; note the CPU per message of each room."""
        own = self.process
        cpu, main = own.cpu(), own.main_cpu()
        with watched(own.pid, self.plan.folder) as stacks:
            count = work()
            cpu, main = own.cpu() - cpu, own.main_cpu() - main
        each = 1e6 / count
        self.found.parts[f"profile of {name}, µs"] = {
            **{room: share * main * each for room, share in rooms(stacks.read_text()).items()},
            "the other threads: spool writer": (cpu - main) * each,
            "all": cpu * each,
        }
        return count

    def run(self) -> Found:
        """Measure what the plan names."""
        plan = self.plan
        wanted = plan.parts
        self.flow("warm_up", "batches", min(20_000, plan.batches), 2)
        del self.found.parts["warm_up"]
        if "batches" in wanted:
            self.flow("batches", "batches", plan.batches, 4)
        if "aioapns" in wanted:
            self.aioapns(max(1000, plan.batches // 20))
        if "singles" in wanted:
            self.flow("singles", "singles", plan.singles, 64)
        if "idle" in wanted:
            self.latency("idle")
            self.wait_quiet()
        if "million" in wanted:
            self.million()
        if "backlog" in wanted or "drain" in wanted:
            self.backlog()
        if "drain" in wanted:
            self.drain()
        if plan.with_smtp:
            self.smtp()
        if plan.with_profile:
            self.profile()
        return self.found

    def wait_quiet(self) -> None:
        """Wait until nothing is queued."""
        until(lambda: self.summary()["TotalQueueSize"] == 0, "an empty queue", DEADLINE_S)


QUANTILES = (("p50", 0.5), ("p99", 0.99), ("p999", 0.999))


@contextmanager
def bench(plan: Plan) -> Iterator[Bench]:
    """Start nginx and the daemon; both end with the block."""
    with nginx(plan.folder) as peer:
        running = Bench(plan, peer)
        try:
            yield running
        finally:
            running.stop()
