"""What one client of an SMTP listener may do: its options, worked out once per peer scope.

Lives here: from an inbound scope (momentum.md 2.2, 3.2, 3.3) to a `Policy`, and the questions that
sessions ask it. Not here: sockets, and what the intake thinks of a message.

Who may send to whom (interfaces.md 2, Recipients): the recipient's domain must be delivered to APNs, and the
client must be one of: in `relay_hosts`; authenticated, or `always_allow`; sending to `relay_domains`;
anybody, with `open_relay`.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

from momentum_push.errors import Place, Problem
from momentum_push.injection.auth import PasswordFile, PasswordFiles, validate_passwords
from momentum_push.injection.sessions import Quota
from momentum_push.injection.sockets import validate_tls

__all__ = [
    "DEFAULT_MAX_MESSAGE_SIZE",
    "Policy",
    "Quota",
    "make_policy",
    "validate_policy",
    "warn_of_clear_passwords",
]

DEFAULT_MAX_MESSAGE_SIZE = 10 * 1024 * 1024
"""In place of Momentum's "no limit": memory is bounded. What is large in a mail is never the push part."""

MAX_RECIPIENTS = 100_000
"""In place of "no limit" for one message."""

PARAMETERS = {"PLAIN": "authplainparameters", "LOGIN": "authloginparameters"}
"""Mechanisms that we speak, and the options that name their users."""

_NO_IP = "127.0.0.1"
"""A client on a Unix socket counts as this host (momentum.md 3.5)."""


class View(Protocol):
    """What is asked of a configuration scope."""

    def __getitem__(self, option: str) -> Any: ...
    def origin(self, option: str) -> Place | None: ...


Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class Policy:
    """The options of one peer scope, in the form in which sessions need them."""

    hostname: str
    greeting: str
    """What follows `220 `."""
    is_denied: bool
    quotas: tuple[Quota, ...]
    idle_s: float
    """0: no limit."""
    max_message_size: int
    max_recipients: int
    max_recipients_per_connection: int
    """0: no limit; so for receptions."""
    max_receptions: int
    is_ehlo_required: bool
    is_auth_required: bool
    is_null_sender_welcome: bool
    sender_domain: str
    recipient_domain: str
    extensions: tuple[str, ...]
    """EHLO lines that are listed and need no more than that."""
    is_starttls_offered: bool
    passwords: Mapping[str, PasswordFile]
    """By mechanism; what is in it is offered."""
    mcmt_reception: str
    is_message_id_idempotent: bool
    context: Mapping[str, str]
    is_open_relay: bool
    is_always_allowed: bool
    relay_hosts: tuple[Network, ...]
    relay_domains: frozenset[str]

    def is_relay_host(self, ip: str | None) -> bool:
        """Whether a client's address is in `relay_hosts`; then it needs no authentication either."""
        if not self.relay_hosts:
            return False
        address = _address((ip or _NO_IP).partition("%")[0])
        return any(address in network for network in self.relay_hosts)

    def is_relay_domain(self, domain: str) -> bool:
        """Whether anybody may send to `domain` (lower case)."""
        return _matches(domain, self.relay_domains)


@lru_cache(maxsize=4096)  # a client sends many mails; to read its address costs more than to compare it
def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    return ipaddress.ip_address(text)


def _matches(domain: str, patterns: frozenset[str]) -> bool:
    """Look up a domain and its wildcards: a.b.c is matched by a.b.c, *.b.c and *.c."""
    if domain in patterns:
        return True
    while domain:
        domain = domain.partition(".")[2]
        if domain and f"*.{domain}" in patterns:
            return True
    return "*" in patterns


