"""Carries verdicts out: record first, then the spool, then the delayed queue.

    verdict ──► loggers.dispositions ──► spool.settle ──► queues.add (delayed)
                     write() returned      removal and new lists in one transaction

The order is a promise (design.md 1, fact 3): a message that left the spool has its record.

Nobody waits for any of it, and a write and a commit cost much the same for one message as for a hundred.
So verdicts that follow each other closely are carried out together, at most GAP_S after they were found;
one that comes alone is carried out at once. What is gathered counts as in flight: a daemon that is killed
sends it again after its next start.

When a log cannot be written, what it would have recorded stays in the spool; `is_blocked` then tells the
pools to send nothing more, and the log is tried again every second until the disk takes it. What waits
meanwhile is bounded by what was in flight. A daemon that stops meanwhile tries the log once more; what
it does not take stays in the spool and is sent again after the next start.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from itertools import chain, groupby
from operator import attrgetter
from typing import Protocol

import structlog

from momentum_push.clock import Clock
from momentum_push.delivery.records import BLACKHOLED, CANCELLED
from momentum_push.delivery.verdict import Verdict
from momentum_push.errors import LogError, SpoolError
from momentum_push.message import (
    MAX_LIST,
    Deliveries,
    Disposition,
    Home,
    Kind,
    Message,
    MessageList,
    QueueKey,
)
from momentum_push.message.reasons import Reason
from momentum_push.meters import Meters
from momentum_push.queues import COLLAPSED, EXCEEDED_RETRIES, EXCEEDED_TIME, EXPIRED_UNTRIED, QueueManager

__all__ = ["RecordSink", "SettleSink", "Settler"]

GAP_S = 0.01
"""Between two carryings-out, while verdicts are few: then they gather. Far below the second after which the
first retry is due; to the messages that a crash may double it adds what was answered in so long."""

ENOUGH = 30
"""Gathered messages that are carried out at once: the share of the fixed cost is small then, and large reads
stay in columns (`Deliveries`)."""

_RETRY_LOG_S = 1.0

FLUSH_S = 30.0
"""As long as the spool itself takes to close."""

_STATUSES = range(300, 600)
"""Those that HTTP has for failures; what else a peer makes up is one label."""

MAX_WORD = 80
"""Characters of a peer's word in the diagnostics."""

_FINALS = {
    BLACKHOLED: "Blackholed",
    CANCELLED: "Cancelled",
    EXCEEDED_RETRIES: "ExceededMaxRetries",
    EXCEEDED_TIME: "ExceededMaxTime",
    EXPIRED_UNTRIED: "MessageExpired",
}

Verdicts = list[tuple[QueueKey, Verdict]]

log = structlog.get_logger()


class RecordSink(Protocol):
    """What is asked of the loggers; `retry` continues where a `LogError` interrupted."""

    def dispositions(self, now: float, items: Sequence[Disposition]) -> None: ...

    def retry(self) -> None: ...


class SettleSink(Protocol):
    """What is asked of the spool."""

    def settle(self, homes: Sequence[Home], retries: Sequence[MessageList] = ()) -> Awaitable[None]: ...


