"""Injections under a key, through the intake: taken once, answered alike."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from momentum_push.errors import SpoolError
from momentum_push.injection.keyring import KeyInUse, KeyReused, results_of, write_receipt
from momentum_push.message import Message, Refusal
from momentum_push.message.keys import KEY_LIFETIME_S, Key
from tests.helpers.lists import token_of
from tests.helpers.taking import ORIGIN, Door, draft

KEY = Key(b"name", b"body")
BAD = draft(tokens=["nonsense", token_of(1), "x" * 64])


def play(scene: Callable[[Door], Coroutine[Any, Any, None]]) -> None:
    async def with_deadline() -> None:
        async with asyncio.timeout(20):
            await scene(Door())

    asyncio.run(with_deadline())


def shown(results: list[Message | Refusal]) -> list[tuple[str, str]]:
    return [
        (one.error, one.detail) if isinstance(one, Refusal) else (one.mid, one.apns_id) for one in results
    ]


async def turns(count: int = 10) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def test_the_same_again_has_the_same_answer_and_queues_nothing() -> None:
    async def scene(door: Door) -> None:
        first = await door.accept(draft(1200), BAD, key=KEY)
        for _ in range(2):
            assert shown(await door.accept(draft(1200), BAD, key=KEY)) == shown(first)
        assert len(door.store.sequences) == 1201 == len(door.receptions_written)
        assert door.meters.duplicate_injections == {"http": 2}
        assert door.meters.receptions == {"http": 1201}

    play(scene)


def test_another_body_under_the_key_is_refused_and_nothing_is_queued() -> None:
    async def scene(door: Door) -> None:
        await door.accept(key=KEY)
        with pytest.raises(KeyReused):
            await door.accept(draft(5), key=KEY._replace(body=b"other"))
        assert len(door.store.sequences) == 1

    play(scene)


def test_while_the_first_is_under_way_nobody_else_has_the_key_though_its_sender_is_gone() -> None:
    async def scene(door: Door) -> None:
        door.store.gate.clear()
        first = asyncio.create_task(door.accept(draft(3), key=KEY))
        await turns()
        with pytest.raises(KeyInUse):
            await door.accept(draft(3), key=KEY)
        first.cancel()
        await turns()
        with pytest.raises(KeyInUse):
            await door.accept(draft(3), key=KEY)
        assert len(await asyncio.wait_for(_other(door), 5)) == 1
        results = await door.accept(draft(3), key=KEY)
        assert [one.sequence for one in results if isinstance(one, Message)] == [1, 2, 3]
        assert len(door.store.sequences) == 4

    async def _other(door: Door) -> list[Message | Refusal]:
        door.store.gate.set()
        return await door.accept(draft(1, first=9), key=Key(b"other", b"body"))

    play(scene)


def test_what_the_disk_refused_can_be_sent_again() -> None:
    async def scene(door: Door) -> None:
        door.fail()
        with pytest.raises(SpoolError):
            await door.accept(draft(2), key=KEY)
        door.store.error = None
        assert len(await door.accept(draft(2), key=KEY)) == 2
        assert len(door.store.sequences) == 2
        assert not door.meters.duplicate_injections

    play(scene)


def test_what_was_refused_altogether_is_judged_again_but_not_a_list_of_a_stream() -> None:
    async def scene(door: Door) -> None:
        bad = draft(domain="unknown.example")
        await door.accept(bad, key=KEY)
        await door.accept(draft(1), BAD, whole=True, key=KEY)
        assert not door.store.receipts
        first = await door.accept(bad, key=KEY._replace(part=1))
        assert shown(await door.accept(draft(1), key=KEY._replace(part=1))) == shown(first)
        assert door.store.sequences == []
        assert len(await door.accept(draft(1), key=KEY)) == 1

    play(scene)


def test_after_a_day_the_key_is_forgotten() -> None:
    async def scene(door: Door) -> None:
        await door.accept(key=KEY)
        door.clock.advance(KEY_LIFETIME_S - 1)
        await door.accept(key=KEY)
        assert len(door.store.sequences) == 1
        door.clock.advance(1)
        await door.accept(key=KEY)
        assert len(door.store.sequences) == 2

    play(scene)


def test_a_stop_waits_for_what_is_under_way() -> None:
    async def scene(door: Door) -> None:
        door.store.gate.clear()
        first = asyncio.create_task(door.accept(draft(3), key=KEY))
        await turns()
        stop = asyncio.create_task(door.intake.close())
        await turns()
        assert not stop.done()
        door.store.gate.set()
        await stop
        assert len(await first) == 3

    play(scene)


def test_messages_that_were_checked_elsewhere_are_kept_once_as_well() -> None:
    async def scene(door: Door) -> None:
        drafts = [draft(3), BAD]
        checked = await door.intake.check(ORIGIN, drafts)
        first = await door.accept(*drafts, key=KEY)
        messages = [one for one in checked if isinstance(one, Message)]
        receipt = await write_receipt(KEY, door.clock.now(), checked)
        old = await door.intake.keep_once("http", messages, receipt)
        assert shown(await results_of(old, door.store.salt, drafts)) == shown(first)
        new = await door.intake.keep_once("http", messages, receipt._replace(key=Key(b"new", b"body")))
        assert new.first == messages[0].sequence == 5
        assert len(door.store.sequences) == 8

    play(scene)


def test_the_receipt_goes_with_the_commit_of_its_messages() -> None:
    """Whoever looks between two commits sees both or neither."""

    async def scene(door: Door) -> None:
        door.store.gate.clear()
        asking = [asyncio.create_task(door.accept(draft(2), key=Key(bytes([n]), b""))) for n in range(30)]
        asking += [asyncio.create_task(door.accept(draft(1))) for _ in range(3)]
        await turns()
        assert not door.store.receipts
        door.store.gate.set()
        await asyncio.gather(*asking)
        commits = [
            {message.sequence for item in lists for message in item.messages} for lists in door.store.commits
        ]
        for receipt, commit in door.store.receipts_by_commit:
            assert receipt.first in commits[commit]
        assert len(door.store.receipts_by_commit) == 30

    play(scene)
