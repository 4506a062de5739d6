"""Reading what APNs says: answers, and the farewell in a GOAWAY frame (apns.md 4.1, 6.4).

Lives here: bytes to values, leniently; a body that is no JSON is an answer without a reason, not an
error. What an answer *means* is in the reason table (`message.reasons`).
"""

from __future__ import annotations

from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple

import msgspec

__all__ = ["Farewell", "read_body", "read_farewell", "read_retry_after"]

MAX_REASON = 100
"""Characters of a reason that are kept: it becomes a log field and a metrics label."""
MIN_RETRY_S, MAX_RETRY_S = 1.0, 3600.0
MAX_TIMESTAMP_MS = 1 << 45
"""Year 3084; what lies beyond is not a time in milliseconds."""

# RFC 9113 section 7
ERROR_NAMES = {
    0: "NO_ERROR",
    1: "PROTOCOL_ERROR",
    2: "INTERNAL_ERROR",
    3: "FLOW_CONTROL_ERROR",
    4: "SETTINGS_TIMEOUT",
    5: "STREAM_CLOSED",
    6: "FRAME_SIZE_ERROR",
    7: "REFUSED_STREAM",
    8: "CANCEL",
    9: "COMPRESSION_ERROR",
    10: "CONNECT_ERROR",
    11: "ENHANCE_YOUR_CALM",
    12: "INADEQUATE_SECURITY",
    13: "HTTP_1_1_REQUIRED",
}


def error_name(code: int) -> str:
    """Return the name of an HTTP/2 error code, or its number."""
    return ERROR_NAMES.get(code, f"error {code}")


class Farewell(NamedTuple):
    """A GOAWAY frame, read."""

    last_stream_id: int
    code: int
    reason: str
    """Apple's reason word, else the frame's text, else the name of its error code."""


def read_body(body: bytes) -> tuple[str, int]:
    """Return reason and `unregistered_at` (epoch seconds, 0: none) of an answer's body.

    Source: apns.md 4.1: `{"reason": "…", "timestamp": milliseconds}`, the latter with 410.
    """
    fields = _json_object(body)
    reason, stamp = fields.get("reason"), fields.get("timestamp")
    return (_clean(reason) if isinstance(reason, str) else ""), _seconds(stamp)


def read_retry_after(value: bytes, now: float) -> float:
    """Return the seconds that a `retry-after` field asks for, clamped to 1 s … 1 h; 0: nothing usable.

    Args:
        value: a number of seconds or an HTTP date.
        now: epoch seconds.

    Source: apns.md 4.3; Apple was never seen sending it.
    """
    text = value.decode("ascii", "replace").strip()
    if not text:
        return 0.0
    if text.isascii() and text.isdigit():
        return _clamp(float(text[:9]))
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return 0.0
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return _clamp(moment.timestamp() - now)


def read_farewell(payload: bytes) -> Farewell:
    """Read a GOAWAY payload of 8 bytes or more; its debug data may be JSON, text, rubbish or nothing."""
    last, code = int.from_bytes(payload[:4]) & 0x7FFFFFFF, int.from_bytes(payload[4:8])
    debug = payload[8:]
    reason = read_body(debug)[0]
    if not reason and not debug.lstrip().startswith(b"{"):
        reason = _clean(debug.decode("utf-8", "replace"))
    return Farewell(last, code, reason or error_name(code))


def _json_object(body: bytes) -> dict[str, Any]:
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _clean(text: str) -> str:
    return "".join(char if char.isprintable() else " " for char in text[:MAX_REASON]).strip()


def _seconds(stamp: object) -> int:
    if not isinstance(stamp, int | float) or isinstance(stamp, bool) or not 0 < stamp < MAX_TIMESTAMP_MS:
        return 0
    return int(stamp // 1000)


def _clamp(seconds: float) -> float:
    return min(max(seconds, MIN_RETRY_S), MAX_RETRY_S)
