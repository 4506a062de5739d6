"""`budget.py`: who finds no room waits, and nobody for ever."""

from __future__ import annotations

import asyncio

from momentum_push.spool.budget import ByteBudget


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_who_does_not_fit_waits_and_those_behind_do_not_overtake() -> None:
    async def scenario() -> None:
        budget = ByteBudget(10)
        await budget.take(8)
        order: list[str] = []

        async def taker(name: str, size: int) -> None:
            await budget.take(size)
            order.append(name)

        tasks = [asyncio.create_task(taker("large", 9)), asyncio.create_task(taker("small", 1))]
        await settled()
        assert order == []
        budget.give(8)
        await asyncio.gather(*tasks)
        assert order == ["large", "small"] and budget.used == 10

    asyncio.run(scenario())


def test_what_is_larger_than_the_budget_goes_alone() -> None:
    async def scenario() -> None:
        budget = ByteBudget(10)
        await asyncio.wait_for(budget.take(50), 1)
        waiting = asyncio.create_task(budget.take(1))
        await settled()
        assert not waiting.done()
        budget.give(50)
        await asyncio.wait_for(waiting, 1)

    asyncio.run(scenario())


def test_who_is_cancelled_takes_nothing_and_holds_up_nobody() -> None:
    async def scenario() -> None:
        budget = ByteBudget(10)
        await budget.take(10)
        first, second = asyncio.create_task(budget.take(4)), asyncio.create_task(budget.take(5))
        await settled()
        first.cancel()
        await settled()
        budget.give(10)
        await asyncio.wait_for(second, 1)
        assert budget.used == 5

    asyncio.run(scenario())


def test_who_is_cancelled_in_the_turn_of_his_grant_gives_it_back() -> None:
    async def scenario() -> None:
        budget = ByteBudget(10)
        await budget.take(10)
        waiting = asyncio.create_task(budget.take(4))
        await settled()
        budget.give(10)
        waiting.cancel()
        await asyncio.wait([waiting], timeout=1)
        assert budget.used == 0

    asyncio.run(scenario())


def test_closing_lets_everybody_through() -> None:
    async def scenario() -> None:
        budget = ByteBudget(1)
        budget.take_now(100)
        waiting = [asyncio.create_task(budget.take(10)) for _ in range(3)]
        await settled()
        budget.close()
        await asyncio.wait_for(asyncio.gather(*waiting), 1)

    asyncio.run(scenario())
