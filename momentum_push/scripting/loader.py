"""From the `scriptlet` stanza to files: where a source is found, what is read, and whether it changed.

    source = "policy.apn"  or  "policy/apn"
        for each folder:   folder/policy/apn.lua,  folder/policy/apn.py
        folders:           the conf file's, EC_CONF_SEARCH_PATH, and libexec/scriptlets beside each

A script of the shipped conf, `msys.boot`, is Momentum's own; here there is nothing to boot, so it is left out
in silence.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from momentum_push.config import Config
from momentum_push.errors import Place, Problem

__all__ = ["Found", "ScriptSettings", "find", "folders_of", "read_settings"]

SUFFIXES = (".lua", ".py")
BUILT_IN = ("msys.boot",)
_SOURCE = re.compile(r"[\w-]+(?:[./][\w-]+)*")


@dataclass(frozen=True, slots=True)
class ScriptSettings:
    """One `script` stanza."""

    name: str
    """The instance; `registerModule` is called with the same, by custom."""
    source: str
    place: Place


@dataclass(frozen=True, slots=True)
class Found:
    """A file that a source means, as it was when it was read."""

    path: Path
    name: str
    """Its path below the folder: what messages of scripts say; Lua would cut a longer one."""
    text: bytes
    stamp: tuple[int, int]
    """Time of change in nanoseconds, and size."""

    @property
    def is_lua(self) -> bool:
        return self.path.suffix == ".lua"

    @property
    def is_changed(self) -> bool:
        """Whether the file is another by now; one that has gone is not, what was loaded goes on."""
        try:
            return stamp_of(self.path) != self.stamp
        except OSError:
            return False


def stamp_of(path: Path) -> tuple[int, int]:
    """Return what tells one state of a file from another."""
    status = os.stat(path)
    return status.st_mtime_ns, status.st_size


def read_settings(config: Config) -> list[ScriptSettings]:
    """Return the scripts that a configuration names, in order; those that are built in left out."""
    if not config.modules("scriptlet"):
        return []
    found = []
    for scope in config.modules("script"):
        source = str(scope["source"])
        if source not in BUILT_IN:
            place = scope.origin("source") or Place(str(config.path))
            found.append(ScriptSettings(scope.instance, source, place))
    return found


def folders_of(conf: Path, search_path: Sequence[Path]) -> list[Path]:
    """Return where sources are looked for: beside the conf file, then along the search path."""
    bases = [conf.parent, *search_path]
    return list(dict.fromkeys(folder for base in bases for folder in (base, base / "libexec" / "scriptlets")))


def find(script: ScriptSettings, folders: Sequence[Path]) -> Found | Problem:
    """Find and read the file of a script; or say what is wrong."""
    if not _SOURCE.fullmatch(script.source):
        what = f'source "{script.source}" of script "{script.name}" is no name of a script'
        return Problem(script.place, what, 'write "policy.apn" for policy/apn.lua or policy/apn.py')
    found = look_up(script.source, folders)
    if isinstance(found, Found):
        return found
    what = f'source "{script.source}" of script "{script.name}" {found}'
    return Problem(script.place, what, "create it or correct the name")


def look_up(source: str, folders: Sequence[Path], suffixes: Sequence[str] = SUFFIXES) -> Found | str:
    """Return the first file of a name along the folders, or why there is none."""
    if not _SOURCE.fullmatch(source):
        return "is no name of a script"
    relative = source.replace(".", "/")
    for folder in folders:
        for suffix in suffixes:
            path = folder / (relative + suffix)
            if path.is_file():
                try:
                    return Found(path, relative + suffix, path.read_bytes(), stamp_of(path))
                except OSError as error:
                    return f"cannot be read ({(error.strerror or 'error').lower()})"
    return "is not found in " + ", ".join(map(str, folders))
