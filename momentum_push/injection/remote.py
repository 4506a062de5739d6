"""The core as the doors of a receiver see it: intake, records, views, limits and ids, all over one link.

    door ──► RemoteIntake ── Injection, slice by slice ──► core: numbers, commit, queues, records
      ▲        rules, window                                  │
      └──────── numbered messages ◄──── Taken ────────────────┘

A receiver checks what comes in, and decides nothing that counts for the node: those are questions to the
core (`Ask`); limits on connections are in `vestibule`. What is unanswered is bounded (`WINDOW`): a core that
is slow makes the doors slow. When the link ends the receiver ends too, and with it whoever waits here.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import msgspec

from momentum_push.clock import Clock
from momentum_push.config import Config
from momentum_push.errors import InjectionError, MomentumPushError, SpoolError, SpoolFull
from momentum_push.injection.checking import Checker, of_kind
from momentum_push.injection.frames import (
    Answer,
    Ask,
    Dropped,
    Failed,
    Failure,
    Injection,
    LoggedIn,
    Panicked,
    Rejected,
    Report,
    Taken,
    runs_of,
)
from momentum_push.injection.http import Views
from momentum_push.injection.intake import IntakeBusy
from momentum_push.injection.keyring import KeyInUse, KeyReused, results_of, write_receipt
from momentum_push.injection.link import Link
from momentum_push.injection.routing import Routing
from momentum_push.loggers.records import Authentication, Rejection
from momentum_push.message import MAX_LIST, Cancel, Cancelled, Draft, Message, Origin, QueueKey, Refusal
from momentum_push.message.ids import hex_id
from momentum_push.message.keys import Key, Receipt
from momentum_push.message.rules import Rules
from momentum_push.meters import Meters

__all__ = [
    "BLOCK",
    "WINDOW",
    "Core",
    "CoreUnreachable",
    "Ids",
    "RemoteIntake",
    "RemoteRecords",
    "Reporter",
    "Window",
    "remote_views",
]

WINDOW = 16 * 1024 * 1024
"""Bytes of injections that one receiver may have with the core, unanswered; one alone may be larger."""

ROOM_S = 60.0
"""For room in the window; then the client is asked to come back."""

ASK_S = 10.0
"""For the core to answer a question; a loop that is behind by more is no use to anybody."""

BLOCK = 65_536
"""Connection and batch ids that the core gives out at a time: a second's worth of `message.ids`."""

MAX_RECORDS = 16 * 1024 * 1024
"""Bytes that may wait for the core before records of refusals are dropped, as the loggers drop them."""

_RULES_KEPT = 65_536
_TRIES = 3
_OF_KEYS: dict[str, type[KeyInUse | KeyReused]] = {"key in use": KeyInUse, "key reused": KeyReused}


class CoreUnreachable(MomentumPushError):
    """The core has not answered, or said that it cannot."""


class Core:
    """Questions to the core."""

    def __init__(self) -> None:
        self.link: Link
        self._numbers = itertools.count(1)
        self._open: dict[int, asyncio.Future[Any]] = {}

    async def ask(self, name: str, *arguments: Any, deadline_s: float | None = ASK_S) -> Any:
        """Ask, and return the answer.

        Raises:
            CoreUnreachable: there is none, not within the deadline.
            IntakeBusy, SpoolError: what the core met, where the question was about messages.
        """
        number = next(self._numbers)
        answer = self._open[number] = asyncio.get_running_loop().create_future()
        self.link.send(Ask(number, name, list(arguments)))
        try:
            async with asyncio.timeout(deadline_s):
                return await answer
        except TimeoutError as error:
            raise CoreUnreachable(f"core: no answer to {name} in {deadline_s:g} s; see its log") from error
        finally:
            del self._open[number]

    def on_answer(self, answer: Answer) -> None:
        """Hand an answer to whoever asked; they may have gone."""
        future = self._open.get(answer.number)
        if future is None or future.done():
            return
        if answer.failure is not None:
            future.set_exception(_error(answer.failure))
        elif answer.error:
            future.set_exception(CoreUnreachable(f"core: {answer.error}"))
        else:
            future.set_result(answer.value)


