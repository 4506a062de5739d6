"""From options to what a pool goes by; problems once, keys once."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from momentum_push.clock import ManualClock
from momentum_push.config import Config
from momentum_push.delivery.apns.options import Proxy
from momentum_push.delivery.settings import Limit, PoolSettings, SettingsReader
from momentum_push.message import QueueKey
from tests.helpers.apns import Key, provider_key
from tests.helpers.conf import config
from tests.helpers.peer import self_made

NEWS = "com.example.news.apns"
KEY = QueueKey("default", "default", NEWS)


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Key:
    made = provider_key(tmp_path_factory.mktemp("keys"))
    made.path.chmod(0o600)
    return made


def credential(key: Key) -> str:
    return (
        f'apn_auth_key = "{key.path}" apn_key_id = "{key.key_id}" apn_team_id = "{key.team_id}"\n'
        'apn_topic = "com.example.news"\n'
    )


def conf(key: Key, options: str = "", more: str = "") -> Config:
    return config(
        f"""
        domain "{NEWS}" {{
          delivery_method = "apn"  routes = ( "apn://api.push.apple.com" )
          {credential(key)} {options}
        }}
        {more}
        """
    )


def read(key: Key, options: str = "", more: str = "") -> PoolSettings:
    settings, problems = SettingsReader(conf(key, options, more), ManualClock()).read(KEY)
    assert settings is not None, problems
    return settings


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ("", {"max_connections": 32, "max_connects_per_minute": 120, "drops_unknown": False}),
        ("", {"default_topic": "com.example.news", "is_suspended": False, "throttle": None}),
        ("max_outbound_connections = 7", {"max_connections": 7}),
        ("", {"dead_token_limit": 20}),
        ("", {"avoid_s": 120.0}),
        ("host_failure_retry = 7", {"avoid_s": 7.0}),
        ("mx_failures_to_delay = 50", {"delay_failures": 50}),
        ("connect_timeout_to_delay = 60", {"delay_s": 60.0}),
        ("", {"collapse_waiting": False, "weight": 1}),
        ("collapse_waiting = true\ndelivery_weight = 5", {"collapse_waiting": True, "weight": 5}),
        ("apn_dead_token_limit = 0", {"dead_token_limit": 0}),
        ('apn_unknown_outcome = "drop"', {"drops_unknown": True}),
        ('suspend_delivery = "true"', {"is_suspended": True}),
    ],
)
def test_options_become_settings(key: Key, options: str, found: dict[str, Any]) -> None:
    settings = read(key, options)
    assert {name: getattr(settings, name) for name in found} == found


def test_options_become_those_of_connections(key: Key) -> None:
    options = read(
        key,
        """connect_timeout = 3  delivery_response_timeout = 7000  idle_timeout = 60  apn_ping_interval = 9
        max_streams_per_connection = 50  max_deliveries_per_connection = 1000""",
    ).options
    assert (options.connect_timeout_s, options.response_timeout_s, options.idle_timeout_s) == (3.0, 7.0, 60.0)
    assert (options.ping_interval_s, options.max_streams, options.max_deliveries) == (9.0, 50, 1000)
    assert read(key, "auto_collapse = true").options.auto_collapse
    assert not options.auto_collapse


def test_defaults_are_those_of_apn_domains(key: Key) -> None:
    """interfaces.md 2, "Timeouts in apn domains"."""
    options = read(key).options
    assert (options.connect_timeout_s, options.response_timeout_s, options.idle_timeout_s) == (
        10.0,
        30.0,
        3600.0,
    )


@pytest.mark.parametrize(
    ("options", "limit", "is_auto"),
    [("", None, True), ("max_retries = 3", 3, False), ('max_retries = "none"', None, False)],
)
def test_the_retry_policy(key: Key, options: str, limit: int | None, is_auto: bool) -> None:
    retry = read(key, f"retry_interval = 60 message_expiration = 500 {options}").retry
    assert (retry.retry_interval, retry.message_expiration) == (60, 500)
    assert (retry.max_retries, retry.is_auto) == (limit, is_auto)


def test_zero_means_no_limit(key: Key) -> None:
    settings = read(key, "max_outbound_connections = 0 max_connects_per_minute = 0")
    assert settings.max_connections == settings.max_connects_per_minute == 1 << 30


def test_a_throttle_is_shared_by_those_who_inherit_it(key: Key) -> None:
    """momentum.md 2.3."""
    shared = config(
        f"""
        outbound_throttle_messages = "100/60"
        domain "a.apns" {{ delivery_method = "apn" routes = ( "x.test" ) {credential(key)} }}
        domain "b.apns" {{ delivery_method = "apn" routes = ( "x.test" ) {credential(key)} }}
        domain "c.apns" {{ delivery_method = "apn" routes = ( "x.test" ) {credential(key)}
          outbound_throttle_messages = 5 }}
        """
    )
    reader = SettingsReader(shared, ManualClock())
    limits = []
    for domain in ("a.apns", "b.apns", "c.apns"):
        settings = reader.read(QueueKey("default", "default", domain))[0]
        assert settings is not None
        limits.append(settings.throttle)
    assert limits[0] == limits[1]
    assert limits[0] is not None and (limits[0].count, limits[0].seconds) == (100, 60.0)
    assert isinstance(limits[2], Limit) and (limits[2].count, limits[2].seconds) == (5, 1.0)
    assert limits[2].identity != limits[0].identity


def test_a_thousand_domains_share_one_credential_and_one_context(key: Key) -> None:
    names = [f"app{number}.apns" for number in range(1000)]
    many = config(
        f'{credential(key)}\nroutes = ( "api.push.apple.com" )\n'
        + "\n".join(f'domain "{name}" {{ delivery_method = "apn" }}' for name in names)
    )
    reader = SettingsReader(many, ManualClock())
    found = [reader.read(QueueKey("default", "default", name))[0] for name in names]
    assert len({id(settings.credential) for settings in found if settings}) == 1
    assert len({id(settings.context) for settings in found if settings}) == 1
    assert None not in found


def test_tokens_are_counted_where_they_are_minted(key: Key) -> None:
    minted: list[str] = []
    settings, _ = SettingsReader(conf(key), ManualClock(), minted.append).read(KEY)
    assert settings is not None
    settings.credential.authorize(None, 1_767_600_000.0, 0.0)
    assert minted == [key.key_id]


# --- problems


def test_each_problem_is_said_once(tmp_path: Path) -> None:
    text = f"""
    apn_auth_key = "{tmp_path}/gone.p8"  apn_key_id = "ABC123DEFG"  apn_team_id = "TEAM123456"
    apn_topic = "x"
    routes = ( "apn://gateway.push.apple.com?port=2195" )
    """ + "\n".join(f'domain "app{n}.apns" {{ delivery_method = "apn" }}' for n in range(5))
    problems = SettingsReader(config(text), ManualClock()).problems()
    assert len(problems) == len(set(problems))
    errors = [problem for problem in problems if not problem.is_warning]
    assert len(errors) == 1
    assert "gone.p8" in errors[0].what


def test_a_queue_without_credential_has_no_settings(key: Key) -> None:
    bare = config(f'domain "{NEWS}" {{ delivery_method = "apn" routes = ( "x.test" ) }}')
    settings, problems = SettingsReader(bare, ManualClock()).read(KEY)
    assert settings is None
    assert any(not problem.is_warning for problem in problems)


def test_a_domain_that_is_no_longer_apn_has_no_settings_whatever_it_inherits(key: Key) -> None:
    """Its messages are held, not sent under somebody else's topic."""
    inherits = config(f'{credential(key)} routes = ( "api.push.apple.com" )')
    settings, problems = SettingsReader(inherits, ManualClock()).read(KEY)
    assert settings is None
    assert any("is not delivered to APNs" in problem.what for problem in problems)


