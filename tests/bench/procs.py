"""What a process costs, from /proc; and what fsync costs on this disk.

CPU is that of all threads and children, in seconds, to the nanosecond (`schedstat`): ticks of 10 ms are too
coarse for ten thousand messages.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

__all__ = ["Process", "fsync_times", "quantile"]


class Process:
    """A process and its children."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def pids(self) -> list[int]:
        """Return it and what it started, as far as they live."""
        found, todo = [], [self.pid]
        while todo:
            pid = todo.pop()
            found.append(pid)
            for path in Path(f"/proc/{pid}/task").glob("*/children"):
                todo += map(int, path.read_text().split())
        return found

    def cpu(self) -> float:
        """Return the seconds of CPU used so far."""
        paths = (path for pid in self.pids() for path in Path(f"/proc/{pid}/task").glob("*/schedstat"))
        return sum(int(path.read_text().split()[0]) for path in paths) / 1e9

    def main_cpu(self) -> float:
        """Return the seconds of CPU that its main thread alone has used so far."""
        return int(Path(f"/proc/{self.pid}/task/{self.pid}/schedstat").read_text().split()[0]) / 1e9

    def main_waited(self) -> float:
        """Return the seconds that its main thread could have run and had no core: what neighbours took."""
        return int(Path(f"/proc/{self.pid}/task/{self.pid}/schedstat").read_text().split()[1]) / 1e9

    def memory(self) -> float:
        """Return the resident memory, in MB."""
        return self._megabytes("VmRSS")

    def peak(self) -> float:
        """Return the most resident memory since the start or `forget_peak`, in MB."""
        return self._megabytes("VmHWM")

    def forget_peak(self) -> None:
        """Let `peak` begin anew."""
        for pid in self.pids():
            Path(f"/proc/{pid}/clear_refs").write_text("5")

    def _megabytes(self, name: str) -> float:
        total = 0
        for pid in self.pids():
            lines = Path(f"/proc/{pid}/status").read_text().splitlines()
            total += next(int(line.split()[1]) for line in lines if line.startswith(name))
        return total / 1024


def fsync_times(folder: Path, count: int = 200, size: int = 4096) -> list[float]:
    """Append `size` bytes and fsync, `count` times; return the seconds that each fsync took."""
    data, times = os.urandom(size), []
    path = folder / "fsync"
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        for _ in range(count):
            os.write(fd, data)
            began = time.perf_counter()
            os.fsync(fd)
            times.append(time.perf_counter() - began)
    finally:
        os.close(fd)
        path.unlink()
    return times


def quantile(values: list[float], share: float) -> float:
    """Return the value that `share` of all do not exceed; 0 of none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0
