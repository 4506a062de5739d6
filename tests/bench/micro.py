"""The wire without a socket: CPU per notification, and memory of one that waits for its answer.

messages ──► Wire ──► bytes, thrown away         answers as nginx writes them: `:status 200` and an
         ◄── Wire ◄── answers, made before       `apns-id` as a literal, 16 KiB a read
"""

from __future__ import annotations

import gc
import struct
import time
import tracemalloc
from typing import NamedTuple

from momentum_push.delivery.apns.wire import Wire, WireOptions
from tests.bench.sender import TOPIC, payload
from tests.helpers.lists import messages, part

__all__ = ["Micro", "micro"]

STREAMS = 1000
LIST = 250
READ = 16_384
SETTINGS = b"\x00\x00\x0c\x04\x00\x00\x00\x00\x00" + struct.pack(">HIHI", 3, STREAMS, 4, 2**31 - 1)
OPEN_WINDOW = b"\x00\x00\x04\x08\x00\x00\x00\x00\x00" + struct.pack(">I", 2**31 - 1 - 65535)
BEARER = b"bearer " + b"x" * 220


class Micro(NamedTuple):
    """CPU in microseconds a notification, memory in bytes for each in flight."""

    send: float
    receive: float
    in_flight: float


def micro(rounds: int = 100) -> Micro:
    """Measure `rounds` times STREAMS notifications of 160 bytes."""
    wire = _ready()
    found = messages(STREAMS, shared=part(topic=TOPIC), payload=payload(160))
    lists = [[(m, TOPIC) for m in found[start : start + LIST]] for start in range(0, STREAMS, LIST)]
    memory = _memory(wire, lists)
    send = receive = 0.0
    for number in range(1, rounds + 1):
        reads = _answers(number * STREAMS)
        started = time.process_time()
        for requests in lists:
            assert wire.send(requests, BEARER, 0.0) == LIST
            wire.data_to_send()
        between = time.process_time()
        ended = sum(len(wire.receive(read, 0.0)) for read in reads)
        receive += time.process_time() - between
        send += between - started
        assert ended == STREAMS
        wire._link.window = 2**31 - 1  # the peer would open it again
    count = rounds * STREAMS
    return Micro(send / count * 1e6, receive / count * 1e6, memory)


def _ready() -> Wire:
    wire = Wire(WireOptions("localhost", is_probing=False))
    wire.initiate()
    wire.receive(SETTINGS + OPEN_WINDOW, 0.0)
    wire.data_to_send()
    return wire


def _memory(wire: Wire, lists: list[list[tuple[object, str]]]) -> float:
    """Send STREAMS messages and see what is held once their bytes are written; then answer them."""
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for requests in lists:
        wire.send(requests, BEARER, 0.0)  # type: ignore[arg-type]
        wire.data_to_send()
    held = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    for read in _answers(0):
        wire.receive(read, 0.0)
    return held / STREAMS


def _answers(first: int) -> list[bytes]:
    """Return the answers to STREAMS requests from number `first` on, as reads of READ bytes."""
    block = b"\x88" + b"\x00\x07apns-id\x24" + b"0a1b2c3d-0a1b-4a1b-8a1b-0a1b2c3d4e5f"
    head = len(block).to_bytes(3) + b"\x01\x05"
    whole = b"".join(head + (2 * number + 1).to_bytes(4) + block for number in range(first, first + STREAMS))
    return [whole[start : start + READ] for start in range(0, len(whole), READ)]
