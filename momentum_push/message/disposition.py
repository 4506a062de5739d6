"""What became of a message: first what the wire saw (`Outcome`), then what it means (`Disposition`).

    wire, connection ── list[Outcome] ──► settle ── list[Disposition] ──► loggers, meters
                                            │
                                            └──► spool (progress, new lists), queues (delayed)

Outcomes are the table of apns.md 10: not sent, not processed, unknown, answered. Dispositions are
Momentum's: delivered, temporary failure, permanent failure.
"""

from __future__ import annotations

import enum

import msgspec

from momentum_push.message.notification import Message

__all__ = ["Disposition", "Kind", "Outcome", "Phase"]


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
