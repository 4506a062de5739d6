"""Printing a tree and parsing it again changes nothing."""

from hypothesis import given, settings
from hypothesis import strategies as st

from momentum_push.config.nodes import (
    Array,
    Assignment,
    Dictionary,
    Include,
    Included,
    Stanza,
    Text,
    quoted,
    spelled,
    write,
)
from momentum_push.config.parser import parse
from momentum_push.errors import Place

HERE = Place("t.conf", 1, 1)

names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_.,:-]{0,12}", fullmatch=True).filter(
    lambda name: name.lower() not in ("include", "readonly_include")
)
# What the language can hold is any text; surrogates are no text, and a CR would be a line end of the file.
strings = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
texts = st.builds(Text, strings, st.just(HERE))
values = st.recursive(
    texts,
    lambda inner: st.one_of(
        st.builds(lambda items: Array(tuple(items), HERE), st.lists(inner, max_size=4)),
        st.builds(
            lambda items: Dictionary(tuple(items), HERE), st.lists(st.tuples(texts, inner), max_size=3)
        ),
    ),
    max_leaves=8,
)
includes = st.builds(Include, texts, st.booleans(), st.just(HERE))
assignments = st.builds(Assignment, names, values, st.just(HERE))
items = st.recursive(
    st.one_of(assignments, includes),
    lambda inner: st.builds(
        lambda name, instance, body: Stanza(name, instance, tuple(body), HERE),
        names,
        st.one_of(st.none(), texts),
        st.lists(inner, max_size=4),
    ),
    max_leaves=10,
)


@settings(max_examples=40, deadline=None)
@given(st.lists(items, max_size=5))
def test_a_printed_tree_parses_to_an_equal_one(tree):
    assert parse(write(tree), "t.conf") == tuple(tree)


@settings(max_examples=80, deadline=None)
@given(strings)
def test_quoting_is_undone_by_the_parser(text):
    assert parse(f"a = {quoted(text)}", "t.conf")[0].value.text == text


def test_an_included_file_dissolves_into_its_items():
    inner = Assignment("a", Text("1", HERE, False), HERE)
    assert write([Included("b.conf", (inner,))]) == "a = 1\n"


def test_harmless_words_stay_bare():
    assert spelled(Text("1200", HERE, False)) == "1200"
    assert spelled(Text("1200", HERE, True)) == '"1200"'
    assert spelled(Text("a/b", HERE, False)) == '"a/b"'
