"""Collapse in the queue: of messages that replace each other on the device, only the newest is sent.

    accepted ──► note ──┐
    swapped in ► meet ──┼──► newest of (token, apns-collapse-id, topic, push type)
                        │
    about to be sent ───┴──► newer? ──yes──► P "554 5.4.8 [internal] collapsed into MID"
                               └─ no ──► sent

`collapse_waiting` asks for it. An older message stays where it is, in memory or on disk, until its turn
comes; then it is done with, and a newer one that was sent meanwhile counts too, so that an old score never
overwrites a new one. Newer is what was accepted later; a scheduled message counts from its `deliver_at`,
so that tomorrow's does not swallow today's.

What is exact: the table knows the newest of LIMIT keys of each queue, those that were accepted or read
from disk last. An older message is sent all the same when its newer one was accepted before a restart and
has not been read from disk yet, or when LIMIT other keys came in between. It is never the other way
round: a message is dropped only for one that was accepted, and newer.

Topic and push type stand for the topic that Apple sees, which follows from both. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from momentum_push.message import Message
from momentum_push.message.ids import format_mid

__all__ = ["COLLAPSED", "LIMIT", "Collapse"]

LIMIT = 32_768
"""Keys of one queue, some 400 bytes each."""

COLLAPSED = "554 5.4.8 [internal] collapsed into"

_Key = tuple[str, str, str, str]


class _Newest(NamedTuple):
    sequence: int
    deliver_at: float
    starts_at: float


class Collapse:
    """The newest messages of one queue, by what they collapse with."""

    __slots__ = ("_limit", "_newest")

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._newest: dict[_Key, _Newest] = {}

    def __repr__(self) -> str:
        return f"<Collapse {len(self._newest)} keys>"

    def note(self, messages: Iterable[Message]) -> None:
        """Hear of messages that were just accepted and are due: they are the newest."""
        for message in messages:
            if message.part.collapse_id:
                self._keep(_key(message), message)

    def meet(self, messages: Iterable[Message]) -> None:
        """Hear of messages that were accepted before, and are in memory now."""
        for message in messages:
            if message.part.collapse_id:
                self.final(message)

    def final(self, message: Message) -> str | None:
        """Return why a message with a collapse id is not to be sent; None: nothing newer is known."""
        key = _key(message)
        newest = self._newest.get(key)
        if newest is None or _is_newer(message, newest):
            self._keep(key, message)
            return None
        return None if newest.sequence == message.sequence else f"{COLLAPSED} {format_mid(newest.sequence)}"

    def _keep(self, key: _Key, message: Message) -> None:
        self._newest.pop(key, None)  # what was met last stands last
        self._newest[key] = _Newest(message.sequence, message.part.deliver_at, message.part.starts_at)
        if len(self._newest) > self._limit:
            del self._newest[next(iter(self._newest))]


def _key(message: Message) -> _Key:
    part = message.part
    return message.token, part.collapse_id, part.topic, part.push_type


def _is_newer(message: Message, newest: _Newest) -> bool:
    """Numbers tell which came later, and clocks may jump; only what is scheduled goes by its time."""
    part = message.part
    if part.deliver_at or newest.deliver_at:
        return (part.starts_at, message.sequence) > (newest.starts_at, newest.sequence)
    return message.sequence > newest.sequence
