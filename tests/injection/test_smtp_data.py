"""momentum_push/injection/smtp_data.py: where a mail ends, and how much of it is kept."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from momentum_push.injection.smtp_data import Budget, MailCollector

MAILS = [
    ("", b".\r\n", b""),
    ("one line", b"a\r\n.\r\n", b"a\r\n"),
    ("an empty line", b"\r\n.\r\n", b"\r\n"),
    ("a dot on the first line", b"..\r\n.\r\n", b".\r\n"),
    ("dots are unstuffed", b"a\r\n..b\r\n...\r\n.\r\n", b"a\r\n.b\r\n..\r\n"),
    ("a lone dot before text", b".a\r\n.\r\n", b"a\r\n"),
    ("LF dot LF", b"a\n.\nb\r\n.\r\n", b"a\n.\nb\r\n"),
    ("LF dot CRLF", b"a\n.\r\nb\r\n.\r\n", b"a\n.\r\nb\r\n"),
    ("CRLF dot LF", b"a\r\n.\nb\r\n.\r\n", b"a\r\n\nb\r\n"),
    ("CR dot CR", b"a\r.\rb\r\n.\r\n", b"a\r.\rb\r\n"),
    ("NUL", b"\0\r\n.\r\n", b"\0\r\n"),
]


@pytest.mark.parametrize(("wire", "mail"), [row[1:] for row in MAILS], ids=[row[0] for row in MAILS])
@pytest.mark.parametrize("tail", [b"", b"MAIL FROM:<>\r\n", b"\r\n.\r\n"])
def test_only_crlf_dot_crlf_ends_a_mail_and_the_rest_is_given_back(
    wire: bytes, mail: bytes, tail: bytes
) -> None:
    """Fed whole and byte by byte; RFC 5321 section 4.1.1.4 (and SMTP smuggling)."""
    budget = Budget(1000)
    whole = MailCollector(1000, budget)
    assert whole.feed(wire + tail) == tail
    assert whole.take() == mail
    slow = MailCollector(1000, budget)
    assert [slow.feed(bytes([byte])) for byte in wire] == [None] * (len(wire) - 1) + [b""]
    assert slow.take() == mail
    assert budget.used == 0


@given(st.binary(max_size=200), st.lists(st.integers(1, 20), max_size=20))
def test_any_mail_that_is_stuffed_comes_back(mail: bytes, cuts: list[int]) -> None:
    mail += b"\r\n"
    wire = (b"\r\n" + mail).replace(b"\r\n.", b"\r\n..")[2:] + b".\r\n"
    collector = MailCollector(10_000, Budget(10_000))
    rest = None
    for cut in cuts:
        if cut < len(wire):
            assert collector.feed(wire[:cut]) is None
            wire = wire[cut:]
    rest = collector.feed(wire)
    assert (rest, collector.take()) == (b"", mail)


def test_a_mail_beyond_its_limit_is_let_go_and_read_to_its_end() -> None:
    budget = Budget(1_000_000)
    collector = MailCollector(100, budget)
    for _ in range(50):
        assert collector.feed(b"x" * 9 + b"\n") is None
        assert budget.used <= 110
    assert collector.is_too_large
    assert collector.feed(b"\r\n") is None
    assert collector.feed(b".") is None
    assert collector.feed(b"\r\nNOOP\r\n") == b"NOOP\r\n"
    collector.close()
    assert budget.used == 0


def test_mails_together_stay_in_their_budget() -> None:
    budget = Budget(100)
    first, second = MailCollector(1000, budget), MailCollector(1000, budget)
    first.feed(b"x" * 60)
    second.feed(b"x" * 60)
    assert (first.is_over_budget, second.is_over_budget, budget.used) == (False, True, 60)
    assert second.feed(b"\r\n.\r\n") == b""
    first.close()
    second.close()
    assert budget.used == 0
