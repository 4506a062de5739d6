"""Messages, and the lists in which they move and rest.

    MessageList ── home ──► Home      the list's row in the spool: number, queue, lane, due, progress
        │                    ▲
        └─ messages ─► Message ──► Part      what the messages of one injection share
                        token, payload, …

The unit that moves between rooms is a list; a list is also one row on disk (design.md 1). A list
holds messages of one queue and lane that are due together and have been tried equally often; they may
come from several injections, so each message points to its `Part`. Messages without garbage-collector header
(`gc=False`) and with a shared part cost under 200 bytes; nothing below a message points back at it,
so there are no cycles to collect.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from momentum_push.message import ids

__all__ = [
    "LANES",
    "MAX_LIST",
    "OVERHEAD",
    "Home",
    "Message",
    "MessageList",
    "Part",
    "QueueKey",
    "short_token",
]

MAX_LIST = 1000
"""Most messages of one list: a row of at most a few hundred kilobytes, one bounded loop turn."""

OVERHEAD = 400
"""Bytes of memory that a message takes beside its payload: itself, token, numbers (measured; design.md 1)."""

LANES = (10, 5, 1)
"""Apple's priorities are our lanes, first one first."""


class QueueKey(NamedTuple):
    """A queue: Momentum's (binding, domain), with the group that the binding stands in."""

    binding_group: str
    binding: str
    domain: str


class Part(msgspec.Struct, frozen=True, gc=False):
    """What the messages of one injection share; checked, complete, never changed again."""

    received_at: float
    """Epoch seconds."""
    expiration: int
    """`apns-expiration` in absolute epoch seconds, worked out once; 0: one attempt at Apple."""
    push_type: str
    priority: int
    topic: str = ""
    """The topic that the message named; empty: the configuration's, at the time of sending."""
    collapse_id: str = ""
    salt: int = 0
    """The spool's 74 bits for `apns-id` (`ids.apns_id`); kept here so that a list may change spools."""
    protocol: str = ""
    client: str = ""
    mailfrom: str = ""
    return_path: str = ""
    conn_id: str = ""
    batch_id: str = ""
    context: dict[str, str] = msgspec.field(default_factory=dict)
    conn_context: dict[str, str] = msgspec.field(default_factory=dict)
    size: int = 0
    """Bytes at reception, for the records; 0: the payload's length."""
    deliver_at: float = 0.0
    """When the sender wants it sent, epoch seconds, later than `received_at`; 0: at once."""

    @property
    def starts_at(self) -> float:
        """When its first attempt was due; expiry, retries and `queue_seconds` count from here."""
        return self.deliver_at or self.received_at


class Home(msgspec.Struct, gc=False, eq=False):
    """A list's row in the spool, and how far the list has come."""

    queue: QueueKey
    lane: int
    due: float
    """Epoch seconds of the next attempt; in the past: now."""
    attempts: int = 0
    """Deliveries that were tried and counted before."""
    number: int = 0
    """The row's number, given by the spool; 0: not yet."""
    count: int = 0
    progress: bytearray = msgspec.field(default_factory=bytearray)
    """One bit a message, set when it left this list; bit `i & 7` of byte `i >> 3`."""
    remaining: int = 0
    sent: bytearray | None = None
    """A bitmap as `progress`: who may have been sent, noted on disk before it was (`apn_unknown_outcome =
    "drop"`); None or no bytes: nobody."""

    weight: int = 0
    """Bytes of memory that each of its messages takes, about; 0: it is not counted."""

    def leave(self, place: int) -> bool:
        """Note that the message at `place` left the list; False when it had left before."""
        byte, bit = place >> 3, 1 << (place & 7)
        if self.progress[byte] & bit:
            return False
        self.progress[byte] |= bit
        self.remaining -= 1
        return True

    def leave_all(self, messages: Iterable[Message]) -> None:
        """Note that each of `messages` left the list; once more does no harm."""
        places = [message.place for message in messages]
        first, count = places[0] if places else 0, len(places)
        if places == list(range(first, first + count)):  # answers come in the order of their requests
            before = int.from_bytes(self.progress, "little")
            after = before | ((1 << count) - 1) << first
            self.progress[:] = after.to_bytes(len(self.progress), "little")
            self.remaining -= (after ^ before).bit_count()
            return
        progress, left = self.progress, 0
        for place in places:
            byte, bit = place >> 3, 1 << (place & 7)
            if not progress[byte] & bit:
                progress[byte] |= bit
                left += 1
        self.remaining -= left

    def has_left(self, place: int) -> bool:
        """Whether the message at `place` left the list."""
        return bool(self.progress[place >> 3] >> (place & 7) & 1)

    def mark(self, place: int) -> None:
        """Note that the message at `place` may have been sent."""
        if not self.sent:
            self.sent = bytearray(len(self.progress))
        self.sent[place >> 3] |= 1 << (place & 7)

    def unmark(self, place: int) -> None:
        """Note that the message at `place` was not sent after all."""
        if self.sent:
            self.sent[place >> 3] &= ~(1 << (place & 7))

    def is_marked(self, place: int) -> bool:
        """Whether the message at `place` may have been sent."""
        return bool(self.sent and self.sent[place >> 3] >> (place & 7) & 1)


class Message(msgspec.Struct, gc=False, eq=False):
    """One notification for one device, from reception to its last record."""

    sequence: int
    token: str
    payload: bytes
    """Bytes for Apple; messages of one injection share the same object."""
    part: Part
    home: Home
    place: int = 0
    """Position in the list, and so in its progress bitmap."""
    rcpt: str = ""
    """Local part of RCPT TO; empty where the injector gave none."""
    own_apns_id: str = ""
    """`apns-id` that the injector chose; empty: worked out from the sequence number."""

    @property
    def mid(self) -> str:
        """The message id, `HH/HH-PPPPP-XXXXXXXX`."""
        return ids.format_mid(self.sequence)

    @property
    def apns_id(self) -> str:
        """The `apns-id`, the same for life."""
        return self.own_apns_id or ids.apns_id(self.part.salt, self.sequence)


class MessageList(msgspec.Struct, gc=False, eq=False):
    """Messages of one queue and lane that are due together: the unit of work and of storage.

    `messages` may be fewer than `home.count`: those that left are not brought back by the spool.
    """

    home: Home
    messages: list[Message]

    def weigh(self) -> int:
        """Set and return `home.weight`: what messages share is divided among them."""
        payloads = {id(message.payload): len(message.payload) for message in self.messages}
        self.home.weight = OVERHEAD + sum(payloads.values()) // max(1, len(self.messages))
        return self.home.weight

    @classmethod
    def gather(
        cls, queue: QueueKey, lane: int, due: float, messages: list[Message], attempts: int = 0
    ) -> MessageList:
        """Make a new list of `messages` (1 to MAX_LIST) and make it their home."""
        count = len(messages)
        home = Home(
            queue=queue,
            lane=lane,
            due=due,
            attempts=attempts,
            count=count,
            progress=bytearray((count + 7) // 8),
            remaining=count,
        )
        for place, message in enumerate(messages):
            message.home = home
            message.place = place
        return cls(home, messages)


def short_token(token: str) -> str:
    """Return a device token as diagnostics may show it: its first eight digits."""
    return token if len(token) <= 8 else token[:8] + "…"
