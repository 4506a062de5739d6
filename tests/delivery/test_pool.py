"""One queue's connections: who gets what, what holds the queue, and that nothing is lost or doubled."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator
from itertools import count
from typing import Any

import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st

from momentum_push.delivery import breaker, settle
from momentum_push.delivery.apns.connection import ConnectionState
from momentum_push.delivery.apns.failures import ConnectFailed
from momentum_push.delivery.breaker import DEAD_TOKENS, LEAST_DEAD
from momentum_push.delivery.pool import TURN
from momentum_push.delivery.routes import Route
from momentum_push.delivery.settings import Limit
from momentum_push.delivery.sizing import STUCK_S
from momentum_push.delivery.verdict import DOUBT_S
from momentum_push.message import Kind, Phase
from momentum_push.queues import EXPIRED_UNTRIED, RetryPolicy, manager
from tests.helpers.delivery import FakeCredential, World, opened_world, turns
from tests.helpers.lists import NOW, part

ACCUSED = {"status": 403, "reason": "InvalidProviderToken"}


def play(scene: Callable[[World], Awaitable[None]], **options: Any) -> None:
    """Play a scene in a world of its own."""

    async def scenario() -> None:
        async with asyncio.timeout(20), opened_world(**options) as world:
            await scene(world)

    asyncio.run(scenario())


async def suspend(world: World) -> None:
    """Have the credential accused by three answers in one read."""
    await world.put(3)
    world.connections[0].answer(**ACCUSED)
    await turns()
    assert world.pool.is_suspended


# --- out


def test_a_message_is_sent_answered_recorded_and_gone() -> None:
    async def scene(world: World) -> None:
        await world.put(3)
        world.connections[0].answer()
        await turns()
        assert world.log.kinds() == {"D": 3}
        assert (await world.stored(), world.queues.resident) == (0, 0)

    play(scene)


def test_one_connection_is_filled_before_the_next_gets_anything() -> None:
    async def scene(world: World) -> None:
        await world.put(15)
        assert len(world.connections) == 2
        world.connections[0].answer()
        world.connections[1].answer()
        await world.put(8)
        assert sorted(link.in_flight for link in world.connections) == [0, 8]

    play(scene, room=10)


def test_growth_doubles_up_to_what_is_needed_and_max_outbound_connections() -> None:
    async def scene(world: World) -> None:
        world.gate = asyncio.Event()
        await world.put(1000)
        dials = []
        while world.pool.opening:
            dials.append(world.dials)
            world.gate.set()
            world.gate = asyncio.Event()
            await turns(60)
        assert (dials, len(world.connections), world.pool.in_flight) == ([1, 2, 4, 7], 7, 70)

    play(scene, room=10, max_connections=7)


def test_a_fast_peer_near_by_is_left_with_one_connection() -> None:
    """Full for a moment is the usual state of a busy queue; what is gone in no time needs nobody else."""

    async def scene(world: World) -> None:
        await world.put(1)
        world.connections[0].answer()
        for _ in range(20):
            await world.put(200)
            world.connections[0].answer()
            await turns()
        assert world.dials == 1

    play(scene, room=100, rtt=0.001, max_connections=32)


def test_a_connection_that_proves_its_token_is_coming_and_not_full() -> None:
    async def scene(world: World) -> None:
        await world.put(100)
        assert (world.dials, world.pool.in_flight) == (1, 1)
        await world.advance(2.01)
        assert world.dials == 2  # it does not answer: somebody else has to

    play(scene, room=10, probing=True)


def test_a_turn_sends_a_bounded_number_and_comes_back() -> None:
    async def scene(world: World) -> None:
        await world.put(1000)
        sizes = [len(batch) for batch in world.connections[0].sent]
        assert sizes == [TURN, TURN, TURN, 1000 - 3 * TURN]

    play(scene)


def test_connects_per_minute_are_capped() -> None:
    async def scene(world: World) -> None:
        await world.put(10)
        for _ in range(4):
            for link in list(world.connections):
                link.goaway("Shutdown")
            await turns()
        assert world.dials == 2
        await world.advance(30)
        assert world.dials == 3

    play(scene, room=10, max_connects_per_minute=2)


def test_what_a_connection_does_not_take_after_all_goes_back_to_the_front() -> None:
    async def scene(world: World) -> None:
        await world.put(1)
        world.connections[0].answer()
        world.connections[0].takes = 2
        await world.put(5)
        await world.advance(STUCK_S)  # three would be gone in no time, if it were full only for the moment
        order = [m.sequence for link in world.made for batch in link.sent for m in batch]
        assert order == [1, 2, 3, 4, 5, 6]

    play(scene)


def test_a_throttle_lets_through_what_it_says() -> None:
    async def scene(world: World) -> None:
        await world.put(25)
        assert world.pool.in_flight == 10
        await world.advance(1)
        assert world.pool.in_flight == 20
        await world.advance(1)
        assert world.pool.in_flight == 25

    play(scene, throttle=Limit("domain x", 10, 1.0))


def test_a_throttle_of_connections_lets_through_what_it_says() -> None:
    async def scene(world: World) -> None:
        await world.put(30)
        world.connections[0].answer()
        await turns()
        dials = world.dials
        assert dials <= 2
        await world.advance(120)
        assert dials < world.dials <= dials + 2

    play(scene, room=1, connect_throttle=Limit("connections of x", 2, 120.0))


def test_blackhole_fails_everything_without_a_connection() -> None:
    async def scene(world: World) -> None:
        await world.put(1000)
        await turns(50)
        assert (world.dials, world.queues.resident) == (0, 0)
        assert {item.reason for item in world.log.written} == {"551 5.7.1 [internal] recipient blackholed"}
        assert len(world.log.written) == 1000

    play(scene, is_blackholed=True)


def test_what_was_refused_goes_over_another_connection_at_once() -> None:
    """interfaces.md 2, "Retry"; apns.md 6.5."""

    async def scene(world: World) -> None:
        await world.put(3)
        world.made[0].refuse()
        await turns()
        assert [[m.sequence for m in batch] for batch in world.made[1].sent] == [[1, 2, 3]]
        assert len(world.made[0].sent) == 1

    play(scene)


def test_where_there_is_no_other_connection_a_refused_request_comes_back_after_a_second() -> None:
    async def scene(world: World) -> None:
        await world.put(3)
        world.made[0].refuse()
        await turns()
        assert (world.dials, world.pool.in_flight) == (1, 0)
        await world.advance(1.1)
        assert (world.dials, world.pool.in_flight) == (1, 3)

    play(scene, max_connections=1)


def test_what_expires_in_an_outage_is_recorded_at_the_next_try() -> None:
    async def scene(world: World) -> None:
        world.refuse()
        await world.put(4, shared=part(expiration=int(world.clock.now()) + 5))
        await world.put(2)
        for _ in range(12):
            await world.advance(1)
        assert world.log.texts(Kind.PERMFAIL) == [EXPIRED_UNTRIED] * 4
        assert (world.queue.active, world.queues.resident) == (2, 2)

    play(scene)


def test_suspend_delivery_sends_nothing_until_it_is_lifted() -> None:
    async def scene(world: World) -> None:
        await world.put(5)
        assert (world.dials, world.queues.next_wake()) == (0, None)
        world.pool.configure(world.settings())
        await turns()
        assert world.pool.in_flight == 5

    play(scene, is_suspended=True)


def test_the_topic_is_the_messages_else_the_configurations_and_is_recorded() -> None:
    async def scene(world: World) -> None:
        await world.put(1, shared=part(topic="com.example.own"))
        await world.put(1, shared=part(topic=""))
        await world.put(1, shared=part(topic="", push_type="voip"))
        link = world.connections[0]
        assert link.topics == ["com.example.own", "com.example.news", "com.example.news.voip"]
        link.answer()
        await turns()
        assert [item.topic for item in world.log.written] == link.topics

    play(scene, default_topic="com.example.news")


# --- expiry


def test_expired_messages_are_recorded_and_never_sent() -> None:
    async def scene(world: World) -> None:
        await world.put(2, shared=part(expiration=int(NOW) - 1))
        await world.put(1)
        assert world.sends.keys() == {3}
        assert (
            world.log.texts(Kind.PERMFAIL)
            == ["554 5.4.5 [internal] Delivery not attempted (message expired)"] * 2
        )
        world.connections[0].answer()
        assert await world.stored() == 0

    play(scene)


def test_any_number_of_expired_messages_goes_through_one_slot() -> None:
    """A connection that proves itself takes one message at a time; thousands may have expired meanwhile."""

    async def scene(world: World) -> None:
        world.gate = asyncio.Event()
        for _ in range(3):
            await world.put(1000, shared=part(expiration=int(NOW) - 1))
        await world.put(1)
        world.gate.set()
        async with asyncio.timeout(10):
            while not world.flying:
                await asyncio.sleep(0)
        assert world.log.kinds() == {"P": 3000}
        assert await world.stored() == 1

    play(scene, room=1, max_connections=1)


# --- outage


def test_an_outage_holds_the_queue_with_one_record_and_backs_off() -> None:
    async def scene(world: World) -> None:
        world.refuse()
        await world.put(5)
        holds = []
        for _ in range(8):
            hold = world.queue.not_before - world.clock.now()
            holds.append(hold)
            await world.advance(hold + 0.001)
        assert world.dials == 9
        wholes = [1, 2, 4, 8, 16, 32, 60, 60]
        assert all(whole / 2 <= hold <= whole for hold, whole in zip(holds, wholes, strict=True))
        (record,) = world.log.written
        assert (record.kind, record.attempt, record.status) == (Kind.TEMPFAIL, 0, 255)
        assert "connection refused" in record.text
        assert (await world.stored(), world.queue.active) == (5, 5)

    play(scene)


@pytest.mark.parametrize(
    ("failures", "seconds", "at"),
    [
        pytest.param(1, 0.0, 0, id="the first failure"),
        pytest.param(3, 0.0, 2, id="the third failure"),
        pytest.param(0, 10.0, 4, id="ten seconds"),
        pytest.param(5, 10.0, 4, id="whichever comes first"),
        pytest.param(0, 0.0, None, id="never"),
    ],
)
def test_the_queue_is_delayed_after_so_many_failures_or_seconds(
    failures: int, seconds: float, at: int | None
) -> None:
    """momentum.md 6.3, mx_failures_to_delay and connect_timeout_to_delay; the pauses stay the same."""

    async def scene(world: World) -> None:
        world.refuse()
        await world.put(5)
        for number, pause in enumerate((1, 2, 4, 8, 16, 32)):
            assert world.dials == number + 1
            is_held = at is not None and number >= at
            assert world.queue.hold_reason == ("outage" if is_held else "")
            assert len(world.log.written) == is_held
            await world.advance(pause * 0.49)
            assert world.dials == number + 1, "at least half of it is waited"
            await world.advance(pause * 0.52)
        world.refusal = None
        await world.advance(61)
        assert (world.queue.hold_reason, world.pool.in_flight) == ("", 5)

    play(scene, delay_failures=failures, delay_s=seconds)


def test_an_outage_ends_with_the_first_connection_and_the_next_writes_its_own_record() -> None:
    async def scene(world: World) -> None:
        world.refuse()
        await world.put(5)
        world.refusal = None
        await world.advance(1)
        assert (world.queue.hold_reason, world.pool.in_flight) == ("", 5)
        world.refuse()
        world.connections[0].goaway("Shutdown")
        await turns()
        assert world.queue.hold_reason == "outage"
        assert world.log.kinds() == {"T": 2}
        assert world.clock.now() + 1 >= world.queue.not_before

    play(scene)


def test_while_another_connection_serves_a_failed_connect_holds_nothing_but_waits() -> None:
    async def scene(world: World) -> None:
        await world.put(10)
        world.refuse()
        await world.put(20)
        await turns(200)
        assert (world.dials, world.queue.hold_reason, world.log.written) == (2, "", [])
        world.connections[0].answer(5)
        await turns()
        assert world.pool.in_flight == 10
        await world.advance(1)
        assert world.dials == 3

    play(scene, room=10)


def test_a_connection_that_only_drains_serves_nobody() -> None:
    async def scene(world: World) -> None:
        await world.put(10)
        world.refuse()
        world.connections[0].goaway("Shutdown", processed=1)
        await turns(200)
        assert (world.dials, world.queue.hold_reason) == (2, "outage")

    play(scene)


def test_a_connect_that_crashes_is_an_outage_too() -> None:
    async def scene(world: World) -> None:
        async def explode(connection: Any) -> None:
            raise RuntimeError("a bug")

        world.dial = explode  # type: ignore[method-assign]
        await world.put(1)
        assert world.queue.hold_reason == "outage"
        assert world.log.kinds() == {"T": 1}

    play(scene)


def test_an_outage_says_how_far_the_connect_came() -> None:
    async def scene(world: World) -> None:
        world.refusal = ConnectFailed("apns.test:443: no TLS connection; see routes", stage=17)
        await world.put(1)
        assert [(item.stage, world.queue.hold_reason) for item in world.log.written] == [(17, "outage")]

    play(scene)


def test_connections_that_are_lost_before_any_answer_are_made_with_pauses() -> None:
    """A peer that lets everybody in and hangs up; Fatal1ty/aioapns#28."""

    async def scene(world: World) -> None:
        await world.put(5)
        for dials in (1, 2, 3):
            assert world.dials == dials
            link = world.connections[-1]
            link.loss = ConnectFailed("apns.test:443: closed by the peer", stage=9)
            link.refuse()
            link.die()
            await turns()
            assert (world.dials, world.queue.hold_reason) == (dials, "outage")
            await world.advance(2.0**dials)

    play(scene)


