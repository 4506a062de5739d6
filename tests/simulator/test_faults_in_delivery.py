"""Our own client against faults of frames, settings and sockets: what it believes happened is what happened.

The sender, and the law, are those of `tests/delivery/apns/test_outcomes_are_true.py`; here are the faults
that are written in YAML. None of them may make the client break HTTP/2, say "not processed" of what was
processed, or wait for ever.
"""

import asyncio
from collections import Counter
from pathlib import Path

import pytest

from momentum_push.delivery.apns import ProviderKey, TokenCredential
from momentum_push.message import Phase
from momentum_push.simulator import Simulator, parse_faults
from tests.delivery.apns.test_outcomes_are_true import COUNT, Sender
from tests.helpers.apns import client_context, provider_key, running_simulator, until

ODD = "pieces: 3, padding: 30, continuations: 3, trailers: true, interim: 103, priority: true"

CASES = {
    "flapping": "streams: {after_rejection: 1}\nrules: [{match: {every: 40}, do: {reason: BadDeviceToken}}]",
    "a walking limit": "streams: {walk: {every: 0.02, least: 1, most: 60}}\nlatency: 0.003",
    "no streams at first": "rules: [{when: connect, do: {limit: 0, limit_for: 0.1}}]",
    "no streams in between": "rules: [{match: {every: 200}, do: {limit: 0, limit_for: 0.05}}]",
    "out of order": "rules: [{match: {after: 1}, do: {shuffle: 20}}]",
    "latency": "latency: {median: 0.005, sigma: 0.5}",
    "odd refusals": f"rules: [{{match: {{every: 3}}, do: {{status: 500, answer: {{{ODD}}}}}}}]",
    "odd acceptances": f"rules: [{{match: {{every: 3}}, do: {{answer: {{{ODD}}}}}}}]",
    "no body": "rules: [{match: {every: 3}, do: {status: 500, answer: {body: none}}}]",
    "broken body": "rules: [{match: {every: 3}, do: {status: 400, answer: {body: invalid}}}]",
    "reasons that are none": "rules: [{match: {every: 3}, do: {status: 400, answer: {body: null_reason}}}]",
    "refused twice": "rules: [{match: {every: 9}, do: {refuse: true, then_reset: STREAM_CLOSED}}]",
    "steps of 32 KiB": "window: {step: 32768}",
    "settings in mid flight": (
        "rules: [{match: {every: 90}, do: {settings: {INITIAL_WINDOW_SIZE: 300, HEADER_TABLE_SIZE: 0}}}]"
    ),
    "pings": "rules: [{match: {every: 9}, do: {ping: true}}]",
    "goaway first of all": (
        "rules: [{when: connect, match: {every: 2}, do: {goaway: {before_settings: true}}},"
        " {match: {every: 250}, do: {close: true}}]"
    ),
    "ends of all kinds": (
        "rules: [{match: {nth: 100}, do: {close: no_notify}}, {match: {nth: 200}, do: {close: reset}}]"
    ),
    "refused connects": (
        "rules: [{when: connect, match: {every: 2}, do: {refuse_connect: true}},"
        " {match: {every: 250}, do: {close: true}}]"
    ),
    "wedged": "rules: [{match: {nth: 100}, do: {status: 500, wedge: true}}]",
    "too many bad tokens": (
        "abuse: {bad_tokens: 5}\nrules: [{match: {every: 20}, do: {reason: BadDeviceToken}}]"
    ),
}


@pytest.mark.parametrize("name", list(CASES))
def test_our_own_client_is_not_deceived(tmp_path: Path, name: str) -> None:
    sender, simulator = asyncio.run(story(tmp_path, CASES[name]))
    assert Counter(each.message.sequence for each in sender.outcomes) == Counter(range(1, COUNT + 1))
    entries = {entry.token: entry for entry in simulator.requests}
    for outcome in sender.outcomes:
        entry = entries.get(outcome.message.token)
        if outcome.phase is Phase.ANSWERED:
            assert entry is not None
            assert outcome.status == entry.status
            assert outcome.reason in (entry.reason, "")
        elif outcome.phase is not Phase.UNKNOWN:
            assert entry is None or not entry.processed
    assert max(simulator.ledger.accepted.values()) == 1
    for connection in simulator.connections:
        assert (connection.limit_breaches, connection.violation) == (0, "")


async def story(folder: Path, faults: str) -> tuple[Sender, Simulator]:
    async with running_simulator(folder, parse_faults("seed: 7\n" + faults)) as simulator:
        sender = _sender(folder, simulator)
        await sender.run()
        await until(lambda: len(sender.outcomes) == COUNT)
        return sender, simulator


def _sender(folder: Path, simulator: Simulator) -> Sender:
    key = provider_key(folder)
    credential = TokenCredential(ProviderKey(key.path.read_bytes(), key.key_id, key.team_id))
    return Sender(client_context(folder), credential, simulator.port)
