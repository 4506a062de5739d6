"""The ledger: a line per request, and the counts that tests ask for."""

import json
from pathlib import Path

from momentum_push.simulator.ledger import Entry, Ledger
from momentum_push.simulator.request import Request


def decided(ledger: Ledger, token: str, *, processed: bool = True, reason: str = "") -> Entry:
    row = ledger.connections[0] if ledger.connections else ledger.open_connection("127.0.0.1:1", 5.0)
    entry = ledger.draw_up(row, 1, Request(path=f"/3/device/{token}", body=b"{}"), "KEY")
    entry.processed, entry.reason, entry.at = processed, reason, 6.5
    ledger.record(entry)
    return entry


def test_lines_are_json_in_order_and_written_per_batch(tmp_path: Path) -> None:
    path = tmp_path / "below" / "ledger.jsonl"
    ledger = Ledger(path)
    decided(ledger, "aa")
    decided(ledger, "bb", processed=False, reason="BadDeviceToken")
    assert path.read_bytes() == b""
    ledger.flush()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["token"] for line in lines] == ["aa", "bb"]
    assert lines[0]["sha256"] == "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
    assert list(lines[0])[:6] == ["at", "connection", "stream", "processed", "status", "reason"]
    ledger.close()
    Ledger(path).close()
    assert len(path.read_text().splitlines()) == 2


def test_counts_are_exact_though_entries_are_bounded() -> None:
    ledger = Ledger(keep=10)
    for number in range(100):
        decided(ledger, "aa" if number % 2 else "bb", processed=number % 4 != 0)
    assert 10 <= len(ledger.requests) <= 20
    assert (ledger.total, ledger.accepted["aa"], ledger.accepted["bb"]) == (100, 50, 25)
    assert ledger.by_id.total() == 75


def test_payloads_are_kept_when_asked() -> None:
    assert decided(Ledger(), "aa").payload is None
    assert decided(Ledger(keeps_payload=True), "aa").payload == "{}"
