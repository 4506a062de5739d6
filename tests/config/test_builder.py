"""What is said about a configuration that is wrong: every kind of error, with its exact text."""

import pytest

from tests.helpers.conf import config, errors, warnings

KINDS = {
    "unknown option": (
        'domain "apn.example.com" {\n    max_conections = 4\n}',
        't.conf:2:5: unknown option "max_conections" in domain "apn.example.com"; '
        'did you mean "max_outbound_connections"?',
    ),
    "unknown option without relative": (
        "\nqqqq = 4",
        't.conf:2:1: unknown option "qqqq" in global scope; remove it or correct its name',
    ),
    "unknown option of a module": (
        'apn_logger "a" { logfil = x }',
        't.conf:1:18: unknown option "logfil" in apn_logger "a"; did you mean "logfile"?',
    ),
    "suggestions are legal there": (
        'esmtp_listener { listen ":25" { mcmt_recepton = allow } }',
        't.conf:1:33: unknown option "mcmt_recepton" in listen ":25"; did you mean "mcmt_reception"?',
    ),
    "unknown stanza": (
        'domian "x" { }',
        "t.conf:1:1: 'domian' is not a valid scope name in scope 'Global'; did you mean \"domain\"?",
    ),
    "unknown stanza without relative": (
        'binding_group "b" { qqqq { } }',
        "t.conf:1:21: 'qqqq' is not a valid scope name in scope 'Binding_Group'; use binding or domain",
    ),
    "no stanza is legal there": (
        "apn { qqqq { } }",
        "t.conf:1:7: 'qqqq' is not a valid scope name in scope 'Apn'; apn holds options only",
    ),
    "option where it is not legal": (
        "mcmt_reception = allow",
        't.conf:1:1: option "mcmt_reception" is not legal in global scope; '
        "it belongs in esmtp_listener, listen, peer, pathway or pathway_group",
    ),
    "global option in a domain": (
        'domain "x" { Force_Fsync = false }',
        't.conf:1:14: option "Force_Fsync" is not legal in domain "x"; it belongs in global',
    ),
    "stanza where it is not legal": (
        'listen ":25" { }',
        't.conf:1:1: stanza "listen" is not legal in global scope; '
        "put it into esmtp_listener, http_listener or control_listener",
    ),
    "option written as a stanza": (
        "routes { }",
        't.conf:1:1: "routes" is an option, not a stanza; write routes = VALUE',
    ),
    "stanza written as an option": (
        'domain = "x"',
        't.conf:1:1: "domain" is a stanza, not an option; write domain "com.example.news.apns" { … }',
    ),
    "wrong value": (
        "retry_interval = 5m",
        't.conf:1:1: retry_interval cannot be "5m"; use a whole number of seconds without suffix, 1 or more',
    ),
    "wrong choice": (
        'domain "x" { apn_unknown_outcome = "maybe" }',
        't.conf:1:14: apn_unknown_outcome cannot be "maybe"; use "retry" or "drop"',
    ),
    "nameless domain": (
        "domain { }",
        't.conf:1:1: domain needs a name; write domain "com.example.news.apns" { … }',
    ),
    "invalid regex": (
        'domain "/[/" { }',
        't.conf:1:8: domain "/[/" is no regular expression; unterminated character set at position 0',
    ),
    "regex without end": (
        'domain "/x" { }',
        't.conf:1:8: domain "/x" is no regular expression; write domain "/PCRE/", slashes at both ends',
    ),
    "binding with a colon": (
        'binding "a:b" { }',
        't.conf:1:9: the name of binding "a:b" holds a colon; choose a name without',
    ),
    "binding_group with a space": (
        'binding_group "a b" { }',
        't.conf:1:15: the name of binding_group "a b" holds a space; choose a name without',
    ),
    "address": (
        'esmtp_listener { listen "25" { } }',
        't.conf:1:25: listen "25" is no address; '
        'write ":25", "127.0.0.1:25", "[::1]:25" or "/path/of/socket"',
    ),
    "network": (
        'esmtp_listener { peer "10.0.0.0/33" { } }',
        't.conf:1:23: peer "10.0.0.0/33" is no network; write "10.0.0.0/8", "192.0.2.1" or "2001:db8::/32"',
    ),
    "unserved security option": (
        "esmtp_listener { proxy_protocol = true }",
        "t.conf:1:18: proxy_protocol is not implemented yet; "
        "connect clients directly, or put the proxy's address into peer stanzas",
    ),
    "unserved authentication": (
        'http_listener { authdigestmd5parameters = [ uri = "digest:///x" ] }',
        "t.conf:1:17: authdigestmd5parameters is not implemented yet; use authplainparameters, with TLS",
    ),
    "unserved scheme": (
        'esmtp_listener { authloginparameters = [ uri = "digest:///x" ] }',
        't.conf:1:18: authloginparameters: uri scheme "digest" is not implemented yet; '
        'use "file:///path", user:password lines',
    ),
    "no password file": (
        'esmtp_listener { authplainparameters = [ realm = "x" ] }',
        "t.conf:1:18: authplainparameters names no password file; "
        'add uri = "file:///path", a file of user:password lines',
    ),
    "unserved mechanism": (
        'esmtp_listener { smtp_extensions = ( STARTTLS "AUTH PLAIN CRAM-MD5" ) }',
        "t.conf:1:18: smtp_extensions: AUTH CRAM-MD5 is not implemented yet; "
        'offer "AUTH PLAIN" or "AUTH LOGIN" with TLS',
    ),
    "chroot": (
        'security { chroot = "/srv" }',
        "t.conf:1:12: chroot is not implemented yet; use RootDirectory= of systemd and remove it",
    ),
}


