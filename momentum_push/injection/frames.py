"""What a receiver and the core say to each other: frames, and how they are cut out of a stream of bytes.

    ┌────────────┬──────────────────────────────┐
    │ length, 4  │ msgpack array: tag, fields … │  length big-endian, without its own four bytes
    └────────────┴──────────────────────────────┘

    receiver ──► core                                core ──► receiver
    Injection  messages that were checked, in slices  Taken, Failed    what became of them
    Dropped    the sender of an injection went away   Configure        settings, sockets come beside it
    Ask        a question; the core knows             Answer           … its answer
    Left       a connection ended                     Stop             shut the doors, finish, end
    Report     counters, on demand or by itself       Tell             send a report
    Ready      the doors follow a `Configure`
    Rejected, LoggedIn, Panicked: records; only the core has logs

Pure. A `Part` crosses as its fields, so that one which a later version adds crosses as well; without the
salt, which has more bits than msgpack's numbers and which the core knows. Both ends are of one version:
the core starts receivers from its own files.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import repeat
from typing import Any

import msgspec
from msgspec.structs import astuple

from momentum_push.errors import ProtocolError
from momentum_push.loggers.records import Authentication, Rejection
from momentum_push.message import Home, Message, Part, QueueKey
from momentum_push.message.keys import Receipt

__all__ = [
    "MAX_FRAME",
    "Answer",
    "Ask",
    "Configure",
    "Dropped",
    "Failed",
    "Failure",
    "FromCore",
    "FromReceiver",
    "Injection",
    "Left",
    "LoggedIn",
    "Panicked",
    "Ready",
    "Rejected",
    "Report",
    "Run",
    "Splitter",
    "Stop",
    "Taken",
    "Tell",
    "encode",
    "messages_of",
    "runs_of",
]

MAX_FRAME = 256 * 1024 * 1024
"""Bytes; beyond it the stream is out of step. A slice has about a megabyte, a configuration more."""

_SALT = Part.__struct_fields__.index("salt")
_HEAD = 4


class _Frame(msgspec.Struct, array_like=True, gc=False):
    """What all frames have in common: they are arrays that begin with their tag."""


class Run(_Frame):
    """Messages in a row that share part and home, in columns."""

    part: list[Any]
    """The fields of a `Part`, 0 for its salt."""
    queue: QueueKey
    lane: int
    due: float
    tokens: list[str]
    payloads: list[bytes]
    """One beside each token, or one for all."""
    rcpts: list[str] | None
    apns_ids: list[str] | None


class Injection(_Frame, tag=1):
    """A slice of messages that want to be kept together; the last one says that it is the last."""

    number: int
    protocol: str
    runs: list[Run]
    is_last: bool
    receipt: Receipt | None = None
    """With the last slice of what came under a key; it lacks its first number."""


class Dropped(_Frame, tag=2):
    """No more slices of an injection will come."""

    number: int


class Ask(_Frame, tag=3):
    """A question by name; the core has a table of what it answers."""

    number: int
    name: str
    arguments: list[Any]


class Left(_Frame, tag=4):
    """A connection ended that was counted under these quotas."""

    keys: list[str]


class Report(_Frame, tag=5):
    """What was counted: refusals since the last report, connections as they are now."""

    told: int
    """The `Tell` that asked for it; 0: nobody did."""
    rejections: list[tuple[str, str, int]]
    sessions: dict[str, int]


class Ready(_Frame, tag=6):
    """The doors follow the `Configure` of this number; or a problem says why not."""

    number: int
    problem: str


class Rejected(_Frame, tag=7):
    """A line for the rejectlog."""

    now: float
    record: Rejection


class LoggedIn(_Frame, tag=8):
    """A line for the acctlog."""

    now: float
    record: Authentication


class Panicked(_Frame, tag=9):
    """A line for the paniclog."""

    now: float
    module: str
    text: str


FromReceiver = Injection | Dropped | Ask | Left | Report | Ready | Rejected | LoggedIn | Panicked


class Taken(_Frame, tag=1):
    """An injection is on disk; its messages are numbered from `first`."""

    number: int
    first: int
    receipt: Receipt | None = None
    """Of what came under a key: the one to answer by."""


class Failure(_Frame):
    """An error of the intake, in values."""

    kind: str
    """`busy`, `full`, `spool`, `key in use`, `key reused`."""
    detail: str
    retry_after_s: int = 0


class Failed(_Frame, tag=2):
    """Nothing of an injection was taken."""

    number: int
    failure: Failure


class Answer(_Frame, tag=3):
    """The answer to a question; `error` or `failure` say that there is none, and why."""

    number: int
    value: Any
    error: str = ""
    failure: Failure | None = None


class Configure(_Frame, tag=4):
    """What a receiver needs to open its doors, and each time that this changes."""

    number: int
    config: bytes
    """The configuration that the core found valid, pickled."""
    salt: bytes
    """Of the spool, big-endian."""
    share: int
    """How many receivers there are."""
    bundles: int
    """Messages with listening sockets that wait on the other socket."""


class Stop(_Frame, tag=5):
    """Shut the doors; what is under way may finish within the deadline."""

    deadline_s: float


class Tell(_Frame, tag=6):
    """Send a report."""

    number: int


FromCore = Taken | Failed | Answer | Configure | Stop | Tell

_encoder = msgspec.msgpack.Encoder()


def encode(frame: _Frame) -> bytes:
    """Return a frame with its length before it."""
    buffer = bytearray(_HEAD)
    _encoder.encode_into(frame, buffer, _HEAD)
    buffer[:_HEAD] = (len(buffer) - _HEAD).to_bytes(_HEAD)
    return bytes(buffer)


class Splitter:
    """Cuts a stream into the bodies of its frames."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield the bodies that `data` completes.

        Raises:
            ProtocolError: a length that no frame has; the stream is of no more use.
        """
        buffer = self._buffer
        buffer += data
        at = 0
        while len(buffer) - at >= _HEAD:
            size = int.from_bytes(buffer[at : at + _HEAD])
            if size > MAX_FRAME:
                raise ProtocolError(f"link: a frame of {size} bytes; core and receiver are out of step")
            end = at + _HEAD + size
            if end > len(buffer):
                break
            yield bytes(buffer[at + _HEAD : end])
            at = end
        if at:
            del buffer[:at]


# --- messages in columns and back ------------------------------------------------------------------


def runs_of(messages: Sequence[Message]) -> list[Run]:
    """Put messages that are not numbered into columns; those that share their home stand in one run."""
    if len(messages) == 1:
        return [_run(messages)]
    runs: list[Run] = []
    start = 0
    for end in range(1, len(messages) + 1):
        if end == len(messages) or messages[end].home is not messages[start].home:
            runs.append(_run(messages[start:end]))
            start = end
    return runs


def _run(messages: Sequence[Message]) -> Run:
    head = messages[0]
    home = head.home
    fields = list(astuple(head.part))
    fields[_SALT] = 0
    payload = head.payload
    is_shared = all([message.payload is payload for message in messages])  # noqa: C419  faster
    rcpts = [message.rcpt for message in messages]
    own = [message.own_apns_id for message in messages]
    return Run(
        part=fields,
        queue=home.queue,
        lane=home.lane,
        due=home.due,
        tokens=[message.token for message in messages],
        payloads=[payload] if is_shared else [message.payload for message in messages],
        rcpts=rcpts if any(rcpts) else None,
        apns_ids=own if any(own) else None,
    )


def messages_of(runs: Sequence[Run], salt: int) -> list[Message]:
    """Make the messages of runs again; `salt` is the spool's."""
    messages: list[Message] = []
    for run in runs:
        fields = run.part
        fields[_SALT] = salt
        part, home = Part(*fields), Home(run.queue, run.lane, run.due)
        count = len(run.tokens)
        payloads = run.payloads if len(run.payloads) == count else run.payloads * count
        columns = zip(
            run.tokens,
            payloads,
            run.rcpts or repeat("", count),
            run.apns_ids or repeat("", count),
            strict=True,
        )
        messages += [
            Message(0, token, payload, part, home, 0, rcpt, own) for token, payload, rcpt, own in columns
        ]
    return messages
