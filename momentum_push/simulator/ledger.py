"""What the simulator saw and what it did about it: the truth that tests compare a sender with.

One `Entry` per request, written as a JSON line and kept in memory; the lines of a batch go out with
one write. `processed` says whether the push counts as accepted by Apple, whatever the client was told:
a request that was accepted and then lost with its connection is processed, a refused one is not.
Tokens stand here in full: the ledger is a test's measure, not a diagnostic.

`ConnectionEntry` rows say what connections did: how many streams were open at once, when the provider token
changed, what the client got wrong.
"""

import hashlib
import uuid
from collections import Counter
from pathlib import Path
from typing import BinaryIO

import msgspec

from momentum_push.simulator.request import Request

__all__ = ["ConnectionEntry", "Entry", "Ledger", "new_apns_id"]


class Entry(msgspec.Struct, gc=False):
    """One request; a line of the file has the fields in this order."""

    at: float
    """Epoch seconds at which it was decided."""
    connection: int
    stream: int
    processed: bool
    status: int
    """0: no answer was given."""
    reason: str
    fault: str
    """What kept the request from its plain verdict; empty: nothing did."""
    apns_id: str
    """As answered: the client's own, else the one made here."""
    topic: str
    push_type: str
    priority: str
    expiration: str
    collapse_id: str
    token: str
    path: str
    size: int
    """Payload bytes."""
    sha256: str
    credential: str
    """Key id, or the certificate's UID; empty where neither was good."""
    had_apns_id: bool = True
    payload: str | None = None
    listener: int = 1


class ConnectionEntry(msgspec.Struct):
    """One connection; times in epoch seconds, `closed_at` 0 while it is open."""

    number: int
    remote: str
    opened_at: float
    uid: str = ""
    closed_at: float = 0.0
    requests: int = 0
    peak_streams: int = 0
    refused_streams: int = 0
    limit_breaches: int = 0
    """Streams opened above a limit that the client had acknowledged."""
    token_changes: list[float] = msgspec.field(default_factory=list)
    goaways: int = 0
    pings: int = 0
    ping_acks: int = 0
    """Answers to PINGs of ours."""
    client_resets: int = 0
    violation: str = ""
    """What the client did against HTTP/2, in the words of h2; the connection ends with it."""
    listener: int = 1
    """Ordinal of the address that it came in at."""


class Ledger:
    """The requests, the connections, and counts of both.

    Attributes:
        requests: the latest entries, at least `keep` of them when there were so many.
        accepted: how often each token's push was processed; exact over everything.
        by_id: the same by `apns-id`: a count above 1 is a copy.
        connects: that the listening addresses took, refused ones too.
        refused_connects: connections that ended before a handshake, by a fault or for abuse.
        verdicts: how often each reason (or fault) was given; `""` is plain acceptance.
    """

    def __init__(self, path: Path | None = None, keep: int = 100_000, keeps_payload: bool = False) -> None:
        self.requests: list[Entry] = []
        self.connections: list[ConnectionEntry] = []
        self.accepted: Counter[str] = Counter()
        self.by_id: Counter[str] = Counter()
        self.verdicts: Counter[str] = Counter()
        self.total = 0
        self.connects = 0
        self.refused_connects = 0
        self._keep = keep
        self._keeps_payload = keeps_payload
        self._lines: list[bytes] = []
        self._encoder = msgspec.json.Encoder()
        self._file: BinaryIO | None = None
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("ab")

    def open_connection(self, remote: str, now: float, listener: int = 1) -> ConnectionEntry:
        """Begin the row of a connection; its number counts from 1."""
        entry = ConnectionEntry(len(self.connections) + 1, remote, now, listener=listener)
        self.connections.append(entry)
        return entry

    def draw_up(self, connection: ConnectionEntry, stream: int, request: Request, credential: str) -> Entry:
        """Make the entry of a request that has not been decided."""
        return Entry(
            at=0.0,
            connection=connection.number,
            stream=stream,
            processed=False,
            status=0,
            reason="",
            fault="",
            apns_id=request.sound_message_id or new_apns_id(),
            topic=request.topic or "",
            push_type=request.push_type or "",
            priority=request.priority or "",
            expiration=request.expiration or "",
            collapse_id=request.collapse_id or "",
            token=request.token,
            path=request.path,
            size=len(request.body),
            sha256=hashlib.sha256(request.body).hexdigest(),
            credential=credential,
            had_apns_id=request.message_id is not None,
            payload=request.body.decode("utf-8", "backslashreplace") if self._keeps_payload else None,
            listener=connection.listener,
        )

    def record(self, entry: Entry) -> None:
        """Keep a decided entry; `flush` writes it."""
        self.total += 1
        self.verdicts[entry.fault or entry.reason] += 1
        if entry.processed:
            self.accepted[entry.token] += 1
            self.by_id[entry.apns_id] += 1
        self.requests.append(entry)
        if len(self.requests) > 2 * self._keep:
            del self.requests[: -self._keep]
        if self._file is not None:
            self._lines.append(self._encoder.encode(entry))

    def flush(self) -> None:
        """Write the lines of this batch; they are with the system when this returns."""
        if self._file is not None and self._lines:
            self._lines.append(b"")
            self._file.write(b"\n".join(self._lines))
            self._file.flush()
            self._lines.clear()

    def close(self) -> None:
        """Write what is left and close the file."""
        self.flush()
        if self._file is not None:
            self._file.close()
            self._file = None


def new_apns_id() -> str:
    """Make an id as APNs does: upper case (apns.md 4.1)."""
    return str(uuid.uuid4()).upper()
