"""One budget a turn of the loop, however many pools are busy."""

from __future__ import annotations

import asyncio

import pytest

from momentum_push.delivery.turns import BUDGET, HURRIED, LEAST, Turns


class Busy:
    """Sends all that it may until nothing is left."""

    def __init__(self, turns: Turns, left: int, log: list[str], name: str, weight: int = 1) -> None:
        self.turns, self.left, self.log, self.name, self.weight = turns, left, log, name, weight
        self.sent = 0

    def pump(self, most: int) -> int:
        sent = min(most, self.left)
        self.left -= sent
        self.sent += sent
        self.log.append(self.name)
        if self.left:
            self.turns.ask(self, self.weight)
        return sent


def test_a_turn_of_the_loop_sends_no_more_than_its_budget_and_everybody_has_his_turn() -> None:
    async def scenario() -> None:
        turns, log = Turns(), []
        pools = [Busy(turns, 3 * BUDGET // 8, log, name) for name in "abcdefgh"]
        for pool in pools:
            turns.ask(pool)
            turns.ask(pool)
        rounds = []
        while any(pool.left for pool in pools):
            before = sum(pool.sent for pool in pools)
            await asyncio.sleep(0)
            rounds.append(sum(pool.sent for pool in pools) - before)
        assert max(rounds) <= BUDGET
        assert "".join(log[:24]) == "abcdefgh" * 3

    asyncio.run(scenario())


def test_a_pool_that_breaks_does_not_stop_the_others() -> None:
    async def scenario() -> None:
        turns, log = Turns(), []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: log.append("broken"))

        class Broken:
            def pump(self, most: int) -> int:
                raise RuntimeError("a fault of ours")

        turns.ask(Broken())
        turns.ask(Busy(turns, 100, log, "a"))
        for _ in range(3):
            await asyncio.sleep(0)
        assert log == ["broken", "a"]

    asyncio.run(scenario())


def test_a_pool_alone_has_the_whole_budget() -> None:
    async def scenario() -> None:
        turns, log = Turns(), []
        pool = Busy(turns, 10_000, log, "a")
        turns.ask(pool)
        await asyncio.sleep(0)
        assert pool.sent == BUDGET

    asyncio.run(scenario())


def test_turns_are_short_while_somebody_waits_for_an_answer() -> None:
    async def scenario() -> None:
        waiting = [True, True, False, True]
        turns = Turns(lambda: waiting.pop(0))
        pool, sent = Busy(turns, 10_000, [], "a"), []
        turns.ask(pool)
        while waiting:
            before = pool.sent
            await asyncio.sleep(0)
            sent.append(pool.sent - before)
        assert sent == [HURRIED, HURRIED, BUDGET, HURRIED]

    asyncio.run(scenario())


def test_everybody_has_his_turn_in_short_ones_too() -> None:
    async def scenario() -> None:
        log: list[str] = []
        turns = Turns(lambda: True)
        weights = {"a": 1, "b": 1, "c": 9, "d": 100}
        pools = [Busy(turns, 3 * LEAST, log, name, weight) for name, weight in weights.items()]
        for pool in pools:
            turns.ask(pool, pool.weight)
        for _ in range(20):
            before = sum(pool.sent for pool in pools)
            await asyncio.sleep(0)
            assert sum(pool.sent for pool in pools) - before <= HURRIED
        assert not any(pool.left for pool in pools)

    asyncio.run(scenario())


@pytest.mark.parametrize("big", [1, 2, 9, 10, 11, 40, 100])
@pytest.mark.parametrize("weight", [1, 100])
def test_a_small_tenant_is_served_within_the_bound_whatever_the_others_have_waiting(
    big: int, weight: int
) -> None:
    """Virtual time: turns of the loop. 300 times a message comes while every other queue has a million."""

    async def scenario() -> list[int]:
        turns, log = Turns(), []
        crowd = [Busy(turns, 1_000_000, log, "big", weight) for _ in range(big)]
        for pool in crowd:
            turns.ask(pool, weight)
        small = Busy(turns, 0, log, "small")
        waits = []
        for number in range(300):
            for _ in range(number % 7):
                await asyncio.sleep(0)
            small.left, waited = 1, 0
            turns.ask(small)
            while small.left:
                await asyncio.sleep(0)
                waited += 1
            waits.append(waited)
        assert all(pool.left for pool in crowd)
        return waits

    assert max(asyncio.run(scenario())) <= 2 + big * LEAST / BUDGET


@pytest.mark.parametrize("weights", [(1, 1), (1, 4), (3, 1, 1), (2, 5, 3)])
def test_busy_queues_send_in_proportion_to_their_weights(weights: tuple[int, ...]) -> None:
    async def scenario() -> list[int]:
        turns, log = Turns(), []
        pools = [Busy(turns, 10**9, log, "", weight) for weight in weights]
        for pool in pools:
            turns.ask(pool, pool.weight)
        for _ in range(500):
            await asyncio.sleep(0)
        return [pool.sent for pool in pools]

    sent = asyncio.run(scenario())
    for weight, count in zip(weights, sent, strict=True):
        assert count / sum(sent) == pytest.approx(weight / sum(weights), rel=0.05)


def test_the_least_weight_beside_the_greatest_still_gets_its_least() -> None:
    async def scenario() -> tuple[int, int]:
        turns, log = Turns(), []
        heavy, light = Busy(turns, 10**9, log, "h", 100), Busy(turns, 10**9, log, "l", 1)
        turns.ask(heavy, 100)
        turns.ask(light, 1)
        for _ in range(500):
            await asyncio.sleep(0)
        return heavy.sent, light.sent

    heavy, light = asyncio.run(scenario())
    assert light == pytest.approx(heavy * LEAST / (BUDGET * 100 // 101), rel=0.05)
