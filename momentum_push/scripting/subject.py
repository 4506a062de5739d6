"""What a message object stands on: a snapshot at the door, or a message of ours in the core."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

from momentum_push.message import Message

__all__ = ["Source", "Stored", "Subject"]


class Source(Protocol):
    """What a message object stands on; read when a script asks, so that most of it may be worked out late."""

    @property
    def id(self) -> str: ...
    @property
    def batch_id(self) -> str: ...
    @property
    def conn_id(self) -> str: ...
    @property
    def mailfrom(self) -> str: ...
    @property
    def rcptto(self) -> str: ...
    @property
    def domain(self) -> str: ...
    @property
    def binding(self) -> str: ...
    @property
    def binding_group(self) -> str: ...
    @property
    def delivery_method(self) -> str: ...
    @property
    def raw(self) -> bytes: ...
    @property
    def body(self) -> bytes: ...
    @property
    def size(self) -> int: ...
    @property
    def context(self) -> Mapping[str, str]: ...
    @property
    def conn_context(self) -> Mapping[str, str]: ...
    @property
    def peer(self) -> str: ...
    @property
    def listener(self) -> str: ...
    @property
    def priority(self) -> int: ...
    @property
    def num_retries(self) -> int: ...
    @property
    def delivered(self) -> int: ...
    @property
    def is_mcmt(self) -> bool: ...


@dataclass
class Subject:
    """A snapshot as the doors make it."""

    id: str = ""
    batch_id: str = ""
    conn_id: str = ""
    mailfrom: str = ""
    rcptto: str = ""
    """`local@domain`."""
    binding: str = ""
    binding_group: str = ""
    delivery_method: str = "apn"
    raw: bytes = b""
    """The whole mail; empty over HTTP."""
    payload: bytes = b""
    context: Mapping[str, str] = field(default_factory=dict)
    conn_context: Mapping[str, str] = field(default_factory=dict)
    peer: str = ""
    """`ip:port` of the client."""
    listener: str = ""
    priority: int = 0
    num_retries: int = 0
    delivered: int = 0
    is_mcmt: bool = False

    @property
    def domain(self) -> str:
        return self.rcptto.rpartition("@")[2]

    @property
    def body(self) -> bytes:
        return self.payload or body_of(self.raw)

    @property
    def size(self) -> int:
        return len(self.raw) or len(self.payload)


class Stored:
    """A message of ours, seen from the core; `context` adds to what was injected (`DLV_*`)."""

    def __init__(
        self, message: Message, context: Mapping[str, str] | None = None, delivered: int = 0
    ) -> None:
        self._message = message
        self._context = context
        self.delivered = delivered

    @property
    def id(self) -> str:
        return self._message.mid

    @property
    def batch_id(self) -> str:
        return self._message.part.batch_id

    @property
    def conn_id(self) -> str:
        return self._message.part.conn_id

    @property
    def mailfrom(self) -> str:
        return self._message.part.mailfrom

    @property
    def rcptto(self) -> str:
        local = self._message.rcpt
        return f"{local}@{self.domain}" if local else self.domain

    @property
    def domain(self) -> str:
        return self._message.home.queue.domain

    @property
    def binding(self) -> str:
        return self._message.home.queue.binding

    @property
    def binding_group(self) -> str:
        return self._message.home.queue.binding_group

    @property
    def delivery_method(self) -> str:
        return "apn"

    @property
    def raw(self) -> bytes:
        return self._message.payload

    body = raw

    @property
    def size(self) -> int:
        return self._message.part.size or len(self._message.payload)

    @cached_property
    def context(self) -> Mapping[str, str]:
        """What was injected, the device token as `DLV_Dest_ID`, and what delivery added."""
        injected = self._message.part.context
        return {"DLV_Dest_ID": self._message.token, **injected, **(self._context or {})}

    @property
    def conn_context(self) -> Mapping[str, str]:
        return self._message.part.conn_context

    @property
    def peer(self) -> str:
        return self._message.part.client

    @property
    def listener(self) -> str:
        return ""

    @property
    def priority(self) -> int:
        return int(self._message.part.priority >= 10)

    @property
    def num_retries(self) -> int:
        return self._message.home.attempts

    @property
    def is_mcmt(self) -> bool:
        return False


def body_of(raw: bytes) -> bytes:
    """Return what comes after a mail's headers."""
    ends = [(raw.find(blank), len(blank)) for blank in (b"\r\n\r\n", b"\n\n")]
    found = [(place, length) for place, length in ends if place >= 0]
    if not found:
        return b""
    place, length = min(found)
    return raw[place + length :]
