"""When a credential is in doubt, and for how long."""

from momentum_push.delivery.trust import SUSPECT, Trust, fix_for


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
