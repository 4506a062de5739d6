"""Provider tokens: signed statements "this is team X", good for an hour (apns.md 5).

Lives here: reading the key, making a token, and the rule when a connection changes its token. Pure.

The rule (apns.md 5.5, first form):

    iat = now // 1800 * 1800          every process and node mints the same token for a half-hour slot,
                                      because the signature is deterministic (RFC 6979) as well
    a connection keeps its token      until the token is 50 minutes old, then it takes the current slot's

      slot  ├────── 30 min ──────┤────── 30 min ──────┤
      token │iat                                │50 min: change
      taken └─ any time in here ─┘              └─ 20 min into the next slot at the earliest

So two changes are never less than 20 minutes apart, no token is older than 50 minutes, and never are
more than two alive. Twenty minutes here may be a little less at Apple: our clock may run fast, and the
first request may have been on its way for longer than the one that brings the change. So MARGIN_S are
added, and a token that was taken in the last seconds of its slot gets that much older. A clock that
jumps breaks the arithmetic; then the connection is to be replaced
(`renew` returns None), because only a new connection may change its token at will.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import load_pem_private_key

__all__ = ["SLOT_S", "HeldToken", "KeyFault", "ProviderKey", "slot_of"]

SLOT_S = 1800
MAX_AGE_S = 3000
"""Age at which a connection changes its token; Apple refuses those over 3,600."""
MIN_CHANGE_S = 1200
"""Apple's shortest time between two tokens on one connection."""
MARGIN_S = 10
"""Added to that: what drift of a clock and delays on the way may take off again."""
LAST_AGE_S = 3300
"""Age at which a token is not used any more though its connection may not change it yet."""
SKEW_S = 60
"""A clock that is set back by less is a clock that is being kept right."""
ID_LENGTH = 10


class KeyFault(ValueError):
    """The key or its ids cannot be used; the text says why, `option` names the option at fault."""

    def __init__(self, option: str, what: str, fix: str) -> None:
        super().__init__(f"{what}; {fix}")
        self.option, self.what, self.fix = option, what, fix


@dataclass(frozen=True, slots=True)
class HeldToken:
    """The token that one connection uses, and since when."""

    value: bytes
    """The `authorization` field: `bearer <jwt>`; empty with a certificate."""
    issued_at: int
    """Its `iat`, epoch seconds."""
    taken_at: float
    """Wall clock, epoch seconds."""
    taken_monotonic: float
    """The same moment on the clock that does not jump."""


def slot_of(now: float) -> int:
    """Return the `iat` of the half-hour slot that `now` (epoch seconds) lies in."""
    return int(now // SLOT_S) * SLOT_S


class ProviderKey:
    """A signing key with its two ids; keeps the token of the last slot it was asked for."""

    def __init__(self, pem: bytes, key_id: str, team_id: str) -> None:
        """Read a key.

        Args:
            pem: the `.p8` file's bytes (PKCS#8, P-256, not encrypted).
            key_id, team_id: 10 letters and digits each.

        Raises:
            KeyFault: with the option at fault.
        """
        _check_id("apn_key_id", key_id)
        _check_id("apn_team_id", team_id)
        self._key = _read_key(pem)
        self.key_id, self.team_id = key_id, team_id
        self.mints = 0
        """Tokens signed so far."""
        self._issued_at = -1
        self._token = ""

    def token(self, issued_at: int) -> str:
        """Return the token of a slot; signed once a slot."""
        if issued_at != self._issued_at:
            self._token, self._issued_at = self._mint(issued_at), issued_at
            self.mints += 1
        return self._token

    def take(self, now: float, monotonic: float) -> HeldToken:
        """Return the current slot's token for a connection that has none."""
        issued_at = slot_of(now)
        return HeldToken(b"bearer " + self.token(issued_at).encode(), issued_at, now, monotonic)

    def renew(self, held: HeldToken | None, now: float, monotonic: float) -> HeldToken | None:
        """Return the token a connection is to use now: mostly the one it holds.

        Args:
            held: what the connection holds; None: it has sent nothing yet.
            now: wall clock, epoch seconds.
            monotonic: seconds on a clock that does not jump.

        Returns:
            None: a clock jumped; the connection must not send again and is to be replaced.
        """
        if held is None:
            return self.take(now, monotonic)
        if now < held.taken_at - SKEW_S:
            return None
        lived = monotonic - held.taken_monotonic
        age = max(now - held.taken_at, lived) + held.taken_at - held.issued_at
        if age < MAX_AGE_S:
            return held
        if lived < MIN_CHANGE_S + MARGIN_S:
            return held if age < LAST_AGE_S else None
        fresh = self.take(now, monotonic)
        return fresh if fresh.issued_at > held.issued_at else None

    def _mint(self, issued_at: int) -> str:
        head = _encode({"alg": "ES256", "kid": self.key_id})
        claims = _encode({"iss": self.team_id, "iat": issued_at})
        signed = head + b"." + claims
        signature = self._key.sign(signed, ec.ECDSA(hashes.SHA256(), deterministic_signing=True))
        r, s = decode_dss_signature(signature)
        return (signed + b"." + _base64url(r.to_bytes(32) + s.to_bytes(32))).decode()

    def __repr__(self) -> str:
        return f"<provider key {self.key_id} of team {self.team_id}, {self.mints} tokens minted>"


def _encode(value: Mapping[str, str | int]) -> bytes:
    return _base64url(json.dumps(value, separators=(",", ":")).encode())


def _base64url(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def _check_id(option: str, text: str) -> None:
    if not text:
        raise KeyFault(option, f"{option} is missing", f"set {option} beside apn_auth_key")
    if len(text) != ID_LENGTH or not (text.isascii() and text.isalnum()):
        what = f'{option} "{text[:40]}" is not {ID_LENGTH} letters and digits'
        raise KeyFault(option, what, "copy it from Apple's developer account")


def _read_key(pem: bytes) -> ec.EllipticCurvePrivateKey:
    fix = "use the .p8 file as Apple gave it"
    try:
        key = load_pem_private_key(pem, password=None)
    except TypeError:
        raise KeyFault("apn_auth_key", "the key is encrypted", "remove its passphrase") from None
    except (ValueError, UnsupportedAlgorithm):
        raise KeyFault("apn_auth_key", "this is no private key in PEM form", fix) from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise KeyFault("apn_auth_key", "the key is not an elliptic one of curve P-256", fix)
    return key