class Settler:
    """The last room of the flow; one per daemon, called by every pool.

    Args:
        gap_s: between two carryings-out; 0: verdicts are carried out one by one.
    """

    def __init__(
        self,
        *,
        records: RecordSink,
        spool: SettleSink,
        queues: QueueManager,
        meters: Meters,
        clock: Clock,
        on_unblocked: Callable[[], None],
        gap_s: float = GAP_S,
    ) -> None:
        self._records = records
        self._spool = spool
        self._queues = queues
        self._meters = meters
        self._clock = clock
        self._on_unblocked = on_unblocked
        self._gap_s = gap_s
        self._gathered: Verdicts = []
        self._size = 0  # messages in them
        self._began = float("-inf")
        self._alarm: asyncio.TimerHandle | None = None  # while verdicts are gathered
        self._unrecorded: deque[Verdicts] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return (
            f"<Settler {len(self._gathered)} verdicts gathered, {len(self._tasks)} commits due, "
            f"{sum(map(len, self._unrecorded))} verdicts unrecorded>"
        )

    @property
    def is_blocked(self) -> bool:
        """Whether a log refuses to be written; nothing should be sent until it does not."""
        return bool(self._unrecorded)

    def unrecorded(self, key: QueueKey) -> int:
        """Messages of a queue whose records are not written yet: they are still in memory and on disk."""
        verdicts = chain(self._gathered, *self._unrecorded)
        return sum(len(verdict.left) for queue, verdict in verdicts if queue == key)

    def settle(self, key: QueueKey, verdict: Verdict) -> None:
        """Record a verdict and take its messages out of their lists; now, or in GAP_S with others."""
        for reason in verdict.strange:
            _report(key, reason)
        if not verdict.dispositions and not verdict.retries:
            return
        if self._unrecorded:
            self._unrecorded.append([(key, verdict)])
            return
        self._gathered.append((key, verdict))
        self._size += len(verdict.dispositions)
        wait_s = self._began + self._gap_s - self._clock.monotonic()
        if wait_s <= 0 or self._size >= ENOUGH:
            self._carry_out()
        elif self._alarm is None:
            self._alarm = asyncio.get_running_loop().call_later(wait_s, self._carry_out)

    def note(self, disposition: Disposition) -> None:
        """Record something that moves no message: the start of an outage or a suspension."""
        self._carry_out()  # what was found before it is recorded before it
        try:
            self._records.dispositions(self._clock.now(), [disposition])
        except LogError as error:
            log.error("log_write_failed", error=str(error))

    async def flush(self, deadline_s: float = FLUSH_S) -> None:
        """Wait until everything that was settled is committed; a log that failed is tried once more.

        After the deadline it is left to the spool, which has one of its own and keeps what it can.
        """
        if self._timer is not None:
            self._timer.cancel()
            self._retry_records()
        self._carry_out()
        ends = asyncio.get_running_loop().time() + deadline_s
        while self._tasks and (left_s := ends - asyncio.get_running_loop().time()) > 0:
            await asyncio.wait(self._tasks, timeout=left_s)
            self._carry_out()
        if self._timer is not None:
            self._timer.cancel()
            messages = sum(len(verdict.left) for _, verdict in chain(*self._unrecorded))
            log.error("settle_unfinished", messages=messages, fix="they are sent again after the next start")

    def _carry_out(self) -> None:
        """Record and release what was gathered."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if not self._gathered:
            return
        verdicts, self._gathered, self._size = self._gathered, [], 0
        self._began = self._clock.monotonic()
        try:
            self._record(verdicts)
        except LogError as error:
            self._unrecorded.append(verdicts)
            self._retry_later(error)
        else:
            self._release(verdicts)

    def _record(self, verdicts: Verdicts) -> None:
        """Have all of it written, though a log fails: what it was given it writes later (`loggers.hub`)."""
        failure: LogError | None = None
        for items in _joined([verdict.dispositions for _, verdict in verdicts]):
            try:
                self._records.dispositions(self._clock.now(), items)
            except LogError as error:
                failure = error
        if failure is not None:
            raise failure

    def _retry_records(self) -> None:
        self._timer = None
        try:
            self._records.retry()
            while self._unrecorded:
                self._release(self._unrecorded.popleft())
                if self._unrecorded:
                    self._record(self._unrecorded[0])
        except LogError as error:
            self._retry_later(error)
        else:
            self._on_unblocked()

    def _retry_later(self, error: LogError) -> None:
        log.error("log_write_failed", error=str(error))
        self._timer = asyncio.get_running_loop().call_later(_RETRY_LOG_S, self._retry_records)

    def _release(self, verdicts: Verdicts) -> None:
        """Take the messages of verdicts, which are recorded, out of their lists: one transaction."""
        for key, verdict in verdicts:
            self._count(key, verdict.dispositions)
        left = list(chain.from_iterable([verdict.left for _, verdict in verdicts]))
        weight = sum([message.home.weight for message in left])
        homes = _leave(left)  # before what is tried again finds its new home
        retries = list(chain.from_iterable([_new_lists(verdict) for _, verdict in verdicts]))
        emptied = [home for home in homes if not home.remaining]
        on_disk = [verdict.on_disk for _, verdict in verdicts if verdict.on_disk is not None]
        work = self._spool.settle(homes, retries)
        self._queues.expect(retries)
        self._queues.left(len(left), weight)
        task = asyncio.get_running_loop().create_task(self._commit(work, emptied, retries, on_disk))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _commit(
        self,
        work: Awaitable[None],
        emptied: list[Home],
        retries: list[MessageList],
        on_disk: Sequence[Callable[[], None]],
    ) -> None:
        try:
            await work
        except SpoolError as error:  # it closed before that; nothing is lost, but all of this comes again
            log.error("settle_failed", error=str(error))
            return
        self._queues.off_disk(emptied)
        if retries:
            self._queues.add(retries, are_new=False)
        for tell in on_disk:
            tell()

    def _count(self, key: QueueKey, dispositions: Sequence[Disposition]) -> None:
        labels = (key.domain, key.binding)
        if isinstance(dispositions, Deliveries):
            self._count_deliveries(labels, dispositions.messages, dispositions.shared.at)
            return
        for (kind, at), run in groupby(dispositions, key=attrgetter("kind", "at")):
            if kind is Kind.DELIVERED:
                self._count_deliveries(labels, [item.message for item in run], at)
                continue
            meter = self._meters.tempfails if kind is Kind.TEMPFAIL else self._meters.permfails
            for item in run:
                meter[*labels, _label(item)] += 1

    def _count_deliveries(self, labels: tuple[str, str], messages: Sequence[Message], at: float) -> None:
        self._meters.deliveries[labels] += len(messages)
        waited = self._meters.queue_seconds[labels]
        parts = {id(message.part): message.part for message in messages}
        counts = Counter([id(message.part) for message in messages]) if len(parts) > 1 else {}
        for key, part in parts.items():
            waited.observe(max(0.0, at - part.starts_at), counts.get(key, len(messages)))


def _joined(sequences: Sequence[Sequence[Disposition]]) -> Iterator[Sequence[Disposition]]:
    """Yield all dispositions in order: those of small reads as one list, large ones as they are."""
    if len(sequences) == 1:
        yield sequences[0]
        return
    few: list[Disposition] = []
    for items in sequences:
        if len(items) < ENOUGH:
            few += items
            continue
        if few:
            yield few
        few = []
        yield items
    if few:
        yield few


def _report(key: QueueKey, reason: Reason) -> None:
    """Tell the operator that Apple has a word we do not know (apns.md 4.2); the judge says so only once."""
    log.error(
        "unknown_reason",
        domain=key.domain,
        binding=key.binding,
        status=reason.status,
        reason=reason.reason[:MAX_WORD],
        taken_as=reason.klass.value,
        action=reason.action.value,
        fix="look it up in Apple's documentation and add a row for it to apn_reasons_file",
    )


def _label(item: Disposition) -> str:
    """Return the metric's `reason`: a word of the reason table, one of ours, or the status.

    Never the text of a lost connection, and no word that the peer made up: each label lives as long as
    the daemon, in memory and at whoever scrapes it.
    """
    if item.reason in _FINALS:
        return _FINALS[item.reason]
    if item.reason.startswith(COLLAPSED):
        return "Collapsed"
    if not item.http_status:
        return "NoAnswer"
    if item.is_known and item.word:
        return item.word
    return f"Status{item.http_status}" if item.http_status in _STATUSES else "other"


def _leave(messages: Sequence[Message]) -> list[Home]:
    """Set the progress bits of `messages` and return the homes that changed."""
    homes: dict[int, Home] = {}
    for home, run in groupby(messages, key=attrgetter("home")):
        homes[id(home)] = home
        home.leave_all(run)
    return list(homes.values())


def _new_lists(verdict: Verdict) -> list[MessageList]:
    """Make new lists of what is tried again: same queue and lane, due together, tried equally often."""
    lists: list[MessageList] = []
    for (due, attempts), messages in verdict.retries.items():
        by_lane: dict[int, list[Message]] = {}
        for message in messages:
            by_lane.setdefault(message.home.lane, []).append(message)
        for lane, batch in by_lane.items():
            for start in range(0, len(batch), MAX_LIST):
                part = batch[start : start + MAX_LIST]
                lists.append(MessageList.gather(part[0].home.queue, lane, due, part, attempts))
    return lists
