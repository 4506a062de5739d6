"""What follows from an outcome: every row of Apple's table, and every row of the module's."""

from __future__ import annotations

from importlib import resources
from typing import Any

import pytest

from momentum_push.delivery.breaker import DEAD_TOKENS, LEAST_DEAD
from momentum_push.delivery.records import NO_ANSWER, Peer
from momentum_push.delivery.trust import SUSPECT
from momentum_push.delivery.verdict import DOUBT_S, MAX_RETURNS, MAX_STRANGE, Judge, Verdict
from momentum_push.message import Home, Kind, Message, Phase
from momentum_push.message.reasons import ReasonTable
from momentum_push.queues import RetryPolicy
from tests.helpers.delivery import TABLE, outcome
from tests.helpers.lists import NOW, QUEUE, message, part

PEER = Peer("192.0.2.50", "00/03-00000-00000003")
POLICY = RetryPolicy(retry_interval=1200, message_expiration=86400)

D, P, T, ELSEWHERE, SUSPEND = "D", "P", "T", "elsewhere", "suspend"

ROWS = [
    (200, "", D, 0),
    (400, "BadCollapseId", P, 400),
    (400, "BadDeviceToken", P, 8),
    (400, "BadExpirationDate", P, 400),
    (400, "BadMessageId", P, 400),
    (400, "BadPriority", P, 400),
    (400, "BadTopic", P, 6),
    (400, "DeviceTokenNotForTopic", P, 8),
    (400, "DuplicateHeaders", P, 400),
    (400, "IdleTimeout", ELSEWHERE, 10),
    (400, "InvalidPushType", P, 400),
    (400, "MissingDeviceToken", P, 2),
    (400, "MissingTopic", P, 3),
    (400, "PayloadEmpty", P, 4),
    (400, "TopicDisallowed", SUSPEND, 255),
    (403, "BadCertificate", SUSPEND, 255),
    (403, "BadCertificateEnvironment", SUSPEND, 255),
    (403, "ExpiredProviderToken", ELSEWHERE, 255),
    (403, "Forbidden", P, 403),
    (403, "InvalidProviderToken", SUSPEND, 255),
    (403, "MissingProviderToken", SUSPEND, 255),
    (403, "UnrelatedKeyIdInToken", SUSPEND, 255),
    (403, "BadEnvironmentKeyIdInToken", SUSPEND, 255),
    (403, "BadEnvironmentKeyInToken", SUSPEND, 255),
    (404, "BadPath", P, 404),
    (405, "MethodNotAllowed", P, 405),
    (410, "ExpiredToken", P, 8),
    (410, "Unregistered", P, 8),
    (413, "PayloadTooLarge", P, 7),
    (429, "TooManyProviderTokenUpdates", ELSEWHERE, 1),
    (429, "TooManyRequests", T, 1),
    (500, "InternalServerError", T, 1),
    (503, "ServiceUnavailable", T, 1),
    (503, "Shutdown", ELSEWHERE, 10),
    (400, "FeatureNotEnabled", SUSPEND, 255),
    (400, "MissingChannelId", P, 2),
    (400, "BadChannelId", P, 8),
    (400, "ChannelNotRegistered", P, 8),
    (400, "BadRequestParams", P, 400),
    (400, "BadRequestPayload", P, 400),
    (400, "MissingPushType", P, 400),
    (400, "CannotCreateChannelConfig", SUSPEND, 255),
    (400, "MissingChannelQueueSize", P, 400),
    (403, "TopicMismatch", SUSPEND, 255),
    (503, "Service Unavailable", T, 1),
    # words that nobody knows go by their status, and never show the number of a dead token
    (400, "NewWord", P, 400),
    (403, "NewWord", SUSPEND, 255),
    (404, "NewWord", P, 404),
    (405, "NewWord", P, 405),
    (410, "NewWord", P, 410),
    (413, "NewWord", P, 7),
    (429, "NewWord", T, 1),
    (502, "", T, 1),
    (504, "NewWord", T, 1),
    (302, "", T, 255),
]


