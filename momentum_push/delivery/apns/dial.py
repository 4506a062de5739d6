"""A socket that a proxy has connected to APNs: asyncio around a `Tunnel`.

Lives here: TCP to the proxy's address, CONNECT written, its answer read; then the socket is TLS's. It is
a plain socket until then, so that nothing is read that TLS should have, whichever event loop runs.
Deadlines are the caller's, who cancels; `waiting` tells what it was that took too long.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket

from momentum_push.delivery.apns.failures import STAGE_CONNECTING, ConnectFailed, explain_proxy
from momentum_push.delivery.apns.options import Proxy, Target
from momentum_push.delivery.apns.tunnel import Progress, Tunnel

__all__ = ["Dial"]

_READ_SIZE = 4096


class Dial:
    """One way through a proxy."""

    def __init__(self, target: Target, proxy: Proxy) -> None:
        self._target, self._proxy = target, proxy
        self._tunnel = Tunnel(target.host, target.port, proxy)
        self._is_connected = False

    @property
    def where(self) -> str:
        """The proxy, for errors."""
        address = "" if self._target.address == self._proxy.host else f" ({self._target.address})"
        return f"proxy {self._proxy}{address}"

    @property
    def waiting(self) -> str:
        """What has not happened yet, and where."""
        if self._tunnel.progress is Progress.DONE:
            return f"{self._target}: the proxy has connected us, but no TLS came about"
        return f"{self.where}: {self._tunnel.waiting if self._is_connected else 'no answer'}"

    async def run(self) -> socket.socket:
        """Return a socket at whose other end APNs should be.

        Raises:
            ConnectFailed: the proxy cannot be reached, or it refuses; the text names the proxy.
        """
        family = socket.AF_INET6 if ":" in self._target.address else socket.AF_INET
        with contextlib.ExitStack() as stack:
            try:
                sock = stack.enter_context(socket.socket(family, socket.SOCK_STREAM))
                sock.setblocking(False)
                await self._connect(sock)
                await self._ask(sock)
            except OSError as error:
                raise explain_proxy(self.where, error, self._is_connected) from error
            stack.pop_all()
            return sock

    async def _connect(self, sock: socket.socket) -> None:
        address = (self._target.address, self._proxy.port)
        await asyncio.get_running_loop().sock_connect(sock, address)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._is_connected = True

    async def _ask(self, sock: socket.socket) -> None:
        loop, tunnel = asyncio.get_running_loop(), self._tunnel
        await loop.sock_sendall(sock, tunnel.request)
        while tunnel.progress is Progress.MORE:
            tunnel.receive(await loop.sock_recv(sock, _READ_SIZE))
        if tunnel.refusal is not None:
            raise ConnectFailed(f"{self.where}: {tunnel.refusal}", stage=STAGE_CONNECTING)
