"""The seam to the spool: append, settle, mark_sent, page, find. Behind it SQLite, and a twin in memory."""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from typing import Any, NamedTuple, Protocol

from momentum_push.message import Home, Message, MessageList, QueueKey
from momentum_push.message.keys import Key, Receipt

__all__ = ["START", "QueueCount", "Spool"]

START = (float("-inf"), 0)
"""The cursor before every list."""


class QueueCount(NamedTuple):
    """What one lane of one queue holds on disk; lanes that hold nothing are not counted."""

    queue: QueueKey
    lane: int
    lists: int
    messages: int
    """Those still waiting."""
    oldest: float
    """When the oldest message of these lists was received, epoch seconds; it may have left already."""
    next_due: float
    """Due time of the first list."""


class Spool(Protocol):
    """Keeps lists of messages: what it acknowledged is there after any crash, until it is settled."""

    salt: int
    """74 bits, drawn once per spool (`message.ids.apns_id`)."""

    @property
    def is_writable(self) -> bool:
        """False after a failed commit until one succeeds again; the spool probes by itself."""

    @property
    def bytes_used(self) -> int:
        """Bytes on disk."""

    def take_sequences(self, count: int) -> int:
        """Return the first of `count` numbers that nobody else gets, ever; SpoolError when none are left."""

    def append(
        self, lists: Sequence[MessageList], receipts: Sequence[Receipt] = ()
    ) -> Coroutine[Any, Any, None]:
        """Keep new lists and receipts, all or none, in one transaction; returns when they are on disk.

        Numbers are given at the call, and grow from call to call. The lists must not be changed before
        it returns, their progress may.

        Raises:
            SpoolFull, SpoolError: nothing of it is kept.
        """

    def settle(self, homes: Sequence[Home], retries: Sequence[MessageList] = ()) -> Coroutine[Any, Any, None]:
        """Keep the progress of lists, remove those that are done, and keep `retries`, in one transaction.

        Progress is copied at the call. It never fails for want of room: it is tried again until it
        commits. SpoolError only when the spool closes before that.
        """

    def mark_sent(self, homes: Sequence[Home]) -> Coroutine[Any, Any, None]:
        """Keep which messages of lists may have been sent (`Home.sent`); returns when that is on disk.

        A list that is not on disk any more is passed over. The bitmaps are copied at the call; of several
        calls the last one counts. As `settle`, it is tried again until it commits; SpoolError only when
        the spool closes before that.
        """

    async def overview(self) -> list[QueueCount]:
        """Return what is where, without counting it."""

    async def page(
        self, queue: QueueKey, lane: int, after: tuple[float, int], limit: int
    ) -> list[MessageList]:
        """Return lists in the order (due, number) after the cursor `after`, which `START` begins.

        As many as fit into `limit` messages, at least one; an empty answer is the end. Only messages
        still waiting are in them. A list that is damaged is set aside and left out.
        """

    async def receipt(self, key: Key) -> Receipt | None:
        """Return the receipt of this name and part, whatever it was for; nothing once its day is over.

        It may be there still for some time after that: whoever asks looks at its age.
        """

    async def find(self, sequence: int) -> Message | None:
        """Return a message that is still waiting."""

    async def close(self) -> None:
        """Commit what is due and let go of the disk."""
