"""Files, directories, the search path, circles: what `load` does on the disk (momentum.md 1.1, 1.5)."""

import os
from pathlib import Path

import pytest

from momentum_push.config import find_default, load, loads, search_path_of
from momentum_push.errors import ConfigError
from tests.helpers.conf import errors


def put(folder: Path, files: dict[str, str]) -> Path:
    """Write files below a folder; the path of the first."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder / next(iter(files))


def said(path: Path, search_path=()) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(path, search_path)
    return [str(problem).replace(f"{path.parent}/", "") for problem in caught.value.problems]


def test_an_include_is_parsed_in_the_scope_where_it_stands(tmp_path):
    path = put(tmp_path, {"push.conf": 'domain "x" { include "x.conf" }', "x.conf": "retry_interval = 7"})
    conf = load(path)
    scope = conf.outbound("default", "default", "x")
    assert scope["retry_interval"] == 7
    assert scope.origin("retry_interval") == (f"{tmp_path}/x.conf", 1, 1)
    assert conf.files == [path, tmp_path / "x.conf"]
    assert conf.path == path


def test_a_directory_stands_for_its_visible_files_in_alphabetical_order_and_no_deeper(tmp_path):
    files = {
        "push.conf": 'include "apps.d"',
        "apps.d/20": "retry_interval = 20 max_retries = 20",
        "apps.d/10": "retry_interval = 10 connect_timeout = 10",
        "apps.d/.hidden": "retry_interval = 30",
        "apps.d/deeper/30": "retry_interval = 40",
    }
    conf = load(put(tmp_path, files))
    assert [conf.glob[name] for name in ("retry_interval", "max_retries", "connect_timeout")] == [20, 20, 10]
    assert [path.name for path in conf.files] == ["push.conf", "10", "20"]


def test_an_empty_directory_says_nothing(tmp_path):
    path = put(tmp_path, {"push.conf": 'include "apps.d"'})
    (tmp_path / "apps.d").mkdir()
    assert load(path).files == [path]


def test_a_name_is_looked_for_beside_the_including_file_then_the_master_then_along_the_path(tmp_path):
    put(tmp_path / "path", {"a": "connect_timeout = 3", "b": "connect_timeout = 4", "c": "max_retries = 5"})
    files = {"push.conf": 'include "sub/x"', "sub/x": 'include "a" include "b" include "c"'}
    path = put(
        tmp_path, {**files, "a": "retry_interval = 2", "b": "idle_timeout = 2", "sub/a": "retry_interval = 1"}
    )
    conf = load(path, [tmp_path / "path"])
    assert [conf.glob[name] for name in ("retry_interval", "idle_timeout", "max_retries")] == [1, 2, 5]
    assert conf.glob["connect_timeout"] == 10


def test_the_search_path_comes_from_the_environment(tmp_path, monkeypatch):
    put(tmp_path / "one", {"ecelerity.conf": 'include "x"'})
    put(tmp_path / "two", {"x": "retry_interval = 9", "ecelerity.conf": ""})
    environ = {"EC_CONF_SEARCH_PATH": f"{tmp_path}/none:{tmp_path}/one::{tmp_path}/two"}
    monkeypatch.setenv("EC_CONF_SEARCH_PATH", environ["EC_CONF_SEARCH_PATH"])
    assert find_default(environ) == tmp_path / "one/ecelerity.conf"
    assert load(find_default(environ)).glob["retry_interval"] == 9
    assert search_path_of({}) == []


def test_files_that_options_name_are_found_like_includes(tmp_path):
    """interfaces.md 2: in the directory of the -c file, then along the search path."""
    put(tmp_path / "path", {"a.p8": "", "b.p8": ""})
    text = 'apn_auth_key = "{}"'
    names = ["a.p8", "b.p8", "c.p8", "gone.p8", "/abs.p8", "none"]
    domains = "".join(f'domain "{n}" {{ {text.format(name)} }}\n' for n, name in enumerate(names))
    path = put(tmp_path, {"push.conf": 'include "sub/x"', "sub/x": domains, "sub/c.p8": "", "a.p8": ""})
    conf = load(path, [tmp_path / "path"])
    found = [conf.outbound("default", "default", str(n))["apn_auth_key"] for n in range(len(names))]
    assert [name.replace(f"{tmp_path}/", "") for name in found] == [
        "a.p8",
        "path/b.p8",
        "sub/c.p8",
        "gone.p8",
        "/abs.p8",
        "",
    ]


def test_a_missing_include_is_an_error_at_the_place_of_the_include(tmp_path):
    path = put(tmp_path, {"push.conf": 'domain "x" {\n  include "gone.conf"\n}'})
    assert said(path, [Path("/srv")]) == [
        f'push.conf:2:11: include "gone.conf" is not found in {tmp_path}, /srv; create it or correct the name'
    ]


def test_an_include_of_a_uri_is_an_error():
    assert errors('include "persist://x"') == [
        't.conf:1:9: include "persist://x" cannot be read; include files, not URIs'
    ]


def test_a_file_uri_is_a_path(tmp_path):
    path = put(tmp_path, {"push.conf": f'include "file://{tmp_path}/x"', "x": "retry_interval = 8"})
    assert load(path).glob["retry_interval"] == 8


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser reads everything")
def test_an_unreadable_include_is_an_error_at_the_place_of_the_include(tmp_path):
    path = put(tmp_path, {"push.conf": 'include "x"', "x": ""})
    (tmp_path / "x").chmod(0)
    assert said(path) == ['push.conf:1:9: include "x" cannot be read (permission denied); make it readable']


def test_a_missing_master_file_is_an_error_without_line(tmp_path):
    assert said(tmp_path / "push.conf") == [
        "push.conf: the file cannot be read (no such file or directory); create it or correct the name"
    ]


def test_a_master_that_is_a_directory_is_an_error(tmp_path):
    assert said(tmp_path) == [f"{tmp_path.name}: the file cannot be read (is a directory); name a file"]


def test_text_that_is_not_utf8_is_an_error(tmp_path):
    path = tmp_path / "push.conf"
    path.write_bytes(b"# fine\na = \xff")
    assert said(path) == ["push.conf:2:5: the file is not UTF-8 text here; save it as UTF-8"]


def test_what_is_written_is_beside_the_master_file(tmp_path):
    path = tmp_path / "push.conf"
    path.write_text(
        'spoolbase = spool\napn_logger a { logfile = "log/apn.ec" }\n'
        'json_logger b { logfile = "jlog:///x" }\nec_logger c { mainlog = "/var/log/m.ec" }\n'
    )
    conf = load(path)
    assert conf.glob["spoolbase"] == str(tmp_path / "spool")
    assert conf.modules("apn_logger")[0]["logfile"] == str(tmp_path / "log/apn.ec")
    assert conf.modules("json_logger")[0]["logfile"] == "jlog:///x"
    assert conf.modules("ec_logger")[0]["mainlog"] == "/var/log/m.ec"


def test_a_byte_order_mark_and_crlf_are_tolerated(tmp_path):
    path = tmp_path / "push.conf"
    path.write_bytes(b"\xef\xbb\xbfretry_interval = 5\r\n# x\r\nmax_retries = 3\r\n")
    conf = load(path)
    assert (conf.glob["retry_interval"], conf.glob["max_retries"]) == (5, 3)
    assert conf.glob.origin("max_retries")[1:] == (3, 1)


def test_a_circle_of_includes_is_an_error_at_the_include_that_closes_it(tmp_path):
    path = put(tmp_path, {"push.conf": 'include "a"', "a": 'retry_interval = 1\ninclude "push.conf"'})
    assert said(path) == ['a:2:9: include "push.conf" leads back to push.conf; break the circle']


def test_a_link_does_not_hide_a_circle(tmp_path):
    path = put(tmp_path, {"push.conf": 'include "link"'})
    (tmp_path / "link").symlink_to(path)
    assert said(path) == ['push.conf:1:9: include "link" leads back to link; break the circle']


def test_a_file_may_be_included_twice_when_it_is_no_circle(tmp_path):
    path = put(
        tmp_path, {"push.conf": 'domain "a" { include "x" } domain "b" { include "x" }', "x": "apn_topic = t"}
    )
    conf = load(path)
    assert [conf.outbound("default", "default", name)["apn_topic"] for name in "ab"] == ["t", "t"]
    assert len(conf.files) == 2


def test_includes_end_somewhere(tmp_path):
    files = {"push.conf": 'include "0"', **{str(n): f'include "{n + 1}"' for n in range(40)}, "40": ""}
    assert said(put(tmp_path, files)) == [
        '14:1:9: include "15" is nested too deeply; 16 levels and 20000 files are the limit'
    ]


def test_includes_in_unneeded_stanzas_are_not_read():
    assert [problem.is_warning for problem in loads('snmp { include "gone" }').warnings] == [True]


def test_the_local_changes_file_is_read_last(tmp_path):
    files = {
        "push.conf": 'local_changes_file = "local.conf"\nretry_interval = 1',
        "local.conf": "retry_interval = 2",
    }
    path = put(tmp_path, files)
    assert load(path).glob["retry_interval"] == 2
    (tmp_path / "local.conf").unlink()
    assert load(path).glob["retry_interval"] == 1


def test_the_local_changes_file_is_not_included_elsewhere(tmp_path):
    path = put(tmp_path, {"push.conf": 'local_changes_file = "x"\ninclude "x"', "x": ""})
    assert said(path) == ['push.conf:1:22: local_changes_file "x" is included elsewhere; remove the include']


def test_errors_of_all_files_come_in_one_run_sorted(tmp_path):
    files = {
        "push.conf": 'qqqq = 1\ninclude "b.conf"\ninclude "gone"\ninclude "a.conf"\nlast = 1\n',
        "a.conf": "x = = 1\nqqqq = 2\n",
        "b.conf": 'domain "y" { qqqq = 1 }\nbroken {',
    }
    assert [line.split(": ")[0] for line in said(put(tmp_path, files))] == [
        "a.conf:1:5",
        "a.conf:2:1",
        "b.conf:1:14",
        "b.conf:2:9",
        "push.conf:1:1",
        "push.conf:3:9",
        "push.conf:5:1",
    ]


def test_a_binding_group_may_be_split_over_files():
    files = {
        "b.d/1": 'binding_group "g" { retry_interval = 1 binding "b1" { } }',
        "b.d/2": 'binding_group "g" { idle_timeout = 2 binding "b2" { } }',
    }
    conf = loads('include "b.d"', files=files)
    scope = conf.outbound("g", "b2", "x")
    assert (scope["retry_interval"], scope["idle_timeout"]) == (1, 2)
    assert conf.bindings()["g"] == ["b1", "b2"]
