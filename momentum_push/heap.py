"""The C library's heap, whose free pages go back to the system, and Python's collector of cycles, kept calm.

    below 512 bytes    Python's own arenas; not our business
    below 128 KiB      the heap, in at most two arenas: the loop's, and one for all other threads
    above              a mapping of its own, gone when it is freed

Left alone, glibc raises that last border to the size of whatever was freed, up to 32 MiB. Then each
connection's TLS buffer (256 KiB), each large body and each list's row lie on the heap between small things
that stay, and the holes they leave are never whole again: the process grows for hours although nothing
in it does. It also gives each new thread an arena, whose holes serve nobody else. So the borders are fixed
at start, and once a minute whole pages that are free are given back (`trim`, below 1 ms).

What the operator says by `MALLOC_ARENA_MAX` and the like, or by GLIBC_TUNABLES, stays as it is. Where the C
library is not glibc nothing is done. Source: mallopt(3), malloc_trim(3).

Python frees what nobody refers to at once; its collector only looks for rings of objects that refer to each
other. It comes whenever 700 containers more were made than freed, and goes through all young ones and what
they hold, in one go: with the results of a request of a million tokens among them that is 0.2 s for which
the loop stands still, and 3 % of all CPU at other times. We make no rings by message, request or connection,
and what libraries make is little. So `calm` has it come after YOUNG containers, a few milliseconds of its
work, and leave alone for ever what the start has made: modules, classes, the configuration. What lies about
unseen is bounded by that.
"""

from __future__ import annotations

import ctypes
import gc
import os
from collections.abc import Mapping

__all__ = ["TRIM_S", "calm", "settle", "trim"]

TRIM_S = 60.0

LARGE_BYTES = 128 << 10
SPARE_BYTES = 1 << 20
"""What may lie free at the end of the heap, so that it is not grown and cut with each burst."""
ARENAS = 2

YOUNG = 20_000
"""Containers that are made, beyond those that are freed, before the collector looks at them."""

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # malloc.h

_SETTINGS = {
    "MALLOC_MMAP_THRESHOLD_": (_M_MMAP_THRESHOLD, LARGE_BYTES),
    "MALLOC_TRIM_THRESHOLD_": (_M_TRIM_THRESHOLD, SPARE_BYTES),
    "MALLOC_ARENA_MAX": (_M_ARENA_MAX, ARENAS),
}
"""By the variable that the operator would set instead."""

_libc = ctypes.CDLL(None)


def settle(environ: Mapping[str, str] = os.environ) -> list[str]:
    """Fix the borders, before threads are started; return the settings that were made, by their variables."""
    mallopt = getattr(_libc, "mallopt", None)
    if mallopt is None or "GLIBC_TUNABLES" in environ:
        return []
    wanted = {name: setting for name, setting in _SETTINGS.items() if name not in environ}
    return [name for name, (parameter, value) in wanted.items() if mallopt(parameter, value)]


def trim() -> None:
    """Give free pages back to the system."""
    malloc_trim = getattr(_libc, "malloc_trim", None)
    if malloc_trim is not None:
        malloc_trim(ctypes.c_size_t(SPARE_BYTES))


def calm() -> None:
    """Have the collector come seldom, and leave alone what there is now; once, when all is started."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG)