@pytest.mark.parametrize(("text", "says"), KINDS.values(), ids=KINDS)
def test_an_error_says_where_what_and_how_to_fix(text, says):
    assert errors(text) == [says]


WARNINGS = {
    "unneeded stanza": (
        "snmp { anything = ( 1 ) goes { here } }".replace("goes { here }", "goes { }"),
        't.conf:1:1: warning: stanza "snmp" has no use in a push daemon; it is ignored',
    ),
    "unneeded option": (
        "rfc2822_date_header = ifneeded",
        't.conf:1:1: warning: option "rfc2822_date_header" has no use in a push daemon; it is ignored',
    ),
    "response timeout too short": (
        'domain "x" { delivery_response_timeout = 1000 }',
        "t.conf:1:14: warning: delivery_response_timeout = 1000 is below 5000 milliseconds; raised to 5000; "
        "write delivery_response_timeout = 5000 or more",
    ),
    "no console yet": (
        'control_listener { listen "/tmp/2025" { file_mode = 0660 enable_authentication = true\n'
        'authdigestmd5parameters = [ uri = "digest:///x" ] } }',
        "t.conf:1:1: warning: control_listener: no console is served yet; the stanza has no effect",
    ),
    "no scripts yet": (
        'scriptlet "scriptlet" { script_ttl = 300 script "boot" { source = "msys.boot" } }',
        "t.conf:1:1: warning: scriptlet: no scripts are run yet; the stanza has no effect",
    ),
}


@pytest.mark.parametrize(("text", "says"), WARNINGS.values(), ids=WARNINGS)
def test_a_warning_keeps_the_configuration_usable(text, says):
    assert warnings(text) == [says]


def test_harmless_values_of_unserved_options_pass():
    assert warnings("esmtp_listener { proxy_protocol = off tls_verified_peer_can_relay = 0 }") == []


def test_all_errors_come_in_one_run_sorted_by_place():
    text = (
        'qqqq = 1\nretry_interval = soon\ndomian "x" {\n max_conections = 3\n}\n'
        'listen ":25" {\n wrong = 1\n}\nsnmp { }\na = = 1\n'
    )
    lines = errors(text)
    assert [line.split(":")[1] for line in lines] == ["1", "2", "3", "4", "6", "7", "9", "10"]


@pytest.mark.parametrize(
    "text",
    [
        'retry_interval = "1\n2"',
        'domain "a\nb" { }',
        'domain "/a\n(/" { }',
        'a = "x\ny" "z\n" z',
        "q" * 500 + " = 1",
    ],
)
def test_a_problem_is_one_line_of_bearable_length(text):
    (line,) = errors(text)
    assert "\n" not in line and len(line) < 250


def test_stanzas_merge_and_the_last_assignment_wins():
    conf = config('domain "X" { apn_topic = a idle_timeout = 1 }\ndomain "x" { apn_topic = b }')
    scope = conf.outbound("default", "default", "x")
    assert (scope["apn_topic"], scope["idle_timeout"]) == ("b", 1)
    assert scope.origin("apn_topic") == ("t.conf", 2, 14)


def test_names_of_options_and_stanzas_know_no_case():
    conf = config('DOMAIN "x" { ROUTES = ( a ) Delivery_Method = "APN" }')
    assert conf.outbound("default", "default", "X")["routes"] == ["a"]
    assert conf.is_apn("x")


def test_names_of_bindings_know_case():
    conf = config('binding "A" { retry_interval = 1 }\nbinding "a" { retry_interval = 2 }')
    assert conf.bindings() == {"default": ["default", "A", "a"]}
    assert conf.outbound("default", "A", "x")["retry_interval"] == 1
