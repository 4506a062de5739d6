"""Provider tokens: what is signed, and when a connection changes its token (apns.md 5)."""

import base64

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from hypothesis import given
from hypothesis import strategies as st

from momentum_push.delivery.apns.provider_token import HeldToken, KeyFault, ProviderKey, slot_of
from tests.helpers.peer import apple_key, key_pem

KEY_ID, TEAM = "ABC1234567", "TEAM123456"
T0 = 1_800_000_000.0  # the start of a slot


def key() -> ProviderKey:
    return ProviderKey(apple_key(), KEY_ID, TEAM)


def test_pyjwt_verifies_our_token_and_it_says_what_apple_wants() -> None:
    token = key().token(int(T0))
    public = load_pem_private_key(apple_key(), None).public_key()
    claims = jwt.decode(
        token,
        public,
        algorithms=["ES256"],
        options={"verify_iat": False},  # type: ignore[arg-type]
    )
    assert claims == {"iss": TEAM, "iat": int(T0)}
    assert jwt.get_unverified_header(token) == {"alg": "ES256", "kid": KEY_ID}
    assert "=" not in token
    assert len(base64.urlsafe_b64decode(token.rsplit(".")[2] + "==")) == 64


def test_every_process_mints_the_same_token_for_a_slot() -> None:
    assert key().token(int(T0)) == key().token(int(T0))
    assert key().token(int(T0)) != key().token(int(T0) + 1800)


def test_a_token_is_signed_once_a_slot() -> None:
    signer = key()
    for second in range(0, 1800, 100):
        signer.take(T0 + second, 0.0)
    assert signer.mints == 1
    signer.take(T0 + 1800, 0.0)
    assert signer.mints == 2


@pytest.mark.parametrize(
    ("now", "slot"), [(T0, T0), (T0 + 0.5, T0), (T0 + 1799.9, T0), (T0 + 1800, T0 + 1800)]
)
def test_slots_are_half_hours(now: float, slot: float) -> None:
    assert slot_of(now) == slot


# taken at offset, asked at offset: issued at offset, or None for "replace the connection"
RULE = [
    (0, 0, 0),
    (0, 2999, 0),
    (0, 3000, 1800),
    (1799, 2999, 0),
    (1799, 3000, 0),  # 20 minutes and a second
    (1799, 3008, 0),
    (1799, 3009, 1800),
    (1800, 4799, 1800),
    (1800, 4800, 3600),
    (900, 7200, 7200),
    (900, 86_400, 86_400),
]


@pytest.mark.parametrize(("taken", "asked", "issued"), RULE)
def test_a_connection_changes_its_token_at_50_minutes(taken: int, asked: int, issued: int) -> None:
    signer = key()
    held = signer.renew(None, T0 + taken, float(taken))
    later = signer.renew(held, T0 + asked, float(asked))
    assert later is not None
    assert later.issued_at == T0 + issued
    assert later.value == b"bearer " + key().token(int(T0 + issued)).encode()
    if issued == 0:
        assert later is held


@pytest.mark.parametrize(
    ("jump", "lived", "is_usable"),
    [
        (-30.0, 0.0, True),  # NTP at work
        (-61.0, 0.0, False),  # set back
        (-3600.0, 100.0, False),
        (2400.0, 5.0, True),  # forward, but the token still looks young
        (7200.0, 5.0, False),  # forward: a change now would be the second within 20 minutes
        (7200.0, 1209.0, False),
        (7200.0, 1210.0, True),
        (1300.0, 1209.0, True),  # forward by little: it may be kept until 55 minutes
        (2100.0, 1209.0, False),
        (-50.0, 3001.0, True),
    ],
)
def test_a_clock_that_jumps_never_makes_two_changes_within_20_minutes(
    jump: float, lived: float, is_usable: bool
) -> None:
    signer = key()
    held = signer.take(T0 + 100, 50.0)
    found = signer.renew(held, T0 + 100 + lived + jump, 50.0 + lived)
    assert (found is not None) == is_usable


@given(
    start=st.floats(0, 1799.9),
    gaps=st.lists(st.floats(0.1, 4000), min_size=1, max_size=40),
)
def test_changes_are_20_minutes_apart_and_no_token_is_older_than_50(start: float, gaps: list[float]) -> None:
    signer = _Cheap()
    now = T0 + start
    held = signer.renew(None, now, now)
    changed = now
    for gap in gaps:
        now += gap
        found = signer.renew(held, now, now)
        assert found is not None
        assert 0 <= now - found.issued_at < 3010.0
        if found is not held:
            assert now - changed >= 1210
            changed, held = now, found


@given(st.lists(st.tuples(st.floats(0, 3000), st.floats(-5000, 5000)), max_size=30))
def test_with_a_clock_that_jumps_at_will_changes_stay_20_minutes_apart(
    steps: list[tuple[float, float]],
) -> None:
    signer = _Cheap()
    wall, monotonic = T0, 0.0
    held: HeldToken | None = None
    changed = -1e9
    for passed, jump in steps:
        wall, monotonic = wall + passed + jump, monotonic + passed
        found = signer.renew(held, wall, monotonic)
        if found is None:
            held, changed = None, -1e9  # a new connection
        elif found is not held:
            assert monotonic - changed >= 1210
            held, changed = found, monotonic


class _Cheap(ProviderKey):
    """Does not sign; the rule does not look at signatures."""

    def __init__(self) -> None:
        super().__init__(apple_key(), KEY_ID, TEAM)

    def _mint(self, issued_at: int) -> str:
        return str(issued_at)


def encrypted() -> bytes:
    return key_pem(load_pem_private_key(apple_key(), None), b"secret")


@pytest.mark.parametrize(
    ("pem", "key_id", "team", "option", "what"),
    [
        (b"", KEY_ID, TEAM, "apn_auth_key", "PEM"),
        (b"\x30\x82", KEY_ID, TEAM, "apn_auth_key", "PEM"),
        (apple_key()[:60], KEY_ID, TEAM, "apn_auth_key", "PEM"),
        (encrypted(), KEY_ID, TEAM, "apn_auth_key", "encrypted"),
        (key_pem(ec.generate_private_key(ec.SECP384R1())), KEY_ID, TEAM, "apn_auth_key", "P-256"),
        (key_pem(rsa.generate_private_key(65537, 2048)), KEY_ID, TEAM, "apn_auth_key", "P-256"),
        (apple_key(), "", TEAM, "apn_key_id", "missing"),
        (apple_key(), "short", TEAM, "apn_key_id", "10 letters"),
        (apple_key(), KEY_ID, "", "apn_team_id", "missing"),
        (apple_key(), KEY_ID, "TEAM 12345", "apn_team_id", "10 letters"),
    ],
)
def test_a_key_that_cannot_sign_is_refused_in_words(
    pem: bytes, key_id: str, team: str, option: str, what: str
) -> None:
    with pytest.raises(KeyFault) as caught:
        ProviderKey(pem, key_id, team)
    assert caught.value.option == option
    assert what in caught.value.what
    assert caught.value.fix


def test_the_key_does_not_show_in_its_repr() -> None:
    assert repr(key()) == f"<provider key {KEY_ID} of team {TEAM}, 0 tokens minted>"
