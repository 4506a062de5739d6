"""How addresses are written (momentum.md 3.1)."""

import ipaddress

import pytest

from momentum_push.config.addresses import Address, is_loopback, network, parse_listen, plain_ip


@pytest.mark.parametrize(
    ("text", "address"),
    [
        (":25", Address("", 25, None)),
        ("*:25", Address("", 25, None)),
        ("127.0.0.1:0", Address("127.0.0.1", 0, None)),
        ("[::1]:25", Address("::1", 25, None)),
        ("[*]:25", Address("::", 25, None)),
        ("mx.example.com:25", Address("mx.example.com", 25, None)),
        ("/tmp/2025", Address("", None, "/tmp/2025")),
        *[
            (bad, None)
            for bad in ("25", "", ":", ":x", ":65536", "::1:25", "[::1]", "[x]:25", "a b:25", "a/b:25")
        ],
    ],
)
def test_addresses_of_listeners(text, address):
    assert parse_listen(text) == address


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("10.1.2.3/8", "10.0.0.0/8"),
        ("192.0.2.1", "192.0.2.1/32"),
        ("[::1]", "::1/128"),
        ("x", "None"),
        ("", "None"),
    ],
)
def test_networks(text, written):
    assert str(network(text)) == written


def test_a_client_without_address_is_loopback():
    assert plain_ip(None).is_loopback
    assert plain_ip("::ffff:192.0.2.1") == ipaddress.ip_address("192.0.2.1")
    assert plain_ip("fe80::1%eth0") == ipaddress.ip_address("fe80::1")


def test_what_only_this_machine_reaches():
    assert all(is_loopback(parse_listen(text)) for text in ("127.3.0.1:1", "[::1]:1", "localhost:1", "/x"))
    assert not any(
        is_loopback(parse_listen(text)) for text in (":1", "[*]:1", "192.0.2.1:1", "example.com:1")
    )
