"""Starting modules in order, stopping them in reverse, and never waiting for one for ever.

              start ok                    stop, or deadline
    built ──────────────► running ──────────────────────────► stopped
      │ start raises         │ reload(config)
      └──► those already     └──► running; a module that raises keeps its old configuration
           running are stopped, last first; the error goes to the caller

`validate` comes before all of this and touches nothing outside the process.
"""

import asyncio
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import structlog

from momentum_push.errors import Problem

__all__ = ["Lifecycle", "Module", "StopReport"]

STOP_TIMEOUT_S = 15.0
"""As long as `drain_timeout`: a module that drains needs it, and systemd waits for 90."""

log = structlog.get_logger()


class Module(Protocol):
    """A part of the daemon that can be started and stopped."""

    name: str
    """For diagnostics: the stanza's name and instance."""

    def validate(self, config: Any) -> list[Problem]:
        """What is wrong in the configuration; no I/O on the network, nothing is changed."""

    async def start(self) -> None:
        """Begin to work; returns when it does. One that raises has freed what it had opened."""

    async def reload(self, config: Any) -> None:
        """Work by another configuration from now on."""

    async def stop(self) -> None:
        """Finish what was begun, free everything; called once, and only after a start that succeeded."""


class StopReport(NamedTuple):
    """What did not stop as it should."""

    late: list[str]
    """Names of modules that did not stop within their deadline and were cancelled."""
    failed: list[str]
    """Names of modules whose stop raised."""

    @property
    def is_clean(self) -> bool:
        return not self.late and not self.failed


class Lifecycle:
    """The modules of one daemon, in starting order."""

    def __init__(self, modules: Sequence[Module], *, stop_timeout_s: float = STOP_TIMEOUT_S) -> None:
        self._modules = list(modules)
        self._running: list[Module] = []
        self._stop_timeout_s = stop_timeout_s

    def __repr__(self) -> str:
        return f"<Lifecycle {len(self._running)} of {len(self._modules)} modules running>"

    @property
    def running(self) -> list[str]:
        """Names of the modules that were started and not stopped."""
        return [module.name for module in self._running]

    def validate(self, config: Any) -> list[Problem]:
        """Ask every module; sorted by place."""
        return sorted(problem for module in self._modules for problem in module.validate(config))

    async def start(self) -> None:
        """Start all in order; when one fails, stop those before it, and raise what it raised."""
        for module in self._modules:
            try:
                await module.start()
            except BaseException:
                log.error("module_start_failed", module=module.name)
                await self.stop()
                raise
            self._running.append(module)
            log.debug("module_started", module=module.name)

    async def reload(self, config: Any) -> None:
        """Hand a validated configuration to all that run, in order.

        Raises:
            ExceptionGroup: of those that could not take it; the others have.
        """
        failures: list[Exception] = []
        for module in self._running:
            try:
                await module.reload(config)
            except Exception as error:
                log.error("module_reload_failed", module=module.name, exc_info=True)
                failures.append(error)
        if failures:
            raise ExceptionGroup("modules that could not reload", failures)

    async def stop(self) -> StopReport:
        """Stop all that run, last first; each has its own deadline, and none keeps the next from stopping."""
        report = StopReport([], [])
        while self._running:
            await self._stop(self._running.pop(), report)
        return report

    async def _stop(self, module: Module, report: StopReport) -> None:
        """Stop one. Not `wait_for`: that waits for ever for a module that will not be cancelled."""
        task = asyncio.ensure_future(module.stop())
        done, _ = await asyncio.wait([task], timeout=self._stop_timeout_s)
        if not done:
            log.error("module_stop_late", module=module.name, timeout_s=self._stop_timeout_s)
            report.late.append(module.name)
            task.cancel()
        elif task.cancelled() or task.exception():
            log.error("module_stop_failed", module=module.name, exc_info=_cause(task))
            report.failed.append(module.name)
        else:
            log.debug("module_stopped", module=module.name)


def _cause(task: asyncio.Future[None]) -> BaseException | None:
    return None if task.cancelled() else task.exception()
