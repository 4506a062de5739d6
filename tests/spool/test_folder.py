"""`folder.py`: the lock outlives nobody, and the reserve is room that is really there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from momentum_push.errors import SpoolFull, SpoolInUse
from momentum_push.spool.folder import RESERVE_BYTES, SpoolFolder

HOLDER = """
import sys, time
from pathlib import Path
from momentum_push.spool.folder import SpoolFolder
folder = SpoolFolder(Path(sys.argv[1]), 0o640)
folder.open()
print("open", flush=True)
sys.stdin.read()
"""


def test_another_process_is_named_and_when_killed_is_no_obstacle(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDER, str(tmp_path / "s")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "open\n"
        folder = SpoolFolder(tmp_path / "s", 0o640)
        with pytest.raises(SpoolInUse, match=f"in use by process {holder.pid}; stop it or choose another"):
            folder.open()
        holder.send_signal(signal.SIGKILL)
    folder.open()
    assert (tmp_path / "s" / "lock").read_text() == f"{os.getpid()}\n"
    folder.close()


def test_the_reserve_takes_room_on_the_disk_as_long_as_the_folder_is_open(tmp_path: Path) -> None:
    folder = SpoolFolder(tmp_path / "s", 0o640)
    folder.open()
    folder.hold_reserve()
    folder.hold_reserve()
    found = (tmp_path / "s" / "reserve").stat()
    assert found.st_size == RESERVE_BYTES and found.st_blocks * 512 >= RESERVE_BYTES
    folder.close()
    assert not (tmp_path / "s" / "reserve").exists()


def test_a_reserve_that_takes_the_last_of_the_room_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = SpoolFolder(tmp_path / "s", 0o640)
    folder.open()
    monkeypatch.setattr("momentum_push.spool.folder._MARGIN_BYTES", 1 << 60)
    with pytest.raises(SpoolFull, match="No space left on device; free"):
        folder.hold_reserve()
    assert not (tmp_path / "s" / "reserve").exists()
    folder.close()
