"""Builders of parts, messages and lists with sane defaults; every value can be named by the test that cares.

    part(priority=5)                        what messages share
    message(token="ab" * 32)                one message, at home in a list of its own
    messages(3, first=10)                   messages 10, 11, 12 with one part and one payload
    message_list(1000, lane=5)              the same as a list, ready for `Spool.append`

Tokens follow from sequence numbers (`token_of`), so a test can tell who is who without remembering.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from momentum_push.message import Home, Message, MessageList, Part, QueueKey

__all__ = [
    "NOW",
    "PAYLOAD",
    "QUEUE",
    "message",
    "message_list",
    "messages",
    "part",
    "queue_key",
    "token_of",
]

NOW = 1_767_600_000.0
"""Where a `ManualClock` stands when nobody says otherwise."""

QUEUE = QueueKey("default", "default", "com.example.news.apns")

PAYLOAD = b'{"aps":{"alert":"Ferry cancelled"}}'


def queue_key(
    domain: str = QUEUE.domain, binding: str = "default", binding_group: str = "default"
) -> QueueKey:
    """A queue, named by what most tests vary first."""
    return QueueKey(binding_group, binding, domain)


def token_of(number: int) -> str:
    """A device token of 64 hex digits that looks like Apple's and belongs to `number`."""
    return hashlib.sha256(b"token %d" % number).hexdigest()


def part(**changes: Any) -> Part:
    """What the messages of one injection share; `changes` are fields of `Part`."""
    fields: dict[str, Any] = {
        "received_at": NOW,
        "expiration": int(NOW) + 604_800,
        "push_type": "alert",
        "priority": 10,
        "topic": "com.example.news",
        "salt": 0x1234567,
        "protocol": "http",
        "client": "192.0.2.7:40001",
        "conn_id": "00/01-00000-00000001",
        "batch_id": "00/02-00000-00000002",
    }
    return Part(**(fields | changes))


def message(sequence: int = 1, **changes: Any) -> Message:
    """One message, alone in its list; `changes` are fields of `Message`."""
    fields: dict[str, Any] = {"token": token_of(sequence), "payload": PAYLOAD}
    fields |= changes
    fields.setdefault("part", part())
    fields.setdefault("home", Home(QUEUE, 10, NOW, count=1, progress=bytearray(1), remaining=1))
    return Message(sequence=sequence, **fields)


def messages(count: int = 3, first: int = 1, shared: Part | None = None, **changes: Any) -> list[Message]:
    """`count` messages numbered from `first` that share a part and a payload."""
    shared = shared or part()
    return [message(first + place, part=shared, **changes) for place in range(count)]


def message_list(
    count: int = 3,
    first: int = 1,
    *,
    queue: QueueKey = QUEUE,
    lane: int = 10,
    due: float = NOW,
    attempts: int = 0,
    of: Sequence[Message] | None = None,
    shared: Part | None = None,
    **changes: Any,
) -> MessageList:
    """A new list: `of` when given, else `messages(count, first, shared, **changes)`."""
    content = list(of) if of is not None else messages(count, first, shared, **changes)
    return MessageList.gather(queue, lane, due, content, attempts)