def some(sequence: int = 1, attempts: int = 0, received_at: float = NOW, topic: str = "") -> Message:
    home = Home(QUEUE, 10, NOW, attempts=attempts, count=1, progress=bytearray(1), remaining=1)
    return message(sequence, home=home, part=part(received_at=received_at, topic=topic))


def judge(drops_unknown: bool = False, policy: RetryPolicy = POLICY) -> Judge:
    return Judge(TABLE, policy, drops_unknown)


def fate(verdict: Verdict) -> str:
    """Where the one message of a verdict is; exactly one place."""
    places = {
        "done": verdict.done,
        "again": verdict.again,
        "retries": [message for batch in verdict.retries.values() for message in batch],
    }
    found = [name for name, messages in places.items() for _ in messages]
    assert len(found) == 1
    return found[0]


@pytest.mark.parametrize(("status", "reason", "kind", "code"), ROWS, ids=lambda value: str(value))
def test_every_answer_of_apples_has_its_disposition(status: int, reason: str, kind: str, code: int) -> None:
    """apns.md 4.2 and 4.3, apns_reasons.csv."""
    verdict = judge().judge([outcome(some(), status, reason)], PEER, NOW)
    assert verdict.suspensions == (kind == SUSPEND)
    if kind in (ELSEWHERE, SUSPEND):
        assert (fate(verdict), verdict.dispositions) == ("again", [])
        return
    (record,) = verdict.dispositions
    assert fate(verdict) == ("retries" if kind == T else "done")
    assert (record.kind.value, record.status, record.http_status) == (kind, code, status)
    assert (record.word, record.attempt, record.remote) == (reason, 1, PEER.remote)
    assert record.reason == (reason or ("" if kind == D else f"HTTP status {status}"))


def test_answers_that_condemn_the_token_are_counted() -> None:
    reasons = ["BadDeviceToken", "DeviceTokenNotForTopic", "BadTopic", "NewWord"]
    verdict = judge().judge([outcome(some(n), 400, reason) for n, reason in enumerate(reasons)], PEER, NOW)
    assert verdict.condemned == 2


@pytest.mark.parametrize(
    ("status", "reason", "believed"),
    [
        (200, "", 1),
        (400, "BadDeviceToken", 1),
        (410, "Unregistered", 1),
        (413, "PayloadTooLarge", 1),
        (500, "InternalServerError", 0),
        (429, "TooManyRequests", 0),
        (403, "Forbidden", 0),
        (403, "InvalidProviderToken", 0),
    ],
)
def test_deliveries_and_faults_of_the_message_show_belief(status: int, reason: str, believed: int) -> None:
    assert judge().judge([outcome(some(), status, reason)], PEER, NOW).believed == believed


@pytest.mark.parametrize("reason", ["Shutdown", "ExpiredProviderToken", "TooManyProviderTokenUpdates"])
def test_answers_about_the_connection_retire_it(reason: str) -> None:
    status = {"Shutdown": 503, "ExpiredProviderToken": 403}.get(reason, 429)
    assert judge().judge([outcome(some(), status, reason)], PEER, NOW).retire == reason


def test_topic_disallowed_fails_the_message_that_named_its_topic() -> None:
    """interfaces.md 2, "Reasons"."""
    verdict = judge().judge([outcome(some(topic="com.other"), 400, "TopicDisallowed")], PEER, NOW)
    assert (fate(verdict), verdict.dispositions[0].kind, verdict.suspensions) == ("done", Kind.PERMFAIL, 0)


def test_the_first_accusation_is_kept_as_a_record() -> None:
    outcomes = [outcome(some(n), 403, "InvalidProviderToken") for n in (7, 8)]
    accusation = judge().judge(outcomes, PEER, NOW).accusation
    assert accusation is not None
    assert (accusation.message.sequence, accusation.kind, accusation.status) == (7, Kind.TEMPFAIL, 255)
    assert accusation.text == "451 4.7.1 InvalidProviderToken"


