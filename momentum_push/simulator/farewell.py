"""Saying goodbye: GOAWAY in all its forms, and the time until the last answer is in (apns.md 6.4)."""

import json

from momentum_push.simulator.faults import CloseMoment, Debug, GoAway, LastStream
from momentum_push.simulator.http2 import MAX_STREAM, goaway_frame
from momentum_push.simulator.line import Line, Stream

__all__ = ["BREACH", "Farewell"]

_DRAIN_S = 30.0
_TEXT = b"Maximum active streams violated for this endpoint."
_DEBUG = {Debug.TEXT: _TEXT, Debug.EMPTY: b"", Debug.INVALID: b'{"reason":\xff\xfe'}

BREACH = GoAway(debug=Debug.TEXT, code=7)
"""What Apple was seen to say to a client with too many streams."""


class Farewell:
    """The end of one connection.

    Attributes:
        last: the highest stream that is answered; None: all are.
    """

    def __init__(self, line: Line) -> None:
        self._line = line
        self.last: int | None = None
        self._is_draining = False
        line.on_finish = self._on_finish

    def go_away(self, goaway: GoAway) -> None:
        """Send a GOAWAY; a graceful one goes out twice, with `notice_s` between."""
        line = self._line
        line.row.goaways += 1
        if goaway.is_graceful:
            line.out.append(goaway_frame(MAX_STREAM, 0, _debug(goaway)))
            line.shell.later(goaway.notice_s, lambda: self._part(goaway, line.highest))
        else:
            self._part(goaway, self._last_stream(goaway.last))

    def drain(self) -> None:
        """Close when all is answered, in half a minute at the latest."""
        self._is_draining = True
        if self._line.open:
            self._line.shell.later(_DRAIN_S, self._line.shell.close)
        else:
            self._line.shell.close()

    def drop(self, stream: Stream) -> None:
        """Let go of a stream above the last one of a GOAWAY; nothing is said about it."""
        stream.is_dropped = True
        self._line.decide(stream, "above_last_stream")
        if stream.is_complete:
            self._line.finish(stream)

    def _on_finish(self) -> None:
        if self._is_draining and not self._line.open:
            self._line.shell.close()

    def _last_stream(self, which: LastStream) -> int:
        """Return the highest stream that is let pass; never lower than one that was processed."""
        streams = self._line.open
        decided = (each.number for each in streams.values() if each.entry and each.entry.processed)
        floor = max(decided, default=0)
        waiting = sorted(number for number, each in streams.items() if each.entry is None)
        if which is LastStream.ALL or not waiting:
            return self._line.highest
        if which is LastStream.NONE:
            return max(floor, waiting[0] - 2, 0)
        return max(floor, waiting[(len(waiting) - 1) // 2])

    def _part(self, goaway: GoAway, last: int) -> None:
        """Send the frame that names the last stream, and let go of those above it."""
        frame = goaway_frame(last, goaway.code, _debug(goaway))
        self._line.out.extend([frame, frame] if goaway.is_twice else [frame])
        self.last = last
        for stream in [each for number, each in self._line.open.items() if number > last]:
            self.drop(stream)
        if goaway.close is CloseMoment.NOW:
            self._line.shell.close()
        elif goaway.close is CloseMoment.DRAINED:
            self.drain()


def _debug(goaway: GoAway) -> bytes:
    if goaway.debug is Debug.JSON:
        return json.dumps({"reason": goaway.reason}, separators=(",", ":")).encode()
    return _DEBUG[goaway.debug]
