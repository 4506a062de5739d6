"""Who we are to Apple: a provider token's key, or a certificate (apns.md 1.4).

Lives here: the two kinds behind one seam, and their loading from the effective configuration of one
(binding, domain). A pool holds one credential and never mixes: a connection belongs to one team.

    apn_auth_key + apn_key_id + apn_team_id    a token in each request; all apps of the team
    tls_certificate (+ tls_key)                mutual TLS; the topics in the certificate

Where the configuration names both, both in effect for the same domain, that is an error: whichever
we took would be a guess, and Apple ignores the token where a certificate came. `none` switches an
inherited one off. A key inside `tls_certificate`'s own file needs no `tls_key`.
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from momentum_push.delivery.apns.certificate import Certificate, CertificateFault, read_certificate
from momentum_push.delivery.apns.provider_token import HeldToken, KeyFault, ProviderKey
from momentum_push.errors import Place, Problem

__all__ = ["CertificateCredential", "Credential", "Scope", "TokenCredential", "load_credential"]

_CERTIFICATE_HELD = HeldToken(b"", 0, 0.0, 0.0)
SECRETS = ("apn_auth_key", "tls_key")


class Scope(Protocol):
    """The effective view of one (binding, domain); `config.Scope` is one."""

    def __getitem__(self, option: str) -> Any:
        """The option's value, or its default."""

    def origin(self, option: str) -> Place | None:
        """Where the value was written; None: nowhere."""


class Credential(Protocol):
    """What pools and connections know of a credential."""

    identity: str
    """Pools with different ones never share a connection; suspension goes by it."""
    is_token: bool
    default_topic: str
    """The topic where neither message nor configuration names one; empty: there is none."""

    def authorize(self, held: HeldToken | None, now: float, monotonic: float) -> HeldToken | None:
        """Return what a connection sends as `authorization`, by what it holds; None: replace it."""


class TokenCredential:
    """A signing key; each connection holds a token of its own (apns.md 5.5)."""

    is_token = True
    default_topic = ""

    def __init__(self, key: ProviderKey, on_mint: Callable[[str], None] = lambda key_id: None) -> None:
        """Wrap a key; `on_mint(key_id)` is called for each token signed."""
        self.key = key
        self.identity = f"key {key.key_id} of team {key.team_id}"
        self.on_mint = on_mint

    def authorize(self, held: HeldToken | None, now: float, monotonic: float) -> HeldToken | None:
        before = self.key.mints
        token = self.key.renew(held, now, monotonic)
        if self.key.mints != before:
            self.on_mint(self.key.key_id)
        return token

    def __repr__(self) -> str:
        return f"<{self.identity}>"


class CertificateCredential:
    """A client certificate; requests carry nothing."""

    is_token = False

    def __init__(self, certificate: Certificate, certificate_path: str, key_path: str) -> None:
        self.certificate = certificate
        self.certificate_path, self.key_path = certificate_path, key_path
        self.identity = f"certificate {certificate.fingerprint}"
        self.default_topic = certificate.default_topic

    def authorize(self, held: HeldToken | None, now: float, monotonic: float) -> HeldToken | None:
        return _CERTIFICATE_HELD

    def date_problems(self, scope: Scope, now: float) -> list[Problem]:
        """Return what its dates call for: a warning 30 days ahead, an error when it has expired."""
        what, fix, is_error = self.certificate.complaint(now)
        what = f'tls_certificate "{self.certificate_path}" {what}' if what else ""
        return [Problem(place_of(scope, "tls_certificate"), what, fix, not is_error)] if what else []

    def route_problems(self, scope: Scope, hosts: Iterable[tuple[str, str]]) -> list[Problem]:
        """Return an error for each host of the environment that it is not good for (apns.md 1.4).

        Args:
            hosts: (host, `production` or `development`).
        """
        own = self.certificate.environment.value
        return [
            Problem(
                place_of(scope, "tls_certificate"),
                f'tls_certificate "{self.certificate_path}" is for {own} and cannot be used with {host}',
                f"use a certificate for {environment}, or the routes of {own}",
            )
            for host, environment in hosts
            if not self.certificate.serves(environment)
        ]

    def __repr__(self) -> str:
        return f"<{self.identity} for {self.default_topic or 'no topic'}>"


def place_of(scope: Scope, option: str) -> Place:
    """Return where an option stands, or the nearest thing to it."""
    return scope.origin(option) or scope.origin("delivery_method") or Place("configuration")


