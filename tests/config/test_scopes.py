"""Fallback, as momentum.md 2 draws it: outbound, inbound, and the views that dump-config shows."""

import itertools

import pytest

from momentum_push.config.scopes import view
from tests.helpers.conf import EXAMPLE_16, EXAMPLE_21, config


@pytest.mark.parametrize(
    ("binding", "domain", "value", "line"),
    [
        ("default", "news.apns", 60, 2),
        ("default", "other.apns", 1200, 1),
        ("fast", "vip.apns", 1, 3),
        ("fast", "news.apns", 10, 3),
        ("plain", "news.apns", 60, 2),
    ],
)
def test_the_worked_example_of_the_fallback(binding, domain, value, line):
    """momentum.md 2.1, line for line."""
    scope = config(EXAMPLE_21).outbound("default", binding, domain)
    assert scope["retry_interval"] == value
    assert scope.origin("retry_interval").line == line


@pytest.mark.parametrize(
    ("domain", "idle_timeout", "connections"),
    [("news.apns", 30, 2), ("NEWS.apns", 30, 2), ("weather.apns", 10, 2), ("news.mail", 3600, 32)],
)
def test_the_worked_example_of_regex_domains(domain, idle_timeout, connections):
    """momentum.md 1.6, line for line: resolution is per option, not per stanza."""
    scope = config(EXAMPLE_16).outbound("default", "default", domain)
    assert (scope["idle_timeout"], scope["max_outbound_connections"]) == (idle_timeout, connections)


LEVELS = [
    'binding_group "G" {{ binding "B" {{ domain "d" {{ {} }} }} }}',
    'binding_group "G" {{ binding "B" {{ domain "/d/" {{ {} }} }} }}',
    'binding "B" {{ domain "D" {{ {} }} }}',
    'binding_group "G" {{ domain "d" {{ {} }} }}',
    'binding_group "G" {{ domain "/^d$/" {{ {} }} }}',
    'binding_group "G" {{ binding "B" {{ {} }} }}',
    'binding "B" {{ {} }}',
    'binding_group "G" {{ {} }}',
    'domain "d" {{ {} }}',
    'domain "/d/" {{ {} }}',
    'domain "/./" {{ {} }}',
    "{}",
]
"""From the most specific to the least (momentum.md 2.1)."""


@pytest.mark.parametrize("first", range(len(LEVELS)))
def test_the_most_specific_level_that_is_not_silent_decides(first):
    declared = list(range(first, len(LEVELS)))
    text = "\n".join(LEVELS[level].format(f"retry_interval = {level + 1}") for level in declared)
    assert config(text).outbound("G", "B", "d")["retry_interval"] == first + 1


# Levels 9 and 10 are two regexes of one container: there the order of declaration is the rule.
PAIRS = [pair for pair in itertools.combinations(range(len(LEVELS)), 2) if pair != (9, 10)]


@pytest.mark.parametrize("pair", PAIRS)
def test_order_in_the_file_does_not_matter_between_levels(pair):
    low, high = pair
    text = "\n".join(LEVELS[level].format(f"retry_interval = {level + 1}") for level in (high, low))
    assert config(text).outbound("G", "B", "d")["retry_interval"] == low + 1


def test_regexes_are_asked_in_the_order_of_declaration_per_option():
    text = 'domain "/a/" { idle_timeout = 1 }\ndomain "/b/" { idle_timeout = 2 connect_timeout = 3 }'
    scope = config(text).outbound("default", "default", "ab")
    assert (scope["idle_timeout"], scope["connect_timeout"]) == (1, 3)


@pytest.mark.parametrize(
    ("pattern", "domain", "matches"),
    [
        ("/apns/", "x.apns.y", True),
        ("/APNS$/", "x.apns", True),
        (r"/^\d+\.apns\z/", "12.apns", True),
        ("/^[[:alpha:]]+$/", "news", True),
        ("/^[[:alpha:]]+$/", "news1", False),
        ("/(?<app>news)/", "news.apns", True),
        ("/^x/", "ax", False),
    ],
)
def test_patterns_as_pcre_writes_them(pattern, domain, matches):
    scope = config(f'domain "{pattern}" {{ retry_interval = 7 }}').outbound("default", "default", domain)
    assert (scope["retry_interval"] == 7) is matches


def test_unset_options_have_the_default_of_the_table_and_no_origin():
    scope = config("").outbound("default", "default", "x")
    assert scope["idle_timeout"] == 3600 and not scope.is_set("idle_timeout")
    assert scope.origin("idle_timeout") is None
    assert scope["force_fsync"] is True  # global options can be asked of any outbound view


def test_an_unknown_option_is_a_key_error():
    conf = config('esmtp_listener { listen "127.0.0.1:0" { } }')
    for scope in (conf.glob, conf.outbound("default", "default", "x"), conf.listeners("esmtp_listener")[0]
                  .listens[0].inbound("127.0.0.1")):  # fmt: skip
        for ask in (scope.get, scope.is_set, scope.origin):
            with pytest.raises(KeyError):
                ask("no_such_option")


