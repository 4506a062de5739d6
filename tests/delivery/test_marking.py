"""At most once: the mark is on disk before a connection gets the message, over crashes and restarts too."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from momentum_push.delivery.marking import AHEAD, Marking
from momentum_push.delivery.pool import TURN
from momentum_push.delivery.records import FORSAKEN
from momentum_push.delivery.settings import Limit
from momentum_push.errors import SpoolError
from momentum_push.message import Home, Kind, Message
from momentum_push.queues import Queue
from momentum_push.spool import Disk
from tests.delivery.test_pool import ACCUSED, STEP, do, finish
from tests.helpers.delivery import World, opened_world, turns
from tests.helpers.lists import NOW, QUEUE, message_list


def play(scene: Callable[[World], Awaitable[None]], **options: Any) -> None:
    """Play a scene in a world whose unknown outcomes are dropped."""

    async def scenario() -> None:
        async with asyncio.timeout(20), opened_world(**({"drops_unknown": True} | options)) as world:
            await scene(world)

    asyncio.run(scenario())


def marks(world: World) -> int:
    """Messages that wait on disk and are marked there."""
    rows = [row for row in world.disk.rows.values() if row.sent]
    return sum(sum(map(int.bit_count, map(int.__and__, row.sent, _waiting(row.progress)))) for row in rows)


def _waiting(progress: bytes) -> list[int]:
    return [byte ^ 0xFF for byte in progress]


def frozen(disk: Disk) -> Disk:
    """What a disk holds at this moment; it is what a crash leaves."""
    copy = Disk()
    copy.rows, copy.salt = dict(disk.rows), disk.salt
    copy.number, copy.sequence = disk.number, disk.sequence
    return copy


async def restarted(before: World, disk: Disk, exposed: set[int], **options: Any) -> World:
    """Another life on what a crash left; `exposed` is what Apple may have by then."""
    world = World(disk=disk, options={"drops_unknown": True} | options)
    world.clock.advance(before.clock.now() - NOW)
    world.put_count, world.exposed = before.put_count, set(exposed)
    world.queues.recall(await world.spool.overview())
    world.queues.wake(world.clock.now())
    await turns(40)
    return world


async def over(world: World) -> None:
    await world.pool.stop(0.0)
    await world.settler.flush()
    await world.queues.close()


# --- order


def test_what_a_connection_gets_is_marked_on_disk() -> None:
    """The order is checked by the world at every message that is sent."""

    async def scene(world: World) -> None:
        await world.put(1000)
        await world.put(500, lane=5)
        assert len(world.flying) == marks(world) == 1500

    play(scene)


def test_while_the_disk_takes_no_marks_nothing_is_sent() -> None:
    async def scene(world: World) -> None:
        gate = asyncio.Event()
        mark_sent = world.spool.mark_sent

        async def later(work: Coroutine[Any, Any, None]) -> None:
            await gate.wait()
            await work

        world.spool.mark_sent = lambda homes: later(mark_sent(homes))  # type: ignore[method-assign]
        await world.put(1000)
        assert not world.flying and len(world.pool._marking) <= AHEAD
        assert world.pool.unsettled == len(world.pool._marking), "operators would not see them"
        gate.set()
        await turns(60)
        assert len(world.flying) == 1000

    play(scene)


def test_marks_that_the_spool_refuses_leave_the_messages_waiting_for_a_second() -> None:
    async def scene(world: World) -> None:
        mark_sent = world.spool.mark_sent

        async def refuse(homes: Sequence[Home]) -> None:
            raise SpoolError("spool: closed")

        world.spool.mark_sent = refuse  # type: ignore[method-assign,assignment]
        await world.put(3)
        assert not world.flying and world.queue.active == 3
        world.spool.mark_sent = mark_sent  # type: ignore[method-assign]
        await world.advance(1.1)
        assert len(world.flying) == 3

    play(scene)


def test_marking_is_ahead_by_a_bounded_number_in_the_order_of_the_queue() -> None:
    async def scenario() -> None:
        queue = Queue(QUEUE)
        batch = message_list(5000)
        queue.lanes[10].add(batch, NOW)
        spool = Written()
        woken: list[bool] = []
        stage = Marking(
            queue,
            spool,
            give_up=lambda messages, now: None,
            wake=lambda: woken.append(True),
            come_back=lambda seconds: None,
        )
        assert stage.take(TURN, NOW) == [] and spool.calls == 1
        got: list[Message] = []
        while len(got) < 4000:
            assert len(stage) <= AHEAD
            await turns(2)
            got += stage.take(TURN, NOW)
        assert [message.sequence for message in got] == list(range(1, len(got) + 1))
        assert spool.calls <= len(got) / TURN + 3, "a commit for less than a turn's worth"
        assert woken

    asyncio.run(scenario())


class Written:
    """A spool that takes every mark."""

    def __init__(self) -> None:
        self.calls = 0

    async def _write(self) -> None:
        await asyncio.sleep(0)

    def mark_sent(self, homes: Sequence[Home]) -> Coroutine[Any, Any, None]:
        self.calls += 1
        return self._write()


# --- what is not sent after all


def test_without_a_connection_nothing_is_marked() -> None:
    async def scene(world: World) -> None:
        world.refuse()
        await world.put(1000)
        assert marks(world) == 0 and len(world.pool._marking) == 0

    play(scene)


def test_what_stands_ready_when_the_pool_stops_is_unmarked() -> None:
    async def scene(world: World) -> None:
        await world.put(1000)
        assert len(world.flying) == 7 and marks(world) > 7
        world.connections[0].answer()
        await turns()
        await world.pool.stop(0.0)
        await turns()
        assert await world.stored() == 1000 - 14
        assert marks(world) == 0, "what was in flight is recorded, what was not may be sent"

    play(scene, room=7, max_connections=1)


def test_a_hold_unmarks_what_stands_ready() -> None:
    async def scene(world: World) -> None:
        await world.put(1000)
        world.connections[0].answer(3, **ACCUSED)
        await turns()
        assert world.pool.is_suspended and marks(world) == len(world.flying)

    play(scene, room=20, max_connections=1)


def test_a_probe_marks_one_message() -> None:
    async def scene(world: World) -> None:
        await world.put(1000)
        world.connections[0].answer(**ACCUSED)
        await turns()
        assert marks(world) == 0
        await world.advance(1.1)
        assert len(world.flying) == marks(world) == 1

    play(scene, room=20, max_connections=1)


def test_a_throttle_marks_little_more_than_it_lets_through() -> None:
    async def scene(world: World) -> None:
        await world.put(1000)
        assert len(world.flying) == 10 and marks(world) <= 20

    play(scene, throttle=Limit(("t", 1), 10, 1))


def test_what_was_refused_is_unmarked_and_goes_again() -> None:
    async def scene(world: World) -> None:
        world.gate = asyncio.Event()
        world.gate.set()
        await world.put(10)
        world.gate.clear()
        world.connections[0].refuse()
        await turns()
        assert marks(world) == len(world.flying) == 0
        world.gate.set()
        await turns()
        assert len(world.flying) == marks(world) == 10
        assert set(world.sends.values()) == {2}

    play(scene)


def test_a_temporary_answer_makes_a_new_list_without_marks() -> None:
    async def scene(world: World) -> None:
        await world.put(10)
        world.connections[0].answer(status=503, reason="ServiceUnavailable")
        await turns()
        assert await world.stored() == 10 and marks(world) == 0
        await world.advance(1300)
        assert len(world.flying) == 10

    play(scene)


# --- after a crash


def test_after_a_crash_what_was_sent_is_given_up_and_what_was_not_is_sent() -> None:
    async def scene(world: World) -> None:
        await world.put(1000)
        sent = set(world.flying)
        crash = frozen(world.disk)
        marked = marks(world)
        assert len(sent) == 7 and marked - len(sent) <= AHEAD
        again = await restarted(world, crash, sent)
        await finish(again)
        gone = [item for item in again.log.written if item.kind is Kind.PERMFAIL]
        assert len(gone) == marked == sum(again.meters.unknown_outcomes.values())
        assert sent <= {item.message.sequence for item in gone}
        assert {(item.reason, item.status, item.attempt, item.remote) for item in gone} == {
            (FORSAKEN, 255, 1, "")
        }
        assert again.log.kinds() == {"P": marked, "D": 1000 - marked}
        assert await again.stored() == 0
        await over(again)

    play(scene, room=7, max_connections=1)


def test_any_number_of_marked_messages_is_given_up_without_help_from_outside() -> None:
    async def scene(world: World) -> None:
        world.refuse()
        for _ in range(3):
            batch = await world.put(1000)
            for place in range(1000):
                batch.home.mark(place)
            await world.spool.mark_sent([batch.home])
        await world.put(1)
        again = await restarted(world, frozen(world.disk), set())
        await turns(100)
        assert again.log.kinds() == {"P": 3000} and len(again.flying) == 1
        await over(again)

    play(scene)


def test_after_a_crash_with_the_option_changed_to_retry_everything_is_sent() -> None:
    async def scene(world: World) -> None:
        await world.put(100)
        again = await restarted(world, frozen(world.disk), world.exposed, drops_unknown=False)
        await finish(again)
        assert again.log.kinds() == {"D": 100}
        await over(again)

    play(scene)


def test_in_retry_mode_nothing_is_marked() -> None:
    async def scene(world: World) -> None:
        batch = await world.put(100)
        world.connections[0].refuse()
        await world.advance(1.1)
        assert len(world.flying) == 100 and batch.home.sent is None and marks(world) == 0

    play(scene, drops_unknown=False)


def test_a_reload_changes_the_way_at_once() -> None:
    async def scene(world: World) -> None:
        await world.put(100)
        assert marks(world) > 10 == len(world.flying)
        world.pool.configure(world.settings(**world.options | {"drops_unknown": False}))
        await turns()
        assert marks(world) == 10, "what is ready goes back, what is sent keeps its mark"
        world.connections[0].answer(5)
        await turns()
        assert len(world.flying) == 10 and marks(world) == 5
        world.connections[0].goaway("Shutdown")
        await turns()
        assert marks(world) == 0
        world.pool.configure(world.settings(**world.options))
        await finish(world)
        assert world.log.kinds() == {"D": 100}, "a message that was unmarked was given up"

    play(scene, room=10, max_connections=1)


async def crash(steps: list[tuple[str, int]], room: int) -> None:
    async with opened_world(room=room, drops_unknown=True, max_connections=2) as world:
        for step, value in steps:
            await do(world, step, value)
        disk, exposed = frozen(world.disk), set(world.exposed)
        recorded = [item.message.sequence for item in world.log.written if item.kind is not Kind.TEMPFAIL]
        again = await restarted(world, disk, exposed, max_connections=2)
        await finish(again)
        recorded += [item.message.sequence for item in again.log.written if item.kind is not Kind.TEMPFAIL]
        assert set(recorded) == set(range(1, world.put_count + 1)), "without a record"
        assert (again.queues.resident, await again.stored()) == (0, 0)
        await over(again)


@settings(max_examples=60, deadline=None)
@given(st.lists(STEP, max_size=30), st.sampled_from([1, 5, 1000]))
def test_whatever_happened_before_a_crash_nothing_is_sent_twice_and_everything_is_recorded(
    steps: list[tuple[str, int]], room: int
) -> None:
    asyncio.run(crash(steps, room))


@pytest.mark.parametrize("moment", range(12))
def test_at_whatever_turn_of_the_loop_the_crash_comes(moment: int) -> None:
    async def scene(world: World) -> None:
        put = asyncio.get_running_loop().create_task(world.put(50))
        await turns(moment)
        disk, exposed = frozen(world.disk), set(world.exposed)
        await put
        again = await restarted(world, disk, exposed)
        await finish(again)
        await over(again)

    play(scene, room=5, max_connections=1)
