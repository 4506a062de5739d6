"""What all connections of a simulator share; filled by `server`, read by `session`."""

from dataclasses import dataclass
from typing import Protocol

from momentum_push.simulator.devices import Devices
from momentum_push.simulator.faults import FaultPicker, Faults
from momentum_push.simulator.ledger import Ledger
from momentum_push.simulator.request import Policy

__all__ = ["Clock", "Floor"]


class Clock(Protocol):
    """Where the age of provider tokens and the times of the ledger come from; delays are real time."""

    def now(self) -> float:
        """Seconds since the epoch."""


@dataclass(slots=True)
class Floor:
    """Judgement, faults and memory of one simulator; the parts may be exchanged while it runs."""

    ledger: Ledger
    policy: Policy
    devices: Devices
    faults: Faults
    picker: FaultPicker
    clock: Clock
