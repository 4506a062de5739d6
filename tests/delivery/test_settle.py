"""Record first, then the spool, then the queues; a log that fails holds everything back and loses nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from momentum_push.clock import ManualClock
from momentum_push.delivery import settle
from momentum_push.delivery.records import Peer
from momentum_push.delivery.settle import Settler
from momentum_push.delivery.verdict import Judge, Verdict
from momentum_push.errors import SpoolError
from momentum_push.message import MAX_LIST, Disposition, Home, Kind, Message, MessageList
from momentum_push.meters import Meters
from momentum_push.queues import QueueManager, RetryPolicy
from tests.helpers.delivery import TABLE, Log, left, outcome, turns
from tests.helpers.lists import NOW, QUEUE, message_list


class Disk:
    """A spool that notes what it is told, and commits when the test says so."""

    def __init__(self, events: list[Any]) -> None:
        self.events = events
        self.gate = asyncio.Event()
        self.gate.set()
        self.error: SpoolError | None = None
        self.lists: list[MessageList] = []
        self._number = 100

    def settle(self, homes: Sequence[Home], retries: Sequence[MessageList] = ()) -> Awaitable[None]:
        for batch in retries:
            self._number += 1
            batch.home.number = self._number
        self.lists += retries
        self.events.append(("settle", [home.number for home in homes], [len(b.messages) for b in retries]))
        return self._commit(list(retries))

    async def _commit(self, retries: list[MessageList]) -> None:
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        self.events.append(("committed", len(retries)))

    async def page(self, *place: Any) -> list[MessageList]:
        return []


class Bench:
    def __init__(self, gap_s: float = 0.0) -> None:
        self.events: list[Any] = []
        self.clock = ManualClock(NOW)
        self.log, self.disk, self.meters = Log(self.events), Disk(self.events), Meters()
        self.queues = QueueManager(self.disk, self.clock, lambda queue: self.events.append("due"), 0)
        self.settler = Settler(
            records=self.log,
            spool=self.disk,
            queues=self.queues,
            meters=self.meters,
            clock=self.clock,
            on_unblocked=lambda: self.events.append("unblocked"),
            gap_s=gap_s,
        )
        self._count = 0

    def put(self, count: int = 3, **changes: Any) -> list[Message]:
        """Queue a list and take it out again, as a pool does."""
        self._count += 1
        batch = message_list(count, first=1000 * self._count + 1, **changes)
        batch.home.number = self._count
        self.queues.add([batch])
        taken = self.queues.get(QUEUE).take(count, NOW)
        self.events.clear()
        return taken

    def verdict(self, messages: Sequence[Message], status: int = 200, reason: str = "") -> Verdict:
        bench = Judge(TABLE, RetryPolicy(retry_interval=60))
        return bench.judge([outcome(item, status, reason) for item in messages], Peer("192.0.2.1"), NOW)

    def settle(self, messages: Sequence[Message], status: int = 200, reason: str = "") -> None:
        self.settler.settle(QUEUE, self.verdict(messages, status, reason))


def test_the_record_comes_first_then_the_disk_then_the_queue() -> None:
    """design.md 1, fact 3."""

    async def scenario() -> None:
        bench = Bench()
        messages = bench.put(2)
        bench.settle(messages, 503, "ServiceUnavailable")
        await bench.settler.flush()
        assert bench.events == [("record", [1001, 1002]), ("settle", [1], [2]), ("committed", 1)]
        assert bench.queues.get(QUEUE).delayed == 2

    asyncio.run(scenario())


def test_a_retry_is_queued_only_when_its_list_is_on_disk() -> None:
    async def scenario() -> None:
        bench = Bench()
        bench.disk.gate.clear()
        bench.settle(bench.put(2), 503, "ServiceUnavailable")
        await turns()
        assert bench.queues.get(QUEUE).delayed == 0
        bench.disk.gate.set()
        await bench.settler.flush()
        assert bench.queues.get(QUEUE).delayed == 2

    asyncio.run(scenario())


def test_a_partly_settled_list_keeps_the_bits_of_those_that_left() -> None:
    async def scenario() -> None:
        bench = Bench()
        messages = bench.put(3)
        home = messages[0].home
        bench.settle(messages[1:2])
        assert (left(home), home.remaining, bench.queues.resident) == ([1], 2, 2)
        bench.settle([messages[0], messages[2]])
        await bench.settler.flush()
        assert (home.remaining, bench.queues.resident) == (0, 0)

    asyncio.run(scenario())


def test_retries_become_lists_of_at_most_a_thousand_per_due_attempts_and_lane() -> None:
    async def scenario() -> None:
        bench = Bench()
        tried = bench.put(300, attempts=1)
        low = bench.put(40, lane=5)
        many = [message for _ in range(3) for message in bench.put(1000)]
        bench.settle([*many[:2100], *tried, *low], 503, "ServiceUnavailable")
        sizes = [
            (batch.home.lane, batch.home.attempts, batch.home.due - NOW, len(batch.messages))
            for batch in bench.disk.lists
        ]
        assert sizes == [
            (10, 1, 60.0, MAX_LIST),
            (10, 1, 60.0, MAX_LIST),
            (10, 1, 60.0, 100),
            (5, 1, 60.0, 40),
            (10, 2, 120.0, 300),
        ]
        assert all(item.home is batch.home for batch in bench.disk.lists for item in batch.messages)
        await bench.settler.flush()
        assert bench.queues.resident == 900 + 2440

    asyncio.run(scenario())


def test_meters_count_what_was_recorded() -> None:
    async def scenario() -> None:
        bench = Bench()
        bench.settle(bench.put(3))
        bench.settle(bench.put(2), 410, "Unregistered")
        bench.settle(bench.put(1), 503, "ServiceUnavailable")
        await bench.settler.flush()
        labels = (QUEUE.domain, QUEUE.binding)
        assert bench.meters.deliveries == {labels: 3}
        assert bench.meters.permfails == {(*labels, "Unregistered"): 2}
        assert bench.meters.tempfails == {(*labels, "ServiceUnavailable"): 1}
        assert bench.meters.queue_seconds[labels].count == 3

    asyncio.run(scenario())


def test_the_text_of_a_lost_connection_is_no_label_of_a_metric() -> None:
    async def scenario() -> None:
        bench = Bench()
        (message,) = bench.put(1)
        lost = Disposition(
            Kind.TEMPFAIL, message, NOW, 1, status=255, reason="connection lost: [Errno 104] …"
        )
        bench.settler.settle(QUEUE, Verdict([lost], done=[message]))
        await bench.settler.flush()
        assert bench.meters.tempfails == {(QUEUE.domain, QUEUE.binding, "NoAnswer"): 1}

    asyncio.run(scenario())


@given(st.lists(st.tuples(st.integers(200, 999), st.text(max_size=40)), max_size=200))
def test_no_peer_makes_up_labels(answers: list[tuple[int, str]]) -> None:
    """A label lives as long as the daemon: words of the table and statuses of HTTP, and nothing else."""
    labels = {
        settle._label(item)
        for status, word in answers
        for item in Judge(TABLE, RetryPolicy())
        .judge([outcome(message_list(1).messages[0], status, word)], Peer("192.0.2.1"), NOW)
        .dispositions
        if item.kind is not Kind.DELIVERED
    }
    ours = {word for _, word, _ in TABLE} | {f"Status{status}" for status in range(300, 600)} | {"other"}
    assert labels <= ours


def test_a_reason_that_nobody_knows_is_reported_once_and_its_message_goes_its_way() -> None:
    async def scenario() -> None:
        bench = Bench()
        judge = Judge(TABLE, RetryPolicy())
        with structlog.testing.capture_logs() as logs:
            for message in bench.put(3):
                answer = outcome(message, 410, "Vanished" + "!" * 200)
                bench.settler.settle(QUEUE, judge.judge([answer], Peer("192.0.2.1"), NOW))
        await bench.settler.flush()
        (line,) = [line for line in logs if line["event"] == "unknown_reason"]
        assert (line["log_level"], line["status"], line["domain"]) == ("error", 410, QUEUE.domain)
        assert line["reason"].startswith("Vanished!") and len(line["reason"]) == settle.MAX_WORD
        assert "apn_reasons_file" in line["fix"]
        assert bench.log.kinds() == {"P": 3}

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("status", "word", "label"),
    [
        (410, "Unregistered", "Unregistered"),
        (410, "Vanished", "Status410"),
        (503, "", "Status503"),
        (999, "Unregistered", "other"),
    ],
)
def test_the_label_is_apples_word_else_the_status(status: int, word: str, label: str) -> None:
    judge = Judge(TABLE, RetryPolicy())
    message = message_list(1).messages[0]
    (item,) = judge.judge([outcome(message, status, word)], Peer("192.0.2.1"), NOW).dispositions
    assert settle._label(item) == label


# --- a log that fails


def test_a_log_that_fails_removes_nothing_and_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        bench = Bench()
        bench.log.is_failing = True
        messages = bench.put(3)
        bench.settle(messages[:2])
        bench.settle(messages[2:], 503, "ServiceUnavailable")
        await turns()
        assert bench.settler.is_blocked
        assert (bench.events, left(messages[0].home), bench.queues.resident) == ([], [], 3)

    asyncio.run(scenario())


def test_when_the_log_works_again_all_is_recorded_once_and_released(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settle, "_RETRY_LOG_S", 0.001)

    async def scenario() -> None:
        bench = Bench()
        bench.log.is_failing = True
        messages = bench.put(3)
        for item in messages:
            bench.settle([item])
        await asyncio.sleep(0.01)
        assert bench.settler.is_blocked
        bench.log.is_failing = False
        async with asyncio.timeout(5):
            while bench.settler.is_blocked:
                await asyncio.sleep(0.001)
        await bench.settler.flush()
        assert [item.message.sequence for item in bench.log.written] == [1001, 1002, 1003]
        order = [event if isinstance(event, str) else event[0] for event in bench.events]
        assert order[:2] == ["record", "settle"] and order.count("record") == order.count("settle") == 3
        assert order.count("unblocked") == 1
        assert bench.queues.resident == 0

    asyncio.run(scenario())


def test_a_log_that_fails_again_in_between_goes_on_where_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settle, "_RETRY_LOG_S", 0.001)

    async def scenario() -> None:
        bench = Bench()
        bench.log.is_failing = True
        messages = bench.put(4)
        for item in messages:
            bench.settle([item])
        room = [2]  # records that the disk takes before it is full again
        write = bench.log.retry

        def retry() -> None:
            bench.log.is_failing = room[0] <= 0
            room[0] -= 1
            write()

        monkeypatch.setattr(bench.log, "retry", retry)
        async with asyncio.timeout(5):
            while room[0] > -3:
                await asyncio.sleep(0.001)
            assert bench.settler.is_blocked
            room[0] = 10
            while bench.settler.is_blocked:
                await asyncio.sleep(0.001)
        await bench.settler.flush()
        assert [item.message.sequence for item in bench.log.written] == [1001, 1002, 1003, 1004]
        assert bench.queues.resident == 0

    asyncio.run(scenario())


def test_a_stopping_daemon_tries_the_log_once_more() -> None:
    async def scenario() -> None:
        bench = Bench()
        bench.log.is_failing = True
        bench.settle(bench.put(2))
        bench.log.is_failing = False
        await bench.settler.flush()
        assert (len(bench.log.written), bench.queues.resident) == (2, 0)
        assert bench.events[-1] == ("committed", 0)

    asyncio.run(scenario())


def test_a_stopping_daemon_does_not_wait_for_a_log_for_ever() -> None:
    async def scenario() -> None:
        bench = Bench()
        bench.log.is_failing = True
        messages = bench.put(2)
        bench.settle(messages)
        async with asyncio.timeout(5):
            await bench.settler.flush()
        assert (bench.log.written, left(messages[0].home)) == ([], [])

    asyncio.run(scenario())


def test_a_note_that_cannot_be_written_blocks_nothing() -> None:
    async def scenario() -> None:
        bench = Bench()
        verdict = bench.verdict(bench.put(1), 403, "InvalidProviderToken")
        bench.log.is_failing = True
        assert verdict.accusation is not None
        bench.settler.note(verdict.accusation)
        assert not bench.settler.is_blocked

    asyncio.run(scenario())


def test_a_verdict_without_records_touches_nothing() -> None:
    async def scenario() -> None:
        bench = Bench()
        bench.settle(bench.put(2), 503, "Shutdown")
        await bench.settler.flush()
        assert bench.events == []

    asyncio.run(scenario())


def test_a_spool_that_closes_first_is_said_and_swallows_nobody() -> None:
    async def scenario() -> None:
        bench = Bench()
        bench.disk.error = SpoolError("spool: closed")
        bench.settle(bench.put(2), 503, "ServiceUnavailable")
        await bench.settler.flush()
        assert bench.queues.get(QUEUE).delayed == 0

    asyncio.run(scenario())


def test_flush_waits_for_what_is_settled_meanwhile() -> None:
    async def scenario() -> None:
        bench = Bench()
        bench.disk.gate.clear()
        bench.settle(bench.put(1))
        flushing = asyncio.create_task(bench.settler.flush())
        await turns()
        bench.settle(bench.put(1))
        assert not flushing.done()
        bench.disk.gate.set()
        await flushing
        assert [event for event in bench.events if event[0] == "committed"] == [("committed", 0)] * 2

    asyncio.run(scenario())


# --- verdicts that follow each other closely

LONG_S = 3600.0


def of_three(bench: Bench) -> list[list[Message]]:
    """Three messages of three lists, which are taken and not settled yet."""
    return [bench.put(1), bench.put(1), bench.put(1)]


def test_the_removal_of_a_verdict_that_comes_alone_is_handed_over_at_once() -> None:
    async def scenario() -> None:
        bench = Bench(LONG_S)
        for _ in range(2):
            bench.settle(bench.put(1))
            assert [event[0] for event in bench.events] == ["record", "settle"]
            bench.clock.advance(LONG_S)
        await bench.settler.flush()

    asyncio.run(scenario())


def test_removals_within_the_gap_share_one_transaction_and_records_wait_for_nothing() -> None:
    async def scenario() -> None:
        bench = Bench(LONG_S)
        first, second, third = of_three(bench)
        bench.settle(bench.put(1))
        bench.events.clear()
        bench.settle(first)
        bench.settle(second, 503, "ServiceUnavailable")
        assert bench.events == [("record", [1001]), ("record", [2001])]
        assert (bench.queues.resident, first[0].home.remaining) == (1, 0)
        bench.clock.advance(LONG_S)
        bench.settle(third)
        assert bench.events[2:] == [("record", [3001]), ("settle", [1, 2, 3], [1])]
        await bench.settler.flush()
        assert bench.queues.get(QUEUE).active == 1  # the second's time has come meanwhile

    asyncio.run(scenario())


def test_messages_of_one_list_are_marked_once_for_all_reads_that_brought_them() -> None:
    async def scenario() -> None:
        bench = Bench(LONG_S)
        messages = bench.put(3)
        bench.settle(bench.put(1))
        bench.events.clear()
        bench.settle(messages[:1])
        bench.settle(messages[1:])
        await bench.settler.flush()
        assert ("settle", [1], []) in bench.events
        assert messages[0].home.remaining == 0

    asyncio.run(scenario())


def test_what_is_gathered_waits_no_longer_than_the_gap() -> None:
    async def scenario() -> None:
        bench = Bench(0.002)
        first, *_ = of_three(bench)
        bench.settle(bench.put(1))
        bench.events.clear()
        bench.settle(first)  # the clock of the test stands still: it is the loop that rings
        async with asyncio.timeout(20):
            while ("settle", [1], []) not in bench.events:
                await asyncio.sleep(0.001)
        await bench.settler.flush()

    asyncio.run(scenario())


def test_enough_removals_wait_for_nothing() -> None:
    async def scenario() -> None:
        bench = Bench(LONG_S)
        one, many = bench.put(1), bench.put(settle.ENOUGH - 1)
        bench.settle(bench.put(1))
        bench.events.clear()
        bench.settle(one)
        assert [event[0] for event in bench.events] == ["record"]
        bench.settle(many)
        assert bench.events[-1] == ("settle", [1, 2], [])
        await bench.settler.flush()

    asyncio.run(scenario())


def test_flush_hands_over_what_is_gathered_and_what_gathers_meanwhile() -> None:
    async def scenario() -> None:
        bench = Bench(LONG_S)
        first, second, _ = of_three(bench)
        bench.settle(bench.put(1))
        bench.settle(first)
        bench.disk.gate.clear()
        flushing = asyncio.create_task(bench.settler.flush())
        await turns()
        bench.settle(second)
        bench.disk.gate.set()
        await flushing
        assert [event for event in bench.events if event[0] == "committed"] == [("committed", 0)] * 3

    asyncio.run(scenario())
