"""What was written, in the order in which it was written, and what a power cut leaves of it.

    recorder.c ──► log ── read_log ──► entries ── Disk.take ──► Disk ── Disk.cut ──► an image, in a folder

The model of a disk, and of a file system that promises no more than POSIX does:

- A file's bytes and its size are durable when its own fsync has returned; a name is, when the fsync of
  its folder has. A sync of one file says nothing about another one, nor about its own name.
- Of everything else any part may be there. Bytes reach the disk in sectors: each sector is as it was
  after some of the writes to it, in their order, and each at its own time. So writes are lost, reordered
  and torn. A file may have grown without its new bytes: there are zeros then, or what somebody else
  left on the disk. Sizes, and names, are as they were at some earlier moment.
- A sector that no write touched does not change (SQLite calls that powersafe overwrite).

`Cut` names how the parts are chosen; all of it follows from the seed.
"""

from __future__ import annotations

import enum
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["Cut", "Disk", "Entry", "Style", "read_log"]


class Entry(NamedTuple):
    """One line of the log; `recorder.c` has the table of kinds."""

    kind: str
    name: str = ""
    """A path, two of them, or the text of a mark."""
    inode: int = 0
    number: int = 0
    """An offset, or a size."""
    data: bytes = b""

    @property
    def mark(self) -> Any:
        """What the process said."""
        return json.loads(self.name)


def read_log(log: bytes) -> Iterator[Entry]:
    """Yield the entries of a recorder's log."""
    position = 0
    while position < len(log):
        end = log.index(b"\n", position)
        kind, _, rest = log[position:end].decode().partition(" ")
        position = end + 1
        if kind == "W":
            inode, offset, length = map(int, rest.split(" "))
            yield Entry(kind, "", inode, offset, log[position : position + length])
            position += length
        elif kind == "T":
            inode, size = map(int, rest.split(" "))
            yield Entry(kind, "", inode, size)
        elif kind == "C":
            number, _, path = rest.partition(" ")
            yield Entry(kind, path, int(number))
        elif kind == "S":
            yield Entry(kind, "", int(rest))
        else:
            yield Entry(kind, rest)


class Style(enum.Enum):
    """What happens to be on the disk of what nobody synced."""

    NOTHING = "nothing"
    EVERYTHING = "everything"
    IN_ORDER = "in order"
    """Up to some moment, with the last write torn."""
    LATE = "late"
    """Only what came after some moment: the disk began with the newest."""
    ANY = "any"
    """Each sector from a moment of its own."""


_WEIGHTS = {Style.NOTHING: 3, Style.EVERYTHING: 1, Style.IN_ORDER: 2, Style.LATE: 2, Style.ANY: 4}


@dataclass
class Cut:
    """One power cut: how parts are chosen, and by which dice."""

    style: Style
    sector: int
    stale: bool
    """What a file got without its bytes is old bytes of somebody else, not zeros."""
    dice: random.Random

    @classmethod
    def roll(cls, seed: str) -> Cut:
        dice = random.Random(seed)
        style = dice.choices(list(_WEIGHTS), list(_WEIGHTS.values()))[0]
        return cls(style, dice.choice([512, 4096]), dice.random() < 0.3, dice)

    def moment(self, count: int) -> int:
        """Return how many of `count` changes happened in time, for what has one order: names, sizes."""
        if self.style is Style.NOTHING:
            return 0
        if self.style in (Style.EVERYTHING, Style.LATE):
            return count
        some = self.dice.randint(0, count)
        return self.dice.choice([some, count]) if self.style is Style.ANY else some


