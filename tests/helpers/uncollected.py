"""What is freed at once, and what only the garbage collector finds.

with uncollected():        no collector: what refers to itself stays
    …
    alive(ssl.SSLObject)   how many of these there are
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator

__all__ = ["alive", "uncollected"]


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Run without the garbage collector; what lay about before is gone."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def alive(kind: type) -> int:
    """Return how many objects of exactly this type there are."""
    return sum(type(each) is kind for each in gc.get_objects())
