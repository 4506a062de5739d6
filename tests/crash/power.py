"""Power cuts: let the workload run below the recorder, cut at random points, and ask each disk what it holds.

    Recorder.run ─► log ─► Story (what was promised when) ─┐
                     └───► Disk ─► image ─► open_sqlite ────┴─► Finding, where it is not what was promised

The law is one sentence: what is on the disk is the work of the first so many operations, all of each and
nothing of the next, at least those that were acknowledged before the cut and at most those that were
asked for. So a message is never lost, never there twice, never back once its removal was acknowledged,
and an operation is never done by half.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import random
import shutil
import subprocess
import sys
import zlib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple
from unittest import mock

import pytest
from structlog.testing import capture_logs

from momentum_push.clock import ManualClock
from momentum_push.errors import SpoolError
from momentum_push.meters import Meters
from momentum_push.spool import faults, open_sqlite
from momentum_push.spool import folder as spool_folder
from momentum_push.spool.database import Database
from tests.crash.history import Cut, Disk, Entry, read_log
from tests.crash.workload import KEY, SENT, facts_of, receipts_in
from tests.helpers.servers import needs
from tests.helpers.spools import everything

__all__ = ["Finding", "Result", "cuts"]

HERE = Path(__file__).parent
RUN_S = 60.0

State = frozenset[tuple[int, int, int]]
"""(list, attempts, message) of everything that waits, (list, SENT, message) where it may have been sent,
(key, KEY, first message) of each receipt."""


class Recorder:
    """The recorder, and what it records into `folder`."""

    def __init__(self, library: Path, folder: Path) -> None:
        self.library = library
        self.folder = folder
        self.disk = folder / "disk"
        self.log = folder / "log"

    def run(self, *arguments: str) -> None:
        """Run the workload once; it ends without a goodbye, as by SIGKILL, and mostly in mid-work."""
        environment = {
            **os.environ,
            "LD_PRELOAD": str(self.library),
            "RECORDER_ROOT": str(self.disk),
            "RECORDER_LOG": str(self.log),
        }
        command = [sys.executable, "-m", "tests.crash.workload", str(self.disk / "spool"), *arguments]
        done = subprocess.run(
            command, env=environment, cwd=HERE.parents[1], capture_output=True, text=True, timeout=RUN_S
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def entries(self) -> list[Entry]:
        return list(read_log(self.log.read_bytes()))

    def shown(self) -> dict[str, bytes]:
        """Every file that is there, by path; without SQLite's index of the log, which is not recorded."""
        files = (path for path in self.disk.rglob("*") if path.is_file())
        return {
            str(path.relative_to(self.disk)): path.read_bytes()
            for path in files
            if not path.name.endswith("-shm")
        }


def build(folder: Path) -> Path:
    """Build the recorder; the test is skipped where there is no C compiler."""
    library = folder / "recorder.so"
    command = [needs("cc", "gcc libc6-dev"), "-shared", "-fPIC", "-O1", "-Wall", "-Wextra"]
    done = subprocess.run(
        [*command, "-o", library, HERE / "recorder.c", "-ldl", "-lpthread"], capture_output=True, text=True
    )
    if "stdio.h" in done.stderr or "dlfcn.h" in done.stderr:
        pytest.skip("libc's header files is not installed; on Debian: apt-get install libc6-dev")
    assert done.returncode == 0 and not done.stderr, done.stderr
    return library


@contextmanager
def in_memory() -> Iterator[Path]:
    """A folder in memory where there is one: a thousand disks are written, and none of them is needed."""
    memory = Path("/dev/shm")
    where = memory if os.access(memory, os.W_OK) else None
    with TemporaryDirectory(prefix="momentum-push-power-", dir=where) as folder:
        yield Path(folder)


class Promise(NamedTuple):
    """What may be on the disk at some point: one of the states from `least` to `most`."""

    least: int
    most: int
    highest: int
    """No new message may get a number up to this one."""


