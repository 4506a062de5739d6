"""Which queue a message belongs to, and by which rules it is taken."""

from __future__ import annotations

import pytest

from momentum_push.injection import Routing
from momentum_push.injection import routing as routing_module
from momentum_push.message import QueueKey, Refusal
from momentum_push.message.rules import Rules
from tests.helpers.conf import config

CONF = """
domain "com.example.news.apns" { delivery_method = "apn" }
domain "/[.]many$/" { delivery_method = "apn" }
binding_group "bulk" {
  binding "bulk1" { suspend_delivery = "{SUSPEND}" }
  binding "bulk2" { }
  binding "bulk3" { }
}
binding "single" { }
"""
NEWS = "com.example.news.apns"


def routing(suspended: str = "false", asked: list[QueueKey] | None = None) -> Routing:
    def rules_for(key: QueueKey) -> Rules:
        if asked is not None:
            asked.append(key)
        return Rules(default_topic=key.domain)

    return Routing(config(CONF.replace("{SUSPEND}", suspended)), rules_for)


def key_of(route: object) -> QueueKey:
    assert isinstance(route, tuple)
    key = route[0]
    assert isinstance(key, QueueKey)
    return key


def test_a_message_belongs_to_binding_default_unless_it_names_another() -> None:
    """momentum.md 2.5."""
    ways = routing()
    assert key_of(ways.route(None, NEWS)) == QueueKey("default", "default", NEWS)
    assert key_of(ways.route("", NEWS)) == QueueKey("default", "default", NEWS)
    assert key_of(ways.route("single", NEWS)) == QueueKey("default", "single", NEWS)
    assert key_of(ways.route("bulk2", NEWS)) == QueueKey("bulk", "bulk2", NEWS)


def test_a_group_answers_with_its_bindings_in_turn() -> None:
    """momentum.md 6.5."""
    ways = routing()
    found = [key_of(ways.route("bulk", NEWS)).binding for _ in range(6)]
    assert found == ["bulk1", "bulk2", "bulk3"] * 2


def test_suspended_bindings_of_a_group_come_last() -> None:
    ways = routing(suspended="true")
    assert [key_of(ways.route("bulk", NEWS)).binding for _ in range(4)] == ["bulk2", "bulk3"] * 2
    assert key_of(ways.route("bulk1", NEWS)).binding == "bulk1"


def test_a_name_that_is_neither_is_refused() -> None:
    route = routing().route("nowhere", NEWS)
    assert route == Refusal("UnknownBinding", 'there is no binding or binding_group "nowhere" here')


def test_a_domain_that_is_not_apn_is_refused_in_few_words() -> None:
    ways = routing()
    assert ways.route(None, "example.com") == Refusal(
        "UnknownDomain", 'domain "example.com" is not delivered to APNs here'
    )
    for route in (ways.route(None, "x" * 10_000), ways.route("b" * 10_000, NEWS)):
        assert isinstance(route, Refusal)
        assert len(route.detail) < 400


def test_domains_are_compared_without_case() -> None:
    ways = routing()
    assert key_of(ways.route(None, NEWS.upper())).domain == NEWS
    assert ways.is_apn("Com.Example.NEWS.apns")
    assert not ways.is_apn("example.com")


def test_rules_are_worked_out_once_per_queue() -> None:
    asked: list[QueueKey] = []
    ways = routing(asked=asked)
    for _ in range(3):
        route = ways.route(None, NEWS)
        assert isinstance(route, tuple)
        assert route[1].default_topic == NEWS
    ways.route("single", NEWS)
    assert len(asked) == 2


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    limit = 100
    monkeypatch.setattr(routing_module, "_MAX_REMEMBERED", limit)
    asked: list[QueueKey] = []
    ways = routing(asked=asked)
    for number in range(limit + 10):
        ways.route(None, f"d{number}.many")
    ways.route(None, f"d{limit + 5}.many")
    assert len(asked) == limit + 11


@pytest.mark.parametrize(("blackhole", "is_refused"), [("true", True), ("internal", False), ("false", False)])
def test_an_inline_blackhole_refuses_at_the_door(blackhole: str, is_refused: bool) -> None:
    """momentum.md 6.5: inline fails at RCPT TO, internal accepts and fails later."""
    conf = CONF.replace(
        '{ delivery_method = "apn" }', f'{{ delivery_method = "apn" blackhole = "{blackhole}" }}', 1
    )
    route = Routing(config(conf.replace("{SUSPEND}", "false")), lambda key: Rules()).route(None, NEWS)
    assert isinstance(route, Refusal) is is_refused
    assert not is_refused or route == Refusal("RecipientBlackholed", "recipient blackholed")
