"""Whether Apple believes a pool's credential: accusations, the suspension that follows, its probes.

    believed ──SUSPECT accusations in a row──► suspended ──probe after 1 s, 2 s, 4 s … 60 s──┐
        ▲                                         ▲  └── no answer that shows belief ◄───────┤
        └────────────── an answer that shows belief ─────────────────────────────────────────┘

Pure: the pool holds the queue for as long as is said here. Source: interfaces.md 2 ("Reasons").
"""

from __future__ import annotations

from momentum_push.delivery.breaker import DEAD_TOKENS
from momentum_push.delivery.plan import backoff

__all__ = ["SUSPECT", "Trust", "fix_for"]

SUSPECT = 3
"""Answers in a row that accuse the credential before its binding is suspended."""


class Trust:
    """The standing of one credential in one pool."""

    def __init__(self) -> None:
        self.reason = ""
        """Of the last accusation."""
        self._accusations = 0
        self._probes = 0

    def __repr__(self) -> str:
        return f"<Trust {'suspended' if self.is_suspended else 'believed'}, {self._accusations} accusations>"

    @property
    def is_suspended(self) -> bool:
        """Whether the credential is in doubt."""
        return self._accusations >= SUSPECT

    def accuse(self, count: int, reason: str) -> bool:
        """Note `count` accusations; return whether a suspension begins with them."""
        self.reason = reason
        was_suspended = self.is_suspended
        self._accusations += count
        return self.is_suspended and not was_suspended

    def believe(self) -> bool:
        """Note an answer that shows belief; return whether a suspension ends with it."""
        was_suspended = self.is_suspended
        self._accusations = self._probes = 0
        return was_suspended

    def next_probe(self) -> float:
        """Return the seconds until the next probing request; each call is one wait, longer every time."""
        self._probes += 1
        return backoff(self._probes, 1.0)


def fix_for(reason: str) -> str:
    """Return what an operator can do about an accusation."""
    return _FIXES.get(reason, _FIX)


_FIX = "check apn_auth_key, apn_key_id and apn_team_id, or tls_certificate and tls_key, of this domain"

_FIXES = {
    "bad certificate": "Apple cannot read tls_certificate; see whether it belongs to tls_key",
    "certificate expired": "renew tls_certificate; it has expired, or this machine's clock is wrong",
    "certificate required": "set tls_certificate and tls_key; the peer takes nobody without",
    "certificate revoked": "make a new certificate in Apple's developer account and set tls_certificate",
    "certificate unknown": "tls_certificate is not one of Apple's; see what file it names",
    "unknown ca": "tls_certificate was not issued by Apple; see what file it names",
    "unsupported certificate": "tls_certificate is of a kind that Apple does not take; make a new one",
    "BadCertificate": "renew tls_certificate; Apple no longer accepts it",
    "BadCertificateEnvironment": "tls_certificate is for the other environment; change it or routes",
    "BadEnvironmentKeyIdInToken": "apn_auth_key is for the other environment; change it or routes",
    "BadEnvironmentKeyInToken": "apn_auth_key is for the other environment; change it or routes",
    "ExpiredProviderToken": "set this machine's clock; Apple calls tokens expired that were made just now",
    "CannotCreateChannelConfig": "this app has as many channels as Apple allows; delete some",
    DEAD_TOKENS: "Apple calls very many tokens dead at once, probably tokens of the other environment or of "
    "another topic; compare routes (sandbox or production), apn_topic and the list of tokens. Until a "
    "notification is accepted no token is recorded as dead. Where they are dead: apn_dead_token_limit = 0",
    "FeatureNotEnabled": "enable broadcast for this app in Apple's developer account",
    "InvalidProviderToken": "check apn_auth_key, apn_key_id, apn_team_id and this machine's clock",
    "MissingProviderToken": "set apn_auth_key, apn_key_id and apn_team_id, or tls_certificate and tls_key",
    "TopicDisallowed": "apn_topic is not covered by this credential; correct it, or use another credential",
    "TooManyProviderTokenUpdates": "see who else uses this apn_auth_key, or this address",
    "TopicMismatch": "the channel belongs to another app; correct apn_topic, or use that app's credential",
    "UnrelatedKeyIdInToken": "apn_key_id belongs to another key family than this connection's first one",
}
