"""momentum_push/modules/lifecycle.py"""

import asyncio
from typing import Any

import pytest

from momentum_push.errors import Place, Problem
from momentum_push.modules import Lifecycle


class Recorder:
    """A module that notes what is asked of it, and fails where it is told to."""

    def __init__(self, name: str, notes: list[str], fails: str = "", hangs: bool = False) -> None:
        self.name = name
        self.notes = notes
        self.fails = fails
        self.hangs = hangs

    def validate(self, config: Any) -> list[Problem]:
        return [Problem(Place(self.name, 1, 1), "doubtful")]

    async def start(self) -> None:
        self._note("start")

    async def reload(self, config: Any) -> None:
        self._note("reload")

    async def stop(self) -> None:
        self._note("stop")
        while self.hangs:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.notes.append(f"cancel {self.name}")
                self.hangs = False

    def _note(self, what: str) -> None:
        self.notes.append(f"{what} {self.name}")
        if what == self.fails:
            raise RuntimeError(f"{self.name} cannot {what}")


def modules(notes: list[str], **fails: str) -> list[Recorder]:
    return [Recorder(name, notes, fails.get(name, "")) for name in "abc"]


def test_modules_start_in_order_and_stop_in_reverse() -> None:
    notes: list[str] = []
    lifecycle = Lifecycle(modules(notes))

    async def scene() -> None:
        await lifecycle.start()
        assert lifecycle.running == ["a", "b", "c"]
        assert (await lifecycle.stop()).is_clean

    asyncio.run(scene())
    assert notes == ["start a", "start b", "start c", "stop c", "stop b", "stop a"]
    assert lifecycle.running == []


def test_a_start_that_fails_stops_those_before_it_and_is_raised() -> None:
    notes: list[str] = []
    lifecycle = Lifecycle(modules(notes, b="start"))
    with pytest.raises(RuntimeError, match="b cannot start"):
        asyncio.run(lifecycle.start())
    assert notes == ["start a", "start b", "stop a"]


def test_a_stop_that_fails_is_reported_and_the_rest_stops() -> None:
    notes: list[str] = []
    lifecycle = Lifecycle(modules(notes, c="stop"))

    async def scene() -> None:
        await lifecycle.start()
        report = await lifecycle.stop()
        assert (report.failed, report.late, report.is_clean) == (["c"], [], False)

    asyncio.run(scene())
    assert notes[-3:] == ["stop c", "stop b", "stop a"]


def test_a_module_that_does_not_stop_is_cancelled_reported_and_not_waited_for() -> None:
    notes: list[str] = []
    hanging = Recorder("b", notes, hangs=True)
    lifecycle = Lifecycle([Recorder("a", notes), hanging], stop_timeout_s=0.01)

    async def scene() -> None:
        await lifecycle.start()
        report = await asyncio.wait_for(lifecycle.stop(), 5)
        assert (report.failed, report.late) == ([], ["b"])

    asyncio.run(scene())
    assert [note for note in notes if "stop" in note] == ["stop b", "stop a"]
    assert "cancel b" in notes


def test_reload_reaches_all_and_raises_what_failed() -> None:
    notes: list[str] = []
    lifecycle = Lifecycle(modules(notes, a="reload"))

    async def scene() -> None:
        await lifecycle.start()
        with pytest.raises(ExceptionGroup, match="could not reload"):
            await lifecycle.reload(None)
        await lifecycle.stop()

    asyncio.run(scene())
    assert notes[3:6] == ["reload a", "reload b", "reload c"]


def test_stopping_twice_stops_once() -> None:
    notes: list[str] = []
    lifecycle = Lifecycle(modules(notes))

    async def scene() -> None:
        await lifecycle.start()
        await lifecycle.stop()
        await lifecycle.stop()

    asyncio.run(scene())
    assert notes.count("stop a") == 1


def test_problems_of_all_modules_come_sorted_by_place() -> None:
    lifecycle = Lifecycle([Recorder("b", []), Recorder("a", [])])
    assert [problem.place.file for problem in lifecycle.validate(None)] == ["a", "b"]
