"""`scripts/bench soak`: the real daemon, two simulators full of random faults, a stream in; then the books.

    injector ──HTTP, SMTP──► momentum-push serve ──► momentum-push simulate (1), (2)
        │ accepted                │ D, T, P records            │ ledgers
        └─────────────────────────┴──────── `Books` ───────────┘      + samples of the process

The stream stops, everything must settle within a deadline, and then the laws of `Books.breaches` hold: every
accepted message has one final record, what is recorded as delivered was accepted by the peer, copies are
only of what was counted as unknown. Nothing is left: no queue, no request, no descriptor, no memory.

A backlog makes memory grow up to the bound of `max_resident_messages`, and an allocator does not give all
of that back. So a long run begins with a backlog beyond that bound, which goes out before the stream begins:
from then on memory must stay where it is, whatever waits in between.
"""

import contextlib
import hashlib
import http.client
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from momentum_push.simulator import make_provider_key, make_server_certificate
from tests.bench.flow import replies, session
from tests.bench.soak_books import FORMATS, Books
from tests.bench.soak_faults import fault_file
from tests.helpers.clients import mail
from tests.helpers.daemon import DOMAIN, conf_for, until
from tests.helpers.servers import Apns, is_listening

__all__ = ["Soak", "soak", "table"]

PAYLOAD = {"aps": {"alert": {"title": "Ferry cancelled", "body": "The 18:40 does not run today."}}}
TICK_S = 0.1
SAMPLE_S = 1.0
SMTP_SHARE = 0.2
SETTLE_S = 180.0
MAX_LAG_S = 1.0
"""For the 99th percentile of answers to /healthz; the machine is shared with simulators and injector."""
LONG_S, MAX_GROWTH = 300.0, 0.05
"""Memory is judged after so long; in less the interpreter has not come to rest."""
FLOOD = 50_000
"""Messages that wait at the beginning of a long run: more than `max_resident_messages` lets into memory."""
FLOOD_S = 180.0
GAUGES = ("active_queue_size", "delayed_queue_size", "streams_in_flight", "resident_messages")
"""What is 0 when everything is settled."""
SPARE_DESCRIPTORS = 24
"""Connections to both simulators and clients' idle ones, that a settled daemon may hold."""

OPTIONS = """max_outbound_connections = 8
  max_connects_per_minute = 1200
  connect_timeout = 2
  delivery_response_timeout = 5000
  retry_interval = 1
  max_retry_interval = 4
  max_retries = 1000
"""


SUSPENDED = "  suspend_delivery = true\n"


@dataclass
class Soak:
    """What a run brought; seconds, bytes and messages."""

    seconds: float
    rate: int
    seed: int
    accepted: int = 0
    refused: int = 0
    delivered: int = 0
    failed: int = 0
    retried: int = 0
    processed: int = 0
    copies: int = 0
    unknown: int = 0
    settle_s: float = 0.0
    lag_p50_s: float = 0.0
    lag_p99_s: float = 0.0
    lag_max_s: float = 0.0
    rss_first: float = 0.0
    rss_last: float = 0.0
    curve: list[tuple[int, float, int]] = field(default_factory=list)
    """Twenty looks: seconds, RSS in MiB, messages that waited."""
    descriptors_first: int = 0
    descriptors_last: int = 0
    threads_last: int = 0
    connects: int = 0
    faults: dict[str, int] = field(default_factory=dict)
    breaches: list[str] = field(default_factory=list)


