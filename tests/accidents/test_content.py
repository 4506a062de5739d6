"""Accidents with what was sent (apns.md 8): sizes, tokens, headers; and with how fast large things went."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from momentum_push.message import Draft, Refusal
from momentum_push.message.rules import Rules, check_content
from momentum_push.message.token import check_tokens
from tests.helpers.accidents import Site, accident, stage
from tests.helpers.lists import NOW

RULES = Rules(default_topic="com.example.news")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("content")


def judged(size: int, **asked: Any) -> str:
    """What the door says to a payload of so many bytes; empty: it is taken."""
    payload = b'{"aps":{"alert":"' + b"x" * (size - 20) + b'"}}'
    assert len(payload) == size
    found = check_content(Draft("com.example.news.apns", payload, ["ab" * 32], **asked), RULES, NOW)
    return found.error if isinstance(found, Refusal) else ""


@accident(19, "sideshow/apns2#163")
def test_large_payloads_over_a_long_route_get_the_connections_that_they_need(folder: Path) -> None:
    """Sixteen such bodies fill a window of 64 KiB: at a tenth of a second one connection sends 160 a second.

    The simulator gives windows back at once, whatever its latency; so sixteen streams stand for the window,
    and bodies are small: half a megabyte under way on loopback takes real time, which leaping time overtakes.
    """

    async def story(site: Site) -> None:
        await site.put(960)
        seconds = await site.end(60)
        assert site.kinds == {"D": 960}
        assert len(site.simulator.connections) > 4
        assert seconds < 0.7 * 960 / 160, "what one connection could do"

    stage(folder, story, "latency: 0.1\nstreams: {full: 16}", "max_outbound_connections = 8")


@accident(19, "appleboy/gorush#470")
def test_many_bad_tokens_do_not_bring_the_others_to_a_halt(folder: Path) -> None:
    async def story(site: Site) -> None:
        seconds = 0.0
        for _ in range(12):  # each batch finds the limits as the last one left them: fallen
            await site.put(20)
            seconds += await site.until(lambda: site.ended.total() == site.put_count, 60)
        assert seconds < 1.7, "one stream at a time would take twice as long as it does"
        assert 50 < site.kinds["P"] < 100, "fewer than make the breaker doubt the whole list"
        assert site.kinds["D"] + site.kinds["P"] == 240

    faults = """
    streams: {after_rejection: 1}
    latency: 0.05
    rules: [{match: {every: 3}, do: {reason: BadDeviceToken}}]
    """
    stage(folder, story, faults, "max_outbound_connections = 8")


@accident(20, "sideshow/apns2#238")
def test_a_hundred_injections_share_one_connection(folder: Path) -> None:
    async def story(site: Site) -> None:
        for _ in range(100):
            await site.put()
            await site.end(10)
        assert (site.kinds, site.simulator.ledger.connects) == ({"D": 100}, 1)

    stage(folder, story)


@pytest.mark.parametrize("digits", [64, 108, 160, 200, 512])
@accident(
    27, "rpush/rpush#462", "rpush/rpush#463", "dgilland/pushjack#32", "jazzband/django-push-notifications#678"
)
def test_a_token_of_any_length_is_taken(digits: int) -> None:
    token = "5a" * (digits // 2)
    assert check_tokens([token, "ab" * 32], RULES) == [token, "ab" * 32]


@pytest.mark.parametrize(
    ("size", "push_type", "error"),
    [
        (2049, "alert", ""),
        (4096, "alert", ""),
        (4097, "alert", "PayloadTooLarge"),
        (5120, "voip", ""),
        (5121, "voip", "PayloadTooLarge"),
    ],
)
@accident(28, "rpush/rpush#561", "rpush/rpush#583")
def test_a_payload_may_be_as_large_as_its_push_type_allows(size: int, push_type: str, error: str) -> None:
    assert judged(size, push_type=push_type) == error


@accident(29, "rpush/rpush#416")
def test_expiry_goes_out_as_a_moment_and_stays_the_same_over_retries(folder: Path) -> None:
    content = check_content(Draft("com.example.news.apns", b'{"aps":{}}', ["ab" * 32]), RULES, NOW)
    assert not isinstance(content, Refusal)
    assert content.expiration == int(NOW) + RULES.expiry

    async def story(site: Site) -> None:
        [message] = await site.put()
        await site.end()
        assert {entry.expiration for entry in site.requests} == {str(message.part.expiration)}
        assert int(site.requests[0].expiration) > site.clock.now()
        assert len(site.requests) == 3

    stage(folder, story, "rules: [{match: {times: 2}, do: {status: 503}}]")


@accident(36, "matrix-org/sygnal#344")
def test_a_token_in_base64_is_refused_at_the_door_and_not_sent_as_if_it_were_hex() -> None:
    [base64, good] = check_tokens(["q6urq6urq6urq6urq6urq6urq6urq6urq6urq6urq6s=", "ab" * 32], RULES)
    assert isinstance(base64, Refusal)
    assert (base64.error, good) == ("BadDeviceToken", "ab" * 32)


@accident(42, "parse-community/node-apn#173")
def test_every_priority_stands_on_the_wire(folder: Path) -> None:
    async def story(site: Site) -> None:
        for priority in (10, 5, 1):
            await site.put(2, priority=priority)
            await site.until(lambda: site.ended.total() == site.put_count, 10)
        assert [entry.priority for entry in site.requests] == ["10", "10", "5", "5", "1", "1"]

    stage(folder, story)


@accident(56, "antoinedc/MantaUI#676")
def test_a_bad_token_at_the_door_takes_no_other_with_it() -> None:
    results = check_tokens(["ab" * 32, "not a token", "cd" * 32], RULES)
    assert [isinstance(result, Refusal) for result in results] == [False, True, False]
