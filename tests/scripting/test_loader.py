"""From the stanza to files."""

import os
from pathlib import Path

import pytest

from momentum_push.config import loads
from momentum_push.errors import Place, Problem
from momentum_push.scripting import folders_of, read_settings
from momentum_push.scripting.loader import Found, ScriptSettings, find

CONF = """
scriptlet "scriptlet" {
  script_ttl = 60
  script "boot" { source = "msys.boot" }
  script "apn_policy" { source = "policy.apn" }
  script "two" { source = "policy/two" }
}
"""


def test_scripts_come_in_the_order_of_the_file_without_what_is_built_in():
    found = read_settings(loads(CONF))
    assert [(script.name, script.source, script.place.line) for script in found] == [
        ("apn_policy", "policy.apn", 5),
        ("two", "policy/two", 6),
    ]
    assert read_settings(loads(CONF.replace("script_ttl = 60", "enabled = false"))) == []


def test_folders_are_the_conf_files_and_the_search_path_each_with_libexec():
    found = folders_of(Path("/etc/p/push.conf"), [Path("/opt/x"), Path("/etc/p")])
    expected = ["/etc/p", "/etc/p/libexec/scriptlets", "/opt/x", "/opt/x/libexec/scriptlets"]
    assert [str(folder) for folder in found] == expected


def script(source):
    return ScriptSettings("name", source, Place("c.conf", 1, 2))


@pytest.mark.parametrize("source", ["policy.apn", "policy/apn"])
def test_lua_comes_before_python_and_the_first_folder_before_the_second(tmp_path, source):
    one, two = tmp_path / "one", tmp_path / "two"
    for folder in (one, two):
        (folder / "policy").mkdir(parents=True)
    (two / "policy/apn.lua").write_text("second")
    assert find(script(source), [one, two]).text == b"second"
    (one / "policy/apn.py").write_text("python")
    assert find(script(source), [one, two]).text == b"python"
    (one / "policy/apn.lua").write_text("lua")
    found = find(script(source), [one, two])
    assert (found.text, found.is_lua, found.name) == (b"lua", True, "policy/apn.lua")


@pytest.mark.parametrize("source", ["", "../etc/passwd", "/etc/passwd", "a..b", "a b", "a/", "nosuch"])
def test_what_is_no_script_is_a_problem_with_its_place(tmp_path, source):
    found = find(script(source), [tmp_path])
    assert isinstance(found, Problem) and found.place == Place("c.conf", 1, 2) and found.fix


def test_a_change_is_seen_and_a_file_that_went_is_none(tmp_path):
    path = tmp_path / "a.lua"
    path.write_text("one")
    found = find(script("a"), [tmp_path])
    assert isinstance(found, Found) and not found.is_changed
    os.utime(path, ns=(0, 1))
    assert found.is_changed
    path.unlink()
    assert not found.is_changed