def test_tempfail_waits_for_the_schedule() -> None:
    verdict = judge().judge([outcome(some(attempts=1), 503, "ServiceUnavailable")], PEER, NOW)
    assert list(verdict.retries) == [(NOW + 2400, 2)]
    assert verdict.dispositions[0].attempt == 2


def test_retry_after_takes_the_place_of_the_schedule() -> None:
    verdict = judge().judge([outcome(some(), 503, "ServiceUnavailable", retry_after=30.0)], PEER, NOW)
    assert list(verdict.retries) == [(NOW + 30, 1)]


@pytest.mark.parametrize(
    ("policy", "age", "text"),
    [
        (POLICY, 86400, "554 5.4.7 [internal] exceeded max time without delivery"),
        (RetryPolicy(never_retry=True), 0, "554 5.4.7 [internal] exceeded max retries without delivery"),
    ],
)
def test_a_tempfail_beyond_the_schedule_is_permanent(policy: RetryPolicy, age: float, text: str) -> None:
    old = outcome(some(received_at=NOW - age), 503, "ServiceUnavailable")
    verdict = judge(policy=policy).judge([old], PEER, NOW)
    (record,) = verdict.dispositions
    assert (fate(verdict), record.kind) == ("done", Kind.PERMFAIL)
    assert (record.reason, record.text, record.status) == (text, text, 1)


# --- unknown outcomes


def test_an_unknown_outcome_waits_a_second_the_first_time_and_then_goes_by_the_schedule() -> None:
    """interfaces.md 2, "Retry"; apns.md 10."""
    lost = {"phase": Phase.UNKNOWN, "reason": "connection lost"}
    verdict = judge().judge([outcome(some(1), 0, **lost), outcome(some(2, attempts=1), 0, **lost)], PEER, NOW)
    assert list(verdict.retries) == [(NOW + 1, 1), (NOW + 2400, 2)]
    assert verdict.unknown == 2
    record = verdict.dispositions[0]
    assert (record.kind, record.status, record.text) == (
        Kind.TEMPFAIL,
        NO_ANSWER,
        "451 4.4.2 [internal] connection lost",
    )


def test_an_unknown_outcome_is_final_under_drop() -> None:
    """interfaces.md 5: `apn_unknown_outcome = "drop"` writes P."""
    lost = outcome(some(), 0, phase=Phase.UNKNOWN, reason="connection lost")
    verdict = judge(drops_unknown=True).judge([lost], PEER, NOW)
    (record,) = verdict.dispositions
    assert (fate(verdict), record.kind, record.status) == ("done", Kind.PERMFAIL, NO_ANSWER)
    assert record.text == "554 5.4.2 [internal] connection lost"


# --- again


@pytest.mark.parametrize("phase", [Phase.NOT_SENT, Phase.NOT_PROCESSED])
def test_what_was_not_processed_goes_again_and_is_no_attempt(phase: Phase) -> None:
    verdict = judge().judge([outcome(some(), 0, phase=phase, reason="goaway")], PEER, NOW)
    assert (fate(verdict), verdict.dispositions) == ("again", [])


@pytest.mark.parametrize(
    "returned",
    [
        {"phase": Phase.NOT_PROCESSED, "status": 0, "reason": "refused"},
        {"status": 503, "reason": "Shutdown"},
        {"status": 400, "reason": "TopicDisallowed"},
    ],
    ids=["refused", "elsewhere", "accused, yet never suspended"],
)
def test_after_five_returns_in_a_row_a_message_takes_a_temporary_failure(returned: dict[str, Any]) -> None:
    """interfaces.md 2, "Retry"."""
    bench, mine = judge(), some()
    fates = [fate(bench.judge([outcome(mine, **returned)], PEER, NOW)) for _ in range(MAX_RETURNS + 2)]
    assert fates == ["again"] * MAX_RETURNS + ["retries", "again"]


