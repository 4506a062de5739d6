"""`scripts/bench crash`: the suite's crash tests for as long as you like; findings come with their seed.

Rounds are kills of the real daemon under load (tests/crash/kills.py), images are power cuts
(tests/crash/power.py). A finding is a fault: the command then ends with status 1.
"""

import time
from pathlib import Path
from typing import Any

from tests.crash.kills import STREAMS, Round, kills
from tests.crash.power import cuts

__all__ = ["cut_power", "kill", "table"]

_ROUNDS_A_STORY = 50
"""After so many rounds everything is let out, and a new spool begins: the backlog would only grow."""

_IMAGES_A_STORY = 2000


def kill(folder: Path, rounds: int, seed: str, is_drop: bool = False) -> dict[str, Any]:
    """Shoot the daemon `rounds` times and say what came of it."""
    started = time.monotonic()
    sums = dict.fromkeys(("offered", "acknowledged", "delivered", "given_up", "copies", "lost"), 0)
    shots: list[Round] = []
    problems: list[str] = []
    while len(shots) < rounds:
        story = folder / str(len(shots))
        story.mkdir()
        result = kills(story, min(_ROUNDS_A_STORY, rounds - len(shots)), f"{seed} {len(shots)}", is_drop)
        problems += [f"seed {seed!r}, {story.name} + {problem}" for problem in result.problems]
        shots += result.rounds
        for name in sums:
            sums[name] += getattr(result, name)
    return {
        "seed": seed,
        "seconds": time.monotonic() - started,
        "rounds": len(shots),
        **sums,
        "streams": STREAMS,
        "most_copies_in_flight": max(shot.copies_in_flight for shot in shots),
        "most_copies_recorded": max(shot.copies_recorded for shot in shots),
        "problems": problems,
    }


def cut_power(images: int, seed: str) -> dict[str, Any]:
    """Cut the power `images` times and say what came of it."""
    started = time.monotonic()
    done = 0
    problems: list[str] = []
    seen: dict[str, int] = {}
    while done < images:
        result = cuts(min(_IMAGES_A_STORY, images - done), f"{seed} {done}")
        problems += [f"{kind} at {where!r}: {what}" for where, kind, what in result.findings]
        done += result.images
        for what, count in result.seen.items():
            seen[what] = seen.get(what, 0) + count
    return {
        "seed": seed,
        "seconds": time.monotonic() - started,
        "images": done,
        "recorded": seen,
        "problems": problems,
    }


def table(found: dict[str, Any]) -> str:
    """The same for people."""
    rows = {**found, **found.get("recorded", {})}
    rows["problems"] = len(found["problems"])
    rows.pop("recorded", None)
    lines = [f"{name.replace('_', ' '):36} {_shown(value):>14}" for name, value in rows.items()]
    return "\n".join(lines + found["problems"])


def _shown(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.1f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
