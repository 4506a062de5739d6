"""momentum_push/loggers/hub.py"""

import os
from pathlib import Path
from typing import Any

import pytest

from momentum_push import loggers
from momentum_push.errors import ConfigError, LogError, Place
from momentum_push.loggers import Loggers
from momentum_push.message import Kind
from tests.helpers.lists import NOW, message, messages
from tests.helpers.records import Configuration, Scope, disposition, lines, rejection


def test_a_file_that_fails_first_does_not_keep_the_next_from_writing(tmp_path: Path) -> None:
    scopes = [
        Scope("apn_logger", "bad", logfile="/dev/full"),
        Scope("apn_logger", "good", logfile=str(tmp_path / "good")),
    ]
    with pytest.raises(LogError):
        loggers.build(Configuration(apn_logger=scopes)).dispositions(NOW, [disposition()])
    assert len(lines(tmp_path / "good")) == 1


def two(tmp_path: Path, second: str, **options: Any) -> Loggers:
    """An apn_logger that works and one that writes to `second`."""
    scopes = [
        Scope("apn_logger", "good", logfile=str(tmp_path / "good"), **options),
        Scope("apn_logger", "second", logfile=second, **options),
    ]
    return loggers.build(Configuration(apn_logger=scopes))


def test_all_loggers_get_all_records(tmp_path: Path) -> None:
    config = Configuration(
        apn_logger=[Scope("apn_logger", logfile=str(tmp_path / "apn"))],
        ec_logger=[
            Scope(
                "ec_logger",
                **{log: str(tmp_path / log) for log in ("mainlog", "rejectlog", "paniclog", "acctlog")},
            )
        ],
        json_logger=[Scope("json_logger", logfile=str(tmp_path / "json"))],
    )
    hub = loggers.build(config)
    hub.receptions(NOW, messages(2))
    hub.dispositions(NOW, [disposition(kind) for kind in Kind])
    hub.rejection(NOW, rejection())
    hub.panic(NOW, "core:", "x")
    hub.heartbeat(NOW)
    hub.close()
    counts = {path.name: len(lines(path)) for path in tmp_path.iterdir()}
    assert counts == {"apn": 4, "mainlog": 6, "rejectlog": 2, "paniclog": 1, "acctlog": 0, "json": 8}


def test_one_failing_file_does_not_keep_the_others_from_writing(tmp_path: Path) -> None:
    hub = two(tmp_path, "/dev/full")
    with pytest.raises(LogError, match="/dev/full: cannot be written"):
        hub.dispositions(NOW, [disposition(), disposition()])
    assert len(lines(tmp_path / "good")) == 2
    assert not hub.is_writable


