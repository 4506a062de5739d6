"""Carries verdicts out: record first, then the spool, then the delayed queue.

    verdict ──► loggers.dispositions ──► spool.settle ──► queues.add (delayed)
                     write() returned      removal and new lists in one transaction

The order is a promise (design.md 1, fact 3): a message that left the spool has its record.

Nobody waits for the disk here, and a transaction costs much the same for one message as for a hundred. So
removals that follow each other closely are gathered for at most GAP_S; one that comes alone is handed over at
once. Records are never gathered: what has none is what was in flight, and a daemon that is killed sends that
again, and the newest of what has one.

When a log cannot be written, what it would have recorded stays in the spool; `is_blocked` then tells the
pools to send nothing more, and the log is tried again every second until the disk takes it. What waits
meanwhile is bounded by what was in flight. A daemon that stops meanwhile tries the log once more; what
it does not take stays in the spool and is sent again after the next start.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Sequence
from itertools import groupby
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
"""Between two transactions, while verdicts are few: then they gather. Far below the second after which the
first retry is due; to the messages that a crash may double it adds what was answered in so long."""

ENOUGH = 30
"""Gathered messages that wait no longer: the share of the fixed cost is small then."""

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
        gap_s: between two transactions; 0: each verdict has its own.
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
        self._homes: dict[int, Home] = {}  # these four: what is gathered; homes by their id
        self._retries: list[MessageList] = []
        self._on_disk: list[Callable[[], None]] = []
        self._size = 0  # messages that left
        self._began = float("-inf")
        self._alarm: asyncio.TimerHandle | None = None  # while something is gathered
        self._unrecorded: deque[tuple[QueueKey, Verdict]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return (
            f"<Settler {len(self._homes)} lists gathered, {len(self._tasks)} commits due, "
            f"{len(self._unrecorded)} verdicts unrecorded>"
        )

    @property
    def is_blocked(self) -> bool:
        """Whether a log refuses to be written; nothing should be sent until it does not."""
        return bool(self._unrecorded)

    def unrecorded(self, key: QueueKey) -> int:
        """Messages of a queue whose records a log has not taken yet: they are still in memory and on disk."""
        return sum(len(verdict.left) for queue, verdict in self._unrecorded if queue == key)

    def settle(self, key: QueueKey, verdict: Verdict) -> None:
        """Record a verdict and take its messages out of their lists."""
        for reason in verdict.strange:
            _report(key, reason)
        if not verdict.dispositions and not verdict.retries:
            return
        if self._unrecorded:
            self._unrecorded.append((key, verdict))
            return
        try:
            self._records.dispositions(self._clock.now(), verdict.dispositions)
        except LogError as error:
            self._unrecorded.append((key, verdict))
            self._retry_later(error)
        else:
            self._release(key, verdict)

    def note(self, disposition: Disposition) -> None:
        """Record something that moves no message: the start of an outage or a suspension."""
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
        self._hand_over()
        ends = asyncio.get_running_loop().time() + deadline_s
        while self._tasks and (left_s := ends - asyncio.get_running_loop().time()) > 0:
            await asyncio.wait(self._tasks, timeout=left_s)
            self._hand_over()
        if self._timer is not None:
            self._timer.cancel()
            messages = sum(len(verdict.left) for _, verdict in self._unrecorded)
            log.error("settle_unfinished", messages=messages, fix="they are sent again after the next start")

    def _retry_records(self) -> None:
        self._timer = None
        try:
            self._records.retry()
            while self._unrecorded:
                self._release(*self._unrecorded.popleft())
                if self._unrecorded:
                    self._records.dispositions(self._clock.now(), self._unrecorded[0][1].dispositions)
        except LogError as error:
            self._retry_later(error)
        else:
            self._on_unblocked()

    def _retry_later(self, error: LogError) -> None:
        log.error("log_write_failed", error=str(error))
        self._timer = asyncio.get_running_loop().call_later(_RETRY_LOG_S, self._retry_records)

    def _release(self, key: QueueKey, verdict: Verdict) -> None:
        """Take the messages of a recorded verdict out of their lists: here at once, on disk soon."""
        self._count(key, verdict.dispositions)
        left = verdict.left
        weight = sum([message.home.weight for message in left])
        for home in _leave(left):  # before what is tried again finds its new home
            self._homes[id(home)] = home
        self._retries += _new_lists(verdict)
        if verdict.on_disk is not None:
            self._on_disk.append(verdict.on_disk)
        self._queues.left(len(left), weight)
        self._size += len(left)
        wait_s = self._began + self._gap_s - self._clock.monotonic()
        if wait_s <= 0 or self._size >= ENOUGH:
            self._hand_over()
        elif self._alarm is None:
            self._alarm = asyncio.get_running_loop().call_later(wait_s, self._hand_over)

    def _hand_over(self) -> None:
        """Give the spool what was gathered: one transaction."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if not self._homes and not self._retries and not self._on_disk:
            return
        homes, retries, on_disk = list(self._homes.values()), self._retries, self._on_disk
        self._homes, self._retries, self._on_disk, self._size = {}, [], [], 0
        self._began = self._clock.monotonic()
        emptied = [home for home in homes if not home.remaining]
        work = self._spool.settle(homes, retries)
        self._queues.expect(retries)
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
