"""An APNs to talk to: on the wire as Apple's is as far as that is known, and faulty on demand.

Lives here: the server on TLS and HTTP/2, the order in which requests are checked, devices, faults on
purpose, throw-away certificates, and the ledger that tests compare a sender with. Not here: anything
of the daemon; the simulator shares no code with what it tests (it imports `errors` alone), so that the two
cannot agree on an error. Called by tests and by `cli` (`simulate`, `demo`).

    server ─► door ─► connection ─► session ─► rules, devices, provider   what APNs would say
              (asyncio sockets)     (sans-IO)  picker ◄─ faults           what it shall say instead
                    │                   │      ledger                     what it did
                 schedule               ├► limits, answers, farewell, pacing
              (real or virtual)         └► http2 (h2, hyperframe), shapes, fields (HPACK)
    names: what a name server says, to a client in the same process
"""

from momentum_push.simulator.certificates import (
    make_provider_certificate,
    make_provider_key,
    make_server_certificate,
    public_pem,
)
from momentum_push.simulator.devices import Device, State
from momentum_push.simulator.faults import (
    Abuse,
    Action,
    Body,
    Closing,
    Delay,
    Faults,
    GoAway,
    LastStream,
    LimitWalk,
    Match,
    Rule,
    Shape,
    Window,
)
from momentum_push.simulator.faults_file import load_faults, parse_faults
from momentum_push.simulator.ledger import ConnectionEntry, Entry
from momentum_push.simulator.names import NameAnswer, Names
from momentum_push.simulator.provider import ProviderKey
from momentum_push.simulator.request import Policy, Verdict
from momentum_push.simulator.rules import ORDERS
from momentum_push.simulator.schedule import RealTime, Scheduler, VirtualTime
from momentum_push.simulator.server import Simulator

__all__ = [
    "ORDERS",
    "Abuse",
    "Action",
    "Body",
    "Closing",
    "ConnectionEntry",
    "Delay",
    "Device",
    "Entry",
    "Faults",
    "GoAway",
    "LastStream",
    "LimitWalk",
    "Match",
    "NameAnswer",
    "Names",
    "Policy",
    "ProviderKey",
    "RealTime",
    "Rule",
    "Scheduler",
    "Shape",
    "Simulator",
    "State",
    "Verdict",
    "VirtualTime",
    "Window",
    "load_faults",
    "make_provider_certificate",
    "make_provider_key",
    "make_server_certificate",
    "parse_faults",
    "public_pem",
]
