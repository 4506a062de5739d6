"""What stands in the folder beside the database: the lock, and room kept back for a full disk.

    spoolbase/
      spool.db       the database; SQLite puts spool.db-wal and spool.db-shm beside it
      lock           held with flock() by the one process that may write; holds its process id
      reserve        RESERVE_BYTES of nothing

The reserve is for the day the disk is full: removing what was sent needs a little room first, in the
write-ahead log. It is given back to the disk when a commit fails for want of room, so that settling goes
on, and taken again before new messages are let in; so a spool that was full opens its doors only when
the disk has RESERVE_BYTES free. flock() and not a pid file: the system lets go of it whenever the
process ends, however it ends.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from momentum_push.errors import SpoolError, SpoolFull, SpoolInUse

__all__ = ["DATABASE", "RESERVE_BYTES", "SpoolFolder"]

DATABASE = "spool.db"
RESERVE_BYTES = 16 << 20


class SpoolFolder:
    """The folder, locked from `open` to `close`."""

    def __init__(self, path: Path, mode: int) -> None:
        self.path = path
        self.database = path / DATABASE
        self._mode = mode
        self._reserve = path / "reserve"
        self._lock = -1

    def open(self, *, create: bool = True) -> None:
        """Make the folder where its parent exists, and lock it.

        Raises:
            SpoolInUse: another process, or another spool in this one, holds it.
            SpoolError: it cannot be made, or not be written.
        """
        try:
            if create and not self.path.exists():
                self.path.mkdir(mode=0o750)
                _sync_folder(self.path.parent)
            self._lock = self._take_lock()
            if create and not self.database.exists():
                self._create_database()
        except OSError as error:
            self.close()
            raise SpoolError(
                f'spool: "{error.filename or self.path}": {error.strerror}; '
                f"create it and give it to the user that the daemon runs as"
            ) from error

    def close(self) -> None:
        """Let go of the lock."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def hold_reserve(self) -> None:
        """Take room for a full disk; SpoolFull when there is none, SpoolError when the disk does not work."""
        try:
            if self._reserve.exists() and self._reserve.stat().st_size >= RESERVE_BYTES:
                return
            self._allocate()
        except OSError as error:
            self._reserve.unlink(missing_ok=True)
            raise SpoolFull(
                f'spool: "{self._reserve}": {error.strerror}; free {RESERVE_BYTES >> 20} MB there'
            ) from error

    def release_reserve(self) -> None:
        """Give the room back to the disk."""
        self._reserve.unlink(missing_ok=True)

    def bytes_used(self) -> int:
        """Return the size of the database and its log."""
        return sum(_size(Path(f"{self.database}{suffix}")) for suffix in ("", "-wal"))

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

    def _create_database(self) -> None:
        """Make an empty file with the right mode; SQLite gives its companions the same."""
        database = os.open(self.database, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, self._mode)
        try:
            os.fchmod(database, self._mode)
        finally:
            os.close(database)
        _sync_folder(self.path)

    def _allocate(self) -> None:
        reserve = os.open(self._reserve, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, self._mode)
        try:
            os.posix_fallocate(reserve, 0, RESERVE_BYTES)
        finally:
            os.close(reserve)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _sync_folder(path: Path) -> None:
    """Make the names in a folder durable."""
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
