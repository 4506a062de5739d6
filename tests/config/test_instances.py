"""Names of stanzas: which are taken, which refused (momentum.md 1.2, 1.6)."""

import re

import pytest

from momentum_push.config.instances import check, compile_pattern, sample
from momentum_push.config.values import BadValue


@pytest.mark.parametrize(
    ("kind", "instance"),
    [
        ("domain", "apn_example.com"),
        ("domain", "192.0.2.9"),
        ("domain", "[IPv6:2001:db8::1]"),
        ("domain", "#apn#display"),
        ("binding", "bulk-1"),
        ("binding_group", "a:b"),
        ("listen", "[::1]:25"),
        ("peer", "2001:db8::/32"),
        ("apn_logger", "any thing"),
    ],
)
def test_names_that_are_taken(kind, instance):
    assert check(kind, instance) is None


@pytest.mark.parametrize(
    ("kind", "instance"),
    [
        *[("domain", name) for name in ("a b", "a\nb", "a/b", "/", "//", "/a", "/(/")],
        *[("host", "/*/"), ("binding", "a b"), ("binding", "a:b"), ("binding_group", "a b")],
        *[("listen", "25"), ("peer", "x")],
    ],
)
def test_names_that_are_refused(kind, instance):
    with pytest.raises(BadValue):
        check(kind, instance)


def test_a_regex_comes_back_compiled_and_knows_no_case():
    pattern = check("domain", "/[.]APNS$/")
    assert isinstance(pattern, re.Pattern) and pattern.search("news.apns")


@pytest.mark.parametrize(
    ("written", "text"),
    [
        (r"^\h+$", " \t"),
        (r"a\z", "a"),
        ("^[[:digit:]]+$", "12"),
        ("^[[:xdigit:]_]+$", "fF_0"),
        ("(?<x>a)", "a"),
    ],
)
def test_what_pcre_writes_otherwise_is_understood(written, text):
    assert compile_pattern(written).search(text)


def test_every_kind_has_a_sample():
    assert sample("listen") == "127.0.0.1:25" and sample("role") == "name"