TURNED_AWAY: dict[str, Callable[[Any], None]] = {
    "Shutdown": lambda link: link.answer(status=503, reason="Shutdown"),
    "IdleTimeout": lambda link: link.answer(status=400, reason="IdleTimeout"),
    "GOAWAY": lambda link: link.goaway("Shutdown"),
    "tiny windows": lambda link: link.breach("INITIAL_WINDOW_SIZE 10 is too small"),
}


@pytest.mark.parametrize("turn_away", TURNED_AWAY.values(), ids=TURNED_AWAY.keys())
def test_a_peer_that_turns_every_connection_away_is_dialled_with_pauses(
    turn_away: Callable[[Any], None],
) -> None:
    """Up to max_connects_per_minute for ever, else: rapid reconnecting counts as an attack (apns.md 6.3)."""

    async def scene(world: World) -> None:
        await world.put(1)
        turn_away(world.connections[-1])
        await turns()
        assert world.dials == 2, "the first time, another connection at once"
        waits = (1, 2, 4, 8, 16, 32, 60, 60)
        for number, wait in enumerate(waits, 2):
            turn_away(world.connections[-1])
            await turns()
            assert (world.dials, world.queue.hold_reason) == (number, "outage")
            await world.advance(wait * 0.49)
            assert world.dials == number, "at least half of it is waited"
            await world.advance(wait * 0.52)
            assert world.dials == number + 1
        world.connections[-1].answer()
        assert (await world.stored(), world.log.kinds()["D"]) == (0, 1)

    play(scene, retry=RetryPolicy(retry_interval=0.01, is_auto=False))


