"""The spool on disk, as the event loop sees it: calls become operations, reports become results.

    append, settle, mark_sent ──► Operation ──► Writer (a thread, one connection)        writer.py
                             ◄── Report ◄──────┘
    page, find, overview ──► Reader (a thread, another connection)                       database.py

Nothing here waits for the disk in the loop. What is on its way to the writer is bounded in bytes: an
`append` beyond MAX_PENDING_BYTES waits for its turn, in the order of the calls. Settles and marks never
wait: they are small, and bounded by the messages that the daemon holds in memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import structlog

from momentum_push.clock import Clock
from momentum_push.errors import SpoolDamaged, SpoolError, SpoolFull
from momentum_push.message import Home, Message, MessageList, QueueKey
from momentum_push.message.keys import Key, Receipt
from momentum_push.meters import Meters
from momentum_push.spool import salvage
from momentum_push.spool.budget import ByteBudget
from momentum_push.spool.database import QUICK_LOOK_BYTES, Database, Meta
from momentum_push.spool.floors import Floors, Room
from momentum_push.spool.folder import SpoolFolder
from momentum_push.spool.record import DamagedList
from momentum_push.spool.rows import Mark, Operation, Sent, estimate, snapshot
from momentum_push.spool.seam import QueueCount
from momentum_push.spool.sequences import Sequences
from momentum_push.spool.writer import Report, Writer

__all__ = ["CLOSE_DEADLINE_S", "MAX_PENDING_BYTES", "SqliteSpool", "open_sqlite"]

log = structlog.get_logger()

MAX_PENDING_BYTES = 256 << 20
CLOSE_DEADLINE_S = 30.0
SLOW_S = 1.0
"""A commit that takes so long is worth a warning, one in SLOW_WARNING_INTERVAL_S."""
SLOW_WARNING_INTERVAL_S = 60.0
STALLED_S = 10.0
"""A commit that takes so long: no more messages are taken until it is done."""

_T = TypeVar("_T")
_CLOSED = "spool: closed; what was not written yet will be sent again"


async def open_sqlite(
    folder: Path,
    *,
    mode: int = 0o640,
    force_fsync: bool = True,
    meters: Meters,
    clock: Clock,
    probe_interval_s: float = 1.0,
    floors: Floors = Floors(),
) -> SqliteSpool:
    """Open the spool in `folder`, or make one where the folder's parent exists.

    Args:
        mode: of the files (`spool_mode`); the folder gets 0750 when it is made.
        force_fsync: every commit is on disk before it is acknowledged; False leaves that to the system.
        probe_interval_s: between attempts while the disk takes no writes.
        floors: how much must be free on its disk; see `set_floors`.

    Raises:
        SpoolInUse: another process has it open.
        SpoolError: it cannot be made or read, is damaged, or was written by a later version.
    """
    place = SpoolFolder(folder, mode)
    return await asyncio.to_thread(
        _open, place, force_fsync, meters, clock, probe_interval_s, asyncio.get_running_loop(), floors
    )


def _open(
    place: SpoolFolder,
    force_fsync: bool,
    meters: Meters,
    clock: Clock,
    probe_interval_s: float,
    loop: asyncio.AbstractEventLoop,
    floors: Floors,
) -> SqliteSpool:
    """All of opening that touches the disk."""
    with ExitStack() as undo:
        place.open()
        undo.callback(place.close)
        database, meta = _open_database(place, force_fsync, clock.now())
        undo.callback(database.close)
        reader = Database(place.database, is_writer=False, quiet=database.quiet)
        undo.callback(reader.close)
        spool = SqliteSpool(place, database, reader, meta, meters, clock, loop, probe_interval_s, floors)
        undo.pop_all()
    log.info("spool_opened", path=str(place.path), bytes=spool.bytes_used, is_writable=spool.is_writable)
    return spool


def _open_database(place: SpoolFolder, force_fsync: bool, now: float) -> tuple[Database, Meta]:
    """Open the database; a damaged one is salvaged first (`salvage.py`)."""
    is_due = salvage.is_due(place)
    if is_due and salvage.is_begun(place):
        salvage.salvage(place, "", now)
        is_due = False
    try:
        opened = _try_to_open(place, force_fsync, now, must_look=is_due)
        if is_due:
            salvage.forget_damage(place)
        return opened
    except SpoolDamaged as error:
        salvage.salvage(place, str(error), now)
    return _try_to_open(place, force_fsync, now)


def _try_to_open(
    place: SpoolFolder, force_fsync: bool, now: float, *, must_look: bool = False
) -> tuple[Database, Meta]:
    with ExitStack() as undo:
        database = Database(place.database, force_fsync=force_fsync, log_pages=place.log_pages)
        undo.callback(database.close)
        meta = _prepare(place, database, now)
        if must_look or place.bytes_used() <= QUICK_LOOK_BYTES:
            database.quick_look()
        undo.pop_all()
    return database, meta


def _prepare(place: SpoolFolder, database: Database, now: float) -> Meta:
    """Read what the spool knows of itself; on a full disk with the room that was kept for that."""
    try:
        return database.prepare(now)
    except SpoolFull:
        place.release_reserve()
        return database.prepare(now)


class SqliteSpool:
    """The `Spool` on disk; made by `open_sqlite`, used from its loop."""

    def __init__(
        self,
        place: SpoolFolder,
        database: Database,
        reader: Database,
        meta: Meta,
        meters: Meters,
        clock: Clock,
        loop: asyncio.AbstractEventLoop,
        probe_interval_s: float,
        floors: Floors,
    ) -> None:
        self.salt = meta.salt
        self._place = place
        self._database = database
        self._reader = reader
        self._readers = ThreadPoolExecutor(1, thread_name_prefix="spool-reader")
        self._meters = meters
        self._clock = clock
        self._is_stalled = False
        self._warn_slow_at = float("-inf")
        self._loop = loop
        self._number = meta.number
        self._futures: dict[Operation, asyncio.Future[None]] = {}
        self._budget = ByteBudget(MAX_PENDING_BYTES)
        self._is_closed = False  # takes no more calls
        self._is_closing = False  # close() was called; the writer may end before that, by a fault
        self._last_report = asyncio.Event()
        self._sequences = Sequences(meta.sequence)
        self._writer = Writer(place, database, clock, self._from_writer, probe_interval_s, floors)
        self._start()

    def __repr__(self) -> str:
        state = "closed" if self._is_closed else "writable" if self.is_writable else "not writable"
        return f'<spool "{self._place.path}": {state}, {self.bytes_used} bytes, {len(self._futures)} pending>'

    @property
    def is_writable(self) -> bool:
        """False after a failed commit until one succeeds again, and while one takes very long."""
        return self.obstacle is None

    @property
    def obstacle(self) -> SpoolError | None:
        """Why it is not writable; None when it is."""
        if self._writer.is_writable and self.waits_s() >= STALLED_S:
            return SpoolError(
                f'spool: the disk of "{self._place.path}" has not answered for {self.waits_s():.0f} s; '
                f"see that it works"
            )
        return self._writer.obstacle

    def waits_s(self) -> float:
        """Return for how many seconds the disk has not answered; 0: it owes no answer."""
        since = self._writer.busy_since
        return 0.0 if since is None else self._clock.monotonic() - since

    def watch(self) -> None:
        """Tell the operator of a disk that does not answer; call it every second or so."""
        is_stalled = self.waits_s() >= STALLED_S
        if is_stalled and not self._is_stalled:
            log.error("spool_disk_stalled", error=str(self.obstacle or ""))
        elif self._is_stalled and not is_stalled:
            log.info("spool_disk_answers_again")
        self._is_stalled = is_stalled

    def set_floors(self, floors: Floors) -> None:
        """Change how much must be free on the disk for messages to be taken."""
        self._writer.floors = floors

    @property
    def room(self) -> Room:
        """What is free on the disk, seen a second or so ago."""
        return self._writer.room

    @property
    def bytes_used(self) -> int:
        """Bytes of the database and its log."""
        return self._writer.bytes_used

    @property
    def commits(self) -> int:
        """Transactions since the start."""
        return self._writer.commits

    def set_max_keys(self, max_keys: int) -> None:
        """Keep at most so many receipts from now on (`max_idempotency_keys`)."""
        self._database.max_keys = max_keys

    def take_sequences(self, count: int) -> int:
        """Return the first of `count` numbers; see `Spool`."""
        if self._is_closed:
            raise SpoolError(_CLOSED)
        first = self._sequences.take(count)
        self._fill_stock()
        return first

    def append(
        self, lists: Sequence[MessageList], receipts: Sequence[Receipt] = ()
    ) -> Coroutine[Any, Any, None]:
        """Keep new lists and receipts, all or none; see `Spool`."""
        self._number_lists(lists)
        operation = Operation(
            lists=[(snapshot(item.home), item.messages) for item in lists],
            receipts=receipts,
            size=estimate(lists) + sum(len(receipt.refusals) for receipt in receipts),
        )
        return self._append(operation, lists)

    def settle(self, homes: Sequence[Home], retries: Sequence[MessageList] = ()) -> Coroutine[Any, Any, None]:
        """Keep progress and retries in one transaction; see `Spool`."""
        self._number_lists(retries)
        operation = Operation(
            lists=[(snapshot(item.home), item.messages[:]) for item in retries],
            marks=[Mark.of(home) for home in homes],
            is_kept=True,
            size=estimate(retries) + sum(len(home.progress) for home in homes),
        )
        self._budget.take_now(operation.size)
        return _wait_for(self._put(operation))

    def mark_sent(self, homes: Sequence[Home]) -> Coroutine[Any, Any, None]:
        """Keep who may have been sent; see `Spool`."""
        sent = [Sent.of(home) for home in homes]
        operation = Operation(sent=sent, is_kept=True, size=sum(len(item.bitmap) for item in sent))
        self._budget.take_now(operation.size)
        return _wait_for(self._put(operation))

    async def overview(self) -> list[QueueCount]:
        """Return what is where; see `Spool`."""
        return await self._read(self._reader.overview)

    async def page(
        self, queue: QueueKey, lane: int, after: tuple[float, int], limit: int
    ) -> list[MessageList]:
        """Return lists after the cursor; see `Spool`."""
        while True:
            lists, damaged, last = await self._read(_read_page, self._reader, queue, lane, after, limit)
            self._set_aside(damaged)
            if lists or last is None:
                return lists
            after = last

    async def find(self, sequence: int) -> Message | None:
        """Return a message that is still waiting; see `Spool`."""
        return await self._read(self._reader.find, sequence)

    async def receipt(self, key: Key) -> Receipt | None:
        """Return what is known of a key; see `Spool`."""
        return await self._read(self._reader.receipt, key)

    async def close(self) -> None:
        """Commit what is due, empty the log into the database, and let go of the folder.

        Raises:
            SpoolError: the disk did not answer within CLOSE_DEADLINE_S; what was acknowledged is safe.
        """
        if self._is_closing:
            return
        self._is_closing = self._is_closed = True
        self._budget.close()
        self._writer.stop()
        try:
            await asyncio.wait_for(self._last_report.wait(), CLOSE_DEADLINE_S)
        except TimeoutError as error:
            raise SpoolError(
                f'spool: "{self._place.path}" did not take a write for {CLOSE_DEADLINE_S:.0f} s; '
                f"see that the disk works"
            ) from error
        await asyncio.to_thread(self._close_files)

    # On the way to the writer

    def _start(self) -> None:
        """Get the first stock of sequence numbers and the reserve; then let the writer run."""
        first = self._sequences.wanted()
        self._database.save_sequence(first)
        self._sequences.fill(first)
        self._writer.start()

    def _number_lists(self, lists: Iterable[MessageList]) -> None:
        """Give numbers, and refuse lists that make no sense: that is the caller's fault, at once."""
        for item in lists:
            if not item.messages or len(item.messages) != item.home.count:
                raise ValueError(f"a new list holds all of its messages; {len(item.messages)} are here")
            self._number += 1
            item.home.number = self._number

    async def _append(self, operation: Operation, lists: Sequence[MessageList]) -> None:
        if not lists and not operation.receipts:
            return
        try:
            self._refuse_when_stalled()
            await self._budget.take(operation.size)
            await self._put(operation)
        except SpoolError:
            for item in lists:
                item.home.number = 0
            raise

    def _refuse_when_stalled(self) -> None:
        """The writer refuses by itself; it cannot while it hangs in a commit."""
        if self.waits_s() >= STALLED_S and (obstacle := self.obstacle):
            raise obstacle

    def _put(self, operation: Operation) -> asyncio.Future[None]:
        """Hand an operation to the writer; the future is done when it is on disk."""
        future: asyncio.Future[None] = self._loop.create_future()
        self._futures[operation] = future
        if self._is_closed:
            self._finish(operation, SpoolError(_CLOSED))
            return future
        self._writer.put(operation)
        return future

    def _fill_stock(self) -> None:
        """Reserve more sequence numbers when it is time; rides along with whatever else is written."""
        wanted = self._sequences.wanted()
        if wanted:
            self._put(Operation(reserve=wanted, is_kept=True)).add_done_callback(_overlook)

    def _set_aside(self, damaged: list[tuple[int, str]]) -> None:
        """Have damaged lists moved out of the way."""
        for number, why in damaged:
            log.error("spool_list_set_aside", list=number, error=why)
        if damaged:
            self._put(Operation(set_aside=damaged, is_kept=True)).add_done_callback(_overlook)

    # On the way back

    def _from_writer(self, report: Report) -> None:
        """In the writer's thread: wake the loop, once per report."""
        try:
            self._loop.call_soon_threadsafe(self._take_report, report)
        except RuntimeError as error:  # the loop is closed, nobody waits any more
            log.warning("spool_report_dropped", error=str(error))

    def _take_report(self, report: Report) -> None:
        for operation, error in report.outcomes:
            self._finish(operation, error)
        if report.seconds:
            self._meters.spool_commit_seconds.observe(report.seconds)
        if report.seconds >= SLOW_S:
            self._warn_of_slowness(report.seconds)
        if report.is_last:
            self._end()

    def _warn_of_slowness(self, seconds: float) -> None:
        now = self._clock.monotonic()
        if now >= self._warn_slow_at:
            self._warn_slow_at = now + SLOW_WARNING_INTERVAL_S
            log.warning("spool_disk_slow", commit_seconds=round(seconds, 2), pending=len(self._futures))

    def _finish(self, operation: Operation, error: SpoolError | None) -> None:
        future = self._futures.pop(operation)
        self._budget.give(operation.size)
        if error is None:
            self._sequences.fill(operation.reserve)
        if future.done():  # cancelled by its caller
            return
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(error)

    def _end(self) -> None:
        """The writer is gone: nobody may go on waiting."""
        self._is_closed = True
        for operation in list(self._futures):
            self._finish(operation, SpoolError(_CLOSED))
        self._budget.close()
        self._last_report.set()

    # Reading and closing

    async def _read(self, function: Callable[..., _T], *arguments: Any) -> _T:
        """Call `function` in the reader's thread."""
        if self._is_closed:
            raise SpoolError(_CLOSED)
        try:
            return await self._loop.run_in_executor(self._readers, partial(function, *arguments))
        except SpoolDamaged as error:
            self._writer.note_damage(error)
            raise

    def _close_files(self) -> None:
        """Everything of closing that touches the disk."""
        self._readers.shutdown()
        self._reader.close()
        try:
            self._database.save_sequence(self._sequences.next)
            self._database.checkpoint(truncate=True)
        except SpoolError as error:  # a crash would have left it so, too
            log.warning("spool_closed_untidily", error=str(error))
        finally:
            self._database.close()
            self._place.close()
        log.info("spool_closed", path=str(self._place.path))


async def _wait_for(future: asyncio.Future[None]) -> None:
    await future


def _overlook(future: asyncio.Future[None]) -> None:
    """Nobody waits for this; that it failed was logged by the writer, and it is asked for again."""
    if not future.cancelled():
        future.exception()


def _read_page(
    reader: Database, queue: QueueKey, lane: int, after: tuple[float, int], limit: int
) -> tuple[list[MessageList], list[tuple[int, str]], tuple[float, int] | None]:
    """Read a page: its lists, the numbers of damaged ones with what is wrong, and where it ends."""
    lists: list[MessageList] = []
    damaged: list[tuple[int, str]] = []
    last = None
    for row in reader.page(queue, lane, after, limit):
        last = (row.due, row.number)
        try:
            lists.append(row.to_list())
        except DamagedList as error:
            damaged.append((row.number, error.what))
    return lists, damaged, last
