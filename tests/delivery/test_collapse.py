"""`collapse_waiting` at work: records, disk, and what is sent."""

from __future__ import annotations

import asyncio

from momentum_push.message.ids import format_mid
from momentum_push.spool import Disk
from tests.helpers.delivery import opened_world, turns
from tests.helpers.lists import NOW, QUEUE, part, token_of

FERRY = part(collapse_id="ferry")


def test_of_what_waits_only_the_newest_is_sent_and_the_others_have_their_record() -> None:
    async def scenario() -> None:
        async with opened_world(collapse_waiting=True) as world:
            world.queue.hold(NOW + 60, "test")
            await world.put(2, shared=FERRY, token=token_of(7), lane=5)
            await world.put(1, shared=FERRY, token=token_of(8))
            await world.put(1, shared=FERRY, token=token_of(7))
            await world.advance(60)
            assert sorted(world.sends) == [3, 4]
            texts = {item.message.sequence: item.text for item in world.log.written}
            assert texts == dict.fromkeys((1, 2), f"554 5.4.8 [internal] collapsed into {format_mid(4)}")
            assert await world.stored() == 2
            assert world.meters.permfails == {(QUEUE.domain, QUEUE.binding, "Collapsed"): 2}

    asyncio.run(scenario())


def test_what_only_the_disk_knows_collapses_when_it_is_read() -> None:
    async def scenario() -> None:
        async with opened_world(collapse_waiting=True, max_resident=2) as world:
            world.queue.hold(NOW + 60, "test")
            for number in range(1, 7):
                await world.put(1, shared=FERRY, token=token_of(number % 2))
            assert world.queue.stored > 0
            await world.advance(60)
            await turns(100)
            assert sorted(world.sends) == [5, 6]
            assert await world.stored() == 2

    asyncio.run(scenario())


def test_a_retry_collapses_into_what_came_meanwhile() -> None:
    async def scenario() -> None:
        async with opened_world(collapse_waiting=True) as world:
            await world.put(1, shared=FERRY, token=token_of(7))
            await world.put(1, shared=FERRY, token=token_of(7))
            world.connections[0].answer(1, 503, "ServiceUnavailable")
            world.connections[0].answer()
            await turns()
            await world.advance(1200)
            assert (world.sends[1], world.sends[2], world.log.kinds()) == (1, 1, {"T": 1, "D": 1, "P": 1})

    asyncio.run(scenario())


def test_by_default_every_message_is_sent_and_no_table_is_kept() -> None:
    async def scenario() -> None:
        async with opened_world() as world:
            await world.put(2, shared=FERRY, token=token_of(7))
            assert (len(world.sends), world.queue.collapse) == (2, None)

    asyncio.run(scenario())


def test_when_it_is_turned_on_what_waits_in_memory_is_known() -> None:
    async def scenario() -> None:
        async with opened_world() as world:
            world.queue.hold(NOW + 60, "test")
            await world.put(2, shared=FERRY, token=token_of(7))
            world.pool.configure(world.settings(collapse_waiting=True))
            await world.advance(60)
            assert list(world.sends) == [2]

    asyncio.run(scenario())


def test_after_a_restart_what_is_read_together_collapses() -> None:
    async def scenario() -> None:
        disk = Disk()
        async with opened_world(disk=disk) as world:
            world.queue.hold(NOW + 60, "test")
            await world.put(2, shared=FERRY, token=token_of(7))
            await world.put(1, shared=FERRY, token=token_of(7))
        disk.is_open = False
        async with opened_world(disk=disk, collapse_waiting=True) as world:
            world.queues.recall(await world.spool.overview())
            await world.advance(1)
            assert list(world.sends) == [3]

    asyncio.run(scenario())