def test_a_goodbye_after_service_costs_no_pause() -> None:
    async def scene(world: World) -> None:
        for number in range(1, 6):
            await world.put(2)
            world.connections[-1].answer(1)
            world.connections[-1].answer(status=503, reason="Shutdown")
            await turns()
            assert (world.dials, world.queue.hold_reason) == (number + 1, "")
            world.connections[-1].answer()

    play(scene)


def test_connections_that_were_closed_by_us_are_no_failures() -> None:
    async def scene(world: World) -> None:
        for _ in range(4):
            await world.put(1)
            world.connections[-1].answer()
            world.connections[-1].drain("idle_timeout")
        await world.put(1)
        assert (world.dials, world.queue.hold_reason) == (5, "")

    play(scene)


def test_the_retry_of_an_unanswered_request_goes_to_another_address() -> None:
    """apns.md 8 row 5; jchambers/pushy#773."""

    async def scene(world: World) -> None:
        await world.put(4)
        world.connections[0].time_out(1)
        await world.advance(1)
        first, second = world.made
        assert (first.state, first.in_flight) == (ConnectionState.OPEN, 3)
        assert [m.sequence for m in second.flight] == [1]
        assert first.remote != second.remote

    play(scene)


def test_where_there_can_be_no_other_connection_an_unanswered_request_stops_nothing() -> None:
    async def scene(world: World) -> None:
        await world.put(4)
        world.connections[0].time_out(1)
        await world.put(2)
        assert (world.dials, world.pool.in_flight) == (1, 5)

    play(scene, max_connections=1)