def test_a_return_is_to_be_sent_again_also_where_it_takes_a_temporary_failure() -> None:
    bench, mine = judge(), some()
    refused = outcome(mine, 0, phase=Phase.NOT_PROCESSED)
    assert [bench.judge([refused], PEER, NOW).resent for _ in range(MAX_RETURNS + 2)] == [1] * 7


def test_an_attempt_between_returns_starts_the_count_anew() -> None:
    bench, mine = judge(), some()
    refused = outcome(mine, 0, phase=Phase.NOT_PROCESSED)
    for _ in range(MAX_RETURNS):
        bench.judge([refused], PEER, NOW)
    bench.judge([outcome(mine, 503, "ServiceUnavailable")], PEER, NOW)
    assert fate(bench.judge([refused], PEER, NOW)) == "again"


@pytest.mark.parametrize("end", ["delivered", "tempfail", "expired"])
def test_nothing_is_remembered_of_messages_that_ended(end: str) -> None:
    bench, mine = judge(), some()
    bench.judge([outcome(mine, 0, phase=Phase.NOT_SENT)], PEER, NOW)
    assert bench.remembered == 1
    if end == "expired":
        bench.forget(mine)
    else:
        bench.judge([outcome(mine, 200 if end == "delivered" else 500)], PEER, NOW)
    assert bench.remembered == 0


@pytest.mark.parametrize(
    "returned",
    [
        {"status": 403, "reason": "InvalidProviderToken"},
        {"status": 503, "reason": "Shutdown"},
        {"phase": Phase.NOT_PROCESSED, "status": 0, "reason": "BadCertificateEnvironment"},
    ],
)
def test_a_suspension_burns_no_attempts(returned: dict[str, Any]) -> None:
    """interfaces.md 2, "Retry": they sweep no messages, burn no attempts."""
    bench, mine = judge(), some()
    for _ in range(5 * MAX_RETURNS):
        assert fate(bench.judge([outcome(mine, **returned)], PEER, NOW, is_suspended=True)) == "again"


def test_a_message_that_expires_during_a_suspension_ends_with_its_probe() -> None:
    old = some(received_at=NOW - 86400)
    verdict = judge().judge([outcome(old, 403, "InvalidProviderToken")], PEER, NOW, is_suspended=True)
    assert (fate(verdict), verdict.dispositions[0].kind) == ("done", Kind.PERMFAIL)
    assert verdict.suspensions == 1


# --- the whole


def test_every_message_of_a_read_is_in_exactly_one_place() -> None:
    outcomes = [outcome(some(n), status, reason) for n, (status, reason, _, _) in enumerate(ROWS)]
    verdict = judge().judge(outcomes, PEER, NOW)
    placed = [m.sequence for m in verdict.left + verdict.again]
    assert sorted(placed) == list(range(len(ROWS)))
    assert len(verdict.dispositions) == len(verdict.left)


def test_again_keeps_the_order_of_the_read() -> None:
    outcomes = [outcome(some(n), 0, phase=Phase.NOT_SENT) for n in (5, 3, 4)]
    assert [m.sequence for m in judge().judge(outcomes, PEER, NOW).again] == [5, 3, 4]


def test_a_reload_changes_table_and_policy() -> None:
    bench = judge()
    bench.judge([outcome(some(), 500, "InternalServerError")], PEER, NOW)
    row = "- {status: 500, reason: InternalServerError, action: permfail}"
    text = "".join(
        f'- {{status: "{status}", reason: "{word}", class: {row.klass.value}, action: {row.action.value}}}\n'
        for status, word, row in TABLE
    )
    bench.configure(ReasonTable.parse(text, row), RetryPolicy(retry_interval=7), drops_unknown=True)
    outcomes = [outcome(some(), 500, "InternalServerError"), outcome(some(), 503, "ServiceUnavailable")]
    verdict = bench.judge(outcomes, PEER, NOW)
    assert (len(verdict.done), list(verdict.retries)) == (1, [(NOW + 7, 1)])
    assert verdict.dispositions[0].text == "554 5.3.0 InternalServerError"


