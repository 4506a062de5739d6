"""Nothing is answered before its commit, nothing committed that was not asked for, nobody waits for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from momentum_push.errors import InjectionError, LogError, SpoolError, SpoolFull
from momentum_push.injection import checking, company, intake
from momentum_push.injection.checking import SLICE
from momentum_push.injection.intake import IntakeBusy
from momentum_push.message import MAX_LIST, Message, Refusal
from tests.helpers.delivery import turns
from tests.helpers.lists import NOW, token_of
from tests.helpers.taking import Door, draft


def play(scene: Callable[[Door], Awaitable[None]]) -> None:
    async def scenario() -> None:
        async with asyncio.timeout(20):
            door = Door()
            await scene(door)
            await door.intake.close()
            assert not door.intake.is_hurried, "somebody is still thought to wait"

    asyncio.run(scenario())


def taken(results: list[Message | Refusal]) -> list[Message]:
    assert all(isinstance(result, Message) for result in results)
    return [result for result in results if isinstance(result, Message)]


# --- many payloads with one set of options


def test_payloads_with_the_same_options_share_a_part_and_each_is_judged_by_itself() -> None:
    shows_background = b'{"aps":{"content-available":1}}'
    payloads = [b'{"aps":{"alert":"1"}}', b"[]", shows_background, b'{"aps":{"alert":"2"}}', b"", b"{}"]

    async def scene(door: Door) -> None:
        results = await door.accept(draft(6, payloads=payloads))
        assert [getattr(result, "error", "") for result in results] == [
            "",
            "BadPayload",
            "",
            "",
            "PayloadEmpty",
            "BadPayload",
        ]
        first, background, last = [result for result in results if isinstance(result, Message)]
        assert [message.payload for message in (first, background, last)] == [payloads[0], *payloads[2:4]]
        assert first.part is last.part
        assert (first.part.push_type, first.home.lane) == ("alert", 10)
        assert (background.part.push_type, background.home.lane) == ("background", 5)
        assert [message.token for message in (first, background, last)] == list(map(token_of, (1, 3, 4)))

    play(scene)


def test_a_bad_token_beside_a_payload_of_its_own_is_that_notification_s_fault_alone() -> None:
    async def scene(door: Door) -> None:
        payloads = [b'{"aps":{"badge":%d}}' % number for number in range(3 * SLICE)]
        many = draft(len(payloads), payloads=payloads)
        many.tokens[SLICE + 1] = "no token"
        results = await door.accept(many)
        refusals = [place for place, result in enumerate(results) if isinstance(result, Refusal)]
        assert refusals == [SLICE + 1]
        kept = [message.payload for message in results if isinstance(message, Message)]
        assert kept == payloads[: SLICE + 1] + payloads[SLICE + 2 :]

    play(scene)


# --- the commit


def test_the_answer_comes_after_the_commit() -> None:
    async def scene(door: Door) -> None:
        door.store.gate.clear()
        asking = asyncio.create_task(door.accept())
        await turns()
        assert (asking.done(), door.queued, door.receptions_written) == (False, [], [])
        door.store.gate.set()
        (message,) = taken(await asking)
        assert door.store.sequences == [message.sequence]
        assert (door.queued, door.events) == (door.store.commits[0], ["record", "queue"])

    play(scene)


def test_many_that_come_together_share_a_commit_and_small_ones_a_list() -> None:
    """design.md 1: group commit."""

    async def scene(door: Door) -> None:
        door.store.gate.clear()
        asking = [asyncio.create_task(door.accept(draft(2, first=0)))]
        await turns()
        asking += [asyncio.create_task(door.accept(draft(2, first=10 * n))) for n in range(1, 300)]
        await turns()
        door.store.gate.set()
        results = await asyncio.gather(*asking)
        assert [len(lists) for lists in door.store.commits] == [1, 1]
        sizes = [len(batch.messages) for lists in door.store.commits for batch in lists]
        assert sizes == [2, 598]
        tokens = [[message.token for message in taken(result)] for result in results]
        assert tokens == [[token_of(10 * n), token_of(10 * n + 1)] for n in range(300)]

    play(scene)


LONG_S = 3600.0


@pytest.fixture
def long_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits for company waits until the clock is moved, or something else ends it."""
    monkeypatch.setattr(company, "PACE_S", LONG_S)


