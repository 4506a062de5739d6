"""A receiver's intake and the core's reception, joined by a socket pair in one loop."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import uvloop

from momentum_push.errors import SpoolError, SpoolFull
from momentum_push.injection.frames import FromCore
from momentum_push.injection.intake import IntakeBusy
from momentum_push.injection.link import HIGH_WATER, Link
from momentum_push.injection.reception import Node, Reception
from momentum_push.injection.remote import Core, RemoteIntake, Reporter, Window
from momentum_push.injection.sessions import Quota, Sessions
from momentum_push.injection.vestibule import RemoteSessions
from momentum_push.message import MAX_LIST, Message, QueueKey, Refusal
from momentum_push.message.rules import Rules
from momentum_push.meters import Meters
from tests.helpers.conf import config
from tests.helpers.taking import DOMAIN, ORIGIN, Door, draft

CONF = f'domain "{DOMAIN}" {{ delivery_method = "apn" }}'
DEADLINE_S = 10.0


class Pair:
    """A core with one receiver."""

    def __init__(self) -> None:
        self.door = Door()
        self.asked: list[QueueKey] = []
        self.sessions = Sessions()
        records: Any = self.door
        node = Node(
            intake=self.door.intake,
            records=records,
            meters=self.door.meters,
            sessions=self.sessions,
            salt=self.door.store.salt,
            answers={"rules": self._rules},
        )
        self.lost = asyncio.Event()
        self.reception = Reception(node, lambda number, problem: None, self.lost.set)
        self.core = Core()
        self.core.link = Link(FromCore, self._on_frame, lambda: None)
        self.remote = RemoteIntake(self.core, config(CONF), self.door.store.salt, self.door.clock)
        self.meters = Meters()
        self.reporter = Reporter(self.core, self.meters)

    def _rules(self, keys: list[list[str]]) -> list[Rules]:
        self.asked += [QueueKey(*key) for key in keys]
        return [Rules(default_topic="com.example.news", topics=frozenset({"a", "b"})) for _ in keys]

    def _on_frame(self, frame: Any) -> None:
        if hasattr(frame, "value"):
            self.core.on_answer(frame)
        elif type(frame).__name__ == "Tell":
            self.reporter.report(frame.number)
        else:
            self.remote.on_outcome(frame)


@contextlib.asynccontextmanager
async def pair() -> AsyncIterator[Pair]:
    made = Pair()
    ours, theirs = socket.socketpair()
    loop = asyncio.get_running_loop()
    await loop.create_unix_connection(lambda: made.reception.link, sock=ours)
    await loop.create_unix_connection(lambda: made.core.link, sock=theirs)
    try:
        yield made
    finally:
        made.core.link.close()
        await made.lost.wait()


def play(scene: Callable[[Pair], Awaitable[None]]) -> None:
    async def main() -> None:
        async with asyncio.timeout(DEADLINE_S), pair() as made:
            await scene(made)

    uvloop.run(main())


def sequences(results: list[Message | Refusal]) -> list[int]:
    return [result.sequence for result in results if isinstance(result, Message)]


@pytest.mark.parametrize("count", [1, MAX_LIST, MAX_LIST + 1, 2 * MAX_LIST + 500])
def test_an_injection_of_any_length_is_kept_whole_and_answered_with_its_numbers(count: int) -> None:
    async def scene(made: Pair) -> None:
        results = await made.remote.accept(ORIGIN, [draft(count)])
        assert sequences(results) == made.door.store.sequences == list(range(1, count + 1))
        kept = [m for lists in made.door.store.commits for batch in lists for m in batch.messages]
        assert [message.token for message in kept] == draft(count).tokens
        assert kept[0].part.salt == made.door.store.salt
        assert made.door.receptions_written == sequences(results)

    play(scene)


def test_rules_are_asked_for_once_and_again_after_a_reload() -> None:
    async def scene(made: Pair) -> None:
        for _ in range(3):
            await made.remote.accept(ORIGIN, [draft()])
        assert made.asked == [QueueKey("default", "default", DOMAIN)]
        made.remote.follow(config(CONF))
        await made.remote.accept(ORIGIN, [draft()])
        assert len(made.asked) == 2

    play(scene)


def test_what_is_refused_never_reaches_the_core() -> None:
    async def scene(made: Pair) -> None:
        (result,) = await made.remote.accept(ORIGIN, [draft(domain="example.com")])
        assert isinstance(result, Refusal)
        bad = draft(2)
        bad.tokens[1] = "zz"
        results = await made.remote.accept(ORIGIN, [bad], whole=True)
        assert isinstance(results[1], Refusal)
        assert made.door.store.entered == 0

    play(scene)


@pytest.mark.parametrize("error", [SpoolFull("spool: no room"), SpoolError("spool: broken")])
def test_the_disk_s_error_is_the_sender_s(error: SpoolError) -> None:
    async def scene(made: Pair) -> None:
        made.door.fail(error)
        with pytest.raises(type(error), match=str(error)) as caught:
            await made.remote.accept(ORIGIN, [draft()])
        assert type(caught.value) is type(error)

    play(scene)


@pytest.mark.parametrize("count", [1, MAX_LIST + 1])
def test_a_core_that_is_closing_is_busy(count: int) -> None:
    async def scene(made: Pair) -> None:
        await made.door.intake.close()
        with pytest.raises(IntakeBusy):
            await made.remote.accept(ORIGIN, [draft(count)])

    play(scene)


def test_a_core_that_is_slow_has_no_more_than_a_window_of_injections() -> None:
    async def scene(made: Pair) -> None:
        await made.remote.accept(ORIGIN, [draft()])
        made.door.store.gate.clear()
        made.remote._window.limit = 3_000
        senders = [asyncio.create_task(made.remote.accept(ORIGIN, [draft()])) for _ in range(100)]
        await asyncio.sleep(0.05)
        assert 2 <= made.reception.unanswered <= 10
        made.door.store.gate.set()
        results = await asyncio.gather(*senders)
        assert len({one.sequence for (one,) in results if isinstance(one, Message)}) == 100
        assert made.remote._window.used == 0

    play(scene)


def test_a_large_injection_waits_for_a_core_that_does_not_read() -> None:
    """However many tokens a request has, what waits on the link is bounded."""

    async def scene(made: Pair) -> None:
        await made.remote.accept(ORIGIN, [draft()])
        transport = made.reception.link._transport
        assert transport is not None
        transport.pause_reading()
        large = asyncio.create_task(made.remote.accept(ORIGIN, [draft(40 * MAX_LIST)]))
        before, turns = -1, 0
        while turns < 100:  # until it stands still
            await asyncio.sleep(0)
            before, turns = made.core.link.backlog, turns + 1 if made.core.link.backlog == before > 0 else 0
        assert HIGH_WATER <= made.core.link.backlog < HIGH_WATER + 2 * 80 * MAX_LIST
        transport.resume_reading()
        assert len(sequences(await large)) == 40 * MAX_LIST

    play(scene)


def test_a_sender_who_leaves_in_the_middle_of_a_large_injection_leaves_nothing_in_the_core() -> None:
    async def scene(made: Pair) -> None:
        large = asyncio.create_task(made.remote.accept(ORIGIN, [draft(5 * MAX_LIST)]))
        while not made.reception._slices:
            await asyncio.sleep(0)
        large.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await large
        await made.remote.accept(ORIGIN, [draft()])  # behind whatever was said of the large one
        assert made.reception._slices == {}
        assert len(made.door.store.sequences) == 1
        assert made.remote._window.used == 0

    play(scene)


def test_a_receiver_that_ends_is_counted_out() -> None:
    async def scene(made: Pair) -> None:
        quotas = [Quota("line 1", 2), Quota("line 2", 5)]
        sessions = RemoteSessions(made.core)
        assert [await sessions.may_enter(quotas) for _ in range(3)] == [True, True, False]
        sessions.leave(quotas)
        assert await sessions.may_enter(quotas)
        made.meters.inbound_sessions["http"] = 7
        made.meters.rejections["http", "BadPath"] += 3
        await made.reception.tell()
        assert made.door.meters.inbound_sessions["http"] == 7
        made.core.link.close()
        await made.lost.wait()
        assert repr(made.sessions) == "<Sessions {}>"
        assert made.door.meters.inbound_sessions["http"] == 0
        assert made.door.meters.rejections["http", "BadPath"] == 3

    play(scene)


def test_a_question_that_fails_says_so_and_the_link_goes_on() -> None:
    async def scene(made: Pair) -> None:
        with pytest.raises(Exception, match="nonsense failed"):
            await made.core.ask("nonsense")
        await made.remote.accept(ORIGIN, [draft()])

    play(scene)


def test_a_window_lets_one_in_alone_and_the_others_in_turn() -> None:
    async def main() -> None:
        window, order = Window(10), []

        async def hold(name: str, size: int) -> None:
            await window.take(size)
            order.append(name)
            await asyncio.sleep(0)
            assert window.used <= 10 or window.used == size
            window.give_back(size)

        await asyncio.gather(hold("large", 50), hold("a", 6), hold("b", 6), hold("c", 4), hold("d", 20))
        assert order == ["large", "a", "b", "c", "d"]
        assert window.used == 0

    asyncio.run(main())


def test_who_gives_up_waiting_leaves_no_place_taken() -> None:
    async def main() -> None:
        window = Window(10)
        await window.take(10)
        waiting = [asyncio.create_task(window.take(10)) for _ in range(2)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        await asyncio.gather(*waiting[:1], return_exceptions=True)
        window.give_back(10)
        waiting[1].cancel()  # in the turn in which it was given its place
        await asyncio.gather(*waiting, return_exceptions=True)
        assert window.used == 0

    asyncio.run(main())
