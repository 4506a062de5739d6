"""momentum_push/loggers/diagnostics.py"""

import io
import json
import logging
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from momentum_push.errors import LogError
from momentum_push.loggers import diagnostics

TOKEN = "9f8e7d6c" + "a1" * 28
PEM = "-----BEGIN PRIVATE KEY-----\nMIGTAgEAMBMG\n-----END PRIVATE KEY-----"
JWT = "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJURUFNIn0.c2lnbmF0dXJl"


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """Diagnostics as JSON lines; what was configured before comes back afterwards."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    out = io.StringIO()
    diagnostics.configure(out, is_terminal=False)
    yield out
    structlog.reset_defaults()
    logging.captureWarnings(False)
    root.handlers[:] = before
    root.setLevel(level)


def events(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_events_are_json_lines_with_level_and_utc_time(stream: io.StringIO) -> None:
    structlog.get_logger().warning("delivery_tempfailed", domain="news.apns", count=3)
    event = events(stream)[0]
    assert event.pop("timestamp").endswith("Z")
    assert event == {"event": "delivery_tempfailed", "level": "warning", "domain": "news.apns", "count": 3}


def test_on_a_terminal_events_are_for_people(stream: io.StringIO) -> None:
    diagnostics.configure(stream, is_terminal=True)
    structlog.get_logger().info("started", port=25)
    assert "started" in stream.getvalue()
    assert not stream.getvalue().startswith("{")


@pytest.mark.parametrize(("level", "shown"), [("DEBUG", 3), ("info", 2), ("Error", 1), ("critical", 0)])
def test_the_level_is_a_threshold_in_any_case(level: str, shown: int, stream: io.StringIO) -> None:
    diagnostics.configure(stream, is_terminal=False, level=level)
    log = structlog.get_logger()
    log.debug("a")
    log.info("b")
    log.error("c")
    assert len(events(stream)) == shown


def test_an_unknown_level_is_refused() -> None:
    with pytest.raises(ValueError, match="choose one of debug"):
        diagnostics.configure(level="loud")


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (TOKEN, "9f8e7d6c…"),
        (f"RCPT TO:<{TOKEN}@news.apns>", "RCPT TO:<9f8e7d6c…@news.apns>"),
        (TOKEN.upper().encode(), "9F8E7D6C…"),
        ({"a": [TOKEN, {"b": TOKEN}]}, {"a": ["9f8e7d6c…", {"b": "9f8e7d6c…"}]}),
        ((TOKEN,), ["9f8e7d6c…"]),
        (f"key {PEM} end", "key [dropped] end"),
        (PEM.split("-----END")[0], "[dropped]"),
        (f"bearer {JWT}", "bearer [dropped]"),
        ({"Authorization": "bearer x"}, {"Authorization": "[dropped]"}),
        (ValueError(TOKEN), "9f8e7d6c…"),
        ("ab" * 31, "ab" * 31),
        ("00/01-00000-00000001", "00/01-00000-00000001"),
        (7, 7),
        (None, None),
    ],
)
def test_secrets_do_not_come_through(value: object, shown: object) -> None:
    assert diagnostics.redact(None, "info", {"event": "x", "value": value}) == {"event": "x", "value": shown}


@pytest.mark.parametrize("key", ["authorization", "Authorization", "password"])
def test_what_is_called_a_secret_is_dropped(key: str) -> None:
    assert diagnostics.redact(None, "info", {key: "x"}) == {key: "[dropped]"}


def test_no_token_leaks_through_an_exception(stream: io.StringIO) -> None:
    try:
        raise ValueError(f"bad {TOKEN}")
    except ValueError:
        structlog.get_logger().exception("broken")
    assert "ValueError" in stream.getvalue()
    assert TOKEN not in stream.getvalue()


def test_libraries_speak_the_same_way(stream: io.StringIO) -> None:
    logging.getLogger("uvicorn").warning("token %s", TOKEN)
    warnings.warn("look out", UserWarning, stacklevel=1)
    seen = events(stream)
    assert (seen[0]["event"], seen[0]["logger"], seen[0]["level"]) == (
        "token 9f8e7d6c…",
        "uvicorn",
        "warning",
    )
    assert "look out" in seen[1]["event"]


def test_aiosmtpd_is_silent(stream: io.StringIO) -> None:
    logging.getLogger("mail.log").error("RCPT TO:<%s@news.apns>", TOKEN)
    assert stream.getvalue() == ""


def test_errors_are_told_to_the_paniclog(stream: io.StringIO) -> None:
    told: list[tuple[str, str]] = []
    off = diagnostics.on_error(lambda module, text: told.append((module, text)))
    log = structlog.get_logger()
    log.warning("harmless")
    log.error("spool_commit_failed", error="disk", token=TOKEN)
    logging.getLogger("asyncio").error("task died")
    off()
    log.error("later")
    assert told == [
        ("core:", "spool_commit_failed error=disk token=9f8e7d6c…"),
        ("core:", "task died logger=asyncio"),
    ]


def test_a_paniclog_that_fails_does_not_stop_the_event(stream: io.StringIO) -> None:
    def fail(module: str, text: str) -> None:
        raise LogError("paniclog: full")

    off = diagnostics.on_error(fail)
    structlog.get_logger().error("bad")
    off()
    assert events(stream)[0]["paniclog_error"] == "paniclog: full"
