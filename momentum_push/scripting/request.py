"""`req` and `resp`: a request to Apple and its answer as a script sees them (momentum.md 9.3).

Fields of the binary protocol keep their names and get the nearest meaning:

    command   2 for a request, 8 for an answer: constants
    id        the low 32 bits of the message's number
    expiry    the same as `expiration`: absolute epoch seconds
    token     hexadecimal text
    json      the payload decoded; only when a script looks at it, and written back only when it changed
    status    the legacy code where there is one, else the HTTP status; may be assigned

New: `topic push_type priority expiration collapse_id apns_id headers` of the request, all to be
assigned, and `http_status reason timestamp` of the answer.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, MutableMapping
from typing import Any

import msgspec

from momentum_push.errors import ScriptError
from momentum_push.message import Message
from momentum_push.scripting.connection import text_of

__all__ = ["Headers", "Request", "Response", "decode", "encode"]

_REQUEST, _ERROR_RESPONSE = 2, 8

HEADER_FIELDS = {
    "apns-topic": "topic",
    "apns-push-type": "push_type",
    "apns-priority": "priority",
    "apns-expiration": "expiration",
    "apns-collapse-id": "collapse_id",
    "apns-id": "apns_id",
}
"""Apple's header fields, and the attributes that hold them."""

_SHARED = ("topic", "push_type", "priority", "expiration", "collapse_id")
"""Fields that stand in a message's part."""


class Request:
    """A request that is about to be sent.

    Args:
        message: what is sent.
        topic: the topic in effect, the configuration's default included.

    Attributes:
        changes: what scripts assigned, by field name (`expiry` as `expiration`); empty most of the time.
    """

    READ = frozenset(
        {
            "command",
            "id",
            "expiry",
            "token",
            "payload",
            "topic",
            "push_type",
            "priority",
            "expiration",
            "collapse_id",
            "apns_id",
        }
    )
    WRITE = frozenset(
        {
            "expiry",
            "token",
            "payload",
            "topic",
            "push_type",
            "priority",
            "expiration",
            "collapse_id",
            "apns_id",
        }
    )
    CALL: frozenset[str] = frozenset({"header"})

    __slots__ = ("_message", "_payload", "_topic", "_tree", "changes")

    def __init__(self, message: Message, topic: str = "") -> None:
        self._message = message
        self._topic = topic
        self._payload = message.payload
        self._tree: Any = None
        self.changes: dict[str, Any] = {}

    def __repr__(self) -> str:
        return f"<req {self._message.mid} {list(self.changes)}>"

    @property
    def command(self) -> int:
        return _REQUEST

    @property
    def id(self) -> int:
        return self._message.sequence & 0xFFFFFFFF

    @property
    def json(self) -> Any:
        """The payload, decoded at the first look; what is changed in it is sent."""
        if self._tree is None:
            self._tree = decode(self._payload)
        return self._tree

    @json.setter
    def json(self, tree: Any) -> None:
        self.payload = encode(tree)

    @property
    def payload(self) -> bytes:
        """The bytes for Apple; the ones that came in, as long as nothing in them changed."""
        if self._tree is not None:
            self._write_back()
        return self._payload

    @payload.setter
    def payload(self, payload: bytes) -> None:
        if not isinstance(payload, bytes):
            raise ScriptError("req.payload: bytes are wanted")
        decode(payload)  # whatever a script makes must be JSON, and UTF-8
        self._tree = None
        self._payload = payload

    def _write_back(self) -> None:
        written = encode(self._tree)
        if written != self._payload and written != encode(decode(self._payload)):
            self._payload = written

    @property
    def new_payload(self) -> bytes | None:
        """The payload, where scripts changed it; None: it is as it was."""
        payload = self.payload
        return None if payload is self._message.payload or payload == self._message.payload else payload

    @property
    def is_changed(self) -> bool:
        """Whether anything else is to be sent than what was injected."""
        return bool(self.changes) or self.new_payload is not None

    def applied(self) -> tuple[Message, str]:
        """Return the message to send instead, and its topic; the same message where nothing changed.

        The copy stands at the same place of the same list, so what becomes of it is settled there; what is
        kept for another attempt should be the original, for the hook sees that attempt too. Nothing is
        checked here: tokens, types and sizes go through `message.rules` like any other.
        """
        message, changes = self._message, self.changes
        payload = self.new_payload
        if not changes and payload is None:
            return message, self._topic
        shared = {name: changes[name] for name in _SHARED if name in changes}
        copy = msgspec.structs.replace(
            message,
            token=self.token,
            payload=message.payload if payload is None else payload,
            own_apns_id=changes.get("apns_id", message.own_apns_id),
            part=msgspec.structs.replace(message.part, **shared) if shared else message.part,
        )
        return copy, self.topic

    def _get(self, name: str, value: Any) -> Any:
        return self.changes.get(name, value) if self.changes else value

    def _set_text(self, name: str, value: object) -> None:
        self.changes[name] = text_of(value, f"req.{name}")

    def _set_number(self, name: str, value: object) -> None:
        self.changes[name] = whole(value, f"req.{name}")

    @property
    def token(self) -> str:
        return str(self._get("token", self._message.token))

    @token.setter
    def token(self, value: str) -> None:
        self._set_text("token", value)

    @property
    def topic(self) -> str:
        return str(self._get("topic", self._topic))

    @topic.setter
    def topic(self, value: str) -> None:
        self._set_text("topic", value)

    @property
    def push_type(self) -> str:
        return str(self._get("push_type", self._message.part.push_type))

    @push_type.setter
    def push_type(self, value: str) -> None:
        self._set_text("push_type", value)

    @property
    def priority(self) -> int:
        return int(self._get("priority", self._message.part.priority))

    @priority.setter
    def priority(self, value: int) -> None:
        self._set_number("priority", value)

    @property
    def expiration(self) -> int:
        return int(self._get("expiration", self._message.part.expiration))

    @expiration.setter
    def expiration(self, value: int) -> None:
        self._set_number("expiration", value)

    expiry = expiration

    @property
    def collapse_id(self) -> str:
        return str(self._get("collapse_id", self._message.part.collapse_id))

    @collapse_id.setter
    def collapse_id(self, value: str) -> None:
        self._set_text("collapse_id", value)

    @property
    def apns_id(self) -> str:
        return str(self._get("apns_id", self._message.apns_id))

    @apns_id.setter
    def apns_id(self, value: str) -> None:
        self._set_text("apns_id", value)

    @property
    def headers(self) -> Headers:
        """Apple's header fields by their names; another view of the same."""
        return Headers(self)

    def header(self, name: str, *value: object) -> str | None:
        """Return a header field, or with a value set it; Lua's `req.headers` stands on it."""
        if value:
            self.headers[name] = value[0]
        return self.headers.get(name)


