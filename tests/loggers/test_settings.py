"""momentum_push/loggers/settings.py"""

from typing import Any

import pytest

from momentum_push.loggers.settings import DEFAULTS, place, setting
from tests.helpers.records import Scope

DOCUMENTED = {
    "concurrency": 1,
    "heartbeat": 60,
    "log_delivery": True,
    "log_permfail": True,
    "log_tempfail": True,
    "log_delivery_format": '%t@D@%i@"%sa"@"%da"@%d@%g@%b@%H@%B@%ti',
    "log_permfail_format": "%t@P@%i@%sa@%da@%d@%g@%b@%H@%S@%e",
    "log_tempfail_format": '%t@T@%i@"%sa"@"%da"@%d@%g@%b@%H@%B@%ti@%S@%e',
    "log_heartbeat_format": "%t@M",
    "logfile": "/var/log/ecelerity/apnlog.ec",
    "logmode": 0o644,
    "namespace": "apn_logger,sieve,custom_logger",
}
"""momentum.md 8.1"""


@pytest.mark.parametrize(("option", "value"), DOCUMENTED.items())
def test_defaults_are_the_documented_ones(option: str, value: Any) -> None:
    assert DEFAULTS["apn_logger"][option] == value


def test_the_place_of_an_option_is_where_it_was_written() -> None:
    scope = Scope("apn_logger", heartbeat=5)
    assert str(place(scope, "heartbeat")) == "push.conf:4:5"
    assert str(place(scope, "logfile")) == "push.conf:3:1"


def test_an_option_that_the_table_leaves_to_us_has_our_default() -> None:
    class Bare(Scope):
        def __getitem__(self, option: str) -> Any:
            raise KeyError(option)

    assert setting(Bare("json_logger"), "json_logger", "log_device_tokens") is False
