"""A name server's changing answers; what the pool makes of them is in `test_every_fault` ("backend")."""

import asyncio
import socket

import pytest

from momentum_push.errors import ConfigError
from momentum_push.simulator import NameAnswer, Names, VirtualTime, parse_faults


def ask(names: Names, host: str = "apns.test") -> list[str] | str:
    try:
        return asyncio.run(names.look_up(host, 443))
    except socket.gaierror as error:
        return str(error.strerror)


def test_answers_change_by_count_of_look_ups() -> None:
    names = Names([NameAnswer(addresses=("192.0.2.1",), times=2), NameAnswer(addresses=("192.0.2.2",))])
    assert [ask(names) for _ in range(4)] == [["192.0.2.1"]] * 2 + [["192.0.2.2"]] * 2
    assert names.asked == ["apns.test"] * 4


def test_look_ups_of_other_names_do_not_count() -> None:
    names = Names([NameAnswer("other.test", ("192.0.2.9",)), NameAnswer(addresses=("192.0.2.1",), after=1)])
    assert ask(names, "other.test") == ["192.0.2.9"]
    assert ask(names) == "Name or service not known"
    assert ask(names) == ["192.0.2.1"]


def test_answers_change_by_time() -> None:
    time = VirtualTime(1000.0)
    names = Names([NameAnswer(error="SERVFAIL", from_s=5, until_s=8), NameAnswer(addresses=("::1",))], time)
    found = []
    for seconds in (0.0, 5.0, 2.9, 0.1):
        time.advance(seconds)
        found.append(ask(names))
    assert found == [["::1"], *["Non-recoverable failure in name resolution"] * 2, ["::1"]]


def test_a_slow_answer_comes_in_its_time_and_nobody_need_wait_for_it() -> None:
    async def story() -> None:
        time = VirtualTime()
        names = Names([NameAnswer(addresses=("192.0.2.1",), delay_s=3.0)], time)
        slow, given_up = (asyncio.ensure_future(names.look_up("apns.test", 443)) for _ in range(2))
        await asyncio.sleep(0)
        given_up.cancel()
        time.advance(2.9)
        await asyncio.sleep(0)
        assert not slow.done()
        time.advance(0.1)
        assert await slow == ["192.0.2.1"]

    asyncio.run(story())


def test_a_name_may_have_no_addresses() -> None:
    assert ask(Names([NameAnswer()])) == []


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("{name: apns.test}", "without addresses or error"),
        ("{addresses: apns.test}", "IP addresses"),
        ("{error: REFUSED}", "NXDOMAIN, SERVFAIL, TIMEOUT"),
    ],
)
def test_a_row_that_says_nothing_is_an_error(row: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        parse_faults(f"names: [{row}]")
