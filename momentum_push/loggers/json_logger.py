"""`json_logger "name" { logfile = … }`: what the other loggers write, as JSON lines with every field.

Every line is an object with `type` and `time` (epoch seconds, with fraction):

    type             further fields
    reception        mid apns_id batch_id conn_id binding_group binding domain source destination
                     device_token topic push_type priority expiration collapse_id protocol client
                     return_path context conn_context size received_at deliver_at
    delivery         those of reception, and
    tempfail           attempt status reason apple_reason http_status unregistered_at text remote
    permfail           outbound_conn_id stage bytes_sent queue_seconds
    rejection        peer listener conn_id pathway pathway_group phase code module
                     conn_context mess_context text protocol error
    authentication   listener peer user is_accepted
    panic            module text
    heartbeat

`source` and `destination` are `%sa` and `%da` of apn_logger, `context` and `conn_context` are objects.
Device tokens are credentials: `device_token` holds the first eight digits, and so does every other
field that may have one in it (a RCPT local part, `DLV_Dest_ID`), unless the stanza says
`log_device_tokens = true`. The switches are those of ec_logger (`log_receptions`, `log_deliveries` …).
"""

import json
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from momentum_push.errors import Problem
from momentum_push.loggers.diagnostics import shorten_tokens
from momentum_push.loggers.file import Sink, Sinks, plain_path
from momentum_push.loggers.records import Authentication, Rejection
from momentum_push.loggers.settings import Settings, file_problems, setting
from momentum_push.message import Disposition, Kind, Message, names, short_token

__all__ = ["JsonLogger", "build", "validate"]

KIND = "json_logger"

_TYPES = {
    Kind.DELIVERED: ("delivery", "log_deliveries"),
    Kind.TEMPFAIL: ("tempfail", "log_transient_failures"),
    Kind.PERMFAIL: ("permfail", "log_permanent_failures"),
}
_SWITCHES = (
    "log_receptions",
    "log_deliveries",
    "log_transient_failures",
    "log_permanent_failures",
    "log_rejections",
    "log_errors",
)

Record = dict[str, Any]


