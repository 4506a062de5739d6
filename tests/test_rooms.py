"""The picture of design.md 2, held by reading imports: rows, pure rooms, circles, doors.

Nothing is imported here, files are only parsed; so a room that is half written, or not written at
all, stands in nobody's way. When a wall moves, move it in design.md and in the tables below at once.

The checks take a *tree*, module name → source, so that the last part can show on made-up trees that
each of them is able to fail.
"""

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = "momentum_push"
PACKAGE = Path(__file__).parent.parent / ROOT

ROWS = {
    "errors": 0,
    "clock": 0,
    "heap": 0,
    "meters": 0,
    "message": 1,
    "config": 1,
    "modules": 2,
    "spool": 3,
    "loggers": 3,
    "scripting": 3,
    "queues": 4,
    "injection": 5,
    "delivery": 5,
    "console": 6,
    "exposition": 6,
    "daemon": 7,
    "cli": 8,
    "__main__": 9,
}
SIMULATOR = "simulator"
SIMULATOR_MAY_IMPORT = {"errors", "message"}
MAY_IMPORT_SIMULATOR = {"cli"}

PURE = (
    "message",
    "meters",
    "config.parser",
    "config.nodes",
    "config.options",
    "config.scopes",
    "scripting.connection",
    "scripting.constants",
    "scripting.counters",
    "scripting.hooks",
    "scripting.lua.dialect",
    "scripting.lua.library",
    "scripting.policy_message",
    "scripting.request",
    "scripting.services",
    "scripting.subject",
    "queues.collapse",
    "queues.schedule",
    "queues.queue",
    "queues.throttle",
    "injection.company",
    "injection.frames",
    "delivery.breaker",
    "delivery.fleet",
    "delivery.pace",
    "delivery.plan",
    "delivery.records",
    "delivery.sizing",
    "delivery.trust",
    "delivery.apns.liveness",
    "delivery.apns.options",
    "delivery.apns.tunnel",
    "delivery.apns.wire",
    "delivery.apns.link",
    "delivery.apns.frames",
    "delivery.apns.headers",
    "delivery.apns.exchange",
    "delivery.apns.request",
    "delivery.apns.response",
    "delivery.apns.room",
    "delivery.apns.wear",
    "loggers.macros",
    "console.views",
)
IMPURE = {
    "sockets": {
        "socket",
        "socketserver",
        "ssl",
        "select",
        "selectors",
        "http",
        "urllib",
        "smtplib",
        "uvicorn",
    },
    "files": {"os", "io", "pathlib", "shutil", "tempfile", "fcntl", "mmap", "sqlite3", "glob"},
    "threads and processes": {
        "threading",
        "_thread",
        "multiprocessing",
        "concurrent",
        "subprocess",
        "signal",
    },
    "event loops": {"asyncio", "uvloop"},
    "clocks": {"time", "sched"},
    "chance": {"random", "secrets"},
    "diagnostics": {"structlog", "logging"},
}
IMPURE_KIND = {module: kind for kind, modules in IMPURE.items() for module in modules}
IMPURE_CALLS = {"open", "input", "print"}


# --- Reading -----------------------------------------------------------------------------------------


@dataclass
class Module:
    """What is known of one source file."""

    name: str
    tree: ast.Module
    is_package: bool
    ours: set[str] = field(default_factory=set)
    """Modules of ours that it imports, wherever in the file."""
    ours_at_run_time: set[str] = field(default_factory=set)
    """The same without what stands under `if TYPE_CHECKING`."""
    foreign: set[str] = field(default_factory=set)
    """Top-level names of all other modules that it imports at run time."""

    @property
    def room(self) -> str:
        return room_of(self.name)


def room_of(name: str) -> str:
    """`momentum_push.spool.sqlite` → `spool`; the package itself → empty."""
    return name.split(".")[1] if "." in name else ""


def read(sources: Mapping[str, str], packages: set[str]) -> dict[str, Module]:
    """Parse a tree: sources by module name, and which of them are packages."""
    modules = {name: Module(name, ast.parse(text), name in packages) for name, text in sources.items()}
    for module in modules.values():
        note_imports(module, set(modules))
    return modules


def note_imports(module: Module, known: set[str]) -> None:
    for node, is_for_types in statements(module.tree):
        for target in targets(node, module, known):
            if target.split(".")[0] != ROOT:
                if not is_for_types:
                    module.foreign.add(target.split(".")[0])
            elif target != module.name:
                module.ours.add(target)
                if not is_for_types:
                    module.ours_at_run_time.add(target)


def statements(node: ast.AST, is_for_types: bool = False) -> Iterator[tuple[ast.AST, bool]]:
    """Every import of a tree, and whether type checkers alone see it."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child, is_for_types
        is_guard = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
        yield from statements(child, is_for_types or is_guard)


def targets(node: ast.AST, module: Module, known: set[str]) -> Iterator[str]:
    """The modules that an import names; `from package import name` means the submodule if there is one."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        base = absolute(node, module)
        for alias in node.names:
            full = f"{base}.{alias.name}"
            is_module = full in known or (base == ROOT and alias.name in ROWS | {SIMULATOR: 0})
            yield full if is_module else base


