"""Which address the next connection goes to.

The name is looked up anew for every connect, so that connections land on different servers and a
server that said goodbye is not asked again for ever (apns.md 6.6; jchambers/pushy#571). Among the
addresses those that the pool uses least are taken, by chance among equals; one that failed is avoided for
`host_failure_retry` while there are others (momentum.md 6.3), or until an address that had failed itself
works again: then it was no fault of theirs. Several routes are one pool spread over them; of different
`pref`, the lower ones come first and the higher ones step in when all of them fail (momentum.md 7.3). All
names are asked for at once, so that a name server that is silent about one does not keep us from the
others. Behind a proxy it is the proxy's name that is looked up: Apple's is given to the proxy as it is.
"""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from math import inf

from momentum_push.delivery.apns.connection import Target
from momentum_push.delivery.routes import Route
from momentum_push.errors import ConnectError

__all__ = ["LookUp", "Resolver", "look_up"]

LookUp = Callable[[str, int], Awaitable[list[str]]]
"""(host, port) to its addresses, as the name server says now; raises OSError."""

LOOK_UP_S = 5.0
"""How long a name may take before we go on without it; half of the default `connect_timeout`."""


class Resolver:
    """Chooses targets for one pool; remembers only which of them failed last."""

    def __init__(self, ask: LookUp | None = None, clock: Callable[[], float] = lambda: 0.0) -> None:
        """Begin with nothing known; `clock` tells monotonic seconds."""
        self._look_up = ask or look_up
        self._clock = clock
        self._failed: dict[tuple[str, int, str], float] = {}  # until when

    async def choose(
        self, routes: Sequence[Route], used: Callable[[], Iterable[str]], chance: float
    ) -> Target:
        """Return where to connect.

        Args:
            used: says which addresses the pool has connections to, one entry each; called when the
                names are looked up, because other connects may have begun meanwhile.
            chance: 0 to 1, picks among equals.

        Raises:
            ConnectError: no name resolves.
        """
        found: list[tuple[tuple[bool, int, int], Target]] = []
        errors: list[str] = []
        answers = await self._look_up_all(routes)
        load, now = Counter(used()), self._clock()
        for route, addresses in zip(routes, answers, strict=True):
            if isinstance(addresses, str):
                whose, option = ("proxy ", "proxy") if route.proxy else ("", "routes")
                what = f"name does not resolve ({addresses})"
                errors.append(f"{whose}{route.first_hop.host}: {what}; check {option}")
                continue
            for address in addresses:
                target = Target(route.host, route.port, address, route.verify_name, route.proxy)
                has_failed = self._failed.get(_key(target), 0.0) > now
                found.append(((has_failed, route.pref, load[address]), target))
        if not found:
            raise ConnectError("; ".join(errors))
        best = min(rank for rank, _ in found)
        equals = [target for rank, target in found if rank == best]
        return equals[int(chance * len(equals)) % len(equals)]

    def failed(self, target: Target, seconds: float = inf) -> None:
        """Avoid `target` for so long, while there are others."""
        now = self._clock()
        self._failed = {key: until for key, until in self._failed.items() if until > now}
        self._failed[_key(target)] = now + seconds

    def worked(self, target: Target) -> None:
        """Trust all again where what had failed works: the others failed of the same cause."""
        if _key(target) in self._failed:
            self._failed.clear()

    async def _look_up_all(self, routes: Sequence[Route]) -> list[list[str] | str]:
        """Return the addresses of each route, or why there are none."""
        hops = [route.first_hop for route in routes]
        tasks = [asyncio.ensure_future(self._look_up(hop.host, hop.port)) for hop in hops]
        try:
            await asyncio.wait(tasks, timeout=LOOK_UP_S)
            return [_addresses(task) for task in tasks]
        finally:
            for task in tasks:
                task.cancel()


def _key(target: Target) -> tuple[str, int, str]:
    """Return what failed: an address, or a proxy's address together with where it should have led."""
    return (target.address, target.port, target.host if target.proxy else "")


def _addresses(task: asyncio.Future[list[str]]) -> list[str] | str:
    if not task.done():
        return f"no answer within {LOOK_UP_S:g} s"
    try:
        return list(dict.fromkeys(task.result())) or "no addresses"
    except OSError as error:
        return error.strerror or str(error)


async def look_up(host: str, port: int) -> list[str]:
    """Ask the system's resolver."""
    infos = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(info[4][0]) for info in infos]
