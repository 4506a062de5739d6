"""When a credential is in doubt, and for how long."""

import pytest

from momentum_push.delivery.breaker import DEAD_TOKENS
from momentum_push.delivery.trust import SUSPECT, Trust, fix_for
from momentum_push.message.reasons import Action
from tests.helpers.delivery import TABLE


def test_three_accusations_in_a_row_suspend_and_say_so_once() -> None:
    trust = Trust()
    assert [trust.accuse(1, "InvalidProviderToken") for _ in range(4)] == [False, False, True, False]
    assert (trust.is_suspended, trust.reason) == (True, "InvalidProviderToken")


def test_belief_between_accusations_starts_the_count_anew() -> None:
    trust = Trust()
    trust.accuse(SUSPECT - 1, "BadCertificate")
    assert trust.believe() is False
    assert trust.accuse(SUSPECT - 1, "BadCertificate") is False


def test_belief_ends_a_suspension_and_its_probes() -> None:
    trust = Trust()
    trust.accuse(SUSPECT, "BadCertificate")
    assert [trust.next_probe() for _ in range(8)] == [1, 2, 4, 8, 16, 32, 60, 60]
    assert trust.believe() is True
    assert trust.is_suspended is False
    assert trust.next_probe() == 1


def test_every_accusation_comes_with_advice() -> None:
    assert "other environment" in fix_for("BadCertificateEnvironment")
    assert "apn_auth_key" in fix_for("SomethingNew")


ACCUSING = [word for _, word, row in TABLE if row.action is Action.SUSPEND and word != "*"]


@pytest.mark.parametrize(
    "word", [*ACCUSING, "ExpiredProviderToken", "TooManyProviderTokenUpdates", DEAD_TOKENS]
)
def test_every_cause_of_a_suspension_has_advice_of_its_own(word: str) -> None:
    """apns.md 4.2 class AC and 5.4: whoever is woken by one should read what to do about it."""
    assert fix_for(word) != fix_for("SomethingNew")


def test_the_table_names_causes_to_be_advised_on() -> None:
    assert {"InvalidProviderToken", "TopicDisallowed", "UnrelatedKeyIdInToken", "TopicMismatch"} <= set(
        ACCUSING
    )
