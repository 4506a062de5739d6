"""What all connections of a simulator share; filled by `server`, read by `session`."""

from dataclasses import dataclass
from typing import Protocol

from momentum_push.simulator.devices import Devices
from momentum_push.simulator.faults import Faults
from momentum_push.simulator.ledger import Ledger
from momentum_push.simulator.picker import FaultPicker
from momentum_push.simulator.request import Policy
from momentum_push.simulator.schedule import Scheduler

__all__ = ["Clock", "Floor"]


class Clock(Protocol):
    """Where the age of provider tokens and the times of the ledger come from."""

    def now(self) -> float:
        """Seconds since the epoch."""


@dataclass(slots=True)
class Floor:
    """Judgement, faults and memory of one simulator; the parts may be exchanged while it runs.

    Attributes:
        clock: as a rule the scheduler itself; another one where only the wall clock shall be moved.
        started_at: from which a rule's hours count.
    """

    ledger: Ledger
    policy: Policy
    devices: Devices
    faults: Faults
    picker: FaultPicker
    clock: Clock
    scheduler: Scheduler
    started_at: float = 0.0

    def age(self) -> float:
        """Seconds since the start."""
        return self.clock.now() - self.started_at
