"""The TLS context towards APNs (apns.md 1.2, 1.3).

Lives here: from configuration to `ssl.SSLContext`, once per credential and set of options. Always
TLS 1.2 or later, ALPN h2, the server's chain *and name* verified, with certificates as with tokens.

- Trust is the system's set; `tls_ca` is added to it, never instead. Nothing is pinned: images with a
  hand-picked root broke at each of Apple's changes.
- `tls_verify` words of mail delivery (`ca`, `optional`) all mean `host`; only `no` together with
  `allow_insecure_tls` switches verification off. (`no` alone is warned about where the file is read.)
- `tls_ciphers = DEFAULT` is our list. Another list loses what HTTP/2 forbids (RFC 9113 appendix A:
  no ephemeral key, or no AEAD); if nothing is left, that is an error.
- `tlsv13_ciphersuites` is obeyed where Python's ssl can, and an error where it cannot.
"""

from __future__ import annotations

import re
import ssl

from momentum_push.delivery.apns.credential import CertificateCredential, Credential, Scope, text_of
from momentum_push.errors import Place, Problem

__all__ = ["build_context"]

CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
_VERSIONS = {"tlsv1.2": ssl.TLSVersion.TLSv1_2, "tlsv1.3": ssl.TLSVersion.TLSv1_3}
_OLD = frozenset(("sslv2", "sslv3", "tlsv1", "tlsv1.0", "tlsv1.1"))


def build_context(scope: Scope, credential: Credential | None) -> tuple[ssl.SSLContext | None, list[Problem]]:
    """Make the context for one (binding, domain).

    Args:
        scope: what is in effect there.
        credential: a certificate is presented to the server; anything else changes nothing.

    Returns:
        The context, None where an error stands in its way, and all problems with their places.
    """
    builder = _Builder(scope)
    builder.verification()
    builder.roots()
    builder.protocols()
    builder.ciphers()
    builder.ciphersuites()
    if isinstance(credential, CertificateCredential):
        builder.certificate(credential)
    has_error = any(not problem.is_warning for problem in builder.problems)
    return (None if has_error else builder.context), builder.problems


class _Builder:
    """Obeys one option a method; collects what is wrong."""

    def __init__(self, scope: Scope) -> None:
        self.problems: list[Problem] = []
        self._scope = scope
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # verifies chain and name
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.context.set_alpn_protocols(["h2"])
        self.context.options |= ssl.OP_NO_COMPRESSION

    def verification(self) -> None:
        if text_of(self._scope, "tls_verify").lower() == "no" and self._scope["allow_insecure_tls"]:
            self.context.check_hostname = False
            self.context.verify_mode = ssl.CERT_NONE

    def roots(self) -> None:
        self.context.load_default_certs(ssl.Purpose.SERVER_AUTH)
        path = text_of(self._scope, "tls_ca")
        if not path:
            return
        try:
            self.context.load_verify_locations(cafile=path)
        except ssl.SSLError:
            self._problem("tls_ca", f'tls_ca "{path}" holds no certificate in PEM form', "convert it to PEM")
        except OSError as error:
            cause = (error.strerror or str(error)).lower()
            self._problem(
                "tls_ca", f'tls_ca "{path}" cannot be read ({cause})', "check the path and its mode"
            )

    def protocols(self) -> None:
        """`+ALL`, or words with + and -: what is left of TLS 1.2 and 1.3."""
        allowed: set[ssl.TLSVersion] = set()
        for sign, word in re.findall(r"([+-]?)([^\s,:+-]+)", text_of(self._scope, "tls_protocols") or "+ALL"):
            name = word.lower()
            if name != "all" and name not in _VERSIONS and name not in _OLD:
                self._problem("tls_protocols", f'"{word}" is no TLS protocol', "use TLSv1.2, TLSv1.3 or ALL")
                return
            meant = (
                set(_VERSIONS.values())
                if name == "all"
                else {_VERSIONS[name]}
                if name in _VERSIONS
                else set()
            )
            allowed = allowed - meant if sign == "-" else allowed | meant
        if not allowed:
            self._problem("tls_protocols", "tls_protocols leaves neither TLS 1.2 nor 1.3", "use +ALL")
            return
        self.context.minimum_version, self.context.maximum_version = min(allowed), max(allowed)

    def ciphers(self) -> None:
        wanted = text_of(self._scope, "tls_ciphers")
        if not wanted or wanted.upper() == "DEFAULT":
            self.context.set_ciphers(CIPHERS)
            return
        try:
            self.context.set_ciphers(wanted)
        except ssl.SSLError:
            self._problem(
                "tls_ciphers", f'tls_ciphers "{wanted}" selects no cipher', "see openssl ciphers -v"
            )
            return
        listed = [entry for entry in self.context.get_ciphers() if entry["protocol"] != "TLSv1.3"]
        fit = [entry["name"] for entry in listed if _is_fit(entry["description"])]
        if not fit:
            what = f'tls_ciphers "{wanted}" selects only ciphers that HTTP/2 forbids'
            self._problem("tls_ciphers", what, "use DEFAULT, or add ECDHE ciphers with AES-GCM")
        elif len(fit) < len(listed):
            self.context.set_ciphers(":".join(fit))

    def ciphersuites(self) -> None:
        wanted = text_of(self._scope, "tlsv13_ciphersuites")
        if not wanted:
            return
        setter = getattr(self.context, "set_ciphersuites", None)
        if setter is None:
            self._problem(
                "tlsv13_ciphersuites",
                "tlsv13_ciphersuites cannot be set with this version of Python",
                "remove it; OpenSSL's list for TLS 1.3 is used",
            )
            return
        try:
            setter(wanted)
        except ssl.SSLError:
            what = f'tlsv13_ciphersuites "{wanted}" selects no cipher'
            self._problem("tlsv13_ciphersuites", what, "see openssl ciphers -v -tls1_3")

    def certificate(self, credential: CertificateCredential) -> None:
        # The files were read and checked when the credential was loaded; the password is named so that
        # OpenSSL never asks for one on a terminal.
        paths = credential.certificate_path, credential.key_path
        try:
            self.context.load_cert_chain(*paths, password="")
        except (OSError, ssl.SSLError) as error:
            cause = getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error)
            what = f'tls_certificate "{paths[0]}" cannot be used ({str(cause).lower().replace("_", " ")})'
            self._problem("tls_certificate", what, "check certificate, chain and key")

    def _problem(self, option: str, what: str, fix: str) -> None:
        place = self._scope.origin(option) or Place("configuration")
        self.problems.append(Problem(place, what, fix))


def _is_fit(description: str) -> bool:
    """Whether HTTP/2 allows a TLS 1.2 cipher: ephemeral key exchange, authenticated, AEAD."""
    has_ephemeral_key = re.search(r"Kx=(EC)?DH\b", description) is not None
    return has_ephemeral_key and "Mac=AEAD" in description and "Au=None" not in description
