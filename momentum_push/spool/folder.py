"""What stands in the folder beside the database: the lock, and room kept back for a full disk.

    spoolbase/
      spool.db       the database; SQLite puts spool.db-wal and spool.db-shm beside it
      lock           held with flock() by the one process that may write; holds its process id
      reserve        RESERVE_BYTES of nothing, while the spool is open

The reserve is for the day the disk is full. Removing what was sent needs room first, in the write-ahead
log; and the log begins anew only when all of it has moved into the database, which may have to grow by
as much. So the reserve is as large as the log becomes (42 MB, and some for a large transaction). It is
given back to the disk when a commit fails for want of room, so that settling goes on, and taken again
before new messages are let in: a spool that was full opens its doors when the disk has room for the
reserve and a margin beside it. We tried a reserve of 16 MB: a log that moved by half ate it, and nothing
could be settled until an operator came.

A small file system, such as a container's volume, cannot spare that much: there the reserve is an eighth
of it, and the log begins anew when it is as much smaller (`log_pages`).

flock() and not a pid file: the system lets go of it whenever the process ends, however it ends.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from pathlib import Path

from momentum_push.errors import SpoolError, SpoolFull, SpoolInUse
from momentum_push.spool.floors import Room

__all__ = ["DATABASE", "RESERVE_BYTES", "SpoolFolder", "sync_folder"]

DATABASE = "spool.db"
RESERVE_BYTES = 64 << 20
_MARGIN_BYTES = 16 << 20
_LOG_PAGES = 10_000
_SHARE = 8
"""The reserve is at most one part in this many of its file system, the margin a quarter of that."""


class SpoolFolder:
    """The folder, locked from `open` to `close`."""

    def __init__(self, path: Path, mode: int) -> None:
        self.path = path
        self.database = path / DATABASE
        self._database, self._log = str(self.database), f"{self.database}-wal"
        self._mode = mode
        self._reserve = path / "reserve"
        self._lock = -1

    @property
    def reserve_bytes(self) -> int:
        """How much is kept back here."""
        return min(RESERVE_BYTES, self._disk_bytes() // _SHARE)

    @property
    def log_pages(self) -> int:
        """Pages after which the write-ahead log is moved into the database."""
        return max(100, _LOG_PAGES * self.reserve_bytes // RESERVE_BYTES)

    def open(self, *, create: bool = True) -> None:
        """Make the folder where its parent exists, and lock it.

        Raises:
            SpoolInUse: another process, or another spool in this one, holds it.
            SpoolError: it cannot be made, or not be written.
        """
        try:
            if create and not self.path.exists():
                self.path.mkdir(mode=0o750)
                sync_folder(self.path.parent)
            self._lock = self._take_lock()
            if create and not self.database.exists():
                self.make(self.database)
                sync_folder(self.path)
        except OSError as error:
            self.close()
            raise SpoolError(
                f'spool: "{error.filename or self.path}": {error.strerror}; '
                f"create it and give it to the user that the daemon runs as"
            ) from error

    def close(self) -> None:
        """Give the reserve back and let go of the lock."""
        if self._lock >= 0:
            with contextlib.suppress(OSError):  # then the next to open the folder takes it as its own
                self.release_reserve()
            os.close(self._lock)
            self._lock = -1

    def make(self, path: Path) -> None:
        """Make an empty file with the right mode; SQLite gives a database's companions the same."""
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, self._mode)
        try:
            os.fchmod(file, self._mode)
        finally:
            os.close(file)

    def hold_reserve(self) -> None:
        """Take room for a full disk; SpoolFull when there is none, SpoolError when the disk does not work."""
        try:
            if self._reserve.exists() and self._reserve.stat().st_size >= self.reserve_bytes:
                return
            self._allocate()
            self._check_margin()
        except OSError as error:
            self._reserve.unlink(missing_ok=True)
            raise SpoolFull(
                f'spool: "{self._reserve}": {error.strerror}; '
                f"free {(self.reserve_bytes + self._margin_bytes()) >> 20} MB there"
            ) from error

    def release_reserve(self) -> None:
        """Give the room back to the disk."""
        self._reserve.unlink(missing_ok=True)

    def room(self) -> Room:
        """Return what is free on the disk, beside the reserve."""
        disk = os.statvfs(self.path)
        return Room(disk.f_bavail * disk.f_frsize, disk.f_favail if disk.f_files else -1)

    def bytes_used(self) -> int:
        """Return the size of the database and its log."""
        return self.database_bytes() + self.log_bytes()

    def database_bytes(self) -> int:
        """Return the size of the database alone."""
        return _size(self._database)

    def log_bytes(self) -> int:
        """Return the size of the write-ahead log."""
        return _size(self._log)

    def _take_lock(self) -> int:
        lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, self._mode)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            owner = os.pread(lock, 20, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(lock)
            raise SpoolInUse(
                f'spool: "{self.path}" is in use by process {owner}; stop it or choose another spoolbase'
            ) from error
        os.ftruncate(lock, 0)
        os.pwrite(lock, b"%d\n" % os.getpid(), 0)
        return lock

    def _allocate(self) -> None:
        reserve = os.open(self._reserve, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, self._mode)
        try:
            os.posix_fallocate(reserve, 0, self.reserve_bytes)
        finally:
            os.close(reserve)

    def _check_margin(self) -> None:
        """Refuse a reserve that takes the last of the room; the next commit would ask for it back."""
        disk = os.statvfs(self._reserve)
        if disk.f_bavail * disk.f_frsize < self._margin_bytes():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _margin_bytes(self) -> int:
        return _MARGIN_BYTES * self.reserve_bytes // RESERVE_BYTES

    def _disk_bytes(self) -> int:
        disk = os.statvfs(self.path)
        return disk.f_blocks * disk.f_frsize


def _size(path: str) -> int:
    """Return the size of a file, 0: there is none; text, not a `Path`: it is asked after each commit."""
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return 0


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable."""
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
