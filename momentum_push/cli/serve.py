"""`momentum-push serve`: the daemon in the foreground."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click
import uvloop

from momentum_push.cli.check import chosen, config_option
from momentum_push.config import load
from momentum_push.daemon import Daemon, Notifier, serve
from momentum_push.loggers import diagnostics

__all__ = ["command"]


@click.command(
    "serve",
    short_help="Run the daemon.",
    epilog="Example: momentum-push serve -c /etc/momentum-push/ecelerity.conf",
)
@config_option
@click.option(
    "--log-level",
    default="info",
    show_default=True,
    type=click.Choice(["debug", "info", "notice", "warning", "error", "critical"], case_sensitive=False),
    help="The least that diagnostics show.",
)
def command(path: Path | None, log_level: str) -> None:
    """Run the daemon in the foreground.

    Diagnostics go to stderr, for people on a terminal and as JSON lines otherwise. SIGTERM and SIGINT
    drain and stop, SIGHUP reloads the configuration, SIGUSR1 reopens the logs. Speaks systemd's notify
    protocol when NOTIFY_SOCKET is set.
    """
    diagnostics.configure(level=log_level)
    config = load(chosen(path))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(Daemon(config), Notifier()))