class Window:
    """Bytes that are with the core, unanswered; who waits for room gets it in turn."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    def __repr__(self) -> str:
        return f"<Window {self.used} of {self.limit} bytes, {len(self._waiting)} wait>"

    async def take(self, size: int) -> None:
        """Take a share, which `give_back` must end.

        Raises:
            TimeoutError: no room for ROOM_S.
        """
        if self._waiting or not self._fits(size):
            await self._wait(size)
        else:
            self.used += size

    def give_back(self, size: int) -> None:
        """Let others have a share."""
        self.used -= size
        self._let_in()

    def _fits(self, size: int) -> bool:
        return not self.used or self.used + size <= self.limit

    async def _wait(self, size: int) -> None:
        place = (size, asyncio.get_running_loop().create_future())
        self._waiting.append(place)
        try:
            async with asyncio.timeout(ROOM_S):
                await place[1]
        except BaseException:
            if place in self._waiting:
                self._waiting.remove(place)
            else:  # room was given in the same turn
                self.used -= size
            self._let_in()
            raise

    def _let_in(self) -> None:
        while self._waiting and self._fits(self._waiting[0][0]):
            size, turn = self._waiting.popleft()
            self.used += size
            if not turn.done():  # else it was cancelled in this turn, and gives the share back itself
                turn.set_result(None)


class RemoteIntake(Checker):
    """The intake of a receiver; as `intake.Intake` for the doors."""

    def __init__(self, core: Core, config: Config, salt: int, clock: Clock) -> None:
        super().__init__(Routing(config, partial(_known, {})), salt, clock)
        self.follow(config)
        self._core = core
        self._window = Window(WINDOW)
        self._numbers = itertools.count(1)
        self._open: dict[int, asyncio.Future[Taken]] = {}

    def __repr__(self) -> str:
        return f"<RemoteIntake {len(self._open)} injections with the core, {self._window}>"

    @property
    def is_ready(self) -> bool:
        """Whether messages are taken; what the disk says is the core's to tell."""
        return not self._core.link.is_lost

    def follow(self, config: Config) -> None:
        """Go by a new configuration; its rules are fetched as they are needed."""
        self.rules: dict[QueueKey, Rules] = {}
        self._learnt: set[tuple[str, str]] = set()
        self.routing = Routing(config, partial(_known, self.rules))

    async def accept(
        self, origin: Origin, drafts: Sequence[Draft], whole: bool = False, key: Key | None = None
    ) -> list[Message | Refusal]:
        """Do as `Intake.accept`: check here, keep there.

        Raises:
            IntakeBusy, KeyInUse, KeyReused, SpoolError: as there.
        """
        results = await self._check(origin, drafts)
        messages = await of_kind(results, Message)
        if whole and len(messages) < len(results):
            messages = []
        if key is not None:
            return await self._keep_once(origin.protocol, drafts, results, messages, key)
        if messages:
            await self._keep(origin.protocol, messages)
        return results

    async def _keep_once(
        self,
        protocol: str,
        drafts: Sequence[Draft],
        results: list[Message | Refusal],
        messages: list[Message],
        key: Key,
    ) -> list[Message | Refusal]:
        """Keep what came under a key, be it nothing; the core knows whether it was there before."""
        receipt = await write_receipt(key, self._clock.now(), results)
        known = await self._keep(protocol, messages, receipt)
        if known is None or known._replace(first=0) == receipt:
            return results
        return await results_of(known, self._salt, drafts)

    async def cancel(self, wish: Cancel) -> Cancelled:
        """Do as `Intake.cancel`.

        Raises:
            IntakeBusy, SpoolError: as there.
        """
        try:
            done = await self._core.ask("cancel", wish, deadline_s=None)
        except CoreUnreachable as error:
            raise IntakeBusy("the daemon is busy; ask again later") from error
        return msgspec.convert(done, Cancelled)

    async def _check(self, origin: Origin, drafts: Sequence[Draft]) -> list[Message | Refusal]:
        """Apply the rules, which may have to be fetched; again when a reload put others in their place."""
        for _ in range(_TRIES):
            await self._learn({(draft.binding or "", draft.domain) for draft in drafts} - self._learnt)
            with contextlib.suppress(RulesUnknown):
                return await self.check(origin, drafts)
        raise IntakeBusy("the configuration is changing; send again later")

    async def _learn(self, names: set[tuple[str, str]]) -> None:
        """Ask for the rules of queues that are not known yet; once for each queue and configuration."""
        if not names:
            return
        rules, learnt = self.rules, self._learnt
        keys = [key for name in names for key in self.routing.candidates(*name) if key not in rules]
        try:
            answer = await self._core.ask("rules", keys) if keys else []
        except CoreUnreachable as error:
            raise IntakeBusy("the daemon is busy; send again later") from error
        if len(rules) + len(learnt) + len(names) > _RULES_KEPT:
            rules.clear()
            learnt.clear()
        rules.update(zip(keys, msgspec.convert(answer, list[Rules]), strict=True))
        learnt |= names

    async def _keep(
        self, protocol: str, messages: list[Message], receipt: Receipt | None = None
    ) -> Receipt | None:
        size = _size(messages)
        try:
            await self._window.take(size)
        except TimeoutError as error:
            raise IntakeBusy("too many messages wait for the disk; send again later") from error
        try:
            taken = await self._send(protocol, messages, receipt)
        finally:
            self._window.give_back(size)
        for start in range(0, len(messages), MAX_LIST):
            if start:
                await asyncio.sleep(0)
            for sequence, message in enumerate(messages[start : start + MAX_LIST], taken.first + start):
                message.sequence = sequence
        return taken.receipt

    async def _send(self, protocol: str, messages: list[Message], receipt: Receipt | None) -> Taken:
        """Send messages in slices and wait for the number of the first one."""
        link, number = self._core.link, next(self._numbers)
        answer: asyncio.Future[Taken] = asyncio.get_running_loop().create_future()
        self._open[number] = answer
        last = max(0, len(messages) - 1) // MAX_LIST * MAX_LIST
        is_whole = False
        try:
            for start in range(0, last + 1, MAX_LIST):
                if start:
                    await link.room()
                    await asyncio.sleep(0)
                runs = runs_of(messages[start : start + MAX_LIST])
                is_whole = start == last
                link.send(Injection(number, protocol, runs, is_whole, receipt if is_whole else None))
            return await answer
        finally:
            if not is_whole:  # what is whole goes on to its commit, whoever waits for it
                link.send(Dropped(number))
            del self._open[number]

    def on_outcome(self, frame: Taken | Failed) -> None:
        """Hand the outcome of an injection to whoever waits; they may have gone."""
        future = self._open.get(frame.number)
        if future is None or future.done():
            return
        if isinstance(frame, Taken):
            future.set_result(frame)
        else:
            future.set_exception(_error(frame.failure))