@pytest.mark.usefixtures("long_pace")
def test_a_lone_request_is_committed_at_once() -> None:
    async def scene(door: Door) -> None:
        for number in range(1, 4):
            await door.accept()
            assert door.store.entered == number
            door.clock.advance(LONG_S)

    play(scene)


@pytest.mark.usefixtures("long_pace")
def test_requests_that_follow_closely_share_one_commit_and_one_list() -> None:
    async def scene(door: Door) -> None:
        await door.accept()
        asking = [asyncio.create_task(door.accept(draft(1, first=number))) for number in (2, 3)]
        await turns()
        assert (door.store.entered, [task.done() for task in asking]) == (1, [False, False])
        door.clock.advance(LONG_S)
        await asyncio.gather(door.accept(draft(1, first=4)), *asking)
        assert [[len(batch.messages) for batch in lists] for lists in door.store.commits] == [[1], [3]]

    play(scene)


def test_what_is_given_time_is_committed_when_the_time_is_over() -> None:
    async def scene(door: Door) -> None:  # its clock stands still: it is the loop that rings
        for _ in range(3):
            await door.accept()
        assert door.store.entered == 3

    play(scene)


@pytest.mark.usefixtures("long_pace")
def test_a_list_that_is_whole_waits_for_nobody_and_takes_along_who_did() -> None:
    async def scene(door: Door) -> None:
        await door.accept()
        small = asyncio.create_task(door.accept())
        await turns()
        await asyncio.gather(door.accept(draft(MAX_LIST)), small)
        sizes = [[len(batch.messages) for batch in lists] for lists in door.store.commits]
        assert sizes == [[1], [MAX_LIST, 1]]

    play(scene)


@pytest.mark.usefixtures("long_pace")
def test_closing_waits_for_no_company() -> None:
    async def scene(door: Door) -> None:
        await door.accept()
        asking = asyncio.create_task(door.accept())
        await turns()
        await door.intake.close()
        taken(await asking)
        assert len(door.store.sequences) == 2

    play(scene)


def test_queues_and_lanes_are_lists_of_their_own() -> None:
    async def scene(door: Door) -> None:
        await door.accept(
            draft(2), draft(3, priority=5), draft(1, domain="other.apns"), draft(1, binding="fast"), draft(1)
        )
        found = {
            (batch.home.queue.binding, batch.home.queue.domain[:5], batch.home.lane): len(batch.messages)
            for batch in door.store.commits[0]
        }
        assert found == {
            ("default", "com.e", 10): 3,
            ("default", "com.e", 5): 3,
            ("default", "other", 10): 1,
            ("fast", "com.e", 10): 1,
        }

    play(scene)


def test_a_large_injection_becomes_lists_of_at_most_a_thousand() -> None:
    async def scene(door: Door) -> None:
        await door.accept(draft(2300))
        await turns()
        sizes = [len(batch.messages) for batch in door.store.commits[0]]
        assert sizes == [MAX_LIST, MAX_LIST, 300]
        homes = {(m.home.due, m.home.attempts) for batch in door.queued for m in batch.messages}
        assert homes == {(NOW, 0)}
        assert all(m.home is batch.home for batch in door.queued for m in batch.messages)

    play(scene)


def test_numbers_are_unique() -> None:
    async def scene(door: Door) -> None:
        results = await asyncio.gather(*(door.accept(draft(7)) for _ in range(50)))
        numbers = [message.sequence for result in results for message in taken(result)]
        assert len(set(numbers)) == 350

    play(scene)


# --- refusals


def test_results_are_in_the_order_of_drafts_and_tokens() -> None:
    async def scene(door: Door) -> None:
        results = await door.accept(
            draft(tokens=[token_of(1), "nonsense", token_of(2)]),
            draft(2, domain="mail.example.com"),
            draft(2, payload=b"[]"),
            draft(1, first=9),
        )
        words = [result.error if isinstance(result, Refusal) else result.token for result in results]
        assert words[:5] == [token_of(1), "BadDeviceToken", token_of(2), "UnknownDomain", "UnknownDomain"]
        assert all(isinstance(result, Refusal) for result in results[5:7])
        assert words[7] == token_of(9)
        assert len(door.store.sequences) == 3

    play(scene)


