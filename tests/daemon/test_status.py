"""Pictures of queues and pools, as those who look in from the side get them."""

from __future__ import annotations

import asyncio

from momentum_push.daemon.status import queue_statuses
from momentum_push.delivery.fleet import LIMIT_SHOWN_S
from momentum_push.exposition import QueueStatus
from tests.helpers.delivery import World, opened_world
from tests.helpers.lists import QUEUE

LABELS = (QUEUE.domain, QUEUE.binding)


def status(world: World, has_pool: bool = True) -> QueueStatus:
    pools = {QUEUE: world.pool} if has_pool else {}
    now = world.clock.now()
    (found,) = queue_statuses(world.queues.all(), pools, world.meters, now)
    return found


def test_messages_on_their_way_are_active_and_resident() -> None:
    async def scenario() -> None:
        async with opened_world(room=2, max_connections=1) as world:
            await world.put(5)
            await world.put(3, due=world.clock.now() + 60)
            world.clock.advance(7)
            found = status(world)
            assert (found.active, found.delayed, found.resident, found.streams_in_flight) == (5, 3, 8, 2)
            assert (found.connections, found.oldest_age_s, found.receptions) == ({"open": 1}, 7.0, 8)
            assert (found.binding_group, found.binding, found.domain) == QUEUE

    asyncio.run(scenario())


def test_counters_are_summed_over_reasons() -> None:
    async def scenario() -> None:
        async with opened_world() as world:
            await world.put(4)
            link = world.connections[0]
            link.answer(1)
            link.answer(1, 410, "Unregistered")
            link.answer(1, 400, "BadTopic")
            link.answer(1, 503, "ServiceUnavailable")
            world.meters.permfails["other.apns", "default", "BadTopic"] += 7
            found = status(world)
            assert (found.deliveries, found.permfails, found.transfails) == (1, 2, 1)

    asyncio.run(scenario())


def test_a_connection_that_is_being_made_is_counted() -> None:
    async def scenario() -> None:
        async with opened_world() as world:
            world.gate = asyncio.Event()
            await world.put(1)
            assert status(world).connections == {"connecting": 1}

    asyncio.run(scenario())


def test_a_queue_at_its_limit_of_connections_says_what_limits_it_until_it_is_over() -> None:
    async def scenario() -> None:
        async with opened_world(room=10, max_connections=1, rtt=1.0) as world:
            await world.put(1)
            assert (status(world).limited_by, status(world).connections_needed) == ("", 0)
            world.connections[0].answer()
            await world.put(700)
            found = status(world)
            assert (found.limited_by, found.connections_needed) == ("streams", 3)
            while world.flying:
                world.connections[0].answer()
                await world.advance(0)
            await world.advance(LIMIT_SHOWN_S + 1)
            assert (status(world).limited_by, status(world).connections_needed) == ("", 0)

    asyncio.run(scenario())


def test_a_queue_without_pool_has_no_connections() -> None:
    async def scenario() -> None:
        async with opened_world(is_suspended=True) as world:
            await world.put(2)
            found = status(world, has_pool=False)
            assert (found.active, found.connections, found.streams_in_flight) == (2, {}, 0)

    asyncio.run(scenario())


def test_an_age_is_never_negative() -> None:
    async def scenario() -> None:
        async with opened_world(is_suspended=True) as world:
            await world.put(1)
            world.clock.jump(-3600)
            assert status(world).oldest_age_s == 0.0

    asyncio.run(scenario())
