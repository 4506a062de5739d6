"""momentum_push/meters.py"""

from hypothesis import given
from hypothesis import strategies as st

from momentum_push.meters import DELIVERY_BOUNDS_S, Histogram

SECONDS = st.one_of(st.floats(0.0, 40.0), st.sampled_from(DELIVERY_BOUNDS_S))


@given(st.lists(st.lists(SECONDS, max_size=5)))
def test_to_observe_many_at_once_is_to_observe_each(reads: list[list[float]]) -> None:
    together, apart = Histogram(DELIVERY_BOUNDS_S), Histogram(DELIVERY_BOUNDS_S)
    for read in reads:
        together.observe_all(read)
        for value in read:
            apart.observe(value)
    assert together.buckets == apart.buckets
    assert abs(together.total - apart.total) < 1e-6
