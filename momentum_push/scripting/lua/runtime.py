"""One Lua interpreter: scripts in, functions by number out, each call inside its budget.

    load(name, text)      runs the main chunk; what it registered comes back as LuaFunctions
    LuaFunction(…)        one crossing into Lua; objects go as numbers (bridge.py)

**Time.** A hook counts instructions and asks every 1,000 how much CPU time this thread has used; once that
is more than `time_limit_s`, each further instruction raises, and `pcall`, `xpcall` and coroutines pass it
on. A call shorter than 2,000 instructions never looks at a clock.

What no hook can interrupt is a single C function: `string.find`, `match`, `gmatch` and `gsub` with patterns
that backtrack (`(".-"):rep(20)` over a long text) and `msys.pcre`. `string.rep` refuses results over
16 MB; `gsub`, `format`, `concat` and `..` are held by the memory limit alone. `newproxy` is not there, for
what a collector calls is not counted.

**Memory.** All scripts of an interpreter share `max_memory` bytes. Lua 5.1 collects nothing when an
allocation fails: so a call begins with a collection when little is left, and fails when that brought nothing.

**Lock.** Lua runs without Python's lock; another thread may take it for one switch interval (0.5 ms) at each
crossing. One thread calls at a time.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from importlib import resources
from typing import Any

from lupa import lua51

from momentum_push.errors import Place, Problem, ScriptError
from momentum_push.scripting import constants
from momentum_push.scripting.hooks import HOOKS
from momentum_push.scripting.lua.bridge import HEADROOM, KINDS, Bridge, to_text
from momentum_push.scripting.lua.dialect import plain
from momentum_push.scripting.services import Services

__all__ = ["DEFAULT_MEMORY", "LuaFunction", "LuaRuntime", "Overrun"]

DEFAULT_MEMORY = 64 * 1024 * 1024
LOAD_LIMIT_S = 2.0
"""CPU time for a main chunk: it may build tables."""

_PLACE = re.compile(r"^(?P<file>.+?):(?P<line>\d+): (?P<what>.*)$", re.DOTALL)


class Overrun(ScriptError):
    """A function used up its time or its memory."""


class LuaRuntime:
    """An interpreter with what `msys` offers.

    Args:
        services: what scripts may ask of the daemon.
        time_limit_s: CPU seconds of one call.
        source: finds a file for `require`: its name and text; raises LookupError.
        on_error: told of callbacks (timers, commands) that fail: what it was, and why.
    """

    def __init__(
        self,
        services: Services,
        *,
        time_limit_s: float = 0.05,
        max_memory: int = DEFAULT_MEMORY,
        source: Callable[[str], tuple[str, bytes]] | None = None,
        on_error: Callable[[str, ScriptError], None] | None = None,
        clock: Callable[[], float] = time.thread_time,
    ) -> None:
        self._services = services
        self._max_memory = max_memory
        self._on_error = on_error
        self._printed: list[str] | None = None
        self._number = 0
        self._is_busy = False
        self._time_text = _limit_text(time_limit_s)
        self._lua = lua51.LuaRuntime(
            encoding=None,
            register_eval=False,
            register_builtins=False,
            attribute_handlers=(_denied, _denied),
            unpack_returned_tuples=True,
            max_memory=0,
        )
        self._bridge = Bridge(
            services, self._lua, max_memory, source or _no_source, self._print, self._callback_of
        )
        self._host = self._furnish(clock)
        self._call = self._host[b"call"]
        self._load = self._host[b"load"]
        self._drop = self._host[b"drop"]
        self._host[b"configure"](time_limit_s, self._time_text.encode())
        self._lua.set_max_memory(max_memory)

    def __repr__(self) -> str:
        return f"<LuaRuntime {self._lua.get_memory_used() >> 10} of {self._max_memory >> 10} KiB>"

    @property
    def memory_used(self) -> int:
        """Bytes that all scripts together hold, garbage included."""
        return int(self._lua.get_memory_used())

    def _furnish(self, clock: Callable[[], float]) -> Any:
        lua, bridge = self._lua, self._bridge
        host = lua.table()
        host[b"hooks"] = lua.table(*(hook.name.encode() for hook in HOOKS))
        host[b"kinds"] = lua.table_from(
            {hook.name.encode(): [kind.encode() for kind in hook.arguments] for hook in HOOKS}, recursive=True
        )
        lists = {kind.encode(): [name.encode() for name in sorted(cls.CALL)] for kind, cls in KINDS.items()}
        words = {
            b"core": constants.CORE,
            b"apn": constants.APN,
            b"delivery": constants.DELIVERY,
            b"gcm": constants.GCM,
            b"counter": constants.COUNTER,
        }
        tables = {
            area: {name.encode(): _as_bytes(value) for name, value in rows.items()}
            for area, rows in words.items()
        }
        arguments: dict[str, tuple[Any, ...]] = {
            "sandbox.lua": (host, clock, bridge.invoke),
            "json.lua": (host,),
            "objects.lua": (
                host,
                bridge.get,
                bridge.set,
                bridge.invoke,
                lua.table_from(lists, recursive=True),
            ),
            "msys.lua": (host, lua.table_from(tables, recursive=True)),
        }
        folder = resources.files("momentum_push.scripting.lua")
        chunks = [lua.compile(folder.joinpath(name).read_bytes(), name=f"={name}") for name in arguments]
        for chunk, given in zip(chunks, arguments.values(), strict=True):
            chunk(*given)
        host[b"seal"]()
        return host

    # --- scripts

    def load(self, name: str, text: bytes) -> list[LuaFunction]:
        """Run a script's main chunk in an environment of its own and return what it registered, in order.

        Args:
            name: the file, for messages.

        Raises:
            ScriptError: it does not compile, or fails; the text begins with `file:line:`.
        """
        self._make_room(len(text) * 4)
        answer = self._enter(
            self._load, LOAD_LIMIT_S, _limit_text(LOAD_LIMIT_S).encode(), plain(text), b"@" + name.encode()
        )
        flat = [to_text(value) for value in answer]
        return [LuaFunction(self, hook, number) for hook, number in zip(flat[::2], flat[1::2], strict=True)]

    def drop(self, functions: Sequence[LuaFunction]) -> None:
        """Forget functions of a script that was replaced."""
        for function in functions:
            self._drop(function.number)

    # --- calls

    def call(self, number: int, arguments: Sequence[Any]) -> Any:
        """Call a function with objects and text; what it returned, where that is a plain value.

        Raises:
            Overrun: it took too long, or too much memory.
            ScriptError: it failed; the text begins with `file:line:` where Lua knows it.
        """
        subjects = self._bridge.subjects
        crossing: list[Any] = []
        need = 2 * HEADROOM
        for argument in arguments:
            if isinstance(argument, str):
                crossing.append(argument.encode("utf-8", "surrogateescape"))
                need += len(argument) * 4
            else:
                self._number += 1
                subjects[self._number] = argument
                crossing.append(self._number)
        try:
            if self._lua.get_memory_used() + need > self._max_memory:
                self._make_room(need)
            answer = self._enter(self._call, number, *crossing)
        finally:
            subjects.clear()
        return to_text(answer[0]) if answer else None

    def _enter(self, function: Any, *arguments: Any) -> tuple[Any, ...]:
        if self._is_busy:
            raise ScriptError("a script is running; this one cannot be called from it")
        self._is_busy = True
        try:
            answer = function(*arguments)
        except lua51.LuaMemoryError as error:
            raise Overrun(self._memory_text()) from error
        except lua51.LuaError as error:
            raise ScriptError(str(error)) from error
        finally:
            self._is_busy = False
            self._lua.set_max_memory(self._max_memory)
        if answer is True:
            return ()
        if answer[0] is True:
            return tuple(answer[1:])
        text = to_text(answer[1])
        if "not enough memory" in text:
            raise Overrun(self._memory_text())
        is_over = text.endswith((self._time_text, self._memory_text()))
        raise Overrun(text) if is_over else ScriptError(text)

    def _memory_text(self) -> str:
        return f"the script uses more than {self._max_memory} bytes of memory"

    def _make_room(self, need: int) -> None:
        """See that Python can push its arguments; an allocation that failed there would end the process."""
        if self._lua.get_memory_used() + need + HEADROOM <= self._max_memory:
            return
        self._lua.gccollect()
        if self._lua.get_memory_used() + need + HEADROOM > self._max_memory:
            raise Overrun(self._memory_text())

    # --- what scripts set off

    def _print(self, text: str) -> None:
        if self._printed is not None:
            self._printed.append(text)
        else:
            self._services.panic("scriptlet", text)

    def _callback_of(self, number: int, what: str) -> Callable[..., Any]:
        def call(*words: str) -> Any:
            self._printed = [] if words else None
            try:
                result = self.call(number, words)
                shown = [*(self._printed or ()), *([str(result)] if isinstance(result, str) else ())]
                return "\n".join(shown)
            except ScriptError as error:
                if self._on_error is not None:
                    self._on_error(what, error)
                return f"{what}: {error}"
            finally:
                self._printed = None

        return call


class LuaFunction:
    """A function that a script registered for a hook."""

    __slots__ = ("_runtime", "hook", "number")

    def __init__(self, runtime: LuaRuntime, hook: str, number: int) -> None:
        self._runtime = runtime
        self.hook = hook
        self.number = number

    def __call__(self, *arguments: Any) -> Any:
        return self._runtime.call(self.number, arguments)


def problem_of(error: ScriptError, name: str, file: str) -> Problem:
    """Return what keeps a script from being loaded, with its place; `name` stands for `file` in messages."""
    found = _PLACE.match(str(error))
    if found is None:
        return Problem(Place(file), str(error), "correct the script")
    where = file if found["file"] == name else found["file"]
    return Problem(Place(where, int(found["line"])), found["what"], "correct the script")


def _limit_text(seconds: float) -> str:
    return f"the script took longer than {seconds * 1000:.0f} ms"


def _as_bytes(value: Any) -> Any:
    return value.encode() if isinstance(value, str) else value


def _denied(*_: Any) -> Any:
    raise AttributeError("scripts see no Python objects")


def _no_source(name: str) -> tuple[str, bytes]:
    raise LookupError(f"no folder holds {name}")