class JsonLogger:
    """One instance: a file, what is switched on, and whether whole tokens are wanted."""

    def __init__(
        self,
        name: str,
        sink: Sink,
        *,
        heartbeat_s: float = 60,
        is_on: Callable[[str], bool] = lambda option: True,
        log_device_tokens: bool = False,
    ) -> None:
        self.name = name
        self.heartbeat_s = heartbeat_s
        self._sink = sink
        self._is_on = is_on
        self._show = str if log_device_tokens else short_token
        self._text = str if log_device_tokens else shorten_tokens
        self._encoder = msgspec.json.Encoder()

    def __repr__(self) -> str:
        return f"<json_logger {self.name!r} {self._sink.path}>"

    def receptions(self, now: float, messages: Sequence[Message]) -> None:
        """Write one line per message."""
        if self._is_on("log_receptions"):
            records = [{"type": "reception", "time": now} | told for told in self._messages(messages)]
            self._write(records, is_droppable=True)

    def dispositions(self, now: float, items: Sequence[Disposition]) -> None:
        """Write one line per attempt."""
        wanted = [item for item in items if self._is_on(_TYPES[item.kind][1])]
        told = self._messages([item.message for item in wanted])
        self._write([_disposition(item, message) for item, message in zip(wanted, told, strict=True)])

    def rejection(self, now: float, rejection: Rejection) -> None:
        """Write a refused injection."""
        if self._is_on("log_rejections"):
            told = msgspec.structs.asdict(rejection) | {
                "text": self._text(rejection.text),
                "conn_context": self._context(rejection.conn_context),
                "mess_context": self._context(rejection.mess_context),
            }
            self._event(now, "rejection", told)

    def authentication(self, now: float, authentication: Authentication) -> None:
        """Write an attempt to log in."""
        self._event(now, "authentication", msgspec.structs.asdict(authentication))

    def panic(self, now: float, module: str, text: str) -> None:
        """Write a fault of the daemon."""
        if self._is_on("log_errors"):
            self._event(now, "panic", {"module": module, "text": text})

    def heartbeat(self, now: float) -> None:
        """Write a marker."""
        self._event(now, "heartbeat", {})

    def reopen(self) -> None:
        """Open the file by name again."""
        self._sink.reopen()

    def close(self) -> None:
        """The file is closed by who opened it, for loggers may share it."""

    def _event(self, now: float, kind: str, fields: Record) -> None:
        self._write([{"type": kind, "time": now, **fields}], is_droppable=True)

    def _messages(self, messages: Sequence[Message]) -> list[Record]:
        """What is said about a message whatever became of it."""
        named = zip(messages, names.message_ids(messages), names.apns_ids(messages), strict=True)
        return [self._message(message, mid, apns_id) for message, mid, apns_id in named]

    def _message(self, message: Message, mid: str, apns_id: str) -> Record:
        part, queue = message.part, message.home.queue
        return {
            "mid": mid,
            "apns_id": apns_id,
            "batch_id": part.batch_id,
            "conn_id": part.conn_id,
            "binding_group": queue.binding_group,
            "binding": queue.binding,
            "domain": queue.domain,
            "source": part.context.get("DLV_Source_Addr") or part.mailfrom,
            "destination": self._text(part.context.get("DLV_Dest_Addr") or message.rcpt),
            "device_token": self._show(message.token),
            "topic": part.topic,
            "push_type": part.push_type,
            "priority": part.priority,
            "expiration": part.expiration,
            "collapse_id": part.collapse_id,
            "protocol": part.protocol,
            "client": part.client,
            "return_path": part.return_path,
            "context": self._context(part.context),
            "conn_context": self._context(part.conn_context),
            "size": part.size or len(message.payload),
            "received_at": part.received_at,
            "deliver_at": part.deliver_at,
        }

    def _context(self, context: dict[str, str]) -> Record:
        return {key: self._text(value) for key, value in context.items()}

    def _write(self, records: list[Record], is_droppable: bool = False) -> None:
        if records:
            self._sink.write(self._encode(records), is_droppable)

    def _encode(self, records: list[Record]) -> bytes:
        try:
            return self._encoder.encode_lines(records)
        except UnicodeEncodeError:  # half a surrogate pair, which UTF-8 cannot carry but JSON's \u can
            return "".join(json.dumps(record) + "\n" for record in records).encode("ascii")


def _disposition(item: Disposition, message: Record) -> Record:
    return {
        "type": _TYPES[item.kind][0],
        "time": item.at,
        **message,
        "topic": item.topic or item.message.part.topic,
        "attempt": item.attempt,
        "status": item.status,
        "reason": item.reason,
        "apple_reason": item.word,
        "http_status": item.http_status,
        "unregistered_at": item.unregistered_at,
        "text": item.text,
        "remote": item.remote,
        "outbound_conn_id": item.conn_id,
        "stage": item.stage,
        "bytes_sent": item.size,
        "queue_seconds": max(0.0, round(item.at - item.message.part.starts_at, 6)),
    }


def build(scope: Settings, sinks: Sinks) -> JsonLogger:
    """Make the logger of a stanza; LogError when its file cannot be opened."""
    sink = sinks.open(plain_path(setting(scope, KIND, "logfile")), setting(scope, KIND, "logmode"))
    switches = {option: setting(scope, KIND, option) for option in _SWITCHES}
    return JsonLogger(
        scope.instance,
        sink,
        heartbeat_s=setting(scope, KIND, "heartbeat"),
        is_on=switches.__getitem__,
        log_device_tokens=setting(scope, KIND, "log_device_tokens"),
    )


def validate(scope: Settings) -> list[Problem]:
    """Report a log destination that is no file."""
    return file_problems(scope, KIND, ["logfile"])