def test_a_connection_that_lags_is_retired_and_never_all_of_them() -> None:
    async def scene(world: World) -> None:
        await world.put(30)
        for _ in range(4):
            for link, seconds in zip(world.made[:3], (0.1, 9.0, 9.0), strict=True):
                link.answer(1, seconds=seconds)
        await turns()
        for link in world.made[1:3]:
            link.answer(1, seconds=9.0)
        assert [link.state for link in world.made[:3]].count(ConnectionState.DRAINING) == 1

    play(scene, room=10)


def test_a_pool_that_windows_limit_says_how_many_connections_it_needs() -> None:
    async def scene(world: World) -> None:
        world.rtt = 1.0
        await world.put(1)
        world.connections[0].is_window_bound = True
        world.connections[0].answer()
        await world.put(700)
        limited = world.pool.limited
        assert limited is not None
        assert (limited.by, limited.needs) == ("window", 1 + 2)  # 690 in a minute, 10 a second each
        await world.advance(11)
        assert world.pool.limited is None or world.pool.limited.at > limited.at

    play(scene, room=10, max_connections=1)


def test_the_connections_that_are_coming_are_not_advised_again() -> None:
    async def scene(world: World) -> None:
        world.rtt = 1.0
        await world.put(1)
        world.connections[0].is_window_bound = True
        world.connections[0].answer()
        world.gate = asyncio.Event()
        with structlog.testing.capture_logs() as logs:
            await world.put(30)
            assert (world.dials, len(world.connections)) == (2, 1)
            await world.put(1)
        assert world.pool.limited is not None
        assert world.pool.limited.needs == 2
        assert "window_limited" not in [entry["event"] for entry in logs]
        world.gate.set()

    play(scene, room=10, max_connections=2)


# --- suspension


def test_a_certificate_that_tls_refuses_suspends_and_is_no_outage() -> None:
    """apns.md 8 row 31: no endless reconnects with an expired certificate."""

    async def scene(world: World) -> None:
        world.refusal = ConnectFailed("refused", stage=17, reason="certificate expired", is_credential=True)
        await world.put(3)
        await turns(100)
        assert (world.pool.is_suspended, world.dials) == (True, 1)
        assert world.queue.hold_reason == "certificate expired"
        (record,) = world.log.written
        assert (record.stage, record.text) == (17, "451 4.7.1 [internal] certificate expired")
        for dials in (2, 3, 4):
            await world.advance(2.0 ** (dials - 2))
            assert world.dials == dials
        assert (len(world.log.written), await world.stored()) == (1, 3)

    play(scene)


def test_three_accusations_in_a_row_suspend_with_one_record() -> None:
    async def scene(world: World) -> None:
        await world.put(10)
        world.connections[0].answer(2, **ACCUSED)
        await turns()
        assert not world.pool.is_suspended
        world.made[0].answer(**ACCUSED)
        await turns()
        assert world.pool.is_suspended
        assert (world.queue.hold_reason, world.queue.not_before) == ("InvalidProviderToken", NOW + 1)
        assert [item.text for item in world.log.written] == ["451 4.7.1 InvalidProviderToken"]
        assert (await world.stored(), world.queues.resident) == (10, 10)

    play(scene)


WORN = [
    {"status": 403, "reason": "ExpiredProviderToken"},
    {"status": 429, "reason": "TooManyProviderTokenUpdates"},
]


@pytest.mark.parametrize("worn", WORN)
def test_many_answers_over_one_connection_that_its_token_is_worn_out_are_one_accusation(
    worn: dict[str, Any],
) -> None:
    async def scene(world: World) -> None:
        await world.put(20)
        first = world.connections[0]
        first.answer(5, **worn)
        first.answer(15, **worn)
        await turns()
        assert (world.pool.is_suspended, world.made[-1].in_flight, world.log.written) == (False, 20, [])

    play(scene)


@pytest.mark.parametrize("worn", WORN)
def test_connections_one_after_the_other_that_call_the_token_worn_out_suspend_with_one_record(
    worn: dict[str, Any],
) -> None:
    """Another connection is no remedy then, and rapid reconnecting counts as an attack (apns.md 6.3)."""

    async def scene(world: World) -> None:
        await world.put(20)
        for _ in range(3):
            assert not world.pool.is_suspended
            world.made[-1].answer(**worn)
            await turns()
        assert (world.dials, world.queue.hold_reason) == (3, worn["reason"])
        for wait in (1, 2, 4, 8):
            await world.advance(wait)
            world.made[-1].answer(**worn)
            await turns()
        assert (world.dials, world.log.kinds(), world.queue.active) == (7, {"T": 1}, 20)
        await world.advance(16)
        world.made[-1].answer()
        await turns()
        assert not world.pool.is_suspended

    play(scene)


def test_a_success_between_accusations_keeps_the_binding_open() -> None:
    async def scene(world: World) -> None:
        await world.put(9)
        for _ in range(3):
            world.connections[0].answer(2, status=400, reason="TopicDisallowed")
            world.connections[0].answer(1)
        assert not world.pool.is_suspended

    play(scene, retry=RetryPolicy(), room=1000)


def test_probes_go_one_at_a_time_and_their_distance_doubles() -> None:
    async def scene(world: World) -> None:
        await suspend(world)
        for wait in (1, 2, 4, 8, 16, 32, 60, 60):
            sent = world.sends.total()
            await world.advance(wait - 0.5)
            assert world.sends.total() == sent
            await world.advance(0.5)
            assert (world.sends.total(), world.pool.in_flight) == (sent + 1, 1)
            world.connections[-1].answer(**ACCUSED)
            await turns()
        assert [item.kind for item in world.log.written] == [Kind.TEMPFAIL]
        assert await world.stored() == 3

    play(scene)


