"""The parts of `scripts/bench e2e` work, with tiny counts; nothing is timed."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from tests.bench import e2e_report
from tests.bench.e2e import Found, Plan, bench
from tests.bench.e2e_world import Tail
from tests.bench.load import Order, numbers, run, token
from tests.bench.procs import Process, fsync_times, quantile
from tests.bench.rooms import rooms


def test_a_tiny_run_goes_the_whole_way_and_its_books_agree(tmp_path: Path) -> None:
    """In over HTTP as batches and in an open loop, out to nginx, each found again in its log."""
    with bench(Plan(tmp_path, count=2000, batches=2000, singles=200, open_s=0.2)) as running:
        running.flow("batches", "batches", 2000, 2)
        running.latency("idle")
        running.wait_delivered(2200)
    found = running.found
    assert found.parts["batches"]["messages"] == 2000
    assert running.tail.count == 2200
    assert 0 < found.parts["idle"]["answer_p50_ms"] <= found.parts["idle"]["answer_p999_ms"]
    assert len(found.curves["latency, idle, to APNs"]) == len(found.curves["latency, idle, to answer"])
    assert any("delivered/s" in line for line in e2e_report.lines(found, "here"))
    e2e_report.as_json(found, "here")


def test_the_tail_counts_whole_records_once(tmp_path: Path) -> None:
    log = tmp_path / "log"
    tail = Tail(log)
    assert tail.look() == 0
    log.write_text("1@D@x\n2@M\n3@D@")
    assert tail.look() == 1
    with log.open("a") as file:
        file.write("y\n4@P@z\n")
    assert (tail.look(), tail.look()) == (2, 2)


def test_what_is_late_is_late_from_its_due_time_on() -> None:
    """A door that stands still for a while is seen by all who were due meanwhile, not by one."""

    async def story() -> list[float]:
        release = asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while await reader.readuntil(b"\r\n\r\n"):
                await reader.readuntil(b"}}}")
                await release.wait()
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        asyncio.get_running_loop().call_later(0.4, release.set)
        load = await run(Order("open", port, "a.apns", 100, connections=2, rate=1000.0, deadline_s=20))
        server.close()
        return load.latencies

    latencies = asyncio.run(story())
    assert sum(seconds > 0.2 for seconds in latencies) == 100


def test_a_bad_answer_ends_the_load() -> None:
    async def story() -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 503 no\r\ncontent-length: 0\r\n\r\n")

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(RuntimeError, match="503"):
            await run(Order("singles", port, "a.apns", 10, connections=1, deadline_s=20))
        server.close()

    asyncio.run(story())


def test_a_log_line_is_a_time_and_a_number() -> None:
    assert list(numbers(iter([f"1767600000.125 /3/device/{token(77)}\n"]))) == [(1767600000.125, 77)]


def test_a_sample_belongs_to_the_innermost_room_of_the_main_thread() -> None:
    main = "main (momentum_push/cli/x.py:5);Runner.run (asyncio/runners.py:9)"
    stacks = (
        f"{main};f (momentum_push/delivery/pool.py:1);render (momentum_push/loggers/hub.py:2);x (re.py:1) 3\n"
        f"{main};fill (momentum_push/delivery/pool.py:1) 2\n"
        f"{main};run_asgi (uvicorn/protocols/http.py:1) 1\n"
        f"{main} 2\n"
        "run (threading.py:1);apply (momentum_push/spool/database.py:1) 99\n"
    )
    loop = "the loop: uvloop, TLS, system calls"
    assert rooms(stacks) == {"loggers": 3 / 8, "delivery/pool": 2 / 8, loop: 2 / 8, "uvicorn": 1 / 8}


def test_processes_and_the_disk_are_measured(tmp_path: Path) -> None:
    own = Process(os.getpid())
    assert own.cpu() > 0
    memory = own.memory()
    assert own.peak() >= memory > 0
    assert len(fsync_times(tmp_path, 3)) == 3 and not list(tmp_path.iterdir())
    assert (quantile([3.0, 1.0, 2.0], 0.5), quantile([], 0.5)) == (2.0, 0.0)


def test_curves_become_a_picture(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    found = Found(curves={"CPU of accepting": [(1.0, 2.0)], "latency, idle, to APNs": [(0.5, 1.0)]})
    e2e_report.plot(found, tmp_path / "e2e.png")
    assert (tmp_path / "e2e.png").read_bytes().startswith(b"\x89PNG")
