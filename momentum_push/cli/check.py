"""`momentum-push check`: says whether a configuration can be used, and everything that is wrong with it.

Problems are the command's result, so they go to standard output, like `Configuration valid`; only that
there is no configuration at all goes to standard error. `VALIDATORS` look further than the conf language
does, at keys, certificates, routes, formats: the same functions that start and reload call.
"""

import os
from collections.abc import Callable, Iterable
from pathlib import Path

import click

from momentum_push.config import Config, find_default, load
from momentum_push.errors import ConfigError, Problem

__all__ = ["VALIDATORS", "chosen", "command", "config_option", "examine", "report"]


def _rooms(config: Config) -> Iterable[Problem]:
    from momentum_push.daemon.checks import validate  # here: dump-config and --help do not wait for the doors

    return validate(config)


VALIDATORS: list[Callable[[Config], Iterable[Problem]]] = [_rooms]

config_option = click.option(
    "-c",
    "--config",
    "path",
    type=click.Path(path_type=Path),
    help="Configuration file; default: ecelerity.conf along EC_CONF_SEARCH_PATH, then in /etc/momentum-push.",
)


def chosen(path: Path | None) -> Path:
    """The configuration file that a command means; ends the command when there is none."""
    found = path or find_default(os.environ)
    if found is None:
        click.echo("No configuration found", err=True)
        raise SystemExit(1)
    return found


def examine(path: Path) -> tuple[Config | ConfigError, list[Problem]]:
    """Load a configuration and let every validator look at it: what it is, and what they found."""
    try:
        config = load(path)
    except ConfigError as error:
        return error, _judge(error.partial) if isinstance(error.partial, Config) else []
    return config, _judge(config)


def _judge(config: Config) -> list[Problem]:
    """Let every validator look at a configuration, or at what could be read of one."""
    return [problem for validate in VALIDATORS for problem in validate(config)]


def report(result: Config | ConfigError, extra: Iterable[Problem] = (), err: bool = False) -> int:
    """Print all problems, one line each, sorted by place; the exit status they mean."""
    known = result.problems if isinstance(result, ConfigError) else result.warnings
    problems = sorted({*known, *extra})
    for problem in problems:
        click.echo(str(problem), err=err)
    return int(any(not problem.is_warning for problem in problems))


@click.command(
    "check",
    short_help="Check a configuration.",
    epilog="Example: momentum-push check -c /etc/momentum-push/ecelerity.conf",
)
@config_option
def command(path: Path | None) -> None:
    """Check a configuration and print every problem as FILE:LINE:COL: what; how to fix.

    Prints "Configuration valid" and exits 0 when it can be used; warnings do not change that.
    """
    status = report(*examine(chosen(path)))
    if status == 0:
        click.echo("Configuration valid")
    raise SystemExit(status)