@dataclass
class File:
    """Bytes that are on the disk, and writes and sizes that may be."""

    durable: bytearray = field(default_factory=bytearray)
    pending: list[tuple[int, bytes | None]] = field(default_factory=list)
    """(offset, bytes), or (size, None)."""

    def sync(self) -> None:
        self.durable = self.now()
        self.pending.clear()

    def now(self) -> bytearray:
        """The file as a running system shows it."""
        data = bytearray(self.durable)
        for at, written in self.pending:
            if written is None:
                data[at:] = bytes(max(0, at - len(data)))
            else:
                data[len(data) : at] = bytes(max(0, at - len(data)))
                data[at : at + len(written)] = written
        return data

    def after(self, cut: Cut) -> bytes:
        """The file as it is found."""
        if not self.pending or cut.style is Style.NOTHING:
            return bytes(self.durable)
        if cut.style is Style.EVERYTHING:
            return bytes(self.now())
        sizes = self._sizes()
        moment = cut.moment(len(self.pending))
        size = sizes[moment]
        data = self._sectors(cut, moment, max(sizes))
        return bytes(data[:size])

    def _sizes(self) -> list[int]:
        sizes = [len(self.durable)]
        for at, written in self.pending:
            sizes.append(at if written is None else max(sizes[-1], at + len(written)))
        return sizes

    def _sectors(self, cut: Cut, moment: int, length: int) -> bytearray:
        """Let each sector have its first few changes, as many as the cut gives it."""
        data = bytearray(self.durable) + bytes(length - len(self.durable))
        given: dict[int, int] = {}
        newest = cut.dice.randint(0, len(self.pending))
        for number, (at, written) in enumerate(self.pending):
            end = length if written is None else at + len(written)
            for sector in range(at // cut.sector, -(-end // cut.sector)):
                if sector not in given:
                    given[sector] = self._given(
                        cut, newest if cut.style is Style.LATE else moment, number, sector
                    )
                start, stop = max(at, sector * cut.sector), min(end, (sector + 1) * cut.sector)
                if number < given[sector]:
                    data[start:stop] = (
                        bytes(stop - start) if written is None else written[start - at : stop - at]
                    )
                elif cut.stale and written is not None and start >= len(self.durable):
                    data[start:stop] = cut.dice.randbytes(stop - start)
        return data

    def _given(self, cut: Cut, moment: int, first: int, sector: int) -> int:
        """Return before which change the disk's picture of a sector was taken; `first` is its first."""
        everything = len(self.pending)
        if cut.style is Style.LATE:
            return everything if first >= moment else 0
        if cut.style is Style.ANY:
            return cut.dice.choice([everything, cut.dice.randint(0, everything)])
        at, written = self.pending[moment] if moment < everything else (0, None)
        is_torn_in = written is not None and at <= sector * cut.sector < at + len(written)
        return moment + 1 if is_torn_in and cut.dice.random() < 0.5 else moment


Folder = dict[str, "File | Names"]


@dataclass
class Names:
    """A folder: the names that are on the disk, and changes that may be."""

    durable: Folder = field(default_factory=dict)
    pending: list[Folder] = field(default_factory=list)
    """The folder after each change."""

    @property
    def now(self) -> Folder:
        return self.pending[-1] if self.pending else self.durable

    def change(self, **names: File | Names | None) -> None:
        """Set names, or remove them; together, as rename() does."""
        after = {**self.now, **names}
        self.pending.append({name: what for name, what in after.items() if what is not None})

    def sync(self) -> None:
        self.durable = self.now
        self.pending.clear()

    def after(self, cut: Cut) -> Folder:
        return [self.durable, *self.pending][cut.moment(len(self.pending))]


class Disk:
    """A folder as it is under a running system, and what would be left of it."""

    def __init__(self, base: Path | None = None) -> None:
        """Begin empty, or with what is in `base`, all of it durable."""
        self.root = Names()
        self.paths: dict[int, str] = {}
        """Of the files that were there in the beginning, by inode."""
        self._inodes: dict[int, File] = {}
        if base is not None:
            self._load(base, base, self.root)

    def _load(self, base: Path, folder: Path, names: Names) -> None:
        for path in folder.iterdir():
            if path.is_dir():
                names.durable[path.name] = child = Names()
                self._load(base, path, child)
            else:
                file = File(bytearray(path.read_bytes()))
                inode = path.stat().st_ino
                names.durable[path.name] = self._inodes[inode] = file
                self.paths[inode] = str(path.relative_to(base))

    def take(self, entry: Entry) -> None:
        """Do what a process did."""
        if entry.kind == "W":
            self._inodes[entry.inode].pending.append((entry.number, entry.data))
        elif entry.kind == "T":
            self._inodes[entry.inode].pending.append((entry.number, None))
        elif entry.kind == "S":
            self._inodes[entry.inode].sync()
        elif entry.kind == "F":
            self._folder(entry.name).sync()
        elif entry.kind == "C":
            self._inodes[entry.inode] = file = File()
            self._change(entry.name, file)
        elif entry.kind == "D":
            self._change(entry.name, Names())
        elif entry.kind == "U":
            self._change(entry.name, None)
        elif entry.kind == "R":
            self._rename(*entry.name.split("|"))

    def cut(self, cut: Cut, into: Path) -> None:
        """Make the folder `into` what a power cut leaves."""
        _build(self.root, cut, into)

    def shown(self) -> dict[str, bytes]:
        """Every file as a running system shows it, by path: what the recorder must not have missed."""
        return dict(_shown(self.root, ""))

    def _folder(self, path: str) -> Names:
        names = self.root
        for part in path.strip("/").split("/") if path.strip("/") else ():
            child = names.now[part]
            assert isinstance(child, Names), path
            names = child
        return names

    def _change(self, path: str, what: File | Names | None) -> None:
        folder, _, name = path.rpartition("/")
        self._folder(folder).change(**{name: what})

    def _rename(self, old: str, new: str) -> None:
        folder, _, name = old.rpartition("/")
        other, _, target = new.rpartition("/")
        assert folder == other, "not needed yet: a name that moves between folders"
        names = self._folder(folder)
        names.change(**{name: None, target: names.now[name]})


def _build(names: Names, cut: Cut, into: Path) -> None:
    into.mkdir()
    for name, what in names.after(cut).items():
        if isinstance(what, Names):
            _build(what, cut, into / name)
        else:
            (into / name).write_bytes(what.after(cut))


def _shown(names: Names, path: str) -> Iterator[tuple[str, bytes]]:
    for name, what in names.now.items():
        if isinstance(what, Names):
            yield from _shown(what, f"{path}{name}/")
        else:
            yield path + name, bytes(what.now())
