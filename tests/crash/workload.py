"""What a daemon does to its spool, in a hurry and by dice: run below the recorder, and shot at the end.

    python -m tests.crash.workload FOLDER SEED STEPS [--no-fsync]

Each step takes lists in, notes who may have been sent, settles some of what is waiting (some of it into
lists to be tried again), or rests, so that the writer tidies up. The log is small and the free pages are
given back at once, so a few hundred steps go through checkpoints, logs that begin anew and shrinking files
many times. Marks in the recorder's log say what was asked and what was answered:

    ["base", facts]                             what the spool held when it was opened
    ["reserves", number]                        message numbers below it are asked for
    ["asks", highest]                           an operation is about to be handed in; `highest` is the
                                                highest message number that anybody has been given so far
    ["call", number, facts]                     what it changed, now that the lists have their numbers:
                                                facts that become true, or were and are no more
    ["done", number]                            it was acknowledged

Facts are [list, attempts, sequences] for messages that wait, [list, SENT, sequences] for those of them that
may have been sent, and [key, KEY, [first]] for receipts of what was injected under a key: a receipt that is
there without its list, or a list without its receipt, is no state that any calls lead to. Calls are marked in
the order in which the writer gets them, so what is on a disk must be the work of the first so many of them.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import random
import sys
from collections.abc import Callable, Coroutine, Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from momentum_push.clock import ManualClock
from momentum_push.errors import SpoolError
from momentum_push.message import Message, MessageList, Refusal
from momentum_push.message.keys import Key, Outline, Receipt
from momentum_push.meters import Meters
from momentum_push.spool import SqliteSpool, folder, open_sqlite, sequences, writer
from momentum_push.spool.database import Database
from tests.helpers.lists import NOW, message, part, queue_key
from tests.helpers.spools import everything

__all__ = ["KEY", "SENT", "facts_of", "make_small", "receipts_in"]

SENT = -1
KEY = -2

Fact = tuple[int, int, list[int]]

_WAITING = 500
"""Messages that a spool holds in the end, so that it can be read in a millisecond or two."""

_mark = ctypes.CDLL(None).__getattr__("recorder_mark") if "RECORDER_LOG" in os.environ else None


def say(*what: Any) -> None:
    """Put a mark into the recorder's log."""
    if _mark is not None:
        _mark(json.dumps(what, separators=(",", ":")).encode())


def make_small() -> None:
    """Let what happens once in a million messages happen every few steps."""
    _say_reservations()
    for module, name, value in (
        (folder, "RESERVE_BYTES", 1 << 16),
        (sequences, "BLOCK", 512),
        (writer, "_REST_S", 0.001),
        (writer, "_PAGES_A_REST", 5),
    ):
        assert hasattr(module, name), f"{module.__name__}.{name} has gone; shrink what stands in its place"
        setattr(module, name, value)
    folder.SpoolFolder.log_pages = property(lambda self: 30)  # type: ignore[method-assign,assignment]
    assert Database.give_back.__defaults__ is not None
    Database.give_back.__defaults__ = (0,)


def _say_reservations() -> None:
    wanted = sequences.Sequences.wanted

    def heard(self: sequences.Sequences) -> int:
        if number := wanted(self):
            say("reserves", number)
        return number

    sequences.Sequences.wanted = heard  # type: ignore[method-assign]