class Headers(MutableMapping[str, Any]):
    """The header fields of a request; a name of no field of Apple's cannot be set."""

    __slots__ = ("_request",)

    def __init__(self, request: Request) -> None:
        self._request = request

    def __getitem__(self, name: str) -> str:
        value = getattr(self._request, HEADER_FIELDS[name.lower()])
        if value == "":
            raise KeyError(name)
        return str(value)

    def __setitem__(self, name: str, value: Any) -> None:
        field = HEADER_FIELDS.get(name.lower())
        if field is None:
            known = ", ".join(HEADER_FIELDS)
            raise ScriptError(f"req.headers: {name!r} is no header field of Apple's; {known} are")
        setattr(self._request, field, value)

    def __delitem__(self, name: str) -> None:
        self[name]
        if HEADER_FIELDS[name.lower()] not in ("topic", "collapse_id"):
            raise ScriptError(f"req.headers: {name} is always sent; set it instead")
        self[name] = ""

    def __iter__(self) -> Iterator[str]:
        return (name for name in HEADER_FIELDS if getattr(self._request, HEADER_FIELDS[name]) != "")

    def __len__(self) -> int:
        return sum(1 for _ in self)


class Response:
    """An answer of Apple's.

    Args:
        message: whose answer it is.
        status: the legacy code where there is one, else the HTTP status; 0: delivered.
    """

    READ = frozenset(
        {
            "command",
            "id",
            "status",
            "http_status",
            "reason",
            "timestamp",
        }
    )
    WRITE = frozenset({"status"})
    CALL: frozenset[str] = frozenset()

    __slots__ = ("_message", "_status", "http_status", "is_changed", "reason", "timestamp")

    def __init__(
        self, message: Message, status: int, http_status: int = 0, reason: str = "", timestamp: int = 0
    ) -> None:
        self._message = message
        self._status = status
        self.is_changed = False
        """Whether a script assigned `status`."""
        self.http_status = http_status
        self.reason = reason
        """Apple's word, "" for none."""
        self.timestamp = timestamp
        """Epoch seconds since when the token is dead; 0: not said."""

    def __repr__(self) -> str:
        return f"<resp {self._message.mid} {self._status} {self.reason}>"

    @property
    def command(self) -> int:
        return _ERROR_RESPONSE

    @property
    def id(self) -> int:
        return self._message.sequence & 0xFFFFFFFF

    @property
    def status(self) -> int:
        return self._status

    @status.setter
    def status(self, value: int) -> None:
        self._status = whole(value, "resp.status")
        self.is_changed = True


def whole(value: object, what: str) -> int:
    """Return a script's number as an int; text of digits counts.

    Raises:
        ScriptError: it is no whole number from 0 on.
    """
    number = float(value) if isinstance(value, str) and value.isdecimal() else value
    if isinstance(number, bool) or not isinstance(number, int | float) or number != number or number < 0:
        raise ScriptError(f"{what}: {value!r} is no number from 0 on")
    if isinstance(number, float) and (number > 1 << 53 or int(number) != number):
        raise ScriptError(f"{what}: {value!r} is no whole number")
    return int(number)


def decode(payload: bytes) -> Any:
    """Decode JSON; integers stay integers, however long.

    Raises:
        ScriptError: it is none.
    """
    try:
        return msgspec.json.decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ScriptError(f"json: {error}") from error


def _encode_long(tree: Any) -> bytes:
    try:
        return json.dumps(tree, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise ScriptError(f"json: {error}") from error


def encode(tree: Any) -> bytes:
    """Encode as JSON, without spaces, text as UTF-8.

    Raises:
        ScriptError: there is something in it that JSON has not.
    """
    try:
        return msgspec.json.encode(tree)
    except OverflowError:  # beyond 64 bits msgspec reads and does not write
        return _encode_long(tree)
    except (TypeError, ValueError, RecursionError) as error:
        raise ScriptError(f"json: {error}") from error
