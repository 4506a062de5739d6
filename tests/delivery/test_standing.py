"""What holds a whole queue: who may begin it, what it says, and what ends it. In company: test_pool."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest

from momentum_push.delivery.apns.failures import ConnectFailed
from momentum_push.delivery.records import Peer
from momentum_push.delivery.standing import OUTAGE, Standing
from momentum_push.delivery.trust import SUSPECT
from momentum_push.delivery.verdict import Judge, Verdict
from momentum_push.message import Disposition
from momentum_push.queues import RetryPolicy
from tests.helpers.delivery import TABLE, World, opened_world, outcome
from tests.helpers.lists import message

FAILURE = ConnectFailed("apns.test:443: connection refused", stage=0)


class Bench:
    """A standing beside the pool of a world, for the same queue."""

    def __init__(self, world: World) -> None:
        self.world, self.queue = world, world.queue
        self.notes: list[Disposition] = []
        self.holds = 0
        self.standing = Standing(
            world.queue, world.services, "key 1", head=message, note=self.notes.append, on_hold=self.held
        )

    def held(self) -> None:
        self.holds += 1

    def weigh(self, status: int, reason: str, times: int = 1, was_draining: bool = False) -> None:
        """Weigh what one read brought, `times` times."""
        now = self.world.clock.now()
        for _ in range(times):
            self.standing.weigh(verdict(status, reason, now), now, was_draining)

    def goodbye(self, reason: str, counts: bool = True) -> bool:
        link: Any = type("Link", (), {"goaway_reason": reason, "remote": "192.0.2.1", "conn_id": "c"})()
        return self.standing.read_goodbye(cast(Any, link), 9, counts)


def verdict(status: int, reason: str, now: float) -> Verdict:
    return Judge(TABLE, RetryPolicy()).judge([outcome(message(), status, reason)], Peer("192.0.2.1"), now)


def play(scene: Callable[[Bench], None]) -> None:
    async def scenario() -> None:
        async with opened_world() as world:
            scene(Bench(world))

    asyncio.run(scenario())


def test_an_outage_holds_writes_one_record_and_ends_with_a_connection() -> None:
    def scene(bench: Bench) -> None:
        bench.standing.shut_out(FAILURE, 4.0)
        now = bench.world.clock.now()
        assert (bench.queue.hold_reason, bench.queue.not_before) == (OUTAGE, now + 4)
        assert bench.world.queues.next_wake() == now + 4
        bench.world.clock.advance(4)
        bench.standing.shut_out(FAILURE, 8.0)
        assert (bench.queue.not_before, len(bench.notes), bench.holds) == (now + 12, 1, 2)
        bench.standing.let_in()
        assert (bench.queue.hold_reason, bench.standing.is_suspended) == ("", False)

    play(scene)


def test_an_outage_does_not_shorten_nor_rename_a_suspension_and_a_connection_does_not_end_it() -> None:
    def scene(bench: Bench) -> None:
        bench.weigh(403, "InvalidProviderToken", SUSPECT)
        until = bench.queue.not_before
        bench.standing.shut_out(FAILURE, 0.1)
        bench.standing.let_in()
        assert (bench.queue.hold_reason, bench.queue.not_before) == ("InvalidProviderToken", until)
        assert (len(bench.notes), bench.holds) == (1, 1)

    play(scene)


def test_a_draining_connection_calls_its_token_worn_out_as_often_as_it_likes() -> None:
    """It was told to go already; the next connection may be believed."""

    def scene(bench: Bench) -> None:
        bench.weigh(403, "ExpiredProviderToken")
        bench.weigh(403, "ExpiredProviderToken", 5 * SUSPECT, was_draining=True)
        assert not bench.standing.is_suspended
        bench.weigh(403, "ExpiredProviderToken", SUSPECT - 1)
        assert bench.standing.is_suspended

    play(scene)


@pytest.mark.parametrize(
    ("reason", "counts", "is_fault", "is_suspended", "word"),
    [
        ("BadCertificateEnvironment", True, True, True, "BadCertificateEnvironment"),
        ("BadCertificateEnvironment", False, True, False, "BadCertificateEnvironment"),
        ("Shutdown", True, False, False, "Shutdown"),
        ("so long", True, False, False, "other"),
    ],
    ids=["ours", "of old settings", "no fault of ours", "made up"],
)
def test_a_goodbye_is_counted_and_accuses_where_it_names_the_credential(
    reason: str, counts: bool, is_fault: bool, is_suspended: bool, word: str
) -> None:
    def scene(bench: Bench) -> None:
        assert bench.goodbye(reason, counts) is is_fault
        assert bench.standing.is_suspended is is_suspended
        assert len(bench.notes) == is_suspended
        assert [key[2] for key in bench.world.meters.goaways] == [word]
        assert bench.goodbye("") is False

    play(scene)


def test_belief_ends_a_suspension_and_no_outage() -> None:
    def scene(bench: Bench) -> None:
        bench.standing.shut_out(FAILURE, 4.0)
        bench.weigh(200, "")
        assert bench.queue.hold_reason == OUTAGE
        bench.standing.let_in()
        bench.weigh(403, "InvalidProviderToken", SUSPECT)
        bench.weigh(200, "")
        assert (bench.standing.is_suspended, bench.queue.hold_reason) == (False, "")

    play(scene)
