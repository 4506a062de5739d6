"""The model of a disk that loses power: what was synced is there, and of the rest any part may be."""

import random
from pathlib import Path

from tests.crash.history import Cut, Disk, Entry, Style, read_log

SECTOR = 512


def cut_of(style: Style, seed: int = 0) -> Cut:
    return Cut(style, SECTOR, False, random.Random(seed))


def after(tmp_path: Path, entries: list[Entry], style: Style, seed: int = 0) -> dict[str, bytes]:
    """The files that a cut behind `entries` leaves."""
    disk = Disk()
    for entry in entries:
        disk.take(entry)
    into = tmp_path / f"{style.name}-{seed}"
    disk.cut(cut_of(style, seed), into)
    return {str(path.relative_to(into)): path.read_bytes() for path in into.rglob("*") if path.is_file()}


def many(tmp_path: Path, entries: list[Entry], style: Style) -> list[dict[str, bytes]]:
    return [after(tmp_path, entries, style, seed) for seed in range(100)]


MADE = [Entry("C", "a", 7), Entry("F", "")]


def test_a_log_is_read_back_with_bytes_that_look_like_entries() -> None:
    log = b'D spool\nC 7 spool/a b\nW 7 512 8\nW 7 0 1\nT 7 9\nR a|b\nU b\nF spool\nS 7\nM ["done",3]\n'
    assert list(read_log(log)) == [
        Entry("D", "spool"),
        Entry("C", "spool/a b", 7),
        Entry("W", "", 7, 512, b"W 7 0 1\n"),
        Entry("T", "", 7, 9),
        Entry("R", "a|b"),
        Entry("U", "b"),
        Entry("F", "spool"),
        Entry("S", "", 7),
        Entry("M", '["done",3]'),
    ]


def test_what_was_synced_is_there_however_the_rest_falls(tmp_path: Path) -> None:
    entries = [
        *MADE,
        Entry("W", "", 7, 0, b"x" * 2000),
        Entry("S", "", 7),
        Entry("W", "", 7, 2048, b"y" * 2000),
    ]
    for style in Style:
        for files in many(tmp_path, entries, style):
            assert files["a"].startswith(b"x" * 2000)


def test_what_was_not_synced_may_be_missing(tmp_path: Path) -> None:
    entries = [*MADE, Entry("W", "", 7, 0, b"x" * 2000)]
    assert after(tmp_path, entries, Style.NOTHING) == {"a": b""}
    assert after(tmp_path, entries, Style.EVERYTHING) == {"a": b"x" * 2000}


def test_a_write_is_torn_between_sectors_only(tmp_path: Path) -> None:
    entries = [
        *MADE,
        Entry("W", "", 7, 0, b"a" * 2048),
        Entry("S", "", 7),
        Entry("W", "", 7, 100, b"b" * 1500),
    ]
    seen = set()
    for files in many(tmp_path, entries, Style.ANY):
        sectors = [files["a"][at : at + SECTOR] for at in range(0, 2048, SECTOR)]
        whole = [b"a" * 100 + b"b" * 412, b"b" * SECTOR, b"b" * SECTOR, b"b" * 64 + b"a" * 448]
        assert all(have in (b"a" * SECTOR, new) for have, new in zip(sectors, whole, strict=True))
        seen.add(tuple(have == new for have, new in zip(sectors, whole, strict=True)))
    assert len(seen) > 10, "hardly anything was torn"


def test_a_later_write_may_be_there_without_an_earlier_one(tmp_path: Path) -> None:
    entries = [*MADE, Entry("W", "", 7, 0, b"a" * SECTOR), Entry("W", "", 7, SECTOR, b"b" * SECTOR)]
    lost_first = bytes(SECTOR) + b"b" * SECTOR
    assert any(files["a"] == lost_first for files in many(tmp_path, entries, Style.ANY))
    assert any(files["a"] == lost_first for files in many(tmp_path, entries, Style.LATE))
    assert all(files["a"] != lost_first for files in many(tmp_path, entries, Style.IN_ORDER))


def test_a_size_that_was_not_synced_is_an_earlier_one(tmp_path: Path) -> None:
    entries = [*MADE, Entry("W", "", 7, 0, b"a" * 1024), Entry("S", "", 7), Entry("T", "", 7, 512)]
    assert {len(files["a"]) for files in many(tmp_path, entries, Style.ANY)} == {512, 1024}


def test_a_name_is_there_when_its_folder_was_synced_and_not_when_the_file_was(tmp_path: Path) -> None:
    made = [Entry("C", "a", 7), Entry("W", "", 7, 0, b"x"), Entry("S", "", 7)]
    assert after(tmp_path, made, Style.NOTHING) == {}
    assert after(tmp_path, [*made, Entry("F", "")], Style.NOTHING, 1) == {"a": b"x"}
    inside = [Entry("D", "s"), Entry("C", "s/a", 7), Entry("F", "s")]
    assert after(tmp_path, inside, Style.NOTHING, 2) == {}
    assert after(tmp_path, [*inside, Entry("F", "")], Style.NOTHING, 3) == {"s/a": b""}


def test_a_rename_happens_whole_or_not_at_all(tmp_path: Path) -> None:
    entries = [*MADE, Entry("C", "b", 8), Entry("F", ""), Entry("R", "b|a")]
    found = {tuple(sorted(files)) for files in many(tmp_path, entries, Style.ANY)}
    assert found == {("a",), ("a", "b")}


def test_a_name_that_was_removed_may_be_back(tmp_path: Path) -> None:
    entries = [*MADE, Entry("U", "a")]
    assert {tuple(files) for files in many(tmp_path, entries, Style.ANY)} == {(), ("a",)}
