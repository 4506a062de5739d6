"""What Apple says of one token is about that token alone."""

from __future__ import annotations

import asyncio

from momentum_push.delivery.screening import TokenHolds
from tests.helpers.delivery import opened_world, turns
from tests.helpers.lists import NOW, part, token_of

RETRY_S = 1200


def test_a_token_is_held_until_its_time_and_the_longest_counts() -> None:
    holds = TokenHolds()
    holds.hold("a", NOW + 10)
    holds.hold("a", NOW + 5)
    assert (holds.until("a", NOW), holds.until("b", NOW)) == (NOW + 10, 0)
    assert (holds.until("a", NOW + 10), len(holds)) == (0, 0)


def test_the_table_is_bounded_and_lets_the_first_one_go() -> None:
    holds = TokenHolds(limit=2)
    for token in "abac":
        holds.hold(token, NOW + 10)
    assert [bool(holds.until(token, NOW)) for token in "abc"] == [True, False, True]


def test_too_many_requests_holds_that_token_and_nobody_else() -> None:
    async def scenario() -> None:
        async with opened_world() as world:
            await world.put(1, token=token_of(7))
            world.connections[0].answer(1, 429, "TooManyRequests")
            await world.put(2, token=token_of(7))
            await world.put(1, token=token_of(8))
            assert sorted(world.sends) == [1, 4]
            world.connections[0].answer()
            assert world.log.kinds() == {"T": 1, "D": 1}, "who waits has no record"
            await turns()
            await world.advance(RETRY_S - 1)
            assert sorted(world.sends) == [1, 4]
            await world.advance(1)
            assert (world.sends[1], world.sends[2], world.sends[3]) == (2, 1, 1)
            world.connections[0].answer()
            assert await world.stored() == 0
            assert {item.attempt for item in world.log.written if item.message.sequence in (2, 3)} == {1}

    asyncio.run(scenario())


def test_what_waits_in_memory_for_a_full_connection_is_held_too() -> None:
    async def scenario() -> None:
        async with opened_world(room=1, max_connections=1) as world:
            await world.put(3, token=token_of(7))
            world.connections[0].answer(1, 429, "TooManyRequests")
            await turns(100)
            assert list(world.sends) == [1]
            assert (world.queue.active, world.queue.delayed, await world.stored()) == (0, 3, 3)

    asyncio.run(scenario())


def test_a_held_message_that_expires_is_not_sent_late() -> None:
    async def scenario() -> None:
        async with opened_world() as world:
            await world.put(1, token=token_of(7))
            world.connections[0].answer(1, 429, "TooManyRequests")
            await world.put(1, token=token_of(7), shared=part(expiration=int(NOW) + 60))
            await world.advance(RETRY_S)
            assert (world.sends[1], world.sends[2]) == (2, 0)
            assert world.log.kinds() == {"T": 1, "P": 1}

    asyncio.run(scenario())


def test_under_drop_a_held_message_is_sent_once_when_its_token_is_free() -> None:
    async def scenario() -> None:
        async with opened_world(drops_unknown=True) as world:
            await world.put(1, token=token_of(7))
            world.connections[0].answer(1, 429, "TooManyRequests")
            await world.put(1, token=token_of(7))
            await turns(100)
            assert world.sends[2] == 0
            await world.advance(RETRY_S)
            await turns(100)
            assert world.sends[2] == 1

    asyncio.run(scenario())
