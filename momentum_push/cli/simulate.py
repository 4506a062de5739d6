"""`momentum-push simulate`: an APNs simulator in the foreground."""

import asyncio
import contextlib
import signal
import sys
from pathlib import Path

import click

from momentum_push.errors import ConfigError
from momentum_push.loggers import diagnostics
from momentum_push.simulator import ORDERS, Faults, Policy, Simulator, load_faults
from momentum_push.simulator.manual import MANUAL

__all__ = ["command"]

_EPILOG = f"""\
\b
Example:
  momentum-push simulate --listen 127.0.0.1:2197 --cert-dir apns --ledger apns/ledger.jsonl
  curl --http2 --cacert apns/ca.pem https://localhost:2197/3/device/00ff \\
       -H 'apns-topic: com.example.news' -H "authorization: bearer $JWT" -d '{{"aps":{{}}}}'

\b
The fault file (YAML):
{"".join("  " + line for line in MANUAL.splitlines(keepends=True))}
"""


@click.command("simulate", epilog=_EPILOG)
@click.option(
    "--listen",
    multiple=True,
    default=["127.0.0.1:2197"],
    show_default=True,
    metavar="HOST:PORT",
    help="Port 0: a free one. Several times: several listeners, which faults can tell apart.",
)
@click.option(
    "--cert-dir",
    default="./apns-simulator",
    show_default=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Where the throw-away CA and the server's certificate are made, or found.",
)
@click.option(
    "--ledger", type=click.Path(dir_okay=False, path_type=Path), help="JSON lines, one per request."
)
@click.option(
    "--faults",
    "fault_file",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE.yaml",
    help="What shall go wrong; see below.",
)
@click.option(
    "--environment", type=click.Choice(["production", "sandbox"]), default="production", show_default=True
)
@click.option(
    "--order",
    type=click.Choice(sorted(ORDERS)),
    default="apple",
    show_default=True,
    help="In which order requests are checked.",
)
@click.option("--payloads", is_flag=True, help="Keep payloads in the ledger, not only their hashes.")
def command(
    listen: tuple[str, ...],
    cert_dir: Path,
    ledger: Path | None,
    fault_file: Path | None,
    environment: str,
    order: str,
    payloads: bool,
) -> None:
    """Run an APNs simulator on TLS and HTTP/2.

    It makes a throw-away CA in --cert-dir, prints where it listens, and ends with status 0 on SIGTERM or
    SIGINT. Every well-formed ES256 provider token and every client certificate of that CA is believed.
    """
    diagnostics.configure(sys.stderr, level="warning")
    for address in listen:
        if not address.rpartition(":")[2].isdigit():
            raise click.BadParameter(f'"{address}" has no port; write HOST:PORT', param_hint="--listen")
    try:
        faults = load_faults(fault_file) if fault_file is not None else Faults()
        if faults.names:
            click.echo("simulate: names are for clients in the same process; they are left out", err=True)
        simulator = Simulator(
            listen,
            cert_dir,
            ledger,
            faults,
            policy=Policy(profile=order, environment=environment),
            keeps_payload=payloads,
        )
        asyncio.run(_run(simulator))
    except ConfigError as error:
        click.echo(str(error), err=True)
        raise SystemExit(1) from error
    except OSError as error:
        click.echo(
            f"simulate: cannot start on {' '.join(listen)} ({error}); "
            "choose another --listen, --cert-dir or --ledger",
            err=True,
        )
        raise SystemExit(1) from error


async def _run(simulator: Simulator) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        with contextlib.suppress(NotImplementedError):
            loop.add_signal_handler(number, stopped.set)
    async with simulator:
        click.echo(f"listening on {' '.join(simulator.addresses)}, CA in {simulator.ca_path}")
        sys.stdout.flush()
        await stopped.wait()
