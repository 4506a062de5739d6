"""momentum_push/loggers/apn_logger.py"""

from pathlib import Path
from typing import Any

import pytest

from momentum_push.loggers import apn_logger
from momentum_push.loggers.file import Sinks
from momentum_push.message import Kind
from tests.helpers.lists import NOW, message, part, token_of
from tests.helpers.records import Scope, disposition, fields, lines


def build(tmp_path: Path, **options: Any) -> apn_logger.ApnLogger:
    scope = Scope("apn_logger", logfile=str(tmp_path / "apnlog.ec"), **options)
    assert not apn_logger.validate(scope)
    return apn_logger.build(scope, Sinks())


ONE = message(0x1A3F9C2B, rcpt="u1", part=part(mailfrom="push@example.net"))
D = disposition(message=ONE)
P = disposition(Kind.PERMFAIL, message=ONE, status=8, reason="Unregistered", http_status=410)
T = disposition(Kind.TEMPFAIL, message=ONE, status=1, reason="InternalServerError", http_status=500)


def test_records_are_exactly_the_documented_ones(tmp_path: Path) -> None:
    """momentum.md 8.1: field order of D, P and T; P without quotes, size and transaction id."""
    logger = build(tmp_path)
    logger.dispositions(NOW, [D, P, T])
    logger.heartbeat(NOW + 60)
    mid, uuid = ONE.mid, ONE.apns_id
    domain = "com.example.news.apns@default@default@192.0.2.50"
    assert lines(tmp_path / "apnlog.ec") == [
        f'1767600001@D@{mid}@"push@example.net"@"u1"@{domain}@321@{uuid}',
        rf"1767600001@P@{mid}@push\@example.net@u1@{domain}@8@Unregistered",
        f'1767600001@T@{mid}@"push@example.net"@"u1"@{domain}@321@{uuid}@1@InternalServerError',
        "1767600060@M",
    ]


def test_field_counts_follow_from_the_documented_order(tmp_path: Path) -> None:
    logger = build(tmp_path)
    logger.dispositions(NOW, [D, P, T])
    assert [len(fields(line)) for line in lines(tmp_path / "apnlog.ec")] == [11, 11, 13]


@pytest.mark.parametrize(
    ("switch", "kinds"), [("log_delivery", "PT"), ("log_permfail", "DT"), ("log_tempfail", "DP")]
)
def test_each_kind_can_be_switched_off(switch: str, kinds: str, tmp_path: Path) -> None:
    logger = build(tmp_path, **{switch: False})
    logger.dispositions(NOW, [D, P, T])
    assert "".join(fields(line)[1] for line in lines(tmp_path / "apnlog.ec")) == kinds


def test_receptions_and_the_rest_leave_no_record(tmp_path: Path) -> None:
    logger = build(tmp_path)
    logger.receptions(NOW, [ONE])
    logger.panic(NOW, "core:", "x")
    logger.dispositions(NOW, [])
    assert lines(tmp_path / "apnlog.ec") == []


def test_an_operators_own_format_is_used(tmp_path: Path) -> None:
    logger = build(tmp_path, log_delivery_format="%dt %{http_status}", log_heartbeat_format="%t{%H:%M} alive")
    logger.dispositions(NOW, [D])
    logger.heartbeat(NOW)
    assert lines(tmp_path / "apnlog.ec") == [f"{token_of(ONE.sequence)} 200", "08:00 alive"]


def test_without_a_connection_fields_are_empty_not_missing(tmp_path: Path) -> None:
    logger = build(tmp_path)
    nowhere = disposition(Kind.TEMPFAIL, message=ONE, remote="", size=0, status=255, reason="refused")
    logger.dispositions(NOW, [nowhere])
    assert fields(lines(tmp_path / "apnlog.ec")[0])[8:] == ["", "0", ONE.apns_id, "255", "refused"]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"log_delivery_format": "%t@%q"}, 'push.conf:4:5: log_delivery_format: unknown macro "%q"'),
        ({"log_heartbeat_format": "%i"}, 'push.conf:4:5: log_heartbeat_format: unknown macro "%i"'),
        ({"namespace": "apn"}, 'push.conf:4:5: unknown namespace "apn"; known are'),
        ({"logfile": "jlog:///x=>y"}, 'push.conf:4:5: log destination "jlog:" is not supported; name a file'),
        ({"log_delivery_format": "%U"}, 'push.conf:4:5: warning: log_delivery_format: macro "%U" is always'),
    ],
)
def test_problems_have_their_place(options: dict[str, str], text: str) -> None:
    problems = apn_logger.validate(Scope("apn_logger", **options))
    assert [str(problem)[: len(text)] for problem in problems] == [text]