class Injector:
    """A steady stream: one HTTP request and one mail each tick, from two threads."""

    def __init__(self, http_port: int, smtp_port: int, seed: int, rate: int, seconds: float) -> None:
        self.accepted = self.refused = 0
        self.known: set[str] = set()
        self.errors: list[str] = []
        self._ports, self._seed, self._rate = (http_port, smtp_port), seed, rate
        self._seconds, self._ends = seconds, 0.0
        self._lock = threading.Lock()
        self._threads = [
            threading.Thread(target=self._guard, args=(each,)) for each in (self._http, self._smtp)
        ]

    def flood(self, count: int) -> None:
        """Put in `count` messages at once, each with a payload of its own."""
        client = http.client.HTTPConnection("127.0.0.1", self._ports[0], timeout=60)
        for start in range(0, count, 1000):
            many = [self._token(f"flood {number}") for number in range(start, start + 1000)]
            self._post(client, many, 0)
        client.close()

    def run(self) -> None:
        """Send the stream."""
        self._ends = time.monotonic() + self._seconds
        for thread in self._threads:
            thread.start()
        for thread in self._threads:
            thread.join()

    def _guard(self, work: Any) -> None:
        try:
            work()
        except (OSError, http.client.HTTPException, AssertionError, ValueError) as error:
            self.errors.append(f"the injector's {work.__name__[1:]} thread ended: {error!r}")

    def _ticks(self, share: float, name: str) -> Iterator[list[str]]:
        begins, sent = time.monotonic(), 0
        while (now := time.monotonic()) < self._ends:
            wanted = int((now - begins + TICK_S) * self._rate * share)
            count = min(wanted - sent, 1000)
            yield [self._token(f"{name} {number}") for number in range(sent, sent + count)]
            sent += count
            time.sleep(max(0.0, begins + sent / (self._rate * share) - time.monotonic()))

    def _token(self, name: str) -> str:
        return hashlib.sha256(f"{self._seed} {name}".encode()).hexdigest()

    def _note(self, accepted: int, refused: int = 0) -> None:
        with self._lock:
            self.accepted += accepted
            self.refused += refused

    def _http(self) -> None:
        client = http.client.HTTPConnection("127.0.0.1", self._ports[0], timeout=60)
        for number, many in enumerate(self._ticks(1 - SMTP_SHARE, "http")):
            self._post(client, many, number)
        client.close()

    def _post(self, client: http.client.HTTPConnection, many: list[str], number: int) -> None:
        client.request("POST", "/v1/notifications", _body(many, number), {"Content-Type": "application/json"})
        answer = client.getresponse()
        body = json.loads(answer.read())
        results = body.get("results", []) if answer.status == 200 else []
        self.known.update(each["apns_id"].lower() for each in results if "apns_id" in each)
        taken = body["accepted"] if answer.status == 200 else 0
        self._note(taken, len(many) - taken)

    def _smtp(self) -> None:
        content = mail(payload=json.dumps(PAYLOAD)) + b".\r\n"
        with session(self._ports[1]) as (sock, answers):
            for many in self._ticks(SMTP_SHARE, "smtp"):
                rcpts = "".join(f"RCPT TO:<{token}@{DOMAIN}>\r\n" for token in many)
                sock.sendall(f"MAIL FROM:<push@example.net>\r\n{rcpts}DATA\r\n".encode())
                replies(answers, len(many) + 2)
                sock.sendall(content)
                replies(answers, 1)
                self._note(len(many))


def _body(many: list[str], number: int) -> bytes:
    """Fan-outs and batches in turn; now and then with an expiry that an outage outlasts."""
    form: dict[str, Any] = {"domain": DOMAIN, "priority": (10, 5, 10)[number % 3]}
    if number % 50 == 7:
        form["expiration"] = int(time.time()) + 4
    if number % 2:
        return json.dumps({**form, "device_tokens": many, "payload": PAYLOAD}).encode()
    shared = {key: value for key, value in form.items() if key != "domain"}
    items = [
        {"device_token": token, "payload": {**PAYLOAD, "n": n}, **shared} for n, token in enumerate(many)
    ]
    return json.dumps({"domain": DOMAIN, "notifications": items}).encode()


class Sampler:
    """Looks at the daemon from outside, once a second: memory, descriptors, threads, time to answer."""

    def __init__(self, pid: int, port: int) -> None:
        self._pid, self._port = pid, port
        self.rss: list[tuple[float, int]] = []
        self.waiting: list[int] = []
        self.descriptors: list[int] = []
        self.threads: list[int] = []
        self.lags: list[float] = []
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()

    def look(self) -> None:
        """Take one sample."""
        status = Path(f"/proc/{self._pid}/status").read_text()
        self.rss.append((time.monotonic(), int(re.findall(r"VmRSS:\s+(\d+)", status)[0]) * 1024))
        self.threads.append(int(re.findall(r"Threads:\s+(\d+)", status)[0]))
        self.descriptors.append(len(os.listdir(f"/proc/{self._pid}/fd")))
        self.waiting.append(int(self.metric("active_queue_size") + self.metric("delayed_queue_size")))
        started = time.perf_counter()
        self.get("/healthz")
        self.lags.append(time.perf_counter() - started)

    def get(self, path: str) -> str:
        client = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        client.request("GET", path)
        text = client.getresponse().read().decode()
        client.close()
        return text

    def metric(self, name: str) -> float:
        """Return the sum of a metric over its labels."""
        pattern = rf"^momentum_push_{name}(?:\{{.*\}})? (\S+)$"
        return sum(float(each) for each in re.findall(pattern, self.get("/metrics"), re.M))

    def _run(self) -> None:
        while not self._stopped.wait(SAMPLE_S):
            with contextlib.suppress(OSError, http.client.HTTPException, IndexError):
                self.look()