# --- words that nobody knows


def test_an_unknown_reason_is_named_once_for_each_word() -> None:
    judge = Judge(TABLE, POLICY)
    named = []
    for number in range(6):
        word = ("Vanished", "Evaporated")[number % 2]
        verdict = judge.judge(
            [outcome(message(number), 410, word), outcome(message(9 + number), 410, "Unregistered")],
            PEER,
            NOW,
        )
        named += [row.reason for row in verdict.strange]
        assert verdict.condemned == 1, "only the reason that we know condemns its token"
    assert named == ["Vanished", "Evaporated"]


def test_a_peer_that_makes_words_up_is_heard_a_bounded_number_of_times() -> None:
    judge = Judge(TABLE, POLICY)
    answers = [outcome(message(number), 410, f"Word{number}") for number in range(3 * MAX_STRANGE)]
    verdict = judge.judge(answers, PEER, NOW)
    assert len(verdict.strange) == MAX_STRANGE
    assert (verdict.condemned, len(verdict.done)) == (0, 3 * MAX_STRANGE)


def test_a_read_that_brought_only_acceptances_is_judged_as_each_would_be_beside_another_answer() -> None:
    """The way in columns and the way one by one must say the same."""

    def accepted() -> list[Any]:
        return [outcome(message(number), size=300 + number) for number in (1, 2, 3)]

    together, judge = accepted(), Judge(TABLE, POLICY)
    verdict = judge.judge(together, PEER, NOW)
    apart = Judge(TABLE, POLICY).judge([*together, outcome(message(4), 410, "Unregistered")], PEER, NOW)
    assert list(verdict.dispositions) == apart.dispositions[:3]
    assert verdict.done == apart.done[:3] == [item.message for item in together]
    assert (verdict.believed, verdict.condemned, verdict.again) == (3, 0, [])


def test_a_message_that_had_come_back_is_forgotten_when_it_is_accepted() -> None:
    judge, returned = Judge(TABLE, POLICY), message(1)
    judge.judge([outcome(returned, 0, phase=Phase.NOT_PROCESSED)], PEER, NOW)
    assert judge.remembered == 1
    judge.judge([outcome(returned)], PEER, NOW)
    assert judge.remembered == 0


def test_an_operator_may_give_a_200_another_meaning() -> None:
    text = resources.files("momentum_push.message").joinpath("reasons.yaml").read_text("utf-8")
    table = ReasonTable.parse(text, '- {status: 2xx, reason: "*", action: tempfail}')
    verdict = Judge(table, POLICY).judge([outcome(message())], PEER, NOW)
    assert [item.kind for item in verdict.dispositions] == [Kind.TEMPFAIL]


# --- too many dead tokens (apns.md 4.3)

DEAD = (400, "BadDeviceToken")


def dead(first: int, count: int, **changes: Any) -> list[Any]:
    return [outcome(message(number, **changes), *DEAD) for number in range(first, first + count)]


def breaking(policy: RetryPolicy = POLICY) -> Judge:
    """A judge whose breaker tripped: a hundred tokens were condemned, one was doubted."""
    bench = Judge(TABLE, policy, dead_token_limit=20)
    verdict = bench.judge(dead(1, LEAST_DEAD + 1), PEER, NOW)
    assert (verdict.condemned, verdict.doubted, verdict.trips) == (LEAST_DEAD, 1, True)
    return bench


