"""Diagnostics of the daemon itself: structlog events on stderr; records of messages are another road.

    structlog event ─┐
                     ├─► level, time, redact ─► on_error callbacks ─► console or JSON ─► stream
    stdlib logging ──┘    (uvicorn, asyncio, warnings)

Fixed names plus values, no sentences. Redaction is a second net under the rule that nobody logs
secrets: runs of 64 or more hexadecimal digits are cut to eight (device tokens are credentials), and
PEM blocks, JSON web tokens and whatever is called `authorization` are dropped, at any depth.

aiosmtpd's `mail.log` prints whole commands, tokens included: it is silenced and not routed.
"""

import logging
import re
import sys
from collections.abc import Callable, Mapping
from typing import Any, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from momentum_push.errors import LogError

__all__ = ["configure", "on_error", "redact", "shorten_tokens"]

_TOKEN = re.compile(r"(?<![0-9A-Fa-f])([0-9A-Fa-f]{8})[0-9A-Fa-f]{56,}")
_PEM = re.compile(r"-----BEGIN [A-Z0-9 ]+-----.*?(?:-----END [A-Z0-9 ]+-----|\Z)", re.DOTALL)
_JWT = re.compile(r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*")
_SECRETS = frozenset({"authorization", "proxy-authorization", "proxy_authorization", "password"})
_DROPPED = "[dropped]"
_MAX_DEPTH = 6

_LEVELS = {"debug": 10, "info": 20, "notice": 20, "warning": 30, "error": 40, "critical": 50}
_SILENCED = ("mail.log", "mail.debug")

_callbacks: list[Callable[[str, str], None]] = []


def on_error(callback: Callable[[str, str], None]) -> Callable[[], None]:
    """Have `callback(module, text)` called for every event of level error or above; the paniclog listens so.

    Returns:
        A function that takes the callback off again.
    """
    _callbacks.append(callback)
    return lambda: _callbacks.remove(callback)


def configure(stream: TextIO | None = None, is_terminal: bool | None = None, level: str = "info") -> None:
    """Send all diagnostics to `stream` (stderr), for people on a terminal, else as JSON lines.

    Args:
        stream: where they go.
        is_terminal: None: asks the stream.
        level: the least that is shown, in Momentum's words (momentum.md 1.7), in any case.

    Raises:
        ValueError: a level that nobody knows.
    """
    out = stream or sys.stderr
    if level.lower() not in _LEVELS:
        raise ValueError(f'unknown level "{level}"; choose one of {", ".join(_LEVELS)}')
    threshold = _LEVELS[level.lower()]
    shared = _shared_processors()
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    _route_stdlib(out, threshold, shared, _renderers(out.isatty() if is_terminal is None else is_terminal))


def redact(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """structlog processor: shorten tokens and drop secrets in all values, at any depth."""
    return {key: _redact_pair(key, value, _MAX_DEPTH) for key, value in event.items()}


def shorten_tokens(text: str) -> str:
    """Cut everything in `text` that looks like a device token to eight digits."""
    return _TOKEN.sub(r"\1…", text)


def _shared_processors() -> list[Processor]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
        structlog.processors.UnicodeDecoder(),
        redact,
        _tell_listeners,
    ]


def _renderers(is_terminal: bool) -> list[Processor]:
    end = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    if is_terminal:
        plain = structlog.dev.plain_traceback  # rich ones print locals, device tokens among them
        return [end, structlog.dev.ConsoleRenderer(colors=True, exception_formatter=plain)]
    return [end, structlog.processors.JSONRenderer()]


def _route_stdlib(
    stream: TextIO, threshold: int, shared: list[Processor], renderers: list[Processor]
) -> None:
    """Make the root logger the only one with a handler; what libraries say goes the same way as ours."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(foreign_pre_chain=[_name, *shared], processors=renderers)
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(threshold)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = True
    for name in _SILENCED:
        logging.getLogger(name).setLevel(logging.CRITICAL)
        logging.getLogger(name).propagate = False
        logging.getLogger(name).handlers[:] = [logging.NullHandler()]
    logging.captureWarnings(True)


def _name(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """Say which library speaks; ours need not, their events have names of their own."""
    record = event.get("_record")
    if record is not None:
        event["logger"] = record.name
    return event


def _redact_pair(key: Any, value: Any, depth: int) -> Any:
    if isinstance(key, str) and key.lower() in _SECRETS:
        return _DROPPED
    return _redact(value, depth)


def _redact(value: Any, depth: int) -> Any:
    """Redact one value; beyond a sane depth nothing is shown rather than something unread."""
    if isinstance(value, (bytes, bytearray)):
        value = value.decode("utf-8", "backslashreplace")
    if isinstance(value, str):
        return _JWT.sub(_DROPPED, _PEM.sub(_DROPPED, shorten_tokens(value)))
    if value is None or isinstance(value, (bool, int, float, logging.LogRecord)):
        return value
    if depth <= 0:
        return _DROPPED
    if isinstance(value, Mapping):
        return {key: _redact_pair(key, inner, depth - 1) for key, inner in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_redact(inner, depth - 1) for inner in value]
    return _redact(str(value), depth)


def _tell_listeners(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """Call the on_error callbacks; a paniclog that fails is noted in the event, not logged again."""
    if _LEVELS.get(str(event.get("level")), 0) < logging.ERROR:
        return event
    hidden = {"event", "level", "timestamp", "_record", "_from_structlog"}
    values = " ".join(f"{key}={value}" for key, value in event.items() if key not in hidden)
    for callback in tuple(_callbacks):
        try:
            callback("core:", f"{event.get('event')} {values}".rstrip())
        except LogError as error:
            event["paniclog_error"] = str(error)
    return event
