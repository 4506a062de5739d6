"""Where the daemon's main thread spends its time, by room: py-spy's stacks, added up.

    with watched(pid, folder) as stacks: …        py-spy record --format raw, beside what runs
    rooms(stacks.read_text())                     room -> share of the main thread's samples

A sample belongs to the innermost room in its stack; what our code calls of others (json, sqlite3, encoders)
is its own. The HTTP server, Starlette and aiosmtpd are a row each; what has no Python frame but the loop's is
the loop itself: uvloop, TLS, system calls, idle polling that the sampler took for work.
"""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["rooms", "watched"]

STOP_S = 30.0
RATE = 250

_MAIN = "Runner.run (asyncio/runners.py"
_OURS = re.compile(r"\(momentum_push/(\w+)/?(\w+)?")
_LIBRARIES = {
    "uvicorn/": "uvicorn",
    "starlette/": "Starlette",
    "aiosmtpd/": "aiosmtpd",
}


def rooms(stacks: str) -> dict[str, float]:
    """Return the share of each room, the largest first."""
    counts: Counter[str] = Counter()
    for line in stacks.splitlines():
        stack, _, count = line.rpartition(" ")
        if _MAIN in stack:
            counts[_room(stack.split(";"))] += int(count)
    total = max(1, counts.total())
    return {room: count / total for room, count in counts.most_common()}


def _room(frames: list[str]) -> str:
    for frame in reversed(frames):
        if _MAIN in frame:
            break
        for part, name in _LIBRARIES.items():
            if part in frame:
                return name
        found = _OURS.search(frame)
        if found and found[1] == "delivery":
            return f"delivery/{found[2]}"
        if found and found[1] != "cli":
            return found[1]
    return "the loop: uvloop, TLS, system calls"


@contextmanager
def watched(pid: int, folder: Path) -> Iterator[Path]:
    """Sample a process while the block runs; gives the file that holds the stacks afterwards."""
    out = folder / "stacks.raw"
    spy = shutil.which("py-spy", path=str(Path(sys.executable).parent)) or "py-spy"
    command = [spy, "record", "-F", "-r", str(RATE), "-d", "900", "-f", "raw", "-o", str(out), "-p", str(pid)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            yield out
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(STOP_S)
