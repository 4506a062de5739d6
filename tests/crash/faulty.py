"""A spool on a disk with faults, in a process of its own below `faults.c`; run by `test_faults.py`.

    python -m tests.crash.faulty FOLDER CONTROL < cases as JSON        prints what is not as it should be

Each case is a spool of its own. It appends and settles all the time; in the middle the fault begins, and in
"many" cases goes on until half of the rest is done. The laws, whatever the fault:

    1. while it lasts a copy of the disk holds what was acknowledged, and nothing that nobody asked for
    2. when it is over the spool is writable again by itself, and every settle has been done
    3. then, and in a copy of the disk: every acknowledged message, no settled one, no refused one
"""

from __future__ import annotations

import asyncio
import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import msgspec
import structlog

from momentum_push.clock import SystemClock
from momentum_push.errors import SpoolError
from momentum_push.message import MessageList
from momentum_push.meters import Meters
from momentum_push.spool import SqliteSpool, faults, folder, open_sqlite, writer
from momentum_push.spool.check import at_rest
from tests.helpers.lists import message_list
from tests.helpers.spools import sequences_in, until

__all__ = ["Case"]

ROUNDS = 24
BEGIN, END = 6, 15
PER_LIST = 30
RECOVER_S = 5.0
PAYLOAD = b'{"aps":{"alert":"%s"}}' % (b"x" * 2000)


class Case(msgspec.Struct, frozen=True):
    """One fault; see `faults.c`."""

    kind: str
    suffix: str
    error: str
    skip: int = 0
    count: int = 1
    drops: bool = False

    def text(self) -> bytes:
        values = (
            self.kind,
            self.suffix,
            getattr(errno, self.error),
            self.skip,
            self.count,
            0,
            int(self.drops),
        )
        return " ".join(map(str, ("1", *values))).encode()


class Trial:
    """One spool, and what it ought to hold."""

    def __init__(self, place: Path, control: Path, case: Case) -> None:
        self.place = place
        self.control = control
        self.case = case
        self.held: dict[MessageList, set[int]] = {}
        self.refused: set[int] = set()
        self.leaving: set[int] = set()
        self.left: set[int] = set()
        self.settles: list[asyncio.Task[None]] = []
        self.next = 1
        self.refusals = 0

    async def run(self) -> list[str]:
        spool = await self.open(self.place)
        try:
            return await self._run(spool)
        finally:
            self.arm(b"0")
            await spool.close()

    async def _run(self, spool: SqliteSpool) -> list[str]:
        problems: list[str] = []
        for number in range(ROUNDS):
            if number == BEGIN:
                self.arm(self.case.text())
            if number == END:
                problems += await self.compare_copy("meanwhile", self.asked())
                self.arm(b"0")
            await self.append(spool)
            self.settle(spool)
            await self.read(spool)
        try:
            await until(lambda: spool.is_writable, RECOVER_S)
        except TimeoutError:
            return [*problems, f"still not writable: {spool.obstacle}"]
        await asyncio.wait_for(asyncio.gather(*self.settles), RECOVER_S)
        await self.append(spool)
        if set(await sequences_in(spool)) != self.expected():
            problems.append(f"after it: {self.differences(set(await sequences_in(spool)))}")
        return problems + await self.compare_copy("in the end", self.expected())

    async def open(self, place: Path) -> SqliteSpool:
        return await open_sqlite(place, meters=Meters(), clock=SystemClock(), probe_interval_s=0.02)

    def arm(self, text: bytes) -> None:
        with self.control.open("r+b", buffering=0) as file:
            file.write(b"0")
            os.pwrite(file.fileno(), b" " + text[1:].ljust(300, b"\0"), 0)
            os.pwrite(file.fileno(), text[:1], 0)

    async def append(self, spool: SqliteSpool) -> None:
        item = message_list(PER_LIST, first=self.next, payload=PAYLOAD)
        self.next += PER_LIST
        numbers = {message.sequence for message in item.messages}
        try:
            await spool.append([item])
        except SpoolError:
            self.refused |= numbers
            self.refusals += 1
        else:
            self.held[item] = numbers

    async def read(self, spool: SqliteSpool) -> None:
        """What can be read is what is there, and mostly it can be."""
        try:
            found = set(await sequences_in(spool))
        except SpoolError:
            self.refusals += 1
            return
        assert self.acknowledged() - self.leaving <= found <= self.asked() | self.leaving, (
            "read what is not there"
        )

    def settle(self, spool: SqliteSpool) -> None:
        """Some of a list leave, and the list itself at the third time."""
        number = len(self.settles) // 3
        if number >= len(self.held):
            return
        item = list(self.held)[number]
        done = {message.sequence for message in item.messages[: 10 * (len(self.settles) % 3 + 1)]}
        for message in item.messages[: len(done)]:
            item.home.leave(message.place)
        self.leaving |= done
        self.settles.append(asyncio.ensure_future(self._settle(spool.settle([item.home]), done)))

    async def _settle(self, work: Coroutine[Any, Any, None], done: set[int]) -> None:
        await work
        self.left |= done

    def acknowledged(self) -> set[int]:
        return set().union(*self.held.values())

    def expected(self) -> set[int]:
        return self.acknowledged() - self.left

    def asked(self) -> set[int]:
        """All that a disk may hold on which the last transaction is as it is after a failed sync."""
        return (self.acknowledged() | self.refused) - self.left

    async def compare_copy(self, when: str, most: set[int]) -> list[str]:
        """Open a copy of the disk; it holds at least what was acknowledged and nobody asked to leave."""
        least = self.acknowledged() - self.leaving
        copy = self.control.with_name("copy")
        shutil.rmtree(copy, ignore_errors=True)
        copy.mkdir()
        # By another process, which has no faults; the log first: one that is older than the database does
        # no harm as long as it was not begun anew twice meanwhile.
        files = [name for name in ("spool.db-wal", "spool.db") if (self.place / name).exists()]
        subprocess.run(["cp", *(self.place / name for name in files), copy], env={}, check=True, timeout=30)
        spool = await self.open(copy)
        found = set(await sequences_in(spool))
        await spool.close()
        with at_rest(copy) as database:
            wrong = [str(fault) for fault in faults(database)]
        shutil.rmtree(copy)
        if not least <= found or not found <= most:
            wrong.append(f"lost {sorted(least - found)[:5]}, came back {sorted(found - most)[:5]}")
        return [f"{when}: {text}" for text in wrong]

    def differences(self, found: set[int]) -> str:
        expected = self.expected()
        return f"lost {sorted(expected - found)[:5]}, came back {sorted(found - expected)[:5]}"


def main() -> None:
    place, control = Path(sys.argv[1]), Path(sys.argv[2])
    cases = msgspec.json.decode(sys.stdin.buffer.read(), type=list[Case])
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    folder._LOG_PAGES = 100
    folder.RESERVE_BYTES = 1 << 20
    writer.MAX_BYTES = 1 << 20
    for number, case in enumerate(cases):
        trial = Trial(place / f"{number}" / "spool", control, case)
        trial.place.parent.mkdir(parents=True)
        problems: list[str] = []
        try:
            problems = asyncio.run(trial.run())
        except (TimeoutError, SpoolError, OSError, AssertionError) as error:
            problems = [f"{type(error).__name__}: {error}"]
        shutil.rmtree(trial.place.parent)
        print(
            json.dumps({"case": msgspec.to_builtins(case), "problems": problems, "refusals": trial.refusals})
        )


if __name__ == "__main__":
    main()
