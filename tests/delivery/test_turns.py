"""One budget a turn of the loop, however many pools are busy."""

from __future__ import annotations

import asyncio

from momentum_push.delivery.turns import BUDGET, Turns


class Busy:
    """Sends 100 a turn until nothing is left."""

    def __init__(self, turns: Turns, left: int, log: list[str], name: str) -> None:
        self.turns, self.left, self.log, self.name = turns, left, log, name

    def pump(self) -> int:
        sent = min(100, self.left)
        self.left -= sent
        self.log.append(self.name)
        if self.left:
            self.turns.ask(self)
        return sent


def test_a_turn_of_the_loop_sends_no_more_than_its_budget_and_everybody_has_his_turn() -> None:
    async def scenario() -> None:
        turns, log = Turns(), []
        pools = [Busy(turns, 300, log, name) for name in "abcdefgh"]
        for pool in pools:
            turns.ask(pool)
            turns.ask(pool)
        rounds = []
        while any(pool.left for pool in pools):
            before = len(log)
            await asyncio.sleep(0)
            rounds.append(len(log) - before)
        assert max(rounds) <= BUDGET // 100
        assert "".join(log) == "abcdefgh" * 3

    asyncio.run(scenario())


def test_a_pool_that_breaks_does_not_stop_the_others() -> None:
    async def scenario() -> None:
        turns, log = Turns(), []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: log.append("broken"))

        class Broken:
            def pump(self) -> int:
                raise RuntimeError("a fault of ours")

        turns.ask(Broken())
        turns.ask(Busy(turns, 100, log, "a"))
        for _ in range(3):
            await asyncio.sleep(0)
        assert log == ["broken", "a"]

    asyncio.run(scenario())
