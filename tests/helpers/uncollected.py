"""What is freed at once, and what only the garbage collector finds.

with uncollected(ssl.SSLObject) as left:    no collector: what refers to itself stays
    …
    left()                                  what there is of these types that was not there before
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Iterator

__all__ = ["uncollected"]


@contextlib.contextmanager
def uncollected(*types: type) -> Iterator[Callable[[], list[object]]]:
    """Run without the garbage collector; yield a look at what has been made of these types and is left."""

    def found() -> list[object]:
        return [each for each in gc.get_objects() if type(each) in types]

    gc.collect()
    before = found()  # held, so that nothing new gets one of their places
    known = set(map(id, before))
    gc.disable()
    try:
        yield lambda: [each for each in found() if id(each) not in known]
    finally:
        gc.enable()