@pytest.mark.parametrize(
    "telling_nothing",
    [
        {"status": 503, "reason": "Shutdown"},
        {"status": 500, "reason": "InternalServerError"},
        {"phase": Phase.NOT_PROCESSED, "status": 0, "reason": "refused"},
    ],
)
def test_a_probe_that_tells_nothing_is_followed_by_a_longer_wait(telling_nothing: dict[str, Any]) -> None:
    async def scene(world: World) -> None:
        await suspend(world)
        await world.advance(1)
        sent = world.sends.total()
        world.connections[-1].answer(**telling_nothing)
        await turns(100)
        assert (world.sends.total(), world.queue.not_before) == (sent, world.clock.now() + 2)

    play(scene)


@pytest.mark.parametrize(("status", "reason"), [(200, ""), (410, "Unregistered"), (413, "PayloadTooLarge")])
def test_an_answer_that_shows_belief_lifts_the_suspension(status: int, reason: str) -> None:
    async def scene(world: World) -> None:
        await suspend(world)
        await world.advance(1)
        world.connections[-1].answer(status=status, reason=reason)
        await turns()
        assert (world.pool.is_suspended, world.queue.hold_reason) == (False, "")
        assert world.pool.in_flight == 2

    play(scene)


def test_a_goaway_that_names_a_fault_of_the_credential_suspends() -> None:
    """apns.md 6.4: no HTTP answer at all, only the goodbye."""

    async def scene(world: World) -> None:
        await world.put(3)
        world.connections[0].goaway("BadCertificateEnvironment")
        await turns(100)
        assert (world.pool.is_suspended, world.dials) == (True, 1)
        assert world.queue.hold_reason == "BadCertificateEnvironment"
        assert [item.text for item in world.log.written] == ["451 4.7.1 [internal] BadCertificateEnvironment"]
        for wait in (1, 2, 4, 8, 16, 32, 60):
            await world.advance(wait)
            world.connections[-1].goaway("BadCertificateEnvironment")
            await turns()
        assert world.dials == 8
        assert (len(world.log.written), await world.stored()) == (1, 3)

    play(scene)


def test_a_goaway_at_once_suspends_and_is_no_outage() -> None:
    async def scene(world: World) -> None:
        async def dial(connection: Any) -> None:
            connection.goaway_reason = "BadCertificateEnvironment"
            world.refuse("apns.test:443: the peer said goodbye at once")
            await World.dial(world, connection)

        world.dial = dial  # type: ignore[method-assign]
        await world.put(3)
        assert world.queue.hold_reason == "BadCertificateEnvironment"
        assert (world.pool.is_suspended, len(world.log.written)) == (True, 1)

    play(scene)


# --- too many dead tokens


DEAD = {"status": 400, "reason": "BadDeviceToken"}


def test_very_many_dead_tokens_suspend_with_one_record_and_condemn_no_more() -> None:
    """apns.md 4.3: an environment or topic mix-up must not empty a database."""

    async def scene(world: World) -> None:
        await world.put(1000)
        with structlog.testing.capture_logs() as logs:
            world.connections[0].answer(150, **DEAD)
            world.made[0].answer(850, **DEAD)
            await turns()
        assert (world.pool.is_suspended, world.queue.hold_reason) == (True, DEAD_TOKENS)
        assert world.log.kinds() == {"P": LEAST_DEAD, "T": 1}
        assert await world.stored() == 1000 - LEAST_DEAD
        assert world.meters.dead_token_alarms.total() == 1
        (line,) = [line for line in logs if line["event"] == "binding_suspended"]
        assert line["log_level"] == "error"
        assert (
            "routes" in line["fix"] and "apn_topic" in line["fix"] and "apn_dead_token_limit" in line["fix"]
        )

    play(scene)


async def mix_up(world: World) -> None:
    """Have the breaker trip; 200 messages are put aside, `more` wait."""
    await world.put(300)
    world.connections[0].answer(**DEAD)
    await turns()
    assert world.pool.is_suspended


def test_probes_ask_for_other_tokens_until_one_is_accepted() -> None:
    async def scene(world: World) -> None:
        await mix_up(world)
        await world.put(20)
        asked: list[int] = []
        for wait in (1, 2, 4, 8, 16, 32, 60, 60):
            await world.advance(wait)
            assert world.pool.in_flight == 1
            asked += [message.sequence for message in world.connections[-1].flight]
            world.connections[-1].answer(**DEAD)
            await turns()
        assert len(set(asked)) == 8
        await world.advance(60)
        world.connections[-1].answer()
        await turns()
        assert (world.pool.is_suspended, world.queue.hold_reason) == (False, "")
        assert world.pool.in_flight == 11
        assert world.log.kinds() == {"P": LEAST_DEAD, "T": 1, "D": 1}

    play(scene)


def test_what_was_put_aside_comes_back_and_counts_no_attempt_and_no_reception() -> None:
    async def scene(world: World) -> None:
        await mix_up(world)
        await world.put(1)
        await world.advance(1)
        world.connections[-1].answer()
        await turns()
        await world.advance(DOUBT_S)
        assert world.pool.in_flight == 200
        world.connections[-1].answer()
        await turns()
        delivered = [item for item in world.log.written if item.kind is Kind.DELIVERED]
        assert (len(delivered), {item.attempt for item in delivered}) == (201, {1})
        assert (world.queue.receptions, await world.stored()) == (301, 0)

    play(scene)


