"""Talking to APNs: one connection, from DNS answer to outcome.

Lives here: the wire (HTTP/2 without a socket), the asyncio and TLS shell around it, and credentials.
Not here: how many connections there are and which gets what (`delivery.pool`), what an answer means
(`message.reasons`), records and retries. Called by `delivery` and, for checks of the configuration,
by the daemon.

    credential ◄── provider_token, certificate      who we are
    tls                                             the context for it
    connection ──► wire ──► link ──► frames         what the peer allows; bytes
        │   │         ├───► request ──► headers     what goes out; HPACK
        │   │         └───► exchange ──► response   what comes back
        │   └────► liveness                         when silence is death
        └────────► failures                         why no connection came about, in words
"""

from momentum_push.delivery.apns.connection import (
    Connection,
    ConnectionOptions,
    ConnectionState,
    Target,
)
from momentum_push.delivery.apns.credential import (
    CertificateCredential,
    Credential,
    TokenCredential,
    load_credential,
)
from momentum_push.delivery.apns.failures import ConnectFailed
from momentum_push.delivery.apns.provider_token import ProviderKey

__all__ = [
    "CertificateCredential",
    "ConnectFailed",
    "Connection",
    "ConnectionOptions",
    "ConnectionState",
    "Credential",
    "ProviderKey",
    "Target",
    "TokenCredential",
    "load_credential",
]
