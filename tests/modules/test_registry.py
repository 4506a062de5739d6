"""momentum_push/modules/registry.py"""

import pytest

from momentum_push.errors import Place
from momentum_push.modules import Registry
from tests.helpers.records import Configuration, Scope


def stanza(name: str, line: int) -> Scope:
    return Scope("apn_logger", name, place=Place("push.conf", line, 1))


def registry() -> Registry[str]:
    made: Registry[str] = Registry()
    made.add("apn", lambda scope: f"apn {scope.instance}", is_singleton=True)
    made.add("apn_logger", lambda scope: f"logger {scope.instance}")
    return made


def test_every_stanza_becomes_an_object_in_starting_order() -> None:
    config = Configuration(apn_logger=[stanza("x", 5), stanza("y", 6)], apn=[stanza("", 9)])
    assert registry().build(config) == ["apn ", "logger x", "logger y"]


def test_a_singleton_that_stands_twice_is_a_problem_at_the_second_place() -> None:
    config = Configuration(apn=[stanza("", 2), stanza("b", 7)], apn_logger=[stanza("x", 5), stanza("y", 6)])
    assert [str(problem) for problem in registry().validate(config)] == [
        'push.conf:7:1: "apn" is a singleton and stands here a second time; keep the one at push.conf:2:1'
    ]


def test_a_name_is_registered_once() -> None:
    with pytest.raises(ValueError, match='module "apn" is registered twice'):
        registry().add("apn", lambda scope: "")


@pytest.mark.parametrize(("name", "near"), [("apn_loger", "apn_logger"), ("zzz", "")])
def test_unknown_names_get_the_nearest_known(name: str, near: str) -> None:
    assert registry().suggestion(name) == near
    assert registry().names() == ["apn", "apn_logger"]
