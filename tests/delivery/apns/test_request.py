"""Header blocks of requests, as the peer's decoder reads them: which fields, and how HPACK treats them.

Source: apns.md 2.1, 2.5.
"""

from __future__ import annotations

from hpack import Decoder, NeverIndexedHeaderTuple
from hypothesis import given, settings
from hypothesis import strategies as st

from momentum_push.delivery.apns.request import RequestWriter
from momentum_push.message import Message
from tests.helpers.lists import message, messages, part

Fields = list[tuple[bytes, bytes]]


class Pair:
    """A writer and the peer that reads its blocks."""

    def __init__(self, authority: str = "h", *, auto_collapse: bool = False) -> None:
        self.writer, self.decoder = RequestWriter(authority, auto_collapse=auto_collapse), Decoder()

    def fields(self, sent: Message, topic: str, authorization: bytes) -> Fields:
        block, size = self.writer.block(sent, topic, authorization)
        found: Fields = self.decoder.decode(block, raw=True)
        assert size == sum(len(name) + len(value) for name, value in found)
        return found

    def resize(self, allowed: int) -> None:
        """The peer's SETTINGS, and its ACK."""
        self.decoder.max_allowed_table_size = allowed
        self.writer.resize(allowed)

    @property
    def table(self) -> Fields:
        return list(self.decoder.header_table.dynamic_entries)


def names(fields: Fields) -> list[str]:
    return [name.decode() for name, _ in fields]


def never_indexed(fields: Fields) -> set[str]:
    return {field[0].decode() for field in fields if isinstance(field, NeverIndexedHeaderTuple)}


def test_expiration_is_always_sent_and_absolute() -> None:
    pair = Pair()
    fields = dict(pair.fields(message(part=part(expiration=1_800_000_000)), "t", b""))
    assert fields[b"apns-expiration"] == b"1800000000"
    assert dict(pair.fields(message(part=part(expiration=0)), "t", b""))[b"apns-expiration"] == b"0"


def test_with_auto_collapse_an_alert_without_a_collapse_id_has_its_apns_id_for_one() -> None:
    """apns.md 10: then a copy after an unknown outcome takes the first one's place on the device."""
    pair = Pair(auto_collapse=True)
    alert, own, quiet = part(), part(collapse_id="mine"), part(push_type="background")
    for sent in [message(part=which) for which in (alert, alert, own, alert, quiet, own, quiet, alert)]:
        fields = dict(pair.fields(sent, "t", b"bearer x"))
        wanted = sent.apns_id if sent.part is alert else sent.part.collapse_id
        assert fields.get(b"apns-collapse-id", b"").decode() == wanted
    plain = Pair().fields(message(part=alert), "t", b"bearer x")
    assert "apns-collapse-id" not in names(plain)


def test_a_certificate_request_has_no_authorization_and_topics_may_be_left_to_it() -> None:
    fields = Pair().fields(message(), "", b"")
    assert "authorization" not in names(fields)
    assert "apns-topic" not in names(fields)


def test_collapse_id_and_own_apns_id_go_out_as_given() -> None:
    own = "01234567-89ab-4cde-8f01-23456789abcd"
    sent = message(part=part(collapse_id="ferry 7", push_type="background", priority=5), own_apns_id=own)
    fields = dict(Pair().fields(sent, "t", b"bearer x"))
    assert fields[b"apns-collapse-id"] == b"ferry 7"
    assert fields[b"apns-id"] == own.encode()
    assert fields[b"apns-push-type"] == b"background"
    assert fields[b"apns-priority"] == b"5"
    assert fields[b"authorization"] == b"bearer x"


def test_pseudo_headers_come_first_and_no_name_twice() -> None:
    found = names(Pair().fields(message(part=part(collapse_id="c")), "t", b"bearer x"))
    assert found[:4] == [":method", ":scheme", ":authority", ":path"]
    assert len(found) == len(set(found))


def test_tokens_are_never_indexed_and_ids_only_at_first_use() -> None:
    pair = Pair()
    first = pair.fields(message(), "t", b"bearer x")
    assert never_indexed(first) == {":path"}
    second = pair.fields(message(2, part=part(collapse_id="c")), "t", b"bearer x")
    assert never_indexed(second) == {":path", "apns-id", "apns-expiration"}
    third = pair.fields(message(3, part=part(collapse_id="d")), "t", b"bearer x")
    assert never_indexed(third) == {":path", "apns-id", "apns-expiration", "apns-collapse-id"}


def test_later_requests_cost_a_few_bytes_beside_token_and_ids() -> None:
    pair = Pair("api.push.apple.com")
    bearer, shared = b"bearer " + b"x" * 220, part()
    first, _ = pair.writer.block(message(1, part=shared), "com.example.news", bearer)
    own = [message(number, part=shared) for number in (2, 3)]
    later = [pair.writer.block(sent, "com.example.news", bearer)[0] for sent in own]
    assert len(first) > 400
    variable = len("/3/device/") + 64 + len("apns-expiration") + 36
    assert all(len(block) <= variable + 12 for block in later)


def test_a_table_of_size_zero_is_obeyed_and_left_again() -> None:
    pair = Pair()
    whole = pair.fields(message(), "t", b"bearer x")
    pair.resize(0)
    for _ in range(3):
        assert pair.fields(message(), "t", b"bearer x") == whole
        assert pair.table == []
    pair.resize(0)
    pair.resize(4096)
    assert pair.fields(message(), "t", b"bearer x") == whole
    assert (b"authorization", b"bearer x") in pair.table


