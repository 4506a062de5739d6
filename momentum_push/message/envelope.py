"""What injection knows before anything is checked: who sent it, and what they ask for."""

from __future__ import annotations

from typing import Any

import msgspec

__all__ = ["Cancel", "Cancelled", "Draft", "Origin", "Refusal"]


class Origin(msgspec.Struct, frozen=True, gc=False):
    """Where an injection came from; one per SMTP transaction or HTTP request."""

    protocol: str
    """`esmtp`, `rest` or `http`: the word of the reception record (momentum.md 8.2)."""
    client: str = "unknown"
    """`ip:port` of the client."""
    mailfrom: str = ""
    conn_id: str = ""
    batch_id: str = ""
    user: str = ""
    """Who authenticated, empty for nobody."""
    context: dict[str, str] = msgspec.field(default_factory=dict)
    """Connection context variables (momentum.md 9.5)."""


class Draft(msgspec.Struct, gc=False):
    """One content for one device or many, or one set of options for many contents; nothing is checked yet.

    The hot path is one `Draft` with many tokens: what they share is checked once, the rest in columns.
    Values are of the type the injector sent (a priority may be the text "high"); the rules refuse
    what does not fit, in words.
    """

    domain: str
    payload: bytes
    """The bytes that go to Apple, exactly as they came; of the first device where `payloads` is set."""
    tokens: list[str]
    rcpts: list[str] | None = None
    """RCPT local parts beside `tokens`; None when there are none (native HTTP)."""
    binding: str | None = None
    topic: Any = None
    push_type: Any = None
    priority: Any = None
    expiration: Any = None
    collapse_id: Any = None
    apns_id: Any = None
    """Only where there is one token."""
    context: dict[str, str] = msgspec.field(default_factory=dict)
    """Message context variables; `DLV_Source_Addr` and friends included (momentum.md 7.6)."""
    return_path: str = ""
    mailfrom: str | None = None
    """The sender, where it differs from the origin's: one REST request may have several."""
    size: int = 0
    """Bytes that the message had on the wire, for the reception record; 0: the payload's."""
    payloads: list[bytes] | None = None
    """One beside each of `tokens`; None: all have `payload`."""
    deliver_at: Any = None
    """When it is to be sent, epoch seconds; None, 0 and what is past: now."""


class Cancel(msgspec.Struct, frozen=True, gc=False):
    """A wish to take back what still waits: one message by its number, or all with a collapse id."""

    sequence: int = 0
    """0: by the others."""
    domain: str = ""
    collapse_id: str = ""
    token: str = ""
    """Only messages to this device; empty: to any."""


class Cancelled(msgspec.Struct, frozen=True, gc=False):
    """What became of a wish; neither: there is no such message."""

    removed: int = 0
    """Messages that waited; their removal is on disk and on record."""
    busy: int = 0
    """Messages that are on their way to Apple, or whose answer is just being written down."""


class Refusal(msgspec.Struct, frozen=True, gc=False):
    """Why a message is not taken: `error` is Apple's reason word where one fits (apns.md 4.2)."""

    error: str
    detail: str
