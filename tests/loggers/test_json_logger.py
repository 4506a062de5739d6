"""momentum_push/loggers/json_logger.py"""

import json
from pathlib import Path
from typing import Any

import pytest

from momentum_push.loggers import Authentication, json_logger
from momentum_push.loggers.file import Sinks
from momentum_push.message import Kind
from tests.helpers.lists import NOW, message, part, token_of
from tests.helpers.records import Scope, disposition, lines, rejection


def build(tmp_path: Path, **options: Any) -> json_logger.JsonLogger:
    return json_logger.build(Scope("json_logger", logfile=str(tmp_path / "log"), **options), Sinks())


def records(tmp_path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines(tmp_path / "log")]


ONE = message(7, rcpt="u1", part=part(mailfrom="push@example.net", context={"campaign": "ferries"}))


def test_every_event_has_all_the_fields_that_are_promised(tmp_path: Path) -> None:
    """The names of the module's docstring, type by type."""
    logger = build(tmp_path)
    logger.receptions(NOW, [ONE])
    logger.dispositions(NOW, [disposition(kind, message=ONE) for kind in Kind])
    logger.rejection(NOW, rejection())
    logger.authentication(NOW, Authentication("l", "p", "u", True))
    logger.panic(NOW, "core:", "x")
    logger.heartbeat(NOW)
    assert [set(record) for record in records(tmp_path)] == _promised()


def _promised() -> list[set[str]]:
    text = (json_logger.__doc__ or "").split("further fields\n")[1].split("\n\n")[0]
    words: dict[str, set[str]] = {}
    kinds = ["reception", "delivery", "rejection", "authentication", "panic", "heartbeat"]
    kind = ""
    for word in text.replace("those of reception, and", "").split():
        if word in kinds and word not in words:
            kind = word
            words[kind] = {"type", "time"}
        elif word not in ("tempfail", "permfail"):
            words[kind].add(word)
    delivery = words["delivery"] | words["reception"]
    return [words["reception"], delivery, delivery, delivery, *(words[kind] for kind in kinds[2:])]


def test_values_are_those_of_the_message(tmp_path: Path) -> None:
    logger = build(tmp_path)
    logger.dispositions(
        NOW, [disposition(Kind.PERMFAIL, message=ONE, reason="Unregistered", http_status=410)]
    )
    record = records(tmp_path)[0]
    assert record["type"] == "permfail"
    assert record["time"] == NOW + 1.25
    assert record["mid"] == ONE.mid
    assert record["apns_id"] == ONE.apns_id
    assert record["source"] == "push@example.net"
    assert record["destination"] == "u1"
    assert record["context"] == {"campaign": "ferries"}
    assert (record["reason"], record["http_status"], record["queue_seconds"]) == ("Unregistered", 410, 1.25)


@pytest.mark.parametrize(("option", "shown"), [(False, token_of(7)[:8] + "…"), (True, token_of(7))])
def test_device_tokens_are_whole_only_when_asked_for(option: bool, shown: str, tmp_path: Path) -> None:
    logger = build(tmp_path, log_device_tokens=option)
    logger.receptions(NOW, [ONE])
    assert records(tmp_path)[0]["device_token"] == shown


@pytest.mark.parametrize("option", [False, True])
def test_tokens_in_other_fields_follow_the_same_switch(option: bool, tmp_path: Path) -> None:
    """A RCPT local part may be the token (interfaces.md 2), and scripts keep one in DLV_Dest_ID."""
    token = token_of(7)
    logger = build(tmp_path, log_device_tokens=option)
    shared = part(context={"DLV_Dest_ID": token}, conn_context={"x": token})
    logger.receptions(NOW, [message(7, rcpt=token, part=shared)])
    logger.rejection(NOW, rejection(text=f"bad {token}", mess_context={"DLV_Dest_ID": token}))
    assert [line.count(token) for line in lines(tmp_path / "log")] == ([4, 2] if option else [0, 0])


def test_half_a_surrogate_pair_does_not_stop_the_record(tmp_path: Path) -> None:
    logger = build(tmp_path)
    logger.receptions(NOW, [message(1, rcpt="\udc80\n")])
    assert records(tmp_path)[0]["destination"] == "\udc80\n"


def test_switches_are_those_of_ec_logger(tmp_path: Path) -> None:
    switches = dict.fromkeys(["log_receptions", "log_deliveries", "log_rejections", "log_errors"], False)
    logger = build(tmp_path, **switches)
    logger.receptions(NOW, [ONE])
    logger.dispositions(NOW, [disposition(message=ONE), disposition(Kind.TEMPFAIL, message=ONE)])
    logger.rejection(NOW, rejection())
    logger.panic(NOW, "core:", "x")
    assert [record["type"] for record in records(tmp_path)] == ["tempfail"]
