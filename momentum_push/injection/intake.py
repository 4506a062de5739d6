"""The one way in: validate, put on disk, queue, answer (design.md 1).

    drafts ──► rules ──► messages ──► pending ──► spool.append ──► queues ──► the caller's answer
               slices     numbered     by queue     one commit for
               of 500                  and lane     all that came meanwhile

While one commit is under way, whatever arrives is gathered; the next commit takes it all, and what
came in small pieces for the same queue and lane becomes one list. Small pieces that follow each other
closely are given a moment to come together (`company`). Nothing is answered before the commit that holds
it. A loop turn checks one slice (`checking`), and lays out one list. The reception records are written by
whoever committed, not by whoever asked: a client that went away has its record all the same. They stand
before those of the deliveries, so that delivery waits for them; the senders of a million do not.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from operator import attrgetter
from typing import Protocol

import structlog

from momentum_push.clock import Clock
from momentum_push.errors import InjectionError, LogError, SpoolError
from momentum_push.injection.checking import Checker, of_kind
from momentum_push.injection.company import Company
from momentum_push.injection.keyring import Keyring, results_of, write_receipt
from momentum_push.injection.routing import Routing
from momentum_push.message import (
    MAX_LIST,
    Cancel,
    Cancelled,
    Draft,
    Message,
    MessageList,
    Origin,
    QueueKey,
    Refusal,
)
from momentum_push.message.keys import Key, Receipt
from momentum_push.meters import Meters

__all__ = ["Intake", "IntakeBusy"]

MAX_PENDING = 2_000_000
"""Messages that may wait for their commit; a disk that does not answer must not fill memory."""

FEW = 30
"""Messages of a request whose sender should not wait behind thousands of others' deliveries."""

_RETRY_AFTER_S = 5

TakeBack = Callable[[Cancel, Callable[[str], bool]], Awaitable[Cancelled]]

_Heap = tuple[QueueKey, int, float]
"""What may share a list: queue, lane, and `deliver_at`."""

log = structlog.get_logger()


class IntakeBusy(InjectionError):
    """The daemon cannot take more now: it is stopping, or too much waits for the disk.

    Attributes:
        retry_after_s: when the sender should come back.
    """

    def __init__(self, detail: str, retry_after_s: int = _RETRY_AFTER_S) -> None:
        super().__init__("ServiceUnavailable", detail)
        self.retry_after_s = retry_after_s


class Store(Protocol):
    """What is asked of the spool."""

    @property
    def salt(self) -> int: ...
    @property
    def is_writable(self) -> bool: ...

    def take_sequences(self, count: int) -> int: ...

    def append(self, lists: Sequence[MessageList], receipts: Sequence[Receipt] = ()) -> Awaitable[None]: ...

    def receipt(self, key: Key) -> Awaitable[Receipt | None]: ...


class Queues(Protocol):
    """What is asked of the queues; lists are expected from the moment that they have their numbers."""

    def expect(self, batches: Sequence[MessageList]) -> None: ...

    def drop(self, batches: Sequence[MessageList]) -> None: ...

    def add(self, batches: Sequence[MessageList]) -> None: ...


class Receptions(Protocol):
    """What is asked of the loggers."""

    def receptions(self, now: float, messages: Sequence[Message]) -> None: ...


@dataclass(slots=True)
class _Waiter:
    """A sender who waits for the commit of its messages."""

    protocol: str
    messages: list[Message]
    done: asyncio.Future[None]
    is_small: bool
    """It is counted among those that wait for a few messages only."""

    def answer(self, error: SpoolError | None = None) -> None:
        if self.done.done():  # the loop is being closed
            return
        if error is None:
            self.done.set_result(None)
        else:
            self.done.set_exception(error)


