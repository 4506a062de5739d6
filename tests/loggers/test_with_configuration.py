"""The loggers and the real configuration: what an operator writes is what comes out."""

from pathlib import Path

import pytest

from momentum_push import loggers
from momentum_push.config import loads
from momentum_push.errors import ConfigError
from momentum_push.loggers.settings import DEFAULTS
from momentum_push.message import Kind
from tests.helpers.lists import NOW, message, part
from tests.helpers.records import disposition, fields, lines, rejection

TEXT = """
apn {{ }}
apn_logger "one" {{
  logfile = "{0}/apnlog.ec"
  logmode = 0600
  heartbeat = 10
  log_tempfail = false
  log_permfail_format = "%t@P@\\"%e\\"@%{{http_status}}"
  concurrency = 4
  thread_pool = "io"
}}
ec_logger "main" {{
  mainlog = "{0}/mainlog.ec"  rejectlog = "{0}/rejectlog.ec"
  paniclog = "{0}/paniclog.ec"  acctlog = "{0}/acctlog.ec"
  log_receptions = off
}}
json_logger "j" {{ logfile = "{0}/records.json" }}
apn_logger "off" {{ enabled = false  logfile = "{0}/off.ec" }}
"""


def test_a_configuration_becomes_loggers_that_write_their_files(tmp_path: Path) -> None:
    config = loads(TEXT.format(tmp_path))
    assert loggers.validate(config) == []
    hub = loggers.build(config)
    one = message(1, rcpt="u1", part=part(mailfrom="push@example.net"))
    hub.receptions(NOW, [one])
    hub.dispositions(NOW, [disposition(kind, message=one, reason='a"b', http_status=410) for kind in Kind])
    hub.rejection(NOW, rejection())
    hub.tick(NOW)
    hub.tick(NOW + 10)
    hub.close()
    apn = [fields(line) for line in lines(tmp_path / "apnlog.ec")]
    assert [line[1] for line in apn] == ["D", "P", "M"]
    assert apn[1] == ["1767600001", "P", 'a"b', "410"]
    assert (tmp_path / "apnlog.ec").stat().st_mode & 0o777 == 0o600
    assert [fields(line)[4] for line in lines(tmp_path / "mainlog.ec")] == ["D", "T", "P"]
    assert len(lines(tmp_path / "rejectlog.ec")) == 1
    assert len(lines(tmp_path / "records.json")) == 5
    assert not (tmp_path / "off.ec").exists()


def test_the_option_table_and_the_loggers_agree_on_the_defaults() -> None:
    scope = loads('apn { } apn_logger "one" { }').modules("apn_logger")[0]
    for option, value in DEFAULTS["apn_logger"].items():
        if option != "logfile":  # the folder is the installation's choice
            assert scope[option] == value, option


def test_a_format_that_cannot_be_compiled_is_reported_where_it_stands() -> None:
    config = loads('apn { }\napn_logger "one" {\n  log_delivery_format = "%t@%q"\n}')
    with pytest.raises(ConfigError) as caught:
        loggers.build(config)
    assert str(caught.value.problems[0]).startswith(
        'test.conf:3:3: log_delivery_format: unknown macro "%q"; '
    )
