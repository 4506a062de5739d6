"""hpack's own decoder is the oracle of ours: same fields, same table, same refusals."""

import contextlib

import hpack
import pytest
from hpack import HeaderTuple, HPACKError, NeverIndexedHeaderTuple
from hypothesis import given
from hypothesis import strategies as st

from momentum_push.simulator.fields import QuickDecoder

TOKENS = st.text("abcdefghijklmnopqrstuvwxyz0123456789-", min_size=1, max_size=200).map(str.encode)
NAMES = st.sampled_from([b":path", b"apns-id", b"authorization", b"x"]) | TOKENS
KINDS = st.sampled_from([HeaderTuple, NeverIndexedHeaderTuple])
FIELD = st.tuples(KINDS, NAMES, TOKENS | st.binary(max_size=300)).map(lambda three: three[0](*three[1:]))
FIELDS = st.lists(FIELD, max_size=12)


@given(st.lists(FIELDS, max_size=6), st.booleans(), st.integers(0, 4096))
def test_what_hpack_encodes_is_read_back_over_many_blocks(
    blocks: list[list[HeaderTuple]], is_huffman: bool, table: int
) -> None:
    encoder, ours, theirs = hpack.Encoder(), QuickDecoder(), hpack.Decoder()
    for number, block in enumerate(blocks):
        if number == 2:
            encoder.header_table_size = table
        data = encoder.encode(block, huffman=is_huffman)
        assert ours.decode(data, raw=True) == [tuple(field) for field in theirs.decode(data, raw=True)]
        assert ours.header_table.dynamic_entries == theirs.header_table.dynamic_entries


@given(st.binary(max_size=60))
def test_rubbish_is_refused_as_hpack_refuses_it(data: bytes) -> None:
    outcomes = []
    for decoder in (QuickDecoder(), hpack.Decoder()):
        try:
            outcomes.append([tuple(field) for field in decoder.decode(data, raw=True)])
        except HPACKError:
            outcomes.append(None)
    assert outcomes[0] == outcomes[1]


def test_a_header_list_over_the_limit_is_refused() -> None:
    data = hpack.Encoder().encode([(b"a", b"b" * 8000)])
    with pytest.raises(hpack.OversizedHeaderListError):
        QuickDecoder(8000).decode(data, raw=True)


@pytest.mark.parametrize("cut", range(1, 40))
def test_a_block_that_is_cut_off_never_gives_the_whole(cut: int) -> None:
    fields = [(b":path", b"/3/device/00"), (b"apns-topic", b"com.example.news")]
    data = hpack.Encoder().encode(fields)
    if cut >= len(data):
        return
    with contextlib.suppress(HPACKError):
        assert QuickDecoder().decode(data[:cut], raw=True) != fields


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"\x82\x20", "table size update not at the start"),
        (b"\x00\x01a\x81\x00", "incomplete Huffman"),
        (b"\x00\x01a\x84\xff\xff\xff\xff", "Huffman"),
        (b"\x00\x01a\x05bc", "truncated"),
        (b"\x00\x01a", "truncated"),
        (b"\xff\x80\x80\x80\x80\x80\x80\x01", "integer"),
        (b"\xff", "integer"),
        (b"\xbe", "index"),
    ],
)
def test_refusals_say_why(data: bytes, why: str) -> None:
    with pytest.raises(HPACKError, match=why):
        QuickDecoder().decode(data, raw=True)
