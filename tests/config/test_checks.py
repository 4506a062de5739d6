"""What only the whole configuration shows."""

import pytest

from tests.helpers.conf import errors, warnings

OPEN_DOOR = (
    't.conf:1:17: http_listener: anybody can inject through listen ":8081"; add peer stanzas, '
    'enable_authentication = true or tls_verify_mode = "require" with use_ssl, '
    "or listen on a loopback address"
)


def test_http_is_not_open_to_strangers():
    """interfaces.md 4"""
    assert errors('http_listener { listen ":8081" { } }') == [OPEN_DOOR]


@pytest.mark.parametrize(
    "text",
    [
        'http_listener { listen "127.0.0.1:8081" { } }',
        'http_listener { listen "[::1]:8081" { } }',
        'http_listener { listen "localhost:8081" { } }',
        'http_listener { listen "/run/push.sock" { } }',
        'http_listener { listen ":8081" { enable_authentication = true } }',
        'http_listener { enable_authentication = true listen ":8081" { } }',
        'http_listener { listen ":8081" { peer "10.0.0.0/8" { } } }',
        'http_listener { peer "10.0.0.0/8" { } listen ":8081" { } }',
        'http_listener { listen ":8081" { use_ssl = on tls_verify_mode = require tls_client_ca = "/ca" } }',
        'http_listener { listen ":8081" { enable = false } }',
        'esmtp_listener { listen ":25" { } }',
    ],
)
def test_doors_that_are_guarded_or_closed_pass(text):
    assert errors(text) == []


@pytest.mark.parametrize(
    "address", ["0.0.0.0:81", "*:81", "[*]:81", "[::]:81", "192.0.2.1:81", "example.com:81"]
)
def test_every_other_address_is_one_that_strangers_reach(address):
    assert len(errors(f'http_listener {{ listen "{address}" {{ }} }}')) == 1


def test_client_certificates_count_only_with_tls():
    assert len(errors('http_listener { listen ":8081" { tls_verify_mode = require } }')) == 1


def test_an_address_is_taken_once():
    text = 'esmtp_listener { listen ":25" { } }\nhttp_listener { listen "*:25" { peer "10.0.0.0/8" { } } }'
    assert errors(text) == ['t.conf:2:17: listen "*:25" is taken at t.conf:1:18; choose another port']


def test_port_0_may_be_asked_for_often():
    text = 'esmtp_listener { listen "127.0.0.1:0" { } }\nhttp_listener { listen "127.0.0.1:0" { } }'
    assert errors(text) == []


def test_a_pathway_must_exist():
    text = 'esmtp_listener { pathway = "p" listen ":25" { } }'
    assert errors(text) == [
        't.conf:1:18: pathway "p" is not defined; add pathway "p" { … } in global scope',
    ]
    assert errors(text + ' pathway_group "g" { pathway "p" { } }') == []


UNVERIFIED = "certificates are verified; add allow_insecure_tls = true if you mean it"


def test_unverified_tls_is_ignored_with_a_warning_unless_it_is_allowed():
    """interfaces.md 2"""
    assert warnings('domain "x" { tls_verify = "no" }') == [
        f't.conf:1:14: warning: tls_verify = "no" is ignored, {UNVERIFIED}'
    ]
    assert warnings('domain "x" { tls_verify = "no" allow_insecure_tls = true }') == []
    assert warnings('allow_insecure_tls = true domain "x" { tls_verify = "no" }') == []
    assert warnings('domain "x" { tls_verify = "no" } domain "/x/" { allow_insecure_tls = on }') == []
    assert len(warnings('allow_insecure_tls = on domain "x" { tls_verify = no allow_insecure_tls = 0 }')) == 1
    assert warnings('domain "x" { tls_verify = "host" }') == []


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            'relay_hosts = ( "10.0.0.0/8" "10.0.0.300" )',
            't.conf:1:1: relay_hosts: "10.0.0.300" is no network; '
            'write "10.0.0.0/8", "192.0.2.1" or "2001:db8::/32"',
        ),
        (
            'exclude_vctx_mess = ( "a(" )',
            't.conf:1:1: exclude_vctx_mess: "a(" is no regular expression; '
            "missing ), unterminated subpattern at position 1",
        ),
    ],
)
def test_entries_of_arrays_must_be_what_they_are_for(text, says):
    assert errors(text) == [says]
