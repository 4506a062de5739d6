"""Reads conf files, resolves their includes, and hands out a `Config` or all that is wrong with it.

The only module of this room that touches the disk. Names are looked for as momentum.md 1.1 and
interfaces.md 2 say: in the directory of the including file, then in that of the master file, then along
`EC_CONF_SEARCH_PATH`; so are the keys and certificates that options name. A directory stands for its
regular files, hidden ones left out, in alphabetical order, not recursively. `local_changes_file` is
read last.
"""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from momentum_push.config import options
from momentum_push.config.builder import build
from momentum_push.config.checks import check
from momentum_push.config.conf import Config
from momentum_push.config.nodes import Assignment, Include, Included, Item, Stanza, Text
from momentum_push.config.parser import parse_tolerant
from momentum_push.config.tree import Block, Setting
from momentum_push.errors import ConfigError, Place, Problem

__all__ = ["DEFAULT_FILE", "find_default", "load", "loads", "search_path_of"]

DEFAULT_FILE = Path("/etc/momentum-push/ecelerity.conf")
MAX_DEPTH = 16  # includes in includes; the deepest tree seen in the manuals is three
MAX_FILES = 20_000


class Files(Protocol):
    """What the loader asks of a file system."""

    def is_file(self, name: str) -> bool: ...
    def is_directory(self, name: str) -> bool: ...
    def entries(self, name: str) -> list[str]:
        """Names of the regular files in a directory."""

    def read(self, name: str) -> bytes: ...
    def identity(self, name: str) -> str:
        """Equal for two names of one file."""


class Disk:
    """The file system."""

    def is_file(self, name: str) -> bool:
        return os.path.isfile(name)

    def is_directory(self, name: str) -> bool:
        return os.path.isdir(name)

    def entries(self, name: str) -> list[str]:
        with os.scandir(name) as found:
            return [entry.name for entry in found if entry.is_file()]

    def read(self, name: str) -> bytes:
        return Path(name).read_bytes()

    def identity(self, name: str) -> str:
        return os.path.realpath(name)


class Memory:
    """Files of a test: name → text; "a/b" is file b in directory a."""

    def __init__(self, files: Mapping[str, str]) -> None:
        self._files = {os.path.normpath(name): text for name, text in files.items()}

    def is_file(self, name: str) -> bool:
        return os.path.normpath(name) in self._files

    def is_directory(self, name: str) -> bool:
        return bool(self.entries(name))

    def entries(self, name: str) -> list[str]:
        return [
            os.path.basename(path) for path in self._files if os.path.dirname(path) == os.path.normpath(name)
        ]

    def read(self, name: str) -> bytes:
        return self._files[os.path.normpath(name)].encode()

    def identity(self, name: str) -> str:
        return os.path.normpath(name)


def load(path: Path, search_path: Sequence[Path] | None = None) -> Config:
    """Read the configuration whose master file is `path`.

    Args:
        search_path: where relative names are looked for last; None: along `EC_CONF_SEARCH_PATH`.

    Raises:
        ConfigError: with all problems of all files, sorted by place.
    """
    directories = search_path_of(os.environ) if search_path is None else search_path
    return _Loader(Disk(), str(path), [str(directory) for directory in directories]).load()


def loads(text: str, name: str = "test.conf", files: Mapping[str, str] | None = None) -> Config:
    """As `load`, of a text; includes are looked for in `files` alone.

    Raises:
        ConfigError: as for `load`.
    """
    return _Loader(Memory({**(files or {}), name: text}), name, []).load()


def search_path_of(environ: Mapping[str, str]) -> list[Path]:
    """The directories of `EC_CONF_SEARCH_PATH`, separated by colons."""
    return [Path(part) for part in environ.get("EC_CONF_SEARCH_PATH", "").split(":") if part]


def find_default(environ: Mapping[str, str]) -> Path | None:
    """`ecelerity.conf` along `EC_CONF_SEARCH_PATH`, then /etc/momentum-push; None when there is none."""
    candidates = [directory / "ecelerity.conf" for directory in search_path_of(environ)]
    return next((path for path in (*candidates, DEFAULT_FILE) if path.is_file()), None)


_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")