@pytest.mark.parametrize(
    "changes",
    [
        {"credential": FakeCredential("another key")},
        {"routes": (Route("sandbox.test", 443),)},
        {"trust": ("another apn_topic",)},
        {"dead_token_limit": 0},
        {"dead_token_limit": 50},
    ],
)
def test_a_reload_with_what_may_have_been_wrong_starts_over(changes: dict[str, Any]) -> None:
    async def scene(world: World) -> None:
        await mix_up(world)
        await world.put(20)
        world.pool.configure(world.settings())
        await turns()
        assert world.pool.is_suspended, "nothing changed"
        world.pool.configure(world.settings(**changes))
        await turns()
        assert (world.pool.is_suspended, world.queue.hold_reason, world.pool.in_flight) == (False, "", 20)
        world.connections[-1].answer(1, **DEAD)
        assert world.log.kinds() == {"P": LEAST_DEAD + 1, "T": 1}

    play(scene)


def test_a_connection_of_old_settings_condemns_no_token() -> None:
    async def scene(world: World) -> None:
        await world.put(50)
        world.pool.configure(world.settings(routes=(Route("sandbox.test", 443),)))
        world.made[0].answer(**DEAD)
        await turns()
        assert world.log.written == []
        world.connections[-1].answer()
        await turns()
        assert world.log.kinds() == {"D": 50}

    play(scene)


def test_expiry_ends_what_is_in_doubt() -> None:
    async def scene(world: World) -> None:
        await mix_up(world)
        for _ in range(400):
            when = world.queues.next_wake()
            if when is None:
                break
            await world.advance(max(1.0, when - world.clock.now()))
            for link in list(world.connections):
                if link.flight:
                    link.answer(**DEAD)
            await turns()
        assert await world.stored() == 0
        assert world.log.kinds() == {"P": 300, "T": 1}
        assert sum(item.status == 8 for item in world.log.written) == LEAST_DEAD

    play(scene, retry=RetryPolicy(message_expiration=1800))


# --- again


def test_what_a_goaway_hands_back_is_sent_elsewhere_in_order() -> None:
    async def scene(world: World) -> None:
        await world.put(6)
        world.connections[0].goaway("Shutdown", processed=2)
        await turns()
        first, second = world.made
        assert (first.state, first.in_flight) == (ConnectionState.DRAINING, 2)
        assert [m.sequence for m in second.flight] == [3, 4, 5, 6]
        first.answer()
        second.answer()
        await turns()
        assert first.state is ConnectionState.CLOSED
        assert (world.log.kinds(), world.log.written[0].attempt) == ({"D": 6}, 1)
        assert world.meters.goaways.total() == 1

    play(scene)


@pytest.mark.parametrize(
    ("status", "reason"), [(503, "Shutdown"), (403, "ExpiredProviderToken"), (400, "IdleTimeout")]
)
def test_an_answer_about_the_connection_is_sent_again_over_another_one(status: int, reason: str) -> None:
    async def scene(world: World) -> None:
        await world.put(3)
        world.connections[0].answer(1, status=status, reason=reason)
        await turns()
        first, second = world.made
        assert (first.state, [m.sequence for m in second.flight]) == (ConnectionState.DRAINING, [1])
        assert (world.log.written, world.meters.resends.total()) == ([], 1)

    play(scene)


def test_messages_come_back_in_the_order_of_their_lanes() -> None:
    async def scene(world: World) -> None:
        world.gate = asyncio.Event()
        await world.put(2, lane=5)
        await world.put(2, lane=10)
        await world.put(2, lane=5)
        world.gate.set()
        await turns()
        assert [m.sequence for m in world.connections[0].flight] == [3, 4, 1, 2, 5, 6]
        world.connections[0].flight = [world.connections[0].flight[i] for i in (2, 0, 3, 1, 4, 5)]
        world.connections[0].goaway("Shutdown")
        await turns()
        assert [m.sequence for m in world.connections[0].flight] == [3, 4, 1, 2, 5, 6]

    play(scene)


def test_a_lost_connection_makes_its_messages_wait_a_second() -> None:
    async def scene(world: World) -> None:
        await world.put(4)
        world.connections[0].die()
        await turns()
        assert (world.pool.in_flight, world.queue.delayed, world.log.kinds()) == (0, 4, {"T": 4})
        await world.advance(1)
        world.connections[0].answer()
        await turns()
        assert world.log.written[-1].attempt == 2
        assert await world.stored() == 0

    play(scene)


CAME_BACK: dict[str, Callable[[Any], None]] = {
    "lost": lambda link: link.die(),
    "unanswered": lambda link: link.time_out(3),
    "refused": lambda link: link.refuse(),
    "told to leave": lambda link: link.goaway("Shutdown"),
    "answered for the connection": lambda link: link.answer(3, 503, "Shutdown"),
}


@pytest.mark.parametrize("fate", CAME_BACK)
def test_resends_count_every_message_that_goes_out_twice_for_no_answer_of_its_own(fate: str) -> None:
    """With unknown outcomes they are the bound of duplicates (apns.md 10)."""

    async def scene(world: World) -> None:
        await world.put(3)
        CAME_BACK[fate](world.made[0])
        await turns()
        assert world.meters.resends.total() == 3
        await world.advance(1)
        world.made[-1].answer()
        await turns()
        assert world.meters.resends.total() == world.sends.total() - 3 == 3
        assert (world.log.kinds()["D"], await world.stored()) == (3, 0)

    play(scene)


def test_resends_count_no_attempt_that_apple_answered() -> None:
    async def scene(world: World) -> None:
        await world.put(1)
        world.made[0].answer(1, 503, "ServiceUnavailable")
        await world.advance(1300)
        world.made[-1].answer()
        await turns()
        assert (world.meters.resends.total(), world.sends[1], world.log.kinds()["D"]) == (0, 2, 1)

    play(scene)


