"""momentum_push/injection/smtp_policy.py: options become a policy."""

from __future__ import annotations

from typing import Any

import pytest

from momentum_push.injection.auth import PasswordFiles
from momentum_push.injection.smtp_policy import (
    DEFAULT_MAX_MESSAGE_SIZE,
    MAX_RECIPIENTS,
    Policy,
    make_policy,
)
from tests.helpers.smtp import PLACE, View


def policy(**options: Any) -> Policy:
    return make_policy(View(**options), PasswordFiles(), "host.example")


def test_no_limit_means_a_large_one() -> None:
    """design.md 4: memory is bounded."""
    assert policy().max_message_size == DEFAULT_MAX_MESSAGE_SIZE
    assert policy().max_recipients == MAX_RECIPIENTS
    assert policy(max_recipients_per_batch=7).max_recipients == 7
    assert policy(max_recipients_per_message=5, max_recipients_per_batch=7).max_recipients == 5


def test_greeting_is_the_banner_or_the_name() -> None:
    assert policy().greeting == "host.example ESMTP"
    assert policy(banner_hostname="b.example").greeting == "b.example ESMTP"
    assert policy(static_banner="220 hello").greeting == "hello"


def test_quotas_are_known_by_the_line_that_sets_them() -> None:
    (quota,) = policy(listener_sessions=5).quotas
    assert (quota.key, quota.limit) == (("listener_sessions", PLACE), 5)


@pytest.mark.parametrize(
    ("extensions", "mechanisms", "lines"),
    [
        ([], set(), ()),
        (["AUTH LOGIN PLAIN"], {"LOGIN", "PLAIN"}, ()),
        (["AUTH PLAIN", "enhancedstatuscodes"], {"PLAIN"}, ("ENHANCEDSTATUSCODES",)),
        (["PIPELINING", "XCLIENT"], set(), ()),
    ],
)
def test_extensions_are_taken_apart(
    extensions: list[str], mechanisms: set[str], lines: tuple[str, ...]
) -> None:
    """momentum.md 3.3: one string may list several mechanisms."""
    users = {"uri": "file:///users"}
    made = policy(smtp_extensions=extensions, authplainparameters=users, authloginparameters=users)
    assert (set(made.passwords), made.extensions) == (mechanisms, lines)


@pytest.mark.parametrize(
    ("networks", "ip", "is_relay"),
    [
        (["192.0.2.0/24"], "192.0.2.9", True),
        (["192.0.2.0/24"], "192.0.3.9", False),
        (["192.0.2.9"], "192.0.2.9", True),
        (["192.0.2.1/24"], "192.0.2.9", True),
        (["2001:db8::/32"], "2001:db8::1", True),
        (["2001:db8::/32"], "192.0.2.9", False),
        (["fe80::/10"], "fe80::1%eth0", True),
        (["127.0.0.1"], None, True),
        ([], "127.0.0.1", False),
    ],
)
def test_relay_hosts_are_networks(networks: list[str], ip: str | None, is_relay: bool) -> None:
    assert policy(relay_hosts=networks).is_relay_host(ip) == is_relay


@pytest.mark.parametrize(
    ("patterns", "domain", "is_relay"),
    [
        (["a.b.c"], "a.b.c", True),
        (["A.B.C"], "a.b.c", True),
        (["*.b.c"], "a.b.c", True),
        (["*.c"], "a.b.c", True),
        (["*.a.b.c"], "a.b.c", False),
        (["b.c"], "a.b.c", False),
        (["*"], "a.b.c", True),
        ([], "a.b.c", False),
        (["*."], "a.", False),
    ],
)
def test_relay_domains_have_left_wildcards(patterns: list[str], domain: str, is_relay: bool) -> None:
    assert policy(relay_domains=patterns).is_relay_domain(domain) == is_relay


def test_the_contexts_mcmt_reception_overrides_the_option() -> None:
    """momentum.md 4.5."""
    assert policy().mcmt_reception == "passthru"
    assert policy(mcmt_reception="reject", context={"mcmt_reception": "Allow"}).mcmt_reception == "allow"


def test_always_allow_counts_as_authenticated() -> None:
    assert policy(enable_authentication=True).is_auth_required
    assert not policy(enable_authentication=True, always_allow=True).is_auth_required
