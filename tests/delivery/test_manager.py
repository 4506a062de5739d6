"""All pools of a daemon: made when needed, changed by reloads, and none forgotten at the stop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest
import structlog

from momentum_push.delivery import manager
from momentum_push.delivery.manager import UNUSABLE, UNUSABLE_HOLD_S, Delivery
from momentum_push.delivery.settings import PoolSettings
from momentum_push.errors import Place, Problem
from momentum_push.message import QueueKey
from momentum_push.queues import Queue, QueueManager
from tests.helpers.delivery import TABLE, FakeCredential, World, one_address, turns
from tests.helpers.lists import QUEUE, message_list, queue_key

OTHER = queue_key("com.example.other.apns")


class Reader:
    """Settings of the domains that are configured."""

    def __init__(self, world: Many, *keys: QueueKey, **options: Any) -> None:
        self.world, self.keys, self.options = world, keys, options

    def read(self, key: QueueKey) -> tuple[PoolSettings | None, list[Problem]]:
        if key not in self.keys:
            return None, [Problem(Place("t.conf", 1, 1), f'domain "{key.domain}" is not delivered to APNs')]
        return self.world.settings(**self.options), []


class Many(World):
    """A world with a `Delivery` instead of one pool."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.queues = QueueManager(self.spool, self.clock, self._on_due, 0)
        self.delivery = Delivery(
            reader=cast(Any, Reader(self, QUEUE, OTHER)),
            table=TABLE,
            queues=self.queues,
            records=self.log,
            spool=self.spool,
            meters=self.meters,
            clock=self.clock,
            new_conn_id=lambda: "00/01-00000-1",
            look_up=one_address,
        )
        self.settler = self.delivery.settler

    def _on_due(self, queue: Queue) -> None:
        if hasattr(self, "delivery"):
            self.delivery.on_due(queue)

    async def fill(self, key: QueueKey, count: int = 2) -> None:
        batch = message_list(count, first=self.put_count + 1, queue=key)
        self.put_count += count
        await self.spool.append([batch])
        self.queues.add([batch])
        await turns()

    def configure(self, *keys: QueueKey, **options: Any) -> None:
        self.delivery.configure(cast(Any, Reader(self, *keys, **options)), TABLE)


def play(scene: Callable[[Many], Awaitable[None]]) -> None:
    async def scenario() -> None:
        async with asyncio.timeout(20):
            world = Many()
            await scene(world)
            await world.delivery.stop(0.0)
            await world.queues.close()

    asyncio.run(scenario())


def test_a_pool_is_made_when_its_queue_has_something_to_send() -> None:
    async def scene(world: Many) -> None:
        world.queues.get(OTHER)
        await world.fill(QUEUE)
        await world.fill(QUEUE)
        assert list(world.delivery.pools) == [QUEUE]
        assert world.delivery.pools[QUEUE].in_flight == 4

    play(scene)


def test_a_queue_without_settings_is_held_and_looked_at_again() -> None:
    async def scene(world: Many) -> None:
        unknown = queue_key("unknown.apns")
        await world.fill(unknown)
        queue = world.queues.get(unknown)
        assert (queue.hold_reason, world.delivery.pools, queue.active) == (UNUSABLE, {}, 2)
        assert world.queues.next_wake() == world.clock.now() + UNUSABLE_HOLD_S
        await world.advance(UNUSABLE_HOLD_S)
        assert queue.not_before == world.clock.now() + UNUSABLE_HOLD_S
        world.configure(unknown)
        await turns()
        assert (queue.hold_reason, world.delivery.pools[unknown].in_flight) == ("", 2)

    play(scene)


def test_a_domain_that_is_removed_gets_its_answers_and_sends_nothing_more() -> None:
    async def scene(world: Many) -> None:
        await world.fill(QUEUE, 3)
        (link,) = world.made
        world.configure(OTHER)
        assert QUEUE not in world.delivery.pools
        link.answer(2)
        link.goaway("Shutdown")
        await turns()
        queue = world.queues.get(QUEUE)
        assert (world.log.kinds(), queue.active, queue.hold_reason) == ({"D": 2}, 1, UNUSABLE)
        assert (world.dials, await world.stored()) == (1, 1)

    play(scene)


def test_the_stop_waits_for_the_answers_of_a_removed_domain_too() -> None:
    async def scene(world: Many) -> None:
        await world.fill(QUEUE, 3)
        world.configure(OTHER)
        stopping = asyncio.create_task(world.delivery.stop(10.0))
        await turns()
        assert not stopping.done()
        world.made[0].answer()
        await stopping
        assert (world.log.kinds(), await world.stored()) == ({"D": 3}, 0)

    play(scene)


def test_what_a_removed_domain_hands_back_goes_to_its_successor() -> None:
    async def scene(world: Many) -> None:
        await world.fill(QUEUE, 3)
        world.configure(OTHER)
        world.configure(QUEUE)
        world.made[0].goaway("Shutdown")
        await turns()
        assert [link.in_flight for link in world.made] == [0, 3]

    play(scene)


def test_retired_pools_are_forgotten_when_they_are_done() -> None:
    async def scene(world: Many) -> None:
        for _ in range(5):
            await world.fill(QUEUE, 1)
            world.configure()
            world.made[-1].answer()
            world.configure(QUEUE)
        await turns()
        assert len(world.delivery._retired) == 0

    play(scene)


def test_a_reload_reaches_every_pool() -> None:
    async def scene(world: Many) -> None:
        await world.fill(QUEUE)
        await world.fill(OTHER)
        world.configure(QUEUE, OTHER, credential=FakeCredential("another key"))
        await world.fill(QUEUE)
        await world.fill(OTHER)
        names = [link.settings.credential.identity for link in world.made]
        assert names[2:] == ["another key"] * 2

    play(scene)


def test_the_stop_takes_one_deadline_and_not_two(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manager, "LAST_COMMIT_S", 0.0)

    async def scene(world: Many) -> None:
        await world.fill(QUEUE, 3)
        flush, left = world.settler.flush, list[float]()

        async def noted(deadline_s: float) -> None:
            left.append(deadline_s)
            await flush()

        world.settler.flush = noted  # type: ignore[method-assign,assignment]
        await world.delivery.stop(0.02)
        assert left == [0.0]

    play(scene)


def test_after_the_stop_nothing_is_sent_any_more() -> None:
    async def scene(world: Many) -> None:
        await world.delivery.stop(0.0)
        await world.fill(QUEUE)
        assert (world.delivery.pools, world.dials) == ({}, 0)

    play(scene)


def test_certificates_that_expire_are_named_with_their_urgency() -> None:
    soon = Problem(Place("t.conf", 3, 1), "expires in 9 days", "renew it", True)
    late = Problem(Place("t.conf", 4, 1), "expired today", "renew it")

    async def scene(world: Many) -> None:
        world.delivery._reader.date_problems = lambda now: [soon, late]  # type: ignore[method-assign]
        with structlog.testing.capture_logs() as logs:
            world.delivery.look_at_certificates()
        assert [(line["event"], line["log_level"], line["problem"]) for line in logs] == [
            ("certificate_expires", "warning", str(soon)),
            ("certificate_expires", "error", str(late)),
        ]

    play(scene)
