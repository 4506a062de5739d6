"""Latency, a ceiling, disorder, and faults that have their hours (apns.md 9.5, "load")."""

import pytest
from h2 import events

from tests.helpers.apns import Key, provider_key
from tests.helpers.apns_client import OK, Pair, ready, rule


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Key:
    return provider_key(tmp_path_factory.mktemp("keys"))


# Time and order


def test_an_answer_after_a_minute_takes_none(key: Key) -> None:
    pair = ready(key, rule("{delay: 60}"))
    stream = pair.push("55")
    pair.tick(59.99)
    assert pair.answer(stream) is None
    pair.tick(0.02)
    assert pair.answer(stream) == OK


def test_answers_come_out_of_order_but_all_of_them(key: Key) -> None:
    def order(seed: int) -> list[int]:
        pair = ready(key, rule("{shuffle: 8}", more=f"seed: {seed}"))
        streams = [pair.push("55") for _ in range(16)]
        ended = [each.stream_id for each in pair.events if isinstance(each, events.StreamEnded)][1:]
        assert sorted(ended) == streams
        assert sorted(ended[:8]) == streams[:8]
        return ended

    assert order(3) == order(3) != order(4)
    assert order(3) != sorted(order(3))


def test_held_answers_come_after_a_tenth_of_a_second_at_the_latest(key: Key) -> None:
    pair = ready(key, rule("{shuffle: 8}"))
    first = pair.push("55")
    assert pair.answer(first) is None
    pair.tick(0.11)
    assert pair.answer(first) == OK
    full = [pair.push("55") for _ in range(8)]
    assert all(pair.answer(stream) == OK for stream in full)
    pair.tick(0.06)
    late = pair.push("55")
    pair.tick(0.05)  # the tenth of a second of those before is over, not its own
    assert pair.answer(late) is None
    pair.tick(0.06)
    assert pair.answer(late) == OK


def test_latency_is_log_normal_for_every_answer(key: Key) -> None:
    pair = ready(key, "seed: 5\nlatency: {median: 0.06, sigma: 0.5}")
    streams = [pair.open(f"{number:04x}") for number in range(500)]
    pair.feed()
    assert not any(pair.answer(stream) for stream in streams)
    arrived: list[int] = []
    for _ in range(12):
        pair.tick(0.02)
        arrived.append(sum(pair.answer(stream) is not None for stream in streams))
    assert arrived[0] < 30
    assert 200 < arrived[2] < 300
    assert 400 < arrived[5] < arrived[11] <= 500


def test_latency_comes_on_top_of_a_rules_delay(key: Key) -> None:
    pair = ready(key, rule("{delay: 1}", more="latency: 0.5"))
    slow, plain = pair.push("55"), pair.push("66")
    pair.tick(0.6)
    assert (pair.answer(slow), pair.answer(plain)) == (None, OK)
    pair.tick(0.8)
    assert pair.answer(slow) is None
    pair.tick(0.2)
    assert pair.answer(slow) == OK


def test_a_connection_answers_no_faster_than_its_ceiling(key: Key) -> None:
    pair = ready(key, "rate: 100")
    streams = [pair.open(f"{number:04x}") for number in range(200)]
    pair.feed()
    pair.tick(1.0)
    assert 99 <= sum(pair.answer(stream) is not None for stream in streams) <= 101
    other = Pair(key, floor=pair.floor)
    assert other.answer(other.push()) == OK
    pair.tick(1.1)
    assert all(pair.answer(stream) == OK for stream in streams)


def test_a_storm_has_its_hours(key: Key) -> None:
    pair = ready(key, rule("{status: 503}", "{from: 100, until: 105, period: 200}"))  # 60 s have passed
    seen = []
    for _ in range(20):
        pair.tick(20)
        answer = pair.answer(pair.push())
        seen.append(answer and answer[0])
    assert [number for number, status in enumerate(seen) if status == 503] == [1, 11]


def test_shutdown_answers_and_says_goodbye(key: Key) -> None:
    pair = ready(key, rule("{reason: Shutdown, goaway: {graceful: true}}"))
    stream = pair.push("55")
    assert pair.answer(stream) == (503, {"reason": "Shutdown"})
    pair.tick(1)
    assert [frame.additional_data for frame in pair.goaways] == [b'{"reason":"Shutdown"}'] * 2
    assert pair.is_closed
