"""Why no connection came about: one line each, with what to do."""

from __future__ import annotations

import errno
import ssl

import pytest

from momentum_push.delivery.apns.failures import explain, explain_loss

WHERE = "api.push.apple.com:443 (17.188.0.1)"


def tls(reason: str) -> ssl.SSLError:
    error = ssl.SSLError(1, f"[SSL: {reason}] {reason.lower()} (_ssl.c:1000)")
    error.reason = reason
    return error


@pytest.mark.parametrize(
    ("error", "words", "stage", "is_credential"),
    [
        (OSError(errno.ECONNREFUSED, "x"), "connection refused; check host and port", 0, False),
        (OSError(errno.ENETUNREACH, "x"), "network is unreachable", 0, False),
        (OSError(errno.EHOSTUNREACH, "x"), "no route to host", 0, False),
        (OSError("Multiple exceptions"), "Multiple exceptions", 0, False),
        (OSError(), "OSError", 0, False),
        (ConnectionResetError(errno.ECONNRESET, "x"), "during the TLS handshake", 17, False),
        (ConnectionAbortedError("slow"), "during the TLS handshake", 17, False),
        (tls("SSLV3_ALERT_CERTIFICATE_EXPIRED"), "refused our certificate (certificate expired)", 17, True),
        (tls("SSLV3_ALERT_BAD_CERTIFICATE"), "refused our certificate (bad certificate)", 17, True),
        (tls("TLSV1_ALERT_UNKNOWN_CA"), "refused our certificate (unknown ca)", 17, True),
        (tls("TLSV13_ALERT_CERTIFICATE_REQUIRED"), "certificate required", 17, True),
        (tls("SSLV3_ALERT_HANDSHAKE_FAILURE"), "(handshake failure); see tls_protocols", 17, False),
        (tls("TLSV1_ALERT_NO_APPLICATION_PROTOCOL"), "not HTTP/2", 17, False),
        (tls("WRONG_VERSION_NUMBER"), "no TLS connection (wrong version number)", 17, False),
    ],
)
def test_each_failure_says_where_what_and_how_to_fix_it(
    error: OSError, words: str, stage: int, is_credential: bool
) -> None:
    failure = explain(WHERE, error)
    text = str(failure)
    assert text.startswith(f"{WHERE}: ")
    assert words in text
    assert "; " in text
    assert (failure.stage, failure.is_credential) == (stage, is_credential)


def test_a_loss_after_tls_may_be_a_late_alert() -> None:
    assert explain_loss(WHERE, tls("TLSV1_ALERT_UNKNOWN_CA")).is_credential
    assert "before it said anything" in str(explain_loss(WHERE, None))
    assert "before it said anything" in str(explain_loss(WHERE, ConnectionResetError()))