def text_of(scope: Scope, option: str) -> str:
    """Return a text option, empty where it is unset or switched off with `none`."""
    value = scope[option]
    text = "" if value is None else str(value).strip()
    return "" if text.lower() == "none" else text


def load_credential(
    scope: Scope, now: float, on_mint: Callable[[str], None] = lambda key_id: None
) -> tuple[TokenCredential | CertificateCredential | None, list[Problem]]:
    """Read the files that the configuration names, and check them.

    Args:
        scope: what is in effect for one (binding, domain).
        now: epoch seconds, for the certificate's dates.
        on_mint: called with the key id for each token signed.

    Returns:
        The credential, None where there is none to use, and all that is wrong (or, as warnings,
        doubtful) with it.
    """
    loader = _Loader(scope, now)
    names_key, names_certificate = text_of(scope, "apn_auth_key"), text_of(scope, "tls_certificate")
    if names_key and names_certificate:
        fix = "keep one, and switch an inherited one off with none"
        loader.problem("apn_auth_key", "both apn_auth_key and tls_certificate are set for this domain", fix)
    elif names_key:
        key = loader.load_key(names_key)
        return (None if key is None else TokenCredential(key, on_mint)), loader.problems
    elif names_certificate:
        return loader.load_certificate(names_certificate), loader.problems
    else:
        fix = "set apn_auth_key, apn_key_id and apn_team_id, or tls_certificate and tls_key"
        loader.problem("delivery_method", "there is no credential for Apple", fix)
    return None, loader.problems


@dataclass
class _Loader:
    """Reads files for one scope and collects what is wrong."""

    scope: Scope
    now: float

    def __post_init__(self) -> None:
        self.problems: list[Problem] = []

    def problem(self, option: str, what: str, fix: str = "") -> None:
        self.problems.append(Problem(place_of(self.scope, option), what, fix))

    def load_key(self, path: str) -> ProviderKey | None:
        pem = self._read("apn_auth_key", path, is_secret=True)
        if pem is None:
            return None
        try:
            return ProviderKey(pem, text_of(self.scope, "apn_key_id"), text_of(self.scope, "apn_team_id"))
        except KeyFault as fault:
            named = f'{fault.option} "{path}": ' if fault.option == "apn_auth_key" else ""
            self.problem(fault.option if not named else "apn_auth_key", named + fault.what, fault.fix)
            return None

    def load_certificate(self, path: str) -> CertificateCredential | None:
        key_path = text_of(self.scope, "tls_key") or path
        pem = self._read("tls_certificate", path, is_secret=key_path == path)
        key_pem = pem if key_path == path else self._read("tls_key", key_path, is_secret=True)
        if pem is None or key_pem is None:
            return None
        try:
            certificate = read_certificate(pem, key_pem)
        except CertificateFault as fault:
            named = key_path if fault.option == "tls_key" else path
            self.problem(fault.option, f'{fault.option} "{named}": {fault.what}', fault.fix)
            return None
        credential = CertificateCredential(certificate, path, key_path)
        self.problems += credential.date_problems(self.scope, self.now)
        self._check_topics(certificate, path)
        return credential

    def _check_topics(self, certificate: Certificate, path: str) -> None:
        wanted = [("apn_topic", text_of(self.scope, "apn_topic"))]
        wanted += [("apn_topics", str(topic)) for topic in self.scope["apn_topics"] or ()]
        for option, topic in wanted:
            if topic and certificate.topics and topic not in certificate.topics:
                what = f'{option} "{topic}" is not in the certificate "{path}"'
                self.problem(option, what, f"it lists {', '.join(certificate.topics)}")

    def _read(self, option: str, path: str, is_secret: bool) -> bytes | None:
        """Read a file whole; a secret that others may read is as bad as none."""
        try:
            with Path(path).open("rb") as file:
                mode = stat.S_IMODE(Path(path).stat().st_mode)
                content = file.read(1 << 20)
        except OSError as error:
            cause = (error.strerror or str(error)).lower()
            self.problem(option, f'{option} "{path}" cannot be read ({cause})', _read_fix(error))
            return None
        if is_secret and mode & stat.S_IRWXO:
            what = f'{option} "{path}" can be read by everybody (mode {mode:04o})'
            self.problem(option, what, f"chmod o= {path}")
            return None
        return content


def _read_fix(error: OSError) -> str:
    if isinstance(error, PermissionError):
        return "make it readable for the daemon's user"
    return "check the path" if isinstance(error, FileNotFoundError) else "see the system's log"
