"""None of the accidents is forgotten: each row of apns.md 8 has a test, or a reason why it needs none."""

from __future__ import annotations

import importlib
from pathlib import Path

from tests.helpers.accidents import NOT_OURS, REGISTRY

ROWS = range(1, 58)


def load() -> None:
    """Import the neighbours, so that a run of this file alone knows what they are about, too."""
    for path in Path(__file__).parent.glob("test_*.py"):
        importlib.import_module(f"tests.accidents.{path.stem}")


def test_every_row_is_staged_or_has_a_reason() -> None:
    load()
    assert sorted(REGISTRY.keys() | NOT_OURS.keys()) == list(ROWS)
    assert not REGISTRY.keys() & NOT_OURS.keys(), "a row with a test needs no excuse"


def test_every_test_says_where_its_accident_happened() -> None:
    load()
    for row, tests in REGISTRY.items():
        assert tests, row
        for name, source in tests:
            assert name.startswith("test_"), name
            assert "#" in source or source.endswith(" (source)"), source
