"""What `scripts/bench wire` prints: tables in Markdown, JSON, and the curve over connections as PNG."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.bench.micro import Micro
from tests.bench.wire import Count, Row

__all__ = ["Report", "machine"]

AT_LEAST = {160: (20.0, 0.8), 4000: (8.0, 0.0)}
"""Times aioapns, and share of h2load, that are promised against nginx."""
OF_BOUND = 0.9
CPU_US, IN_FLIGHT = 8.0, 500.0


def machine() -> str:
    """Name the machine and how busy others keep it."""
    load = " ".join(f"{value:.1f}" for value in os.getloadavg())
    return (
        f"{os.cpu_count()} cores, Linux {platform.release()}, Python {platform.python_version()}, load {load}"
    )


@dataclass
class Report:
    """One run's figures."""

    machine: str
    rates: list[Row] = field(default_factory=list)
    distance: list[Row] = field(default_factory=list)
    counts: list[Count] = field(default_factory=list)
    micro: Micro | None = None
    load_after: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def as_json(self) -> str:
        """Return everything as one object."""
        form: dict[str, Any] = {"machine": self.machine, "load_after": self.load_after}
        for name in ("rates", "distance", "counts"):
            form[name] = [row._asdict() for row in getattr(self, name)]
        form["micro"] = self.micro._asdict() if self.micro else None
        form["figures"] = [dict(zip(("what", "found", "wanted"), f, strict=True)) for f in self.figures()]
        return json.dumps(form, indent=1)

    def lines(self) -> Iterator[str]:
        """Yield the tables."""
        yield self.machine
        if self.rates:
            yield from _table(RATE_HEAD, (_rate_line(row) for row in self.rates))
        if self.distance:
            yield from _table(FAR_HEAD, (_far_line(row) for row in self.distance))
        if self.counts:
            yield from _table(COUNT_HEAD, (_count_line(count) for count in self.counts))
        figures = ((what, _number(found), wanted) for what, found, wanted in self.figures())
        yield from _table(("figure", "found", "wanted"), figures)
        yield f"load at the end: {' '.join(f'{value:.1f}' for value in self.load_after)}"

    def figures(self) -> Iterator[tuple[str, float, str]]:
        """Yield what is promised: name, found, wanted."""
        for body, (times, share) in AT_LEAST.items():
            found = {row.client: row.rate for row in self.rates if row.body == body}
            if "ours" not in found:
                continue
            best = max(rate for client, rate in found.items() if client.startswith("aioapns"))
            yield f"nginx, {body} bytes: ours / aioapns", found["ours"] / best, f">= {times:g}"
            wanted = f">= {share:g}" if share else "-"
            yield f"nginx, {body} bytes: ours / h2load", found["ours"] / found["h2load"], wanted
        for peer, body in dict.fromkeys((row.peer, row.body) for row in self.distance if row.bound):
            ours = [r for r in self.distance if (r.peer, r.body, r.client) == (peer, body, "ours")]
            least = min(row.rate / row.bound for row in ours)
            yield f"{peer}, {body} bytes: least share of the bound", least, f">= {OF_BOUND:g}"
        if self.micro:
            yield "wire, send and receive, µs", self.micro.send + self.micro.receive, f"< {CPU_US:g}"
            yield "  of it send, µs", self.micro.send, "-"
            yield "bytes per notification in flight", self.micro.in_flight, f"< {IN_FLIGHT:g}"

    def plot(self, path: Path) -> None:
        """Draw rate over connections, and the bound, to `path`."""
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot

        figure, axes = pyplot.subplots(figsize=(8, 5))
        series = [row for row in self.distance if row.bound]
        for color, (peer, body) in enumerate(dict.fromkeys((row.peer, row.body) for row in series)):
            for client, style in (("ours", "o-"), ("h2load", "x:")):
                rows = [r for r in series if (r.peer, r.body, r.client) == (peer, body, client)]
                label = f"{client}, {body:,} bytes, {peer.rpartition(', ')[2]}"
                axes.plot(
                    [r.connections for r in rows],
                    [r.rate for r in rows],
                    style,
                    color=f"C{color}",
                    label=label,
                )
            bound = {r.connections: r.bound for r in series if (r.peer, r.body) == (peer, body)}
            axes.plot(list(bound), list(bound.values()), "--", color=f"C{color}", linewidth=0.7)
        axes.set(xscale="log", yscale="log", xlabel="connections", ylabel="notifications per second")
        axes.set_xticks(ticks := sorted({row.connections for row in series}), [str(tick) for tick in ticks])
        axes.set_title("A window of 65,535 bytes, far away (dashed: 32 KiB per connection and round trip)")
        axes.title.set_fontsize(10)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
        figure.savefig(path, dpi=100, bbox_inches="tight")


RATE_HEAD = ("peer", "bytes", "client", "per second", "least … most", "client CPU, µs each")
FAR_HEAD = (
    "peer",
    "bytes",
    "connections",
    "client",
    "per second",
    "least … most",
    "of the bound",
    "relay CPU",
)
COUNT_HEAD = ("per 1,000 at", "bytes", "client", "system calls", "reads", "writes", "SSL_reads")


def _rate_line(row: Row) -> tuple[str, ...]:
    return (row.peer, f"{row.body:,}", row.client, f"{row.rate:,.0f}", _spread(row), f"{row.cpu_us:.1f}")


def _far_line(row: Row) -> tuple[str, ...]:
    share = f"{row.rate / row.bound:.2f}" if row.bound else "-"
    busy = f"{row.relay_cpu:.0%}" if row.relay_cpu else "-"
    names = row.peer, f"{row.body:,}", str(row.connections), row.client
    return (*names, f"{row.rate:,.0f}", _spread(row), share, busy)


def _count_line(count: Count) -> tuple[str, ...]:
    numbers = (count.system_calls, count.reads, count.writes, count.ssl_reads)
    seen = ("-" if number < 0 else f"{number:,.1f}" for number in numbers)
    return (count.peer, f"{count.body:,}", count.client, *seen)


def _spread(row: Row) -> str:
    return f"{row.least:,.0f} … {row.most:,.0f}"


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.2f}"


def _table(head: Sequence[str], lines: Iterator[tuple[str, ...]]) -> Iterator[str]:
    yield ""
    yield f"| {' | '.join(head)} |"
    yield f"|{' --- |' * len(head)}"
    for line in lines:
        yield f"| {' | '.join(line)} |"
