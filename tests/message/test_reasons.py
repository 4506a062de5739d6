"""The reason table: every documented answer has a class, a legacy code and an action (apns.md 4)."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import momentum_push.message.reasons as module
from momentum_push.errors import ConfigError
from momentum_push.message.reasons import Action, Class, Reason, ReasonTable

TEXT = Path(module.__file__).with_suffix(".yaml").read_text("utf-8")
TABLE = ReasonTable.parse(TEXT)

# status, reason, class, legacy code; the documented answers, row by row
DOCUMENTED = """
400 BadCollapseId permanent-message -
400 BadDeviceToken permanent-token 8
400 BadExpirationDate permanent-message -
400 BadMessageId permanent-message -
400 BadPriority permanent-message -
400 BadTopic permanent-message 6
400 DeviceTokenNotForTopic permanent-token 8
400 DuplicateHeaders permanent-message -
400 IdleTimeout transient 10
400 InvalidPushType permanent-message -
400 MissingDeviceToken permanent-message 2
400 MissingTopic permanent-message 3
400 PayloadEmpty permanent-message 4
400 TopicDisallowed auth-or-config 255
403 BadCertificate auth-or-config 255
403 BadCertificateEnvironment auth-or-config 255
403 ExpiredProviderToken auth-or-config 255
403 Forbidden auth-or-config -
403 InvalidProviderToken auth-or-config 255
403 MissingProviderToken auth-or-config 255
403 UnrelatedKeyIdInToken auth-or-config 255
403 BadEnvironmentKeyIdInToken auth-or-config 255
403 BadEnvironmentKeyInToken auth-or-config 255
404 BadPath permanent-message -
405 MethodNotAllowed permanent-message -
410 ExpiredToken permanent-token 8
410 Unregistered permanent-token 8
413 PayloadTooLarge permanent-message 7
429 TooManyProviderTokenUpdates throttling 1
429 TooManyRequests throttling 1
500 InternalServerError transient 1
503 ServiceUnavailable transient 1
503 Shutdown transient 10
400 FeatureNotEnabled auth-or-config 255
400 MissingChannelId permanent-message 2
400 BadChannelId permanent-token 8
400 ChannelNotRegistered permanent-token 8
400 BadRequestParams permanent-message -
400 BadRequestPayload permanent-message -
400 MissingPushType permanent-message -
400 CannotCreateChannelConfig auth-or-config 255
400 MissingChannelQueueSize permanent-message -
403 TopicMismatch auth-or-config 255
503 Service_Unavailable transient 1
400 * permanent-message -
403 * auth-or-config 255
404 * permanent-message -
405 * permanent-message -
410 * permanent-token 8
413 * permanent-message 7
429 * throttling 1
5xx * transient 1
other * transient 255
"""
ROWS = [line.split() for line in DOCUMENTED.strip().splitlines()]
WRITTEN = {(status, word): row for status, word, row in TABLE}


@pytest.mark.parametrize(("status", "word", "klass", "code"), ROWS)
def test_every_documented_answer_has_its_class_and_legacy_code(
    status: str, word: str, klass: str, code: str
) -> None:
    row = WRITTEN[status, word.replace("_", " ")]
    assert row.klass.value == klass
    assert row.legacy_code == (None if code == "-" else int(code))


def test_the_table_holds_the_documented_answers_and_success_and_nothing_else() -> None:
    assert set(WRITTEN) == {(status, word.replace("_", " ")) for status, word, _, _ in ROWS} | {("2xx", "*")}


# interfaces.md 2 "Reasons" and "Retry"; the rest follows from the class
DECIDED = {
    "Forbidden": Action.PERMFAIL,
    "TopicDisallowed": Action.SUSPEND,
    "Shutdown": Action.ELSEWHERE,
    "IdleTimeout": Action.ELSEWHERE,
    "ExpiredProviderToken": Action.ELSEWHERE,
    "TooManyProviderTokenUpdates": Action.ELSEWHERE,
    "TooManyRequests": Action.DELAY_TOKEN,
}
BY_CLASS = {
    Class.SUCCESS: Action.DELIVERED,
    Class.PERMANENT_TOKEN: Action.PERMFAIL,
    Class.PERMANENT_MESSAGE: Action.PERMFAIL,
    Class.AUTH_OR_CONFIG: Action.SUSPEND,
    Class.TRANSIENT: Action.TEMPFAIL,
    Class.THROTTLING: Action.TEMPFAIL,
}


@pytest.mark.parametrize(("status", "word"), list(WRITTEN))
def test_actions_follow_from_the_class_unless_decided_otherwise(status: str, word: str) -> None:
    row = WRITTEN[status, word]
    assert row.action is DECIDED.get(word, BY_CLASS[row.klass])


@pytest.mark.parametrize(("status", "word"), list(WRITTEN))
def test_whatever_goes_elsewhere_retires_its_connection(status: str, word: str) -> None:
    row = WRITTEN[status, word]
    assert row.action is not Action.ELSEWHERE or row.retire_connection


@pytest.mark.parametrize(("status", "word"), list(WRITTEN))
def test_only_known_dead_tokens_are_condemned(status: str, word: str) -> None:
    row = WRITTEN[status, word]
    assert row.condemns_token == (row.klass is Class.PERMANENT_TOKEN and word != "*")


def test_topic_disallowed_fails_the_message_that_named_the_topic_and_suspends_otherwise() -> None:
    row = TABLE.lookup(400, "TopicDisallowed")
    assert row.action_for(names_topic=True) is Action.PERMFAIL
    assert row.action_for(names_topic=False) is Action.SUSPEND
    assert TABLE.lookup(400, "BadTopic").action_for(names_topic=True) is Action.PERMFAIL


@pytest.mark.parametrize(
    ("status", "word", "klass", "action", "code"),
    [
        (200, "", Class.SUCCESS, Action.DELIVERED, 0),
        (204, "", Class.SUCCESS, Action.DELIVERED, 0),
        (400, "NewWord", Class.PERMANENT_MESSAGE, Action.PERMFAIL, 400),
        (400, "", Class.PERMANENT_MESSAGE, Action.PERMFAIL, 400),
        (400, "Unregistered", Class.PERMANENT_MESSAGE, Action.PERMFAIL, 400),
        (403, "NewWord", Class.AUTH_OR_CONFIG, Action.SUSPEND, 255),
        (410, "NewWord", Class.PERMANENT_TOKEN, Action.PERMFAIL, 410),
        (410, "", Class.PERMANENT_TOKEN, Action.PERMFAIL, 410),
        (429, "NewWord", Class.THROTTLING, Action.TEMPFAIL, 1),
        (500, "*", Class.TRANSIENT, Action.TEMPFAIL, 1),
        (502, "", Class.TRANSIENT, Action.TEMPFAIL, 1),
        (302, "", Class.TRANSIENT, Action.TEMPFAIL, 255),
        (418, "IAmATeapot", Class.TRANSIENT, Action.TEMPFAIL, 255),
        (0, "", Class.TRANSIENT, Action.TEMPFAIL, 255),
    ],
)
def test_unknown_reasons_go_by_their_status_and_condemn_no_token(
    status: int, word: str, klass: Class, action: Action, code: int
) -> None:
    row = TABLE.lookup(status, word)
    assert (row.klass, row.action, row.code, row.condemns_token) == (klass, action, code, False)
    assert (row.status, row.reason) == (status, word)
    assert row.is_known == (klass is Class.SUCCESS)


@pytest.mark.parametrize(
    ("status", "word", "code"),
    [(400, "BadDeviceToken", 8), (400, "BadPriority", 400), (403, "Forbidden", 403), (503, "Shutdown", 10)],
)
def test_records_show_the_legacy_code_where_one_exists_else_the_status(
    status: int, word: str, code: int
) -> None:
    assert TABLE.lookup(status, word).code == code


@given(st.integers(0, 999), st.text(max_size=20))
def test_every_answer_means_something_the_second_time_as_well(status: int, word: str) -> None:
    first = TABLE.lookup(status, word)
    assert isinstance(first, Reason)
    assert TABLE.lookup(status, word) == first


def test_invented_reasons_do_not_fill_the_memory() -> None:
    table = ReasonTable.parse(TEXT)
    for number in range(10_000):
        assert table.lookup(400, f"Word{number}").action is Action.PERMFAIL
    assert len(table._found) <= 4096


def test_a_goaways_reason_is_found_without_a_status() -> None:
    row = TABLE.by_word("BadCertificateEnvironment")
    assert row is not None
    assert row.action is Action.SUSPEND
    assert TABLE.by_word("NO_ERROR") is None


def test_an_operators_row_is_laid_over_ours_key_by_key() -> None:
    table = ReasonTable.parse(TEXT, "- {status: 400, reason: BadTopic, action: tempfail}\n")
    row = table.lookup(400, "BadTopic")
    assert (row.action, row.klass, row.legacy_code) == (Action.TEMPFAIL, Class.PERMANENT_MESSAGE, 6)
    assert table.lookup(400, "MissingTopic") == TABLE.lookup(400, "MissingTopic")


def test_an_operators_row_may_be_new() -> None:
    row = "- {status: 409, reason: Busy, class: transient, code: null, action: tempfail}"
    found = ReasonTable.parse(TEXT, row).lookup(409, "Busy")
    assert (found.action, found.code, found.is_known) == (Action.TEMPFAIL, 409, True)


@pytest.mark.parametrize(
    ("overrides", "place", "what"),
    [
        ("rows: {}", "mine.yaml:1:1", "a list of rows"),
        ("- {a: [}", "mine.yaml:1:8", "not YAML"),
        ("\n- 3", "mine.yaml:2:3", "a row of keys"),
        ("- {status: 400, reason: New, action: permfail}", "mine.yaml:1:3", "has no class"),
        ("- {status: 400, reason: New, class: transient}", "mine.yaml:1:3", "has no action"),
        ("- {status: 400, action: permfail}", "mine.yaml:1:3", "has no reason"),
        ("- {reason: BadTopic, action: permfail}", "mine.yaml:1:3", "has no status"),
        ("- {status: 4, reason: x}", "mine.yaml:1:12", 'status "4"'),
        ("- {status: ４００, reason: x}", "mine.yaml:1:12", "status"),
        ("- {status: 400, reason: BadTopic, action: explode}", "mine.yaml:1:43", 'action "explode"'),
        ("- {status: 400, reason: BadTopic, class: fine}", "mine.yaml:1:42", 'class "fine"'),
        ("- {status: 400, reason: BadTopic, code: many}", "mine.yaml:1:41", 'code "many"'),
        ("- {status: 400, reason: BadTopic, retire_connection: perhaps}", "mine.yaml:1:54", "neither yes"),
        ("- {status: 400, reason: BadTopic, colour: red}", "mine.yaml:1:35", 'unknown key "colour"'),
        ("- {status: 400, status: 401, reason: x}", "mine.yaml:1:17", "stands twice"),
        ("- {status: 400, reason: [x]}", "mine.yaml:1:25", "single value"),
        ("- {status: 410, reason: '*', condemns_token: yes}", "mine.yaml:1:3", "every reason"),
        ("\0", "mine.yaml", "not YAML"),
    ],
)
def test_a_fault_in_an_operators_file_is_named_with_its_place(overrides: str, place: str, what: str) -> None:
    with pytest.raises(ConfigError) as caught:
        ReasonTable.parse(TEXT, overrides, overrides_name="mine.yaml")
    [problem] = caught.value.problems
    assert str(problem.place) == place
    assert what in problem.what
    assert problem.fix


def test_all_faults_are_reported_in_one_run() -> None:
    with pytest.raises(ConfigError) as caught:
        ReasonTable.parse(TEXT, "- 1\n- 2\n- {status: 4, reason: x}\n")
    assert len(caught.value.problems) == 3


def test_a_table_without_its_last_resort_is_refused() -> None:
    with pytest.raises(ConfigError, match="status other"):
        ReasonTable.parse("- {status: 200, reason: '*', class: success, action: delivered}")
