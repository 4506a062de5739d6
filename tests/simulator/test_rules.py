"""The order of validation (apns.md 9.2): every rule alone, and of two faults the earlier one."""

import itertools
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from momentum_push.simulator.certificates import ProviderCertificate
from momentum_push.simulator.devices import Device, Devices, State
from momentum_push.simulator.provider import ProviderKey
from momentum_push.simulator.request import PUSH_TYPES, Peer, Policy, Request, Verdict, read_request
from momentum_push.simulator.rules import ORDERS, STEPS, judge
from tests.helpers.apns import Key, provider_key

NOW = 1_800_000_000.0
TOKEN = "ab" * 32
DEAD, EXPIRED, ELSEWHERE, OTHER_APP, BUSY = ("d1" * 32, "d2" * 32, "d3" * 32, "d4" * 32, "d5" * 32)


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Key:
    return provider_key(tmp_path_factory.mktemp("keys"))


def devices() -> Devices:
    rows = Devices(
        [
            Device(DEAD, state=State.DEAD, since=NOW - 60),
            Device(EXPIRED, state=State.EXPIRED, since=NOW - 30.5),
            Device(ELSEWHERE, environment="sandbox"),
            Device(OTHER_APP, topics=frozenset({"com.example.other"})),
            Device(BUSY, rate=1.0),
        ]
    )
    rows.is_over_rate(rows.find(BUSY), BUSY, NOW)
    return rows


def request(key: Key, **changes: Any) -> Request:
    values = {
        "path": f"/3/device/{TOKEN}",
        "authorization": key.bearer(NOW - 100),
        "topic": "com.example.news",
        "body": b'{"aps":{}}',
    }
    return Request(**(values | changes))


def verdict(
    given: Request, peer: Peer | None = None, policy: Policy | None = None, now: float = NOW
) -> Verdict:
    return judge(given, peer or Peer(), policy or Policy(), devices(), now)


def bound(key: Key) -> Peer:
    """A connection on which a push of this key was accepted long ago."""
    peer = Peer()
    assert verdict(request(key, authorization=key.bearer(NOW - 3000)), peer, now=NOW - 3000).status == 200
    return peer


# Each row: what is wrong with a request, and what is answered to it. Rows of one step share what they change.
FAULTS: list[tuple[str, dict[str, Any], int, str]] = [
    ("repeated_header", {"has_repeated_header": True}, 400, "DuplicateHeaders"),
    ("path", {"path": "/4/device/" + TOKEN}, 404, "BadPath"),
    ("method", {"method": "GET"}, 405, "MethodNotAllowed"),
    ("token_present", {"path": "/3/device/"}, 400, "MissingDeviceToken"),
    ("credential_present", {"authorization": None}, 403, "MissingProviderToken"),
    ("credential_form", {"authorization": "bearer a.b.c"}, 403, "InvalidProviderToken"),
    ("credential_age", {"age": 3601}, 403, "ExpiredProviderToken"),
    ("message_id", {"message_id": "4711"}, 400, "BadMessageId"),
    ("topic_present", {"topic": None}, 400, "MissingTopic"),
    ("topic_form", {"topic": "com example"}, 400, "BadTopic"),
    ("topic_covered", {"topic": "com.stranger.app"}, 400, "TopicDisallowed"),
    ("push_type", {"push_type": "shout"}, 400, "InvalidPushType"),
    ("priority", {"priority": "7"}, 400, "BadPriority"),
    ("expiration", {"expiration": "tomorrow"}, 400, "BadExpirationDate"),
    ("collapse_id", {"collapse_id": "é" * 33}, 400, "BadCollapseId"),
    ("payload_present", {"body": b""}, 400, "PayloadEmpty"),
    ("payload_size", {"body": b"x" * 4097}, 413, "PayloadTooLarge"),
    ("token_form", {"path": "/3/device/xyz"}, 400, "BadDeviceToken"),
    ("token_environment", {"path": "/3/device/" + ELSEWHERE}, 400, "BadDeviceToken"),
    ("token_topic", {"path": "/3/device/" + OTHER_APP}, 400, "DeviceTokenNotForTopic"),
    ("token_alive", {"path": "/3/device/" + DEAD}, 410, "Unregistered"),
    ("token_rate", {"path": "/3/device/" + BUSY}, 429, "TooManyRequests"),
]
POLICY = Policy(topics=frozenset({"com.example.news", "com.example.other", "com example"}))


def broken(key: Key, *changes: dict[str, Any]) -> Request:
    values: dict[str, Any] = {}
    for each in changes:
        values |= each
    age = values.pop("age", None)
    if age is not None:
        values["authorization"] = key.bearer(NOW - age)
    return request(key, **values)


@pytest.mark.parametrize(("step", "change", "status", "reason"), FAULTS, ids=[row[0] for row in FAULTS])
def test_each_rule_alone_decides(
    key: Key, step: str, change: dict[str, Any], status: int, reason: str
) -> None:
    answer = verdict(broken(key, change), policy=POLICY)
    assert (answer.status, answer.reason) == (status, reason)
    assert reason in STEPS[step].reasons


