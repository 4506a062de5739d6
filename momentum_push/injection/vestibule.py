"""Limits on connections that count for the whole node, as the doors of a receiver see them.

    accept ──► Vestibule ── "enter" ──► core: Sessions ──► yes: the protocol begins
                                                     └──► no: the protocol refuses, in its own words

Connections that no quota limits pass through at once, and the core never hears of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial

from momentum_push.injection.frames import Left
from momentum_push.injection.remote import ASK_S, Core, CoreUnreachable
from momentum_push.injection.sessions import Factory, Quota, QuotasOf, Sessions

__all__ = ["RemoteSessions", "Vestibule", "key_text"]


def key_text(quota: Quota) -> str:
    """Return a quota's key as it crosses the link."""
    return repr(quota.key)


class RemoteSessions(Sessions):
    """Asks the core; the answer is there when a door asks, for the connection waited for it outside."""

    def __init__(self, core: Core) -> None:
        super().__init__()
        self._core = core
        self.verdict: bool | None = None
        """The core's word on the connection that is coming in at this moment."""

    def enter(self, quotas: Sequence[Quota]) -> bool:
        """Return what the core said; None of the limits is a yes."""
        verdict, self.verdict = self.verdict, None
        return not quotas or bool(verdict)

    def leave(self, quotas: Sequence[Quota]) -> None:
        """Tell the core that a connection ended."""
        if quotas:
            self._core.link.send(Left([key_text(quota) for quota in quotas]))

    def at_door(self, make: Factory, quotas_of: QuotasOf) -> Factory:
        """Let connections wait in a vestibule."""
        return partial(Vestibule, make, quotas_of, self)

    async def may_enter(self, quotas: Sequence[Quota]) -> bool:
        """Ask the core to count a connection in; whoever gives up must wait on, or nobody counts it out."""
        asked = [(key_text(quota), quota.limit) for quota in quotas]
        try:
            return bool(await self._core.ask("enter", asked, deadline_s=None))
        except CoreUnreachable:
            return False


class Vestibule(asyncio.Protocol):
    """Where a connection waits until the core says whether there is room for it.

    What it sends meanwhile is kept, one read of it: reading cannot be paused before it began (uvloop).
    """

    def __init__(self, make: Factory, quotas_of: QuotasOf, sessions: RemoteSessions) -> None:
        self._make = make
        self._quotas_of = quotas_of
        self._sessions = sessions
        self._transport: asyncio.Transport
        self._early: list[bytes] = []
        self._is_at_end = False
        self._is_gone = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport
        peer = transport.get_extra_info("peername")
        quotas = self._quotas_of(peer[0] if isinstance(peer, tuple) else None)
        if not quotas:
            self._let_in(quotas, None)
            return
        loop = asyncio.get_running_loop()
        self._late = loop.call_later(ASK_S, transport.abort)
        self._task = loop.create_task(self._wait(quotas))

    def data_received(self, data: bytes) -> None:
        self._early.append(data)
        self._transport.pause_reading()

    def eof_received(self) -> bool:
        self._is_at_end = True
        return True

    def connection_lost(self, error: Exception | None) -> None:
        self._is_gone = True

    async def _wait(self, quotas: Sequence[Quota]) -> None:
        is_room = await self._sessions.may_enter(quotas)
        self._late.cancel()
        if self._is_gone or self._transport.is_closing():
            if is_room:
                self._sessions.leave(quotas)
            return
        protocol = self._let_in(quotas, is_room)
        if self._early:
            protocol.data_received(b"".join(self._early))
        if self._is_at_end and not protocol.eof_received():
            self._transport.close()
        elif not self._transport.is_closing():
            self._transport.resume_reading()

    def _let_in(self, quotas: Sequence[Quota], verdict: bool | None) -> asyncio.Protocol:
        """Make the protocol, which asks `RemoteSessions.enter` for the verdict, and step aside."""
        protocol = self._make()
        self._transport.set_protocol(protocol)
        self._sessions.verdict = verdict
        protocol.connection_made(self._transport)
        if self._sessions.verdict:  # refused for another reason, so nobody will leave
            self._sessions.leave(quotas)
        self._sessions.verdict = None
        return protocol