@dataclass
class Story:
    """What the marks tell: a state after each operation, and the promise at each entry of the log."""

    start: State
    keys: list[int] = field(default_factory=list)
    """A state's key: order does not matter, and one operation changes it by what it did."""
    promises: list[Promise] = field(default_factory=list)
    marks: list[Any] = field(default_factory=list)
    """By state: what led to it."""

    def tell(self, entries: Sequence[Entry]) -> Story:
        self.keys, self.marks = [key_of(self.start)], [["base", None]]
        now, base = Promise(0, 0, 0), 0
        for entry in entries:
            if entry.kind == "M":
                what, *values = entry.mark
                if what == "asks":
                    now = now._replace(most=now.most + 1, highest=max(now.highest, values[0]))
                elif what == "done":
                    now = now._replace(least=max(now.least, base + values[0]))
                elif what == "call":
                    self.keys.append(self.keys[-1] ^ key_of(_each(values[1])))
                    self.marks.append(entry.mark)
                elif what == "base":
                    base = len(self.keys)
                    self._begin(values[0], now)
                    now = now._replace(least=base, most=base)
            self.promises.append(now)
        return self

    def _begin(self, facts: list[Any], before: Promise) -> None:
        """A run has opened the spool: what it found must have been promised; nothing was cut here."""
        state = frozenset(_each(facts))
        assert key_of(state) in self.keys[before.least : before.most + 1], "a restart changed the spool"
        self.keys.append(key_of(state))
        self.marks.append(["base", state])

    def state(self, number: int) -> State:
        """Work a state out, to say what is wrong."""
        state: set[tuple[int, int, int]] = set(self.start)
        for mark in self.marks[1 : number + 1]:
            if mark[0] == "base":
                state = set(mark[1])
                continue
            state ^= set(_each(mark[2]))
        return frozenset(state)


def _each(facts: Iterable[Any]) -> Iterator[tuple[int, int, int]]:
    return ((number, what, sequence) for number, what, sequences in facts for sequence in sequences)


def key_of(facts: Iterable[tuple[int, int, int]]) -> int:
    """A number for a set: whatever the order, and what changes changes it by its own."""
    key = 0
    for number, what, sequence in facts:
        key ^= hash((number, what, sequence, number ^ sequence << 7))
    return key


class Finding(NamedTuple):
    """A disk that does not hold what was promised."""

    where: str
    kind: str
    """lost: acknowledged operations are missing, and nothing else is wrong; reused: a message's number
    would be given out again; broken: all else."""
    what: str


@dataclass
class Result:
    """What came of many cuts."""

    images: int = 0
    findings: list[Finding] = field(default_factory=list)
    seen: dict[str, int] = field(default_factory=dict)
    """How often what happened, to see that the story had everything in it."""

    def of(self, kind: str) -> list[Finding]:
        return [finding for finding in self.findings if finding.kind == kind]