def test_a_request_without_fault_is_accepted(key: Key) -> None:
    assert verdict(request(key), policy=POLICY) == Verdict(200)


@pytest.mark.parametrize("profile", sorted(ORDERS))
def test_of_two_faults_the_earlier_in_the_order_decides(key: Key, profile: str) -> None:
    order = ORDERS[profile]
    policy = replace(POLICY, profile=profile)
    for one, two in itertools.combinations(FAULTS, 2):
        if one[1].keys() & two[1].keys() or {"age", "authorization"} <= one[1].keys() | two[1].keys():
            continue  # one request cannot have both
        first = min(one, two, key=lambda row: order.index(row[0]))
        answer = verdict(broken(key, one[1], two[1]), policy=policy)
        assert answer.reason == first[3], (profile, one[0], two[0])


def test_an_order_of_ones_own_is_obeyed(key: Key) -> None:
    both = broken(key, {"priority": "7"}, {"message_id": "4711"})
    assert verdict(both, policy=Policy(order=("priority", "message_id"))).reason == "BadPriority"
    assert verdict(both, policy=Policy(order=("message_id", "priority"))).reason == "BadMessageId"
    assert verdict(both, policy=Policy(order=())).reason == "BadMessageId"


def test_both_orders_hold_every_step() -> None:
    for order in ORDERS.values():
        assert sorted(order) == sorted(STEPS)


def test_a_dead_token_tells_since_when_in_milliseconds(key: Key) -> None:
    assert verdict(broken(key, {"path": "/3/device/" + DEAD})).timestamp == int((NOW - 60) * 1000)
    assert verdict(broken(key, {"path": "/3/device/" + EXPIRED.upper()})) == Verdict(
        410, "ExpiredToken", int((NOW - 30.5) * 1000)
    )


def test_a_token_lives_until_it_dies(key: Key) -> None:
    fresh = request(key, path="/3/device/" + DEAD)
    assert verdict(fresh, now=NOW - 61).status == 200
    assert verdict(fresh, now=NOW - 59).status == 410


@pytest.mark.parametrize("kind", sorted(PUSH_TYPES))
def test_every_push_type_of_the_table_is_known(key: Key, kind: str) -> None:
    size = 5120 if kind == "voip" else 4096
    assert verdict(request(key, push_type=kind, body=b"x" * size)).status == 200
    assert verdict(request(key, push_type=kind, body=b"x" * (size + 1))).status == 413


@pytest.mark.parametrize(
    ("push_type", "priority", "status"),
    [("background", "10", 400), ("background", "5", 200), ("background", None, 200), ("alert", "1", 200)],
)
def test_background_is_not_urgent(key: Key, push_type: str, priority: str | None, status: int) -> None:
    assert verdict(request(key, push_type=push_type, priority=priority)).status == status
    lax = Policy(is_background_10_bad=False)
    assert verdict(request(key, push_type=push_type, priority=priority), policy=lax).status == 200


