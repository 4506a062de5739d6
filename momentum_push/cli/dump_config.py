"""`momentum-push dump-config`: the effective configuration, with the place where each value was written.

The default form is the conf language itself and parses again to the same configuration: what a stanza sets
stands there as an assignment, what it inherits and what is built in as a comment. Built-in defaults are
shown once, in the outermost stanza where the option is legal. `--yaml` says the same for programs.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import click
import yaml

from momentum_push.cli.check import chosen, config_option, report
from momentum_push.config import Config, Rate, load
from momentum_push.config.nodes import quoted
from momentum_push.config.options import Kind, Option
from momentum_push.config.scopes import view
from momentum_push.config.tree import Block
from momentum_push.delivery.proxy import masked
from momentum_push.errors import ConfigError, Place

__all__ = ["as_text", "as_yaml", "command"]

_INDENT = "  "
_PASSWORD = re.compile(r"(?<=://)([^:@/\s]*):[^@/\s]*@")


class Entry(NamedTuple):
    """One option as it is in effect at a stanza."""

    option: Option
    value: Any
    place: Place | None
    is_own: bool


@click.command(
    "dump-config",
    short_help="Show the effective configuration and where each value came from.",
    epilog="Example: momentum-push dump-config -c /etc/momentum-push/ecelerity.conf --yaml",
)
@config_option
@click.option("--yaml", "is_yaml", is_flag=True, help="As YAML: each option with its value and origin.")
def command(path: Path | None, is_yaml: bool) -> None:
    """Show the effective configuration with FILE:LINE of each value.

    The output is a configuration file again; inherited values and built-in defaults are comments in it.
    """
    try:
        config = load(chosen(path))
    except ConfigError as error:
        raise SystemExit(report(error, err=True)) from None
    click.echo(as_yaml(config) if is_yaml else as_text(config), nl=False)


def as_text(config: Config) -> str:
    """The configuration in its own language."""
    return "".join(line + "\n" for line in _body(config.root, config.root, 0))


def as_yaml(config: Config) -> str:
    """The configuration as nested mappings; every value beside its origin."""
    return yaml.safe_dump(_mapping(config.root, config.root), sort_keys=False, allow_unicode=True, width=110)


def entries(root: Block, block: Block) -> Iterator[Entry]:
    """What is in effect at a stanza, in the order of the option table."""
    scope = view(root, block)
    outer = view(root, block.parent) if block.parent else None
    known_outside = set(outer.options()) if outer else set()
    for name in scope.options():
        row = scope.row(name)
        if block.kind not in row.scopes:
            continue
        found = scope.found(name)
        if found is not None:
            yield Entry(row, found[1].value, found[1].place, found[0] is block)
        elif name not in known_outside:
            yield Entry(row, row.default, None, False)


def _body(root: Block, block: Block, depth: int) -> Iterator[str]:
    indent = _INDENT * depth
    for entry in entries(root, block):
        assignment = f"{entry.option.name} = {_written(entry.option, entry.value)}"
        yield f"{indent}{'' if entry.is_own else '# '}{assignment}  # {_origin(entry.place)}"
    for child in block.children.values():
        instance = f" {quoted(child.instance)}" if child.instance else ""
        yield f"{indent}{child.kind}{instance} {{  # {_origin(child.place)}"
        yield from _body(root, child, depth + 1)
        yield f"{indent}}}"


def _origin(place: Place | None) -> str:
    return f"{place.file}:{place.line}" if place else "default"


def _written(option: Option, value: Any) -> str:
    """A typed value as the conf language writes it."""
    shown = _shown(option, value)
    if isinstance(shown, bool):
        return "true" if shown else "false"
    if isinstance(shown, list):
        return "( " + "".join(quoted(item) + " " for item in shown) + ")"
    if isinstance(shown, dict):
        return "[ " + "".join(f"{quoted(key)} = {quoted(item)} " for key, item in shown.items()) + "]"
    return str(shown) if isinstance(shown, int) or option.type is Kind.MODE else quoted(shown)


def _shown(option: Option, value: Any) -> Any:
    """A typed value as plain data, passwords in URLs hidden."""
    if option.type is Kind.MODE:
        return f"{value:04o}"
    if value is None or isinstance(value, Rate):
        return str(value or 0)
    if option.name == "proxy":
        return masked(value)
    return _PASSWORD.sub(r"\1:***@", value) if isinstance(value, str) else value


def _mapping(root: Block, block: Block) -> dict[str, Any]:
    shown = {
        entry.option.name: {"value": _shown(entry.option, entry.value), "from": _origin(entry.place)}
        for entry in entries(root, block)
    }
    stanzas = [
        {child.kind: child.instance, "from": _origin(child.place), **_mapping(root, child)}
        for child in block.children.values()
    ]
    return {"options": shown, **({"stanzas": stanzas} if stanzas else {})}