def cuts(images: int, seed: str, *, chains: int = 2, **how: Any) -> Result:
    """Cut the power `images` times, in as many processes as there are chains of disks; see `chain`."""
    total = Result()
    with in_memory() as folder, ProcessPoolExecutor(chains, multiprocessing.get_context("spawn")) as pool:
        library = build(folder)
        seeds = [f"{seed} {number}" for number in range(chains)]
        for result in pool.map(partial(_chain, library, images // chains, **how), seeds):
            total.images += result.images
            total.findings += result.findings
            for what, count in result.seen.items():
                total.seen[what] = total.seen.get(what, 0) + count
    return total


def _chain(library: Path, images: int, seed: str, **how: Any) -> Result:
    return asyncio.run(chain(library, images, seed, **how))


async def chain(
    library: Path,
    images: int,
    seed: str,
    *,
    generations: int = 3,
    steps: int = 80,
    options: Sequence[str] = (),
) -> Result:
    """Cut the power `images` times along one chain of disks.

    Each generation begins on a disk that the one before left at a cut, and is two runs without a cut
    between them: the first is shot, as kill -9 would, so what it wrote is still there without being synced.
    """
    result, dice = Result(), random.Random(seed)
    with in_memory() as folder, mock.patch.object(spool_folder, "RESERVE_BYTES", 1 << 16):
        recorder = Recorder(library, folder)
        recorder.disk.mkdir()
        state: State = frozenset()
        for generation in range(generations):
            disk = Disk(recorder.disk)
            recorder.log.unlink(missing_ok=True)
            for run in range(2):
                recorder.run(f"{seed} {generation} {run}", str(steps), *options)
            entries = recorder.entries()
            _see(entries, disk, result)
            story = Story(state).tell(entries)
            share = (images - result.images) // (generations - generation)
            points = _points(entries, share, dice)
            last = await _cut_at(
                points, entries, disk, story, recorder.folder, f"{seed} {generation}", result
            )
            assert disk.shown() == recorder.shown(), "something was written that the recorder did not see"
            shutil.rmtree(recorder.disk)
            if last is None:  # what is on that disk is not known to be good
                recorder.disk.mkdir()
                state = frozenset()
            else:
                (folder / "next").rename(recorder.disk)
                state = last
    return result


def _points(entries: Sequence[Entry], count: int, dice: random.Random) -> list[int]:
    """Where to cut: half of them anywhere, half right behind an answer, where a missing sync shows."""
    answers = [number for number, entry in enumerate(entries) if entry.kind == "M" and "done" in entry.name]
    anywhere = dice.choices(range(len(entries)), k=count - count // 2)
    return sorted(anywhere + dice.choices(answers, k=count // 2))


async def _cut_at(
    points: Sequence[int],
    entries: Sequence[Entry],
    disk: Disk,
    story: Story,
    folder: Path,
    seed: str,
    result: Result,
) -> State | None:
    """Cut behind each of the entries `points`; leave one disk in `next` and return what it holds."""
    chosen = points[len(points) * 2 // 3]
    state: State | None = None
    due = list(points)
    for number, entry in enumerate(entries):
        disk.take(entry)
        turn = 0
        while due and due[0] == number:
            due.pop(0)
            name = f"{seed} {number} {turn}"
            disk.cut(Cut.roll(name), folder / "image")
            found, finding = await _look(folder / "image", story, story.promises[number], name)
            shutil.rmtree(folder / "image")
            result.images += 1
            result.findings += [finding] if finding else []
            if number == chosen and not finding and not (folder / "next").exists():
                disk.cut(Cut.roll(name), folder / "next")
                state = found
            turn += 1
    return state


async def _look(image: Path, story: Story, promise: Promise, name: str) -> tuple[State, Finding | None]:
    """Open a disk as the daemon would, and compare it with the promise."""
    path = image / "spool"
    try:
        with capture_logs() as events:
            spool = await open_sqlite(path, meters=Meters(), clock=ManualClock())
            try:
                lists, receipts = await everything(spool), receipts_in(path)
                first = spool.take_sequences(1)
            finally:
                await spool.close()
        wrong = _faults(path / "spool.db") if zlib.crc32(name.encode()) % 4 == 0 else []
    except SpoolError as error:
        return frozenset(), Finding(name, "broken", str(error))
    wrong += [str(event) for event in events if event["log_level"] in ("error", "critical", "warning")]
    state = frozenset(_each([*facts_of(lists), *receipts]))
    if wrong:
        return state, Finding(name, "broken", "; ".join(wrong))
    finding = _compare(state, story, promise, name)
    if finding is None and first <= promise.highest:
        what = f"message {promise.highest} had been given out, and {first} comes next"
        finding = Finding(name, "reused", what)
    return state, finding


def _faults(path: Path) -> list[str]:
    """Return what `spool check` finds; it reads everything again and is the dearest part of a look."""
    with closing(Database(path)) as database:
        return [f"{where}: {why}" for where, why in faults(database)]


def _compare(state: State, story: Story, promise: Promise, name: str) -> Finding | None:
    key, earlier = key_of(state), story.keys[: promise.least]
    if key in story.keys[promise.least : promise.most + 1]:
        return None
    if key in earlier:
        behind = 1 + earlier[::-1].index(key)
        return Finding(name, "lost", f"the last {behind} acknowledged operations are not there")
    least = story.state(promise.least)
    return Finding(
        name, "broken", f"too few: {sorted(least - state)[:5]}…, too many: {sorted(state - least)[:5]}…"
    )


_MARKS = {"call": "an operation", "done": "an acknowledgement", "reserves": "numbers are reserved"}


def _see(entries: Sequence[Entry], disk: Disk, result: Result) -> None:
    """Count what happened to the database and its log."""
    names = dict(disk.paths)
    sizes: dict[int, int] = {}
    for entry in entries:
        if entry.kind == "C":
            names[entry.inode] = entry.name
        name = names.get(entry.inode, "")
        what = ""
        if entry.kind == "W" and name == "spool/spool.db-wal" and not entry.number:
            what = "the log begins anew"
        elif entry.kind == "W" and name == "spool/spool.db":
            what = "a page moves into the database"
        elif entry.kind == "T" and name == "spool/spool.db" and entry.number < sizes.get(entry.inode, 0):
            what = "the database shrinks"
        elif entry.kind == "T" and name == "spool/reserve":
            what = "the reserve is taken"
        elif entry.kind == "M":
            what = _MARKS.get(entry.mark[0], "")
            if entry.mark[0] == "call" and any(kind == SENT for _, kind, _ in entry.mark[2]):
                what = "marks of what may have been sent"
            elif entry.mark[0] == "call" and any(kind == KEY for _, kind, _ in entry.mark[2]):
                result.seen["keys and their lists"] = result.seen.get("keys and their lists", 0) + 1
        if entry.kind == "W":
            sizes[entry.inode] = max(sizes.get(entry.inode, 0), entry.number + len(entry.data))
        elif entry.kind == "T":
            sizes[entry.inode] = entry.number
        if what:
            result.seen[what] = result.seen.get(what, 0) + 1
