"""momentum_push/injection/smtp_address.py: the paths of MAIL FROM and RCPT TO."""

from __future__ import annotations

import timeit

import pytest

from momentum_push.injection.smtp_address import split_path


@pytest.mark.parametrize(
    ("argument", "address", "parameters"),
    [
        ("<a@b.c>", "a@b.c", ""),
        ("<a@b.c> SIZE=10 BODY=8BITMIME", "a@b.c", "SIZE=10 BODY=8BITMIME"),
        ("<a@b.c>SIZE=10", "a@b.c", "SIZE=10"),
        ("a@b.c", "a@b.c", ""),
        ("a@b.c SIZE=10", "a@b.c", "SIZE=10"),
        ("<>", "<>", ""),
        ("<> SIZE=10", "<>", "SIZE=10"),
        ("<postmaster>", "postmaster", ""),
        ("<@relay.example,@b.example:a@b.c>", "a@b.c", ""),
        ('<"a b@c"@b.c>', '"a b@c"@b.c', ""),
        ('<"a\\"b"@b.c>', '"a\\"b"@b.c', ""),
        ("<a_b@apn_example.com>", "a_b@apn_example.com", ""),
        ("<a@[192.0.2.1]>", "a@[192.0.2.1]", ""),
        ("<jörg@müller.example>", "jörg@müller.example", ""),
        ("<a+b=c.@b.c>", "a+b=c.@b.c", ""),
    ],
)
def test_path_is_split_from_its_parameters(argument: str, address: str, parameters: str) -> None:
    """RFC 5321 section 4.1.2, RFC 6531."""
    assert split_path(argument) == (address, parameters)


@pytest.mark.parametrize(
    "argument",
    [
        "",
        "<",
        "<a@b",
        "a@b>",
        "<a b@c>",
        "<a@b@c>",
        "<@>",
        "<a@>",
        '<"a@b>',
        "<a\0@b>",
        "<a\x7f@b>",
        "<a\udcff@b>",
    ],
)
def test_what_is_no_path_is_none(argument: str) -> None:
    assert split_path(argument) == (None, None)


def test_long_rubbish_takes_no_long_time() -> None:
    """Backtracking would take for ever."""
    for argument in ("<" + '"' * 4000, "<" + '"\\' * 2000, "a@" * 2000, "<" + "a" * 4000, "<@" + ":" * 4000):
        assert timeit.timeit(lambda argument=argument: split_path(argument), number=10) < 1.0
