"""Rendered results, and the ledger of a stream."""

import json

from momentum_push.injection import http_results
from momentum_push.injection.http_results import Ledger, render, slices
from momentum_push.message import Home, Message, Part, QueueKey, Refusal

HOME = Home(QueueKey("default", "default", "x"), 10, 0.0)


def message(sequence: int, salt: int, own: str = "") -> Message:
    part = Part(received_at=1.0, expiration=2, push_type="alert", priority=10, salt=salt)
    return Message(sequence, "token", b"", part, HOME, own_apns_id=own)


def test_ids_are_those_of_the_messages_whatever_their_salts() -> None:
    salts = [0, 1, (1 << 74) - 1, 0x2AAAAAAAAAAAAAAAAAA]
    messages = [
        message(sequence, salt) for salt in salts for sequence in (0, 1, (1 << 48) - 1, 0x123456789ABC)
    ]
    messages.append(message(7, 5, "own"))
    expected = [{"id": message.mid, "apns_id": message.apns_id} for message in messages]
    assert json.loads(b"[" + render(messages) + b"]") == expected
    assert json.loads(b"[" + b"".join(slices(messages * 100)) + b"]") == expected * 100


def test_refusals_are_escaped() -> None:
    assert json.loads(render([Refusal("A", 'x"\\\n\u00fc')])) == {"error": "A", "detail": 'x"\\\n\u00fc'}


def test_a_ledger_keeps_order_and_moves_to_disk() -> None:
    ledger = Ledger()
    for start in range(0, 30_000, 1000):
        refusals = ledger.add([Refusal("A", ""), *(message(start + place, 1) for place in range(999))])
        assert len(refusals) == 1
    ledger.add([])
    assert (ledger.accepted, ledger.rejected, ledger.count) == (29_970, 30, 30_000)
    assert ledger.first == Refusal("A", "")
    text = b"".join(ledger.rendered())
    assert len(text) > http_results.MEMORY
    results = json.loads(b"[" + text + b"]")
    assert len(results) == 30_000
    assert results[29_001] == {"id": message(29_000, 1).mid, "apns_id": message(29_000, 1).apns_id}
