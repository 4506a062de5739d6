"""From nodes to the merged tree, against the option table; finds everything that is wrong on the way.

`build` never stops at the first problem: what is wrong is noted with its place and left out, and the
rest is looked at all the same. Bodies of stanzas that cannot be placed are still checked, as if
they stood where they should. Nothing is read from disk here: the loader has put the items of included
files into the tree of nodes.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from momentum_push.config import instances, options
from momentum_push.config.nodes import Assignment, Include, Included, Item, Stanza, cited
from momentum_push.config.options import GLOBAL, Instance, StanzaKind
from momentum_push.config.tree import Block, Setting, key_of
from momentum_push.config.values import BadValue, Option, convert
from momentum_push.errors import Place, Problem

__all__ = ["build"]


def build(items: Sequence[Item], file: str) -> tuple[Block, list[Problem]]:
    """The merged tree of a configuration and all problems met, in the order found; warnings among them."""
    builder = _Builder()
    root = Block(GLOBAL, "", Place(file))
    builder.fill(root, items)
    return root, builder.problems


class _Builder:
    def __init__(self) -> None:
        self.problems: list[Problem] = []

    def fill(self, block: Block, items: Iterable[Item]) -> None:
        """Put `items` into `block`; stanzas that exist already are merged."""
        for item in items:
            match item:
                case Assignment():
                    self._assign(block, item)
                case Stanza():
                    self._open(block, item)
                case Included():
                    self.fill(block, item.items)
                case Include():
                    raise AssertionError(f"{item.place}: include not resolved")  # the loader's work

    def _assign(self, block: Block, item: Assignment) -> None:
        row = options.option(item.name.lower(), block.kind)
        if row is None:
            self.problems.append(_misplaced_option(block, item))
            return
        try:
            value = convert(row, item.value)
        except BadValue as error:
            self._error(item.place, error.what, error.fix)
            return
        value = self._raised(row, value, item)
        self._security(block, row, value, item)
        block.settings[row.name] = Setting(value, item.value, item.place)

    def _raised(self, row: Option, value: Any, item: Assignment) -> Any:
        if not row.floor or value >= row.floor:
            return value
        what = f"{row.name} = {value} is below {row.floor} {row.unit}; raised to {row.floor}"
        self._warn(item.place, what, f"write {row.name} = {row.floor} or more")
        return row.floor

    def _security(self, block: Block, row: Option, value: Any, item: Assignment) -> None:
        if not _is_served(block):
            return
        for what, fix in options.unserved(row.name, value):
            self._error(item.place, what, fix)

    def _open(self, block: Block, item: Stanza) -> None:
        kind = options.stanza_kind(item.name.lower())
        if kind is None or block.kind not in kind.parents:
            self._misplaced_stanza(block, item, kind)
            return
        if kind.name in options.UNSERVED_STANZAS:
            self._warn(
                item.place, f"{kind.name}: {options.UNSERVED_STANZAS[kind.name]}", "the stanza has no effect"
            )
        self.fill(self._child(block, kind, item), item.items)

    def _child(self, block: Block, kind: StanzaKind, item: Stanza) -> Block:
        """The block that `item` opens or opens again; a detached one when its instance makes no sense."""
        instance = item.instance.text if item.instance else ""
        known = block.children.get((kind.name, key_of(kind.name, instance)))
        if known is not None:
            return known
        child = Block(kind.name, instance, item.place, block)
        try:
            self._check_instance(kind, child, item)
        except BadValue as error:
            self._error(item.instance.place if item.instance else item.place, error.what, error.fix)
            return child
        block.children[kind.name, key_of(kind.name, instance)] = child
        if child.pattern is not None:
            block.patterns.append(child)
        return child

    def _check_instance(self, kind: StanzaKind, child: Block, item: Stanza) -> None:
        if kind.instance is Instance.NEEDED and not child.instance:
            raise BadValue(
                f"{kind.name} needs a name", f'write {kind.name} "{instances.sample(kind.name)}" {{ … }}'
            )
        child.pattern = instances.check(kind.name, child.instance)

    def _misplaced_stanza(self, block: Block, item: Stanza, kind: StanzaKind | None) -> None:
        name = item.name.lower()
        if kind is None and options.is_unneeded_stanza(name):
            self._warn(item.place, f'stanza "{item.name}" has no use in a push daemon', "it is ignored")
            return
        if kind is None and options.rows_of(name):
            self._error(item.place, f'"{item.name}" is an option, not a stanza', f"write {item.name} = VALUE")
            return
        if kind is not None:
            what, fix = (
                f'stanza "{item.name}" is not legal in {_where(block)}',
                f"put it into {_or(kind.parents)}",
            )
        else:
            what, fix, kind = _unknown_stanza(block, item)
        self._error(item.place, what, fix)
        if kind is not None:
            detached = Block(kind.name, item.instance.text if item.instance else "", item.place, block)
            self.fill(detached, item.items)

    def _error(self, place: Place, what: str, fix: str) -> None:
        self.problems.append(Problem(place, what, fix))

    def _warn(self, place: Place, what: str, fix: str) -> None:
        self.problems.append(Problem(place, what, fix, is_warning=True))


def _is_served(block: Block | None) -> bool:
    """Whether something acts on this block; an option that guards a closed door guards nothing."""
    while block is not None:
        if block.kind in options.UNSERVED_STANZAS:
            return False
        block = block.parent
    return True


def _misplaced_option(block: Block, item: Assignment) -> Problem:
    name, shown = item.name.lower(), cited(item.name)
    rows = options.rows_of(name)
    if rows:
        scopes = _or(dict.fromkeys(scope for row in rows for scope in row.scopes))
        return Problem(
            item.place, f'option "{shown}" is not legal in {_where(block)}', f"it belongs in {scopes}"
        )
    if options.is_unneeded_option(name):
        what = f'option "{shown}" has no use in a push daemon'
        return Problem(item.place, what, "it is ignored", is_warning=True)
    kind = options.stanza_kind(name)
    if kind is not None:
        return Problem(item.place, f'"{shown}" is a stanza, not an option', f"write {_opening(kind)} {{ … }}")
    near = options.nearest(name, options.options_in(block.kind))
    fix = f'did you mean "{near}"?' if near else "remove it or correct its name"
    return Problem(item.place, f'unknown option "{shown}" in {_where(block)}', fix)


def _unknown_stanza(block: Block, item: Stanza) -> tuple[str, str, StanzaKind | None]:
    legal = options.stanzas_in(block.kind)
    near = options.nearest(item.name, legal)
    what = f"'{cited(item.name)}' is not a valid scope name in scope '{_scope_title(block)}'"
    if near:
        return what, f'did you mean "{near}"?', options.stanza_kind(near)
    return what, f"use {_or(legal)}" if legal else f"{block.kind} holds options only", None


def _opening(kind: StanzaKind) -> str:
    return kind.name if kind.instance is Instance.MAYBE else f'{kind.name} "{instances.sample(kind.name)}"'


def _scope_title(block: Block) -> str:
    """A kind as Momentum spells it: `Binding_Group`."""
    return "_".join(word.capitalize() for word in block.kind.split("_"))


def _where(block: Block) -> str:
    return "global scope" if block.kind == GLOBAL else block.title


def _or(words: Iterable[str]) -> str:
    listed = list(words)
    return listed[0] if len(listed) == 1 else ", ".join(listed[:-1]) + " or " + listed[-1]
