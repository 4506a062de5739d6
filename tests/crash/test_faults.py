"""A disk that fails at any call that the spool makes: nothing is lost, and it recovers by itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.crash.faulty import Case
from tests.helpers.servers import needs

HERE = Path(__file__).parent
MANY = 1_000_000

SYNCS = [
    Case("sync", suffix, "EIO", skip, count, drops)
    for suffix in ("-wal", "spool.db")
    for drops in (False, True)
    for skip in (0, 2)
    for count in (1, 2, MANY)
]
WRITES = [
    Case("write", suffix, error, skip, count)
    for suffix in ("-wal", "spool.db")
    for error in ("EIO", "ENOSPC", "EDQUOT")
    for skip in (0, 5)
    for count in (1, MANY)
]
OTHERS = [
    Case("write", "-shm", "ENOSPC", 0, MANY),
    Case("read", "-wal", "EIO", 0, 1),
    Case("read", "-wal", "EIO", 2, MANY),
    Case("read", "spool.db", "EIO", 0, 1),
    Case("read", "spool.db", "EIO", 2, MANY),
    Case("size", "-wal", "EIO", 0, MANY),
    Case("size", "spool.db", "EIO", 0, MANY),
    Case("open", "*", "EMFILE", 0, MANY),
    Case("unlink", "reserve", "EIO", 0, MANY),
]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = needs("cc", "gcc libc6-dev")
    library = tmp_path_factory.mktemp("faults") / "faults.so"
    command = [
        compiler,
        "-shared",
        "-fPIC",
        "-O1",
        "-Wall",
        "-Werror",
        "-o",
        library,
        HERE / "faults.c",
        "-ldl",
    ]
    subprocess.run(command, check=True, timeout=60)
    return library


@pytest.mark.parametrize(
    ("cases", "felt"), [(SYNCS, 10), (WRITES, 10), (OTHERS, 3)], ids=["syncs", "writes", "others"]
)
def test_nothing_is_lost_and_it_recovers_by_itself(
    library: Path, tmp_path: Path, cases: list[Case], felt: int
) -> None:
    results = run(library, tmp_path, cases)
    wrong = [result for result in results if result["problems"]]
    assert not wrong, "\n".join(map(str, wrong))
    assert len(results) == len(cases)
    assert sum(result["refusals"] > 0 for result in results) >= felt, [
        result["refusals"] for result in results
    ]


def run(library: Path, tmp_path: Path, cases: list[Case]) -> list[dict[str, Any]]:
    """Try the cases one after the other in a process with faults."""
    disk, control = tmp_path / "disk", tmp_path / "control"
    disk.mkdir()
    control.write_bytes(bytes(4096))
    environment = os.environ | {
        "LD_PRELOAD": str(library),
        "FAULTS_ROOT": str(disk),
        "FAULTS_CONTROL": str(control),
    }
    done = subprocess.run(
        [sys.executable, "-m", "tests.crash.faulty", str(disk), str(control)],
        input=msgspec.json.encode(cases),
        env=environment,
        cwd=HERE.parents[1],
        capture_output=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr.decode()
    return [json.loads(line) for line in done.stdout.splitlines()]
