"""The bench's parts work, with tiny counts; nothing is timed."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.bench import peers, wire
from tests.bench.micro import micro
from tests.bench.report import Report
from tests.helpers.servers import free_port, needs


def quiet(what: str) -> None:
    pass


def test_our_client_is_measured_against_nginx_with_large_bodies(tmp_path: Path) -> None:
    plan = wire.Plan.of(tmp_path, 1500, 1, 0.2)
    with peers.nginx(plan.subfolder("nginx"), plan.files, 4000) as peer:
        sent = wire.run(plan.order("ours", peer, 4000, count=plan.count, is_counting=True), tmp_path)
    assert sent.answers == 1500
    assert 0 < sent.reads <= sent.answers
    assert 0 < sent.writes < sent.answers


def test_a_window_far_away_is_a_row_and_a_curve_needs_no_more(tmp_path: Path) -> None:
    needs("h2load", "nghttp2-client")
    plan = wire.Plan.of(tmp_path, 1000, 1, 0.3)
    report = Report("here", distance=list(wire.distance(plan, 4000, 20, (2,), quiet)))
    assert [row.client for row in report.distance] == ["ours", "h2load"]
    assert all(row.rate > 0 and row.bound == 2 * 32768 / 4000 / 0.02 for row in report.distance)
    assert any("of the bound" in line for line in report.lines())


def test_the_wire_alone_is_measured_in_time_and_memory() -> None:
    found = micro(rounds=1)
    assert found.send > 0 and found.receive > 0
    assert found.in_flight > 0


def test_the_relay_hands_on_bytes_and_the_end_untouched() -> None:
    """Both ways, larger than any buffer on the way, to a peer that sends back what it got."""
    content = bytes(range(256)) * 8192

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()

    async def story() -> bytes:
        port = free_port()
        async with await asyncio.start_server(echo, "127.0.0.1", port):
            with peers.relay(peers.Peer("echo", port, 0), 10) as far:
                reader, writer = await asyncio.open_connection("127.0.0.1", far.port)
                writer.write(content)
                async with asyncio.timeout(20):
                    back = await reader.readexactly(len(content))
                writer.close()
                return back

    assert asyncio.run(story()) == content
