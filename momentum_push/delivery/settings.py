"""What the configuration says about one queue's way out, read once and kept until a reload.

`read_settings` is what start, reload and `check` call alike: it reads key and certificate files and
says what is wrong with them, and does no network I/O. A credential is read once per set of options:
a thousand domains that inherit one key share it, and its provider token.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from momentum_push.clock import Clock
from momentum_push.config import Config, Scope
from momentum_push.delivery.apns.connection import Connection, ConnectionOptions, Target
from momentum_push.delivery.apns.credential import (
    CertificateCredential,
    TokenCredential,
    load_credential,
    text_of,
)
from momentum_push.delivery.apns.tls import build_context
from momentum_push.delivery.proxy import read_proxy
from momentum_push.delivery.routes import Route, environment_of, parse_routes
from momentum_push.errors import Place, Problem
from momentum_push.message import LANES, Outcome, QueueKey
from momentum_push.message.push_types import PUSH_TYPES
from momentum_push.message.rules import Rules
from momentum_push.queues import RetryPolicy

__all__ = ["Limit", "PoolSettings", "SettingsReader"]

Credential = TokenCredential | CertificateCredential

_NO_LIMIT = 1 << 30
_LEAST_RATE = 6000
"""Messages a minute that a queue should be let through; less by its connections' wear is rarely meant."""

_TRUST_OPTIONS = (
    "apn_auth_key",
    "apn_key_id",
    "apn_team_id",
    "tls_certificate",
    "tls_key",
    "apn_topic",
    "apn_topics",
    "tls_verify",
    "allow_insecure_tls",
    "tls_ca",
    "tls_ciphers",
    "tls_protocols",
    "tlsv13_ciphersuites",
)


@dataclass(frozen=True, slots=True)
class Limit:
    """A throttle, by the name of the bucket that it shares."""

    identity: str
    count: int
    seconds: float


@dataclass(frozen=True, slots=True)
class PoolSettings:
    """Everything a pool goes by."""

    routes: tuple[Route, ...]
    """Where to, and through which proxy."""
    credential: Credential
    context: ssl.SSLContext
    options: ConnectionOptions
    retry: RetryPolicy
    clock: Clock
    trust: tuple[str, ...] = ()
    """The options that credential and context were made from."""
    default_topic: str = ""
    max_connections: int = 32
    max_connects_per_minute: int = 120
    throttle: Limit | None = None
    connect_throttle: Limit | None = None
    is_blackholed: bool = False
    """Everything is failed without an attempt (momentum.md 6.5)."""
    drops_unknown: bool = False
    dead_token_limit: int = 20
    """Points (percent) above the usual share of dead tokens at which they are doubted; 0: never."""
    is_suspended: bool = False
    avoid_s: float = 120.0
    """How long an address is avoided that failed, while there are others (`host_failure_retry`)."""
    delay_failures: int = 1
    """Failed connects in a row that hold the queue; 0: never (`mx_failures_to_delay`)."""
    delay_s: float = 900.0
    """Without a connection, until the queue is held; 0: never (`connect_timeout_to_delay`)."""
    collapse_waiting: bool = False
    weight: int = 1
    """`delivery_weight`: this queue's part of what a turn of the loop sends, beside others'."""

    @property
    def identity(self) -> tuple[object, ...]:
        """What a connection is made by: where it differs, old connections may not serve."""
        return (self.routes, self.credential.identity, self.trust, self.options)

    def connection(
        self,
        target: Target,
        conn_id: str,
        on_outcomes: Callable[[Connection, list[Outcome]], None],
        on_change: Callable[[Connection], None],
        chance: float = 1.0,
    ) -> Connection:
        """Return a connection to `target`, not yet open; `chance`, 0 to 1, staggers its end."""
        return Connection(
            target=target,
            context=self.context,
            credential=self.credential,
            options=self.options,
            clock=self.clock,
            on_outcomes=on_outcomes,
            on_change=on_change,
            conn_id=conn_id,
            chance=chance,
        )


