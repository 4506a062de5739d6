"""The engine: which functions stand behind a hook, in which order, and what each of them costs.

    Engine.load(config …) ──► scripts ──► hooks: name → functions        only hooks that somebody registered
                                             │
    door, core:   if engine.is_used("apn_request_eval"): engine.call("apn_request_eval", req, msg)
                                             │
                  0 goes on, 1 skips the rest; an error goes to the paniclog, and the message goes on

**Breaker.** A function that fails MAX_FAILURES times in a row takes its script out, with one loud line; an
overrun counts as four, for each one holds everything else up for the whole budget. The script comes back when
it is loaded anew: after a change, within `script_ttl`, or by a reload.

The engine has no thread and no loop; one thread calls it. `refresh` looks for changed files: call it every
`script_ttl` seconds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import structlog

from momentum_push.config import Config
from momentum_push.errors import ConfigError, Problem, ScriptError
from momentum_push.scripting import loader, python
from momentum_push.scripting.constants import CONT, DONE
from momentum_push.scripting.hooks import BY_NAME, HOOKS, Stop
from momentum_push.scripting.loader import Found, ScriptSettings
from momentum_push.scripting.lua import LuaFunction, LuaRuntime, Overrun
from momentum_push.scripting.lua.runtime import DEFAULT_MEMORY, problem_of
from momentum_push.scripting.services import Services

__all__ = ["Engine", "HookCount", "Limits", "limits_of", "validate"]

MAX_FAILURES = 10
OVERRUN_WEIGHT = 4

log = structlog.get_logger()


class Limits(NamedTuple):
    """What one call may cost."""

    time_s: float = 0.05
    """`script_time_limit`."""
    memory: int = DEFAULT_MEMORY
    """`script_memory_limit`, of all Lua scripts together."""


class HookCount(NamedTuple):
    """A function's row in `module hooks`."""

    hook: str
    script: str
    calls: int
    errors: int
    seconds: float
    is_disabled: bool


@dataclass(eq=False, slots=True)
class _Script:
    settings: ScriptSettings
    found: Found
    functions: list[_Function] = field(default_factory=list)
    is_disabled: bool = False


@dataclass(eq=False, slots=True)
class _Function:
    hook: str
    call: Callable[..., Any]
    script: _Script
    is_list: bool = False
    calls: int = 0
    errors: int = 0
    seconds: float = 0.0
    strikes: int = 0