@dataclass(slots=True)
class _Loader:
    """One run over the files of a configuration."""

    disk: Files
    master: str
    search_path: list[str]
    problems: list[Problem] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    open_files: list[str] = field(default_factory=list)

    def load(self) -> Config:
        items = self._file(self.master, None)
        items = (*items, *self._local_changes(items))
        root, problems = build(items, self.master)
        self._locate(root)
        is_whole = not any(_are_errors(self.problems))
        if is_whole:
            problems.extend(check(root))  # what looks at the whole would see ghosts in half a file
        self.problems.extend(problems)
        files = [Path(name) for name in dict.fromkeys(self.files)]
        config = Config(root, Path(self.master), files, list(dict.fromkeys(self.problems)))
        if any(_are_errors(self.problems)):
            raise ConfigError(config.warnings, config if is_whole else None)
        return config

    def _file(self, name: str, include: Include | None) -> tuple[Item, ...]:
        """The items of one file with all its includes in place; nothing when it cannot be used."""
        text = self._text(name, include)
        if text is None:
            return ()
        self.files.append(name)
        items, problems = parse_tolerant(text, name)
        self.problems.extend(problems)
        self.open_files.append(self.disk.identity(name))
        resolved = self._resolved(items, name)
        self.open_files.pop()
        return resolved

    def _text(self, name: str, include: Include | None) -> str | None:
        place = include.path.place if include else Place(name)
        subject = f'include "{include.path.text}"' if include else "the file"
        try:
            return self.disk.read(name).decode("utf-8-sig")
        except (OSError, KeyError) as error:
            why = getattr(error, "strerror", None) or "not found"
            self._error(place, f"{subject} cannot be read ({why.lower()})", _remedy(error))
        except UnicodeDecodeError as error:
            line = error.object.count(b"\n", 0, error.start) + 1
            column = error.start - error.object.rfind(b"\n", 0, error.start)
            self._error(Place(name, line, column), "the file is not UTF-8 text here", "save it as UTF-8")
        return None

    def _resolved(self, items: Iterable[Item], file: str) -> tuple[Item, ...]:
        return tuple(found for item in items for found in self._expand(item, file))

    def _expand(self, item: Item, file: str) -> tuple[Item, ...]:
        match item:
            case Include():
                return self._included(item, file)
            case Stanza() if not options.is_unneeded_stanza(item.name.lower()):
                return (Stanza(item.name, item.instance, self._resolved(item.items, file), item.place),)
            case Stanza():
                return (Stanza(item.name, item.instance, (), item.place),)
            case _:
                return (item,)

    def _included(self, include: Include, file: str) -> tuple[Item, ...]:
        if len(self.open_files) >= MAX_DEPTH or len(self.files) >= MAX_FILES:
            what = f'include "{include.path.text}" is nested too deeply'
            self._error(include.path.place, what, f"{MAX_DEPTH} levels and {MAX_FILES} files are the limit")
            return ()
        found = self._found(include, file)
        return tuple(Included(name, self._guarded(name, include)) for name in found)

    def _guarded(self, name: str, include: Include) -> tuple[Item, ...]:
        if self.disk.identity(name) not in self.open_files:
            return self._file(name, include)
        self._error(
            include.path.place, f'include "{include.path.text}" leads back to {name}', "break the circle"
        )
        return ()

    def _found(self, include: Include, file: str) -> list[str]:
        """The files that an include means."""
        written = include.path.text.removeprefix("file://")
        if "://" in written:
            self._error(include.path.place, f'include "{written}" cannot be read', "include files, not URIs")
            return []
        tried = self._candidates(written, file)
        for name in tried:
            if self.disk.is_file(name):
                return [name]
            if self.disk.is_directory(name):
                return self._directory(name, include)
        places = ", ".join(dict.fromkeys(os.path.dirname(name) or "." for name in tried))
        self._error(
            include.path.place,
            f'include "{written}" is not found in {places}',
            "create it or correct the name",
        )
        return []

    def _candidates(self, name: str, file: str) -> list[str]:
        if os.path.isabs(name):
            return [name]
        directories = [os.path.dirname(file), os.path.dirname(self.master), *self.search_path]
        return list(dict.fromkeys(os.path.join(directory, name) for directory in directories))

    def _directory(self, name: str, include: Include) -> list[str]:
        try:
            entries = self.disk.entries(name)
        except OSError as error:
            why = (error.strerror or "error").lower()
            self._error(
                include.path.place, f'include "{include.path.text}" cannot be read ({why})', _remedy(error)
            )
            return []
        return [os.path.join(name, entry) for entry in sorted(entries) if not entry.startswith(".")]

    def _locate(self, root: Block) -> None:
        """Say where the files are that options name: found like includes, else beside the master file.

        So the daemon finds its spool and its logs from wherever it is started.
        """
        for block in root.walk():
            for name, setting in block.settings.items():
                row = options.option(name, block.kind)
                if row is None or not setting.value:
                    continue
                if row.type is options.Kind.FILE:
                    block.settings[name] = replace(setting, value=self._located(setting))
                elif row.type is options.Kind.OUTPUT and not _URI.match(setting.value):
                    block.settings[name] = replace(setting, value=self._beside(setting.value))

    def _located(self, setting: Setting) -> str:
        name = str(setting.value)
        candidates = self._candidates(name, setting.place.file)
        return next((found for found in candidates if self.disk.is_file(found)), self._beside(name))

    def _beside(self, name: str) -> str:
        return os.path.join(os.path.dirname(self.master), name)

    def _local_changes(self, items: Sequence[Item]) -> tuple[Item, ...]:
        """The file that the last global `local_changes_file` names; one that is missing says nothing."""
        named = _last_local_changes(items)
        if named is None or not named.text or named.text.lower() == "none":
            return ()
        include = Include(named, False, named.place)
        existing = [name for name in self._candidates(named.text, self.master) if self.disk.is_file(name)]
        if not existing:
            return ()
        if self.disk.identity(existing[0]) in map(self.disk.identity, self.files):
            self._error(
                named.place, f'local_changes_file "{named.text}" is included elsewhere', "remove the include"
            )
            return ()
        return (Included(existing[0], self._file(existing[0], include)),)

    def _error(self, place: Place, what: str, fix: str) -> None:
        self.problems.append(Problem(place, what, fix))


def _are_errors(problems: Iterable[Problem]) -> list[bool]:
    return [not problem.is_warning for problem in problems]


def _remedy(error: Exception) -> str:
    match error:
        case PermissionError():
            return "make it readable"
        case IsADirectoryError():
            return "name a file"
        case _:
            return "create it or correct the name"


def _last_local_changes(items: Iterable[Item]) -> Text | None:
    named: Text | None = None
    for item in items:
        if isinstance(item, Included):
            named = _last_local_changes(item.items) or named
        elif isinstance(item, Assignment) and item.name.lower() == "local_changes_file":
            named = item.value if isinstance(item.value, Text) else named
    return named