def test_in_the_middle_of_a_read_dead_tokens_are_no_longer_believed() -> None:
    bench = Judge(TABLE, POLICY, dead_token_limit=20)
    verdict = bench.judge(dead(1, 500), PEER, NOW)
    assert (verdict.condemned, verdict.doubted, len(verdict.done)) == (LEAST_DEAD, 400, LEAST_DEAD)
    ((due, attempts), doubted) = next(iter(verdict.retries.items()))
    assert (due, attempts, len(doubted), len(verdict.retries)) == (NOW + DOUBT_S, 0, 400, 1)
    assert len(verdict.dispositions) == LEAST_DEAD, "no record of what is in doubt"
    assert (verdict.believed, verdict.suspensions) == (0, SUSPECT)
    assert verdict.accusation is not None
    assert (verdict.accusation.reason, verdict.accusation.status) == (DEAD_TOKENS, NO_ANSWER)


@pytest.mark.parametrize(
    "word", ["BadDeviceToken", "DeviceTokenNotForTopic", "Unregistered", "PayloadTooLarge"]
)
def test_in_doubt_only_an_accepted_notification_shows_belief(word: str) -> None:
    bench = breaking()
    status = {"Unregistered": 410, "PayloadTooLarge": 413}.get(word, 400)
    verdict = bench.judge([outcome(message(900), status, word)], PEER, NOW, is_suspended=True)
    assert (verdict.believed, verdict.suspensions, verdict.condemned) == (0, 0, 0)
    assert bench.breaker.is_tripped
    verdict = bench.judge([outcome(message(901)), *dead(902, 2)], PEER, NOW, is_suspended=True)
    assert (verdict.believed, verdict.condemned, verdict.doubted) == (1, 0, 2)
    assert not bench.breaker.is_tripped
    assert bench.judge(dead(910, 1), PEER, NOW).condemned == 1


def test_a_read_that_brought_only_acceptances_lifts_the_doubt_too() -> None:
    bench = breaking()
    verdict = bench.judge([outcome(message(901))], PEER, NOW, is_suspended=True)
    assert (verdict.believed, bench.breaker.is_tripped) == (1, False)


def test_an_answer_accepted_in_the_read_that_trips_lifts_nothing() -> None:
    bench = Judge(TABLE, POLICY, dead_token_limit=20)
    verdict = bench.judge([*dead(1, 200), outcome(message(999))], PEER, NOW)
    assert (verdict.believed, verdict.trips, bench.breaker.is_tripped) == (0, True, True)


def test_expiry_ends_a_doubted_message_and_its_record_names_no_dead_token() -> None:
    bench = breaking()
    late = NOW + POLICY.message_expiration
    verdict = bench.judge(dead(700, 1), PEER, late, is_suspended=True)
    (record,) = verdict.dispositions
    assert (record.kind, record.status, record.word) == (Kind.PERMFAIL, NO_ANSWER, "")
    assert record.unregistered_at == 0
    assert (len(verdict.done), verdict.retries, verdict.condemned) == (1, {}, 0)


def test_what_old_settings_call_dead_is_asked_again() -> None:
    bench = Judge(TABLE, POLICY, dead_token_limit=20)
    verdict = bench.judge(dead(1, 300), PEER, NOW, is_foreign=True)
    assert (verdict.condemned, len(verdict.again), verdict.trips) == (0, 300, False)
    assert bench.judge(dead(400, 1), PEER, NOW).condemned == 1


def test_other_settings_or_another_limit_start_over() -> None:
    bench = breaking()
    bench.configure(TABLE, POLICY, False, 20)
    assert bench.breaker.is_tripped, "nothing changed"
    bench.start_over()
    assert bench.judge(dead(900, 1), PEER, NOW).condemned == 1
    bench = breaking()
    bench.configure(TABLE, POLICY, False, 0)
    assert bench.judge(dead(900, 400), PEER, NOW).condemned == 400


def test_unknown_reasons_do_not_trip_the_breaker() -> None:
    bench = Judge(TABLE, POLICY, dead_token_limit=20)
    verdict = bench.judge([outcome(message(n), 410, "Vanished") for n in range(500)], PEER, NOW)
    assert (verdict.trips, len(verdict.done)) == (False, 500)
