"""Which lists of a lane are in memory, and which only on disk: swap in without losing or doubling one.

    on disk, every list is exactly one of
      expected   written or being written, and not yet announced to the queue
      held       in memory, or done with and not yet off the disk
      stored     known by its number of messages alone, behind `cursor` in (due, number) order

Pages are read by another thread while lists come and go, so a page may bring a list that was
announced, delivered, even removed since. Three rules make any interleaving safe:

1. A page's list that is expected or held, or was held when the reading began, is passed over.
2. Whatever is stored lies behind the cursor: storing a list moves the cursor back before it, and what
   was stored while a page was read moves it back after that page. Going back costs a second look at
   lists that are held, which rule 1 passes over; it can never double one.
3. What is not due yet stays on disk. An end that comes although something is stored starts over from
   the beginning, once; if that finds nothing either, the books were wrong (a damaged list was set aside).

Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from momentum_push.message import MessageList

__all__ = ["START", "Residency"]

Key = tuple[float, int]
"""(due, number): the order in which the spool pages lists."""

START: Key = (float("-inf"), 0)
"""A cursor before every list."""


class Residency:
    """The books of one lane.

    Attributes:
        cursor: what a page begins behind.
        stored: messages that only the spool knows.
        stored_due: no stored list is due before that.
    """

    __slots__ = (
        "_expected",
        "_floor",
        "_gone",
        "_held",
        "_is_reading",
        "_is_swept",
        "cursor",
        "stored",
        "stored_due",
    )

    def __init__(self) -> None:
        self.cursor = START
        self.stored = 0
        self.stored_due = 0.0
        self._expected: set[int] = set()
        self._held: set[int] = set()
        self._gone: set[int] = set()
        self._floor: Key | None = None
        self._is_reading = False
        self._is_swept = False

    def __repr__(self) -> str:
        return f"<Residency {len(self._held)} lists held, {self.stored} messages stored behind {self.cursor}>"

    def recall(self, messages: int, due: float) -> None:
        """Start with what the spool says it holds; `due` is when its first list is."""
        self.stored, self.stored_due, self.cursor = messages, due, START

    def expect(self, number: int) -> None:
        """A list with this number is being written and will be announced (or dropped)."""
        self._expected.add(number)

    def drop(self, number: int) -> None:
        """A list that was expected does not come after all."""
        self._expected.discard(number)

    def hold(self, number: int) -> None:
        """A list is in memory now."""
        self._expected.discard(number)
        self._held.add(number)

    def release(self, number: int) -> None:
        """A list is off the disk; a page that is being read may still bring it."""
        self._held.discard(number)
        if self._is_reading:
            self._gone.add(number)

    def holds(self, number: int) -> bool:
        """Whether a list is in memory, or done with and not yet off the disk."""
        return number in self._held

    def expects(self, number: int) -> bool:
        """Whether a list is on its way to the disk, or not announced yet."""
        return number in self._expected

    def lend(self, batch: MessageList) -> None:
        """Let somebody have a list that only the spool knew; `store` or `release` gives it back."""
        self._held.add(batch.home.number)
        self.stored -= len(batch.messages)

    def outdate(self, number: int) -> None:
        """Pass a list over in a page that is being read: it was read before the list changed."""
        if self._is_reading:
            self._gone.add(number)

    def store(self, batch: MessageList) -> None:
        """Leave a list to the spool."""
        home, before = batch.home, (batch.home.due, batch.home.number - 1)
        self._expected.discard(home.number)
        self._held.discard(home.number)
        self.stored_due = min(self.stored_due, home.due) if self.stored > 0 else home.due
        self.stored += len(batch.messages)
        self.cursor = min(self.cursor, before)
        if self._is_reading:
            self._floor = before if self._floor is None else min(self._floor, before)

    def comes_first(self, batch: MessageList) -> bool:
        """Whether a list is due before everything that is stored."""
        return self.stored <= 0 or batch.home.due < self.stored_due

    def wants_page(self, now: float) -> bool:
        """Whether something that only the spool knows is due."""
        return self.stored > 0 and self.stored_due <= now and not self._is_reading

    def begin_page(self) -> Key:
        """Return the cursor for a page that is about to be read."""
        self._is_reading = True
        self._gone.clear()
        self._floor = None
        return self.cursor

    def abandon_page(self) -> None:
        """The page could not be read."""
        self._is_reading = False

    def take_page(self, batches: Sequence[MessageList], now: float) -> list[MessageList]:
        """Return the lists of a page that are to be held, and note them so."""
        self._is_reading = False
        fresh = self._sift(batches, now)
        if not batches:
            self._end()
        if fresh:
            self._is_swept = False
        if self._floor is not None:
            self.cursor = min(self.cursor, self._floor)
            self.stored_due = min(self.stored_due, self._floor[0])
        return fresh

    def _sift(self, batches: Iterable[MessageList], now: float) -> list[MessageList]:
        fresh: list[MessageList] = []
        for batch in batches:
            home = batch.home
            self.stored_due = home.due
            if home.due > now:
                break
            self.cursor = (home.due, home.number)
            if home.number in self._held or home.number in self._expected or home.number in self._gone:
                continue
            self._held.add(home.number)
            self.stored -= len(batch.messages)
            fresh.append(batch)
        return fresh

    def _end(self) -> None:
        """Nothing lies behind the cursor."""
        if self._floor is not None or self.stored <= 0:
            return
        if self.cursor == START or self._is_swept:
            self.stored, self._is_swept = 0, False
        else:
            self.cursor, self._is_swept = START, True
