"""Python scripts: which classes of a file are scripts, and where its errors are."""

import pytest

from momentum_push.errors import Place, Problem
from momentum_push.scripting import Services
from momentum_push.scripting.python import load

TEXT = b"""
from tests.helpers.scripts import Elsewhere
from momentum_push.scripting import Hooks

class One(Elsewhere):
    def validate_dealloc(self, vctx):
        return 0

class Two(Hooks):
    def init(self):
        return self.services

class Three:
    def init(self):
        raise AssertionError
"""


def test_scripts_are_the_classes_of_the_file_itself_in_their_order():
    services = Services()
    found = load("a.py", TEXT, services).functions
    assert [name for name, _ in found] == ["validate_dealloc", "apn_response_eval", "init"]
    assert dict(found)["init"]() is services


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        (b"x = (", 1, "never closed"),
        (b"\n\nimport nosuchmodule", 3, "ModuleNotFoundError"),
        (
            b"from momentum_push.scripting import Hooks\nclass A(Hooks):\n def __init__(self):\n  x",
            4,
            "NameError",
        ),
        (b"def f():\n  raise ValueError('a')\nf()", 2, "ValueError: a"),
        (b"x = '\xff'", 0, "utf-8"),
        (b"x = '\0'", 0, "null bytes"),
        (b"", 0, "no class derives from"),
        (b"from momentum_push.scripting import Hooks\nclass A(Hooks): pass", 0, "no class derives from"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(text, line, words):
    problem = load("a.py", text, Services())
    assert isinstance(problem, Problem)
    assert words in problem.what and problem.fix
    if line:
        assert problem.place == Place("a.py", line)
