"""The transport of a client that is no more: stands where the true one stood, so that nothing keeps that.

    session ──► reader, writer, timers … ──► session      a ring, freed when the collector comes by
       └──► transport ──► TLS: buffers of 256 KiB         not in the ring, but hanging on it

The collector counts objects and no bytes, and may be many minutes away. So whoever hears `connection_lost`
puts `GONE` in the transport's place; what still writes then writes into nothing, as into one that is closed.
"""

from __future__ import annotations

import asyncio
from typing import Any

__all__ = ["GONE"]


class _Gone(asyncio.Transport):
    """Closed, and deaf to everything."""

    def is_closing(self) -> bool:
        return True

    def close(self) -> None: ...
    def abort(self) -> None: ...
    def write(self, data: Any) -> None: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...

    def can_write_eof(self) -> bool:
        return False


GONE = _Gone()