class RulesUnknown(Exception):
    """Rules were asked for that were not learnt; never leaves this module."""


def _known(rules: Mapping[QueueKey, Rules], key: QueueKey) -> Rules:
    try:
        return rules[key]
    except KeyError:
        raise RulesUnknown from None


def _size(messages: Sequence[Message]) -> int:
    """Return about how many bytes messages take on the way and in the core."""
    if not messages:
        return 0
    head = messages[0]
    is_shared = head.payload is messages[-1].payload
    payloads = len(head.payload) if is_shared else sum([len(message.payload) for message in messages])
    return payloads + len(messages) * (len(head.token) + 200)


def _error(failure: Failure) -> InjectionError | SpoolError:
    if failure.kind in _OF_KEYS:
        return _OF_KEYS[failure.kind]()
    if failure.kind == "busy":
        return IntakeBusy(failure.detail, failure.retry_after_s)
    return SpoolFull(failure.detail) if failure.kind == "full" else SpoolError(failure.detail)


class Ids:
    """Connection and batch ids out of blocks that the core gives; the next block is asked for at half time.

    A block that runs out before the answer is overdrawn: two connections of one id in the logs of a node that
    stands still matter less than doors that do not.
    """

    def __init__(self, core: Core) -> None:
        self._core = core
        self._next = 0
        self._left = 0
        self._asking: asyncio.Task[None] | None = None

    def __call__(self) -> str:
        number, self._next, self._left = self._next, self._next + 1, self._left - 1
        if self._left < BLOCK // 2 and self._asking is None:
            self._asking = asyncio.get_running_loop().create_task(self._refill())
        return hex_id(number)

    async def fill(self) -> None:
        """Take a new block.

        Raises:
            CoreUnreachable: there is none to be had.
        """
        self._next, self._left = await self._core.ask("ids", BLOCK), BLOCK

    async def _refill(self) -> None:
        try:
            await self.fill()
        except CoreUnreachable:
            pass  # asked again with the next id
        finally:
            self._asking = None


class RemoteRecords:
    """Records and counters on their way to the core."""

    def __init__(self, core: Core, reporter: Reporter) -> None:
        self._core = core
        self._reporter = reporter
        self.dropped = 0

    def rejection(self, now: float, rejection: Rejection) -> None:
        """Record a refusal; it was counted already, and both cross together."""
        self._send(Rejected(now, rejection))
        self._reporter.report()
        self._core.link.flush()  # before the client can have its answer, and look at /metrics

    def authentication(self, now: float, authentication: Authentication) -> None:
        """Record an attempt to log in."""
        self._send(LoggedIn(now, authentication))

    def panic(self, now: float, module: str, text: str) -> None:
        """Record a fault, or an access line."""
        self._send(Panicked(now, module, text))

    def _send(self, frame: Rejected | LoggedIn | Panicked) -> None:
        if self._core.link.backlog > MAX_RECORDS:
            self.dropped += 1
        else:
            self._core.link.send(frame)


class Reporter:
    """Tells the core what was counted here."""

    def __init__(self, core: Core, meters: Meters) -> None:
        self._core = core
        self._meters = meters
        self._told: Counter[tuple[str, str]] = Counter()
        self._sessions: dict[str, int] = {}

    def report(self, told: int = 0) -> None:
        """Send what changed since the last report; to a `Tell`, in any case."""
        news = self._meters.rejections - self._told
        sessions = dict(self._meters.inbound_sessions)
        if not told and not news and sessions == self._sessions:
            return
        self._told.update(news)
        self._sessions = sessions
        rejections = [(protocol, error, count) for (protocol, error), count in news.items()]
        self._core.link.send(Report(told, rejections, sessions))


def remote_views(core: Core) -> Views:
    """Return views of the whole node, as the core sees it."""

    async def is_ready() -> tuple[bool, str]:
        try:
            ready, why = await core.ask("is_ready")
        except CoreUnreachable as error:
            return False, str(error)
        return bool(ready), str(why)

    return Views(
        metrics=lambda: core.ask("metrics"),
        summary=lambda: core.ask("summary"),
        reset_summary=lambda: core.ask("reset_summary"),
        mailq=lambda domain, binding, limit: core.ask("mailq", domain, binding, limit),
        is_ready=is_ready,
    )
