"""The merged configuration: one block for each stanza instance, whatever number of places it was written in.

    Block global ─ settings: name → Setting(value, as written, place)
        └─ children: (kind, key) → Block        key: the instance, domains and hosts in lower case

The builder fills it from nodes, the resolved views of `scopes` read it, dump-config prints it.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from momentum_push.config.nodes import Value
from momentum_push.errors import Place

__all__ = ["Block", "Setting", "key_of"]


@dataclass(frozen=True, slots=True)
class Setting:
    """An option set in some block: typed, as it was written, and where."""

    value: Any
    written: Value
    place: Place


@dataclass(slots=True, eq=False)
class Block:
    """One stanza instance; `global` has neither instance nor parent."""

    kind: str
    instance: str
    place: Place
    parent: "Block | None" = None
    pattern: re.Pattern[str] | None = None
    settings: dict[str, Setting] = field(default_factory=dict)
    children: "dict[tuple[str, str], Block]" = field(default_factory=dict)
    patterns: "list[Block]" = field(default_factory=list)

    def __repr__(self) -> str:
        return f"<{self.path} at {self.place}, {len(self.settings)} options, {len(self.children)} stanzas>"

    @property
    def title(self) -> str:
        """`domain "example.com"`, or the kind alone for an anonymous stanza."""
        return f'{self.kind} "{self.instance}"' if self.instance else self.kind

    @property
    def path(self) -> str:
        """The titles from outside to inside, joined by blanks: the block's name in the whole file."""
        if self.parent is None or self.parent.parent is None:
            return self.title
        return f"{self.parent.path} {self.title}"

    def get(self, kind: str, instance: str) -> "Block | None":
        """The child of that kind and instance, if there is one."""
        return self.children.get((kind, key_of(kind, instance)))

    def of(self, kind: str) -> "list[Block]":
        """The children of that kind, in the order of their first appearance."""
        return [child for child in self.children.values() if child.kind == kind]

    def walk(self) -> "Iterator[Block]":
        """This block and all beneath it, outer ones first."""
        yield self
        for child in self.children.values():
            yield from child.walk()

    def matching(self, kind: str, name: str) -> "Iterator[Block]":
        """The exact child `name`, then the regular expressions that match it, in declaration order."""
        exact = self.get(kind, name)
        if exact is not None:
            yield exact
        for child in self.patterns:
            if child.kind == kind and child.pattern is not None and child.pattern.search(name):
                yield child


def key_of(kind: str, instance: str) -> str:
    """What instances of a kind are compared by: domains and hosts without regard to case."""
    return instance.lower() if kind in ("domain", "host") and not instance.startswith("/") else instance
