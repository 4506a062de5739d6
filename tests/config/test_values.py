"""The value types of momentum.md 1.4."""

import pytest

from momentum_push.config.parser import parse
from momentum_push.config.values import BadValue, Kind, Option, Rate, convert

ANY = ("global",)


def row(kind, **more):
    return Option("opt", kind, None, ANY, **more)


def read(option, written):
    return convert(option, parse(f"opt = {written}", "t.conf")[0].value)


NUMBER = row(Kind.INTEGER, unit="seconds")
RETRIES = row(Kind.INTEGER, choices=("auto", "none"))
WORD = row(Kind.CHOICE, choices=("esmtp", "apn"), aliases={"push": "apn"})
KEYED = row(Kind.DICT, choices=("uri", "realm"))
KEY_ID = row(Kind.STRING, pattern="[A-Z0-9]{10}", form="10 characters")

GOOD = [
    *[(row(Kind.BOOLEAN), word, True) for word in ("on", "true", "enabled", "1", '"TRUE"', "( on )")],
    *[(row(Kind.BOOLEAN), word, False) for word in ("off", "false", "disabled", "0", '"Off"')],
    (NUMBER, "1200", 1200),
    (NUMBER, '"1200"', 1200),
    (NUMBER, "0", 0),
    (row(Kind.INTEGER, low=-1), "-1", -1),
    (RETRIES, '"Auto"', "auto"),
    (RETRIES, "3", 3),
    (row(Kind.STRING), '"a b"', "a b"),
    (KEY_ID, "ABCDE12345", "ABCDE12345"),
    (KEY_ID, '""', ""),
    (row(Kind.PATH), "/etc/x.pem", "/etc/x.pem"),
    (row(Kind.PATH), '"None"', ""),
    (row(Kind.MODE), "0644", 0o644),
    (row(Kind.MODE), "660", 0o660),
    (row(Kind.RATE), '"10"', Rate(10, 1)),
    (row(Kind.RATE), '"100/60"', Rate(100, 60)),
    (row(Kind.RATE), "100/60", Rate(100, 60)),
    (row(Kind.RATE), '"0"', Rate(0, 1)),
    (WORD, '"APN"', "apn"),
    (WORD, "push", "apn"),
    (row(Kind.LIST), '( "a" b )', ["a", "b"]),
    (row(Kind.LIST), "a", ["a"]),
    (row(Kind.LIST), "( )", []),
    (row(Kind.DICT), "[ A.b = c ]", {"A.b": "c"}),
    (KEYED, '[ URI = "file:///x" ]', {"uri": "file:///x"}),
]


@pytest.mark.parametrize(("option", "written", "value"), GOOD)
def test_what_is_read(option, written, value):
    assert read(option, written) == value


BAD = [
    (row(Kind.BOOLEAN), "yes", 'opt cannot be "yes"; use true or false'),
    (NUMBER, "5m", 'opt cannot be "5m"; use a whole number of seconds without suffix, 0 or more'),
    (NUMBER, "-1", 'opt cannot be "-1"; use a whole number of seconds without suffix, 0 or more'),
    (NUMBER, "1.5", 'opt cannot be "1.5"; use a whole number of seconds without suffix, 0 or more'),
    (
        NUMBER,
        "9" * 30,
        f'opt cannot be "{"9" * 30}"; use a whole number of seconds without suffix, 0 or more',
    ),
    (row(Kind.INTEGER, high=10), "11", 'opt cannot be "11"; use a whole number without suffix, 0 to 10'),
    (RETRIES, "x", 'opt cannot be "x"; use a whole number without suffix, 0 or more, or "auto", or "none"'),
    (KEY_ID, "abc", 'opt cannot be "abc"; use 10 characters'),
    (row(Kind.MODE), "0888", 'opt cannot be "0888"; use an octal file mode such as 0644'),
    (row(Kind.RATE), "x", 'opt cannot be "x"; use "N" for N per second or "N/S" for N per S seconds'),
    (row(Kind.RATE), "1/0", 'opt cannot be "1/0"; use "N" for N per second or "N/S" for N per S seconds'),
    (WORD, "gcm", 'opt cannot be "gcm"; use "esmtp" or "apn"'),
    (NUMBER, "( 1 2 )", "opt takes one value, not an array; write opt = <integer>"),
    (row(Kind.STRING), "[ a = b ]", "opt takes one value, not a dictionary; write opt = <string>"),
    (row(Kind.LIST), "( ( a ) )", "opt holds more than plain values; write opt = ( a b )"),
    (row(Kind.DICT), "x", 'opt takes a dictionary; write opt = [ key = "value" ]'),
    (KEYED, "[ url = x ]", 'opt has no key "url"; use "uri" or "realm"'),
    (KEYED, "[ uri = ( x ) ]", 'opt: key "uri" takes one value; write uri = "value"'),
]


@pytest.mark.parametrize(("option", "written", "says"), BAD)
def test_what_is_refused_and_why(option, written, says):
    with pytest.raises(BadValue) as caught:
        read(option, written)
    assert str(caught.value) == says


def test_a_rate_prints_as_it_is_written():
    assert [str(Rate(10)), str(Rate(100, 60))] == ["10", "100/60"]
