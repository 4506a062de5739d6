"""Counters by path."""

import pytest

from momentum_push.errors import ScriptError
from momentum_push.scripting import Counters, counters


def test_counters_count_and_come_back():
    ours = Counters()
    assert [ours.add("/a"), ours.add("/a", 4), ours.read("/a"), ours.read("/b")] == [1, 5, 5, 0]
    ours.reset("/a")
    ours.add("/b", -1)
    again = Counters()
    again.restore(ours.snapshot())
    assert again.snapshot() == {"/a": 0, "/b": -1}
    assert (again.unlink("/a"), again.unlink("/a")) == (True, False)


def test_there_is_an_end_to_them(monkeypatch):
    monkeypatch.setattr(counters, "MAX_COUNTERS", 2)
    ours = Counters()
    ours.add("/a"), ours.add("/b"), ours.add("/a")
    with pytest.raises(ScriptError, match="more than 2 counters"):
        ours.add("/c")