class Intake(Checker):
    """Takes drafts from the doors; one per daemon.

    Args:
        queues: told of lists that are being written, and whether they are on disk, before their senders
            hear of it; for more than MAX_LIST messages as soon as their reception records are written.
        take_back: serves wishes to cancel, in domains of which the callable that it is given says yes.
    """

    def __init__(
        self,
        *,
        routing: Routing,
        store: Store,
        records: Receptions,
        queues: Queues,
        meters: Meters,
        clock: Clock,
        take_back: TakeBack | None = None,
    ) -> None:
        super().__init__(routing, store.salt, clock)
        self._store = store
        self._records = records
        self._queues = queues
        self._meters = meters
        self._take_back = take_back
        self._ready: list[MessageList] = []
        self._pending: dict[_Heap, list[Message]] = {}
        self._waiters: list[_Waiter] = []
        self._receipts: list[Receipt] = []
        self._keyring = Keyring(store, meters, clock)
        self._waiting = 0
        self._few = 0  # senders of a few messages that wait
        self._committer: asyncio.Task[None] | None = None
        self._company = Company()
        self._alarm: asyncio.TimerHandle | None = None  # while what waits is given time for company
        self._is_closed = False

    def __repr__(self) -> str:
        return f"<Intake {self._waiting} messages wait for the disk{', closed' * self._is_closed}>"

    @property
    def is_ready(self) -> bool:
        """Whether messages are taken: not stopping, and the disk takes what we write."""
        return not self._is_closed and self._store.is_writable

    @property
    def is_hurried(self) -> bool:
        """Whether somebody waits for the commit of a few messages: each turn of the loop delays him."""
        return self._few > 0

    async def close(self) -> None:
        """Take nothing more and wait until what was taken is committed."""
        self._is_closed = True
        await self._keyring.close()
        self._go_on()
        while self._committer is not None:
            await asyncio.wait([self._committer])

    async def accept(
        self, origin: Origin, drafts: Sequence[Draft], whole: bool = False, key: Key | None = None
    ) -> list[Message | Refusal]:
        """Take what can be taken of `drafts` and return after the commit.

        Args:
            whole: all or nothing: one refusal and nothing is queued.
            key: the sender's name for this; what was taken under it before is answered again, not taken.

        Returns:
            One result per token, drafts in order, tokens in order.

        Raises:
            IntakeBusy: try again later; nothing was taken.
            KeyInUse, KeyReused: see `keyring`; nothing was taken.
            SpoolError: the disk did not take it; nothing was taken.
        """
        self.check_open()
        if key is not None:
            return await self._accept_once(origin, drafts, whole, key)
        results = await self.check(origin, drafts)
        messages = await of_kind(results, Message)
        if messages and not (whole and len(messages) < len(results)):
            await self.keep(origin.protocol, messages)
        return results

    async def cancel(self, wish: Cancel) -> Cancelled:
        """Take back what still waits, in domains that are delivered to Apple; returns after the commit.

        Raises:
            IntakeBusy, SpoolError: it cannot be said whether it is; ask again.
        """
        if self._is_closed or self._take_back is None:
            raise IntakeBusy("the daemon is stopping; ask again later")
        return await self._take_back(wish, self.is_apn)

    async def _accept_once(
        self, origin: Origin, drafts: Sequence[Draft], whole: bool, key: Key
    ) -> list[Message | Refusal]:
        async def take() -> list[Message | Refusal]:
            results = await self.check(origin, drafts)
            messages = await of_kind(results, Message)
            if not (whole and len(messages) < len(results)):
                receipt = await write_receipt(key, self._clock.now(), results)
                await self._keep_with(origin.protocol, messages, receipt)
            return results

        got = await self._keyring.once(key, origin.protocol, take)
        return await results_of(got, self._store.salt, drafts) if isinstance(got, Receipt) else got

    async def keep_once(self, protocol: str, messages: list[Message], receipt: Receipt) -> Receipt:
        """Do as `keep` with messages that came under a key, unless some were kept under it before.

        Args:
            messages: none, where every one was refused, or one refusal spoilt them all.
            receipt: as `write_receipt` makes it of all results.

        Returns:
            What to answer by (`results_of`): `receipt` with its first number, or the one of the first time.

        Raises:
            KeyInUse, KeyReused, and as `accept`.
        """
        take = partial(self._keep_with, protocol, messages, receipt)
        return await self._keyring.once(receipt.key, protocol, take)

    async def _keep_with(self, protocol: str, messages: list[Message], receipt: Receipt) -> Receipt:
        """Keep messages and their receipt by one commit; see `keyring` for when there is none."""
        if not messages and not receipt.key.part:
            return receipt
        lists, rest = await self._lay_out(messages) if messages else ([], [])
        receipt = receipt._replace(first=messages[0].sequence if messages else 0)
        self._receipts.append(receipt)  # and no turn of the loop until all the rest of the commit is there
        await self._commit(protocol, messages, lists, rest)
        return receipt

    async def keep(self, protocol: str, messages: list[Message]) -> None:
        """Number messages that were checked, and return when they are on disk; errors as of `accept`."""
        # A client that goes away takes nothing but this future with it: neither the commit of the others,
        # nor that of its own messages.
        if len(messages) <= MAX_LIST:
            await self.keep_few(protocol, messages)
            return
        lists, rest = await self._lay_out(messages)
        await self._commit(protocol, messages, lists, rest)

    def keep_few(self, protocol: str, messages: list[Message]) -> asyncio.Future[None]:
        """Do as `keep` for at most MAX_LIST messages; the future is done when they are on disk.

        Raises:
            SpoolError: no numbers are left.
        """
        lists: list[MessageList] = []
        rest: list[Message] = []
        _lay_out_run(messages, self._store.take_sequences(len(messages)), self._clock.now(), lists, rest)
        return self._commit(protocol, messages, lists, rest)

    def check_open(self) -> None:
        """See whether messages are taken now.

        Raises:
            IntakeBusy: they are not.
        """
        if self._is_closed:
            raise IntakeBusy("the daemon is stopping; send again later")
        if self._waiting >= MAX_PENDING:
            raise IntakeBusy("too many messages wait for the disk; send again later")

    async def _lay_out(self, messages: list[Message]) -> tuple[list[MessageList], list[Message]]:
        """Number messages, and make lists of as many as fill whole ones; the rest may join others'."""
        first = self._store.take_sequences(len(messages))
        now = self._clock.now()
        lists: list[MessageList] = []
        rest: list[Message] = []
        for start in range(0, len(messages), MAX_LIST):
            if start:
                await asyncio.sleep(0)
            _lay_out_run(messages[start : start + MAX_LIST], first + start, now, lists, rest)
        return lists, rest

    def _commit(
        self, protocol: str, messages: list[Message], lists: list[MessageList], rest: list[Message]
    ) -> asyncio.Future[None]:
        """Have `messages` put on disk by the next commit: whole `lists`, and the `rest` of them."""
        self._ready += lists
        for home, group in groupby(rest, key=attrgetter("home")):
            run = list(group)
            self._pending.setdefault((home.queue, home.lane, run[0].part.deliver_at), []).extend(run)
        is_small = len(messages) <= FEW
        waiter = _Waiter(protocol, messages, asyncio.get_running_loop().create_future(), is_small)
        self._waiters.append(waiter)
        self._waiting += len(messages)
        self._few += is_small
        self._go_on()
        return waiter.done

    def _wait_s(self) -> float:
        """Return for how long what waits is given time; lists that are whole gain nothing by company."""
        if self._ready or self._is_closed:
            return 0.0
        return self._company.wait_s(self._clock.monotonic())

    def _go_on(self) -> None:
        """See that what waits is committed, now or soon."""
        if self._committer is not None or not self._waiters:
            return
        if not (wait_s := self._wait_s()):
            self._begin()
        elif self._alarm is None:
            self._alarm = asyncio.get_running_loop().call_later(wait_s, self._begin)

    def _begin(self) -> None:
        has_waited = self._alarm is not None
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        self._committer = asyncio.get_running_loop().create_task(self._commit_pending(has_waited))

    async def _commit_pending(self, has_waited: bool) -> None:
        """Commit what waits, until nothing does, or what does has time."""
        waiters: list[_Waiter] = []
        is_well = False
        try:
            while not waiters or (self._waiters and not self._wait_s()):
                ready, pending, waiters = self._ready, self._pending, self._waiters
                self._ready, self._pending, self._waiters = [], {}, []
                receipts, self._receipts = self._receipts, []
                self._company.begin(self._clock.monotonic(), len(waiters), has_waited)
                has_waited = False
                await self._commit_lists(ready + _gather(pending, self._clock.now()), waiters, receipts)
            is_well = True
        except Exception as error:
            log.error("reception_crashed", error=repr(error), exc_info=True)
        finally:
            self._committer = None
            if not is_well:
                self._abandon(waiters + self._waiters)
            self._go_on()

    async def _commit_lists(
        self, lists: list[MessageList], waiters: list[_Waiter], receipts: list[Receipt]
    ) -> None:
        try:
            work = self._store.append(lists, receipts)
            self._queues.expect(lists)
            await work
        except SpoolError as error:
            self._queues.drop(lists)
            log.error("reception_failed", error=str(error), messages=_count(lists))
            self._answer(waiters, error)
            return
        finally:
            self._waiting -= _count(lists)
        self._answer(waiters)  # it is on disk; whoever waits wakes when this turn of the loop is over
        try:
            await self._note(waiters)
        finally:
            self._queues.add(lists)

    def _abandon(self, waiters: Sequence[_Waiter]) -> None:
        """Answer whoever still waits although the committer has ended."""
        if self._waiters:
            self._waiting -= _count(self._ready) + sum(len(batch) for batch in self._pending.values())
            self._ready, self._pending, self._waiters, self._receipts = [], {}, [], []
        self._answer(waiters, SpoolError("spool: the commit was not finished; send again later"))

    def _answer(self, waiters: Sequence[_Waiter], error: SpoolError | None = None) -> None:
        for waiter in waiters:
            self._few -= waiter.is_small
            waiter.is_small = False
            waiter.answer(error)

    async def _note(self, waiters: Sequence[_Waiter]) -> None:
        """Write the reception records; the messages are safe, so a log that fails refuses nothing."""
        for waiter in waiters:
            self._meters.receptions[waiter.protocol] += len(waiter.messages)
        for place, run in enumerate(_runs(waiters)):
            if place:
                await asyncio.sleep(0)
            try:
                self._records.receptions(self._clock.now(), run)
            except LogError as error:
                log.error("log_write_failed", error=str(error))


