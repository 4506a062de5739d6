"""What was acknowledged survives a power cut, with writes lost, reordered and torn; `power.py` has the law.

kill -9 leaves the page cache alone, so it cannot see that a sync is missing. Here what is not synced may
be lost, and the second test shows that this would be seen.
"""

from tests.crash.power import cuts

IMAGES = 2000


def test_after_a_power_cut_the_spool_holds_what_was_acknowledged_and_nothing_that_was_settled() -> None:
    result = cuts(IMAGES, "power")
    assert not result.findings, result.findings[:5]
    assert result.images == IMAGES
    at_least = {
        "an operation": 1000,
        "an acknowledgement": 1000,
        "a page moves into the database": 1000,
        "the log begins anew": 50,
        "the database shrinks": 10,
        "the reserve is taken": 1,
        "numbers are reserved": 5,
        "marks of what may have been sent": 100,
        "keys and their lists": 100,
    }
    too_rare = {
        what: result.seen.get(what, 0) for what in at_least if result.seen.get(what, 0) < at_least[what]
    }
    assert not too_rare, "the story misses something that a daemon does"


def test_without_fsync_the_same_cuts_lose_what_was_acknowledged() -> None:
    """`synchronous = NORMAL`, as `force_fsync = false` sets it: whole commits are lost, from the end only."""
    result = cuts(200, "power", generations=1, options=["--no-fsync"])
    assert len(result.of("lost")) >= 15, result.findings
    assert not result.of("broken"), result.of("broken")[:5]
