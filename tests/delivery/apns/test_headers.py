"""HPACK's encoder, field by field; whole blocks are read back in test_request.py."""

from __future__ import annotations

import pytest
from hpack import Decoder, NeverIndexedHeaderTuple
from hypothesis import given
from hypothesis import strategies as st

from momentum_push.delivery.apns.headers import FieldEncoder, integer, string

NAME, VALUE = b"apns-topic", b"com.example"
SIZE = len(NAME) + len(VALUE) + 32


@pytest.mark.parametrize(
    ("value", "bits", "flags", "written"),
    [
        (10, 5, 0, b"\x0a"),  # RFC 7541 C.1.1
        (1337, 5, 0, b"\x1f\x9a\x0a"),  # C.1.2
        (42, 8, 0, b"\x2a"),  # C.1.3
        (30, 5, 0x20, b"\x3e"),
        (31, 5, 0x20, b"\x3f\x00"),
        (127, 7, 0, b"\x7f\x00"),
        (255, 7, 0x80, b"\xff\x80\x01"),
    ],
)
def test_integers_are_written_as_the_rfc_shows(value: int, bits: int, flags: int, written: bytes) -> None:
    assert integer(value, bits, flags) == written


@given(st.binary(max_size=700))
def test_strings_of_any_length_are_read_back(value: bytes) -> None:
    [field] = Decoder().decode(b"\x10\x01x" + string(value), raw=True)
    assert field == (b"x", value)


def test_a_constant_costs_one_byte_from_its_second_use() -> None:
    encoder = FieldEncoder()
    assert len(encoder.constant(NAME, VALUE)) > len(VALUE)
    assert encoder.constant(NAME, VALUE) == b"\xbe"
    encoder.constant(NAME, b"another")
    assert encoder.constant(NAME, VALUE) == b"\xbf"


def test_an_entry_that_just_fits_stays_and_one_byte_less_keeps_it_out() -> None:
    encoder = FieldEncoder()
    encoder.resize(SIZE)
    encoder.constant(NAME, VALUE)
    assert (encoder.size, encoder.constant(NAME, VALUE)) == (SIZE, b"\xbe")
    encoder.resize(SIZE - 1)
    assert encoder.size == 0
    encoder.constant(NAME, VALUE)
    assert encoder.size == 0
    [field] = Decoder().decode(encoder.constant(NAME, VALUE), raw=True)
    assert isinstance(field, NeverIndexedHeaderTuple)


def test_two_entries_that_just_fit_both_stay() -> None:
    encoder = FieldEncoder()
    encoder.resize(2 * SIZE)
    encoder.constant(NAME, VALUE)
    encoder.constant(NAME, VALUE[::-1])
    assert encoder.constant(NAME, VALUE) == b"\xbf"


@pytest.mark.parametrize(
    ("sizes", "written"),
    [
        ([4096], b""),
        ([65536], b""),
        ([0], b"\x20"),
        ([0, 4096], b"\x20\x3f\xe1\x1f"),
        ([100, 10, 50, 20], b"\x2a\x34"),
        ([10, 65536], b"\x2a\x3f\xe1\x1f"),
    ],
)
def test_a_changed_size_is_said_once_the_smallest_first(sizes: list[int], written: bytes) -> None:
    encoder = FieldEncoder()
    for size in sizes:
        encoder.resize(size)
    assert (encoder.updates(), encoder.updates()) == (written, b"")
