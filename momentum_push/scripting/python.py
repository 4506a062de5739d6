"""Python scripts: a file becomes one object for each class in it that derives from `Hooks`.

The file is compiled and run by itself, under a name that nothing imports; it may import what is installed. A
script in Python is trusted as the daemon is: there are no walls, and what runs too long is not stopped,
only counted.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from types import ModuleType
from typing import Any

from momentum_push.errors import Place, Problem
from momentum_push.scripting.hooks import Hooks, overridden
from momentum_push.scripting.services import Services

__all__ = ["PythonScript", "load", "place_of"]


class PythonScript:
    """The functions of one file, by hook; `_list` forms under their own names."""

    def __init__(self, functions: list[tuple[str, Callable[..., Any]]]) -> None:
        self.functions = functions


def load(name: str, text: bytes, services: Services) -> PythonScript | Problem:
    """Run a script and make its classes.

    Args:
        name: the file, for messages.
        services: what the objects find as `self.services`.

    Returns:
        Its functions in order of the classes, or what is wrong and where.
    """
    try:
        code = compile(text, name, "exec")
    except SyntaxError as error:
        return Problem(Place(name, error.lineno or 0), f"{error.msg}", "correct the script")
    except ValueError as error:
        return Problem(Place(name), str(error), "save it as UTF-8 text")
    module = ModuleType(f"momentum_push_policy_{abs(hash(name))}")
    module.__file__ = name
    try:
        sys.modules[module.__name__] = module  # dataclasses look themselves up there
        exec(code, module.__dict__)
        classes = [each for each in vars(module).values() if _is_script(each, module.__name__)]
        found = [pair for each in classes for pair in overridden(_made(each, services)).items()]
    except Exception as error:  # noqa: BLE001  a script may raise anything
        line, text_ = place_of(error, name)
        return Problem(Place(name, line), text_, "correct the script")
    finally:
        sys.modules.pop(module.__name__, None)
    if not found:
        what = "no class derives from momentum_push.scripting.Hooks and defines a hook"
        return Problem(Place(name), what, "see docs/policy.md for a script to begin with")
    return PythonScript(found)


def _made(script: type[Hooks], services: Services) -> Hooks:
    made = script()
    made.services = services
    return made


def _is_script(thing: object, module: str) -> bool:
    return isinstance(thing, type) and issubclass(thing, Hooks) and thing.__module__ == module


def place_of(error: BaseException, name: str) -> tuple[int, str]:
    """Return the last line of script `name` that an error passed through (0: none), and what it says."""
    lines = [
        frame.lineno or 0 for frame in traceback.extract_tb(error.__traceback__) if frame.filename == name
    ]
    return (lines[-1] if lines else 0), f"{type(error).__name__}: {error}"
