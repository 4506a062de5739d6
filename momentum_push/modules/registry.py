"""Which stanza makes which object: `apn { }`, `apn_logger "name" { }`, `httpsrv { }` … (momentum.md 1.7).

A factory gets the resolved view of one stanza and returns a module that has done nothing yet. A
singleton may stand once, whatever its instance is called.
"""

import difflib
from collections.abc import Callable, Sequence
from typing import Any, Generic, Protocol, TypeVar

from momentum_push.errors import Place, Problem

__all__ = ["Configuration", "Registry", "Stanza"]


class Stanza(Protocol):
    """What is asked of a module's stanza here; its options concern the module alone."""

    @property
    def instance(self) -> str: ...
    @property
    def place(self) -> Place: ...


class Configuration(Protocol):
    """What is asked of the configuration."""

    def modules(self, kind: str) -> Sequence[Any]: ...


M = TypeVar("M")


class Registry(Generic[M]):
    """Name of a stanza -> factory, in the order in which modules are to be started."""

    def __init__(self) -> None:
        self._factories: dict[str, Callable[[Any], M]] = {}
        self._singletons: set[str] = set()

    def __repr__(self) -> str:
        return f"<Registry {' '.join(self._factories)}>"

    def add(self, name: str, factory: Callable[[Any], M], *, is_singleton: bool = False) -> None:
        """Make `name` known; ValueError when it is already, for that is a fault of ours."""
        if name in self._factories:
            raise ValueError(f'module "{name}" is registered twice')
        self._factories[name] = factory
        if is_singleton:
            self._singletons.add(name)

    def names(self) -> list[str]:
        """All names, in starting order."""
        return list(self._factories)

    def suggestion(self, name: str) -> str:
        """Return the known name nearest to an unknown one, "" when none is near."""
        return next(iter(difflib.get_close_matches(name, self._factories, 1)), "")

    def validate(self, config: Configuration) -> list[Problem]:
        """Report singletons that stand twice; the second one is to blame."""
        return [
            Problem(
                stanza.place,
                f'"{name}" is a singleton and stands here a second time',
                f"keep the one at {stanzas[0].place}",
            )
            for name in sorted(self._singletons)
            for stanzas in [_stanzas(config, name)]
            for stanza in stanzas[1:]
        ]

    def build(self, config: Configuration) -> list[M]:
        """Make an object for every stanza, in starting order."""
        return [
            factory(stanza) for name, factory in self._factories.items() for stanza in config.modules(name)
        ]


def _stanzas(config: Configuration, name: str) -> Sequence[Stanza]:
    return config.modules(name)
