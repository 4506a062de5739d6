"""What `scripts/bench e2e --smtp` is held against: aiosmtpd with a handler that only answers 250.

`python -m tests.bench.bare` prints its port and ends with its stdin. On uvloop, as the daemon.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import uvloop
from aiosmtpd.smtp import SMTP

__all__ = ["serve"]


class Handler:
    """Takes everything, keeps nothing."""

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        return "250 OK"


async def serve() -> None:
    """Serve until stdin ends."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: SMTP(Handler(), hostname="bare", loop=loop), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    server.close()


if __name__ == "__main__":
    uvloop.run(serve())