def test_whole_is_all_or_nothing() -> None:
    async def scene(door: Door) -> None:
        results = await door.accept(draft(2), draft(tokens=["nonsense"]), whole=True)
        assert [type(result).__name__ for result in results] == ["Message", "Message", "Refusal"]
        assert (door.store.commits, door.meters.receptions) == ([], {})
        await door.accept(draft(2), draft(1), whole=True)
        assert len(door.store.sequences) == 3

    play(scene)


def test_nothing_to_take_makes_no_commit() -> None:
    async def scene(door: Door) -> None:
        assert await door.accept(draft(tokens=[])) == []
        await door.accept(draft(tokens=["nonsense"]))
        assert door.store.entered == 0

    play(scene)


def test_local_parts_stay_with_their_tokens() -> None:
    async def scene(door: Door) -> None:
        count = SLICE + 3
        results = await door.accept(draft(count, rcpts=[f"user{n}" for n in range(count)]))
        assert [message.rcpt for message in taken(results)] == [f"user{n}" for n in range(count)]

    play(scene)


# --- a disk that fails


@pytest.mark.parametrize("error", [SpoolError("spool: i/o error"), SpoolFull("spool: no room")])
def test_a_spool_that_fails_refuses_all_who_wait_and_a_later_one_succeeds(error: SpoolError) -> None:
    async def scene(door: Door) -> None:
        door.fail(error)
        results = await asyncio.gather(*(door.accept() for _ in range(5)), return_exceptions=True)
        assert results == [error] * 5
        assert (door.queued, door.receptions_written, door.meters.receptions) == ([], [], {})
        door.store.error = None
        await door.accept()
        assert len(door.store.sequences) == 1
        assert "0 messages wait" in repr(door.intake)

    play(scene)


def test_a_spool_that_breaks_leaves_nobody_waiting() -> None:
    """Not its promised error, but a bug of ours: whoever waits is told so, those behind too."""

    async def scene(door: Door) -> None:
        door.store.gate.clear()
        door.store.error = RuntimeError("a bug")
        first = asyncio.create_task(door.accept())
        await turns()
        second = asyncio.create_task(door.accept())
        await turns()
        door.store.gate.set()
        results = await asyncio.gather(first, second, return_exceptions=True)
        assert [type(result) for result in results] == [SpoolError, SpoolError]
        door.store.error = None
        await door.accept()
        await door.intake.close()

    play(scene)


def test_queues_that_break_take_no_answer_from_a_sender_whose_message_is_on_disk() -> None:
    async def scene(door: Door) -> None:
        door.queue_error = RuntimeError("a bug")
        assert len(taken(await door.accept(draft(3)))) == 3

    play(scene)


def test_a_logger_that_breaks_keeps_no_message_from_its_queue() -> None:
    async def scene(door: Door) -> None:
        door.log_error = RuntimeError("a bug")
        assert len(taken(await door.accept(draft(3)))) == 3
        assert len(door.queued) == 1

    play(scene)


def test_a_log_that_fails_refuses_nothing() -> None:
    async def scene(door: Door) -> None:
        door.log_error = LogError("log: no space left on device")
        assert len(taken(await door.accept(draft(3)))) == 3
        assert (door.meters.receptions["http"], len(door.queued)) == (3, 1)

    play(scene)


@pytest.mark.parametrize(("count", "is_hurried"), [(1, True), (30, True), (31, False), (2000, False)])
def test_who_waits_for_a_few_messages_is_in_a_hurry(count: int, is_hurried: bool) -> None:
    async def scene(door: Door) -> None:
        assert not door.intake.is_hurried
        door.store.gate.clear()
        asking = [asyncio.create_task(door.accept(draft(count))) for _ in range(2)]
        await turns()
        assert door.intake.is_hurried == is_hurried
        asking.pop().cancel()
        await turns()
        assert door.intake.is_hurried == is_hurried
        door.store.gate.set()
        await asyncio.gather(*asking)
        assert not door.intake.is_hurried

    play(scene)


