"""Header fields of requests: which, and how HPACK treats them (apns.md 2.1, 2.5)."""

from hpack import NeverIndexedHeaderTuple

from momentum_push.delivery.apns.request import RequestWriter, size_of
from tests.helpers.lists import message, part


def names(fields: list[tuple[bytes, bytes]]) -> list[str]:
    return [name.decode() for name, _ in fields]


def never_indexed(fields: list[tuple[bytes, bytes]]) -> set[str]:
    return {field[0].decode() for field in fields if isinstance(field, NeverIndexedHeaderTuple)}


def test_expiration_is_always_sent_and_absolute() -> None:
    writer = RequestWriter("h")
    fields = dict(writer.fields(message(part=part(expiration=1_800_000_000)), "t", b""))
    assert fields[b"apns-expiration"] == b"1800000000"
    assert dict(writer.fields(message(part=part(expiration=0)), "t", b""))[b"apns-expiration"] == b"0"


def test_a_certificate_request_has_no_authorization_and_topics_may_be_left_to_it() -> None:
    fields = RequestWriter("h").fields(message(), "", b"")
    assert "authorization" not in names(fields)
    assert "apns-topic" not in names(fields)


def test_collapse_id_and_own_apns_id_go_out_as_given() -> None:
    own = "01234567-89ab-4cde-8f01-23456789abcd"
    sent = message(part=part(collapse_id="ferry 7", push_type="background", priority=5), own_apns_id=own)
    fields = dict(RequestWriter("h").fields(sent, "t", b"bearer x"))
    assert fields[b"apns-collapse-id"] == b"ferry 7"
    assert fields[b"apns-id"] == own.encode()
    assert fields[b"apns-push-type"] == b"background"
    assert fields[b"apns-priority"] == b"5"
    assert fields[b"authorization"] == b"bearer x"


def test_pseudo_headers_come_first_and_no_name_twice() -> None:
    found = names(RequestWriter("h").fields(message(part=part(collapse_id="c")), "t", b"bearer x"))
    assert found[:4] == [":method", ":scheme", ":authority", ":path"]
    assert len(found) == len(set(found))


def test_tokens_are_never_indexed_and_ids_only_at_first_use() -> None:
    writer = RequestWriter("h")
    first = writer.fields(message(), "t", b"bearer x")
    assert never_indexed(first) == {":path"}
    second = writer.fields(message(2, part=part(collapse_id="c")), "t", b"bearer x")
    assert never_indexed(second) == {":path", "apns-id", "apns-expiration"}
    third = writer.fields(message(3, part=part(collapse_id="d")), "t", b"bearer x")
    assert never_indexed(third) == {":path", "apns-id", "apns-expiration", "apns-collapse-id"}


def test_size_counts_fields_and_body() -> None:
    fields = RequestWriter("h").fields(message(), "t", b"")
    assert size_of(fields, b"12345") == sum(len(name) + len(value) for name, value in fields) + 5
