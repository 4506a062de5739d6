"""The command line: one file a command, joined here.

Exit status: 0 done, 1 the work failed (message on stderr), 2 wrong usage (interfaces.md 1). Modules
are imported when their command is called, so that `--help` and `check` do not wait for the server's.
"""

from __future__ import annotations

import sys
from importlib import import_module

import click

from momentum_push import __version__
from momentum_push.errors import MomentumPushError

__all__ = ["main"]

_COMMANDS = {
    "serve": "serve",
    "check": "check",
    "dump-config": "dump_config",
    "inject": "inject",
    "simulate": "simulate",
    "spool": "spool",
    "demo": "demo",
}


class _Commands(click.Group):
    """Finds commands by name, without importing the others."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        module = _COMMANDS.get(cmd_name)
        if module is None:
            return None
        command = import_module(f"momentum_push.cli.{module}").command
        assert isinstance(command, click.Command)
        return command


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog='Each command has its own --help with an example, e.g. "momentum-push serve --help".',
)
@click.version_option(__version__, prog_name="momentum-push")
def _group() -> None:
    """An injection daemon for Apple push notifications, in the manner of Momentum."""


def main() -> None:
    """Run the command line; errors that we know are one message and status 1."""
    try:
        _group(prog_name="momentum-push")
    except MomentumPushError as error:
        click.echo(str(error), err=True)
        sys.exit(1)
