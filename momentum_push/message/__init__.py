"""Values: messages and what is known about them, from draft to disposition.

Lives here: what a message is, how its parts are read and checked, what answers mean. Pure: no
socket, file, thread, clock or chance. Everybody may call it; it calls `errors` alone.
"""

from momentum_push.message.disposition import Deliveries, Disposition, Kind, Outcome, Phase
from momentum_push.message.envelope import Cancel, Cancelled, Draft, Origin, Refusal
from momentum_push.message.notification import (
    LANES,
    MAX_LIST,
    Home,
    Message,
    MessageList,
    Part,
    QueueKey,
    short_token,
)

__all__ = [
    "LANES",
    "MAX_LIST",
    "Cancel",
    "Cancelled",
    "Deliveries",
    "Disposition",
    "Draft",
    "Home",
    "Kind",
    "Message",
    "MessageList",
    "Origin",
    "Outcome",
    "Part",
    "Phase",
    "QueueKey",
    "Refusal",
    "short_token",
]
