"""`msys.counter.*`: counters with a path for a name, as `counter list` of the console shows them.

They live in the core; the caller keeps them over restarts, where it wants to (`snapshot`, `restore`).
"""

from __future__ import annotations

from collections.abc import Mapping

from momentum_push.errors import ScriptError

__all__ = ["Counters"]

MAX_COUNTERS = 10_000
"""Paths may come from senders; memory must not follow them."""


class Counters:
    """All counters of the node."""

    def __init__(self) -> None:
        self._values: dict[str, int] = {}

    def __repr__(self) -> str:
        return f"<Counters {len(self._values)}>"

    def add(self, path: str, delta: int = 1) -> int:
        """Add to a counter, made where there is none, and return its value.

        Raises:
            ScriptError: there are too many.
        """
        if path not in self._values and len(self._values) >= MAX_COUNTERS:
            raise ScriptError(f"msys.counter: more than {MAX_COUNTERS} counters; unlink some")
        self._values[path] = value = self._values.get(path, 0) + delta
        return value

    def read(self, path: str) -> int:
        """Return a counter's value; 0 where there is none."""
        return self._values.get(path, 0)

    def reset(self, path: str) -> None:
        """Set a counter to 0."""
        self.add(path, -self.read(path))

    def unlink(self, path: str) -> bool:
        """Forget a counter; False when there was none."""
        return self._values.pop(path, None) is not None

    def snapshot(self) -> dict[str, int]:
        """Return all, by path."""
        return dict(self._values)

    def restore(self, values: Mapping[str, int]) -> None:
        """Take over what `snapshot` gave."""
        self._values.update(values)
