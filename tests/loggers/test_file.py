"""momentum_push/loggers/file.py"""

import os
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from momentum_push.errors import LogError
from momentum_push.loggers import file
from momentum_push.loggers.file import Sink, Sinks, plain_path


class Disk:
    """`os.write` with room for so many bytes; a write that does not fit is short, the next one fails."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, room: int, most: int = 1000) -> None:
        self.room = room
        self.most = most
        self.calls = 0
        self._write = os.write
        monkeypatch.setattr(os, "write", self.write)

    def write(self, fd: int, data: bytes) -> int:
        self.calls += 1
        if not self.room:
            raise OSError(28, "No space left on device")
        written = self._write(fd, bytes(data[: min(self.room, self.most)]))
        self.room -= written
        return written


def test_a_list_is_one_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sink = Sink(tmp_path / "log")
    disk = Disk(monkeypatch, 1000)
    sink.write(b"one\ntwo\nthree\n")
    assert disk.calls == 1
    assert (tmp_path / "log").read_bytes() == b"one\ntwo\nthree\n"


def test_short_writes_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sink = Sink(tmp_path / "log")
    Disk(monkeypatch, 1000, most=3)
    sink.write(b"one\ntwo\nthree\n")
    assert (tmp_path / "log").read_bytes() == b"one\ntwo\nthree\n"


def test_the_mode_is_that_of_the_configuration(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        Sink(tmp_path / "log", 0o640)
    finally:
        os.umask(before)
    assert (tmp_path / "log").stat().st_mode & 0o777 == 0o640


def test_an_existing_file_is_continued(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"old\n")
    Sink(tmp_path / "log").write(b"new\n")
    assert (tmp_path / "log").read_bytes() == b"old\nnew\n"


def test_a_line_that_a_crash_tore_is_ended_first(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"old\nhal")
    Sink(tmp_path / "log").write(b"new\n")
    assert (tmp_path / "log").read_bytes() == b"old\nhal\nnew\n"


def test_a_torn_line_on_a_full_disk_is_cut_off_so_that_the_daemon_can_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "log").write_bytes(b"old\nhal")
    disk = Disk(monkeypatch, 0)
    sink = Sink(tmp_path / "log")
    assert (tmp_path / "log").read_bytes() == b"old\n"
    disk.room = 1000
    sink.write(b"new\n")
    assert (tmp_path / "log").read_bytes() == b"old\nnew\n"


@pytest.mark.parametrize("room", range(13))
def test_a_full_disk_loses_and_doubles_nothing(
    room: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = Sink(tmp_path / "log")
    disk = Disk(monkeypatch, room)
    with pytest.raises(LogError, match="No space left"):
        sink.write(b"first\nsecond\n")
    with pytest.raises(LogError):
        sink.flush()
    with pytest.raises(LogError):
        sink.write(b"third\n")
    disk.room = 1000
    sink.flush()
    sink.write(b"fourth\n")
    assert (tmp_path / "log").read_bytes() == b"first\nsecond\nthird\nfourth\n"
    assert sink.pending == 0


@pytest.mark.parametrize("room", range(13))
def test_rotation_on_a_full_disk_keeps_lines_whole(
    room: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = Sink(tmp_path / "log")
    disk = Disk(monkeypatch, room)
    with pytest.raises(LogError):
        sink.write(b"first\nsecond\n")
    (tmp_path / "log").rename(tmp_path / "log.1")
    sink.reopen()
    disk.room = 1000
    sink.flush()
    whole = [line for line in (tmp_path / "log.1").read_bytes().splitlines(True) if line.endswith(b"\n")]
    assert b"".join(whole) + (tmp_path / "log").read_bytes() == b"first\nsecond\n"


@pytest.mark.parametrize("room", range(13))
def test_reopening_the_same_file_goes_on_in_mid_line(
    room: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = Sink(tmp_path / "log")
    disk = Disk(monkeypatch, room)
    with pytest.raises(LogError):
        sink.write(b"first\nsecond\n")
    sink.reopen()
    disk.room = 1000
    sink.flush()
    assert (tmp_path / "log").read_bytes() == b"first\nsecond\n"


def test_dev_full_is_a_log_error_that_says_what_to_do() -> None:
    sink = Sink(Path("/dev/full"))
    with pytest.raises(
        LogError, match=r"/dev/full: cannot be written \(No space left on device\); make room"
    ):
        sink.write(b"x\n")
    assert sink.pending == 2


def test_what_may_be_dropped_is_dropped_and_counted_beyond_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file, "MAX_PENDING", 8)
    sink = Sink(Path("/dev/full"))
    for data, is_droppable in ((b"12345\n", False), (b"heartbeat\n", True), (b"record\n", False)):
        with pytest.raises(LogError):
            sink.write(data, is_droppable)
    assert (sink.pending, sink.dropped) == (13, 10)


def test_reopen_after_rename_writes_to_a_new_file(tmp_path: Path) -> None:
    sink = Sink(tmp_path / "log")
    sink.write(b"one\n")
    (tmp_path / "log").rename(tmp_path / "log.1")
    sink.write(b"two\n")
    sink.reopen()
    sink.write(b"three\n")
    assert (tmp_path / "log.1").read_bytes() == b"one\ntwo\n"
    assert (tmp_path / "log").read_bytes() == b"three\n"


def test_a_reopen_that_fails_goes_on_with_the_old_file(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    sink = Sink(folder / "log")
    folder.rename(tmp_path / "moved")
    with pytest.raises(LogError):
        sink.reopen()
    sink.write(b"one\n")
    assert (tmp_path / "moved" / "log").read_bytes() == b"one\n"


def test_a_pipe_that_nobody_reads_is_an_error_and_no_wait(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(LogError, match="cannot be written"):
        Sink(tmp_path / "pipe")


def test_a_pipe_that_is_full_loses_and_doubles_nothing(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    sink = Sink(tmp_path / "pipe")
    data = b"".join(b"%07d\n" % number for number in range(50_000))
    with pytest.raises(LogError):
        sink.write(data)
    read = bytearray()
    while sink.pending:
        read += os.read(reader, 1 << 16)
        with suppress(LogError):
            sink.flush()
    sink.close()
    while more := os.read(reader, 1 << 16):
        read += more
    os.close(reader)
    assert read == data


def test_threads_may_share_a_file(tmp_path: Path) -> None:
    sink = Sink(tmp_path / "log")
    threads = [
        threading.Thread(target=lambda: [sink.write(b"12345\n") for _ in range(200)]) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert (tmp_path / "log").read_bytes() == b"12345\n" * 800


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(LogError, match=r'No such file or directory\); create the folder ".*nowhere"'):
        Sink(tmp_path / "nowhere" / "log")


def test_one_file_has_one_sink_whatever_it_is_called(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "log")
    sinks = Sinks()
    assert sinks.open(str(tmp_path / "log")) is sinks.open(str(tmp_path / "." / "link"))
    assert len(sinks.all()) == 1


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("/var/log/a", "/var/log/a"),
        ("file:///var/log/a", "/var/log/a"),
        ("a:b", "a:b"),
        ("/x/jlog:a", "/x/jlog:a"),
    ],
)
def test_paths_and_file_uris_are_taken(name: str, path: str) -> None:
    assert plain_path(name) == path


@pytest.mark.parametrize(
    "name", ["jlog:///var/log/a=>x", "cluster:///a=>master", "syslog:mail", "syslog", "http://x/y"]
)
def test_other_destinations_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="not supported"):
        plain_path(name)