def test_resends_count_nothing_that_is_given_up() -> None:
    async def scene(world: World) -> None:
        await world.put(2)
        world.made[0].time_out(1)
        world.made[0].die()
        await turns()
        assert (world.meters.resends.total(), world.meters.unknown_outcomes.total()) == (0, 2)
        assert world.log.kinds() == {"P": 2}

    play(scene, retry=RetryPolicy(never_retry=True))


def test_under_drop_an_unknown_outcome_is_no_resend() -> None:
    async def scene(world: World) -> None:
        await world.put(3)
        async with asyncio.timeout(5):
            while world.pool.in_flight < 3:
                await asyncio.sleep(0)
        world.made[0].die()
        await turns()
        assert (world.meters.resends.total(), world.meters.unknown_outcomes.total()) == (0, 3)

    play(scene, drops_unknown=True)


# --- a log that fails


def test_nothing_is_sent_while_a_log_cannot_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settle, "_RETRY_LOG_S", 0.001)

    async def scene(world: World) -> None:
        await world.put(2)
        world.log.is_failing = True
        world.connections[0].answer(1)
        await world.put(5)
        assert world.pool.in_flight == 1
        world.log.is_failing = False
        async with asyncio.timeout(5):
            while world.settler.is_blocked:
                await asyncio.sleep(0.001)
        await turns()
        assert world.pool.in_flight == 6

    play(scene)


# --- reconfiguring


def test_other_options_keep_the_connections() -> None:
    async def scene(world: World) -> None:
        await world.put(1)
        world.pool.configure(world.settings(throttle=Limit("x", 5, 1.0), max_connections=9))
        await world.put(20)
        assert (len(world.made), world.pool.in_flight) == (1, 6)

    play(scene)


def test_another_credential_means_other_connections() -> None:
    async def scene(world: World) -> None:
        await world.put(4)
        world.pool.configure(world.settings(credential=FakeCredential("another key")))
        await world.put(1)
        first, second = world.made
        assert (first.state, first.in_flight) == (ConnectionState.DRAINING, 4)
        assert second.settings.credential.identity == "another key"
        assert second.in_flight == 1

    play(scene)


def test_a_connection_that_was_being_opened_by_old_settings_is_not_used() -> None:
    """Credentials are never mixed (design.md 4)."""

    async def scene(world: World) -> None:
        world.gate = asyncio.Event()
        await world.put(2)
        world.pool.configure(world.settings(credential=FakeCredential("another key")))
        world.gate.set()
        await turns()
        assert [link.sent for link in world.made[:1]] == [[]]
        assert world.made[0].state is ConnectionState.CLOSED
        assert (world.made[1].settings.credential.identity, world.made[1].in_flight) == ("another key", 2)

    play(scene)


def test_a_connect_that_hangs_by_old_settings_neither_delays_nor_fails_the_new() -> None:
    """A proxy that says nothing, and a reload that names another."""

    async def scene(world: World) -> None:
        world.gate = asyncio.Event()
        await world.put(2)
        assert world.dials == 1
        world.gate = None
        world.pool.configure(world.settings(credential=FakeCredential("another key")))
        await turns()
        assert world.connections[0].in_flight == 2
        assert world.made[0].state is ConnectionState.CLOSED
        assert world.log.kinds()["T"] == 0

    play(scene)


def test_a_clock_that_goes_on_between_two_looks_keeps_no_connect_waiting() -> None:
    async def scene(world: World) -> None:
        looks = count()
        stands = world.clock.monotonic
        world.clock.monotonic = lambda: stands() + next(looks) / 1e6  # type: ignore[method-assign]
        await world.put(2)
        assert world.connections[0].in_flight == 2

    play(scene)


def test_a_new_credential_ends_the_doubts_of_the_old_which_cannot_accuse_it() -> None:
    async def scene(world: World) -> None:
        await world.put(20)
        world.connections[0].answer(3, **ACCUSED)
        world.pool.configure(world.settings(credential=FakeCredential("another key")))
        world.made[0].answer(**ACCUSED)
        await turns()
        assert not world.pool.is_suspended
        assert world.made[-1].in_flight == 20

    play(scene)


def test_a_lower_limit_of_connections_drains_the_surplus() -> None:
    async def scene(world: World) -> None:
        await world.put(30)
        assert len(world.connections) == 3
        world.pool.configure(world.settings(max_connections=1))
        states = [link.state for link in world.made]
        assert states == [ConnectionState.OPEN, ConnectionState.DRAINING, ConnectionState.DRAINING]

    play(scene, room=10)


def test_a_new_cap_on_connects_counts_at_once() -> None:
    async def scene(world: World) -> None:
        await world.put(10)
        world.connections[0].goaway("Shutdown")
        await turns()
        assert world.dials == 1
        world.pool.configure(world.settings(max_connects_per_minute=60))
        await turns()
        assert world.dials == 2

    play(scene, max_connects_per_minute=1)


# --- stopping


def test_stop_waits_for_answers_that_are_due() -> None:
    async def scene(world: World) -> None:
        await world.put(4)
        stopping = asyncio.create_task(world.pool.stop(10.0))
        await turns()
        await world.put(2)
        assert (stopping.done(), world.pool.in_flight) == (False, 4)
        world.made[0].answer()
        await stopping
        assert (world.log.kinds(), await world.stored()) == ({"D": 4}, 2)

    play(scene)


def test_stop_closes_what_is_left_after_its_deadline() -> None:
    async def scene(world: World) -> None:
        await world.put(4)
        await world.pool.stop(0.02)
        assert (world.pool.in_flight, world.connections) == (0, [])
        assert (world.log.kinds(), await world.stored()) == ({"T": 4}, 4)

    play(scene)