class SettingsReader:
    """Reads the settings of queues from one configuration."""

    def __init__(
        self, config: Config, clock: Clock, on_mint: Callable[[str], None] = lambda key_id: None
    ) -> None:
        self._config = config
        self._clock = clock
        self._on_mint = on_mint
        self._trusted: dict[tuple[str, ...], tuple[Credential | None, ssl.SSLContext | None]] = {}
        self._problems: dict[tuple[str, ...], list[Problem]] = {}

    def read(self, key: QueueKey) -> tuple[PoolSettings | None, list[Problem]]:
        """Return the settings of a queue, None where an error stands in the way, and all problems."""
        scope = self._config.outbound(*key)
        place = scope.origin("routes") or scope.origin("delivery_method") or Place(str(self._config.path))
        routes, problems = parse_routes(scope["routes"], place)
        proxy, found = read_proxy(scope)
        problems += found + self._header_problems(scope)
        credential, context, found = self._trust(scope)
        problems = problems + found + _environment_problems(scope, credential, routes) + _wear_problems(scope)
        if not self._config.is_apn(key.domain):
            what = f'domain "{key.domain}" is not delivered to APNs'
            problems.append(Problem(place, what, 'configure it with delivery_method = "apn"'))
        is_broken = any(not problem.is_warning for problem in problems)
        if is_broken or credential is None or context is None:
            return None, problems
        settings = PoolSettings(
            routes=tuple(replace(route, proxy=proxy) for route in routes),
            credential=credential,
            context=context,
            options=_connection_options(scope),
            retry=_retry_policy(scope),
            clock=self._clock,
            trust=_trust_key(scope),
            default_topic=text_of(scope, "apn_topic") or credential.default_topic,
            max_connections=_limit(scope["max_outbound_connections"]),
            max_connects_per_minute=scope["max_connects_per_minute"] or _NO_LIMIT,
            throttle=self._throttle("outbound_throttle_messages", key),
            connect_throttle=self._throttle("outbound_throttle_connections", key),
            is_blackholed=scope["blackhole"] != "false",
            drops_unknown=scope["apn_unknown_outcome"] == "drop",
            dead_token_limit=scope["apn_dead_token_limit"],
            is_suspended=scope["suspend_delivery"],
            avoid_s=float(scope["host_failure_retry"]),
            delay_failures=scope["mx_failures_to_delay"],
            delay_s=float(scope["connect_timeout_to_delay"]),
            collapse_waiting=scope["collapse_waiting"],
            weight=scope["delivery_weight"],
        )
        return settings, problems

    def rules(self, key: QueueKey) -> Rules:
        """Return the rules by which messages for a queue are taken."""
        scope = self._config.outbound(*key)
        credential = self._trust(scope)[0]
        return Rules(
            default_topic=text_of(scope, "apn_topic") or (credential.default_topic if credential else ""),
            topics=frozenset(scope["apn_topics"]),
            push_type=scope["apn_push_type"],
            priority=scope["apn_priority"],
            expiry=scope["apn_expiry"],
            is_strict=scope["apn_strict_payload"],
            extra_push_types=frozenset(self._config.glob["apn_push_types"]),
        )

    def problems(self) -> list[Problem]:
        """Return what is wrong with any queue that the configuration names, each thing once."""
        found: dict[Problem, None] = {}
        for key in self.queues():
            found.update(dict.fromkeys(self.read(key)[1]))
        return list(found)

    def date_problems(self, now: float) -> list[Problem]:
        """Return what the dates of the certificates that were read call for by now, each thing once."""
        found: dict[Problem, None] = {}
        for key in self.queues():
            scope = self._config.outbound(*key)
            credential = self._trust(scope)[0]
            if isinstance(credential, CertificateCredential):
                found.update(dict.fromkeys(credential.date_problems(scope, now)))
        return list(found)

    def queues(self) -> list[QueueKey]:
        """Return the queues that the configuration names: apn domains by bindings."""
        domains = [domain for domain in self._config.domains() if self._config.is_apn(domain)]
        bindings = self._config.bindings()
        return [
            QueueKey(group, binding, domain)
            for domain in domains
            for group, names in bindings.items()
            for binding in names
        ]

    def _trust(self, scope: Scope) -> tuple[Credential | None, ssl.SSLContext | None, list[Problem]]:
        key = _trust_key(scope)
        if key in self._trusted:
            return *self._trusted[key], self._problems[key]
        credential, problems = load_credential(scope, self._clock.now(), self._on_mint)
        context, more = build_context(scope, credential)
        problems = problems + more
        if credential is not None and context is not None:  # what is wrong is said at each place where it is
            self._trusted[key] = (credential, context)
            self._problems[key] = problems
        return credential, context, problems

    def _header_problems(self, scope: Scope) -> list[Problem]:
        """Return defaults that would make Apple, or ourselves, refuse every message that goes by them."""
        found: list[Problem] = []
        if scope["apn_priority"] not in LANES:
            what = f"apn_priority cannot be {scope['apn_priority']}"
            found.append(Problem(_place(scope, "apn_priority"), what, "write 10, 5 or 1"))
        push_type = scope["apn_push_type"]
        if push_type and push_type not in PUSH_TYPES and push_type not in self._config.glob["apn_push_types"]:
            what = f'apn_push_type "{push_type}" is not known'
            fix = f"use one of {', '.join(PUSH_TYPES)}, or list it in apn_push_types"
            found.append(Problem(_place(scope, "apn_push_type"), what, fix))
        return found

    def _throttle(self, option: str, key: QueueKey) -> Limit | None:
        found = self._config.throttle(option, *key)
        if found is None:
            return None
        identity, rate = found
        return Limit(f"{option} of {identity}", rate.count, float(rate.seconds))