# --- senders that go away


def test_a_client_that_goes_away_does_not_cancel_the_commit() -> None:
    async def scene(door: Door) -> None:
        door.store.gate.clear()
        gone, staying = asyncio.create_task(door.accept()), asyncio.create_task(door.accept())
        await turns()
        gone.cancel()
        await asyncio.wait([gone])
        assert gone.cancelled()
        door.store.gate.set()
        await staying
        assert len(door.store.sequences) == 2

    play(scene)


def test_a_message_has_its_reception_record_although_its_client_went_away() -> None:
    async def scene(door: Door) -> None:
        door.store.gate.clear()
        gone = asyncio.create_task(door.accept(draft(3)))
        await turns()
        gone.cancel()
        door.store.gate.set()
        await door.intake.close()
        assert (len(door.receptions_written), door.meters.receptions["http"]) == (3, 3)

    play(scene)


def test_a_failure_that_nobody_waits_for_any_more_disturbs_nobody() -> None:
    async def scene(door: Door) -> None:
        complaints: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: complaints.append(context))
        door.store.gate.clear()
        door.fail()
        gone = asyncio.create_task(door.accept())
        await turns()
        gone.cancel()
        door.store.gate.set()
        await door.intake.close()
        del gone
        await turns()
        assert complaints == []

    play(scene)


# --- records


def test_reception_records_are_written_list_by_list_in_order() -> None:
    async def scene(door: Door) -> None:
        results = taken(await door.accept(draft(2500)))
        await turns()
        assert door.batches == [1000, 1000, 500]
        assert door.receptions_written == [message.sequence for message in results]
        assert door.meters.receptions == {"http": 2500}

    play(scene)


def test_the_sender_of_many_waits_for_the_commit_and_delivery_for_their_records() -> None:
    async def scene(door: Door) -> None:
        await door.accept(draft(5 * MAX_LIST))
        assert len(door.store.commits) == 1
        assert (0 < len(door.batches) < 5, door.queued) == (True, [])
        await turns()
        assert door.events == ["record"] * 5 + ["queue"]

    play(scene)


def test_what_many_sent_together_is_recorded_together_in_order_and_in_bounded_turns() -> None:
    async def scene(door: Door) -> None:
        door.store.gate.clear()
        asking = [asyncio.create_task(door.accept(draft(1)))]
        await turns()
        asking += [asyncio.create_task(door.accept(draft(count))) for count in (*[1] * 300, 400, 400, 1001)]
        await turns()
        door.store.gate.set()
        results = [taken(result) for result in await asyncio.gather(*asking)]
        await door.intake.close()
        assert door.batches == [1, 700, 400, 1000, 1]
        assert door.receptions_written == [message.sequence for result in results for message in result]

    play(scene)


def test_a_message_knows_who_sent_it_and_when() -> None:
    async def scene(door: Door) -> None:
        (message,) = taken(
            await door.accept(draft(context={"campaign": "ferries"}, return_path="a@b", size=9))
        )
        part = message.part
        assert (part.received_at, part.protocol, part.client) == (NOW, "http", "192.0.2.7:40001")
        assert (part.context, part.return_path, part.size, part.salt) == (
            {"campaign": "ferries"},
            "a@b",
            9,
            77,
        )

    play(scene)


@pytest.mark.parametrize(("priority", "lane"), [(10, 10), (5, 5), (1, 1), (None, 10)])
def test_the_priority_is_the_lane(priority: int | None, lane: int) -> None:
    async def scene(door: Door) -> None:
        (message,) = taken(await door.accept(draft(priority=priority)))
        assert message.home.lane == lane

    play(scene)


def test_a_priority_of_the_future_goes_by_the_lane_that_it_reaches() -> None:
    assert [checking._lane(priority) for priority in (99, 7, 3, 0)] == [10, 5, 1, 1]


# --- turns, budgets, stopping


