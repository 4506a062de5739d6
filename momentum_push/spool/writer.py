"""The thread that writes: all that has arrived meanwhile in one transaction, and no settle is given up.

    loop ── Operation ──► SimpleQueue ──► gather ──► one transaction ──► fsync ──► Report ──► loop
                                             ▲                                (one call a commit)
                                   kept ─────┘  settles whose transaction failed

The failure rules:

1. A transaction fails: it is rolled back. Its appends are told so (`SpoolFull`, `SpoolError`) and are
   gone; its settles (and marks: what they are to precede waits for them) are tried again at once, alone,
   because they need little room; for want of room the reserve is given back first (`folder.py`).
2. That fails too: the settles are kept, those that come later line up behind them, and all of them are
   tried again a second later.
3. From 1 on `is_writable` is False and appends are refused unseen, so a full disk is not worn out by
   attempts. About every second the writer settles what it kept, takes the reserve again (giving free
   pages of the database back for that) and writes a little. When all succeeds, it is writable again.
4. SQLite refuses a value (`BadRow`): that is our own fault and would stop the others for ever, so they
   are committed one by one and the culprit is told.
5. After an error that is not want of room (a failed fsync above all), the log is moved into the database
   and begins anew before appends are let in. Why: the system may have thrown away what it could not write
   and call the next fsync a success. Settles need not wait for that, because SQLite writes a failed
   transaction's pages again, and syncs those.
6. Too little room is left on the disk (`floors.py`): appends are refused, all else goes on.
7. SQLite finds the database damaged, here or while reading: no more appends until a restart, which saves
   what can be read (`salvage.py`); what is in memory goes on being sent and, where that works, settled.
   To SQLite a page that cannot be read just now is damage as well, so a small database is looked through
   now and then, and when nothing is found after all, it was the disk.
8. At the end, what is kept is tried once more; then the spool tells its callers, and their messages
   will be sent again after the restart: at least once (design.md 4).

Why a thread and `SimpleQueue`: SQLite lets go of the interpreter's lock while it writes and syncs, and
`SimpleQueue.put` never blocks. Encoding is done here as well; it costs the loop turns of a millisecond
at most, where a million tokens would stop it for a third of a second.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from typing import NamedTuple

import structlog

from momentum_push.clock import Clock
from momentum_push.errors import SpoolDamaged, SpoolError, SpoolFull
from momentum_push.spool import salvage
from momentum_push.spool.database import PAGE_BYTES, QUICK_LOOK_BYTES, BadRow, Database
from momentum_push.spool.floors import Floors, Room
from momentum_push.spool.folder import SpoolFolder
from momentum_push.spool.rows import Change, Operation

__all__ = ["MAX_BYTES", "Report", "Writer"]

log = structlog.get_logger()

MAX_BYTES = 64 << 20
"""About the most that goes into one transaction; one operation may be larger, it is never split."""

MAX_OPERATIONS = 10_000

_REST_S = 1.0
_PAGES_A_REST = 2000
_KEYS_A_REST = 1000
_LOOKS_LESS_OFTEN = 10
"""A damaged database is looked through once for so many attempts at one that is merely full."""


class Report(NamedTuple):
    """What one turn of the writer tells the loop."""

    outcomes: Sequence[tuple[Operation, SpoolError | None]]
    seconds: float = 0.0
    """How long the commit took; 0: there was none."""
    is_last: bool = False


class Writer:
    """The writer's side of a spool; everything but `put` and the flags belongs to its thread."""

    def __init__(
        self,
        folder: SpoolFolder,
        database: Database,
        clock: Clock,
        report: Callable[[Report], None],
        probe_interval_s: float = 1.0,
        floors: Floors = Floors(),
    ) -> None:
        self.is_writable = True
        self.bytes_used = folder.bytes_used()
        self.commits = 0
        self.busy_since: float | None = None
        """When the commit under way began, on the monotonic clock; None: there is none."""
        self.floors = floors
        self.room = Room()
        self._folder = folder
        self._database = database
        self._clock = clock
        self._report = report
        self._probe_interval_s = probe_interval_s
        self._operations: queue.SimpleQueue[Operation | None] = queue.SimpleQueue()
        self._kept: list[Operation] = []
        self._cause = SpoolError("")
        self._damage: SpoolDamaged | None = None
        self._is_in_doubt = False  # a write failed: what is in the log may not be on the disk
        self._look_at = 0.0
        self._try_at = 0.0
        self._log_limit = 2 * folder.log_pages * PAGE_BYTES + MAX_BYTES
        self._is_stopping = False
        self._has_free_pages = True
        self._thread = threading.Thread(target=self._run, name="spool-writer", daemon=True)

    def start(self) -> None:
        """Take the reserve and run; without room for it the spool begins as one that is full."""
        try:
            self._folder.hold_reserve()
        except SpoolFull as error:
            self._suspend(error)
        self._look_at_room()
        self._thread.start()

    def put(self, operation: Operation) -> None:
        """Hand in an operation; any thread, never blocks."""
        self._operations.put(operation)

    def note_damage(self, error: SpoolDamaged) -> None:
        """Rule 7: whoever reads has come across damage; any thread."""
        self._damage = self._damage or error

    @property
    def obstacle(self) -> SpoolError | None:
        """Why appends are refused; None when they are not."""
        return None if self.is_writable else self._cause

    def stop(self) -> None:
        """Let the writer commit what was put before, and end; its last report says so."""
        self._operations.put(None)

    # The thread

    def _run(self) -> None:
        """Turn after turn; whatever happens, the last report is sent, so that nobody waits for ever."""
        try:
            while not self._is_stopping:
                self._turn()
            self._retry_kept()
        except Exception as error:
            _say("critical", "spool_writer_failed", error=repr(error))
            raise
        finally:
            self.is_writable = False
            self._report(Report([], is_last=True))

    def _turn(self) -> None:
        """Take what has arrived, or rest; recover first when it is time."""
        operations = self._gather()
        if self._damage and self._cause is not self._damage:
            self._suspend(self._damage)
        if not self.is_writable and time.monotonic() >= self._try_at:
            self._recover()
        if self.is_writable and time.monotonic() >= self._look_at:
            self._look_at_room()
        if operations:
            self._commit(operations)
        elif self.is_writable and not self._is_stopping:
            self._tidy()

    def _gather(self) -> list[Operation]:
        """Wait a little for an operation, then take all that are there, within the bounds."""
        operations: list[Operation] = []
        size = 0
        try:
            operation = self._operations.get(timeout=self._patience())
            while operation is not None:
                operations.append(operation)
                size += operation.size
                if size >= MAX_BYTES or len(operations) >= MAX_OPERATIONS:
                    return operations
                operation = self._operations.get_nowait()
            self._is_stopping = True
        except queue.Empty:
            pass  # nothing came in time, or all is taken
        return operations

    def _patience(self) -> float:
        if self.is_writable:
            return _REST_S
        return min(max(0.0, self._try_at - time.monotonic()), _REST_S)

    def _commit(self, operations: list[Operation]) -> None:
        """One transaction for all of them, by the rules above."""
        operations = self._refuse_appends(operations) if not self.is_writable else operations
        operations = self._encode(operations)
        if self._kept:
            self._kept += operations  # marks stay in their order; `_recover` takes them all
        elif operations:
            self._try(operations)

    def _try(self, operations: list[Operation]) -> None:
        try:
            self._apply(operations)
        except BadRow as error:
            self._one_by_one(operations, error)
        except SpoolError as error:
            self._postpone(operations, error)
            self._retry_kept()

    def _postpone(self, operations: list[Operation], error: SpoolError) -> None:
        """Rule 1, up to the second attempt."""
        self._suspend(error)
        self._make_room()
        self._tell([(operation, error) for operation in operations if not operation.is_kept])
        self._kept += [operation for operation in operations if operation.is_kept]

    def _apply(self, operations: list[Operation]) -> None:
        """Commit, and report it."""
        started = self.busy_since = self._clock.monotonic()
        try:
            self._database.apply(Change.of(operations))
        finally:
            self.busy_since = None
        self.commits += 1
        self._has_free_pages = True
        outcomes = [(operation, None) for operation in operations]
        self._report(Report(outcomes, self._clock.monotonic() - started))
        # Only now: each look at a file lets go of the interpreter, and a busy loop gives it back late.
        log_bytes = self._folder.log_bytes()
        self.bytes_used = self._folder.database_bytes() + log_bytes
        if self.is_writable and log_bytes > self._log_limit:
            self._shorten_log()

    def _refuse_appends(self, operations: list[Operation]) -> list[Operation]:
        """Rule 3."""
        self._tell([(operation, self._cause) for operation in operations if not operation.is_kept])
        return [operation for operation in operations if operation.is_kept]

    def _encode(self, operations: list[Operation]) -> list[Operation]:
        """Turn lists into rows; an operation that cannot be stored is told so and left out."""
        encoded = []
        for operation in operations:
            try:
                operation.encode()
                encoded.append(operation)
            except SpoolError as error:
                _say("error", "spool_operation_refused", error=str(error))
                self._tell([(operation, error)])
        return encoded

    def _one_by_one(self, operations: list[Operation], cause: BadRow) -> None:
        """Rule 4. When the disk fails meanwhile the rest is postponed: marks must stay in their order."""
        _say("error", "spool_operation_refused", error=str(cause), among=len(operations))
        for position, operation in enumerate(operations):
            try:
                self._apply([operation])
            except BadRow as error:
                self._tell([(operation, error)])
            except SpoolError as error:
                self._postpone(operations[position:], error)
                return

    def _suspend(self, error: SpoolError) -> None:
        """Rule 1: no more appends; make room when that is what lacks."""
        if isinstance(error, SpoolDamaged) or self._damage:
            error = self._lock_up(error)
        elif self.is_writable:
            _say("error", "spool_suspended", error=str(error))
        self._is_in_doubt |= not isinstance(error, SpoolFull)
        self._cause = error
        self.is_writable = False
        self._try_at = time.monotonic() + self._probe_interval_s

    def _lock_up(self, error: SpoolError) -> SpoolError:
        """Rule 7; return the cause to name from now on, which is the damage whatever else fails."""
        if isinstance(error, SpoolDamaged) and self._damage is None:
            self._damage = error
        damage = self._damage or error
        if self._cause is not damage:
            _say("error", "spool_damaged", error=str(damage))
            self._attempt(partial(salvage.note_damage, self._folder, str(damage)))
        return damage

    def _make_room(self) -> None:
        """Give the reserve back, and empty the log if what it needs in the database fits into that.

        Whatever the error is called: a quota that is used up is an I/O error to SQLite.
        """
        self._attempt(self._folder.release_reserve)
        if isinstance(self._cause, SpoolFull) and self._folder.log_bytes() <= self._folder.reserve_bytes:
            self._attempt(self._database.checkpoint)

    def _retry_kept(self) -> bool:
        """Rules 1 and 2: the settles alone; False when they are still kept."""
        operations, self._kept = self._kept, []
        if not operations:
            return True
        try:
            self._apply(operations)
        except BadRow as error:
            self._one_by_one(operations, error)
        except SpoolError as error:
            _say("warning", "spool_settle_kept", operations=len(operations), error=str(error))
            self._kept = operations
        return not self._kept

    def _recover(self) -> None:
        """Rule 3: see whether the disk takes writes again."""
        self._try_at = time.monotonic() + self._probe_interval_s
        if (
            self._retry_kept()
            and self._is_sound()
            and self._regain_reserve()
            and self._has_room()
            and self._regain_trust()
            and self._attempt(self._probe)
        ):
            _say("info", "spool_writable_again")
            self.is_writable = True

    def _is_sound(self) -> bool:
        """Rule 7."""
        if self._damage is None:
            return True
        self._try_at = time.monotonic() + _LOOKS_LESS_OFTEN * self._probe_interval_s
        if self._folder.bytes_used() > QUICK_LOOK_BYTES or not self._attempt(self._look_through):
            return False
        self._damage = None
        return self._attempt(partial(salvage.forget_damage, self._folder))

    def _look_through(self) -> None:
        """By a connection that has nothing in its cache."""
        with closing(
            Database(self._folder.database, is_writer=False, quiet=self._database.quiet)
        ) as database:
            database.quick_look()

    def _look_at_room(self) -> None:
        """Rule 6."""
        self._look_at = time.monotonic() + _REST_S
        if not self._has_room() and self.is_writable:
            self._suspend(self._cause)

    def _has_room(self) -> bool:
        """Whether there is more room than the floors; else name that as the cause."""
        if not self._attempt(self._measure):
            return True  # what is wrong with the disk will show when it is written to
        lack = self.floors.lack(self.room, is_low=not self.is_writable)
        if lack:
            self._cause = SpoolFull(f'spool: too little room on the disk of "{self._folder.path}": {lack}')
        return not lack

    def _measure(self) -> None:
        self.room = self._folder.room()

    def _regain_trust(self) -> bool:
        """Rule 5."""
        if self._is_in_doubt and self._attempt(partial(self._database.checkpoint, truncate=True)):
            self._is_in_doubt = False
        return not self._is_in_doubt

    def _shorten_log(self) -> None:
        """The log has become much too long: SQLite keeps to itself what hinders it from emptying it."""
        try:
            self._database.checkpoint()
        except SpoolError as error:
            self._suspend(error)

    def _regain_reserve(self) -> bool:
        """Take the reserve; where there is no room for it, see what room the spool itself can give back."""
        hold = self._folder.hold_reserve
        return self._attempt(hold) or (self._attempt(self._shrink) and self._attempt(hold))

    def _shrink(self) -> None:
        """Give back as many free pages as the reserve needs; the log stays, settling goes on in it."""
        steps = range(0, self._folder.reserve_bytes, _PAGES_A_REST * PAGE_BYTES)
        for _ in steps:
            if not self._database.give_back(_PAGES_A_REST, keep=0):
                break
        self._database.checkpoint()

    def _probe(self) -> None:
        self._database.probe(self._clock.now())

    def _tidy(self) -> None:
        """Forget old keys and give free pages back, a few at a time, while nothing else is to do."""

        def prune_keys() -> None:
            if self._database.prune_keys(self._clock.now(), _KEYS_A_REST):
                self._has_free_pages = True

        def give_back() -> None:
            self._has_free_pages = self._database.give_back(_PAGES_A_REST)
            self.bytes_used = self._folder.bytes_used()

        self._attempt(prune_keys)
        if self._has_free_pages and not self._attempt(give_back):
            self._has_free_pages = False

    def _attempt(self, action: Callable[[], None]) -> bool:
        """Do what may fail without harm to any message."""
        try:
            action()
        except (SpoolError, OSError) as error:
            _say(
                "debug",
                "spool_attempt_failed",
                action=_name_of(action),
                error=str(error),
            )
            return False
        return True

    def _tell(self, outcomes: Sequence[tuple[Operation, SpoolError | None]]) -> None:
        if outcomes:
            self._report(Report(outcomes))


def _name_of(action: Callable[[], None]) -> str:
    function = action.func if isinstance(action, partial) else action
    return str(getattr(function, "__name__", function)).strip("_")


def _say(level: str, event: str, **values: object) -> None:
    """Write a diagnostic line; when it would go to the very disk that is full, do without it."""
    with contextlib.suppress(OSError):
        getattr(log, level)(event, **values)
