"""Where the next connection goes: spread, away from what failed, by preference."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from typing import Any

import pytest

from momentum_push.delivery import resolver as resolver_module
from momentum_push.delivery.apns.connection import Target
from momentum_push.delivery.apns.options import Proxy
from momentum_push.delivery.resolver import Resolver
from momentum_push.delivery.routes import Route
from momentum_push.errors import ConnectError

APPLE = Route("api.push.apple.com")
NAMES = {
    "api.push.apple.com": ["17.188.1.1", "17.188.1.2", "17.188.1.3"],
    "second.test": ["192.0.2.1"],
    "third.test": ["192.0.2.9"],
}


@pytest.fixture(autouse=True)
def names(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names instead of the system's; returns what was asked for."""
    asked: list[str] = []

    async def getaddrinfo(self: Any, host: str, port: int, *, type: int) -> list[Any]:
        asked.append(host)
        if host == "silent.test":
            await asyncio.Event().wait()
        if host not in NAMES:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        addresses = NAMES[host] * 2  # some resolvers say everything twice
        return [(socket.AF_INET, type, 6, "", (address, port)) for address in addresses]

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", getaddrinfo)
    return asked


def choose(
    resolver: Resolver, routes: Sequence[Route] = (APPLE,), used: Sequence[str] = (), chance: float = 0.0
) -> Target:
    return asyncio.run(resolver.choose(routes, lambda: used, chance))


def test_chance_picks_among_all_addresses() -> None:
    found = [choose(Resolver(), chance=chance).address for chance in (0.0, 0.34, 0.67, 0.999, 1.0)]
    assert found == ["17.188.1.1", "17.188.1.2", "17.188.1.3", "17.188.1.3", "17.188.1.1"]


def test_a_pool_spreads_over_addresses_that_it_does_not_use_yet() -> None:
    """apns.md 6.6."""
    assert choose(Resolver(), used=["17.188.1.1", "17.188.1.3"]).address == "17.188.1.2"
    assert choose(Resolver(), used=NAMES[APPLE.host], chance=0.5).address == "17.188.1.2"


def test_when_all_addresses_are_in_use_the_least_used_comes_next() -> None:
    used = [*NAMES[APPLE.host], *NAMES[APPLE.host][:2]]
    assert choose(Resolver(), used=used, chance=0.9).address == "17.188.1.3"


def test_connects_that_are_under_way_together_are_told_of_each_other_after_the_look_up() -> None:
    answers: list[list[str]] = [["192.0.2.1", "192.0.2.2"], ["192.0.2.3"], []]
    used: list[str] = []

    async def look_up(host: str, port: int) -> list[str]:
        used.append("192.0.2.1")  # another connect took it while this one asked
        return answers.pop(0)

    async def scenario() -> None:
        resolver = Resolver(look_up)
        assert (await resolver.choose([APPLE], lambda: used, 0.0)).address == "192.0.2.2"
        assert (await resolver.choose([APPLE], lambda: used, 0.0)).address == "192.0.2.3"
        with pytest.raises(ConnectError, match=r"does not resolve \(no addresses\)"):
            await resolver.choose([APPLE], lambda: used, 0.0)

    asyncio.run(scenario())


def test_an_address_that_failed_is_avoided_while_there_are_others() -> None:
    resolver, failed = Resolver(), []
    for _ in range(3):
        target = choose(resolver)
        failed.append(target.address)
        resolver.failed(target)
    assert sorted(failed) == NAMES[APPLE.host]
    assert choose(resolver).address == "17.188.1.1"


def test_a_used_address_comes_before_one_that_failed() -> None:
    resolver = Resolver()
    resolver.failed(Target("second.test", 443, "192.0.2.1"))
    target = choose(resolver, [Route("second.test"), Route("third.test")], used=["192.0.2.9"])
    assert target.address == "192.0.2.9"


PROXY = Proxy("second.test", 3128)


def test_behind_a_proxy_only_its_name_is_looked_up(names: list[str]) -> None:
    """Apple's name is given to the proxy as it is: hosts behind one often cannot resolve it."""
    target = choose(Resolver(), [Route("gone.test", 2197, verify_name="relay.test", proxy=PROXY)])
    assert names == ["second.test"]
    assert (target.host, target.port, target.address, target.proxy) == ("gone.test", 2197, "192.0.2.1", PROXY)
    assert target.name == "relay.test"
    assert str(target) == "gone.test:2197 through proxy second.test:3128 (192.0.2.1)"


