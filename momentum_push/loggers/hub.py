"""All loggers of the daemon behind one door.

What a caller can rely on, and has to do:

1. Every method hands the records to every logger, also when one of them fails. A failure is one
   LogError at the end, which names the files that did not take theirs.
2. Records are *taken* even then: failing files keep them (`file.Sink`), the others have written theirs.
   Giving the same records again would write them twice; call `retry()` instead, every second, until it
   returns. It writes what is missing and nothing else.
3. Until then nothing that depends on the records may be done (no removal from the spool), and nothing
   more should be sent. Records of answers that come in meanwhile may be given: they queue behind.
4. Receptions, rejections, authentications, panics and heartbeats hold nothing up: their callers note
   the LogError and go on. Some of these are dropped (and counted) when a file fails for so long that
   MAX_PENDING bytes wait.

Heartbeats are aligned to multiples of their interval since the epoch, so that the logs of several
nodes line up; there is one for each interval in which `tick` is called, none for those slept through.
"""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain

from momentum_push.errors import ConfigError, LogError, Problem
from momentum_push.loggers import apn_logger, ec_logger, json_logger
from momentum_push.loggers.columns import Runs
from momentum_push.loggers.file import Sinks
from momentum_push.loggers.records import Authentication, RecordLogger, Rejection
from momentum_push.loggers.settings import Configuration, Settings
from momentum_push.message import Disposition, Message

__all__ = ["KINDS", "Loggers", "build", "validate"]

_VALIDATE: dict[str, Callable[[Settings], list[Problem]]] = {
    "apn_logger": apn_logger.validate,
    "ec_logger": ec_logger.validate,
    "json_logger": json_logger.validate,
}
KINDS = tuple(_VALIDATE)
"""Stanzas that are loggers."""


class Loggers:
    """The hub; its methods are those of a logger, and `tick`, `retry`."""

    def __init__(self, loggers: Sequence[RecordLogger] = (), sinks: Sinks | None = None) -> None:
        self.loggers = list(loggers)
        self._sinks = sinks or Sinks()
        self._slots: dict[int, float] = {}

    def __repr__(self) -> str:
        return f"<Loggers {len(self.loggers)}, {self.pending} bytes pending>"

    @property
    def pending(self) -> int:
        """Bytes that some file has not taken yet."""
        return sum(sink.pending for sink in self._sinks.all())

    @property
    def is_writable(self) -> bool:
        """Whether every file took what it was given."""
        return not self.pending

    def receptions(self, now: float, messages: Sequence[Message]) -> None:
        """Record what was put into the spool."""
        self._all(lambda logger: logger.receptions(now, messages))

    def dispositions(self, now: float, items: Sequence[Disposition]) -> None:
        """Record finished attempts; returns after `write()`. On LogError call `retry`, see above."""
        shared = Runs(items)
        self._all(lambda logger: logger.dispositions(now, shared))

    def rejection(self, now: float, rejection: Rejection) -> None:
        """Record a refused injection."""
        self._all(lambda logger: logger.rejection(now, rejection))

    def authentication(self, now: float, authentication: Authentication) -> None:
        """Record an attempt to log in."""
        self._all(lambda logger: logger.authentication(now, authentication))

    def panic(self, now: float, module: str, text: str) -> None:
        """Record a fault of the daemon."""
        self._all(lambda logger: logger.panic(now, module, text))

    def heartbeat(self, now: float) -> None:
        """Write the marker of every logger, due or not."""
        self._all(lambda logger: logger.heartbeat(now))

    def tick(self, now: float) -> None:
        """Write the heartbeats that are due, and what is still owed; call it every second or so."""
        due = [logger for logger in self.loggers if self._is_due(logger, now)]
        _each([*(partial(logger.heartbeat, now) for logger in due), self.retry])

    def retry(self) -> None:
        """Write what failing files still owe; LogError while there is some."""
        _each([sink.flush for sink in self._sinks.all()])

    def reopen(self) -> None:
        """Open all files by name again; a file that cannot be opened goes on being written as it was."""
        _each([sink.reopen for sink in self._sinks.all()])

    def take_over(self, other: "Loggers") -> None:
        """Write through the loggers of `other` from now on, and close those that were here.

        Raises:
            LogError: files that still owe records; nothing was changed, try again when they do not.
        """
        self.retry()
        before = Loggers(self.loggers, self._sinks)
        self.loggers, self._sinks, self._slots = other.loggers, other._sinks, {}
        before.close()

    def close(self) -> None:
        """Write what is left and close all files; LogError when records are lost."""
        _each([*(logger.close for logger in self.loggers), *(sink.close for sink in self._sinks.all())])

    def _all(self, write: Callable[[RecordLogger], None]) -> None:
        _each([partial(write, logger) for logger in self.loggers])

    def _is_due(self, logger: RecordLogger, now: float) -> bool:
        if logger.heartbeat_s <= 0:
            return False
        slot = now // logger.heartbeat_s
        before = self._slots.setdefault(id(logger), slot)
        self._slots[id(logger)] = slot
        return slot != before


def _each(steps: Sequence[Callable[[], None]]) -> None:
    """Do all steps; raise what failed as one LogError at the end."""
    failures: dict[str, LogError] = {}
    for step in steps:
        try:
            step()
        except LogError as error:
            failures[str(error)] = error
    if failures:
        raise LogError(" | ".join(failures)) from next(iter(failures.values()))


def validate(config: Configuration) -> list[Problem]:
    """Report everything that is wrong with the loggers' stanzas; touches no file."""
    stanzas = [(check, scope) for kind, check in _VALIDATE.items() for scope in config.modules(kind)]
    return sorted(chain.from_iterable(check(scope) for check, scope in stanzas))


def build(config: Configuration) -> Loggers:
    """Open all files and make all loggers that are enabled.

    Raises:
        ConfigError: stanzas that `validate` refuses, or files that cannot be opened: all of them at once.
    """
    problems = [problem for problem in validate(config) if not problem.is_warning]
    if problems:
        raise ConfigError(problems)
    sinks = Sinks()
    is_hires = bool(config.glob["log_hires_timestamp"])
    makers: dict[str, Callable[[Settings], RecordLogger]] = {
        "apn_logger": lambda scope: apn_logger.build(scope, sinks),
        "ec_logger": lambda scope: ec_logger.build(scope, sinks, is_hires=is_hires),
        "json_logger": lambda scope: json_logger.build(scope, sinks),
    }
    return Loggers(_make(config, makers, sinks), sinks)


def _make(
    config: Configuration, makers: dict[str, Callable[[Settings], RecordLogger]], sinks: Sinks
) -> list[RecordLogger]:
    loggers: list[RecordLogger] = []
    problems: list[Problem] = []
    for kind, make in makers.items():
        for scope in config.modules(kind):
            try:
                if scope["enabled"]:
                    loggers.append(make(scope))
            except LogError as error:
                problems.append(Problem(scope.place, f'{kind} "{scope.instance}": {error}'))
    if problems:
        for sink in sinks.all():
            sink.close()
        raise ConfigError(problems)
    return loggers
