"""Provider tokens (apns.md 5.1): what is believed, what is not."""

import base64
import json
import time

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from hypothesis import given
from hypothesis import strategies as st

from momentum_push.simulator import ProviderKey, public_pem
from momentum_push.simulator.provider import read_authorization
from tests.helpers.apns import Key, provider_key


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Key:
    return provider_key(tmp_path_factory.mktemp("keys"))


def known(key: Key) -> dict[str, ProviderKey]:
    return {key.key_id: ProviderKey(key.key_id, key.team_id, public_pem(key.path))}


def part(values: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(values).encode()).rstrip(b"=").decode()


def test_a_token_of_pyjwt_is_read_and_verified(key: Key) -> None:
    for keys in ({}, known(key)):
        token = read_authorization(key.bearer(1_800_000_000), keys)
        assert token is not None
        assert (token.key.key_id, token.key.team_id) == (key.key_id, key.team_id)
        assert token.issued_at == 1_800_000_000


def test_a_der_signature_is_taken_too(key: Key) -> None:
    signed, _, raw = key.bearer().rpartition(".")
    both = base64.urlsafe_b64decode(raw + "==")
    der = encode_dss_signature(int.from_bytes(both[:32], "big"), int.from_bytes(both[32:], "big"))
    again = signed + "." + base64.urlsafe_b64encode(der).rstrip(b"=").decode()
    assert read_authorization(again, known(key)) is not None


def test_a_signature_of_another_key_is_refused_only_where_keys_are_known(key: Key, tmp_path: object) -> None:
    signed, _, signature = key.bearer().rpartition(".")
    forged = signed + "." + ("A" if signature[0] != "A" else "B") + signature[1:]
    assert read_authorization(forged, {}) is not None
    assert read_authorization(forged, known(key)) is None


def test_unknown_keys_and_wrong_teams_are_refused(key: Key) -> None:
    assert read_authorization(Key(key.path, "UNKNOWN000").bearer(), known(key)) is None
    assert read_authorization(Key(key.path, key.key_id, "OTHERTEAM0").bearer(), known(key)) is None


def test_every_departure_from_the_form_is_refused(key: Key) -> None:
    signatures = (key.bearer().removeprefix("bearer ").split(".") for _ in range(100))
    # One that begins with 0x30 looks like DER, which is taken too, whatever its length.
    head, claims, signature = next(parts for parts in signatures if not parts[2].startswith("M"))
    good = f"bearer {head}.{claims}.{signature}"
    now = int(time.time())
    for bad in (
        "",
        "bearer",
        good.replace("bearer", "Basic"),
        f"bearer {head}.{claims}",
        f"bearer {head}.{claims}.",
        f"bearer {head}.{claims}.{signature}=",
        f"bearer {head}.{claims}.{signature[:-4]}",
        f"bearer {part({'alg': 'none', 'kid': key.key_id})}.{claims}.{signature}",
        f"bearer {part({'alg': 'ES256'})}.{claims}.{signature}",
        f"bearer {part({'alg': 'ES256', 'kid': 'short'})}.{claims}.{signature}",
        f"bearer {head}.{part({'iss': 'TEAM123456'})}.{signature}",
        f"bearer {head}.{part({'iss': 'TEAM', 'iat': now})}.{signature}",
        f"bearer {head}.{part({'iss': 'TEAM123456', 'iat': 'now'})}.{signature}",
        f"bearer {head}.{part([])}.{signature}",
    ):
        assert read_authorization(bad, {}) is None, bad


def test_other_algorithms_are_refused(key: Key) -> None:
    token = jwt.encode({"iss": key.team_id, "iat": 1}, "s" * 64, "HS256", {"kid": key.key_id})
    assert read_authorization(f"bearer {token}", {}) is None


@given(st.text())
def test_rubbish_is_refused_quietly(text: str) -> None:
    assert read_authorization(f"bearer {text}.{text}.{text}", {}) is None
