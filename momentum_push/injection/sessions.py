"""How many clients are connected at once, under each line of the configuration that limits them.

One `Sessions` per node: doors inside the core share it, receivers ask it over their link (`lobby`). A session
that one of its limits refuses was never counted.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

__all__ = ["Factory", "Quota", "QuotasOf", "Sessions"]

Factory = Callable[[], asyncio.Protocol]
"""What `loop.create_server` takes."""


@dataclass(frozen=True, slots=True)
class Quota:
    """A limit on concurrent sessions, counted for all that stand under the same line of the configuration."""

    key: Hashable
    limit: int


QuotasOf = Callable[[str | None], Sequence[Quota]]
"""The quotas of a client by its address; None on a Unix socket."""


class Sessions:
    """Counts open sessions under each quota."""

    def __init__(self) -> None:
        self._open: Counter[Hashable] = Counter()

    def __repr__(self) -> str:
        return f"<Sessions {dict(self._open)}>"

    def enter(self, quotas: Sequence[Quota]) -> bool:
        """Count a session in; False when one of its limits is reached."""
        if any(self._open[quota.key] >= quota.limit for quota in quotas):
            return False
        self._open.update(quota.key for quota in quotas)
        return True

    def leave(self, quotas: Sequence[Quota]) -> None:
        """Count a session out."""
        self.leave_keys([quota.key for quota in quotas])

    def leave_keys(self, keys: Sequence[Hashable]) -> None:
        """Count a session out whose limits may have changed since."""
        for key in keys:
            self._open[key] -= 1
            if not self._open[key]:
                del self._open[key]

    def at_door(self, make: Factory, quotas_of: QuotasOf) -> Factory:
        """Return what a server calls for each connection, so that `enter` can answer for it at once."""
        return make
