"""Wedges, black holes, and other ways in which a connection goes wrong (apns.md 9.5)."""

import pytest

from momentum_push.simulator.faults import Closing
from momentum_push.simulator.faults_file import parse_faults
from tests.helpers.apns import Key, provider_key
from tests.helpers.apns_client import OK, START, Pair, ready, rule


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Key:
    return provider_key(tmp_path_factory.mktemp("keys"))


# Wedges


def test_after_a_change_of_token_only_500_until_a_new_connection(key: Key) -> None:
    faults = rule("{status: 500, wedge: true}", "{token_changed: true}")
    pair = ready(key, faults)
    pair.tick(1300)
    assert pair.answer(pair.push()) == OK
    pair.authorization = key.bearer(START + 1200)
    assert [pair.answer(pair.push()) for _ in range(3)] == [(500, {"reason": "InternalServerError"})] * 3
    assert [entry.fault for entry in pair.floor.ledger.requests[-3:]] == ["f"] * 3
    fresh = Pair(key, floor=pair.floor)
    fresh.authorization = pair.authorization
    assert [fresh.answer(fresh.push()) for _ in range(2)] == [OK, OK]


def test_after_expiry_only_403_until_a_new_connection(key: Key) -> None:
    faults = rule("{reason: ExpiredProviderToken, wedge: true}", "{verdict: ExpiredProviderToken}")
    pair = ready(key, faults)
    pair.tick(3600)
    pair.push()
    pair.authorization = key.bearer(pair.clock.now())
    pair.tick(3000)
    assert pair.answer(pair.push()) == (403, {"reason": "ExpiredProviderToken"})
    fresh = Pair(key, floor=pair.floor)
    fresh.authorization = pair.authorization
    assert fresh.answer(fresh.push()) == OK


def test_429_until_a_new_connection(key: Key) -> None:
    pair = ready(key, rule("{status: 429, wedge: true, limit: 9}", "{nth: 3}"))
    seen = [pair.answer(pair.push()) for _ in range(4)]
    assert [answer and answer[0] for answer in seen] == [200, 429, 429, 429]
    assert pair.limits == [1, 1000, 9]
    fresh = Pair(key, floor=pair.floor)
    assert fresh.answer(fresh.push()) == OK


def test_a_rule_may_wait_for_a_verdict(key: Key) -> None:
    faults = parse_faults(
        """
        rules:
          - {match: {verdict: BadDeviceToken, nth: 2}, do: {silent: true}}
          - {match: {verdict: Accepted, nth: 3}, do: {status: 503}}
        """
    )
    pair = ready(key, faults)
    seen = [pair.answer(pair.push(token)) for token in ("xx", "01", "xx", "02")]
    assert [answer and answer[0] for answer in seen] == [400, 200, None, 503]


# Connections


def test_a_goaway_may_be_the_first_frame_of_all(key: Key) -> None:
    pair = Pair(key, rule("{goaway: {before_settings: true}}", "{}"))
    assert [type(frame).__name__ for frame in pair.frames] == ["GoAwayFrame"]
    assert pair.is_closed
    stays = Pair(key, rule("{goaway: {before_settings: true, close: never}}", "{}"))
    stays.push()
    assert (len(stays.frames), stays.is_closed) == (1, False)


@pytest.mark.parametrize("how", ["clean", "no_notify", "reset", "half"])
def test_closing_has_its_ways(key: Key, how: str) -> None:
    pair = ready(key, rule(f"{{close: {how}}}"))
    pair.push("55")
    assert pair.closings == [Closing(how)]
    assert pair.floor.ledger.accepted["55"] == 0


def test_an_idle_connection_becomes_a_black_hole(key: Key) -> None:
    """Nothing comes back any more, no FIN, no RST: as a forgetful NAT has it (apns.md 6.3)."""
    pair = Pair(key, rule("{black_hole_after: 60}", "{}", "connect"))
    assert pair.answer(pair.push()) == OK
    for _ in range(5):
        pair.tick(59)
        assert pair.answer(pair.push()) == OK
    pair.tick(61)
    lost = pair.push()
    pair.client.ping(b"12345678")
    pair.feed()
    assert (pair.answer(lost), pair.is_closed, pair.is_deaf, pair.row.pings) == (None, False, True, 0)
    pair.tick(3600)
    assert pair.answer(lost) is None


def test_a_black_hole_swallows_answers_that_were_on_their_way(key: Key) -> None:
    faults = parse_faults(
        """
        rules:
          - {when: connect, do: {black_hole_after: 60}}
          - {match: {token: "55"}, do: {delay: 100}}
        """
    )
    pair = Pair(key, faults)
    pair.push("00")
    late = pair.push("55")
    pair.tick(200)
    assert pair.answer(late) is None
    assert pair.floor.ledger.accepted["55"] == 1


def test_too_many_bad_tokens_end_the_connection(key: Key) -> None:
    pair = ready(key, "abuse: {bad_tokens: 3}")
    for number in range(3):
        assert not pair.is_closed, number
        assert pair.answer(pair.push("xx")) == (400, {"reason": "BadDeviceToken"})
    assert len(pair.goaways) == 1
    assert pair.is_closed


@pytest.mark.parametrize(
    ("offset", "reason"),
    [(0, None), (3500, None), (3600, "ExpiredProviderToken"), (-3700, "InvalidProviderToken")],
)
def test_apples_clock_may_be_off(key: Key, offset: int, reason: str | None) -> None:
    faults = parse_faults(f"clock_offset: {offset}")
    pair = Pair(key, faults)
    wanted = OK if reason is None else (403, {"reason": reason})
    assert pair.answer(pair.push()) == wanted


def test_a_broken_listener_is_broken_for_chosen_tokens_alone(key: Key) -> None:
    pair = ready(key, rule("{silent: true}", "{listener: 2, token: '55'}"))
    other = Pair(key, floor=pair.floor, listener=2)
    assert pair.answer(pair.push("55")) == OK
    assert other.answer(other.push("66")) == OK
    assert other.answer(other.push("55")) is None
    assert pair.floor.ledger.requests[-1].listener == 2
