"""Provider tokens as the simulator reads them: form, signature, and who they speak for (apns.md 5).

Not here: how old a token may be and how often it may change; those are rules (`rules`). Pure.
"""

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import load_pem_public_key

__all__ = ["ProviderKey", "ProviderToken", "read_authorization"]

_ID = re.compile(r"[A-Za-z0-9]{10}")
_RAW_SIGNATURE = 64
_DER_SEQUENCE = 0x30


@dataclass(frozen=True, slots=True)
class ProviderKey:
    """A key that the simulator knows.

    Attributes:
        pem: the public half, SubjectPublicKeyInfo; empty: signatures of this key are not checked.
        environment: `sandbox` or `production` for a key that is good in one of them only.
        topics: of a topic-specific key; empty: all topics of the team.
        related: key ids that may follow this one on a connection (apns.md 5.3).
    """

    key_id: str
    team_id: str
    pem: str = ""
    environment: str = ""
    topics: frozenset[str] = frozenset()
    related: frozenset[str] = frozenset()


class ProviderToken(NamedTuple):
    """A JWT that is in order; whether it is in time is not its own to say."""

    key: ProviderKey
    issued_at: float


class _Header(msgspec.Struct):
    alg: str
    kid: str


class _Claims(msgspec.Struct):
    iss: str
    iat: int | float


def read_authorization(value: str, keys: Mapping[str, ProviderKey]) -> ProviderToken | None:
    """Read `bearer JWT`; None when APNs would say `InvalidProviderToken`.

    Args:
        value: of the `authorization` header.
        keys: by key id; empty: every well-formed ES256 token is believed.
    """
    scheme, _, token = value.partition(" ")
    parts = token.split(".")
    if scheme.lower() != "bearer" or len(parts) != 3:
        return None
    try:
        header = msgspec.json.decode(_bytes(parts[0]), type=_Header)
        claims = msgspec.json.decode(_bytes(parts[1]), type=_Claims)
        signature = _bytes(parts[2])
    except (msgspec.MsgspecError, ValueError):
        return None
    if header.alg != "ES256" or not _ID.fullmatch(header.kid) or not _ID.fullmatch(claims.iss):
        return None
    key = keys.get(header.kid) if keys else ProviderKey(header.kid, claims.iss)
    if key is None or key.team_id != claims.iss:
        return None
    if not _is_signed(f"{parts[0]}.{parts[1]}".encode(), signature, key.pem):
        return None
    return ProviderToken(key, float(claims.iat))


def _bytes(text: str) -> bytes:
    if "=" in text:
        raise ValueError("JOSE base64 has no padding")
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)


def _is_signed(signed: bytes, signature: bytes, pem: str) -> bool:
    """Take raw r||s, and DER as Apple's own recipe makes it (apns.md 5.1)."""
    is_raw = len(signature) == _RAW_SIGNATURE
    if not is_raw and signature[:1] != bytes((_DER_SEQUENCE,)):
        return False
    if not pem:
        return True
    if is_raw:
        r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
        signature = encode_dss_signature(r, s)
    try:
        _public_key(pem).verify(signature, signed, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return False
    return True


@lru_cache(maxsize=64)
def _public_key(pem: str) -> ec.EllipticCurvePublicKey:
    key = load_pem_public_key(pem.encode())
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise TypeError("provider keys are elliptic curve keys")
    return key
