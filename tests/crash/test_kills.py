"""kill -9 under load, with nginx's access log as the ledger; `kills.py` has the laws."""

from pathlib import Path

from tests.crash.kills import kills

ROUNDS = 4


def test_after_kills_under_load_nothing_acknowledged_is_lost_and_every_copy_has_its_reason(
    tmp_path: Path,
) -> None:
    result = kills(tmp_path, ROUNDS, "kills 4")
    assert not result.problems, result.problems[:5]
    assert result.lost == 0
    assert len(result.rounds) == ROUNDS
    assert result.acknowledged >= 100 and result.delivered >= 100, (
        "hardly anything was done between the kills"
    )
    assert any(each.waiting for each in result.rounds), "nothing was left at any kill"


def test_with_drop_a_kill_sends_nothing_twice_and_gives_up_what_was_in_flight(tmp_path: Path) -> None:
    result = kills(tmp_path, 3, "drop", is_drop=True)
    assert not result.problems, result.problems[:5]
    assert (result.copies, result.lost) == (0, 0)
    assert result.delivered >= 100
    assert result.given_up, "no kill met anything in flight"