def test_none_ends_the_inheriting_of_a_path():
    conf = config('tls_certificate = "/c.pem"\ndomain "x" { tls_certificate = "none" }')
    assert conf.outbound("default", "default", "x")["tls_certificate"] == ""
    assert conf.outbound("default", "default", "y")["tls_certificate"] == "/c.pem"


INBOUND = """
max_message_size = 9
pathway_group "PG" {
  listener_sessions = 8  max_message_size = 8  require_ehlo = on
  pathway "P" { listener_sessions = 6  open_relay = on }
}
pathway "P" { open_relay = off  max_recipients_per_message = 7 }
esmtp_listener {
  listener_sessions = 5  max_recipients_per_connection = 5  pathway = "P"
  peer "10.0.0.0/8"  { listener_sessions = 3 max_receptions_per_connection = 30 }
  listen "127.0.0.1:25" {
    listener_sessions = 4  idle_time = 4
    peer "10.4.0.0/16"   { listener_sessions = 2 }
    peer "10.4.4.0/24"   { listener_sessions = 1 }
    peer "2001:db8::/32" { listener_sessions = 11 }
    peer "127.0.0.1"     { listener_sessions = 12 }
  }
}
"""


@pytest.mark.parametrize(
    ("ip", "option", "value"),
    [
        ("10.4.4.4", "listener_sessions", 1),
        ("10.4.5.5", "listener_sessions", 2),
        ("10.5.5.5", "listener_sessions", 3),
        ("192.0.2.1", "listener_sessions", 4),
        ("2001:db8::1", "listener_sessions", 11),
        ("::ffff:10.4.4.4", "listener_sessions", 1),
        (None, "listener_sessions", 12),
        ("10.4.4.4", "max_receptions_per_connection", 30),
        ("10.4.4.4", "idle_time", 4),
        ("10.4.4.4", "max_recipients_per_connection", 5),
        ("10.4.4.4", "open_relay", True),
        ("10.4.4.4", "max_recipients_per_message", 7),
        ("10.4.4.4", "require_ehlo", True),
        ("10.4.4.4", "max_message_size", 8),
        ("10.4.4.4", "service_sessions", 0),
    ],
)
def test_the_inbound_order(ip, option, value):
    """momentum.md 2.2: peers, listen, listener, group::pathway, pathway, pathway_group, global."""
    (listener,) = config(INBOUND).listeners("esmtp_listener")
    assert listener.listens[0].inbound(ip)[option] == value


def test_without_a_pathway_its_options_do_not_count():
    (listener,) = config(INBOUND.replace('pathway = "P"', "")).listeners("esmtp_listener")
    scope = listener.listens[0].inbound("192.0.2.1")
    assert scope["open_relay"] is False and scope["max_message_size"] == 9


def test_clients_of_the_same_peers_share_one_view():
    (listener,) = config(INBOUND).listeners("esmtp_listener")
    listen = listener.listens[0]
    assert listen.inbound("10.4.4.4") is listen.inbound("10.4.4.5")
    assert listen.inbound("10.4.4.4") is not listen.inbound("10.4.5.5")
    assert listen.has_peers
    assert listen.matches_peer("10.1.1.1") and not listen.matches_peer("192.0.2.1")


def test_a_global_certificate_is_not_the_servers():
    """tls_certificate in global scope is what we show to Apple."""
    conf = config('tls_certificate = "/apple.pem"\nesmtp_listener { listen "127.0.0.1:25" { } }')
    assert conf.listeners("esmtp_listener")[0].listens[0].inbound("127.0.0.1")["tls_certificate"] == ""


@pytest.mark.parametrize(
    ("kind", "size"), [("esmtp_listener", 4096), ("http_listener", 32768), ("control_listener", 4096)]
)
def test_the_listener_decides_which_row_an_address_uses(kind, size):
    conf = config(f'{kind} {{ listen "127.0.0.1:25" {{ }} }}')
    scope = conf.listeners(kind)[0].listens[0].inbound("127.0.0.1")
    assert scope["tcp_recv_buffer_size"] == size


def test_views_of_stanzas_fall_back_like_queues():
    root = config(EXAMPLE_21).root
    plain = root.get("binding", "plain")
    assert view(root, plain.get("domain", "news.apns"))["retry_interval"] == 60
    assert view(root, plain)["retry_interval"] == 1200
    assert view(root, root.get("binding", "fast"))["retry_interval"] == 10


def test_the_view_of_a_regex_stanza_is_its_own():
    root = config(
        'idle_timeout = 5\ndomain "/a/" { idle_timeout = 1 }\ndomain "/./" { idle_timeout = 2 }'
    ).root
    assert view(root, root.get("domain", "/./"))["idle_timeout"] == 2