def test_a_new_provider_token_takes_one_entry_and_the_oldest_make_room() -> None:
    pair = Pair()
    for hour in range(100):
        bearer = b"bearer %03d" % hour + b"x" * 220
        for _ in range(3):
            assert dict(pair.fields(message(), "t", bearer))[b"authorization"] == bearer
    blocks = [pair.writer.block(message(), "t", bearer)[0] for _ in range(2)]
    assert len(blocks[0]) == len(blocks[1]) < 160


PARTS = [part(push_type=kind, collapse_id=own) for kind in ("alert", "voip") for own in ("", "c" * 64)]
SIZES = st.one_of(st.sampled_from([0, 1, 100, 300, 4095, 4096, 65536]), st.integers(30, 900))
SEND = st.tuples(st.integers(0, 3), st.integers(0, 2), st.integers(0, 1), st.sampled_from([1, 32, 58, 256]))


@given(steps=st.lists(st.one_of(SEND, SEND, SEND, SIZES), max_size=60), is_varied=st.booleans())
@settings(max_examples=150, deadline=None)
def test_every_block_reads_as_it_was_meant_whatever_the_table_has_become(
    steps: list[int | tuple[int, int, int, int]], is_varied: bool
) -> None:
    pair = Pair("api.push.apple.com")
    for number, step in enumerate(steps, 1):
        if isinstance(step, int):
            pair.resize(step)
            continue
        place, topic_number, bearer_number, octets = step
        sent = message(number, part=PARTS[place], token="ab" * octets)
        topic, bearer = "t" * 30 * topic_number, b"bearer %d" % bearer_number
        if is_varied:
            topic += str(number)
        fields = dict(pair.fields(sent, topic, bearer))
        assert fields[b":path"] == b"/3/device/" + sent.token.encode()
        assert fields.get(b"apns-topic", b"") == topic.encode()
        assert fields[b"authorization"] == bearer
        assert fields[b"apns-push-type"] == sent.part.push_type.encode()
        assert fields.get(b"apns-collapse-id", b"") == sent.part.collapse_id.encode()
        assert fields[b"apns-id"] == sent.apns_id.encode()
        assert pair.table == list(pair.writer._encoder._entries)
        assert pair.decoder.header_table._current_size == pair.writer._encoder.size


def test_the_same_part_under_another_topic_or_provider_token_is_another_block() -> None:
    pair, shared = Pair(), part()
    for _ in range(3):
        for topic, bearer in (("t", b"bearer x"), ("u", b"bearer x"), ("u", b"bearer y")):
            fields = dict(pair.fields(message(part=shared), topic, bearer))
            assert (fields[b"apns-topic"], fields[b"authorization"]) == (topic.encode(), bearer)


def test_a_table_that_shrinks_between_two_messages_of_a_part_is_no_longer_pointed_into() -> None:
    pair, shared = Pair(), part()
    for size in (4096, 200, 4096, 0, 4096):
        pair.resize(size)
        for number in range(4):
            sent = message(number, part=shared)
            assert dict(pair.fields(sent, "t", b"bearer x"))[b"apns-id"] == sent.apns_id.encode()


def test_a_connection_of_a_thousand_topics_keeps_bytes_for_few_of_them() -> None:
    pair, shared = Pair(), part()
    pair.resize(0)
    for number in range(1000):
        assert dict(pair.fields(message(part=shared), f"t{number}", b""))[b"apns-topic"] == b"t%d" % number
    assert len(pair.writer._kept) <= 256


RUN = st.tuples(
    st.integers(0, 3), st.integers(0, 1), st.lists(st.sampled_from([1, 32, 32, 58]), min_size=1, max_size=12)
)
OWN = "01234567-89AB-4CDE-8F01-23456789ABC%d"


@given(
    steps=st.lists(st.one_of(RUN, RUN, SIZES), max_size=20),
    auto_collapse=st.booleans(),
    has_own=st.booleans(),
)
@settings(max_examples=150, deadline=None)
def test_blocks_of_many_are_those_that_each_would_have(
    steps: list[int | tuple[int, int, list[int]]], auto_collapse: bool, has_own: bool
) -> None:
    together, apart = (RequestWriter("h", auto_collapse=auto_collapse) for _ in range(2))
    number = 0
    for step in steps:
        if isinstance(step, int):
            together.resize(step)
            apart.resize(step)
            continue
        place, bearer_number, octets = step
        run = []
        for count in octets:
            number += 1
            own = (OWN % (number % 10))[count % 2 :] if has_own and number % 3 else ""
            run.append(message(number, part=PARTS[place], token="ab" * count, own_apns_id=own))
        bearer = b"bearer %d" % bearer_number
        expected = [apart.block(sent, "t", bearer) for sent in run]
        found: list[tuple[bytes, int]] = []
        while run:
            columns, lengths, sizes = together.blocks(run, "t", bearer)
            blocks = [b"".join(row) for row in zip(*columns, strict=True)]
            assert list(map(len, blocks)) == lengths
            found += zip(blocks, sizes, strict=True)
            run = run[len(sizes) :]
        assert found == expected


def test_blocks_of_one_part_come_all_at_once_when_the_table_is_settled() -> None:
    writer, found = RequestWriter("h"), messages(100)
    assert [len(writer.blocks(found, "t", b"bearer x").sizes) for _ in range(3)] == [1, 1, 100]
