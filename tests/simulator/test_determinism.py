"""Same seed, same requests, same ledger: chance comes from the seed, and time is virtual (apns.md 9.5)."""

from pathlib import Path

import pytest

from momentum_push.simulator import parse_faults
from tests.helpers.apns import Key, provider_key
from tests.helpers.apns_client import Pair
from tests.helpers.lists import token_of

FAULTS = """
seed: %d
streams: {after_rejection: 40, walk: {every: 2, least: 20, most: 200}}
latency: {median: 0.06, sigma: 0.5}
rate: 200
rules:
  - {name: storm, match: {from: 1, until: 2, period: 4, probability: 0.5}, do: {status: 503}}
  - {name: reset, match: {probability: 0.05}, do: {reset: INTERNAL_ERROR, processed: true}}
  - {name: slow, match: {probability: 0.1}, do: {delay: {median: 0.5, sigma: 1}}}
  - {name: bad, match: {probability: 0.05}, do: {reason: BadDeviceToken}}
  - {name: shuffled, match: {probability: 0.2}, do: {shuffle: 5}}
  - {name: silent, match: {probability: 0.02}, do: {silent: true}}
"""


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Key:
    folder: Path = tmp_path_factory.mktemp("key")
    return provider_key(folder)


def ledger(key: Key, seed: int) -> list[tuple[object, ...]]:
    """The verdicts of 400 requests over an hour, a quarter of a second of it busy in each nine."""
    pair = Pair(key, parse_faults(FAULTS % seed))
    for number in range(400):
        if pair.client.open_outbound_streams < pair.client.remote_settings.max_concurrent_streams:
            pair.push(token_of(number), apns_id=f"00000000-0000-0000-0000-{number:012}")
        pair.tick(0.25 if number % 4 else 9.0)
    pair.tick(2500.0)
    rows = pair.floor.ledger.requests
    return [
        (row.at, row.stream, row.apns_id, row.status, row.reason, row.fault, row.processed) for row in rows
    ]


def test_the_same_seed_and_the_same_requests_bring_the_same_ledger(key: Key) -> None:
    first = ledger(key, 7)
    assert ledger(key, 7) == first
    assert {row[5] for row in first} >= {"storm", "reset", "slow", "bad", "shuffled", "silent"}


def test_another_seed_brings_another_ledger(key: Key) -> None:
    assert ledger(key, 8) != ledger(key, 7)
