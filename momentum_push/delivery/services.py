"""What all pools of a daemon share: one of each, made by `manager`, handed to every pool."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from momentum_push.clock import Clock
from momentum_push.delivery.marking import MarkSink
from momentum_push.delivery.resolver import LookUp, look_up
from momentum_push.delivery.settle import Settler
from momentum_push.delivery.turns import Turns
from momentum_push.message.reasons import ReasonTable
from momentum_push.meters import Meters
from momentum_push.queues import QueueManager, Throttles

__all__ = ["Services"]


@dataclass(slots=True)
class Services:
    """See the module's head."""

    settler: Settler
    spool: MarkSink
    queues: QueueManager
    table: ReasonTable
    throttles: Throttles
    meters: Meters
    clock: Clock
    new_conn_id: Callable[[], str]
    turns: Turns = field(default_factory=Turns)
    look_up: LookUp = look_up
