"""The borders of the C library's heap, each seen in a process of its own."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from pathlib import Path

import pytest

from momentum_push import heap

glibc = pytest.mark.skipif(
    not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="needs glibc 2.33 to look into the heap"
)

FOLDER = str(Path(heap.__file__).parent)

LOOK = """
import ctypes
import sys
from pathlib import Path

sys.path.insert(0, sys.argv[1])  # without the rest of the daemon, which takes seconds to import
import heap

class Info(ctypes.Structure):
    names = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"
    _fields_ = [(name, ctypes.c_size_t) for name in names.split()]

look = ctypes.CDLL(None).mallinfo2
look.restype = Info

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
"""


def run(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", LOOK + code, FOLDER], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


LARGE = """
large = bytearray(16 << 20)
del large  # glibc's own rule: from now on less than that is no reason for a mapping
before = look().hblks
buffers = [bytearray(256 << 10) for _ in range(10)]
print(look().hblks - before)
"""


@glibc
def test_a_large_buffer_is_a_mapping_of_its_own_whatever_was_freed_before() -> None:
    assert run(LARGE) == "0", "glibc has changed its rule; see whether ours is still of use"
    assert int(run("heap.settle()" + LARGE)) >= 8, "a hole that was there before may take one"


@glibc
def test_threads_share_one_arena() -> None:
    """Eight threads that hold memory at once: glibc gives each of them an arena, and a top that stays."""
    code = """
import threading
held, all_hold = [], threading.Barrier(9)
def work():
    held.append([bytearray(1000) for _ in range(10)])
    all_hold.wait()
threads = [threading.Thread(target=work) for _ in range(8)]
for thread in threads:
    thread.start()
all_hold.wait()
stats = Path("/proc/self/maps").read_text()
import re
# an arena of a thread begins at a multiple of 64 MiB, and the rest of these is kept for it, closed
spans = re.findall(r"^([0-9a-f]+)-([0-9a-f]+) (\\S+) ", stats, re.M)
starts = {int(a, 16) for a, b, mode in spans if mode == "rw-p" and int(a, 16) % (64 << 20) == 0}
print(len(starts))
"""
    assert int(run(code)) > 1
    assert int(run("heap.settle()" + code)) == 1


@glibc
def test_trim_gives_back_the_pages_between_what_stays() -> None:
    assert (
        run("""
heap.settle()
many = [bytearray(50_000) for _ in range(2000)]
before = resident()
many = many[::20]
held = resident()
heap.trim()
print(before - held < 20 << 20 and held - resident() > 50 << 20)
""")
        == "True"
    )


def test_what_the_operator_says_stays() -> None:
    assert "MALLOC_ARENA_MAX" not in heap.settle({"MALLOC_ARENA_MAX": "8"})
    assert heap.settle({"GLIBC_TUNABLES": "glibc.malloc.arena_max=8"}) == []


def test_the_collector_keeps_calm_and_rings_are_bounded_all_the_same() -> None:
    """What was there is never looked at again; rings that come later go when there are enough of them."""
    code = """
import gc
import weakref
class Ring:
    def __init__(self):
        self.other = self
passes, dead = [], []
gc.callbacks.append(lambda phase, info: passes.append(phase))
heap.calm()
frozen = gc.get_freeze_count()
passes.clear()
alive = most = 0
def gone(ring):
    global alive
    alive -= 1
for number in range(3 * heap.YOUNG):
    ring = Ring()
    dead.append(weakref.ref(ring, gone))
    alive += 1
    most = max(most, alive)
print(frozen > 1000, most <= heap.YOUNG + 1, 0 < len(passes) < 20)
"""
    assert run(code) == "True True True"
