"""momentum_push/loggers/columns.py"""

import pytest

from momentum_push.loggers import columns as c
from momentum_push.message import Home, QueueKey
from tests.helpers.lists import NOW, message, part
from tests.helpers.records import disposition


@pytest.mark.parametrize(
    ("client", "address"),
    [
        ("192.0.2.7:40001", "192.0.2.7"),
        ("192.0.2.7", "192.0.2.7"),
        ("[2001:db8::1]:40001", "2001:db8::1"),
        ("2001:db8::1", "2001:db8::1"),
        ("unknown", "unknown"),
        ("", ""),
    ],
)
def test_the_client_address_comes_without_its_port(client: str, address: str) -> None:
    assert c.client_address(client) == address


@pytest.mark.parametrize(
    ("address", "halves"),
    [
        ("a@b", ("a", "b")),
        ('"a@b"@c', ('"a@b"', "c")),
        ("joe", ("joe", "")),
        ("", ("", "")),
        ("@b", ("", "b")),
    ],
)
def test_addresses_split_at_the_last_at(address: str, halves: tuple[str, str]) -> None:
    assert c.split_address(address) == halves


def test_what_all_share_is_one_text() -> None:
    batch = c.Batch([disposition(), disposition()], NOW)
    assert c.from_queue(lambda queue: queue.domain)(batch) == "com.example.news.apns"
    assert c.attribute("remote")(batch) == "192.0.2.50"


def test_parts_and_queues_that_differ_are_told_apart() -> None:
    other = Home(QueueKey("g", "b", "other.apns"), 10, NOW, count=1, progress=bytearray(1), remaining=1)
    items = [
        disposition(message=message(1, part=part(mailfrom="a@x"))),
        disposition(message=message(2, part=part(mailfrom="b@x"), home=other)),
        disposition(message=message(3, part=part(mailfrom="a@x"))),
    ]
    batch = c.Batch(items, NOW)
    assert c.from_part(lambda one: one.mailfrom)(batch) == ["a@x", "b@x", "a@x"]
    assert c.from_queue(lambda queue: queue.domain)(batch) == [
        "com.example.news.apns",
        "other.apns",
        "com.example.news.apns",
    ]


def test_seconds_in_queue_never_go_below_zero() -> None:
    batch = c.Batch([disposition(at=NOW - 5), disposition(at=NOW + 1.2345)], NOW)
    assert c.seconds_in_queue(3)(batch) == ["0.000", "1.234"]


def test_strftime_is_in_utc() -> None:
    assert c.strftime("%Y-%m-%dT%H:%M:%SZ")(1_767_600_000.9) == "2026-01-05T08:00:00Z"
