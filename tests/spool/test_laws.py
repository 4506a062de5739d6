"""What every spool promises: the same tests over SQLite and its twin in memory (`seam.py`, design.md 4)."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from momentum_push.errors import SpoolError
from momentum_push.message import MessageList
from momentum_push.message.ids import SALT_BITS, first_sequence
from momentum_push.message.keys import Key, Receipt
from momentum_push.spool import START, QueueCount, Spool
from momentum_push.spool.sequences import BLOCK
from tests.helpers.lists import NOW, QUEUE, message, message_list, part, queue_key, token_of
from tests.helpers.spools import BENCHES, Bench, everything, facts, opened, sequences_in


@pytest.fixture(params=BENCHES, ids=lambda bench: bench.__name__)
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Bench:
    made: Bench = request.param(tmp_path)
    return made


def run(scenario: Coroutine[Any, Any, None]) -> None:
    async def with_deadline() -> None:
        async with asyncio.timeout(30):
            await scenario

    asyncio.run(with_deadline())


def leave(item: MessageList, *places: int) -> MessageList:
    for place in places:
        item.home.leave(place)
    return item


def test_what_was_acknowledged_is_there_after_a_crash(bench: Bench) -> None:
    async def scenario() -> None:
        spool = await bench.open()
        shared = part(context={"campaign": "ferries"}, salt=spool.salt)
        kept = message_list(5, first=100, due=NOW + 3, attempts=2, lane=5, shared=shared)
        await spool.append([kept, message_list(2, first=200, queue=queue_key("other.apns"))])
        await bench.crash(spool)
        async with opened(bench) as again:
            assert await sequences_in(again) == [100, 101, 102, 103, 104, 200, 201]
            (found,) = await again.page(QUEUE, 5, START, 1000)
            assert list(map(facts, found.messages)) == list(map(facts, kept.messages))
            home = found.home
            assert (home.queue, home.lane, home.due, home.attempts) == (QUEUE, 5, NOW + 3, 2)
            assert (home.number, home.count, home.remaining) == (kept.home.number, 5, 5)
            assert again.salt == shared.salt

    run(scenario())


def test_what_was_settled_is_gone_after_a_crash(bench: Bench) -> None:
    async def scenario() -> None:
        spool = await bench.open()
        done, begun = message_list(3), message_list(10, first=50)
        await spool.append([done, begun])
        leave(done, 0, 1, 2)
        leave(begun, 0, 9)
        await spool.settle([done.home, begun.home])
        await bench.crash(spool)
        async with opened(bench) as again:
            (found,) = await everything(again)
            assert [m.sequence for m in found.messages] == list(range(51, 59))
            assert [m.place for m in found.messages] == list(range(1, 9))
            assert (found.home.count, found.home.remaining) == (10, 8)

    run(scenario())


def test_progress_is_that_of_the_call(bench: Bench) -> None:
    async def scenario() -> None:
        async with opened(bench) as spool:
            item = message_list(8)
            await spool.append([item])
            settling = spool.settle([leave(item, 0).home])
            leave(item, 1, 2)
            await settling
            (found,) = await everything(spool)
            assert [m.place for m in found.messages] == [1, 2, 3, 4, 5, 6, 7]

    run(scenario())


def test_several_settles_of_one_list_add_up(bench: Bench) -> None:
    async def scenario() -> None:
        async with opened(bench) as spool:
            item = message_list(20)
            await spool.append([item])
            await asyncio.gather(*[spool.settle([leave(item, place).home]) for place in range(15)])
            assert await sequences_in(spool) == list(range(16, 21))
            await asyncio.gather(*[spool.settle([leave(item, place).home]) for place in range(15, 20)])
            assert await everything(spool) == []

    run(scenario())


def test_a_settle_of_what_is_gone_changes_nothing(bench: Bench) -> None:
    async def scenario() -> None:
        async with opened(bench) as spool:
            item = message_list(2)
            await spool.append([item, message_list(3, first=10)])
            for _ in range(2):
                await spool.settle([leave(item, 0, 1).home])
            assert [(lane.lists, lane.messages) for lane in await spool.overview()] == [(1, 3)]

    run(scenario())


def test_a_removal_and_its_retries_are_one(bench: Bench) -> None:
    async def scenario() -> None:
        spool = await bench.open()
        item = message_list(4)
        await spool.append([item])
        before = [facts(m)[:4] for m in item.messages]
        leave(item, 0, 1, 2, 3)
        retry = MessageList.gather(QUEUE, 10, NOW + 1200, item.messages[1:3], attempts=1)
        await spool.settle([item.home], [retry])
        assert retry.home.number > item.home.number
        await bench.crash(spool)
        async with opened(bench) as again:
            (found,) = await everything(again)
            assert [facts(m)[:4] for m in found.messages] == before[1:3]
            assert (found.home.due, found.home.attempts) == (NOW + 1200, 1)

    run(scenario())


def test_a_retry_that_is_done_before_it_is_written_never_appears(bench: Bench) -> None:
    async def scenario() -> None:
        async with opened(bench) as spool:
            item = message_list(2)
            await spool.append([item])
            messages = item.messages
            old = leave(item, 0, 1).home
            retry = MessageList.gather(QUEUE, 10, NOW, messages)
            first = spool.settle([old], [retry])
            second = spool.settle([leave(retry, 0).home])
            third = spool.settle([leave(retry, 1).home])
            await asyncio.gather(first, second, third)
            assert await everything(spool) == [] == await spool.overview()

    run(scenario())


def test_pages_are_in_order_and_within_their_limit(bench: Bench) -> None:
    async def scenario() -> None:
        async with opened(bench) as spool:
            dues = [30.0, 10.0, 20.0, 10.0, 40.0]
            lists = [message_list(4, first=10 * at, due=due) for at, due in enumerate(dues)]
            await spool.append([*lists, message_list(3, lane=5), message_list(3, queue=queue_key("b"))])
            expected = sorted((item.home.due, item.home.number) for item in lists)
            for limit, sizes in [(1, [1] * 5), (4, [1] * 5), (7, [1] * 5), (8, [2, 2, 1]), (99, [5])]:
                pages = await walk(spool, limit)
                assert [len(page) for page in pages] == sizes
                assert [(m.home.due, m.home.number) for page in pages for m in page] == expected
            await spool.settle([leave(lists[1], 0, 1).home])
            assert [len(item.messages) for item in (await walk(spool, 6))[0]] == [2, 4]
            assert await spool.page(queue_key("unknown"), 10, START, 10) == []

    run(scenario())


async def walk(spool: Spool, limit: int) -> list[list[MessageList]]:
    pages = []
    after = START
    while page := await spool.page(QUEUE, 10, after, limit):
        pages.append(page)
        after = (page[-1].home.due, page[-1].home.number)
    return pages


def test_a_walk_meets_no_list_twice_while_others_arrive_and_leave(bench: Bench) -> None:
    async def scenario() -> None:
        chance = random.Random(7)
        async with opened(bench) as spool:
            lists = [message_list(3, due=chance.choice([10.0, 20.0, 30.0])) for _ in range(30)]
            await spool.append(lists)
            met: list[int] = []
            after = START
            while page := await spool.page(QUEUE, 10, after, 7):
                met += [item.home.number for item in page]
                after = (page[-1].home.due, page[-1].home.number)
                if len(met) < 60:
                    await spool.append([message_list(2, due=chance.choice([5.0, 10.0, 25.0, 99.0]))])
                await spool.settle([leave(page[0], 0, 1, 2).home])
            assert len(met) == len(set(met))
            assert {item.home.number for item in lists} <= set(met)

    run(scenario())


def test_the_overview_equals_a_recount(bench: Bench) -> None:
    async def scenario() -> None:
        chance = random.Random(11)
        spool = await bench.open()
        model: list[MessageList] = []
        for step in range(60):
            if step % 20 == 19:
                await bench.crash(spool)
                spool = await bench.open()
            new = [random_list(chance) for _ in range(chance.randint(1, 3))]
            await spool.append(new)
            model += new
            touched = chance.sample(model, min(3, len(model)))
            for item in touched:
                leave(item, *chance.sample(range(item.home.count), chance.randint(1, item.home.count)))
            await spool.settle([item.home for item in touched])
            model = [item for item in model if item.home.remaining]
        assert sorted(await spool.overview()) == sorted(recount(model))
        await spool.close()

    run(scenario())


def random_list(chance: random.Random) -> MessageList:
    return message_list(
        chance.randint(1, 12),
        queue=queue_key(chance.choice(["a", "b"])),
        lane=chance.choice([10, 5, 1]),
        due=NOW + chance.randint(0, 99),
        shared=part(received_at=NOW - chance.randint(0, 99)),
    )


def recount(lists: list[MessageList]) -> list[QueueCount]:
    lanes: dict[Any, list[MessageList]] = {}
    for item in lists:
        lanes.setdefault((item.home.queue, item.home.lane), []).append(item)
    return [
        QueueCount(
            queue,
            lane,
            len(items),
            sum(item.home.remaining for item in items),
            min(m.part.received_at for item in items for m in item.messages),
            min(item.home.due for item in items),
        )
        for (queue, lane), items in lanes.items()
    ]


def test_a_message_is_found_by_its_number_as_long_as_it_waits(bench: Bench) -> None:
    """Ranges of retried lists are wide and overlap."""

    async def scenario() -> None:
        async with opened(bench) as spool:
            plain = message_list(10, first=1000)
            scattered = message_list(of=[message(1), message(1005 << 20), message(5)])
            wide = message_list(of=[message(2), message(2**48 - 1), message(0)])
            await spool.append([plain, scattered, wide])
            for sequence in (0, 1, 2, 5, 1000, 1009, 1005 << 20, 2**48 - 1):
                found = await spool.find(sequence)
                assert found is not None and found.token == token_of(sequence)
            for sequence in (3, 999, 1010, 2**40):
                assert await spool.find(sequence) is None
            await spool.settle([leave(plain, 4).home])
            assert await spool.find(1004) is None
            again = await spool.find(1005)
            assert again is not None and again.place == 5 and again.home.number == plain.home.number

    run(scenario())


def test_sequences_never_repeat_over_closing_and_crashing(bench: Bench) -> None:
    async def scenario() -> None:
        taken: list[tuple[int, int]] = []
        for turn in range(6):
            spool = await bench.open()
            for count in (1, 500, BLOCK, 7, BLOCK // 2):
                async with asyncio.timeout(10):
                    first = await take(spool, count)
                taken.append((first, first + count))
            await (spool.close() if turn % 2 else bench.crash(spool))
        assert taken[0][0] == first_sequence(NOW)
        assert all(end <= start for (_, end), (start, _) in pairwise(taken))

    run(scenario())


async def take(spool: Spool, count: int) -> int:
    """Take numbers as soon as they are in stock; the writer fills it up meanwhile."""
    while True:
        try:
            return spool.take_sequences(count)
        except SpoolError:
            await asyncio.sleep(0.001)


def test_a_block_is_in_stock_at_any_time_after_a_commit(bench: Bench) -> None:
    async def scenario() -> None:
        async with opened(bench) as spool:
            for _ in range(5):
                spool.take_sequences(BLOCK)
                await spool.append([message_list(1)])

    run(scenario())


def test_more_numbers_than_are_in_stock_are_an_error_and_take_none(bench: Bench) -> None:
    async def scenario() -> None:
        async with opened(bench) as spool:
            first = spool.take_sequences(1)
            with pytest.raises(SpoolError, match="message ids were asked for"):
                spool.take_sequences(100 * BLOCK)
            assert spool.take_sequences(1) == first + 1

    run(scenario())


def test_numbers_of_lists_are_given_at_the_call_and_grow(bench: Bench) -> None:
    async def scenario() -> None:
        spool = await bench.open()
        early, late = message_list(1), message_list(1)
        first, second = spool.append([early]), spool.append([late])
        assert 0 < early.home.number < late.home.number
        await second
        await first
        await bench.crash(spool)
        async with opened(bench) as again:
            await again.append([item := message_list(1)])
            assert item.home.number > late.home.number

    run(scenario())


def test_a_list_without_all_its_messages_is_refused_at_once(bench: Bench) -> None:
    async def scenario() -> None:
        async with opened(bench) as spool:
            item = message_list(3)
            del item.messages[1]
            with pytest.raises(ValueError, match="2 are here"):
                spool.append([item])

    run(scenario())


def test_one_list_that_cannot_be_stored_keeps_out_all_of_its_call_and_no_other(bench: Bench) -> None:
    async def scenario() -> None:
        async with opened(bench) as spool:
            good, bad = message_list(2), message_list(1, rcpt="\udc80")
            results = await asyncio.gather(
                spool.append([message_list(1, first=7)]),
                spool.append([good, bad]),
                spool.append([message_list(1, first=8)]),
                return_exceptions=True,
            )
            assert [type(result) for result in results] == [type(None), SpoolError, type(None)]
            assert good.home.number == 0
            assert await sequences_in(spool) == [7, 8]

    run(scenario())


def test_the_salt_has_74_bits_and_stays(bench: Bench) -> None:
    async def scenario() -> None:
        spool = await bench.open()
        salt = spool.salt
        await spool.close()
        async with opened(bench) as again:
            assert again.salt == salt and 0 < salt < 1 << SALT_BITS

    run(scenario())


def test_after_closing_every_call_says_so(bench: Bench) -> None:
    async def scenario() -> None:
        spool = await bench.open()
        await spool.close()
        await spool.close()
        with pytest.raises(SpoolError):
            spool.take_sequences(1)
        with pytest.raises(SpoolError):
            await spool.append([message_list(1)])
        with pytest.raises(SpoolError):
            await spool.settle([message_list(1).home])

    run(scenario())


def test_an_empty_append_and_an_empty_settle_are_no_error(bench: Bench) -> None:
    async def scenario() -> None:
        async with opened(bench) as spool:
            await spool.append([])
            await spool.settle([])

    run(scenario())


# Marks of what may have been sent


def mark(item: MessageList, *places: int) -> MessageList:
    for place in places:
        item.home.mark(place)
    return item


def marked(item: MessageList) -> list[int]:
    return [message.sequence for message in item.messages if item.home.is_marked(message.place)]


def test_marks_survive_a_crash_and_hide_no_message(bench: Bench) -> None:
    async def scenario() -> None:
        spool = await bench.open()
        item, other = message_list(20, first=100), message_list(3, first=200)
        await spool.append([item, other])
        await spool.mark_sent([mark(item, 0, 9, 19).home])
        await bench.crash(spool)
        async with opened(bench) as again:
            found, untouched = await everything(again)
            assert len(found.messages) == 20 and marked(found) == [100, 109, 119]
            assert untouched.home.sent is None

    run(scenario())


def test_what_is_unmarked_is_unmarked_after_a_crash(bench: Bench) -> None:
    async def scenario() -> None:
        spool = await bench.open()
        item = message_list(3)
        await spool.append([item])
        marking = spool.mark_sent([mark(item, 0, 1).home])
        item.home.unmark(0)
        await asyncio.gather(marking, spool.mark_sent([item.home]))
        await bench.crash(spool)
        spool = await bench.open()
        (found,) = await everything(spool)
        assert marked(found) == [2]
        found.home.unmark(1)
        await spool.mark_sent([found.home])
        await bench.crash(spool)
        async with opened(bench) as again:
            assert [marked(item) for item in await everything(again)] == [[]]

    run(scenario())


def test_marks_and_progress_of_one_list_do_not_touch_each_other(bench: Bench) -> None:
    async def scenario() -> None:
        spool = await bench.open()
        item = message_list(9)
        await spool.append([item])
        marking = spool.mark_sent([mark(item, 0, 1, 8).home])
        settling = spool.settle([leave(item, 1, 2).home])
        await asyncio.gather(marking, settling)
        await spool.settle([leave(item, 3).home])
        await bench.crash(spool)
        async with opened(bench) as again:
            (found,) = await everything(again)
            assert [m.sequence for m in found.messages] == [1, 5, 6, 7, 8, 9]
            assert marked(found) == [1, 9]

    run(scenario())


def test_marks_of_a_list_that_is_gone_never_count_for_another(bench: Bench) -> None:
    """Numbers of lists begin again after a restart where nothing is left of them."""

    async def scenario() -> None:
        spool = await bench.open()
        for is_late in (False, True):
            item = message_list(2)
            await spool.append([item])
            if not is_late:
                await spool.mark_sent([mark(item, 0, 1).home])
            await spool.settle([leave(item, 0, 1).home])
            if is_late:
                await spool.mark_sent([mark(item, 0, 1).home])
        await bench.crash(spool)
        async with opened(bench) as again:
            await again.append([message_list(2), message_list(2, first=5)])
            assert [marked(item) for item in await everything(again)] == [[], []]

    run(scenario())


# Receipts


def receipt(name: bytes = b"a", first: int = 100, **changes: Any) -> Receipt:
    values: dict[str, Any] = {"created": NOW, "results": 3, "refusals": b""} | changes
    return Receipt(Key(name, b"body", values.pop("part", 0)), first=first, **values)


def test_a_receipt_is_there_after_a_crash_with_its_lists(bench: Bench) -> None:
    async def scenario() -> None:
        spool = await bench.open()
        kept = [receipt(), receipt(part=1, first=200), receipt(b"b", refusals=b"some", first=0)]
        await spool.append([message_list(3, first=100)], kept)
        await bench.crash(spool)
        async with opened(bench) as again:
            assert await sequences_in(again) == [100, 101, 102]
            for one in kept:
                assert await again.receipt(one.key._replace(body=b"another")) == one
            assert await again.receipt(Key(b"a", b"body", 2)) is None

    run(scenario())


def test_receipts_without_lists_are_kept_and_a_later_one_takes_the_place(bench: Bench) -> None:
    async def scenario() -> None:
        async with opened(bench) as spool:
            await spool.append([], [receipt()])
            later = receipt(created=NOW + 90_000, first=300)
            await spool.append([message_list(1, first=300)], [later])
            assert await spool.receipt(later.key) == later

    run(scenario())


def test_a_refused_append_leaves_no_receipt(bench: Bench) -> None:
    async def scenario() -> None:
        spool = await bench.open()
        work = spool.append([message_list(1)], [receipt()])
        await spool.close()
        with pytest.raises(SpoolError):
            await work
        async with opened(bench) as again:
            assert await again.receipt(receipt().key) is None
            assert await sequences_in(again) == []

    run(scenario())