def test_only_apn_domains_are_looked_at(key: Key) -> None:
    mixed = conf(key, more='domain "mail.example.com" { }  binding_group "g" { binding "b" { } }')
    assert SettingsReader(mixed, ManualClock()).queues() == [KEY, QueueKey("g", "b", NEWS)]


# --- rules


def test_rules_follow_the_options(key: Key) -> None:
    options = 'apn_priority = 5 apn_expiry = 60 apn_topics = ( "com.a" "com.b" ) apn_strict_payload = "false"'
    rules = SettingsReader(conf(key, options), ManualClock()).rules(KEY)
    assert (rules.default_topic, rules.priority, rules.expiry) == ("com.example.news", 5, 60)
    assert (rules.topics, rules.is_strict) == (frozenset({"com.a", "com.b"}), False)


# --- identity


@pytest.mark.parametrize(
    ("options", "more", "keeps"),
    [
        ("", "", True),
        ("retry_interval = 1", "", True),
        ("max_outbound_connections = 3", "", True),
        ('suspend_delivery = "true"', "", True),
        ("idle_timeout = 5", "", False),
        ('apn_topic = "com.example.other"', "", False),
        ('routes = ( "api.sandbox.push.apple.com" )', "", False),
    ],
)
def test_a_reload_keeps_connections_unless_what_made_them_changed(
    key: Key, options: str, more: str, keeps: bool
) -> None:
    assert (read(key, options, more).identity == read(key).identity) is keeps


