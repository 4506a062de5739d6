"""Answers as they stand on the wire, within the windows that the client leaves us (apns.md 4.1).

Most are two small frames and are written at once. One whose body does not fit the client's window
keeps its DATA back until there is room: its stream stays open, and counts.
"""

from momentum_push.simulator.faults import Shape
from momentum_push.simulator.http2 import answer_frames, data_frame
from momentum_push.simulator.ledger import new_apns_id
from momentum_push.simulator.line import Line, Stream
from momentum_push.simulator.request import Verdict
from momentum_push.simulator.shapes import shaped_body, write_shaped

__all__ = ["Answers"]


class Answers:
    """What one connection answers."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._starved: dict[int, tuple[int, bytes]] = {}
        """By stream: bytes of window that it takes, and the frames."""

    def send(
        self,
        stream: Stream,
        verdict: Verdict,
        apns_id: str,
        retry_after: str = "",
        shape: Shape | None = None,
    ) -> None:
        """Write an answer; the stream ends with it."""
        line, (status, reason, timestamp) = self._line, verdict
        fields = [("apns-id", apns_id)]
        if line.floor.policy.environment == "sandbox":
            fields.append(("apns-unique-id", new_apns_id().lower()))
        if retry_after and status != 200:
            fields.append(("retry-after", retry_after))
        if shape is None and status == 200:
            line.out.append(answer_frames(stream.number, status, fields, has_body=False))
            line.finish(stream)
            return
        body = None if status == 200 else _body(reason, timestamp)
        if shape is not None:
            self._send_shaped(stream, status, fields, body, shape)
            return
        fields.append(("content-type", "application/json"))
        line.out.append(answer_frames(stream.number, status, fields, has_body=True))
        self._send_body(stream, len(body or b""), data_frame(stream.number, body or b""))

    def forget(self, stream: Stream) -> None:
        """The client has reset it."""
        self._starved.pop(stream.number, None)

    def on_room(self) -> None:
        """The client has opened a window; send what it was too small for."""
        for number, (cost, frames) in list(self._starved.items()):
            if self._line.h2.room(number) >= cost:
                del self._starved[number]
                self._send_body(self._line.open[number], cost, frames)

    def _send_shaped(
        self, stream: Stream, status: int, fields: list[tuple[str, str]], body: bytes | None, shape: Shape
    ) -> None:
        body = shaped_body(body, shape)
        if body is not None:
            fields.append(("content-type", "application/json"))
        shaped = write_shaped(stream.number, status, fields, body, shape)
        self._line.out.append(shaped.head)
        self._send_body(stream, shaped.cost, shaped.tail)

    def _send_body(self, stream: Stream, cost: int, frames: bytes) -> None:
        h2 = self._line.h2
        if cost and h2.room(stream.number) < cost:
            self._starved[stream.number] = cost, frames
            return
        if cost:
            h2.spend(stream.number, cost)
        self._line.out.append(frames)
        self._line.finish(stream)


def _body(reason: str, timestamp: int) -> bytes:
    if timestamp:
        return b'{"reason":"%b","timestamp":%d}' % (reason.encode(), timestamp)
    return b'{"reason":"%b"}' % reason.encode()
