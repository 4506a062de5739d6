"""The option `proxy`: what it may be, what is wrong with it, and that its password stays inside."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from momentum_push.clock import ManualClock
from momentum_push.config import load
from momentum_push.delivery.apns.options import Proxy
from momentum_push.delivery.proxy import masked, parse_proxy, read_proxy
from momentum_push.delivery.routes import Fault
from momentum_push.delivery.settings import SettingsReader
from momentum_push.message import QueueKey
from tests.helpers.conf import config

NEWS = "com.example.news.apns"
KEY = QueueKey("default", "default", NEWS)


@pytest.mark.parametrize(
    ("text", "proxy", "shown"),
    [
        ("http://proxy.example:3128", Proxy("proxy.example", 3128), "proxy.example:3128"),
        ("HTTP://Proxy.Example.:3128/", Proxy("proxy.example", 3128), "proxy.example:3128"),
        ("http://[::1]:8080", Proxy("::1", 8080), "[::1]:8080"),
        ("http://192.0.2.1:80", Proxy("192.0.2.1", 80), "192.0.2.1:80"),
        ("http://u:p@h:1", Proxy("h", 1, "u", "p"), "h:1"),
        ("http://u:a:b@h:1", Proxy("h", 1, "u", "a:b"), "h:1"),
        ("http://u@h:1", Proxy("h", 1, "u"), "h:1"),
        ("http://d%5Cu:p%40%2F%25%C3%BC@[2001:db8::7]:1", Proxy("2001:db8::7", 1, "d\\u", "p@/%ü"), "[2001:"),
    ],
)
def test_a_proxy_is_read(text: str, proxy: Proxy, shown: str) -> None:
    assert parse_proxy(text) == proxy
    assert str(proxy).startswith(shown)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("proxy.example:3128", "no URL"),
        ("https://s3cr3t:s3cr3t@proxy.example:3128", "TLS"),
        ("socks5://proxy.example:1080", '"socks5"'),
        ("http://proxy.example", "no port"),
        ("http://proxy.example:", "no port"),
        ("http://u:s3cr3t@proxy.example", "no port"),
        ("http://[::1]", "no port"),
        ("http://user:s3cr3t", "port is no number"),
        ("http://proxy.example:0", "port is no number"),
        ("http://proxy.example:65536", "port is no number"),
        ("http://proxy.example:²", "port is no number"),
        ("http://:3128", "host cannot be read"),
        ("http://u:s3cr3t@:3128", "host cannot be read"),
        ("http://[::z]:3128", "host cannot be read"),
        ("http://a b:3128", "host cannot be read"),
        ("http://proxy.example:3128/path", "only a host and a port"),
        ("http://proxy.example:3128?a=b", "only a host and a port"),
        ("http://u:s3cr3t/x@h:1", "URLs reserve"),
        ("http://u:s3cr3t@x@h:1", "URLs reserve"),
        ("http://u:s3cr3t x@h:1", "URLs reserve"),
        ("http://u:s3cr3t%0d%0a@h:1", "cannot be sent"),
        ("http://u%3As3cr3t:x@h:1", "cannot be sent"),
        ("http://u:s3cr3t%zz@h:1", "two hex digits"),
        ("http://u:s3cr3t%ff@h:1", "not UTF-8"),
    ],
)
def test_what_is_no_proxy_is_an_error_that_cites_nothing(text: str, what: str) -> None:
    with pytest.raises(Fault) as caught:
        parse_proxy(text)
    assert what in caught.value.what
    assert caught.value.fix
    assert "s3cr3t" not in caught.value.what + caught.value.fix


@given(st.text(alphabet="htp:/@%[].0123456789 ab?#\n", max_size=40))
def test_no_text_upsets_the_reader(text: str) -> None:
    for written in (text, f"http://{text}", f"http://{text}@h:1"):
        try:
            parse_proxy(written)
        except Fault as fault:
            assert fault.what and fault.fix


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://proxy.example:3128", "http://proxy.example:3128"),
        ("", ""),
        ("http://user:s3cr3t@h:1", "http://user:***@h:1"),
        ("http://user:s3@cr3t@h:1", "http://user:***@h:1"),
        ("http://user:s3/cr3t@h:1", "http://user:***@h:1"),
        ("http://user:s3 cr3t@h:1", "http://user:***@h:1"),
        ("http://s3cr3t@h:1", "http://***@h:1"),
        ("user:s3cr3t@h:1", "***@h:1"),
        ("http://a://s3cr3t@h:1", "***@h:1"),
    ],
)
def test_a_proxy_is_shown_without_its_password(text: str, shown: str) -> None:
    assert masked(text) == shown


@given(st.text(max_size=12), st.text(max_size=12))
def test_whatever_the_password_is_it_is_not_shown(before: str, after: str) -> None:
    assert "s3cr3t" not in masked(f"http://user:{before}s3cr3t{after}@proxy.example:3128")


# --- in a configuration


def settings_of(tmp_path: Path, text: str, mode: int = 0o600) -> tuple[object, list[str]]:
    path = tmp_path / "push.conf"
    path.write_text(text)
    path.chmod(mode)
    scope = load(path).outbound(*KEY)
    proxy, problems = read_proxy(scope)
    return proxy, [str(problem).replace(f"{tmp_path}/", "") for problem in problems]


def test_the_nearest_one_counts_and_none_ends_it(tmp_path: Path) -> None:
    outer = 'proxy = "http://outer:1" '
    inner = f'domain "{NEWS}" {{ proxy = "%s" }}'
    assert settings_of(tmp_path, outer)[0] == Proxy("outer", 1)
    assert settings_of(tmp_path, outer + inner % "http://inner:2")[0] == Proxy("inner", 2)
    for off in ("none", "NONE", ""):
        assert settings_of(tmp_path, outer + inner % off) == (None, [])
    assert settings_of(tmp_path, "") == (None, [])


def test_an_error_has_its_place(tmp_path: Path) -> None:
    proxy, problems = settings_of(tmp_path, '\n  proxy = "http://u:s3cr3t@h"\n')
    assert proxy is None
    assert problems == ['push.conf:2:3: proxy: there is no port; write proxy = "http://host:port"']


@pytest.mark.parametrize(("mode", "count"), [(0o644, 1), (0o640, 0), (0o600, 0)])
def test_a_password_in_a_file_that_all_can_read_is_warned_of(tmp_path: Path, mode: int, count: int) -> None:
    proxy, problems = settings_of(tmp_path, 'proxy = "http://u:s3cr3t@h:1"', mode)
    assert proxy == Proxy("h", 1, "u", "s3cr3t")
    assert len(problems) == count
    assert all("warning: " in problem and "0644" in problem for problem in problems)
    assert "s3cr3t" not in "".join(problems)
    assert settings_of(tmp_path, 'proxy = "http://u@h:1"', mode)[1] == []


def test_a_bad_proxy_is_found_by_check() -> None:
    conf = config(f'proxy = "https://h:1" domain "{NEWS}" {{ delivery_method = "apn" }}')
    found = [str(problem) for problem in SettingsReader(conf, ManualClock()).problems()]
    assert sum("proxy: " in problem for problem in found) == 1