def make_policy(scope: View, passwords: PasswordFiles, hostname: str) -> Policy:
    """Work out the policy of a scope that `validate_policy` has passed; `hostname` is the host's own."""
    name = scope["banner_hostname"] or hostname
    context: dict[str, str] = dict(scope["context"])
    words = _words(scope["smtp_extensions"])
    mechanisms = [word for word in words if word in PARAMETERS]
    files = {mechanism: passwords.get(scope[PARAMETERS[mechanism]]) for mechanism in mechanisms}
    return Policy(
        hostname=name,
        greeting=scope["static_banner"][4:] or f"{name} ESMTP",
        is_denied=scope["always_deny"],
        quotas=tuple(
            Quota((option, scope.origin(option)), scope[option])
            for option in ("listener_sessions", "service_sessions")
            if scope[option]
        ),
        idle_s=scope["idle_time"],
        max_message_size=scope["max_message_size"] or DEFAULT_MAX_MESSAGE_SIZE,
        max_recipients=scope["max_recipients_per_message"]
        or scope["max_recipients_per_batch"]
        or MAX_RECIPIENTS,
        max_recipients_per_connection=scope["max_recipients_per_connection"],
        max_receptions=scope["max_receptions_per_connection"],
        is_ehlo_required=scope["require_ehlo"],
        is_auth_required=scope["enable_authentication"] and not scope["always_allow"],
        is_null_sender_welcome=scope["allow_null_envelope_sender"],
        sender_domain=scope["domain_for_unqualified_sender_address"],
        recipient_domain=scope["domain_for_unqualified_recipient_addresses"],
        extensions=tuple(word for word in words if word == "ENHANCEDSTATUSCODES"),
        is_starttls_offered="STARTTLS" in words and bool(scope["tls_certificate"]),
        passwords={mechanism: file for mechanism, file in files.items() if file is not None},
        mcmt_reception=context.get("mcmt_reception", scope["mcmt_reception"]).lower(),
        is_message_id_idempotent=scope["idempotent_message_id"],
        context=context,
        is_open_relay=scope["open_relay"],
        is_always_allowed=scope["always_allow"],
        relay_hosts=tuple(
            ipaddress.ip_network(cidr.strip("[]"), strict=False) for cidr in scope["relay_hosts"]
        ),
        relay_domains=frozenset(map(str.lower, scope["relay_domains"])),
    )


def _words(extensions: Iterable[str]) -> list[str]:
    """Take the entries of `smtp_extensions` apart: "AUTH LOGIN PLAIN" lists two mechanisms."""
    return [word for entry in extensions for word in entry.upper().split() if word != "AUTH"]


# Validation

_KNOWN = {"ENHANCEDSTATUSCODES", "STARTTLS", *PARAMETERS, "PIPELINING", "8BITMIME", "SIZE", "SMTPUTF8"}
_REWRITERS = {"XCLIENT", "XREMOTEIP", "XSETCONTEXT", "XSETCONTEXT2", "XDUMPCONTEXT"}


def validate_policy(scope: View) -> list[Problem]:
    """Say what is wrong with the options of an inbound scope of an `esmtp_listener`; no network I/O.

    What can be seen from one option alone, `config` has looked at.
    """
    problems = validate_tls(scope)
    words = _words(scope["smtp_extensions"])
    place = scope.origin("smtp_extensions") or Place("configuration")
    problems += [found for word in words for found in _judge_extension(scope, word, place)]
    if scope["enable_authentication"] and not PARAMETERS.keys() & set(words):
        fix = 'list "AUTH PLAIN" or "AUTH LOGIN" in smtp_extensions'
        what = "enable_authentication without a mechanism to authenticate with"
        problems.append(_problem(scope, "enable_authentication", what, fix))
    for option in ("inbound_throttle_messages", "inbound_throttle_connections"):
        if scope[option]:
            what = f"{option} is not obeyed yet"
            problems.append(_problem(scope, option, what, "take it out", is_warning=True))
    return problems


def warn_of_clear_passwords(scope: View) -> list[Problem]:
    """Say that passwords cross a network in clear text, for scopes of an address that is no loopback."""
    is_offered = not PARAMETERS.keys().isdisjoint(_words(scope["smtp_extensions"]))
    if not is_offered or scope["tls_certificate"]:
        return []
    what = "AUTH is offered without TLS, so passwords can be read on the way"
    return [_problem(scope, "smtp_extensions", what, "add tls_certificate and STARTTLS or use_ssl", True)]


def _problem(scope: View, option: str, what: str, fix: str, is_warning: bool = False) -> Problem:
    return Problem(scope.origin(option) or Place("configuration"), what, fix, is_warning)


def _judge_extension(scope: View, word: str, place: Place) -> list[Problem]:
    if word in PARAMETERS:
        option = PARAMETERS[word]
        if not scope[option]:
            return [
                Problem(place, f"AUTH {word} without {option}", 'say where users are: uri = "file:///path"')
            ]
        return validate_passwords(scope, option)
    if word == "STARTTLS" and not scope["tls_certificate"]:
        return [Problem(place, "STARTTLS without tls_certificate", "name the server's certificate")]
    if word in _KNOWN:
        return []
    if word in _REWRITERS:
        return [Problem(place, f"extension {word} is not supported; clients are not offered it", "", True)]
    return [Problem(place, f'extension "{word}" is not supported', "use PLAIN or LOGIN under TLS for AUTH")]
