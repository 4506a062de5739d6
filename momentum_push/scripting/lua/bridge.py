"""The crossing between Lua and Python: what may be asked, and in which form it is answered.

Lua holds numbers for objects; each lives for one call. What comes from Lua are bytes, numbers and
booleans. What goes back begins with a kind, for no Python object and no exception ever enters Lua:

    VALUES  any number of values        LIST   a table of what follows
    PAIRS   key, value, key, value …    FAILED what is wrong, raised at the script's line
    FULL    the interpreter's memory is used up; raised, and cannot be caught

**Memory.** The interpreter has a limit. When Lua meets it in its own code, the script gets an error; but
lupa pushes answers onto Lua's stack while it holds Python's lock, and an allocation that fails there would
end the process. So each answer makes room for itself first, and raises the limit when it must; then the
answer is FULL, and the call ends.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from momentum_push.errors import ScriptError
from momentum_push.scripting.connection import Accept, Vctx, text_of
from momentum_push.scripting.constants import apn_status_classifier, gcm_classify_error
from momentum_push.scripting.lua import library
from momentum_push.scripting.lua.dialect import plain
from momentum_push.scripting.policy_message import PolicyMessage
from momentum_push.scripting.request import Request, Response
from momentum_push.scripting.services import Services

__all__ = ["KINDS", "Bridge", "to_text"]

VALUES, LIST, PAIRS, FULL, FAILED = 1, 2, 3, 4, 0

KINDS: Mapping[str, Any] = {
    "msg": PolicyMessage,
    "vctx": Vctx,
    "accept": Accept,
    "req": Request,
    "resp": Response,
}
"""Classes of what hooks get; their READ, WRITE and CALL say what Lua may do with them."""

_FIELDS = {cls: {name.encode(): name for name in cls.READ} for cls in KINDS.values()}

HEADROOM = 256 * 1024
"""Bytes that are free whenever Python pushes a small answer."""
MAX_LIST = 5000
"""Lua's C stack takes 8,000 values."""

Answer = tuple[Any, ...]


class Memory(Protocol):
    """What is asked of lupa's runtime."""

    def get_memory_used(self, total: bool = False) -> int: ...

    def set_max_memory(self, max_memory: int, total: bool = False) -> None: ...


def to_text(value: Any) -> Any:
    """Return bytes from Lua as text; bytes that are no UTF-8 survive the way there and back."""
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value


def to_lua(value: Any) -> Any:
    """Return a value as lupa can push it."""
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape")
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 1 << 62:
        return float(value)
    return value


