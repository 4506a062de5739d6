"""NDJSON: lines out of a stream, and lists out of lines.

A line is one notification; blank lines are passed over but counted, so that a place in a complaint is
the line number that an editor shows. A line that is too long is skipped to its end and refused like any
other broken line: what came before and after it stays good.

What a crash may leave of a stream that was not answered: the first so many lists, each of them whole. A
list is as many lines as fit into MAX_LIST and MAX_BATCH, however the stream was cut on its way: so a
stream that is sent again has the same lists, and under an idempotency key it goes on where it ended.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import NamedTuple

from momentum_push.injection.http_envelope import Item, read_item
from momentum_push.message import MAX_LIST, Refusal

__all__ = ["MAX_LINE", "Line", "Splitter", "batches", "ended", "read_lines"]

MAX_LINE = 65_536
"""Bytes: Apple's largest payload takes 5,120, context variables the rest."""

MAX_BATCH = 1_048_576
"""Bytes of the lines of a list; one line alone is less."""


class Line(NamedTuple):
    """One line, without its end; `text` None: it was too long."""

    number: int
    text: bytes | None


class Splitter:
    """Cuts a stream into lines; holds at most MAX_LINE bytes between two calls."""

    def __init__(self) -> None:
        self._number = 0
        self._rest = b""
        self._is_skipping = False

    def feed(self, chunk: bytes) -> list[Line]:
        """Return the lines that end in `chunk`."""
        parts = (self._rest + chunk).split(b"\n")
        self._rest = parts.pop()
        lines = [line for part in parts if (line := self._line(part)) is not None]
        if self._is_skipping or len(self._rest) > MAX_LINE:
            self._is_skipping, self._rest = True, b""
        return lines

    def finish(self) -> list[Line]:
        """Return the last line if it has no end."""
        line = self._line(self._rest) if self._rest or self._is_skipping else None
        return [line] if line is not None else []

    def _line(self, text: bytes) -> Line | None:
        self._number += 1
        if self._is_skipping or len(text) > MAX_LINE:
            self._is_skipping = False
            return Line(self._number, None)
        return Line(self._number, text) if text and not text.isspace() else None


async def batches(chunks: AsyncIterator[bytes]) -> AsyncIterator[list[Line]]:
    """Yield lists of as many lines as MAX_LIST and MAX_BATCH allow; the last one when the stream ends.

    What is not complete when the stream breaks is dropped: nobody was told that it was taken.
    """
    splitter = Splitter()
    waiting: list[Line] = []
    size = 0  # of what waits, at most: it is only worked out when it matters
    async for chunk in chunks:
        waiting += splitter.feed(chunk)
        size += len(chunk)
        while len(waiting) >= MAX_LIST or size > MAX_BATCH:
            count = _fitting(waiting) if size > MAX_BATCH else MAX_LIST
            if count == len(waiting) < MAX_LIST:
                size = _size(waiting) + MAX_LINE  # and what has no end yet
                break
            yield waiting[:count]
            waiting = waiting[count:]
            size = _size(waiting) + MAX_LINE
    waiting += splitter.finish()
    while waiting:
        count = _fitting(waiting)
        yield waiting[:count]
        waiting = waiting[count:]


async def ended(lists: AsyncIterator[list[Line]]) -> AsyncIterator[tuple[list[Line], bool]]:
    """Yield lists, and whether each is the last: a list late, and not at all when the stream breaks."""
    held: list[Line] = []
    async for lines in lists:
        if held:
            yield held, False
        held = lines
    if held:
        yield held, True


def _fitting(lines: Sequence[Line]) -> int:
    """Return how many lines the next list takes; at least one."""
    room = MAX_BATCH
    for count, line in enumerate(lines[:MAX_LIST]):
        room -= len(line.text or b"")
        if room < 0:
            return max(1, count)
    return min(len(lines), MAX_LIST)


def _size(lines: Sequence[Line]) -> int:
    return sum([len(line.text or b"") for line in lines])


def read_lines(lines: Sequence[Line]) -> list[Item | Refusal]:
    """Decode lines; a broken one becomes its refusal."""
    return [
        Refusal("PayloadTooLarge", f"line {number}: longer than {MAX_LINE} bytes")
        if text is None
        else read_item(text, f"line {number}: $")
        for number, text in lines
    ]