class TestProviderToken:
    """apns.md 5."""

    def test_a_change_within_twenty_minutes_is_refused_and_poisons(self, key: Key) -> None:
        peer = Peer()
        old, new = request(key), request(key, authorization=key.bearer(NOW - 50))
        assert verdict(old, peer).status == 200
        assert verdict(new, peer, now=NOW + 1199) == Verdict(429, "TooManyProviderTokenUpdates")
        assert verdict(old, peer, now=NOW + 1200).reason == "TooManyProviderTokenUpdates"
        assert peer.token_changes == [NOW + 1199, NOW + 1200]

    def test_without_poison_the_old_token_goes_on(self, key: Key) -> None:
        peer, mild = Peer(), Policy(poisons=frozenset())
        old, new = request(key), request(key, authorization=key.bearer(NOW - 50))
        assert verdict(old, peer, mild).status == 200
        assert verdict(new, peer, mild, NOW + 60).status == 429
        assert verdict(new, peer, mild, NOW + 120).status == 429
        assert verdict(old, peer, mild, NOW + 180).status == 200

    def test_a_change_after_twenty_minutes_is_fine(self, key: Key) -> None:
        peer = Peer()
        assert verdict(request(key), peer).status == 200
        later = request(key, authorization=key.bearer(NOW + 1000))
        assert verdict(later, peer, now=NOW + 1200).status == 200
        assert peer.token_changes == [NOW + 1200]

    def test_an_expired_token_poisons_the_connection(self, key: Key) -> None:
        peer = Peer()
        assert verdict(request(key), peer).status == 200
        assert verdict(request(key), peer, now=NOW + 3501).reason == "ExpiredProviderToken"
        fresh = request(key, authorization=key.bearer(NOW + 3500))
        assert verdict(fresh, peer, now=NOW + 3502).reason == "ExpiredProviderToken"
        assert verdict(fresh, Peer(), now=NOW + 3502).status == 200

    def test_another_team_is_forbidden_on_a_bound_connection(self, key: Key) -> None:
        other = Key(key.path, "OTHERKEY00", "OTHERTEAM0")
        assert verdict(request(other), bound(key)) == Verdict(403, "Forbidden")
        policy = Policy(other_team_reason="InvalidProviderToken")
        assert verdict(request(other), bound(key), policy).reason == "InvalidProviderToken"

    def test_another_key_must_be_related(self, key: Key) -> None:
        other = Key(key.path, "OTHERKEY00")
        assert verdict(request(other), bound(key)) == Verdict(403, "UnrelatedKeyIdInToken")
        known = {
            key.key_id: ProviderKey(key.key_id, key.team_id, related=frozenset({"OTHERKEY00"})),
            "OTHERKEY00": ProviderKey("OTHERKEY00", key.team_id),
        }
        peer, policy = Peer(), Policy(keys=known)
        assert verdict(request(key), peer, policy).status == 200
        assert verdict(request(other), peer, policy, NOW + 1200).status == 200

    def test_a_key_of_the_other_environment_is_refused(self, key: Key) -> None:
        known = {key.key_id: ProviderKey(key.key_id, key.team_id, environment="sandbox")}
        assert verdict(request(key), policy=Policy(keys=known)).reason == "BadEnvironmentKeyInToken"
        documented = Policy(keys=known, wrong_environment_reason="BadEnvironmentKeyIdInToken")
        assert verdict(request(key), policy=documented).reason == "BadEnvironmentKeyIdInToken"
        assert verdict(request(key), policy=Policy(keys=known, environment="sandbox")).status == 200

    def test_a_topic_specific_key_has_its_topics_only(self, key: Key) -> None:
        known = {key.key_id: ProviderKey(key.key_id, key.team_id, topics=frozenset({"com.example.news"}))}
        policy = Policy(keys=known)
        assert verdict(request(key, topic="com.example.news.voip"), policy=policy).status == 200
        assert verdict(request(key, topic="com.example.sport"), policy=policy).reason == "TopicDisallowed"

    def test_the_token_is_proved_once_the_credential_rules_are_passed(self, key: Key) -> None:
        peer = Peer()
        verdict(request(key, path="/nowhere"), peer)
        verdict(request(key, authorization="bearer x"), peer)
        assert not peer.has_proved
        peer = Peer()
        verdict(request(key, message_id="4711"), peer)
        assert peer.has_proved
        assert peer.key is None

    def test_a_future_token_is_invalid(self, key: Key) -> None:
        assert verdict(request(key, authorization=key.bearer(NOW + 3601))).reason == "InvalidProviderToken"
        assert verdict(request(key, authorization=key.bearer(NOW + 30))).status == 200


class TestCertificate:
    """apns.md 1.4."""

    def peer(self, *topics: str) -> Peer:
        return Peer(ProviderCertificate(topics[0], topics, frozenset({"production"}), "ff"))

    def test_one_topic_needs_no_header_many_do(self, key: Key) -> None:
        plain = Request(path=f"/3/device/{TOKEN}", body=b"{}")
        assert verdict(plain, self.peer("com.example.news")).status == 200
        two = self.peer("com.example.news", "com.example.news.voip")
        assert verdict(plain, two).reason == "MissingTopic"

    def test_only_listed_topics_are_covered(self, key: Key) -> None:
        peer = self.peer("com.example.news", "com.example.news.voip")
        named = Request(path=f"/3/device/{TOKEN}", body=b"{}", topic="com.example.news.complication")
        assert verdict(named, peer).reason == "TopicDisallowed"
        assert verdict(replace(named, topic="com.example.news.voip"), peer).status == 200

    def test_the_provider_token_is_ignored_and_location_is_not_for_certificates(self) -> None:
        peer = self.peer("com.example.news")
        given = Request(path=f"/3/device/{TOKEN}", body=b"{}", authorization="bearer rubbish")
        assert verdict(given, peer).status == 200
        assert verdict(replace(given, push_type="location"), peer).reason == "InvalidPushType"


def test_repeated_headers_are_seen_in_the_block() -> None:
    once = ((b":method", b"POST"), (b"apns-topic", b"a"), (b"accept", b"x"), (b"accept", b"y"))
    assert not read_request(*zip(*once, strict=True)).has_repeated_header
    for name in (b"apns-topic", b"apns-something-new", b"authorization"):
        twice = (*once, (name, b"b"), (name, b"b"))
        assert read_request(*zip(*twice, strict=True)).has_repeated_header


@given(st.text(), st.text(), st.one_of(st.none(), st.text()), st.binary(max_size=10))
def test_whatever_comes_gets_a_verdict_of_the_table(
    path: str, bearer: str, text: str | None, body: bytes
) -> None:
    known = {reason for step in STEPS.values() for reason in step.reasons} | {""}
    given = Request(
        path=path,
        authorization=f"bearer {bearer}",
        message_id=text,
        topic=text,
        push_type=text,
        priority=text,
        expiration=text,
        collapse_id=text,
        body=body,
    )
    for order in ORDERS.values():
        assert verdict(given, policy=Policy(order=order)).reason in known