class Bridge:
    """Answers what Lua asks; `subjects` are the objects of the running call."""

    def __init__(
        self,
        services: Services,
        memory: Memory,
        max_memory: int,
        source: Callable[[str], tuple[str, bytes]],
        print_: Callable[[str], None],
        callback: Callable[[int, str], Callable[..., Any]],
    ) -> None:
        self.subjects: dict[int, Any] = {}
        self._memory = memory
        self._max_memory = max_memory
        self._services = services
        self._source = source
        self._print = print_
        self._callback = callback
        self._functions: dict[str, Callable[..., Any]] = {
            name.removeprefix("_serve_"): getattr(self, name)
            for name in dir(self)
            if name.startswith("_serve_")
        }

    # --- the three ways in; none raises

    def get(self, handle: int, name: Any) -> Answer:
        """Read a field."""
        try:
            subject = self.subjects.get(handle) or self._subject(handle)
            field = _FIELDS[type(subject)].get(name)
            if field is None:  # as of any table; scripts probe for fields
                return self._answer(repr(subject)) if name == b"__repr__" else (VALUES, None)
            value = getattr(subject, field)
            if type(value) is str:  # nearly always: a short cut through _answer
                value = value.encode("utf-8", "surrogateescape")
                need = HEADROOM + 2 * len(value)
                if self._memory.get_memory_used() + need < self._max_memory:
                    return VALUES, value
            return self._answer(value)
        except Exception as error:  # noqa: BLE001  none may enter Lua
            return self._failed(error)

    def set(self, handle: int, name: Any, value: Any) -> Answer:
        """Assign a field."""
        try:
            subject = self._subject(handle)
            name = to_text(name)
            if name not in subject.WRITE:
                raise ScriptError(f"{name} cannot be assigned")
            setattr(subject, name, value if name == "payload" else to_text(value))
            return (VALUES,)
        except Exception as error:  # noqa: BLE001  none may enter Lua
            return self._failed(error)

    def invoke(self, handle: int, name: Any, *arguments: Any) -> Answer:
        """Call a method; of 0: a service."""
        try:
            name = to_text(name)
            if handle == 0:
                return self._answer(self._functions[name](*arguments))
            subject = self._subject(handle)
            if name not in subject.CALL:
                raise ScriptError(f"there is no method {name}")
            return self._answer(getattr(subject, name)(*map(to_text, arguments)))
        except Exception as error:  # noqa: BLE001  none may enter Lua
            return self._failed(error)

    def _subject(self, handle: Any) -> Any:
        subject = self.subjects.get(handle)
        if subject is None:
            raise ScriptError("the object belongs to a call that is over; keep values, not objects")
        return subject

    # --- answers

    def _answer(self, result: Any) -> Answer:
        if result is None or isinstance(result, bool | float):
            return VALUES, result
        if isinstance(result, str | bytes | int):
            return self._fitting((VALUES, to_lua(result)))
        if isinstance(result, tuple):
            return self._fitting((VALUES, *map(to_lua, result)))
        if isinstance(result, dict):
            return self._fitting((PAIRS, *(to_lua(each) for pair in result.items() for each in pair)))
        if len(result) > MAX_LIST:
            raise ScriptError(f"a list of {len(result)}; at most {MAX_LIST} fit")
        return self._fitting((LIST, *map(to_lua, result)))

    def _fitting(self, answer: Answer) -> Answer:
        need = HEADROOM + 2 * sum(len(value) if isinstance(value, bytes) else 64 for value in answer)
        used = self._memory.get_memory_used()
        if used + need < self._max_memory:
            return answer
        self._memory.set_max_memory(used + 2 * HEADROOM)
        return FULL, b"the script uses more than %d bytes of memory" % self._max_memory

    def _failed(self, error: Exception) -> Answer:
        text = (
            str(error) if isinstance(error, ScriptError | LookupError) else f"{type(error).__name__}: {error}"
        )
        answer = self._fitting((VALUES, to_lua(text)[:1000]))
        return answer if answer[0] == FULL else (FAILED, answer[1])

    # --- services: arguments as Lua gave them

    def _serve_print(self, text: bytes) -> None:
        self._print(to_text(text))

    def _serve_now(self) -> float:
        return float(self._services.need("now", "msys.core.get_now_ts")())

    def _serve_source(self, name: bytes) -> tuple[Any, ...]:
        try:
            where, text = self._source(to_text(name))
            return where, plain(text)
        except LookupError as error:
            return None, str(error)

    def _serve_apn_classify(self, status: Any) -> int:
        return apn_status_classifier(-1 if status is None else int(status))

    def _serve_gcm_classify(self, status: Any) -> int:
        return gcm_classify_error(-1 if status is None else int(status))

    def _serve_pcre_match(self, subject: Any, pattern: Any) -> Any:
        return library.pcre_match(_text(subject, "msys.pcre.match"), _text(pattern, "msys.pcre.match"))

    def _serve_pcre_replace(self, *arguments: Any) -> str:
        subject, pattern, by = (_text(each, "msys.pcre.replace") for each in arguments)
        return library.pcre_replace(subject, pattern, by)

    def _serve_pcre_split(self, subject: Any, pattern: Any) -> Sequence[str]:
        return library.pcre_split(_text(subject, "msys.pcre.split"), _text(pattern, "msys.pcre.split"))

    def _serve_base64_encode(self, original: Any, fold: bool) -> bytes:
        return library.base64_encode(_bytes(original, "msys.base64.encode"), fold)

    def _serve_base64_decode(self, encoded: Any) -> bytes:
        return library.base64_decode(_bytes(encoded, "msys.base64.decode"))

    def _serve_counter(self, action: bytes, path: Any, delta: Any) -> Any:
        counters = self._services.need("counters", "msys.counter")
        name = _text(path, "msys.counter")
        if action in (b"open", b"add"):
            return counters.add(name, int(delta))
        return getattr(counters, to_text(action))(name)

    def _serve_timer(self, kind: bytes, seconds: Any, number: int, label: Any = None) -> None:
        timer = self._services.need("timer", "msys.timer")
        name = to_text(label) or "timer"
        timer(to_text(kind), float(seconds), self._callback(number, f"timer {name}"), name)

    def _serve_control(self, prefix: Any, number: int) -> None:
        control = self._services.need("control", "msys.registerControl")
        name = _text(prefix, "msys.registerControl")
        call = self._callback(number, f"command {name}")
        control(name, lambda words: str(call("\n".join(words)) or ""))

    def _serve_config(self, *arguments: Any) -> tuple[Any, ...]:
        value, text = self._services.need("config", "msys.config")(*map(to_text, arguments))
        return value, text

    def _serve_expand_macro(self, macro: Any) -> str:
        return str(self._services.need("expand_macro", "msys.expandMacro")(_text(macro, "msys.expandMacro")))

    def _serve_read_file(self, path: Any) -> bytes:
        try:
            return bytes(self._services.need("read_file", "msys.readfile")(_text(path, "msys.readfile")))
        except OSError as error:
            raise ScriptError(f"msys.readfile: {to_text(path)}: {error.strerror or error}") from error


def _text(value: Any, what: str) -> str:
    return text_of(to_text(value), what)


def _bytes(value: Any, what: str) -> bytes:
    return value if isinstance(value, bytes) else text_of(value, what).encode()