def _lay_out_run(
    run: list[Message], first: int, now: float, lists: list[MessageList], rest: list[Message]
) -> None:
    """Number at most MAX_LIST messages; they are a list of their own, or join what is pending."""
    for sequence, message in enumerate(run, first):
        message.sequence = sequence
    home = run[0].home
    if len(run) == MAX_LIST and all([message.home is home for message in run]):  # noqa: C419  faster
        due = max(now, run[0].part.deliver_at)
        lists.append(MessageList.gather(home.queue, home.lane, due, run))
    else:
        rest += run


def _runs(waiters: Sequence[_Waiter]) -> Iterator[list[Message]]:
    """Yield all messages in order, at most MAX_LIST at a time: small requests are recorded together."""
    run: list[Message] = []
    for waiter in waiters:
        for start in range(0, len(waiter.messages), MAX_LIST):
            more = waiter.messages[start : start + MAX_LIST]
            if run and len(run) + len(more) > MAX_LIST:
                yield run
                run = []
            run += more
    if run:
        yield run


def _gather(pending: dict[_Heap, list[Message]], now: float) -> list[MessageList]:
    return [
        MessageList.gather(queue, lane, max(now, deliver_at), messages[start : start + MAX_LIST])
        for (queue, lane, deliver_at), messages in pending.items()
        for start in range(0, len(messages), MAX_LIST)
    ]


def _count(lists: Sequence[MessageList]) -> int:
    return sum(len(batch.messages) for batch in lists)
