"""momentum_push/loggers/escape.py"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from momentum_push.loggers import escape
from tests.helpers.records import unescape

NASTY = st.text(
    st.one_of(st.sampled_from('@"\\\n\r\t\x00\x1b\x7f\x85\u2028\u2029\ud800 aé%'), st.characters())
)


@pytest.mark.parametrize(
    ("value", "bare", "quoted"),
    [
        ("plain", "plain", "plain"),
        ("", "", ""),
        ("a@b", r"a\@b", "a@b"),
        ("a\\b", r"a\\b", r"a\\b"),
        ('say "no"', 'say "no"', r"say \"no\""),
        ('"no"', r"\"no" + '"', r"\"no\""),
        ("a\nb\rc\td", r"a\nb\rc\td", r"a\nb\rc\td"),
        ("\x00\x1b\x7f\x85", r"\x00\x1b\x7f\x85", r"\x00\x1b\x7f\x85"),
        ("\u2028\udc80", r"\u2028\udc80", r"\u2028\udc80"),
        ("Fährschiff 船", "Fährschiff 船", "Fährschiff 船"),
    ],
)
def test_escaping_is_the_table_of_the_interface(value: str, bare: str, quoted: str) -> None:
    assert escape.bare(value) == bare
    assert escape.quoted(value) == quoted


@given(st.lists(NASTY))
def test_a_column_is_escaped_value_by_value(values: list[str]) -> None:
    assert escape.bare_texts(values) == [escape.bare(value) for value in values]
    assert escape.quoted_texts(values) == [escape.quoted(value) for value in values]


@given(NASTY)
def test_escaped_text_is_one_line_and_reads_back(value: str) -> None:
    for form in (escape.bare, escape.quoted, escape.line):
        assert len(form(value).splitlines()) <= 1
        assert unescape(form(value)) == value


def test_a_clean_column_is_not_copied() -> None:
    column = ["default", "news.apns"]
    assert escape.bare_texts(column) is column
    assert escape.quoted_texts(column) is column
