"""What is written of a message, attempted or not."""

from __future__ import annotations

import pytest

from momentum_push.delivery.records import (
    FORSAKEN,
    Peer,
    accepted,
    accuse,
    expire,
    forsake,
    outage,
    record_of,
)
from momentum_push.message import Home, Kind, Message, Phase
from tests.helpers.delivery import TABLE, outcome
from tests.helpers.lists import NOW, QUEUE, message, part

PEER = Peer("192.0.2.50", "00/03-00000-00000003")


def some(attempts: int = 0) -> Message:
    home = Home(QUEUE, 10, NOW, attempts=attempts, count=1, progress=bytearray(1), remaining=1)
    return message(1, home=home, part=part())


@pytest.mark.parametrize(
    ("status", "reason", "kind", "text"),
    [
        (200, "", Kind.DELIVERED, "250 2.0.0"),
        (410, "Unregistered", Kind.PERMFAIL, "550 5.1.1 Unregistered"),
        (400, "BadTopic", Kind.PERMFAIL, "550 5.6.0 BadTopic"),
        (403, "Forbidden", Kind.PERMFAIL, "550 5.7.1 Forbidden"),
        (500, "InternalServerError", Kind.TEMPFAIL, "451 4.3.0 InternalServerError"),
        (429, "TooManyRequests", Kind.TEMPFAIL, "451 4.7.1 TooManyRequests"),
        (500, "InternalServerError", Kind.PERMFAIL, "554 5.3.0 InternalServerError"),
        (400, "TopicDisallowed", Kind.TEMPFAIL, "451 4.7.1 TopicDisallowed"),
    ],
)
def test_the_mainlog_reads_like_smtp(status: int, reason: str, kind: Kind, text: str) -> None:
    """RFC 3463: what is said of the attempt comes first, whatever class the answer is of."""
    record = record_of(outcome(some(), status, reason), PEER, NOW, kind, TABLE.lookup(status, reason))
    assert (record.text, record.http_status, record.attempt) == (text, status, 1)


def test_what_had_no_answer_says_so() -> None:
    lost = outcome(some(), 0, "connection lost", phase=Phase.UNKNOWN)
    record = record_of(lost, PEER, NOW, Kind.TEMPFAIL, None)
    assert (record.status, record.word, record.is_known) == (255, "", False)
    assert record.text == "451 4.4.2 [internal] connection lost"


def test_the_end_of_the_schedule_has_the_last_word() -> None:
    answer, row = outcome(some(), 503, "Shutdown"), TABLE.lookup(503, "Shutdown")
    record = record_of(answer, PEER, NOW, Kind.PERMFAIL, row, "554 5.4.7 [internal] exceeded")
    assert record.text == record.reason == "554 5.4.7 [internal] exceeded"
    assert record.word == "Shutdown"


def test_an_answer_keeps_what_apple_said_of_the_token() -> None:
    answer = outcome(some(), 410, "Unregistered", unregistered_at=1_700_000_000)
    record = record_of(answer, PEER, NOW, Kind.PERMFAIL, TABLE.lookup(410, "Unregistered"))
    assert (record.unregistered_at, record.size, record.conn_id, record.stage) == (
        1_700_000_000,
        321,
        PEER.conn_id,
        9,
    )


@pytest.mark.parametrize("peer", [PEER, Peer()])
def test_records_in_columns_say_what_one_alone_would(peer: Peer) -> None:
    row, answers = TABLE.lookup(200, ""), [outcome(some(attempts)) for attempts in (0, 3)]
    apart = [record_of(answer, peer, NOW, Kind.DELIVERED, row) for answer in answers]
    assert list(accepted(answers, peer, NOW, row)) == apart


def test_records_without_an_attempt_say_so() -> None:
    mine = some(attempts=2)
    gone = expire(mine, "554 5.4.5 [internal] Delivery not attempted (message expired)", NOW)
    assert (gone.kind, gone.attempt, gone.status, gone.stage, gone.remote) == (Kind.PERMFAIL, 2, 255, 0, "")
    down = outage(mine, "connection refused", NOW)
    assert (down.kind, down.text) == (
        Kind.TEMPFAIL,
        "451 4.4.1 [internal] No valid hosts (connection refused)",
    )
    doubt = accuse(mine, "BadCertificateEnvironment", PEER, NOW)
    assert (doubt.kind, doubt.attempt, doubt.remote) == (Kind.TEMPFAIL, 2, PEER.remote)
    assert doubt.text == "451 4.7.1 [internal] BadCertificateEnvironment"


def test_what_was_marked_and_never_answered_counts_as_attempted() -> None:
    """It may be at Apple's: a record that says "not attempted" would be a lie."""
    record = forsake(some(attempts=2), NOW)
    assert (record.kind, record.attempt, record.status, record.stage) == (Kind.PERMFAIL, 3, 255, 0)
    assert FORSAKEN in record.text
