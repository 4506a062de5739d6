"""What `scripts/bench e2e` prints: what was wanted beside what was found, tables, JSON, curves as PNG."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from tests.bench.e2e import Found

__all__ = ["as_json", "figures", "lines", "plot"]

FLAT_BELOW, FLAT_SHARE = 10_000, 1.10


def figures(found: Found) -> Iterator[tuple[str, float, str, bool | None]]:
    """Yield what is promised: name, found, wanted, and whether it is so (None: nothing is promised)."""
    parts = found.parts
    if batches := parts.get("batches"):
        yield _least("batches of 1,000: delivered/s", batches["delivered_per_s"], 50_000)
        if aioapns := parts.get("aioapns"):
            yield _least("  times aioapns", batches["delivered_per_s"] / aioapns["delivered_per_s"], 12)
    if singles := parts.get("singles"):
        yield _least("one notification a request: accepted/s", singles["accepted_per_s"], 6_000)
    if million := parts.get("million"):
        yield _most("one request, all tokens: durable, s", million["durable_s"], 2)
        yield _most("  the loop's lag meanwhile, ms", million["loop_lag_max_ms"], 50)
    if idle := parts.get("idle"):
        yield _most("open loop, idle: answer p99, ms", idle["answer_p99_ms"], 3 * idle["fsync_p99_ms"] + 5)
    if drain := parts.get("drain"):
        yield _most("open loop, beside the backlog: answer p99, ms", drain["answer_p99_ms"], 100)
    for name in ("CPU of accepting", "CPU of delivering"):
        if len(points := found.curves.get(name, [])) > 1:
            points = sorted(points)
            yield _most(f"{name}: deepest queue / shallowest", points[-1][1] / points[0][1], FLAT_SHARE)
    if restart := parts.get("restart"):
        yield _most("restart: first record, s", restart["first_record_s"], 2)
        yield _most("  resident memory then, MB", restart["daemon_mb"], 200)
    for name in ("smtp", "smtp_rcpt"):
        if smtp := parts.get(name):
            yield _least(f"{name}: share of the bare handler", smtp["of_bare"], 0.6)


def _least(name: str, value: float, wanted: float) -> tuple[str, float, str, bool]:
    return name, value, f">= {wanted:,.4g}" if wanted < 1000 else f">= {wanted:,.0f}", value >= wanted


def _most(name: str, value: float, wanted: float) -> tuple[str, float, str, bool]:
    return name, value, f"<= {wanted:,.4g}", value <= wanted


def as_json(found: Found, machine: str) -> str:
    """Return everything as one object."""
    names = ("what", "found", "wanted", "is_reached")
    rows = [dict(zip(names, row, strict=True)) for row in figures(found)]
    return json.dumps({"machine": machine, "figures": rows, **asdict(found)}, indent=1)


def lines(found: Found, machine: str) -> Iterator[str]:
    """Yield the tables, in Markdown."""
    yield machine
    yield ""
    yield "| figure | found | wanted | |"
    yield "| --- | ---: | ---: | --- |"
    for name, value, wanted, is_reached in figures(found):
        yield f"| {name} | {_number(value)} | {wanted} | {'' if is_reached else 'missed'} |"
    for part, row in found.parts.items():
        yield ""
        yield f"| {part} | |"
        yield "| --- | ---: |"
        for name, value in row.items():
            yield f"| {name} | {_number(value)} |"


def _number(value: float) -> str:
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.2f}" if value >= 1 or not value else f"{value:.3g}"


def plot(found: Found, path: Path) -> None:
    """Draw the curves to `path`: CPU over the depth of the queue, latency over the share of requests."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (costs, latencies) = pyplot.subplots(1, 2, figsize=(12, 4.5))
    for name, points in found.curves.items():
        if name.startswith("CPU"):
            xs, ys = zip(*sorted(points), strict=True) if points else ((), ())
            costs.plot(xs, ys, "o-", label=name)
        else:
            xs = [max(1 - share, 0.0005) for share, _ in points]
            latencies.plot(xs, [max(ms, 0.1) for _, ms in points], "o-", label=name.removeprefix("latency, "))
    costs.set(xlabel="messages queued", ylabel="µs of the daemon's CPU per message", ylim=(0, None))
    costs.set_title("Cost over the depth of the queue", fontsize=10)
    latencies.set(xscale="log", yscale="log", xlabel="share of requests that took longer", ylabel="ms")
    latencies.invert_xaxis()
    latencies.set_title("1,000 requests a second, open loop, from due time", fontsize=10)
    for axes in (costs, latencies):
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    figure.savefig(path, dpi=100, bbox_inches="tight")
    pyplot.close(figure)
