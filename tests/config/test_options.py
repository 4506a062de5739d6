"""The table itself: complete, without contradiction, readable."""

from collections import Counter

import pytest

from momentum_push.config import options
from momentum_push.config.options import OPTIONS, STANZAS, UNSERVED, UNSERVED_STANZAS
from momentum_push.config.values import Kind, Rate

PYTHON = {
    Kind.BOOLEAN: bool,
    Kind.INTEGER: int,
    Kind.STRING: str,
    Kind.PATH: str,
    Kind.FILE: str,
    Kind.OUTPUT: str,
    Kind.MODE: int,
    Kind.RATE: (Rate, type(None)),
    Kind.CHOICE: str,
    Kind.LIST: list,
    Kind.DICT: dict,
}


@pytest.mark.parametrize("row", OPTIONS, ids=lambda row: f"{row.name}-{row.scopes[0]}")
def test_a_row_makes_sense(row):
    assert row.name == row.name.lower() and row.help and row.scopes
    assert isinstance(row.default, PYTHON[row.type]) or row.default in row.choices
    assert set(row.scopes) <= {kind.name for kind in STANZAS} | {"global"}
    assert row.type is not Kind.CHOICE or row.choices
    assert not row.choices or row.default == "" or row.type is not Kind.CHOICE or row.default in row.choices


def test_rows_of_one_name_share_no_scope_but_listen():
    count = Counter((row.name, scope) for row in OPTIONS for scope in row.scopes if scope != "listen")
    assert [pair for pair, number in count.items() if number > 1] == []


# momentum.md 2.4
LEGAL = {
    "routes": {"domain", "global"},
    "delivery_method": {"binding", "binding_group", "domain", "global"},
    "idle_timeout": {"binding", "binding_group", "domain", "global"},
    "max_outbound_connections": {"binding", "binding_group", "domain", "global", "host"},
    "server_max_outbound_connections": {"binding", "binding_group", "global"},
    "scope_max_outbound_connections": {"binding", "binding_group", "domain", "global"},
    "outbound_throttle_messages": {"binding", "binding_group", "domain", "global"},
    "apn_expiry": {"binding", "binding_group", "domain", "global"},
    "retry_interval": {"binding", "binding_group", "domain", "global"},
    "max_resident_messages": {"binding", "binding_group", "global"},
    "max_resident_transfails": {"global"},
    "mx_failures_to_delay": {"domain", "global"},
    "mcmt_reception": {"esmtp_listener", "listen", "peer", "pathway", "pathway_group"},
    "idempotent_message_id": {"esmtp_listener", "listen", "peer", "pathway", "pathway_group"},
    "max_request_size": {"http_listener", "listen", "peer", "pathway", "pathway_group"},
    "allow_insecure_tls": {"domain", "global"},
    "force_fsync": {"global"},
    "proxy": {"domain", "binding", "global"},
}


@pytest.mark.parametrize(("name", "scopes"), LEGAL.items())
def test_options_are_legal_where_the_manual_says(name, scopes):
    assert {scope for row in options.rows_of(name) for scope in row.scopes} == scopes


# momentum.md 6, 7, 8 as changed by interfaces.md 2
DEFAULTS = {
    ("idle_timeout", "domain"): 3600,
    ("connect_timeout", "domain"): 10,
    ("delivery_response_timeout", "domain"): 30000,
    ("retry_interval", "global"): 1200,
    ("max_retry_interval", "global"): 43200,
    ("max_retries", "global"): "auto",
    ("message_expiration", "global"): 86400,
    ("max_outbound_connections", "domain"): 32,
    ("max_streams_per_connection", "domain"): 1000,
    ("max_connects_per_minute", "domain"): 120,
    ("apn_expiry", "domain"): 604800,
    ("apn_strict_payload", "domain"): True,
    ("apn_unknown_outcome", "domain"): "retry",
    ("apn_dead_token_limit", "domain"): 20,
    ("collapse_waiting", "domain"): False,
    ("delivery_weight", "domain"): 1,
    ("apn_ping_interval", "domain"): 60,
    ("force_fsync", "global"): True,
    ("drain_timeout", "global"): 15,
    ("max_resident_messages", "global"): 32768,
    ("max_resident_bytes", "global"): 268435456,
    ("max_idempotency_keys", "global"): 10_000_000,
    ("receivers", "global"): 0,
    ("max_request_size", "http_listener"): 67108864,
    ("mcmt_reception", "esmtp_listener"): "passthru",
    ("idempotent_message_id", "esmtp_listener"): False,
    ("tcp_recv_buffer_size", "http_listener"): 32768,
    ("tcp_recv_buffer_size", "esmtp_listener"): 4096,
    ("heartbeat", "apn_logger"): 60,
    ("log_permfail_format", "apn_logger"): "%t@P@%i@%sa@%da@%d@%g@%b@%H@%S@%e",
    ("log_delivery_format", "apn_logger"): '%t@D@%i@"%sa"@"%da"@%d@%g@%b@%H@%B@%ti',
    ("log_tempfail_format", "apn_logger"): '%t@T@%i@"%sa"@"%da"@%d@%g@%b@%H@%B@%ti@%S@%e',
    ("logmode", "apn_logger"): 0o644,
    ("mainlog_mode", "ec_logger"): 0o644,
    ("script_ttl", "scriptlet"): 300,
}


@pytest.mark.parametrize(("where", "default"), DEFAULTS.items())
def test_defaults_are_the_documented_ones(where, default):
    assert options.option(*where).default == default


def test_unserved_rows_name_options_and_stanzas_that_exist():
    assert all(options.rows_of(row.name) for row in UNSERVED)
    assert all(options.stanza_kind(name) for name in UNSERVED_STANZAS)


def test_a_name_is_never_both_known_and_unneeded():
    assert not [row.name for row in OPTIONS if options.is_unneeded_option(row.name)]
    assert not [kind.name for kind in STANZAS if options.is_unneeded_stanza(kind.name)]


def test_misspelt_options_of_ours_are_not_taken_for_unneeded_ones():
    names = {row.name for row in OPTIONS}
    for name in names:
        for wrong in (name[:-1], name + "s", name.replace("_", "", 1), name[0] + name[2:]):
            assert wrong in names or not options.is_unneeded_option(wrong), wrong


MAIL_ONLY = "dkim snmp ecstream_listener cluster alerting threadpool gcm gcm_logger adaptive debug_flags"
MAIL_ONLY_OPTIONS = (
    "rfc2822_date_header rfc2821_pedantic_address_rules gcm_ttl cluster_max_outbound_connections growbuf_size"
    " permastore_interval masterdb_file gateway http_uri disk_queue_drain_rate mailerdaemon pcre_cache_size"
)


def test_mail_only_names_are_known_to_be_unneeded():
    assert all(options.is_unneeded_stanza(name) for name in MAIL_ONLY.split())
    assert all(options.is_unneeded_option(name) for name in MAIL_ONLY_OPTIONS.split())


@pytest.mark.parametrize(
    ("name", "found"),
    [("max_conections", "max_outbound_connections"), ("route", "routes"), ("Idle_Timout", "idle_timeout"),
     ("zzzz", None)],
)  # fmt: skip
def test_the_nearest_name(name, found):
    assert options.nearest(name, options.options_in("domain")) == found
