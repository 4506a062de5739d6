"""momentum_push/loggers/ec_logger.py"""

from pathlib import Path
from typing import Any

import pytest

from momentum_push.loggers import Authentication, ec_logger
from momentum_push.loggers.file import Sinks
from momentum_push.message import Kind
from tests.helpers.lists import NOW, PAYLOAD, message, part
from tests.helpers.records import Scope, disposition, fields, lines, rejection

LOGS = ("mainlog", "rejectlog", "paniclog", "acctlog")


def build(tmp_path: Path, is_hires: bool = False, **options: Any) -> ec_logger.EcLogger:
    paths = {log: str(tmp_path / log) for log in LOGS}
    return ec_logger.build(Scope("ec_logger", **(paths | options)), Sinks(), is_hires=is_hires)


ONE = message(0x1A3F9C2B, rcpt="u1", part=part(mailfrom="push@example.net", protocol="esmtp", size=777))
NATIVE = message(0x1A3F9C2C)
D = disposition(message=ONE)
T = disposition(
    Kind.TEMPFAIL, message=ONE, attempt=3, text="451 4.4.1 [internal] ServiceUnavailable", stage=9
)
P = disposition(
    Kind.PERMFAIL, message=ONE, attempt=2, text="554 5.1.1 a@b", remote="", size=0, stage=0, conn_id=""
)
HEAD = f"1767600001@{ONE.mid}@00/02-00000-00000002"


def test_mainlog_records_are_exactly_the_documented_ones(tmp_path: Path) -> None:
    """momentum.md 8.2: positions of R, D, T, P and the heartbeat."""
    logger = build(tmp_path)
    logger.receptions(NOW, [ONE, NATIVE])
    logger.dispositions(NOW, [D, T, P])
    logger.heartbeat(NOW + 60)
    inbound = "00/02-00000-00000002@00/01-00000-00000001"
    domain = "com.example.news.apns"
    size = len(PAYLOAD)
    assert lines(tmp_path / "mainlog") == [
        f"1767600000@{ONE.mid}@{inbound}@R@u1@{domain}@push@example.net@192.0.2.7@777@esmtp@default@default",
        f"1767600000@{NATIVE.mid}@{inbound}@R@@{domain}@@@192.0.2.7@{size}@http@default@default",
        f"{HEAD}@00/03-00000-00000003@D@{domain}@321@default@default@0@1.250@192.0.2.50",
        f"{HEAD}@00/03-00000-00000003@T@{domain}@321@default@default@9@2@1.250@192.0.2.50"
        "@451 4.4.1 [internal] ServiceUnavailable",
        rf"{HEAD}@@P@{domain}@0@default@default@0@1@1.250@@554 5.1.1 a\@b",
        "1767600060@@@@M1",
    ]


def test_the_type_stands_at_position_four(tmp_path: Path) -> None:
    logger = build(tmp_path)
    logger.receptions(NOW, [ONE])
    logger.dispositions(NOW, [D, T, P])
    logger.heartbeat(NOW)
    assert [fields(line)[4] for line in lines(tmp_path / "mainlog")] == ["R", "D", "T", "P", "M1"]
    assert [len(fields(line)) for line in lines(tmp_path / "mainlog")] == [14, 12, 14, 14, 5]


def test_hires_times_have_sixteen_digits(tmp_path: Path) -> None:
    logger = build(tmp_path, is_hires=True)
    logger.receptions(NOW, [ONE])
    logger.dispositions(NOW, [D])
    logger.panic(NOW, "core:", "x")
    stamps = [fields(line)[0] for line in lines(tmp_path / "mainlog")]
    assert stamps == ["1767600000000000", "1767600001250000"]
    assert lines(tmp_path / "paniclog") == ["1767600000000000:core: x"]


def test_rejectlog_lines_are_key_and_value(tmp_path: Path) -> None:
    logger = build(tmp_path)
    context = {"a": "1", "b": "x,y=z]"}
    logger.rejection(NOW, rejection(conn_context=context, pathway="p", pathway_group="g"))
    logger.rejection(NOW, rejection(peer='"\n', module="a b", text='"x"\ny'))
    logger.heartbeat(NOW)
    assert lines(tmp_path / "rejectlog") == [
        '1767600000: R="192.0.2.7:40001" L="192.0.2.1:25" C="00/01-00000-00000001" PATH="p" PATH_GRP="g"'
        r' P="rcptto" E=550 M=core CTXCONN=[a=1,b=x\,y\=z\]] CTXMESS=[] 5.7.1 relaying denied',
        r'1767600000: R="\"\n" L="192.0.2.1:25" C="00/01-00000-00000001" PATH="" PATH_GRP=""'
        r' P="rcptto" E=550 M=a\x20b CTXCONN=[] CTXMESS=[] "x"\ny',
        "1767600000: Marker 1",
    ]


def test_paniclog_lines_are_time_module_and_text(tmp_path: Path) -> None:
    logger = build(tmp_path)
    logger.panic(NOW, "scriptlet:", "hello")
    logger.panic(NOW, "core:", "Traceback\n  file")
    assert lines(tmp_path / "paniclog") == [
        "1767600000:scriptlet: hello",
        r"1767600000:core: Traceback\n  file",
    ]


def test_acctlog_lines_are_escaped_authentications(tmp_path: Path) -> None:
    logger = build(tmp_path)
    logger.authentication(NOW, Authentication("192.0.2.1:25", "192.0.2.7:40001", "joe@example.net", True))
    logger.authentication(NOW, Authentication("192.0.2.1:25", "192.0.2.7:40001", "", False))
    assert lines(tmp_path / "acctlog") == [
        r"1767600000@N@192.0.2.1:25@192.0.2.7:40001@joe\@example.net@1",
        "1767600000@N@192.0.2.1:25@192.0.2.7:40001@@0",
    ]


@pytest.mark.parametrize(
    ("switch", "kinds"),
    [
        ("log_receptions", "DTP"),
        ("log_deliveries", "RTP"),
        ("log_transient_failures", "RDP"),
        ("log_permanent_failures", "RDT"),
    ],
)
def test_each_record_can_be_switched_off(switch: str, kinds: str, tmp_path: Path) -> None:
    logger = build(tmp_path, **{switch: False})
    logger.receptions(NOW, [ONE])
    logger.dispositions(NOW, [D, T, P])
    assert "".join(fields(line)[4] for line in lines(tmp_path / "mainlog")) == kinds


def test_rejections_and_errors_can_be_switched_off(tmp_path: Path) -> None:
    logger = build(tmp_path, log_rejections=False, log_errors=False)
    logger.rejection(NOW, rejection())
    logger.panic(NOW, "core:", "x")
    assert lines(tmp_path / "rejectlog") == lines(tmp_path / "paniclog") == []


def test_a_log_without_a_file_is_off(tmp_path: Path) -> None:
    logger = build(tmp_path, acctlog="", rejectlog="")
    logger.authentication(NOW, Authentication("l", "p", "u", True))
    logger.heartbeat(NOW)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mainlog", "paniclog"]


def test_a_destination_that_is_no_file_is_a_problem() -> None:
    problems = ec_logger.validate(Scope("ec_logger", mainlog="jlog:///x=>y", paniclog="syslog"))
    assert len(problems) == 2
