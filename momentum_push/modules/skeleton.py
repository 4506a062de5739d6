"""A module to copy: it does nothing, in the right order.

To add a module: copy this file into the room where the work is done, declare its options in
the option table, and let the daemon register it: `registry.add("skeleton", Skeleton)`.
"""

from typing import Any

from momentum_push.errors import Problem

__all__ = ["Skeleton"]


class Skeleton:
    """`skeleton "instance" { enabled = true }`."""

    def __init__(self, scope: Any) -> None:
        """Keep the stanza's view; open nothing: `validate` may be all that is ever called."""
        self.name = f'skeleton "{scope.instance}"'
        self._scope = scope

    def validate(self, config: Any) -> list[Problem]:
        """Return every problem with the place of the option that causes it, and how to fix it."""
        return []

    async def start(self) -> None:
        """Open what the work needs; when it cannot be had, close what was opened and raise."""

    async def reload(self, config: Any) -> None:
        """Prepare everything first, then switch; raise before the switch or not at all."""

    async def stop(self) -> None:
        """Undo `start`; called once, and only after a start that succeeded."""