def _environment_problems(
    scope: Scope, credential: Credential | None, routes: Sequence[Route]
) -> list[Problem]:
    """Return an error for each route to the environment that a certificate is not good for.

    A key does not say where it is good; Apple does (`BadEnvironmentKeyIdInToken`).
    """
    if not isinstance(credential, CertificateCredential):
        return []
    hosts = dict.fromkeys(route.verify_name or route.host for route in routes)
    known = [(host, environment) for host in hosts if (environment := environment_of(host))]
    return credential.route_problems(scope, known)


def _wear_problems(scope: Scope) -> list[Problem]:
    """Warn where connections are worn out faster than new ones may be made."""
    each, connects = scope["max_deliveries_per_connection"], scope["max_connects_per_minute"]
    rate = each * connects
    if not 0 < rate < _LEAST_RATE:
        return []
    what = f"max_deliveries_per_connection = {each} with max_connects_per_minute = {connects}"
    what += f" lets through {rate} messages a minute"
    fix = "raise the first, or leave it out; Apple takes any number over one connection"
    return [Problem(_place(scope, "max_deliveries_per_connection"), what, fix, is_warning=True)]


def _place(scope: Scope, option: str) -> Place:
    return scope.origin(option) or Place("configuration")


def _trust_key(scope: Scope) -> tuple[str, ...]:
    """Return what decides about credential and TLS context, and nothing else."""
    return tuple(str(scope[option]) for option in _TRUST_OPTIONS)


def _limit(value: int) -> int:
    return value if value > 0 else _NO_LIMIT


def _connection_options(scope: Scope) -> ConnectionOptions:
    return ConnectionOptions(
        connect_timeout_s=float(scope["connect_timeout"]),
        response_timeout_s=scope["delivery_response_timeout"] / 1000,
        idle_timeout_s=float(scope["idle_timeout"]),
        ping_interval_s=float(scope["apn_ping_interval"]),
        max_streams=scope["max_streams_per_connection"],
        max_deliveries=scope["max_deliveries_per_connection"],
        max_age_s=float(scope["max_outbound_connection_age"]),
        auto_collapse=scope["auto_collapse"],
    )


def _retry_policy(scope: Scope) -> RetryPolicy:
    retries = scope["max_retries"]
    return RetryPolicy(
        retry_interval=scope["retry_interval"],
        max_retry_interval=scope["max_retry_interval"],
        max_retries=retries if isinstance(retries, int) else None,
        is_auto=retries == "auto",
        message_expiration=scope["message_expiration"],
        never_retry=scope["never_retry"],
        never_attempt_expired_messages=scope["never_attempt_expired_messages"],
    )
