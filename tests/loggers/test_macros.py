"""momentum_push/loggers/macros.py"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from momentum_push.loggers.columns import Batch, Moment
from momentum_push.loggers.macros import (
    DISPOSITIONS,
    MARKERS,
    FormatError,
    compile_format,
    table,
)
from momentum_push.message import Disposition, Home, Kind, QueueKey
from tests.helpers.lists import NOW, message, part, token_of
from tests.helpers.records import disposition, fields

NASTY = st.text(
    st.one_of(st.sampled_from('@"\\\n\r\t\x00\x1b\x7f\x85\u2028 aé%'), st.characters()), max_size=12
)


def render(text: str, *items: Disposition) -> str:
    return compile_format(text).render(Batch(items, NOW)).removesuffix("\n")


FULL = disposition(
    Kind.TEMPFAIL,
    message=message(
        7,
        rcpt="u1",
        part=part(
            mailfrom="push@example.net",
            push_type="background",
            context={"campaign": "ferries"},
            conn_context={"tls": "yes"},
        ),
    ),
    attempt=3,
    status=1,
    reason="ServiceUnavailable",
    word="ServiceUnavailable",
    http_status=503,
    unregistered_at=1_700_000_000,
    text="451 4.4.1 [internal] try later",
    topic="com.example.news",
)


@pytest.mark.parametrize(
    ("macro", "value"),
    [
        ("%t", "1767600001"),
        ("%t{%Y-%m-%d %H:%M:%S}", "2026-01-05 08:00:01"),
        ("%i", FULL.message.mid),
        ("%sa", r"push\@example.net"),
        ('"%sa"', '"push@example.net"'),
        ("%da", "u1"),
        ("%dt", token_of(7)),
        ("%d", "com.example.news.apns"),
        ("%g", "default"),
        ("%b", "default"),
        ("%H", "192.0.2.50"),
        ("%B", "321"),
        ("%S", "1"),
        ("%e", "ServiceUnavailable"),
        ("%ti", FULL.message.apns_id),
        ("%vctx_mess{campaign}", "ferries"),
        ("%vctx_mess{nothing}", ""),
        ("%vctx_conn{tls}", "yes"),
        ("%{reason}", "ServiceUnavailable"),
        ("%{apns_id}", FULL.message.apns_id),
        ("%{http_status}", "503"),
        ("%{unregistered_at}", "1700000000"),
        ("%{attempt}", "3"),
        ("%{topic}", "com.example.news"),
        ("%{push_type}", "background"),
        ("%{queue_seconds}", "1.250"),
        ("%BI", "00/02-00000-00000002"),
        ("%CI", "00/01-00000-00000001"),
        ("%OC", "00/03-00000-00000003"),
        ("%m", "push"),
        ("%M", "example.net"),
        ("%n", "451 4.4.1 [internal] try later"),
        ("%N", "3"),
        ("%p", "http"),
        ("%r", "u1"),
        ("%R", "com.example.news.apns"),
        ("%s", "Reading Confirmation"),
        ("%T", "1.25"),
        ("%T{1}", "1.2"),
        ("%us{6}", "1767600001.250000"),
        ("%U", ""),
        ("%%", "%"),
        ("100%% of %d", "100% of com.example.news.apns"),
        ("%dx%da", "com.example.news.apnsxu1"),
        ("%tx", "1767600001x"),
        ("no macro", "no macro"),
        ("", ""),
    ],
)
def test_every_macro_has_its_value(macro: str, value: str) -> None:
    assert render(macro, FULL) == value


def test_every_macro_of_the_default_table_is_tested_above() -> None:
    marks = [mark for mark in test_every_macro_has_its_value.pytestmark if mark.name == "parametrize"]
    tested = {text for text, _ in marks[0].args[1]}
    internal = {"{retries}", "{micros}", "A", "c", "C", "h{}", "P", "PG"}
    for name in DISPOSITIONS.keys() - internal:
        assert any(text.strip('"').startswith("%" + name.removesuffix("}")) for text in tested), name


def test_addresses_come_from_the_context_first() -> None:
    context = {"DLV_Source_Addr": "shop", "DLV_Dest_Addr": "+4912"}
    item = disposition(message=message(1, rcpt="u1", part=part(mailfrom="a@b", context=context)))
    assert render("%sa %da", item) == "shop +4912"


def test_the_first_namespace_wins() -> None:
    custom_first = table(["custom_logger", "apn_logger"])
    batch = Batch([FULL], NOW)
    assert compile_format("%S", custom_first).render(batch) == "9\n"
    assert compile_format("%S", DISPOSITIONS).render(batch) == "1\n"


@pytest.mark.parametrize(
    ("text", "what", "fix"),
    [
        ("%t@%y", 'unknown macro "%y"', "percent"),
        ("%{reasn}", 'unknown macro "%{reasn}"', 'did you mean "%{reason}"?'),
        ("%vctx_mes{a}", 'unknown macro "%vctx_mes{a}"', "%vctx_mess"),
        ("50% ", "a percent sign without a macro", 'write "%%"'),
        ("50%", "a percent sign without a macro", 'write "%%"'),
        ("%T{x}", 'macro "%T{x}" cannot be used', "braces"),
    ],
)
def test_what_cannot_be_compiled_is_explained(text: str, what: str, fix: str) -> None:
    with pytest.raises(FormatError) as caught:
        compile_format(text)
    assert what in caught.value.what
    assert fix in caught.value.fix


def test_an_unknown_namespace_is_an_error() -> None:
    with pytest.raises(FormatError, match='unknown namespace "apn"'):
        table(["apn"])


def test_heartbeats_know_the_time_only() -> None:
    assert compile_format("%t@M", MARKERS).render(Moment(NOW)) == "1767600000@M\n"
    with pytest.raises(FormatError):
        compile_format("%i@M", MARKERS)


def test_macros_without_a_meaning_are_named() -> None:
    assert compile_format("%t@%U@%h{Subject}").empty == ["%U", "%h{}"]


@given(st.lists(st.fixed_dictionaries(dict.fromkeys(["sa", "da", "d", "b", "key", "e"], NASTY)), max_size=4))
def test_a_reader_that_honours_quotes_gets_every_field_back(rows: list[dict[str, str]]) -> None:
    text = '%t@"%sa"@%sa@"%da"@%da@%d@"%b"@%vctx_mess{k}@"%vctx_mess{k}"@%e@"%{reason}"@%ti'
    items = [_nasty(row) for row in rows]
    written = compile_format(text).render(Batch(items, NOW))
    read = [fields(line) for line in written.split("\n")[:-1]]
    assert read == [
        ["1767600001", *(r[key] for key in ("sa", "sa", "da", "da", "d", "b", "key", "key", "e", "e")), uuid]
        for r, uuid in zip(rows, [item.message.apns_id for item in items], strict=True)
    ]


def _nasty(row: dict[str, str]) -> Disposition:
    home = Home(QueueKey("g", row["b"], row["d"]), 10, NOW, count=1, progress=bytearray(1), remaining=1)
    shared = part(mailfrom=row["sa"], context={"k": row["key"]})
    told = message(5, part=shared, home=home, rcpt=row["da"])
    return disposition(message=told, reason=row["e"], word=row["e"])