def test_a_proxy_that_does_not_resolve_is_named() -> None:
    with pytest.raises(ConnectError, match=r"^proxy gone.test: name does not resolve \(.*\); check proxy$"):
        choose(Resolver(), [Route("api.push.apple.com", proxy=Proxy("gone.test", 1, "u", "s3cr3t"))])


def test_what_failed_behind_a_proxy_leaves_the_other_routes_through_it() -> None:
    resolver, routes = Resolver(), [Route("a.test", proxy=PROXY), Route("b.test", proxy=PROXY)]
    resolver.failed(choose(resolver, routes, chance=0.0))
    assert {choose(resolver, routes, chance=chance).host for chance in (0.0, 0.9)} == {"b.test"}


def test_what_failed_is_avoided_for_its_time_though_others_work() -> None:
    """momentum.md 6.3, host_failure_retry."""
    now = [50.0]
    resolver = Resolver(clock=lambda: now[0])
    first = choose(resolver)
    resolver.failed(first, 120)
    resolver.worked(choose(resolver))
    now[0] += 119
    assert choose(resolver) != first
    now[0] += 1
    assert choose(resolver) == first


def test_when_what_had_failed_works_again_the_others_are_trusted_too() -> None:
    """All failed in an outage; the first one that is back must not get all connections."""
    resolver = Resolver(clock=lambda: 50.0)
    for _ in NAMES[APPLE.host]:
        resolver.failed(choose(resolver), 120)
    back = choose(resolver)
    resolver.worked(back)
    assert choose(resolver, used=[back.address]) != back


def test_a_lower_pref_comes_first_and_a_higher_one_when_all_of_them_fail() -> None:
    """momentum.md 7.3."""
    resolver, routes = Resolver(), [Route("api.push.apple.com", pref=10), Route("second.test", pref=20)]
    for _ in NAMES[APPLE.host]:
        target = choose(resolver, routes, used=NAMES[APPLE.host])
        assert target.host == "api.push.apple.com"
        resolver.failed(target)
    assert choose(resolver, routes).host == "second.test"


def test_several_routes_are_one_pool_spread_over_them() -> None:
    routes = [Route("second.test"), Route("third.test")]
    assert {choose(Resolver(), routes, chance=chance).host for chance in (0.1, 0.9)} == {
        "second.test",
        "third.test",
    }


def test_names_are_looked_up_anew_for_every_connect(names: list[str]) -> None:
    """jchambers/pushy#571."""
    resolver = Resolver()
    choose(resolver)
    choose(resolver)
    assert names == [APPLE.host] * 2


def test_a_route_that_does_not_resolve_leaves_the_others() -> None:
    assert choose(Resolver(), [Route("gone.test"), Route("second.test")]).host == "second.test"


def test_a_name_server_that_is_silent_about_one_name_leaves_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(resolver_module, "LOOK_UP_S", 0.02)
    routes = [Route("silent.test"), Route("second.test")]
    assert choose(Resolver(), routes).host == "second.test"
    with pytest.raises(ConnectError, match=r"silent.test: name does not resolve \(no answer within 0.02 s\)"):
        choose(Resolver(), routes[:1])


def test_giving_up_leaves_no_question_behind() -> None:
    async def scenario() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await Resolver().choose([Route("silent.test")], list, 0.0)
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(scenario())


def test_when_nothing_resolves_every_name_is_said() -> None:
    with pytest.raises(ConnectError) as caught:
        choose(Resolver(), [Route("gone.test"), Route("lost.test")])
    text = str(caught.value)
    assert "gone.test: name does not resolve (Name or service not known); check routes" in text
    assert "lost.test: name does not resolve" in text


def test_the_target_carries_port_and_verify_name() -> None:
    target = choose(Resolver(), [Route("second.test", 2197, verify_name="relay.test")])
    assert (target.host, target.port, target.address, target.name) == (
        "second.test",
        2197,
        "192.0.2.1",
        "relay.test",
    )


def test_a_name_without_addresses_is_said_to_have_none() -> None:
    async def ask(host: str, port: int) -> list[str]:
        return []

    with pytest.raises(ConnectError, match=r"push\.apple\.com: name does not resolve \(no addresses\)"):
        choose(Resolver(ask))
