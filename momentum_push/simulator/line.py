"""What the parts of a session share: a connection's streams, its frames to write, its row in the ledger.

    session ──► limits     how many streams, told when
            ├─► answers    frames of an answer, windows
            ├─► farewell   GOAWAY, draining
            └─► pacing     when an answer is due
                  └──── all of them: Line

Here, too, is how a request is *decided*: written into the ledger, once; the first decision stands.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from momentum_push.simulator.faults import Closing
from momentum_push.simulator.floor import Floor
from momentum_push.simulator.http2 import ServerSide
from momentum_push.simulator.ledger import ConnectionEntry, Entry
from momentum_push.simulator.request import Peer, Request, Verdict

__all__ = ["Line", "Shell", "Stream"]


class Shell(Protocol):
    """What a session asks of whoever holds its socket."""

    def later(self, seconds: float, call: Callable[[], None]) -> None:
        """Call back after `seconds`, then write what is there to write."""

    def close(self, how: Closing = Closing.CLEAN) -> None:
        """Close after what is there now has been written."""

    def stop_reading(self) -> None:
        """Let the client's bytes pile up."""


class Stream:
    """A request on its way."""

    __slots__ = ("body", "entry", "is_complete", "is_dropped", "number", "request")

    def __init__(self, number: int, request: Request) -> None:
        self.number = number
        self.request = request
        self.body = bytearray()
        self.is_complete = False
        self.is_dropped = False
        self.entry: Entry | None = None
        """Set when it is decided."""


@dataclass(slots=True)
class Line:
    """One connection.

    Attributes:
        out: bytes to write; whoever writes them clears the list.
        open: streams from their HEADERS to our END_STREAM or a reset by either side.
        on_finish: called after each of them that ended.
    """

    floor: Floor
    shell: Shell
    row: ConnectionEntry
    peer: Peer
    h2: ServerSide = field(default_factory=ServerSide)
    out: list[bytes] = field(default_factory=list)
    open: dict[int, Stream] = field(default_factory=dict)
    highest: int = 0
    on_finish: Callable[[], None] = lambda: None
    _chance: random.Random | None = None

    @property
    def chance(self) -> random.Random:
        """The connection's own chances: same seed and same number, same run."""
        if self._chance is None:
            self._chance = random.Random(f"{self.floor.faults.seed}/connection/{self.row.number}")
        return self._chance

    def decide(
        self, stream: Stream, fault: str, is_processed: bool = False, verdict: Verdict | None = None
    ) -> Entry:
        """Write the request into the ledger, once; the first decision stands."""
        if stream.entry is not None:
            return stream.entry
        ledger = self.floor.ledger
        entry = stream.entry = ledger.draw_up(self.row, stream.number, stream.request, self._credential())
        entry.at = self.floor.clock.now()
        entry.processed = is_processed
        entry.fault = fault
        if verdict is not None:
            entry.status, entry.reason = verdict.status, verdict.reason
        ledger.record(entry)
        return entry

    def finish(self, stream: Stream) -> None:
        """Let go of a stream that ended."""
        self.open.pop(stream.number, None)
        self.h2.forget(stream.number)
        self.on_finish()

    def _credential(self) -> str:
        if self.peer.certificate is not None:
            return self.peer.certificate.uid
        return self.peer.credential.key.key_id if self.peer.credential is not None else ""
