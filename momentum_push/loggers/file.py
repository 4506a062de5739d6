"""Append-only log files that take a list with one `write()`, and forget nothing when the disk is full.

    write(data) ──► pending ──► os.write ──► file
                       │  ▲
        LogError ◄─────┘  └── flush(), every later write(): on from the very byte where it stopped

The theory: what a sink was given, it writes exactly once and in order, now or later. `write` raises
LogError when some of it is still pending; the caller must then neither give it again nor act on it
(remove it from the spool) before `flush` has returned. So a partial write never leaves half a line
for good, and nothing is written twice.

Pending data is bounded by what the caller lets happen: after a LogError it sends nothing more, so only
answers that are already on their way come in. What carries no promise (heartbeats, receptions,
rejections) says `is_droppable` and is dropped, and counted, once MAX_PENDING bytes wait.

Nothing here is synced. A written record is the system's, so it outlives a daemon that is killed; after a
power cut the last of them may be missing (with Linux's defaults those of about half a minute) although
their messages have left the spool, which is synced. Messages are what is promised through a power cut,
records are not: a sync before each removal would cost every commit a second one, on most machines of
the same disk. Were records to be billed from, a sync by the settler, once for all that one commit removes,
would be the place.

Reopening after rotation in mid-line writes that line as a whole into the new file; the old file keeps the
torn piece, without a newline. A torn last line that a crash left is ended by a newline at opening, or cut
off where the disk has no room even for that.

Files are opened without blocking: a named pipe that nobody reads is an error and not a daemon that
stands still. Calls may come from any thread, for diagnostics of level error go to the paniclog from
where they happen.
"""

import errno
import os
import stat
import threading
from pathlib import Path

from momentum_push.errors import LogError

__all__ = ["MAX_PENDING", "Sink", "Sinks", "plain_path"]

MAX_PENDING = 16 << 20
"""Bytes beyond which a failing sink drops what may be dropped: about 100,000 records."""


def plain_path(name: str) -> str:
    """Return the path that a log "file" of the configuration names (momentum.md 8.5).

    Raises:
        ValueError: a destination that is no file.
    """
    scheme, colon, rest = name.partition(":")
    if name.startswith("file://"):
        return name.removeprefix("file://")
    if colon and "/" not in scheme and scheme.isalnum() and rest.startswith("//"):
        raise ValueError(f'log destination "{scheme}:" is not supported')
    if scheme in ("jlog", "cluster", "syslog", "syslog_io"):
        raise ValueError(f'log destination "{scheme}" is not supported')
    return name


_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK


class Sink:
    """One log file."""

    def __init__(self, path: Path, mode: int = 0o644) -> None:
        self.path = path
        self.mode = mode
        self.dropped = 0
        """Bytes that were not even kept, since start."""
        self._pending = bytearray()
        self._lock = threading.RLock()
        self._line = b""  # what of the current line is in the file already
        self._fd = self._open()

    def __repr__(self) -> str:
        state = f"{len(self._pending)} bytes pending" if self._pending else "ok"
        return f"<Sink {self.path} {state}>"

    @property
    def pending(self) -> int:
        """Bytes that wait for the disk."""
        return len(self._pending)

    def write(self, data: bytes, is_droppable: bool = False) -> None:
        """Append whole lines; returns when the system has taken all of them.

        Raises:
            LogError: something is still pending; see the module's docstring.
        """
        with self._lock:
            if not self._pending:
                self._write_first(data)
                return
            if is_droppable and len(self._pending) + len(data) > MAX_PENDING:
                self.dropped += len(data)
            else:
                self._pending += data
            self.flush()

    def flush(self) -> None:
        """Write what is pending.

        Raises:
            LogError: some of it still is.
        """
        with self._lock:
            while self._pending:
                written = self._try(self._pending)
                self._note(self._pending[:written])
                del self._pending[:written]

    def reopen(self) -> None:
        """Open the path again, for the file has been renamed; keeps the old file when that fails."""
        with self._lock:
            old, self._fd = self._fd, self._open(mend=not self._line)
            if not os.path.sameopenfile(old, self._fd):
                self._pending[:0] = self._line
                self._line = b""
            os.close(old)

    def close(self) -> None:
        """Write what can be written, and close; LogError when something is lost."""
        with self._lock:
            try:
                self.flush()
            finally:
                os.close(self._fd)

    def _write_first(self, data: bytes) -> None:
        """The usual case: nothing pending, the system takes everything at once."""
        try:
            written = os.write(self._fd, data)
        except OSError as error:
            self._pending += data
            raise self._failure(error) from error
        if written < len(data):
            self._note(data[:written])
            self._pending += data[written:]
            self.flush()

    def _try(self, data: bytearray) -> int:
        try:
            return os.write(self._fd, data)
        except OSError as error:
            raise self._failure(error) from error

    def _note(self, written: bytes | bytearray) -> None:
        """Remember the beginning of a line whose end is still to come."""
        _, newline, tail = bytes(written).rpartition(b"\n")
        self._line = tail if newline else self._line + tail

    def _open(self, mend: bool = True) -> int:
        try:
            fd = os.open(self.path, _FLAGS, self.mode)
        except OSError as error:
            raise self._failure(error) from error
        try:
            if mend and self._ends_torn(fd):
                self._mend(fd)
        except OSError as error:
            os.close(fd)
            raise self._failure(error) from error
        return fd

    def _mend(self, fd: int) -> None:
        """End a torn last line; on a full disk cut it off, for a torn record is none and we must start."""
        try:
            os.write(fd, b"\n")
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            os.ftruncate(fd, self._last_line_at())

    def _last_line_at(self) -> int:
        """Return where the last line begins; lines are far shorter than what is looked at."""
        with self.path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            start = max(0, size - MAX_PENDING)
            file.seek(start)
            return start + file.read().rfind(b"\n") + 1

    def _ends_torn(self, fd: int) -> bool:
        """Whether a crash left a last line without its newline; asked for regular files only."""
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or not status.st_size:
            return False
        with self.path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) != b"\n"

    def _failure(self, error: OSError) -> LogError:
        return LogError(f"{self.path}: cannot be written ({error.strerror}); {_cure(error, self.path)}")


class Sinks:
    """The log files of all loggers; who names the same file shares its sink."""

    def __init__(self) -> None:
        self._sinks: dict[str, Sink] = {}

    def open(self, path: str, mode: int = 0o644) -> Sink:
        """Return the sink of a file, opening it when nobody has yet; the first one's mode counts.

        Raises:
            LogError: it cannot be opened.
        """
        real = os.path.realpath(path)
        if real not in self._sinks:
            self._sinks[real] = Sink(Path(path), mode)
        return self._sinks[real]

    def all(self) -> list[Sink]:
        """Every sink, in the order in which they were opened."""
        return list(self._sinks.values())


def _cure(error: OSError, path: Path) -> str:
    """Say how to repair what the system complained about."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "make room; records are kept and written then"
    if error.errno == errno.ENOENT:
        return f'create the folder "{path.parent}"'
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return "make file and folder writable for the user of the daemon"
    return "name a file that can be appended to"