def absolute(node: ast.ImportFrom, module: Module) -> str:
    if not node.level:
        return node.module or ""
    parts = module.name.split(".")
    here = parts[: len(parts) - node.level + module.is_package]
    return ".".join([*here, *([node.module] if node.module else [])])


def our_tree() -> dict[str, Module]:
    sources, packages = {}, set()
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = (ROOT, *path.relative_to(PACKAGE).with_suffix("").parts)
        if parts[-1] == "__init__":
            parts = parts[:-1]
            packages.add(".".join(parts))
        sources[".".join(parts)] = path.read_text(encoding="utf-8")
    return read(sources, packages)


# --- Laws: each returns its breaches, one line each --------------------------------------------------


def breaches_of_rows(modules: Mapping[str, Module]) -> list[str]:
    """Imports go down only; rooms on one row never meet; the simulator stands beside."""
    found = []
    for module in modules.values():
        if module.room and module.room not in ROWS and module.room != SIMULATOR:
            found.append(f"{module.name}: its room stands on no row; give it one in design.md 2 and here")
        wrong = sorted(target for target in module.ours if not may_import(module.room, room_of(target)))
        found += [f"{module.name}: imports {target}; imports go down only" for target in wrong]
    return found


def may_import(room: str, other: str) -> bool:
    if other in ("", room):
        return True
    if room == SIMULATOR:
        return other in SIMULATOR_MAY_IMPORT
    if other == SIMULATOR:
        return room in MAY_IMPORT_SIMULATOR
    return ROWS.get(room, -1) > ROWS.get(other, 99)


def is_pure(name: str) -> bool:
    inner = name.removeprefix(ROOT + ".")
    return any(inner == pure or inner.startswith(pure + ".") for pure in PURE)


def breaches_of_purity(modules: Mapping[str, Module]) -> list[str]:
    """Pure rooms touch no socket, file, thread, loop, clock, chance or diagnostics, nor call who does."""
    found = []
    for module in modules.values():
        if not is_pure(module.name):
            continue
        for reached in sorted(reach(module.name, modules)):
            for foreign in sorted(modules[reached].foreign & IMPURE_KIND.keys()):
                way = "" if reached == module.name else f" (through {reached})"
                found.append(
                    f"{module.name}: imports {foreign}{way}; a pure room has no {IMPURE_KIND[foreign]}"
                )
        found += [f"{module.name}: calls {name}()" for name in sorted(calls(module.tree) & IMPURE_CALLS)]
    return found


def reach(name: str, modules: Mapping[str, Module]) -> set[str]:
    """A module and all of ours that its imports bring in, at run time."""
    seen, todo = {name}, [name]
    while todo:
        for target in modules[todo.pop()].ours_at_run_time:
            if target in modules and target not in seen:
                seen.add(target)
                todo.append(target)
    return seen


def calls(tree: ast.Module) -> set[str]:
    nodes = (node.func for node in ast.walk(tree) if isinstance(node, ast.Call))
    return {func.id for func in nodes if isinstance(func, ast.Name)}


def breaches_of_order(modules: Mapping[str, Module]) -> list[str]:
    """No module is imported in a circle, not even through an import inside a function."""
    found = []
    for module in modules.values():
        nearby = sorted(module.ours_at_run_time & modules.keys())
        circular = [target for target in nearby if module.name in reach(target, modules)]
        found += [f"{module.name}: imports {target}, which leads back to it" for target in circular]
    return found


def breaches_of_doors(modules: Mapping[str, Module]) -> list[str]:
    """Every module says what lives in it; every folder is a package; what it offers is in `__all__`."""
    found = []
    for module in modules.values():
        if not ast.get_docstring(module.tree):
            found.append(f"{module.name}: has no docstring")
        parent = module.name.rpartition(".")[0]
        if parent and parent not in modules:
            found.append(f"{module.name}: its folder has no __init__.py, so it would not be installed")
        if module.is_package and module.room and offers_names(module.tree) and not has_all(module.tree):
            found.append(f"{module.name}: has no __all__")
    return found


def offers_names(tree: ast.Module) -> bool:
    return any(not isinstance(node, ast.Expr) for node in tree.body)


def has_all(tree: ast.Module) -> bool:
    assigned = [target for node in tree.body if isinstance(node, ast.Assign) for target in node.targets]
    return any(isinstance(target, ast.Name) and target.id == "__all__" for target in assigned)


LAWS = [breaches_of_rows, breaches_of_purity, breaches_of_order, breaches_of_doors]


@pytest.fixture(scope="module")
def modules():
    return our_tree()


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_our_tree_keeps_the_law(law, modules):
    breaches = law(modules)
    assert not breaches, "\n" + "\n".join(breaches)


def test_the_tree_was_found(modules):
    assert modules[f"{ROOT}.message"].is_package
    assert f"{ROOT}.message.notification" in modules[f"{ROOT}.message"].ours


# --- The laws can fail -------------------------------------------------------------------------------


