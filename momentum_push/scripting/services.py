"""What scripts may ask of the daemon beyond their objects: callables, given by who builds the engine.

One that is not given is an error in the script that asks for it, by name; nothing else changes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from momentum_push.scripting.counters import Counters

__all__ = ["ControlHandler", "Services"]

ControlHandler = Callable[[list[str]], str]
"""Gets the words of a console command, its own name first; returns what the console shows."""

Value = str | bytes | int | float | bool | None


def _nothing(name: str, text: str) -> None:
    pass


@dataclass(frozen=True)
class Services:
    """The seam between scripts and the daemon."""

    panic: Callable[[str, str], None] = _nothing
    """Writes to the paniclog: module, text. `loggers` adds the time."""
    now: Callable[[], float] | None = None
    """Epoch seconds."""
    config: Callable[..., tuple[Value, str]] | None = None
    """`msys.config(action, path…, option[, value])`: value and text."""
    expand_macro: Callable[[str], str] | None = None
    read_file: Callable[[str], bytes] | None = None
    """`msys.readfile(path)`; raises OSError."""
    timer: Callable[[str, float, Callable[[], None], str], None] | None = None
    """`after`, `at` or `every`; seconds; what to call; name. Cancelled by whoever replaces the engine."""
    control: Callable[[str, ControlHandler], None] | None = None
    """Registers a console command by its first word; the last one of a name counts."""
    counters: Counters | None = None

    @classmethod
    def for_checking(cls, read_file: Callable[[str], bytes] | None = None) -> Services:
        """Return services that answer everything and do nothing: `check` runs main chunks with them."""
        return cls(
            now=lambda: 0.0,
            config=lambda *words: (None, ""),
            expand_macro=lambda macro: "",
            timer=lambda kind, seconds, fire, name: None,
            control=lambda name, handler: None,
            counters=Counters(),
            read_file=read_file,
        )

    def need(self, name: str, what: str) -> Any:
        """Return a service.

        Raises:
            LookupError: it was not given.
        """
        found = getattr(self, name)
        if found is None:
            raise LookupError(f"{what}: it is not available here")
        return found
