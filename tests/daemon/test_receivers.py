"""The core's side of receivers where no process is needed to show it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from momentum_push.daemon import receivers as module
from momentum_push.daemon.receivers import SILENCE_TICKS, Receivers


class Silent:
    """A receiver whose loop is stuck, process and reception in one."""

    def __init__(self, answers: int) -> None:
        self.answers = answers
        self.looks = 0
        self.kills = 0

    def tell(self) -> asyncio.Future[None]:
        self.looks += 1
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self.looks <= self.answers:
            done.set_result(None)
        return done

    def kill(self) -> None:
        self.kills += 1


@pytest.mark.parametrize("answers", [0, 3])
def test_a_receiver_that_does_not_answer_for_long_is_killed(
    monkeypatch: pytest.MonkeyPatch, answers: int
) -> None:
    naps = 0

    async def nap(seconds: float) -> None:
        nonlocal naps
        naps += 1
        if stuck.kills or naps > 100:
            raise asyncio.CancelledError

    stuck, node = Silent(answers), None
    monkeypatch.setattr(module.asyncio, "sleep", nap)

    async def main() -> None:
        made = Receivers(1, node, {}, lambda number: None)  # type: ignore[arg-type]
        (seat,) = made._seats
        either: Any = stuck
        seat.process = seat.reception = either
        with pytest.raises(asyncio.CancelledError):
            await made._watch()

    asyncio.run(main())
    assert (stuck.kills, naps) == (1, answers + 1 + SILENCE_TICKS + 1)