class Engine:
    """The scripts of one process; made by `load`."""

    def __init__(
        self,
        services: Services,
        limits: Limits = Limits(),
        folders: Sequence[Path] = (),
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._services = services
        self._limits = limits
        self._folders = list(folders)
        self._clock = clock
        self._scripts: list[_Script] = []
        self._hooks: dict[str, list[_Function]] = {}
        self._lua: LuaRuntime | None = None
        self._past: dict[str, tuple[int, int, float]] = {}  # of functions that were replaced

    def __repr__(self) -> str:
        return f"<Engine {len(self._scripts)} scripts, {len(self._hooks)} hooks>"

    @classmethod
    def load(
        cls,
        scripts: Sequence[ScriptSettings],
        folders: Sequence[Path],
        services: Services,
        limits: Limits = Limits(),
    ) -> Engine:
        """Find, compile and run all scripts, in order.

        Raises:
            ConfigError: with everything that is wrong; nothing was started.
        """
        engine = cls(services, limits, folders)
        problems = []
        for settings in scripts:
            found = loader.find(settings, folders)
            script = engine._made(settings, found) if isinstance(found, Found) else found
            if isinstance(script, Problem):
                problems.append(script)
            else:
                engine._scripts.append(script)
        if problems:
            raise ConfigError(problems)
        engine._register()
        return engine

    # --- calling

    def is_used(self, hook: str) -> bool:
        """Whether any function stands behind a hook; ask before anything is made for a call."""
        return hook in self._hooks

    @property
    def used(self) -> Mapping[str, object]:
        """The hooks in use; the mapping lives as long as the engine, `name in engine.used` is one look-up."""
        return self._hooks

    def call(self, hook: str, *arguments: Any) -> int:
        """Call the functions of a hook in order.

        Returns:
            DONE when one of them ended the chain, else CONT; for `ec_message_mcmt_fixup` the number.
        """
        stop = BY_NAME[hook].stop
        for function in tuple(self._hooks.get(hook, ())):
            if function.is_list:
                answers = self._run(function, ([arguments],))
                answer = answers[0] if isinstance(answers, Sequence) and answers else answers
            else:
                answer = self._run(function, arguments)
            if stop is Stop.DONE and answer == DONE:
                return DONE
            if stop is Stop.NOT_OK and isinstance(answer, int | float) and answer:
                return int(answer)
        return CONT

    def call_reception(self, msg: Any, reception: str) -> str:
        """Run `ec_message_mcmt_pre_fixup`: each gets what the one before returned (momentum.md 4.6)."""
        for function in tuple(self._hooks.get("ec_message_mcmt_pre_fixup", ())):
            answer = self._run(function, (msg, reception))
            if answer in ("allow", "reject", "passthru"):
                reception = str(answer)
            if reception == "reject":
                break
        return reception

    def call_list(self, hook: str, calls: Sequence[tuple[Any, ...]]) -> list[int]:
        """Call a hook for a list of messages; one answer each, as `call` gives it.

        Functions run in order, each over the whole list; a message whose chain has ended is not shown to the
        next one. Python's `_list` forms get what is left in one call.
        """
        stop = BY_NAME[hook].stop is Stop.DONE
        results = [CONT] * len(calls)
        for function in tuple(self._hooks.get(hook, ())):
            places = [place for place, result in enumerate(results) if result != DONE]
            if not places:
                break
            if function.is_list:
                answers = self._answers(function, [calls[place] for place in places])
            else:
                answers = [self._run(function, calls[place]) for place in places]
            if stop:
                for place, answer in zip(places, answers, strict=False):
                    if answer == DONE:
                        results[place] = DONE
        return results

    def _answers(self, function: _Function, calls: list[tuple[Any, ...]]) -> Sequence[Any]:
        answers = self._run(function, (calls,), len(calls))
        if answers is None or answers == 0:
            return ()
        if not isinstance(answers, Sequence) or len(answers) != len(calls):
            self._failed(function, ScriptError(f"{len(calls)} answers are wanted, in a list, or None"))
            return ()
        return answers

    def _run(self, function: _Function, arguments: tuple[Any, ...], weight: int = 1) -> Any:
        if function.script.is_disabled:
            return None
        function.calls += weight
        began = self._clock()
        try:
            answer = function.call(*arguments)
        except Exception as error:  # noqa: BLE001  a script may raise anything
            function.seconds += self._clock() - began
            self._failed(function, error)
            return None
        took = self._clock() - began
        function.seconds += took
        if took > self._limits.time_s * weight and not isinstance(function.call, LuaFunction):
            what = f"it took {took * 1000:.0f} ms; script_time_limit is {self._limits.time_s * 1000:.0f}"
            self._failed(function, Overrun(what))
        elif function.strikes:
            function.strikes = 0
        return answer

    def _failed(self, function: _Function, error: Exception) -> None:
        function.errors += 1
        function.strikes += OVERRUN_WEIGHT if isinstance(error, Overrun) else 1
        self._services.panic("scriptlet", f"{function.hook} error: {self._words(function, error)}")
        if function.strikes >= MAX_FAILURES and not function.script.is_disabled:
            self._disable(function)

    def _words(self, function: _Function, error: Exception) -> str:
        if isinstance(error, ScriptError) and isinstance(function.call, LuaFunction):
            return str(error)
        file = str(function.script.found.path)
        line, text = python.place_of(error, file)
        text = str(error) if isinstance(error, ScriptError) else text
        name = function.script.found.name
        return f"{name}:{line}: {text}" if line else f"{name}: {text}"

    def _disable(self, function: _Function) -> None:
        script = function.script
        script.is_disabled = True
        self._register()
        log.error(
            "script_disabled",
            script=script.settings.name,
            file=str(script.found.path),
            hook=function.hook,
            why="it failed again and again; change the file or reload to try again",
        )

    # --- looking

    def counts(self) -> list[HookCount]:
        """Return a row for each function, scripts in order; `…_list` forms count messages."""
        return [
            HookCount(
                function.hook,
                script.settings.name,
                function.calls,
                function.errors,
                function.seconds,
                script.is_disabled,
            )
            for script in self._scripts
            for function in script.functions
        ]

    def totals(self) -> dict[str, tuple[int, int, float]]:
        """Return calls, errors and seconds by hook since the start; what was replaced counts too."""
        totals = dict(self._past)
        for row in self.counts():
            _add(totals, row.hook, row.calls, row.errors, row.seconds)
        return totals

    # --- scripts

    def refresh(self) -> list[Problem]:
        """Load changed files anew; one that cannot be loaded goes on as it was, and is reported once.

        Returns:
            What is wrong with files that changed.
        """
        problems = []
        for place, script in enumerate(self._scripts):
            if not script.found.is_changed:
                continue
            found = loader.find(script.settings, self._folders)
            made = self._made(script.settings, found) if isinstance(found, Found) else found
            if isinstance(made, Problem):
                problems.append(made)
                log.error("script_not_reloaded", script=script.settings.name, problem=str(made))
                if isinstance(found, Found):
                    script.found = found
                continue
            self._forget(script)
            self._scripts[place] = made
            self._register()
            self._call_each("init", made)
            self._call_each("rsrc_setup", made)
            log.info("script_reloaded", script=script.settings.name, file=str(made.found.path))
        return problems

    def start(self) -> None:
        """Call `init` and then `rsrc_setup` of every script."""
        self.call("init")
        self.call("rsrc_setup")

    def stop(self) -> None:
        """Call `deinit` of every script."""
        self.call("deinit")

    def _made(self, settings: ScriptSettings, found: Found) -> _Script | Problem:
        script = _Script(settings, found)
        name = str(found.path)
        if found.is_lua:
            try:
                functions = self._runtime().load(found.name, found.text)
            except ScriptError as error:
                return problem_of(error, found.name, name)
            script.functions = [_Function(each.hook, each, script) for each in functions]
            if not script.functions:
                fix = "end it with msys.registerModule(name, table)"
                return Problem(settings.place, f'script "{settings.name}" ({name}) registers no module', fix)
            return script
        loaded = python.load(name, found.text, self._services)
        if isinstance(loaded, Problem):
            return loaded
        for hook, call in loaded.functions:
            is_list = hook not in BY_NAME
            script.functions.append(
                _Function(hook.removesuffix("_list") if is_list else hook, call, script, is_list)
            )
        return script

    def _runtime(self) -> LuaRuntime:
        if self._lua is None:
            self._lua = LuaRuntime(
                self._services,
                time_limit_s=self._limits.time_s,
                max_memory=self._limits.memory,
                source=self._source,
                on_error=lambda what, error: self._services.panic("scriptlet", f"{what} error: {error}"),
            )
        return self._lua

    def _source(self, name: str) -> tuple[str, bytes]:
        found = loader.look_up(name, self._folders, (".lua",))
        if isinstance(found, str):
            raise LookupError(found)
        return found.name, found.text

    def _register(self) -> None:
        hooks: dict[str, list[_Function]] = {hook.name: [] for hook in HOOKS}
        for script in self._scripts:
            for function in script.functions if not script.is_disabled else ():
                hooks[function.hook].append(function)
        self._hooks.clear()
        self._hooks.update({name: functions for name, functions in hooks.items() if functions})

    def _call_each(self, hook: str, script: _Script) -> None:
        for function in script.functions:
            if function.hook == hook:
                self._run(function, ())

    def _forget(self, script: _Script) -> None:
        self._call_each("deinit", script)
        for function in script.functions:
            _add(self._past, function.hook, function.calls, function.errors, function.seconds)
        if self._lua is not None:
            self._lua.drop([each.call for each in script.functions if isinstance(each.call, LuaFunction)])


def limits_of(config: Config) -> Limits:
    """Return the limits that the `scriptlet` stanza sets."""
    for scope in config.modules("scriptlet"):
        return Limits(scope["script_time_limit"] / 1000, scope["script_memory_limit"])
    return Limits()


def validate(config: Config, search_path: Sequence[Path]) -> list[Problem]:
    """Return what keeps scripts from being loaded; their main chunks run, no hook does."""
    scripts = loader.read_settings(config)
    try:
        if scripts:
            folders = loader.folders_of(config.path, search_path)
            services = Services.for_checking(lambda path: Path(path).read_bytes())
            Engine.load(scripts, folders, services, limits_of(config))
    except ConfigError as error:
        return list(error.problems)
    return []


def _add(
    totals: dict[str, tuple[int, int, float]], hook: str, calls: int, errors: int, seconds: float
) -> None:
    before = totals.get(hook, (0, 0, 0.0))
    totals[hook] = before[0] + calls, before[1] + errors, before[2] + seconds
