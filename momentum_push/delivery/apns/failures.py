"""Why no connection came about, in words an operator can act on.

Lives here: the one translation of socket, TLS and HTTP/2 trouble while connecting into
`ConnectFailed`. `where` is `host:port (address)`.
"""

from __future__ import annotations

import errno
import os
import ssl

from momentum_push.errors import ConnectError

__all__ = [
    "STAGE_CONNECTING",
    "STAGE_READING",
    "STAGE_TLS",
    "ConnectFailed",
    "explain",
    "explain_break",
    "explain_loss",
    "explain_proxy",
]

STAGE_CONNECTING = 0
STAGE_READING = 9
STAGE_TLS = 17
"""Momentum's stage numbers (momentum.md 8.2)."""


class ConnectFailed(ConnectError):
    """No usable connection.

    Attributes:
        stage: how far it came; one of the STAGE_ numbers.
        reason: Apple's reason word or the TLS alert's name, where the peer said one; else empty.
        is_credential: a TLS alert refused our certificate. What a GOAWAY accuses, the reason table says.
    """

    def __init__(self, text: str, *, stage: int, reason: str = "", is_credential: bool = False) -> None:
        super().__init__(text)
        self.stage, self.reason, self.is_credential = stage, reason, is_credential


def explain(where: str, error: Exception) -> ConnectFailed:
    """Translate what `create_connection` raised."""
    if isinstance(error, ssl.SSLCertVerificationError):
        what = error.verify_message or "certificate verify failed"
        text = f"{where}: the server's certificate is not accepted ({what.rstrip('.')}); {_verify_fix(what)}"
        return ConnectFailed(text, stage=STAGE_TLS)
    if isinstance(error, ssl.SSLError):
        return _explain_tls(where, error)
    if isinstance(error, ConnectionAbortedError | ConnectionResetError):
        text = f"{where}: the peer closed the connection during the TLS handshake; {_PORT_FIX}"
        return ConnectFailed(text, stage=STAGE_TLS)
    number = error.errno if isinstance(error, OSError) and error.errno is not None else 0
    what = os.strerror(number).lower() if number > 0 else str(error) or type(error).__name__
    fix = _CONNECT_FIXES.get(number, "see routes, and whether this host may reach the Internet")
    return ConnectFailed(f"{where}: {what}; {fix}", stage=STAGE_CONNECTING)


def explain_loss(where: str, error: Exception | None) -> ConnectFailed:
    """Translate the loss of a connection that was through with TLS but had not heard SETTINGS yet."""
    if isinstance(error, ssl.SSLError):
        return _explain_tls(where, error)
    text = f"{where}: the peer closed the connection before it said anything; {_SILENT_FIX}"
    return ConnectFailed(text, stage=STAGE_READING)


def explain_break(where: str, error: Exception | None) -> ConnectFailed:
    """Translate the loss of a connection that was open; TLS 1.3 may refuse a certificate as late as that."""
    if isinstance(error, ssl.SSLError):
        return _explain_tls(where, error)
    what = f"connection lost: {error}" if error else "closed by the peer"
    return ConnectFailed(f"{where}: {what}; see the network if it happens often", stage=STAGE_READING)


def explain_proxy(where: str, error: OSError, is_connected: bool) -> ConnectFailed:
    """Translate what the socket to a proxy raised before the proxy had answered; `where` names the proxy."""
    if is_connected:
        what, fix = "it broke the connection instead of answering CONNECT", "see the proxy's log"
    else:
        number = error.errno or 0
        what = os.strerror(number).lower() if number > 0 else str(error)
        fix = _PROXY_FIXES.get(number) or _CONNECT_FIXES.get(number) or _PROXY_FIX
    return ConnectFailed(f"{where}: {what}; {fix}", stage=STAGE_CONNECTING)


def _explain_tls(where: str, error: ssl.SSLError) -> ConnectFailed:
    name = error.reason or str(error)
    alert = name.partition("_ALERT_")[2].lower().replace("_", " ")
    if "no application protocol" in alert:
        return no_http2(where, None)
    is_ours = "certificate" in alert or alert == "unknown ca"
    if is_ours:
        text = f"{where}: the peer refused our certificate ({alert}); see tls_certificate and tls_key"
    elif alert:
        text = f"{where}: the peer ended the TLS handshake ({alert}); see tls_protocols and tls_ciphers"
    else:
        words = name.lower().replace("_", " ")
        text = f"{where}: no TLS connection ({words}); {_PORT_FIX}"
    return ConnectFailed(text, stage=STAGE_TLS, reason=alert, is_credential=is_ours)


def no_http2(where: str, protocol: str | None) -> ConnectFailed:
    """Say that ALPN did not yield h2."""
    spoken = protocol or "HTTP/1.1"
    fix = "look for a proxy that opens TLS on the way"
    return ConnectFailed(f"{where}: the peer speaks {spoken}, not HTTP/2; {fix}", stage=STAGE_TLS)


_SILENT_FIX = "check the credential, and host and port in routes"
_PORT_FIX = "check host and port in routes"
_CONNECT_FIXES = {
    errno.ECONNREFUSED: _PORT_FIX,
    errno.ENETUNREACH: "this host has no route there; check its network",
    errno.EHOSTUNREACH: "check the network, and host and port in routes",
    errno.EACCES: "a local firewall forbids it",
    errno.ETIMEDOUT: "a firewall may drop port 443; Apple also listens on 2197",
    errno.EMFILE: "raise the limit of open files",
    errno.EADDRNOTAVAIL: "check the binding's source address",
}


_PROXY_FIX = "check host and port in proxy"
_PROXY_FIXES = {
    errno.ECONNREFUSED: f"see whether the proxy runs; {_PROXY_FIX}",
    errno.EHOSTUNREACH: f"check the network; {_PROXY_FIX}",
    errno.ETIMEDOUT: f"a firewall may stand before the proxy; {_PROXY_FIX}",
}


def _verify_fix(what: str) -> str:
    if "mismatch" in what:
        return "check the host in routes, or set ?verify_name="
    if "expired" in what or "not yet valid" in what:
        return "check this host's clock; otherwise the server's operator must renew it"
    return "install the system's CA certificates, or name the issuer in tls_ca"