def breaches(law, tree: Mapping[str, str]) -> list[str]:
    """Run a law over a made-up tree: paths below the package → source, packages end with a slash."""
    names = {path: ".".join([ROOT, *path.strip("/").split("/")]) for path in tree}
    packages = {ROOT} | {names[path] for path in tree if path.endswith("/")}
    return law(read({ROOT: '"""."""', **{names[path]: text for path, text in tree.items()}}, packages))


UPWARD = [
    ("spool/rows", "from momentum_push.queues import Queue"),
    ("spool/rows", "import momentum_push.queues.queue"),
    ("spool/rows", "from momentum_push import queues"),
    ("spool/rows", "from ..queues import queue"),
    ("spool/", "from ..queues import queue"),
    ("spool/rows", "def later():\n    from momentum_push.queues import Queue"),
    (
        "spool/rows",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from momentum_push.queues import Queue",
    ),
    ("spool/rows", "try:\n    import momentum_push.daemon\nexcept ImportError:\n    pass"),
    ("spool/rows", "from momentum_push.loggers import hub"),
    ("injection/smtp", "from momentum_push.delivery import pool"),
    ("config/loader", "from momentum_push.message import Part"),
    ("errors", "from momentum_push import clock"),
    ("daemon", "import momentum_push.cli.serve"),
    ("daemon", "from momentum_push.simulator import server"),
    ("simulator/server", "from momentum_push.clock import Clock"),
    ("simulator/server", "import momentum_push.config"),
    ("attic/box", "x = 1"),
]


@pytest.mark.parametrize(("path", "text"), UPWARD)
def test_an_import_that_goes_up_or_sideways_is_found(path, text):
    assert len(breaches(breaches_of_rows, {path: text})) == 1


DOWNWARD = [
    ("spool/rows", "from momentum_push.message import Part\nfrom momentum_push.spool import seam\nimport os"),
    ("spool/rows", "from . import seam\nfrom .seam import Spool\nfrom ..errors import SpoolError"),
    ("spool/", "from .seam import Spool\nfrom ..errors import SpoolError"),
    ("simulator/server", "from momentum_push.message import reasons\nfrom momentum_push.errors import Place"),
    ("cli/demo", "from momentum_push.simulator import Simulator\nimport momentum_push.daemon"),
    ("cli/version", "from momentum_push import __version__"),
]


@pytest.mark.parametrize(("path", "text"), DOWNWARD)
def test_an_import_that_goes_down_or_stays_at_home_passes(path, text):
    assert breaches(breaches_of_rows, {path: text}) == []


@pytest.mark.parametrize("module", sorted(IMPURE_KIND))
@pytest.mark.parametrize("pure", ["message/ids", "queues/schedule", "delivery/apns/wire"])
def test_an_impure_import_in_a_pure_room_is_found(pure, module):
    assert breaches(breaches_of_purity, {pure: f"import {module}"})
    assert breaches(breaches_of_purity, {pure: f"def f():\n    from {module}.x import y"})


def test_an_impure_import_behind_another_module_is_found():
    tree = {"queues/queue": "from momentum_push.clock import Clock", "clock": "import time"}
    assert "through momentum_push.clock" in breaches(breaches_of_purity, tree)[0]


def test_reading_a_file_in_a_pure_room_is_found():
    assert breaches(breaches_of_purity, {"message/reasons": "rows = open('x').read()"})


def test_shells_may_touch_the_world_and_pure_rooms_may_name_its_types():
    guarded = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from pathlib import Path"
    assert (
        breaches(breaches_of_purity, {"spool/sqlite": "import sqlite3, time", "message/ids": guarded}) == []
    )


def test_a_circle_is_found_at_each_of_its_modules():
    tree = {
        "spool/a": "from momentum_push.spool import b",
        "spool/b": "from . import c",
        "spool/c": "from .a import x",
    }
    assert len(breaches(breaches_of_order, tree)) == 3


def test_a_circle_hidden_in_a_function_is_found_and_one_for_types_alone_is_none():
    hidden = {"spool/a": "def f():\n    from . import b", "spool/b": "from . import a"}
    assert breaches(breaches_of_order, hidden)
    types = {"spool/a": "if TYPE_CHECKING:\n    from . import b", "spool/b": "from . import a"}
    assert not breaches(breaches_of_order, types)


@pytest.mark.parametrize(
    ("tree", "words"),
    [
        ({"spool/": ""}, "no docstring"),
        ({"spool/": '"""Keeps it."""\nfrom .seam import Spool', "spool/seam": '"""."""'}, "no __all__"),
        ({"spool/seam": '"""What a spool is."""'}, "no __init__.py"),
    ],
)
def test_a_room_without_a_door_is_found(tree, words):
    assert [words in breach for breach in breaches(breaches_of_doors, tree)] == [True]


def test_a_door_with_docstring_and_all_passes():
    door = '"""Keeps it."""\nfrom .seam import Spool\n__all__ = ["Spool"]'
    assert (
        breaches(breaches_of_doors, {"spool/": door, "spool/seam": '"""."""', "cli/": '"""Commands."""'})
        == []
    )