@pytest.mark.parametrize("tries", [1, 3])
def test_retry_writes_what_is_missing_and_nothing_twice(
    tries: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = two(tmp_path, str(tmp_path / "second"))
    write, full = os.write, [True]
    broken = (tmp_path / "second").stat().st_ino

    def picky(fd: int, data: bytes) -> int:
        if full[0] and os.fstat(fd).st_ino == broken:
            raise OSError(28, "No space left on device")
        return write(fd, data)

    monkeypatch.setattr(os, "write", picky)
    first, second = [disposition(message=message(number)) for number in (1, 2)]
    for item in (first, second):
        with pytest.raises(LogError):
            hub.dispositions(NOW, [item])
    for _ in range(tries):
        with pytest.raises(LogError):
            hub.retry()
    full[0] = False
    hub.retry()
    hub.retry()
    assert len(lines(tmp_path / "good")) == 2
    assert lines(tmp_path / "second") == lines(tmp_path / "good")
    assert hub.is_writable


def test_two_loggers_on_one_file_share_it(tmp_path: Path) -> None:
    hub = two(tmp_path, str(tmp_path / "good"))
    hub.dispositions(NOW, [disposition()])
    assert len(lines(tmp_path / "good")) == 2


def test_heartbeats_come_once_per_interval_aligned_to_it(tmp_path: Path) -> None:
    hub = two(tmp_path, str(tmp_path / "second"), heartbeat=10)
    for now in (NOW + 3, NOW + 9.9, NOW + 10, NOW + 10.5, NOW + 19, NOW + 20.2, NOW + 55, NOW + 56):
        hub.tick(now)
    expected = [f"{int(NOW) + late}@M" for late in (10, 20, 55)]
    assert lines(tmp_path / "good") == lines(tmp_path / "second") == expected


def test_a_clock_that_jumps_back_does_not_stop_heartbeats(tmp_path: Path) -> None:
    hub = two(tmp_path, str(tmp_path / "second"), heartbeat=10)
    for now in (NOW + 100, NOW, NOW + 10):
        hub.tick(now)
    assert len(lines(tmp_path / "good")) == 2


def test_no_heartbeat_where_it_is_zero(tmp_path: Path) -> None:
    hub = two(tmp_path, str(tmp_path / "second"), heartbeat=0)
    for now in range(100):
        hub.tick(float(now))
    assert lines(tmp_path / "good") == []


def test_reopen_after_rename_starts_new_files(tmp_path: Path) -> None:
    hub = two(tmp_path, str(tmp_path / "second"))
    hub.dispositions(NOW, [disposition()])
    for name in ("good", "second"):
        (tmp_path / name).rename(tmp_path / f"{name}.1")
    hub.reopen()
    hub.dispositions(NOW, [disposition(), disposition()])
    assert [len(lines(tmp_path / name)) for name in ("good", "good.1", "second", "second.1")] == [2, 1, 2, 1]


def test_loggers_of_a_new_configuration_take_over_without_losing_a_record(tmp_path: Path) -> None:
    hub = two(tmp_path, str(tmp_path / "second"))
    hub.dispositions(NOW, [disposition()])
    hub.take_over(two(tmp_path, str(tmp_path / "third")))
    hub.dispositions(NOW, [disposition()])
    hub.close()
    assert [len(lines(tmp_path / name)) for name in ("good", "second", "third")] == [2, 1, 1]


def test_loggers_that_still_owe_records_are_not_taken_over(tmp_path: Path) -> None:
    hub = two(tmp_path, "/dev/full")
    with pytest.raises(LogError):
        hub.dispositions(NOW, [disposition()])
    with pytest.raises(LogError):
        hub.take_over(two(tmp_path, str(tmp_path / "second")))
    assert not hub.is_writable


def test_disabled_loggers_are_not_made(tmp_path: Path) -> None:
    hub = two(tmp_path, str(tmp_path / "second"), enabled=False)
    hub.dispositions(NOW, [disposition()])
    assert list(tmp_path.iterdir()) == []


def test_files_that_cannot_be_opened_are_reported_together_with_their_places(tmp_path: Path) -> None:
    scopes = [
        Scope("apn_logger", name, place=Place("push.conf", line, 1), logfile=str(tmp_path / "nowhere" / name))
        for name, line in (("b", 9), ("a", 4))
    ]
    with pytest.raises(ConfigError) as caught:
        loggers.build(Configuration(apn_logger=scopes))
    texts = [str(problem) for problem in caught.value.problems]
    assert [text[:28] for text in texts] == ['push.conf:4:1: apn_logger "a', 'push.conf:9:1: apn_logger "b']
    assert "create the folder" in texts[0]


def test_validate_touches_no_file(tmp_path: Path) -> None:
    scope = Scope("apn_logger", logfile=str(tmp_path / "nowhere" / "log"))
    assert loggers.validate(Configuration(apn_logger=[scope])) == []
    assert list(tmp_path.iterdir()) == []


def test_build_refuses_what_validate_refuses(tmp_path: Path) -> None:
    scope = Scope("apn_logger", logfile=str(tmp_path / "log"), log_delivery_format="%q")
    with pytest.raises(ConfigError, match='unknown macro "%q"'):
        loggers.build(Configuration(apn_logger=[scope]))
    assert list(tmp_path.iterdir()) == []
