"""The command line of `scripts/bench`."""

import json
import os
import signal
import sys
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

import click

from tests.bench import crash, e2e, e2e_report, wire
from tests.bench.flow import Row, flow
from tests.bench.micro import micro
from tests.bench.report import Report, machine
from tests.bench.soak import soak, table

__all__ = ["main"]

PARTS = ("rates", "window", "counts", "micro")
WINDOW = (
    (160, 0.0, (1, 4)),
    (4000, 0.0, (1, 4)),
    (4000, 100.0, wire.CONNECTIONS),
    (320, 100.0, wire.CONNECTIONS),
    (320, 1000.0, (1, 8, 32, 128)),
)
"""Bytes, round trip in ms, connections.

320 bytes and 128 connections over 100 ms would be 131,000/s, more than two cores can send, relay and answer;
over a second they are 13,000/s, and show that nothing else bends the line.
"""


@click.group()
def main() -> None:
    """Measure momentum-push on this machine."""


@main.command("flow", epilog="Example: scripts/bench flow --count 50000")
@click.option(
    "--count", default=50_000, show_default=True, type=click.IntRange(1000), help="Messages of each kind."
)
@click.option(
    "--receivers", default=0, show_default=True, type=click.IntRange(0), help="Processes for the doors."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def flow_command(count: int, receivers: int, as_json: bool) -> None:
    """In over HTTP and SMTP, each acknowledged after fsync, then out to nginx with a record each."""
    with TemporaryDirectory(prefix="momentum-push-bench-") as folder:
        rows = flow(Path(folder), count, receivers)
    if as_json:
        json.dump([row._asdict() for row in rows], sys.stdout)
        return
    for row in rows:
        print(_line(row))


@main.command("wire", epilog="Example: scripts/bench wire --plot docs/wire.png")
@click.option(
    "--count", default=100_000, show_default=True, type=click.IntRange(1000), help="Messages a run."
)
@click.option("--rounds", default=3, show_default=True, type=click.IntRange(1), help="Runs of each client.")
@click.option("--seconds", default=4.0, show_default=True, help="Length of each run far away.")
@click.option("--only", multiple=True, type=click.Choice(PARTS), help="This part; may be repeated.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
@click.option("--plot", type=click.Path(path_type=Path), help="Draw rate over connections to this PNG.")
def wire_command(
    count: int, rounds: int, seconds: float, only: tuple[str, ...], as_json: bool, plot: Path | None
) -> None:
    """The client alone, beside aioapns and h2load: nginx, Apple's window near and far, counts, micro."""
    parts = only or PARTS
    report = Report(machine())
    with TemporaryDirectory(prefix="momentum-push-bench-") as folder:
        plan = wire.Plan.of(Path(folder), count, rounds, seconds)
        if "rates" in parts:
            report.rates += wire.rates(plan, _say)
        if "window" in parts:
            for body, round_trip_ms, connections in WINDOW:
                report.distance += wire.distance(plan, body, round_trip_ms, connections, _say)
        if "counts" in parts:
            report.counts += wire.counts(plan, _say)
    if "micro" in parts:
        report.micro = micro()
    report.load_after = os.getloadavg()
    if plot is not None:
        report.plot(plot)
    print(report.as_json() if as_json else "\n".join(report.lines()))


@main.command("e2e", epilog="Example: scripts/bench e2e --smtp --plot docs/e2e.png")
@click.option(
    "--count",
    default=1_000_000,
    show_default=True,
    type=click.IntRange(2000),
    help="Messages of the backlog.",
)
@click.option("--smtp", is_flag=True, help="Over SMTP as well, beside a bare aiosmtpd.")
@click.option("--receivers", default=0, show_default=True, help="Processes for the doors.")
@click.option("--seconds", default=10.0, show_default=True, help="Length of each open loop.")
@click.option("--only", multiple=True, type=click.Choice(e2e.PARTS), help="This part; may be repeated.")
@click.option("--profile", is_flag=True, help="Shares of the rooms, by py-spy; figures are worse with it.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
@click.option("--plot", type=click.Path(path_type=Path), help="Draw costs and latencies to this PNG.")
def e2e_command(
    count: int,
    smtp: bool,
    receivers: int,
    seconds: float,
    only: tuple[str, ...],
    profile: bool,
    as_json: bool,
    plot: Path | None,
) -> None:
    """The whole way: a load, the daemon, nginx as APNs; rates, latencies, CPU, memory."""
    before = machine()
    with TemporaryDirectory(prefix="momentum-push-bench-") as folder:
        plan = e2e.Plan(
            Path(folder),
            count,
            batches=max(1000, count // 4),
            singles=max(1000, count // 20),
            open_s=seconds,
            receivers=receivers,
            with_smtp=smtp,
            with_profile=profile,
            parts=only or (() if profile else e2e.PARTS),
        )
        with e2e.bench(plan) as running:
            found = running.run()
    if plot is not None:
        e2e_report.plot(found, plot)
    print(e2e_report.as_json(found, before) if as_json else "\n".join(e2e_report.lines(found, before)))


def _say(what: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\x1b[K{what}", end="", file=sys.stderr, flush=True)


@main.command("soak", epilog="Example: scripts/bench soak --seconds 60 --seed 7")
@click.option("--seconds", default=600.0, show_default=True, type=click.FloatRange(5), help="Of injection.")
@click.option("--rate", default=1500, show_default=True, type=click.IntRange(10), help="Messages a second.")
@click.option("--seed", default=1, show_default=True, type=int, help="Of all faults.")
@click.option("--keep", type=click.Path(file_okay=False, path_type=Path), help="Folder for logs and ledgers.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def soak_command(seconds: float, rate: int, seed: int, keep: Path | None, as_json: bool) -> None:
    """Random faults from a seed under a steady stream; status 1 when a law is broken."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # daemon and simulators end with us
    with TemporaryDirectory(prefix="momentum-push-soak-") as temporary:
        folder = keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        report = soak(folder, seconds, rate, seed)
    if as_json:
        json.dump(asdict(report), sys.stdout)
    else:
        print(table(report))
    if report.breaches:
        raise SystemExit(1)


@main.command("crash", epilog="Example: scripts/bench crash --rounds 200 --images 20000")
@click.option("--rounds", default=50, show_default=True, type=click.IntRange(0), help="Kills under load.")
@click.option("--images", default=0, show_default=True, type=click.IntRange(0), help="Power cuts.")
@click.option("--seed", default="1", show_default=True, help="Repeats a run's dice, not its timing.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def crash_command(rounds: int, images: int, seed: str, as_json: bool) -> None:
    """Shoot the daemon, cut the power, and compare with what was promised; status 1 when it was not kept."""
    found = []
    if rounds:
        with TemporaryDirectory(prefix="momentum-push-bench-") as folder:
            found.append(crash.kill(Path(folder), rounds, seed))
    if images:
        found.append(crash.cut_power(images, seed))
    if as_json:
        json.dump(found, sys.stdout)
    else:
        print("\n\n".join(map(crash.table, found)))
    if any(each["problems"] for each in found):
        sys.exit(1)


def _line(row: Row) -> str:
    return f"{row.what:48} {row.messages:8,} {row.seconds:8.2f} s {row.messages / row.seconds:10,.0f}/s"


if __name__ == "__main__":  # power cuts are made in processes of their own, which import this
    main()
