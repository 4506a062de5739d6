"""Receipts bring back the results of the first time, whatever they were."""

import random

import pytest

from momentum_push.message import Draft, Message, Refusal
from momentum_push.message.keys import KEY_LIFETIME_S, Key, Outline, Receipt, digest, replay
from tests.helpers.lists import NOW, messages, part, token_of

KEY = Key(b"n" * 16, b"b" * 16)
UUID = "4A7B0F2C-3d55-4c1e-9a86-0d6c2f7b9e11"


def receipt_of(results: list[Message | Refusal], first: int) -> Receipt:
    outline = Outline()
    for start in range(0, len(results), 300):
        outline.add(results[start : start + 300])
    return Receipt(KEY, NOW, first, outline.count, outline.packed())


def shown(results: list[Message | Refusal]) -> list[tuple[str, str]]:
    return [
        (one.error, one.detail) if isinstance(one, Refusal) else (one.mid, one.apns_id) for one in results
    ]


@pytest.mark.parametrize("count", [1, 499, 500, 501, 2300])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 1.0])
def test_the_answer_is_the_one_of_the_first_time(count: int, share: float) -> None:
    dice = random.Random(f"{count} {share}")
    shared = part(salt=77)
    accepted = iter(messages(count, first=1000, shared=shared))
    results: list[Message | Refusal] = [
        Refusal("BadDeviceToken", f"fault {dice.randrange(40)} — ä")
        if dice.random() < share
        else next(accepted)
        for _ in range(count)
    ]
    drafts = [Draft("d", b"{}", [token_of(1)] * (count - 1)), Draft("d", b"{}", [token_of(2)])]
    again = [one for some in replay(receipt_of(results, 1000), 77, drafts) for one in some]
    assert shown(again) == shown(results)


def test_an_apns_id_of_the_senders_own_comes_back_as_the_rules_write_it() -> None:
    drafts = [Draft("d", b"{}", [token_of(1)]), Draft("d", b"{}", [token_of(2)], apns_id=UUID)]
    ((first, second),) = replay(Receipt(KEY, NOW, 5, 2, b""), 77, drafts)
    assert isinstance(first, Message) and isinstance(second, Message)
    assert (second.mid, second.apns_id) == (messages(1, first=6)[0].mid, UUID.lower())
    assert first.apns_id != second.apns_id


def test_what_was_not_refused_takes_no_room() -> None:
    outline = Outline()
    for _ in range(2000):
        outline.add(messages(500))
    assert outline.packed() == b""


def test_a_million_results_with_refusals_here_and_there_stay_small() -> None:
    outline, some = Outline(), messages(499)
    for _ in range(2000):
        outline.add([*some, Refusal("BadDeviceToken", "not hexadecimal digits")])
    assert len(outline.packed()) < 100_000


def test_a_receipt_that_does_not_fit_is_damaged() -> None:
    receipt = receipt_of([Refusal("a", "b"), *messages(2)], 1)
    receipt.check()
    for bad in (receipt._replace(results=4), receipt._replace(refusals=receipt.refusals[:-3])):
        with pytest.raises(ValueError):
            bad.check()
    with pytest.raises(ValueError):
        list(replay(receipt, 77, [Draft("d", b"{}", [token_of(1)])]))


def test_a_digest_tells_where_a_part_ends() -> None:
    assert digest("ab", "c") != digest("a", "bc") != digest("abc")
    assert digest("ä") == digest("ä".encode())


def test_a_receipt_is_valid_for_a_day() -> None:
    receipt = Receipt(KEY, NOW, 1, 1, b"")
    assert receipt.is_valid(NOW + KEY_LIFETIME_S - 1)
    assert receipt.is_valid(NOW - 10)  # the clock was set back
    assert not receipt.is_valid(NOW + KEY_LIFETIME_S)
