"""Every file in conf/ loads and passes all checks, once the files that it names are there."""

from pathlib import Path

import pytest

from momentum_push.config import load
from momentum_push.daemon import validate
from momentum_push.simulator import make_provider_certificate, make_provider_key, make_server_certificate

CONF = Path(__file__).parents[2] / "conf"


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder that has the keys and certificates of all examples."""
    certificate, key = make_provider_certificate(
        tmp_path / "apns", ("com.example.news",), "both", "news-cert"
    )
    (tmp_path / "news-cert.pem").write_bytes(certificate.read_bytes())
    (tmp_path / "news-key.pem").write_bytes(key.read_bytes())
    (tmp_path / "news-key.pem").chmod(0o600)
    for name in ("AuthKey_ABC123DEFG.p8", "AuthKey.p8"):
        make_provider_key(tmp_path / name)
    (tmp_path / "apns-simulator").mkdir()
    make_server_certificate(tmp_path / "apns-simulator")
    return tmp_path


def place(name: str, site: Path) -> Path:
    """Put an example into `site`, with the folders of its keys replaced by it."""
    text = (CONF / name).read_text()
    for folder in ("/etc/momentum-push", "/etc/ecelerity"):
        text = text.replace(folder, str(site))
    for file in ("apns-simulator/ca.pem", "AuthKey.p8"):
        text = text.replace(f'"{file}"', f'"{site}/{file}"')
    path = site / name
    path.write_text(text)
    return path


def test_there_is_a_test_for_each_file() -> None:
    """Those of conf/policy are in tests/scripting/test_examples.py."""
    names = {path.name for path in CONF.iterdir() if path.is_file()}
    assert names == {"ecelerity.conf", "demo.conf", "momentum.conf"}


@pytest.mark.parametrize("name", ["ecelerity.conf", "demo.conf"])
def test_our_examples_have_nothing_to_complain_about(name: str, site: Path) -> None:
    config = load(place(name, site))
    assert [str(problem) for problem in config.warnings + validate(config)] == []


def test_the_production_examples_commented_parts_are_right_too(site: Path) -> None:
    """What an operator takes the comment marks off must work as it stands."""
    path = place("ecelerity.conf", site)
    lines = path.read_text().splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith("# --- The spool"))
    body = [line.replace("# ", "", 1) if _is_code(line) else line for line in lines[first:]]
    for name in ("weather.pem", "weather.key", "mail.pem", "mail.key"):
        source = "news-cert.pem" if name.endswith("pem") else "news-key.pem"
        (site / name).write_bytes((site / source).read_bytes())
        (site / name).chmod(0o600)
    (site / "push.users").write_text("app:secret\n")
    (site / "push.users").chmod(0o600)
    path.write_text("\n".join(body))
    config = load(path)
    assert [str(problem) for problem in config.warnings + validate(config)] == []
    assert config.is_apn("com.example.weather.apns")
    assert config.group_of("bulk2") == "bulk"


def _is_code(line: str) -> bool:
    text = line.strip()
    return text.startswith("# ") and (
        "=" in text.split("#")[1] or text.rstrip().endswith(("{", "}")) or text in ("# }",)
    )


def test_a_momentum_file_loads_with_warnings_that_say_what_changed(site: Path) -> None:
    config = load(place("momentum.conf", site))
    problems = config.warnings + validate(config)
    assert all(problem.is_warning for problem in problems), [str(problem) for problem in problems]
    words = "\n".join(map(str, problems))
    for expected in ("gateway.push.apple.com", "tls_verify", "delivery_response_timeout", "control_listener"):
        assert expected in words
    assert config.outbound("transactional", "push1", "com.example.news.apns")["max_outbound_connections"] == 4
