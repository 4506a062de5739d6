"""The grammar of momentum.md 1.2 and 1.3: one table of what parses, one of what does not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from momentum_push.config.nodes import Array, Assignment, Dictionary, Include, Stanza, Text, write
from momentum_push.config.parser import parse, parse_tolerant, unescape
from momentum_push.errors import ConfigError, Place
from tests.helpers.conf import EXAMPLE_13

P = Place("t.conf", 1, 1)


def text(value):
    return Text(value, P)


def put(name, value):
    return Assignment(name, value if isinstance(value, Array | Dictionary) else text(value), P)


def array(*items):
    return Array(tuple(item if isinstance(item, Array | Dictionary) else text(item) for item in items), P)


def pairs(**items):
    return Dictionary(tuple((text(key), text(value)) for key, value in items.items()), P)


def stanza(name, instance, *items):
    return Stanza(name, None if instance is None else text(instance), items, P)


TREES = {
    "nothing": ("", ()),
    "blanks": (" \t\r\n\n", ()),
    "comment": ("# a = 1\n", ()),
    "comment without line end": ("#", ()),
    "C comment": ("/* a = 1\n { */", ()),
    "C comment does not nest": ("/* /* */ a = 1", (put("a", "1"),)),
    "number": ("a = 1200", (put("a", "1200"),)),
    "no blanks": ("a=1", (put("a", "1"),)),
    "value on the next line": ("a =\n\n  1", (put("a", "1"),)),
    "two on a line": ("a = 1 b = 2", (put("a", "1"), put("b", "2"))),
    "name kept as written": ("Routes = x", (put("Routes", "x"),)),
    "quoted": ('a = "x y"', (put("a", "x y"),)),
    "escaped quote": (r'a = "%t@\"%sa\"@"', (put("a", '%t@"%sa"@'),)),
    "escaped backslash": (r'a = "\\"', (put("a", "\\"),)),
    "a regex keeps its backslashes": (r'a = "/\.apns\d$/"', (put("a", r"/\.apns\d$/"),)),
    "string over lines": ('a = "x\ny"', (put("a", "x\ny"),)),
    "hash inside quotes": ('a = "#x"', (put("a", "#x"),)),
    "comment after value": ("a = 1#x\nb = 2", (put("a", "1"), put("b", "2"))),
    "comment between": ("a /* x */ = # y\n 1", (put("a", "1"),)),
    "bare path": ("a = /tmp/2025", (put("a", "/tmp/2025"),)),
    "bare URI": ("uri = digest:///etc/x", (put("uri", "digest:///etc/x"),)),
    "slash begins a comment": ("a = /tmp/* x */ b = 2", (put("a", "/tmp"), put("b", "2"))),
    "empty string": ('a = ""', (put("a", ""),)),
    "comma in a bare value": ("a = x,y", (put("a", "x,y"),)),
    "array": ('a = ( "x" y )', (put("a", array("x", "y")),)),
    "array without =": ("a ( x y )", (put("a", array("x", "y")),)),
    "array with commas": ("a = (x, y,z)", (put("a", array("x", "y", "z")),)),
    "empty array": ("a = ()", (put("a", array()),)),
    "array in an array": ("a = ((x) y) b = 1", (put("a", array(array("x"), "y")), put("b", "1"))),
    "array over lines": ('a = (\n"x"\n"y"\n)\n', (put("a", array("x", "y")),)),
    "dictionary": ("a = [ k = v  l = w ]", (put("a", pairs(k="v", l="w")),)),
    "dictionary without =": ("a [ k = v ]", (put("a", pairs(k="v")),)),
    "dotted key": ('a = [ x.y = "v" ]', (put("a", pairs(**{"x.y": "v"})),)),
    "quoted key": ('a = [ "x y" = v ]', (put("a", pairs(**{"x y": "v"})),)),
    "empty dictionary": ("a = []", (put("a", pairs()),)),
    "name after an array": ("a (x) b = 1", (put("a", array("x")), put("b", "1"))),
    "anonymous stanza": ("apn { }", (stanza("apn", None),)),
    "tight stanza": ("apn{}", (stanza("apn", None),)),
    "named stanza": ('domain "x" { a = 1 }', (stanza("domain", "x", put("a", "1")),)),
    "bare instance": ("listen /tmp/2025 { }", (stanza("listen", "/tmp/2025"),)),
    "bare port": ("listen :25 { }", (stanza("listen", ":25"),)),
    "= before {": ('a = { } b "x" = { }', (stanza("a", None), stanza("b", "x"))),
    "nested": ("a { b { c = 1 } }", (stanza("a", None, stanza("b", None, put("c", "1"))),)),
    "include": ('include "a.d"', (Include(text("a.d"), False, P),)),
    "bare include": ("include a.d", (Include(text("a.d"), False, P),)),
    "readonly": ('readonly_include "a"', (Include(text("a"), True, P),)),
    "include in a stanza": ('a { Include "b" }', (stanza("a", None, Include(text("b"), False, P)),)),
    "include as a value": ("a = include b = 1", (put("a", "include"), put("b", "1"))),
    "include as the begin of a name": ("include_x = 1", (put("include_x", "1"),)),
    "byte order mark": ("\ufeffa = 1", (put("a", "1"),)),
    "CRLF": ("a = 1\r\nb = 2\r\n", (put("a", "1"), put("b", "2"))),
    "not ASCII": ('a = "Fähre"', (put("a", "Fähre"),)),
}


@pytest.mark.parametrize(("source", "tree"), TREES.values(), ids=TREES)
def test_what_the_grammar_reads(source, tree):
    assert parse(source, "t.conf") == tree


@pytest.mark.parametrize("source", [source for source, _ in TREES.values()], ids=TREES)
@pytest.mark.parametrize("rubbish", ["\n}", "\n'", "\n= 1", "\n)", '\n"'])
def test_rubbish_after_is_an_error_on_its_own_line(source, rubbish):
    with pytest.raises(ConfigError) as caught:
        parse(source + rubbish, "t.conf")
    assert caught.value.problems[0].place.line == source.count("\n") + 2


FAULTS = {
    "}": '1:1: syntax error near "}"; no stanza is open here; remove it',
    "a = 1\n}\n": '2:1: syntax error near "}"; no stanza is open here; remove it',
    "a": '1:2: syntax error near end of file; write a = VALUE, or a "instance" { … }',
    "a b": "1:4: syntax error near end of file; write a = b, or a b { … }",
    "max_x 5\nb = 1": '2:1: syntax error near "b"; write max_x = 5, or max_x 5 { … }',
    "a {\n  b = }": '2:7: syntax error near "}"; "b" needs a value; '
    "quote it if it is empty or holds reserved characters",
    "a = 1 {": '1:7: syntax error near "{"; write NAME = VALUE or NAME "instance" { … }',
    "x {\n a = 1\n": "3:1: syntax error near end of file; the stanza opened in line 1 is never closed; "
    'add "}"',
    "a = 'b'": "1:5: syntax error near \"'b'\"; single quotes are reserved; use double quotes",
    'a = "b': '1:5: syntax error near ""b"; this string is never closed; add a double quote',
    "a = 1 /* b": '1:7: syntax error near "/* b"; this comment is never closed; add "*/"',
    "a ( b }": '1:7: syntax error near "}"; write ( value value … ) and close the array with ")"',
    "a = [ b ]": '1:9: syntax error near "]"; write [ key = value … ] and close the dictionary with "]"',
    "a = [ b = ]": '1:11: syntax error near "]"; write [ key = value … ] and close the dictionary with "]"',
    "include { }": '1:9: syntax error near "{"; write include "path"',
    '"x" = 3': '1:1: syntax error near "x"; write NAME = VALUE or NAME "instance" { … }',
    'a = "x\nb = "y" c = "z"': '2:14: syntax error near "z"; '
    "the string that begins in line 1 runs to here; close it with a double quote",
    "a b " + "c" * 40: f'1:5: syntax error near "{"c" * 27}..."; write a = b, or a b {{ … }}',
}


@pytest.mark.parametrize(("source", "says"), FAULTS.items())
def test_a_syntax_error_says_where_what_and_how_to_fix(source, says):
    with pytest.raises(ConfigError) as caught:
        parse(source, "t.conf")
    assert str(caught.value) == f"t.conf:{says}"


@given(st.text(st.sampled_from("ab={}[]()\"'#/*\\ \n,.:"), max_size=30))
def test_any_text_parses_or_is_a_config_error(source):
    try:
        parse(source, "t.conf")
    except ConfigError as error:
        assert len(error.problems) == 1 and error.problems[0].fix


@given(st.text(st.sampled_from("ab={}[]()\"'#/*\\ \n,.:"), max_size=60))
def test_the_tolerant_parser_ends_and_reports_something_exactly_when_there_is_something(source):
    items, problems = parse_tolerant(source, "t.conf")
    try:
        assert parse(source, "t.conf") == items and not problems
    except ConfigError as error:
        assert problems[0] == error.problems[0]


@pytest.mark.parametrize(
    "source", ["a {" * 17, "a = " + "(" * 17, "snmp {" * 5000, "\n\na = " + "[ x = " * 99]
)
def test_what_is_too_deep_is_refused_before_anybody_walks_it(source):
    with pytest.raises(ConfigError) as caught:
        parse(source, "t.conf")
    assert "more than 16 braces, parentheses or brackets in each other" in str(caught.value)


def test_brackets_in_strings_and_comments_are_not_counted():
    assert parse('a = "' + "{" * 99 + '" # ' + "(" * 99 + "\n/* " + "[" * 99 + "*/ apn { }", "t.conf")


def test_one_run_finds_faults_of_several_lines_and_keeps_the_rest():
    items, problems = parse_tolerant("a = 1\nb == 2\nc = 3\nd = 'x'\ne = 5\n", "t.conf")
    assert [problem.place.line for problem in problems] == [2, 4]
    assert write(items) == "a = 1\nc = 3\ne = 5\n"


def test_a_missing_brace_is_one_fault_and_what_stands_before_is_kept():
    items, problems = parse_tolerant("a = 1\nb {\n c = 2\n", "t.conf")
    assert len(problems) == 1
    assert write(items) == "a = 1\nb {\n  c = 2\n}\n"


def test_nodes_know_their_place():
    (stanza_node,) = parse('\n  domain "x" {\n    a = ( b )\n  }', "t.conf")
    assert stanza_node.place == ("t.conf", 2, 3)
    assert stanza_node.instance.place == ("t.conf", 2, 10)
    assert stanza_node.items[0].place == ("t.conf", 3, 5)
    assert stanza_node.items[0].value.place == ("t.conf", 3, 9)
    assert stanza_node.items[0].value.items[0].place == ("t.conf", 3, 11)


def test_the_example_that_exercises_all_of_the_grammar():
    """momentum.md 1.3, line for line."""
    assert parse(EXAMPLE_13, "t.conf") == (
        put("Message_Expiration", "86400"),
        put("relay_hosts", array("127.0.0.1/32", "10.4.0.0/16")),
        Include(text("/opt/msys/ecelerity/etc/conf/default/apps.d"), False, P),
        stanza(
            "esmtp_listener",
            None,
            stanza(
                "listen",
                ":25",
                put("mcmt_reception", "reject"),
                stanza("peer", "10.4.0.0/16", put("mcmt_reception", "allow")),
                put(
                    "authloginparameters",
                    pairs(uri="digest:///opt/msys/ecelerity/etc/push.users", log_authentication="true"),
                ),
            ),
        ),
        stanza(
            "binding_group",
            "bulk",
            stanza(
                "binding",
                "bulk1",
                stanza("domain", "com.example.news.apns", put("max_outbound_connections", "4")),
            ),
        ),
    )


@pytest.mark.parametrize(
    ("written", "means"),
    [(r"\n", "\n"), (r"\t", "\t"), (r"\r", "\r"), (r"\\", "\\"), (r"\"", '"'), (r"\.", r"\."), ("\\", "\\")],
)
def test_escapes(written, means):
    assert unescape(f"a{written}") == f"a{means}"