@contextlib.contextmanager
def running(command: list[str], **options: Any) -> Iterator[subprocess.Popen[str]]:
    """Run one of our commands; SIGTERM at the end, which must bring status 0."""
    command = [sys.executable, "-m", "momentum_push", *command]
    with subprocess.Popen(command, text=True, **options) as process:
        try:
            yield process
        finally:
            process.terminate()
            process.wait(60)


@contextlib.contextmanager
def simulator(folder: Path, number: int, faults: str) -> Iterator[tuple[int, Path]]:
    """Run a simulator; its port and its ledger."""
    ledger, path = folder / f"ledger{number}.json", folder / f"faults{number}.yaml"
    path.write_text(faults)
    command = ["simulate", "--listen", "127.0.0.1:0", "--cert-dir", str(folder / "apns")]
    command += ["--ledger", str(ledger), "--faults", str(path)]
    with running(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("listening on "), line
        yield int(line.split(",")[0].rpartition(":")[2]), ledger


def soak(folder: Path, seconds: float, rate: int, seed: int) -> Soak:
    """Run it; see the module's head."""
    apns = _apns(folder)
    report = Soak(seconds, rate, seed)
    with contextlib.ExitStack() as stack:
        peers = [
            stack.enter_context(simulator(folder, number, fault_file(seed, seconds, number, rate)))
            for number in (1, 2)
        ]
        conf = _conf(folder, apns, [port for port, _ in peers])
        is_long = seconds >= LONG_S
        (folder / "ecelerity.conf").write_text(conf.replace(OPTIONS, OPTIONS + SUSPENDED * is_long))
        errors = stack.enter_context((folder / "diagnostics").open("w"))
        daemon = stack.enter_context(
            running(["serve", "-c", str(folder / "ecelerity.conf")], stdout=subprocess.DEVNULL, stderr=errors)
        )
        ports = _ports(folder, daemon)
        sampler = Sampler(daemon.pid, ports["http"])
        injector = Injector(ports["http"], ports["smtp"], seed, rate, seconds)
        if is_long:
            injector.flood(FLOOD)
            (folder / "ecelerity.conf").write_text(conf)
            daemon.send_signal(signal.SIGHUP)
            until(lambda: not any(map(sampler.metric, GAUGES)), "the end of the first backlog", FLOOD_S)
        begins = time.monotonic()
        injector.run()
        stopped = time.monotonic()
        _settle(sampler, report)
        report.settle_s = time.monotonic() - stopped
        sampler.stop()
        sampler.look()
        report.unknown = int(sampler.metric("unknown_outcomes_total"))
        report.connects = int(sampler.metric("connects_total"))
    report.accepted, report.refused = injector.accepted, injector.refused
    report.breaches += injector.errors
    if daemon.returncode:
        report.breaches.append(f"the daemon ended with status {daemon.returncode}; see its diagnostics")
    _weigh(report, sampler, begins, stopped)
    _balance(report, folder, [ledger for _, ledger in peers], injector)
    return report


def _apns(folder: Path) -> Apns:
    key = folder / "AuthKey.p8"
    key_id = make_provider_key(key)
    ca = make_server_certificate(folder / "apns").ca
    return Apns(folder, 0, folder / "ledger.json", ca, key, key_id)


def _conf(folder: Path, apns: Apns, ports: list[int]) -> str:
    routes = ", ".join(f'"apn://localhost?port={port}"' for port in ports)
    conf = conf_for(folder, ports[0], apns.credential, options=OPTIONS, extra=FORMATS.format(folder=folder))
    return conf.replace(f'"apn://localhost?port={ports[0]}"', routes)


def _ports(folder: Path, daemon: subprocess.Popen[str]) -> dict[str, int]:
    def started() -> dict[str, Any] | None:
        lines = (folder / "diagnostics").read_text().splitlines()
        assert daemon.poll() is None, "\n".join(lines)
        return next((json.loads(each) for each in lines if '"started"' in each), None)

    event = until(started, "the daemon's start")
    ports = {door: int(event[door][0].rpartition(":")[2]) for door in ("smtp", "http")}
    assert all(is_listening(port) for port in ports.values())
    return ports


def _settle(sampler: Sampler, report: Soak) -> None:
    """Wait until nothing waits, is in flight, or has yet to be committed."""
    try:
        until(lambda: not any(map(sampler.metric, GAUGES)), "an empty queue", SETTLE_S)
    except AssertionError as error:
        left = {gauge: sampler.metric(gauge) for gauge in GAUGES}
        report.breaches.append(f"{error}; left: {left}")


def _weigh(report: Soak, sampler: Sampler, begins: float, stopped: float) -> None:
    """Compare the process at the beginning and at the end."""
    lags = sorted(sampler.lags)
    report.lag_p50_s, report.lag_max_s = statistics.median(lags), lags[-1]
    report.lag_p99_s = lags[int(len(lags) * 0.99) - 1]
    warm = begins + max(5.0, report.seconds * 0.1)
    samples = [rss for at, rss in sampler.rss if warm <= at <= stopped] or [sampler.rss[-1][1]]
    third = max(1, len(samples) // 3)
    report.rss_first, report.rss_last = (
        statistics.median(samples[:third]),
        statistics.median(samples[-third:]),
    )
    looks = list(zip(sampler.rss, sampler.waiting, strict=False))
    report.curve = [
        (round(at - begins), round(rss / (1 << 20), 1), waiting)
        for (at, rss), waiting in looks[:: max(1, len(looks) // 20)]
    ]
    growth = report.rss_last / report.rss_first - 1
    if report.seconds >= LONG_S and growth > MAX_GROWTH:
        report.breaches.append(f"the daemon's memory grew by {growth:.1%}")
    report.descriptors_first, report.descriptors_last = sampler.descriptors[0], sampler.descriptors[-1]
    report.threads_last = sampler.threads[-1]
    if report.lag_p99_s > MAX_LAG_S:
        report.breaches.append(
            f"one in a hundred looks waited {report.lag_p99_s:.2f} s for its turn of the loop"
        )
    if report.descriptors_last > report.descriptors_first + SPARE_DESCRIPTORS:
        report.breaches.append(
            f"descriptors grew from {report.descriptors_first} to {report.descriptors_last}"
        )


def _balance(report: Soak, folder: Path, ledgers: list[Path], injector: Injector) -> None:
    books = Books()
    books.read_records(folder / "soak.ec")
    for ledger in ledgers:
        books.read_ledger(ledger)
    report.delivered, report.retried = len(books.delivered), books.retried
    report.failed = books.finals.total() - report.delivered
    report.processed = books.processed.total()
    report.copies = report.processed - len(books.processed)
    report.faults = dict(books.faults.most_common())
    report.breaches += books.breaches(injector.accepted, injector.known)
    if report.copies > report.unknown:
        report.breaches.append(
            f"{report.copies} copies, but only {report.unknown} outcomes counted as unknown"
        )


def table(report: Soak) -> str:
    """Return a report for people."""
    mib, growth = 1 << 20, report.rss_last / report.rss_first - 1
    rows = [
        ("seconds, messages a second, seed", f"{report.seconds:g}, {report.rate}, {report.seed}"),
        ("accepted; refused at the door", f"{report.accepted:,}; {report.refused:,}"),
        (
            "delivered; failed for good; attempts retried",
            f"{report.delivered:,}; {report.failed:,}; {report.retried:,}",
        ),
        ("accepted by the peer; of these copies", f"{report.processed:,}; {report.copies:,}"),
        ("outcomes unknown; connects", f"{report.unknown:,}; {report.connects:,}"),
        ("settled after the last message", f"{report.settle_s:.1f} s"),
        ("time to answer /healthz, p50, p99, max", _lags(report)),
        (
            "RSS, first and last third (medians)",
            f"{report.rss_first / mib:.1f}, {report.rss_last / mib:.1f} MiB, {growth:+.1%}",
        ),
        ("RSS in MiB / waiting, over time", " ".join(f"{rss:.0f}/{n}" for _, rss, n in report.curve)),
        (
            "descriptors at first, at last; threads",
            f"{report.descriptors_first}, {report.descriptors_last}; {report.threads_last}",
        ),
        ("faults", ", ".join(f"{name} {count:,}" for name, count in report.faults.items())),
    ]
    lines = [f"{name:48} {value}" for name, value in rows]
    lines += [f"BROKEN: {breach}" for breach in report.breaches] or ["all laws hold"]
    return "\n".join(lines)


def _lags(report: Soak) -> str:
    return (
        ", ".join(f"{each * 1000:.0f}" for each in (report.lag_p50_s, report.lag_p99_s, report.lag_max_s))
        + " ms"
    )