def test_stop_gives_up_a_connect_that_is_under_way() -> None:
    async def scene(world: World) -> None:
        world.gate = asyncio.Event()
        await world.put(1)
        await world.pool.stop(1.0)
        assert (world.pool.opening, world.pool.is_idle) == (0, True)

    play(scene)


def test_a_retired_pool_hands_back_and_opens_nothing() -> None:
    async def scene(world: World) -> None:
        await world.put(3)
        world.pool.retire("domain is no longer configured")
        world.made[0].goaway("Shutdown")
        await turns()
        assert (world.dials, world.pool.is_idle, world.queue.active) == (1, True, 3)

    play(scene)


# --- the clock


@pytest.mark.parametrize("jump", [-7200.0, 7200.0])
def test_a_jump_of_the_wall_clock_does_not_change_the_length_of_a_hold(jump: float) -> None:
    async def scene(world: World) -> None:
        await suspend(world)
        sent = world.sends.total()
        world.clock.jump(jump)
        await world.advance(0.5)
        assert world.sends.total() == sent
        await world.advance(0.6)
        assert world.sends.total() == sent + 1

    play(scene)


# --- whatever happens

PEER = ["ok", "ok", "gone", "later", "elsewhere", "accuse", "die", "goaway", "refuse", "allow"]
NAMES = ["put", "put", "lane", "expired", *PEER, "wait", "log", "reload"]
STEP = st.tuples(st.sampled_from(NAMES), st.integers(0, 9))


async def do(world: World, step: str, value: int) -> None:
    live = [link for link in world.connections if link.flight]
    link = live[value % len(live)] if live else None
    count = value + 1
    if step == "put":
        await world.put(1 + 7 * value)
    elif step == "lane":
        await world.put(count, lane=5)
    elif step == "expired":
        await world.put(count, shared=part(expiration=int(world.clock.now()) + 1))
    elif step == "wait":
        await world.advance([0.1, 1, 3, 60, 1300][value % 5])
    elif step == "refuse":
        world.refuse()
    elif step == "allow":
        world.refusal = None
    elif step == "log":
        world.log.is_failing = value % 2 == 1
    elif step == "reload":
        world.pool.configure(world.settings(credential=FakeCredential(f"key {value % 3}"), **world.options))
    elif link is not None:
        answers: dict[str, tuple[int, str]] = {
            "ok": (200, ""),
            "gone": (410, "Unregistered"),
            "later": (503, "ServiceUnavailable"),
            "elsewhere": (503, "Shutdown"),
            "accuse": (403, "InvalidProviderToken"),
        }
        if step in answers:
            link.answer(count, *answers[step])
        elif step == "die":
            link.die()
        else:
            link.goaway("Shutdown", processed=value // 2)
    await turns(20)


async def finish(world: World) -> None:
    """Let everything go well from here on."""
    world.refusal, world.log.is_failing = None, False
    for _ in range(400):
        for link in list(world.connections):
            if link.flight:
                link.answer()
        await turns(5)
        if world.settler.is_blocked:
            await asyncio.sleep(0.002)
        if world.settler._tasks:  # a retry on its way to disk is in no queue
            await asyncio.wait(world.settler._tasks)
        when = world.queues.next_wake()
        if not world.flying and when is not None:
            await world.advance(max(0.0, when - world.clock.now()))
        waits = world.queues.resident or world.queue.stored > 0
        if not waits and not world.flying and not world.settler.is_blocked:
            break


async def check(
    steps: list[tuple[str, int]], room: int, max_resident: int = 0, drops_unknown: bool = False
) -> None:
    limits = {"room": room, "max_resident": max_resident, "drops_unknown": drops_unknown}
    async with opened_world(**limits, max_connections=3, max_connects_per_minute=10**6) as world:
        for step, value in steps:
            await do(world, step, value)
        await world.settler.flush() if not world.log.is_failing else None
        unrecorded = world.settler.unrecorded(world.queue.key)
        at_work = len(world.pool._marking) + len(world.flying) + unrecorded
        assert world.queues.resident == world.queue.active + world.queue.delayed + at_work
        await finish(world)
        ended = [item.message.sequence for item in world.log.written if item.kind is not Kind.TEMPFAIL]
        assert sorted(ended) == list(range(1, world.put_count + 1)), "lost or doubled"
        assert (world.queues.resident, await world.stored(), world.pool._judge.remembered) == (0, 0, 0)


@pytest.fixture(scope="module")
def hasty() -> Iterator[None]:
    """Logs are tried again at once, pages are small, and few dead tokens are very many."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(settle, "_RETRY_LOG_S", 0.001)
        patch.setattr(manager, "PAGE", 4)
        patch.setattr(breaker, "LEAST_DEAD", 3)
        yield


@settings(max_examples=80, deadline=None)
@given(st.lists(STEP, max_size=40), st.sampled_from([1, 5, 1000]), st.sampled_from([0, 6]), st.booleans())
def test_whatever_happens_every_message_ends_exactly_once(
    hasty: None, steps: list[tuple[str, int]], room: int, max_resident: int, drops_unknown: bool
) -> None:
    asyncio.run(check(steps, room, max_resident, drops_unknown))


@pytest.mark.parametrize("drops_unknown", [False, True])
def test_a_long_run_of_anything_ends_every_message_exactly_once(hasty: None, drops_unknown: bool) -> None:
    chance = random.Random(20260105)
    names = ["put", "ok", "ok", "gone", "later", "elsewhere", "accuse", "die", "goaway", "wait", "reload"]
    steps = [(chance.choice(names), chance.randrange(10)) for _ in range(400)]
    asyncio.run(check(steps, 20, drops_unknown=drops_unknown))
