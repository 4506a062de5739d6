"""When, how many, how often, in which order: active and delayed queues per (binding, domain).

Lives here: the retry arithmetic, the lanes, the shared throttles, and the manager that keeps memory
bounded. Not here: what an answer of Apple's means (delivery), and how a list is kept (spool).
Called by injection, delivery and the daemon.
"""

from momentum_push.queues.collapse import COLLAPSED
from momentum_push.queues.manager import PAGE, QueueManager
from momentum_push.queues.queue import Lane, Queue
from momentum_push.queues.schedule import (
    EXCEEDED_RETRIES,
    EXCEEDED_TIME,
    EXPIRED_UNTRIED,
    FIRST_UNKNOWN_WAIT_S,
    RetryPolicy,
)
from momentum_push.queues.throttle import Throttle, Throttles

__all__ = [
    "COLLAPSED",
    "EXCEEDED_RETRIES",
    "EXCEEDED_TIME",
    "EXPIRED_UNTRIED",
    "FIRST_UNKNOWN_WAIT_S",
    "PAGE",
    "Lane",
    "Queue",
    "QueueManager",
    "RetryPolicy",
    "Throttle",
    "Throttles",
]
