"""`Config`: a configuration that was found to be right, and the questions other rooms ask it."""

from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from momentum_push.config.options import options_in
from momentum_push.config.scopes import Listener, Scope, global_scope, module_scope, outbound_scope
from momentum_push.config.tree import Block
from momentum_push.config.values import Rate
from momentum_push.errors import Problem

__all__ = ["DEFAULT", "Config"]

DEFAULT = "default"
"""The binding group, and the binding in it, that always exist (momentum.md 2.5)."""


class Config:
    """Read access to one configuration; nothing in it ever changes."""

    def __init__(
        self, root: Block, path: Path, files: Sequence[Path] = (), warnings: Sequence[Problem] = ()
    ) -> None:
        self.root = root
        self.path = path
        self.files = list(files)
        self.warnings = sorted(warnings)
        self.glob = global_scope(root)
        self._outbound: dict[tuple[str, str, str], Scope] = {}
        self._listeners: dict[str, list[Listener]] = {}
        self._modules: dict[str, list[Scope]] = {}
        self._groups = _bindings(root)
        self._group_of = {name: group for group, names in reversed(self._groups.items()) for name in names}

    def __repr__(self) -> str:
        return f"<Config {self.path}, {len(self.files)} files, {len(self.warnings)} warnings>"

    def outbound(self, binding_group: str, binding: str, domain: str) -> Scope:
        """What is in effect for the queue of `domain` in `binding` of `binding_group` (momentum.md 2.1).

        Views are kept up to `match_cache_size`: senders choose domain names, so memory must not follow them.
        """
        key = (binding_group, binding, domain.lower())
        scope = self._outbound.get(key)
        if scope is None:
            if len(self._outbound) >= self.glob["match_cache_size"]:
                self._forget_some()
            scope = self._outbound[key] = outbound_scope(self.root, *key)
        return scope

    def _forget_some(self) -> None:
        """Drop the older half of the views."""
        for key in list(islice(self._outbound, (len(self._outbound) + 1) // 2)):
            del self._outbound[key]

    def domains(self) -> list[str]:
        """The exact domain names configured in any container, lower-case, in order of appearance."""
        containers = [self.root, *self.root.of("binding_group"), *self._binding_blocks()]
        names = (
            domain.instance.lower()
            for container in containers
            for domain in container.of("domain")
            if domain.pattern is None
        )
        return list(dict.fromkeys(names))

    def _binding_blocks(self) -> list[Block]:
        groups = self.root.of("binding_group")
        return [*self.root.of("binding"), *(block for group in groups for block in group.of("binding"))]

    def bindings(self) -> dict[str, list[str]]:
        """The bindings of each group; bindings that stand alone are in group "default"."""
        return {group: list(names) for group, names in self._groups.items()}

    def group_of(self, binding: str) -> str | None:
        """The group a binding stands in; None for an unknown binding."""
        return self._group_of.get(binding)

    def is_apn(self, domain: str) -> bool:
        """Whether messages for `domain` are notifications, seen from the default binding."""
        return bool(self.outbound(DEFAULT, DEFAULT, domain)["delivery_method"] == "apn")

    def throttle(self, option: str, binding_group: str, binding: str, domain: str) -> tuple[str, Rate] | None:
        """The bucket that a queue draws from: the name of the scope that declares it, and its rate.

        Equal names are one bucket (momentum.md 2.3). None when there is no limit; "0" lifts an outer one.
        """
        found = self.outbound(binding_group, binding, domain).found(option)
        if found is None:
            return None
        block, setting = found
        return (block.path, setting.value) if setting.value.count else None

    def listeners(self, kind: str) -> list[Listener]:
        """The listeners of a kind with at least one address that is switched on."""
        if kind not in self._listeners:
            listeners = [Listener(self.root, block) for block in self.root.of(kind)]
            self._listeners[kind] = [listener for listener in listeners if listener.listens]
        return self._listeners[kind]

    def modules(self, kind: str) -> list[Scope]:
        """The instances of a module that are enabled, in the order of their first appearance.

        Works for stanzas inside modules too (`script`), and for `security`.
        """
        if kind not in self._modules:
            blocks = [block for block in self.root.walk() if block.kind == kind]
            self._modules[kind] = [scope for scope in map(module_scope, blocks) if _is_enabled(scope)]
        return self._modules[kind]


def _is_enabled(scope: Scope) -> bool:
    return "enabled" not in options_in(scope.name) or bool(scope["enabled"])


def _bindings(root: Block) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {DEFAULT: [DEFAULT]}
    for group in root.of("binding_group"):
        names = groups.setdefault(group.instance, [])
        names.extend(block.instance for block in group.of("binding") if block.instance not in names)
    grouped = {name for group, names in groups.items() for name in names}
    groups[DEFAULT].extend(block.instance for block in root.of("binding") if block.instance not in grouped)
    return groups
