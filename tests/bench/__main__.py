"""The command line of `scripts/bench`."""

import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import click

from tests.bench.flow import Row, flow

__all__ = ["main"]


@click.group()
def main() -> None:
    """Measure momentum-push on this machine."""


@main.command("flow", epilog="Example: scripts/bench flow --count 50000")
@click.option(
    "--count", default=50_000, show_default=True, type=click.IntRange(1000), help="Messages of each kind."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def flow_command(count: int, as_json: bool) -> None:
    """In over HTTP and SMTP, each acknowledged after fsync, then out to nginx with a record each."""
    with TemporaryDirectory(prefix="momentum-push-bench-") as folder:
        rows = flow(Path(folder), count)
    if as_json:
        json.dump([row._asdict() for row in rows], sys.stdout)
        return
    for row in rows:
        print(_line(row))


def _line(row: Row) -> str:
    return f"{row.what:48} {row.messages:8,} {row.seconds:8.2f} s {row.messages / row.seconds:10,.0f}/s"


main()