def test_another_key_is_another_identity(key: Key, tmp_path: Path) -> None:
    other = provider_key(tmp_path, "Other")
    other.path.chmod(0o600)
    assert read(other).identity != read(key).identity


def test_a_proxy_is_part_of_what_a_connection_is_made_by(key: Key) -> None:
    """A reload that sets, changes or ends one replaces the connections; so does another password."""
    one, other, password, none = (
        read(key, f'proxy = "{text}"') for text in ("http://h:1", "http://h:2", "http://u:s3cr3t@h:1", "none")
    )
    assert len({settings.identity for settings in (one, other, password, none)}) == 4
    assert (one.routes[0].proxy, none.routes[0].proxy) == (Proxy("h", 1), None)
    assert none.identity == read(key).identity
    assert "s3cr3t" not in repr(password)


@pytest.mark.parametrize(
    ("options", "rate"),
    [
        ("", None),
        ("max_deliveries_per_connection = 1", 120),
        ("max_deliveries_per_connection = 49", 5880),
        ("max_deliveries_per_connection = 50", None),
        ("max_deliveries_per_connection = 1 max_connects_per_minute = 0", None),
    ],
)
def test_connections_that_wear_out_faster_than_they_may_be_made_are_warned_of(
    key: Key, options: str, rate: int | None
) -> None:
    wholly = config(
        f"""domain "{NEWS}" {{ delivery_method = "apn" routes = ( "x.test" ) {credential(key)} {options} }}"""
    )
    settings, problems = SettingsReader(wholly, ManualClock()).read(KEY)
    assert settings is not None
    assert [f"{rate} messages a minute" in problem.what for problem in problems] == [True] * bool(rate)
    assert all(problem.is_warning for problem in problems)


# --- certificates (apns.md 1.4)

MARKS = {"development": ["1"], "production": ["2"], "universal": ["1", "2"], "unmarked": []}


def certificate_conf(folder: Path, route: str, kind: str = "universal", days: int = 90) -> Config:
    marks = [(f"1.2.840.113635.100.6.3.{number}", b"\x05\x00") for number in MARKS[kind]]
    made = self_made("push", uid="com.example.news", days=days, extensions=marks)
    (folder / "push.pem").write_bytes(made.certificate)
    (folder / "push.key").write_bytes(made.key)
    (folder / "push.key").chmod(0o600)
    return config(
        f"""
        domain "{NEWS}" {{
          delivery_method = "apn"  routes = ( "{route}" )
          tls_certificate = "{folder}/push.pem"  tls_key = "{folder}/push.key"
        }}
        """
    )


@pytest.mark.parametrize("kind", MARKS)
@pytest.mark.parametrize(
    ("route", "environment"),
    [
        ("apn://api.push.apple.com", "production"),
        ("apn://api.sandbox.push.apple.com", "development"),
        ("apn://gateway.sandbox.push.apple.com?port=2195", "development"),
        ("apn://127.0.0.1?verify_name=api.push.apple.com", "production"),
        ("apn://relay.example.com", ""),
    ],
)
def test_a_certificate_and_routes_of_the_other_environment_are_an_error(
    tmp_path: Path, kind: str, route: str, environment: str
) -> None:
    fits = kind in ("universal", "unmarked", environment) or not environment
    clock = ManualClock(time.time())
    settings, problems = SettingsReader(certificate_conf(tmp_path, route, kind), clock).read(KEY)
    errors = [problem for problem in problems if not problem.is_warning]
    assert (settings is not None, errors == []) == (fits, fits)
    if not fits:
        (problem,) = errors
        assert f"is for {kind}" in problem.what and environment in problem.fix


def test_the_dates_of_certificates_in_use_are_looked_at_again_and_again(tmp_path: Path) -> None:
    start = time.time()
    reader = SettingsReader(certificate_conf(tmp_path, "apn://relay.example.com"), ManualClock(start))
    assert (reader.problems(), reader.date_problems(start)) == ([], [])
    (soon,) = reader.date_problems(start + 65 * 86_400)
    assert soon.is_warning and "expires in 24 days" in soon.what
    (late,) = reader.date_problems(start + 91 * 86_400)
    assert not late.is_warning and "expired" in late.what
