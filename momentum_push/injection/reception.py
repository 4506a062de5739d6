"""One receiver as the core sees it: its injections kept, its questions answered, its counts taken in.

    Injection … Injection (last) ──► intake ── commit ──► Taken
    Ask ──► a table of what the core answers ──► Answer
    Left, Report, Rejected …  ──► sessions, meters, records

When a receiver dies its connections are counted out, and what it refused stays counted. Messages that it had
handed over whole are committed and delivered, though nobody can be told (at least once).
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from inspect import isawaitable
from typing import Any

import structlog

from momentum_push.errors import LogError, SpoolError, SpoolFull
from momentum_push.injection.frames import (
    Answer,
    Ask,
    Dropped,
    Failed,
    Failure,
    FromReceiver,
    Injection,
    Left,
    LoggedIn,
    Panicked,
    Ready,
    Rejected,
    Report,
    Taken,
    Tell,
    messages_of,
)
from momentum_push.injection.http_access import Records
from momentum_push.injection.intake import Intake, IntakeBusy
from momentum_push.injection.keyring import KeyInUse, KeyReused
from momentum_push.injection.link import Link
from momentum_push.injection.sessions import Quota, Sessions
from momentum_push.message import MAX_LIST, Message
from momentum_push.message.keys import Receipt
from momentum_push.meters import Meters

__all__ = ["Node", "Reception"]

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Node:
    """What the receivers of a node share."""

    intake: Intake
    records: Records
    meters: Meters
    sessions: Sessions
    salt: int
    answers: Mapping[str, Callable[..., Any]]
    """What can be asked, by name; at once or awaited, the answers are what msgpack can carry."""


class Reception:
    """The core's end of the link to one receiver.

    Args:
        on_ready: called with the number of a `Configure` and the problem it met, if any.
        on_lost: called once, when the receiver is gone.
    """

    def __init__(self, node: Node, on_ready: Callable[[int, str], None], on_lost: Callable[[], None]) -> None:
        self.link = Link(FromReceiver, self._on_frame, self._on_lost)
        self.unanswered = 0
        self._node = node
        self._on_ready = on_ready
        self._tell_lost = on_lost
        self._slices: dict[int, list[Message]] = {}
        self._entered: Counter[str] = Counter()
        self._sessions: dict[str, int] = {}
        self._tells: dict[int, asyncio.Future[None]] = {}
        self._tell_number = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._handlers: dict[type, Callable[[Any], None]] = {
            Injection: self._on_injection,
            Dropped: self._on_dropped,
            Ask: self._on_ask,
            Left: self._on_left,
            Report: self._on_report,
            Ready: lambda frame: self._on_ready(frame.number, frame.problem),
            Rejected: lambda frame: self._write(node.records.rejection, frame.now, frame.record),
            LoggedIn: lambda frame: self._write(node.records.authentication, frame.now, frame.record),
            Panicked: lambda frame: self._write(node.records.panic, frame.now, frame.module, frame.text),
        }

    def __repr__(self) -> str:
        return f"<Reception {self.unanswered} injections unanswered, {self.link}>"

    def tell(self) -> asyncio.Future[None]:
        """Ask for a report; the future is done when it is in, or when the receiver is gone."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self.link.is_lost:
            done.set_result(None)
            return done
        self._tell_number += 1
        self._tells[self._tell_number] = done
        self.link.send(Tell(self._tell_number))
        return done

    def _on_frame(self, frame: Any) -> None:
        self._handlers[type(frame)](frame)

    def _on_lost(self) -> None:
        self._slices.clear()
        self._node.sessions.leave_keys(list(self._entered.elements()))
        self._entered.clear()
        self._count_sessions({})
        for done in self._tells.values():
            if not done.done():
                done.set_result(None)
        self._tells.clear()
        self._tell_lost()

    # --- injections

    def _on_injection(self, frame: Injection) -> None:
        messages = messages_of(frame.runs, self._node.salt)
        if frame.number in self._slices or not frame.is_last:
            slices = self._slices.setdefault(frame.number, [])
            slices += messages
            messages = slices
        if frame.is_last:
            self._slices.pop(frame.number, None)
            self._keep(frame.number, frame.protocol, messages, frame.receipt)

    def _on_dropped(self, frame: Dropped) -> None:
        self._slices.pop(frame.number, None)

    def _keep(self, number: int, protocol: str, messages: list[Message], receipt: Receipt | None) -> None:
        work: asyncio.Future[Any]
        self.unanswered += 1
        try:
            self._node.intake.check_open()
            if receipt is not None:
                work = asyncio.ensure_future(self._node.intake.keep_once(protocol, messages, receipt))
            elif len(messages) <= MAX_LIST:
                work = self._node.intake.keep_few(protocol, messages)
            else:
                work = asyncio.ensure_future(self._node.intake.keep(protocol, messages))
        except (IntakeBusy, SpoolError) as error:
            self._fail(number, error)
        else:
            work.add_done_callback(partial(self._answer, number, messages))

    def _answer(self, number: int, messages: Sequence[Message], work: asyncio.Future[Any]) -> None:
        if work.cancelled():
            self._fail(number, IntakeBusy("the daemon is stopping; send again later"))
        elif (error := work.exception()) is not None:
            self._fail(number, error)
        else:
            self.unanswered -= 1
            receipt: Receipt | None = work.result()
            self.link.send(Taken(number, receipt.first if receipt else messages[0].sequence, receipt))

    def _fail(self, number: int, error: BaseException) -> None:
        self.unanswered -= 1
        self.link.send(Failed(number, _failure(error)))

    # --- questions

    def _on_ask(self, frame: Ask) -> None:
        if frame.name == "enter":
            self._reply(frame.number, self._enter(*frame.arguments))
            return
        task = asyncio.get_running_loop().create_task(self._ask(frame))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _ask(self, frame: Ask) -> None:
        try:
            answer = self._node.answers[frame.name](*frame.arguments)
            self._reply(frame.number, await answer if isawaitable(answer) else answer)
        except (IntakeBusy, SpoolError) as error:
            self.link.send(Answer(frame.number, None, failure=_failure(error)))
        except Exception as error:
            log.error("answer_failed", question=frame.name, error=repr(error), exc_info=True)
            self.link.send(Answer(frame.number, None, f"{frame.name} failed; see the daemon's log"))

    def _reply(self, number: int, value: Any) -> None:
        self.link.send(Answer(number, value))

    def _enter(self, quotas: Sequence[tuple[str, int]]) -> bool:
        if not self._node.sessions.enter([Quota(key, limit) for key, limit in quotas]):
            return False
        self._entered.update(key for key, _ in quotas)
        return True

    # --- counts and records

    def _on_left(self, frame: Left) -> None:
        self._entered.subtract(frame.keys)
        self._node.sessions.leave_keys(frame.keys)

    def _on_report(self, frame: Report) -> None:
        for protocol, error, count in frame.rejections:
            self._node.meters.rejections[protocol, error] += count
        self._count_sessions(frame.sessions)
        if frame.told:
            for number in [number for number in self._tells if number <= frame.told]:
                done = self._tells.pop(number)
                if not done.done():
                    done.set_result(None)

    def _count_sessions(self, sessions: dict[str, int]) -> None:
        total = self._node.meters.inbound_sessions
        for protocol in sessions.keys() | self._sessions.keys():
            total[protocol] += sessions.get(protocol, 0) - self._sessions.get(protocol, 0)
        self._sessions = sessions

    def _write(self, write: Callable[..., None], *record: Any) -> None:
        try:
            write(*record)
        except LogError as error:
            log.error("log_write_failed", error=str(error))


def _failure(error: BaseException) -> Failure:
    """Put an error of the intake into values; the receiver makes an error of them again."""
    if isinstance(error, IntakeBusy):
        return Failure("busy", error.detail, error.retry_after_s)
    if isinstance(error, KeyInUse):
        return Failure("key in use", error.detail)
    if isinstance(error, KeyReused):
        return Failure("key reused", error.detail)
    if isinstance(error, SpoolError):
        return Failure("full" if isinstance(error, SpoolFull) else "spool", str(error))
    log.error("reception_crashed", error=repr(error))
    return Failure("spool", "spool: the commit was not finished; send again later")
