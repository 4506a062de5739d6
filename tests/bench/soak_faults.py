"""Random faults from a seed, for `scripts/bench soak`: phases of one fault each, with calm between them.

The fault file has hours (`from`, `until`), so a whole run is written down before it begins: same seed and
same length, same file. What holds over the whole run (limits that walk, latency, a ceiling) is drawn as well.
"""

import random
from typing import Any

import yaml

__all__ = ["DECK", "fault_file"]

CONNECT, REQUEST = "connect", "request"
RATE = 1500
CUT = (REQUEST, 0.002, {"close": True})
"""Besides a fault of connects, so that there are connects."""

DECK: dict[str, list[tuple[str, float, dict[str, Any]]]] = {
    "limits: none": [(REQUEST, 0.002, {"limit": 0, "limit_for": 0.5})],
    "limits: one": [(REQUEST, 0.002, {"limit": 1, "limit_for": 1.0})],
    "limits: settings": [
        (REQUEST, 0.002, {"settings": {"INITIAL_WINDOW_SIZE": 400, "HEADER_TABLE_SIZE": 0}})
    ],
    "goaway: middle": [(REQUEST, 0.003, {"goaway": {"last": "middle", "debug": "text", "code": 7}})],
    "goaway: none": [(REQUEST, 0.003, {"goaway": {"last": "none", "debug": "empty", "close": "now"}})],
    "goaway: graceful": [(REQUEST, 0.003, {"goaway": {"graceful": True, "notice": 0.1}})],
    "goaway: twice": [(REQUEST, 0.003, {"goaway": {"last": "middle", "twice": True, "debug": "invalid"}})],
    "goaway: first": [(CONNECT, 0.7, {"goaway": {"before_settings": True}}), CUT],
    "streams: refused": [(REQUEST, 0.03, {"refuse": True, "then_reset": "STREAM_CLOSED"})],
    "streams: reset": [(REQUEST, 0.01, {"reset": "INTERNAL_ERROR"})],
    "streams: processed, then reset": [(REQUEST, 0.01, {"reset": "INTERNAL_ERROR", "processed": True})],
    "streams: silent": [(REQUEST, 0.002, {"silent": True})],
    "streams: processed, silent": [(REQUEST, 0.002, {"silent": True, "processed": True})],
    "streams: too late": [(REQUEST, 0.002, {"delay": 6.0, "processed": True})],
    "streams: any order": [(REQUEST, 0.5, {"shuffle": 20})],
    "streams: odd answers": [
        (REQUEST, 0.02, {"status": 500, "answer": {"body": "invalid", "trailers": True, "continuations": 2}}),
        (REQUEST, 0.02, {"status": 599, "reason": "Curious", "answer": {"pieces": 3, "padding": 9}}),
    ],
    "lost: processed": [(REQUEST, 0.002, {"accept_then_close": True})],
    "lost: not processed": [CUT],
    "connection: deaf": [(REQUEST, 0.0005, {"stop_reading": True, "no_ping_ack": True})],
    "connection: ends": [
        (REQUEST, 0.001, {"close": "reset"}),
        (REQUEST, 0.001, {"close": "half"}),
        (REQUEST, 0.001, {"close": "no_notify"}),
    ],
    "connection: refused": [(CONNECT, 0.7, {"refuse_connect": True}), CUT],
    "connection: slow": [(CONNECT, 0.7, {"handshake_delay": 1.0}), CUT],
    "connection: hangs": [(CONNECT, 0.5, {"hang_before_settings": True}), CUT],
    "wedge: 500": [(REQUEST, 0.0005, {"status": 500, "wedge": True})],
    "wedge: 403": [(REQUEST, 0.0005, {"reason": "ExpiredProviderToken", "wedge": True})],
    "wedge: 429": [(REQUEST, 0.0005, {"reason": "TooManyProviderTokenUpdates", "wedge": True})],
    "load: 503 storm": [(REQUEST, 0.7, {"status": 503, "reason": "ServiceUnavailable"})],
    "load: Shutdown": [(REQUEST, 0.002, {"status": 503, "reason": "Shutdown"})],
    "load: too many": [(REQUEST, 0.02, {"reason": "TooManyRequests", "retry_after": "1"})],
    "load: slow": [(REQUEST, 1.0, {"delay": {"median": 0.15, "sigma": 0.7}})],
}
"""Faults by group: what a rule is for, with which probability it strikes, and what it does."""


def fault_file(seed: int, seconds: float, number: int, rate: int = RATE) -> str:
    """Return the YAML for simulator `number` of a run; its last tenth is left calm.

    At a lower rate rare faults come as often by the clock as at `RATE`.
    """
    chance = random.Random(f"soak/{seed}/{number}")
    phase = min(8.0, max(1.0, seconds / 20))
    rules: list[dict[str, Any]] = []
    deck: list[str] = []
    begins, last = phase * chance.uniform(0.5, 1.5), seconds * 0.9
    while begins < last:
        deck = deck or chance.sample(sorted(DECK), len(DECK))
        name, ends = deck.pop(), begins + phase * chance.uniform(0.5, 1.0)
        for when, probability, do in DECK[name]:
            rarely = min(0.1, probability * RATE / rate) if probability < 0.1 else probability
            match = {"probability": rarely, "from": round(begins, 2), "until": round(min(ends, last), 2)}
            rules.append({"name": name, "when": when, "match": match, "do": do})
        begins = ends + phase * chance.uniform(0.1, 0.6)  # a calm
    file = {
        "seed": seed,
        "streams": {"walk": {"every": 2.0, "least": 20, "most": 1000}}
        if number % 2
        else {"after_rejection": 1},
        "window": {"step": 32768} if number % 2 else {},
        "latency": {"median": chance.choice([0.005, 0.02, 0.06]), "sigma": 0.5},
        "devices": [
            {"prefix": "00", "state": "dead", "since": 1_767_600_000},
            {"prefix": "01", "environment": "sandbox"},
        ],
        "rules": rules,
    }
    return yaml.safe_dump(file, sort_keys=False)