@pytest.mark.parametrize("many_drafts", [True, False])
def test_a_large_injection_lets_others_have_their_turns(many_drafts: bool) -> None:
    async def scene(door: Door) -> None:
        rounds = 0

        async def other() -> None:
            nonlocal rounds
            while True:
                rounds += 1
                await asyncio.sleep(0)

        beside = asyncio.create_task(other())
        drafts = [draft(1, first=n) for n in range(5 * SLICE)] if many_drafts else [draft(5 * SLICE)]
        door.fail()
        with pytest.raises(SpoolError):
            await door.accept(*drafts)
        beside.cancel()
        assert rounds >= 5

    play(scene)


def test_what_waits_for_the_disk_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "MAX_PENDING", 10)

    async def scene(door: Door) -> None:
        door.store.gate.clear()
        first = asyncio.create_task(door.accept(draft(10)))
        await turns()
        with pytest.raises(IntakeBusy) as caught:
            await door.accept()
        assert (caught.value.error, caught.value.retry_after_s) == ("ServiceUnavailable", 5)
        door.store.gate.set()
        await first
        await door.accept()

    play(scene)


def test_close_waits_for_what_was_taken_and_takes_nothing_more() -> None:
    async def scene(door: Door) -> None:
        door.store.gate.clear()
        asking = asyncio.create_task(door.accept())
        await turns()
        closing = asyncio.create_task(door.intake.close())
        await turns()
        assert (closing.done(), door.intake.is_ready) == (False, False)
        with pytest.raises(IntakeBusy):
            await door.accept()
        door.store.gate.set()
        await closing
        assert (len(await asking), len(door.store.sequences)) == (1, 1)

    play(scene)


def test_it_is_ready_while_the_disk_takes_what_is_written() -> None:
    async def scene(door: Door) -> None:
        assert door.intake.is_ready
        door.store.is_writable = False
        assert not door.intake.is_ready

    play(scene)


def test_busy_is_the_senders_error_to_retry() -> None:
    assert isinstance(IntakeBusy("full"), InjectionError)


def test_only_apn_domains_are_ours() -> None:
    async def scene(door: Door) -> None:
        assert (door.intake.is_apn("x.apns"), door.intake.is_apn("example.com")) == (True, False)

    play(scene)


# --- whatever comes together


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(1, 1200), st.booleans(), st.sampled_from(["", "", "fail", "cancel"])),
        max_size=12,
    )
)
def test_every_answered_message_is_on_disk_once_and_no_refused_one_is(
    asks: list[tuple[int, bool, str]],
) -> None:
    async def scene(door: Door) -> None:
        answered: set[int] = set()
        count = 0
        for size, waits, what in asks:
            door.store.error = SpoolError("spool: full") if what == "fail" else None
            asking = asyncio.create_task(door.accept(draft(size, priority=5 if size % 2 else 10)))
            await turns(3)
            if what == "cancel":
                asking.cancel()
            if waits or what:
                await asyncio.wait([asking])
            count += size
            asking.add_done_callback(
                lambda task: (
                    answered.update(m.sequence for m in taken(task.result()))
                    if not task.cancelled() and task.exception() is None
                    else None
                )
            )
        await turns(50)
        await door.intake.close()
        await turns(50)
        on_disk = door.store.sequences
        assert len(on_disk) == len(set(on_disk)) <= count
        assert answered <= set(on_disk)
        assert sorted(door.receptions_written) == sorted(on_disk)

    play(scene)


# --- scheduled


def test_what_is_scheduled_waits_in_lists_of_its_own_that_are_due_then() -> None:
    async def scene(door: Door) -> None:
        door.store.gate.clear()
        drafts = [draft(2), draft(2, 10, deliver_at=int(NOW) + 60), draft(1, 20, deliver_at=int(NOW) - 60)]
        later = asyncio.ensure_future(door.accept(*drafts, draft(1, 30, deliver_at=int(NOW) + 60)))
        await turns()
        door.store.gate.set()
        await later
        found = [(batch.home.due - NOW, len(batch.messages)) for batch in door.store.commits[0]]
        assert found == [(0, 3), (60, 3)]

    play(scene)


def test_a_full_list_that_is_scheduled_is_due_then() -> None:
    async def scene(door: Door) -> None:
        await door.accept(draft(MAX_LIST, deliver_at=int(NOW) + 60))
        assert [batch.home.due for batch in door.store.commits[0]] == [NOW + 60]

    play(scene)
