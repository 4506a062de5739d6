"""What was cancelled has its record, is off the disk, is never sent; what is on its way is not touched."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

import pytest

from momentum_push.delivery.records import CANCELLED
from momentum_push.delivery.withdraw import Canceller
from momentum_push.errors import SpoolError
from momentum_push.message import Cancel, Cancelled, Kind, MessageList
from tests.helpers.delivery import World, opened_world, turns
from tests.helpers.lists import NOW, QUEUE, part, token_of


def play(scene: Callable[[World, Canceller], Awaitable[None]], **options: object) -> None:
    async def scenario() -> None:
        async with asyncio.timeout(20), opened_world(**options) as world:
            queues, settler = world.queues, world.settler
            forget = lambda key, messages: world.pool.forget(messages)  # noqa: E731
            await scene(world, Canceller(queues, world.spool, settler, world.clock, forget))

    asyncio.run(scenario())


async def cancel(canceller: Canceller, *numbers: int) -> Cancelled:
    found = [await canceller.cancel(Cancel(sequence=number), is_ours) for number in numbers]
    return Cancelled(sum(one.removed for one in found), sum(one.busy for one in found))


def is_ours(domain: str) -> bool:
    return domain == QUEUE.domain


def recorded(world: World) -> list[int]:
    return [item.message.sequence for item in world.log.written if item.text == CANCELLED]


async def later(world: World, count: int = 3, seconds: float = 60) -> MessageList:
    """Messages that are scheduled, so that only the disk knows them."""
    at = world.clock.now() + seconds
    return await world.put(count, due=at, shared=part(deliver_at=at))


def test_what_waits_in_memory_is_removed_from_disk_before_the_answer() -> None:
    async def scene(world: World, canceller: Canceller) -> None:
        world.queue.hold(NOW + 60, "test")
        await world.put(3)
        assert await cancel(canceller, 2) == Cancelled(1, 0)
        assert (await world.stored(), recorded(world), world.queues.resident) == (2, [2], 2)
        assert world.meters.permfails == {(QUEUE.domain, QUEUE.binding, "Cancelled"): 1}
        await world.advance(60)
        assert list(world.sends) == [1, 3]

    play(scene)


def test_what_is_delayed_in_memory_is_removed_and_the_rest_of_its_list_goes_on() -> None:
    async def scene(world: World, canceller: Canceller) -> None:
        await world.put(3)
        world.connections[0].answer(status=503, reason="ServiceUnavailable")
        await world.settler.flush()
        assert world.queue.delayed == 3
        assert await cancel(canceller, 1, 3) == Cancelled(2, 0)
        assert (world.queue.delayed, await world.stored()) == (1, 1)
        await world.advance(1200)
        assert (world.sends[1], world.sends[2], world.sends[3]) == (1, 2, 1)

    play(scene)


def test_what_only_the_disk_knows_is_removed_there() -> None:
    async def scene(world: World, canceller: Canceller) -> None:
        await later(world)
        await later(world, 1)
        assert (world.queues.resident, world.queue.stored) == (0, 4)
        assert await cancel(canceller, 2, 4) == Cancelled(2, 0)
        assert (world.queues.resident, world.queue.stored, await world.stored()) == (0, 2, 2)
        await world.advance(60)
        await turns()
        assert sorted(world.sends) == [1, 3]

    play(scene)


@pytest.mark.parametrize("has_room", [True, False])
def test_a_page_that_was_read_before_does_not_bring_it_back(has_room: bool) -> None:
    async def scene(world: World, canceller: Canceller) -> None:
        await later(world)
        read, gate = world.spool.page, asyncio.Event()

        async def slow(*place: object) -> list[MessageList]:
            page = await read(*place)  # type: ignore[arg-type]
            await gate.wait()
            return page

        world.spool.page = slow  # type: ignore[assignment,method-assign]
        await world.advance(60)
        world.spool.page = read  # type: ignore[method-assign]
        world.queue.hold(NOW + 90, "test")
        if not has_room:
            world.queues.set_max_resident(1)
            await world.put(1)
        assert await cancel(canceller, 2) == Cancelled(1, 0)
        gate.set()
        await turns(100)
        await world.advance(60)
        await turns(100)
        assert sorted(world.sends) == [1, 3] + [4] * (not has_room)

    play(scene)


def test_what_is_on_its_way_is_busy_and_what_is_gone_is_not_found() -> None:
    async def scene(world: World, canceller: Canceller) -> None:
        await world.put(2)
        assert await cancel(canceller, 1, 2) == Cancelled(0, 2)
        world.connections[0].answer()
        await world.settler.flush()
        assert await cancel(canceller, 1, 99) == Cancelled(0, 0)
        assert world.log.kinds() == {"D": 2}

    play(scene)


def test_under_drop_what_has_its_mark_is_on_its_way() -> None:
    async def scene(world: World, canceller: Canceller) -> None:
        await world.put(3)
        assert await cancel(canceller, 1, 2, 3) == Cancelled(0, 3)

    play(scene, room=1, drops_unknown=True)


def test_a_collapse_id_takes_all_of_one_device_or_of_all_wherever_they_are() -> None:
    async def scene(world: World, canceller: Canceller) -> None:
        world.queue.hold(NOW + 600, "test")
        ferry, at = part(collapse_id="ferry"), NOW + 900
        await world.put(2, shared=ferry, token=token_of(7))
        await world.put(2, shared=part(collapse_id="other"), token=token_of(7))
        await world.put(2, shared=ferry, token=token_of(8), lane=5)
        await world.put(2, due=at, shared=part(collapse_id="ferry", deliver_at=at), token=token_of(7))
        wish = Cancel(domain=QUEUE.domain.upper(), collapse_id="ferry", token=token_of(7))
        assert await canceller.cancel(wish, is_ours) == Cancelled(4, 0)
        assert sorted(recorded(world)) == [1, 2, 7, 8]
        wish = Cancel(domain=QUEUE.domain, collapse_id="ferry")
        assert await canceller.cancel(wish, is_ours) == Cancelled(2, 0)
        assert await canceller.cancel(wish, lambda domain: False) == Cancelled(0, 0)
        assert await world.stored() == 2

    play(scene)


def test_a_domain_that_the_sender_may_not_use_is_not_found() -> None:
    async def scene(world: World, canceller: Canceller) -> None:
        await later(world)
        assert await canceller.cancel(Cancel(sequence=1), lambda domain: False) == Cancelled(0, 0)

    play(scene)


def test_while_records_cannot_be_written_nothing_is_taken_out() -> None:
    async def scene(world: World, canceller: Canceller) -> None:
        await world.put(2)
        world.log.is_failing = True
        world.connections[0].answer(1)
        with pytest.raises(SpoolError):
            await cancel(canceller, 2)
        world.log.is_failing = False

    play(scene)


@pytest.mark.parametrize("seed", range(30))
def test_among_everything_else_each_message_is_cancelled_or_delivered_and_never_both(seed: int) -> None:
    async def scene(world: World, canceller: Canceller) -> None:
        dice = random.Random(seed)
        wishes: list[asyncio.Task[Cancelled]] = []
        for _ in range(60):
            match dice.randrange(5):
                case 0:
                    await world.put(dice.randint(1, 5), lane=dice.choice((10, 5)))
                case 1:
                    await later(world, dice.randint(1, 5), dice.choice((1, 5)))
                case 2 if world.put_count:
                    number = dice.randint(1, world.put_count)
                    wishes.append(asyncio.ensure_future(canceller.cancel(Cancel(sequence=number), is_ours)))
                case 3:
                    status, reason = dice.choice([(200, ""), (503, "ServiceUnavailable")])
                    for connection in world.connections:
                        connection.answer(dice.randint(0, 3), status, reason)
                case _:
                    await world.advance(dice.choice((0.5, 2)))
            await turns(dice.randrange(4))
        removed = sum([(await wish).removed for wish in wishes])
        for _ in range(40):
            await world.advance(300)
            await turns(60)
            for connection in world.connections:
                connection.answer()
            await turns(60)
        assert await world.stored() == 0
        finals = [item.message.sequence for item in world.log.written if item.kind is not Kind.TEMPFAIL]
        assert sorted(finals) == list(range(1, world.put_count + 1))
        assert len(recorded(world)) == removed
        assert (world.queues.resident, world.queues.resident_bytes) == (0, 0)

    play(scene, room=3, max_resident=12)