class Workload:
    """One incarnation of the daemon's use of its spool."""

    def __init__(self, spool: SqliteSpool, dice: random.Random, path: Path) -> None:
        self.spool = spool
        self.path = path
        self.dice = dice
        self.calls = 0
        self.highest = 0
        self.waiting: list[MessageList] = []
        self.tasks: set[asyncio.Task[None]] = set()

    async def run(self, steps: int) -> None:
        self.waiting = await everything(self.spool)
        say("base", [*facts_of(self.waiting), *receipts_in(self.path)])
        for _ in range(steps):
            await self.step()
        await asyncio.sleep(self.dice.choice([0, 0, 0.002]))

    async def step(self) -> None:
        """Do one to five things at once, so that a commit has more than one; wait for some of them."""
        for _ in range(self.dice.choice([1, 1, 2, 5])):
            total = sum(item.home.remaining for item in self.waiting)
            if self.dice.random() < (0.7 if total < _WAITING else 0.2):
                await self.take_in()
            elif self.waiting and self.dice.random() < 0.3:
                self.mark()
            elif self.waiting:
                self.settle()
        if self.dice.random() < 0.7 and self.tasks:
            await asyncio.wait(self.tasks)
        if self.dice.random() < 0.05:
            await asyncio.sleep(0.01)  # a rest: the writer gives pages back

    async def take_in(self) -> None:
        """Lists of one or two queues, together as a request makes them."""
        lists = []
        for _ in range(self.dice.choice([1, 1, 1, 3])):
            count = self.dice.choice([1, 1, 3, 20, 100])
            try:
                first = self.spool.take_sequences(count)
            except SpoolError:  # the stock is being filled; intake answers 503
                await asyncio.sleep(0)
                continue
            self.highest = first + count - 1
            lists.append(self.new_list(first, count))
        if lists:
            receipts = self.receipts_for(lists) if self.dice.random() < 0.4 else []
            self.start(lambda: self.spool.append(lists, receipts), lists, _facts_of_receipts(receipts))
        await asyncio.sleep(0)  # appends reach the writer when their task runs, settles at the call

    def receipts_for(self, lists: Sequence[MessageList]) -> list[Receipt]:
        """One for each list; their names are numbers, and some take pages, for all that was refused."""
        outline = Outline()
        texts = [self.dice.randbytes(50).hex() for _ in range(self.dice.choice([0, 0, 1, 100]))]
        outline.add([Refusal("BadDeviceToken", text) for text in texts])
        count, packed = outline.count, outline.packed()
        firsts = [item.messages[0].sequence for item in lists]
        return [
            Receipt(Key(first.to_bytes(16, "big"), b"body"), NOW, first, count, packed) for first in firsts
        ]

    def new_list(self, first: int, count: int) -> MessageList:
        shared, own = part(received_at=NOW + self.calls), self.dice.random() < 0.3
        many = [
            message(number, part=shared, payload=self.dice.randbytes(self.dice.choice([50, 700])))
            if own
            else message(number, part=shared)
            for number in range(first, first + count)
        ]
        queue = queue_key(domain=self.dice.choice(["news.apns", "weather.apns"]))
        return MessageList.gather(queue, self.dice.choice([10, 5]), NOW, many, 0)

    def mark(self) -> None:
        """Some are about to be sent, or come back unsent."""
        changed: list[Fact] = []
        some = self.dice.sample(self.waiting, min(len(self.waiting), 3))
        for item in some:
            turned = [each for each in item.messages if self.dice.random() < 0.5]
            for each in turned:
                (item.home.unmark if item.home.is_marked(each.place) else item.home.mark)(each.place)
            changed.append((item.home.number, SENT, [each.sequence for each in turned]))
        homes = [item.home for item in some]
        self.start(lambda: self.spool.mark_sent(homes), [], changed)

    def settle(self) -> None:
        """Answers for a few lists: some messages leave, some go into a list of their own."""
        gone: list[Fact] = []
        retries: list[MessageList] = []
        homes = []
        for item in self.dice.sample(self.waiting, min(len(self.waiting), self.dice.choice([1, 3, 8]))):
            share = self.dice.choice([0.1, 0.5, 1, 1])
            leaving = [each for each in item.messages if share == 1 or self.dice.random() < share]
            if not leaving:
                continue
            gone += facts_of([MessageList(item.home, leaving)])
            for each in leaving:
                item.home.leave(each.place)
            homes.append(item.home)
            self.keep(item, leaving)
            if self.dice.random() < 0.2:
                retries.append(_again(item, leaving))
        self.start(lambda: self.spool.settle(homes, retries), retries, gone)

    def keep(self, item: MessageList, leaving: Sequence[Message]) -> None:
        left = {id(each) for each in leaving}
        self.waiting.remove(item)
        rest = [each for each in item.messages if id(each) not in left]
        if rest:
            self.waiting.append(MessageList(item.home, rest))

    def start(
        self, ask: Callable[[], Coroutine[Any, Any, None]], added: list[MessageList], changed: list[Fact]
    ) -> None:
        """Hand an operation in, with a mark before it, and note its answer.

        Args:
            added: new lists, which can be worked with after the answer;
            changed: facts beside them that are true now, or no more.
        """
        self.calls += 1
        say("asks", self.highest)
        work = ask()
        say("call", self.calls, [*facts_of(added), *changed])
        task = asyncio.get_running_loop().create_task(self._answer(self.calls, work, added))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _answer(self, number: int, work: Coroutine[Any, Any, None], added: list[MessageList]) -> None:
        await work
        say("done", number)
        self.waiting.extend(added)


def _again(item: MessageList, leaving: Sequence[Message]) -> MessageList:
    home = item.home
    return MessageList.gather(home.queue, home.lane, home.due + 60, list(leaving), home.attempts + 1)


def facts_of(lists: Iterable[MessageList]) -> list[Fact]:
    """What is true of the messages in `lists`."""
    facts: list[Fact] = []
    for item in lists:
        home, messages = item.home, item.messages
        facts.append((home.number, home.attempts, [each.sequence for each in messages]))
        sent = [each.sequence for each in messages if home.is_marked(each.place)]
        if sent:
            facts.append((home.number, SENT, sent))
    return facts


def _facts_of_receipts(receipts: Iterable[Receipt]) -> list[Fact]:
    """What is true of receipts: small numbers for names, as sets of facts are hashed."""
    return [(int.from_bytes(receipt.key.name, "big"), KEY, [receipt.first]) for receipt in receipts]


def receipts_in(path: Path) -> list[Fact]:
    """The receipts of the spool in a folder, which may be open."""
    with closing(Database(path / "spool.db", is_writer=False)) as database:
        return _facts_of_receipts(database.receipts())


async def _main(path: Path, seed: str, steps: int, force_fsync: bool) -> None:
    make_small()
    spool = await open_sqlite(path, force_fsync=force_fsync, meters=Meters(), clock=ManualClock())
    assert isinstance(spool, SqliteSpool)
    work = Workload(spool, random.Random(seed), path)
    await work.run(steps)
    if work.dice.random() < 0.3:  # a daemon that is stopped, not shot
        if work.tasks:
            await asyncio.wait(work.tasks)
        await spool.close()
    os._exit(0)


if __name__ == "__main__":
    asyncio.run(_main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), "--no-fsync" not in sys.argv))
