"""`sequences.py`: the stock of message numbers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from momentum_push.errors import SpoolError
from momentum_push.message.ids import SEQUENCE_BITS
from momentum_push.spool.sequences import BLOCK, Sequences


def test_nothing_is_handed_out_before_it_is_reserved() -> None:
    stock = Sequences(100)
    with pytest.raises(SpoolError, match=r"^spool: 1 message ids were asked for, 0 are reserved; see why"):
        stock.take(1)
    stock.fill(stock.wanted())
    assert stock.take(1) == 100


def test_a_refill_is_asked_for_once() -> None:
    stock = Sequences(0)
    assert stock.wanted() == 2 * BLOCK
    assert stock.wanted() == 0


def test_the_stock_is_filled_when_less_than_a_block_is_left() -> None:
    stock = Sequences(0)
    stock.fill(stock.wanted())
    stock.take(BLOCK)
    assert stock.wanted() == 0
    stock.take(1)
    assert stock.wanted() == 3 * BLOCK + 1


@given(st.lists(st.one_of(st.integers(1, BLOCK), st.just(-1)), max_size=50))
def test_numbers_never_repeat_and_never_pass_what_is_reserved(steps: list[int]) -> None:
    """-1 is a crash: the next stock begins at what is on disk."""
    on_disk, last = 0, -1
    stock = Sequences(on_disk)
    for count in steps:
        if count < 0:
            stock = Sequences(on_disk)
        on_disk = max(on_disk, stock.wanted())
        stock.fill(on_disk)
        if count > 0:
            first = stock.take(count)
            assert last < first and first + count <= on_disk
            last = first + count - 1


def test_the_last_number_is_the_end() -> None:
    stock = Sequences((1 << SEQUENCE_BITS) - 10)
    stock.fill(stock.wanted())
    stock.take(10)
    assert stock.wanted() == 0
    with pytest.raises(SpoolError):
        stock.take(1)
