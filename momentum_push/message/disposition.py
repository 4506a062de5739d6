"""What became of a message: first what the wire saw (`Outcome`), then what it means (`Disposition`).

    wire, connection ── list[Outcome] ──► settle ── list[Disposition] ──► loggers, meters
                                            │
                                            └──► spool (progress, new lists), queues (delayed)

Outcomes are the table of apns.md 10: not sent, not processed, unknown, answered. Dispositions are
Momentum's: delivered, temporary failure, permanent failure.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator, Sequence
from typing import Any, overload

import msgspec

from momentum_push.message.notification import Message

__all__ = ["Deliveries", "Disposition", "Kind", "Outcome", "Phase"]


class Phase(enum.IntEnum):
    """How far a request had come when its story on a connection ended (apns.md 10)."""

    NOT_SENT = 0
    """Never handed to the peer, or its request was not complete on the wire."""
    NOT_PROCESSED = 1
    """Complete, and the peer said that it did not look at it: REFUSED_STREAM, above last-stream-id."""
    UNKNOWN = 2
    """Complete, and no answer came: connection lost, deadline, reset with another code."""
    ANSWERED = 3


class Outcome(msgspec.Struct, gc=False):
    """The end of one request on one connection."""

    message: Message
    phase: Phase
    status: int = 0
    """HTTP status where ANSWERED."""
    reason: str = ""
    """Apple's reason word; for the other phases a short text that says what happened."""
    unregistered_at: int = 0
    """Epoch seconds (Apple sends milliseconds) from a 410; 0: none."""
    retry_after: float = 0.0
    """Seconds, where the peer asked for it (apns.md 4.3), clamped to 1 s … 1 h; 0: it did not."""
    size: int = 0
    """Bytes sent for it: header fields and body (`DLV_Msg_Length`)."""
    seconds: float = 0.0
    """From the request's last byte to the outcome."""


class Kind(enum.Enum):
    """The letter of the record (momentum.md 8.1)."""

    DELIVERED = "D"
    TEMPFAIL = "T"
    PERMFAIL = "P"


class Disposition(msgspec.Struct, gc=False):
    """One finished attempt as the loggers see it."""

    kind: Kind
    message: Message
    at: float
    """Epoch seconds."""
    attempt: int
    """1 for the first."""
    status: int = 0
    """`DLV_Response_Status`: the legacy code where one exists, else the HTTP status; 255: no answer."""
    reason: str = ""
    """`DLV_Response_Status_Detail`: Apple's word, or Momentum's text for what ended here."""
    word: str = ""
    """Apple's reason word alone; empty where Apple gave none."""
    is_known: bool = False
    """Whether the reason table has a row for `word`; what the peer made up is no label of a metric."""
    http_status: int = 0
    unregistered_at: int = 0
    remote: str = ""
    """Address of the peer; empty without a connection."""
    size: int = 0
    conn_id: str = ""
    """Of the outbound connection."""
    stage: int = 0
    """Momentum's stage number (momentum.md 8.2): 0 not connected, 17 in TLS, 9 reading the answer."""
    text: str = ""
    """The mainlog's message: `CODE X.Y.Z text`."""
    topic: str = ""
    """The topic that was sent, configuration's default included."""


_OWN = ("message", "attempt", "size", "topic")


class Deliveries(Sequence[Disposition]):
    """The dispositions of a read in which Apple took everything, in columns.

    They differ in message, attempt, size and topic, and in nothing else. Whoever asks for one of them gets it
    made; whoever asks for a field of all of them (`values`) needs none made, which is five times faster.
    """

    def __init__(self, messages: list[Message], sizes: list[int], shared: Disposition) -> None:
        """Take the messages, one at least, the bytes sent for each, and a disposition with all the rest."""
        self.messages = messages
        self.shared = shared
        self._columns: dict[str, list[Any]] = {"message": messages, "size": sizes, "topic": [shared.topic]}

    def __repr__(self) -> str:
        return f"<Deliveries of {len(self.messages)} messages>"

    def __len__(self) -> int:
        return len(self.messages)

    @overload
    def __getitem__(self, place: int) -> Disposition: ...
    @overload
    def __getitem__(self, place: slice) -> list[Disposition]: ...
    def __getitem__(self, place: int | slice) -> Disposition | list[Disposition]:
        """Make one disposition, or some."""
        if isinstance(place, slice):
            return [self[number] for number in range(*place.indices(len(self)))]
        own = {name: self.values(name) for name in _OWN}
        found = {name: values[place if len(values) > 1 else 0] for name, values in own.items()}
        return msgspec.structs.replace(self.shared, **found)

    def __iter__(self) -> Iterator[Disposition]:
        count = len(self)
        own = [self.values(name) for name in _OWN]
        rows = zip(*[values if len(values) == count else values * count for values in own], strict=True)
        return (msgspec.structs.replace(self.shared, **dict(zip(_OWN, row, strict=True))) for row in rows)

    def values(self, name: str) -> list[Any]:
        """Return a field of each, or once what all have, where that is plain."""
        if name == "attempt":
            homes = {id(message.home): message.home for message in self.messages}
            if len({home.attempts for home in homes.values()}) > 1:
                return [message.home.attempts + 1 for message in self.messages]
            return [self.messages[0].home.attempts + 1]
        return self._columns.get(name) or [getattr(self.shared, name)]

    def set_topics(self, topic_of: Callable[[Message], str]) -> None:
        """Note the topics that were sent; messages of one part have the same."""
        parts = {id(message.part): message for message in self.messages}
        topics = {part: topic_of(message) for part, message in parts.items()}
        one = len(topics) == 1
        self._columns["topic"] = (
            list(topics.values()) if one else [topics[id(message.part)] for message in self.messages]
        )
