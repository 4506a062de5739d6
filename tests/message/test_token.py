"""token.py: hexadecimal, even, bounded; nothing is cleaned (apns.md 2.3)."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from momentum_push.message import Refusal
from momentum_push.message.rules import Rules
from momentum_push.message.token import check_token, check_tokens

RULES = Rules()
GOOD = ["ab", "00" * 32, "9F8e" * 16, "a1" * 54, "0c" * 80, "ff" * 256]
BAD = {
    "abc": "even",
    "a" * 63: "even",
    "ff" * 257: "at most 512",
    "zz" * 32: "'z' at position 0",
    "ab" * 31 + "0g": "'g' at position 63",
    "ab cd": "' ' at position 2",
    "ab cd ": "' ' at position 2",
    "<" + "ab" * 32 + ">": "'<' at position 0",
    "ab\n": r"'\n' at position 2",
    "\n\n": r"'\n' at position 0",
    "ab\r\n": "at position 2",
    "ab\0\0": "at position 2",
    "\uff11\uff11": r"'\uff11' at position 0",  # digits, but not ours
    "0x1f": "'x' at position 1",
}


@pytest.mark.parametrize("token", GOOD)
def test_a_good_token_is_used_as_it_came(token):
    assert check_token(token, RULES) == token


@pytest.mark.parametrize("token", BAD)
def test_a_bad_token_is_refused_with_the_place_or_reason(token):
    refusal = check_token(token, RULES)
    assert isinstance(refusal, Refusal)
    assert refusal.error == "BadDeviceToken"
    assert BAD[token] in refusal.detail


def test_no_token_has_its_own_word():
    assert check_token("", RULES).error == "MissingDeviceToken"


@pytest.mark.parametrize("token", [None, 12, True, ["ab"], b"abcd", 1.5])
def test_what_is_not_text_is_refused_in_words(token):
    assert check_token(token, RULES).error == "BadDeviceToken"
    assert [refusal.error for refusal in check_tokens([token], RULES)] == ["BadDeviceToken"]


def test_a_refusal_never_repeats_the_token():
    token = "0123456789abcdef" * 4 + "x"
    assert token[:16] not in check_token(token, RULES).detail


def test_the_maximum_is_the_rules():
    assert check_token("ab" * 33, Rules(max_token_digits=64)).error == "BadDeviceToken"
    assert check_token("ab" * 600, Rules(max_token_digits=2000)) == "ab" * 600


def test_one_bad_token_among_many_costs_only_itself():
    tokens = ["aa" * 32] * 500
    tokens[123] = "aa" * 31 + "a\n"
    tokens[456] = "aa aa"
    results = check_tokens(tokens, RULES)
    assert [place for place, result in enumerate(results) if isinstance(result, Refusal)] == [123, 456]
    assert results[0] == tokens[0] and len(results) == 500


def test_no_tokens_give_no_results():
    assert check_tokens([], RULES) == []


@given(st.lists(st.text(alphabet="abF0 \n\tg\x1c\u00a0\uff11", max_size=6), max_size=6))
def test_many_at_once_and_one_by_one_agree_with_the_rule_as_written(tokens):
    results = check_tokens(tokens, RULES)
    assert results == [check_token(token, RULES) for token in tokens]
    for token, result in zip(tokens, results, strict=True):
        is_good = re.fullmatch("(?:[0-9A-Fa-f]{2}){1,256}", token) is not None
        assert (result == token) == is_good
