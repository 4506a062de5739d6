"""What APNs checks, and in which order: the table that the simulator's verdicts come from.

    Request + Peer (the connection's memory) + Policy + Devices + now  ──►  Verdict

The real order is not documented (apns.md 9.2), so it is data: `STEPS` names every check with the
reasons it may give, `ORDERS` lists the names of a profile in their order, and `Policy.order` takes any
such list. The first step that objects decides. Steps read; what a request leaves behind on its
connection (the JWT in use, the team it is bound to, the poison after an expired token) is written by
`judge` alone.

Decisions where apns.md leaves room: a poisoned connection repeats the reason that poisoned it, after
`ExpiredProviderToken` and after `TooManyProviderTokenUpdates`; another team is `Forbidden`; another
key of the same team is `UnrelatedKeyIdInToken` unless it is listed as related; a token from the future
by more than an hour is `InvalidProviderToken`; priority 10 with `background` is an error only when it
was said, not when it was left out. Broadcast paths are not served and answer `BadPath`.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from momentum_push.simulator.devices import Device, Devices, State
from momentum_push.simulator.provider import ProviderToken, read_authorization
from momentum_push.simulator.request import ACCEPTED, DEVICE_PATH, Peer, Policy, Request, Verdict

__all__ = ["ORDERS", "STEPS", "Step", "judge"]

_TOPIC = re.compile(r"[A-Za-z0-9][A-Za-z0-9._\-]{0,254}")
_HEX = re.compile(r"(?:[0-9A-Fa-f]{2})+")
_DIGITS = re.compile(r"[0-9]{1,18}")
_SUFFIXES = (
    ".voip-ptt",
    ".voip",
    ".complication",
    ".pushkit.fileprovider",
    ".location-query",
    ".push-type.liveactivity",
    ".push-type.widgets",
    ".push-type.controls",
)


@dataclass(slots=True)
class _Case:
    """One request before the bench; the JWT is read once, by the first step that needs it."""

    request: Request
    peer: Peer
    policy: Policy
    devices: Devices
    now: float
    credential: ProviderToken | None
    device: Device

    @property
    def uses_token(self) -> bool:
        return self.peer.certificate is None


Check = Callable[[_Case], Verdict | None]


class Step(NamedTuple):
    """A check: what it is called in an order, and every reason it may give."""

    name: str
    reasons: tuple[str, ...]
    check: Check


def judge(request: Request, peer: Peer, policy: Policy, devices: Devices, now: float) -> Verdict:
    """Decide on a request, and note on `peer` what the connection learned from it."""
    credential = _read_credential(request, peer, policy)
    case = _Case(request, peer, policy, devices, now, credential, devices.find(request.token))
    checks, proof = _checks(policy.order or ORDERS[policy.profile])
    verdict, place = ACCEPTED, len(checks)
    for number, check in enumerate(checks):
        objection = check(case)
        if objection is not None:
            verdict, place = objection, number
            break
    if verdict.reason in policy.poisons:
        peer.poison = verdict
    if case.credential is not None and place >= proof:
        peer.has_proved = True
        if verdict is ACCEPTED and peer.key is None:
            peer.key = case.credential.key
    _remember(case, verdict)
    return verdict


@lru_cache(maxsize=32)
def _checks(order: tuple[str, ...]) -> tuple[tuple[Check, ...], int]:
    """Return the checks of an order, and the place from which on the credential has been found good."""
    proof = max((place + 1 for place, name in enumerate(order) if name in _CREDENTIAL_STEPS), default=0)
    return tuple(STEPS[name].check for name in order), proof


def _read_credential(request: Request, peer: Peer, policy: Policy) -> ProviderToken | None:
    """Read the JWT, or remember it: the same one comes with every request for half an hour."""
    if peer.certificate is not None or request.authorization is None:
        return None
    if request.authorization == peer.authorization:
        return peer.credential
    return read_authorization(request.authorization, policy.keys)


def _remember(case: _Case, verdict: Verdict) -> None:
    given, peer = case.request.authorization, case.peer
    if not given or given == peer.last_seen or peer.certificate is not None:
        return
    if peer.last_seen:
        peer.token_changes.append(case.now)
    peer.last_seen = given
    if verdict.reason != "TooManyProviderTokenUpdates":
        peer.authorization, peer.credential, peer.changed_at = given, case.credential, case.now


def _repeated_header(case: _Case) -> Verdict | None:
    return Verdict(400, "DuplicateHeaders") if case.request.has_repeated_header else None


def _path(case: _Case) -> Verdict | None:
    path = case.request.path
    if path == DEVICE_PATH or (path.startswith(DEVICE_PATH + "/") and "/" not in case.request.token):
        return None
    return Verdict(404, "BadPath")


def _method(case: _Case) -> Verdict | None:
    return None if case.request.method == "POST" else Verdict(405, "MethodNotAllowed")


def _token_present(case: _Case) -> Verdict | None:
    return None if case.request.token else Verdict(400, "MissingDeviceToken")


def _credential_present(case: _Case) -> Verdict | None:
    if case.uses_token and not case.request.authorization:
        return Verdict(403, "MissingProviderToken")
    return None


def _credential_poison(case: _Case) -> Verdict | None:
    return case.peer.poison


def _credential_rate(case: _Case) -> Verdict | None:
    peer = case.peer
    is_change = case.uses_token and peer.authorization and case.request.authorization != peer.authorization
    if is_change and case.now - peer.changed_at < case.policy.token_change_s:
        return Verdict(429, "TooManyProviderTokenUpdates")
    return None


def _credential_form(case: _Case) -> Verdict | None:
    if not case.uses_token:
        return None
    credential = case.credential
    if credential is None or _age(credential, case) < -case.policy.token_life_s:
        return Verdict(403, "InvalidProviderToken")
    return None


def _credential_age(case: _Case) -> Verdict | None:
    credential = case.credential
    if credential is not None and _age(credential, case) > case.policy.token_life_s:
        return Verdict(403, "ExpiredProviderToken")
    return None


def _age(credential: ProviderToken, case: _Case) -> float:
    return case.now + case.policy.clock_offset_s - credential.issued_at


def _credential_environment(case: _Case) -> Verdict | None:
    credential = case.credential
    if credential is not None and credential.key.environment not in ("", case.policy.environment):
        return Verdict(403, case.policy.wrong_environment_reason)
    return None


def _credential_team(case: _Case) -> Verdict | None:
    bound, credential = case.peer.key, case.credential
    if bound is not None and credential is not None and credential.key.team_id != bound.team_id:
        return Verdict(403, case.policy.other_team_reason)
    return None


def _credential_family(case: _Case) -> Verdict | None:
    bound, credential = case.peer.key, case.credential
    if bound is None or credential is None or credential.key.key_id == bound.key_id:
        return None
    if credential.key.key_id in bound.related:
        return None
    return Verdict(403, "UnrelatedKeyIdInToken")


def _message_id(case: _Case) -> Verdict | None:
    given = case.request.message_id
    return Verdict(400, "BadMessageId") if given is not None and not case.request.sound_message_id else None


def _topic_present(case: _Case) -> Verdict | None:
    certificate = case.peer.certificate
    if case.request.topic or (certificate is not None and len(certificate.topics) == 1):
        return None
    return Verdict(400, "MissingTopic")


def _topic_form(case: _Case) -> Verdict | None:
    topic = case.request.topic
    return Verdict(400, "BadTopic") if topic and not _TOPIC.fullmatch(topic) else None


def _topic_covered(case: _Case) -> Verdict | None:
    topic, certificate = case.request.topic, case.peer.certificate
    if not topic:
        return None
    if certificate is not None:
        is_covered = topic in certificate.topics
    else:
        of_key = case.credential.key.topics if case.credential is not None else frozenset()
        is_covered = all(
            _base(topic) in some or topic in some for some in (case.policy.topics, of_key) if some
        )
    return None if is_covered else Verdict(400, "TopicDisallowed")


def _push_type(case: _Case) -> Verdict | None:
    kind = case.request.push_type
    if kind is None or (kind in case.policy.push_types and (case.uses_token or kind != "location")):
        return None
    return Verdict(400, "InvalidPushType")


def _priority(case: _Case) -> Verdict | None:
    priority = case.request.priority
    if priority is None or priority in ("5", "1"):
        return None
    is_background = case.policy.is_background_10_bad and case.request.push_type == "background"
    return None if priority == "10" and not is_background else Verdict(400, "BadPriority")


def _expiration(case: _Case) -> Verdict | None:
    expiration = case.request.expiration
    is_bad = expiration is not None and not _DIGITS.fullmatch(expiration)
    return Verdict(400, "BadExpirationDate") if is_bad else None


def _collapse_id(case: _Case) -> Verdict | None:
    given = case.request.collapse_id
    return Verdict(400, "BadCollapseId") if given is not None and len(given.encode()) > 64 else None


def _payload_present(case: _Case) -> Verdict | None:
    return None if case.request.body else Verdict(400, "PayloadEmpty")


def _payload_size(case: _Case) -> Verdict | None:
    policy = case.policy
    limit = policy.max_voip_payload if case.request.push_type == "voip" else policy.max_payload
    return Verdict(413, "PayloadTooLarge") if len(case.request.body) > limit else None


def _token_form(case: _Case) -> Verdict | None:
    return None if _HEX.fullmatch(case.request.token) else Verdict(400, "BadDeviceToken")


def _token_environment(case: _Case) -> Verdict | None:
    device = case.device
    return None if device.environment in ("", case.policy.environment) else Verdict(400, "BadDeviceToken")


def _token_topic(case: _Case) -> Verdict | None:
    device = case.device
    if not device.topics or _named_topic(case) in device.topics:
        return None
    return Verdict(400, "DeviceTokenNotForTopic")


def _token_alive(case: _Case) -> Verdict | None:
    device = case.device
    if device.state is State.LIVE or case.now < device.since:
        return None
    reason = "Unregistered" if device.state is State.DEAD else "ExpiredToken"
    return Verdict(410, reason, int(device.since * 1000))


def _token_rate(case: _Case) -> Verdict | None:
    if case.devices.is_over_rate(case.device, case.request.token, case.now):
        return Verdict(429, "TooManyRequests")
    return None


def _named_topic(case: _Case) -> str:
    certificate = case.peer.certificate
    return case.request.topic or (certificate.topics[0] if certificate and certificate.topics else "")


def _base(topic: str) -> str:
    for suffix in _SUFFIXES:
        if topic.endswith(suffix):
            return topic.removesuffix(suffix)
    return topic


_TABLE = (
    Step("repeated_header", ("DuplicateHeaders",), _repeated_header),
    Step("path", ("BadPath",), _path),
    Step("method", ("MethodNotAllowed",), _method),
    Step("token_present", ("MissingDeviceToken",), _token_present),
    Step("credential_present", ("MissingProviderToken",), _credential_present),
    Step("credential_poison", ("ExpiredProviderToken", "TooManyProviderTokenUpdates"), _credential_poison),
    Step("credential_rate", ("TooManyProviderTokenUpdates",), _credential_rate),
    Step("credential_form", ("InvalidProviderToken",), _credential_form),
    Step("credential_age", ("ExpiredProviderToken",), _credential_age),
    Step(
        "credential_environment",
        ("BadEnvironmentKeyInToken", "BadEnvironmentKeyIdInToken"),
        _credential_environment,
    ),
    Step("credential_team", ("Forbidden", "InvalidProviderToken"), _credential_team),
    Step("credential_family", ("UnrelatedKeyIdInToken",), _credential_family),
    Step("message_id", ("BadMessageId",), _message_id),
    Step("topic_present", ("MissingTopic",), _topic_present),
    Step("topic_form", ("BadTopic",), _topic_form),
    Step("topic_covered", ("TopicDisallowed",), _topic_covered),
    Step("push_type", ("InvalidPushType",), _push_type),
    Step("priority", ("BadPriority",), _priority),
    Step("expiration", ("BadExpirationDate",), _expiration),
    Step("collapse_id", ("BadCollapseId",), _collapse_id),
    Step("payload_present", ("PayloadEmpty",), _payload_present),
    Step("payload_size", ("PayloadTooLarge",), _payload_size),
    Step("token_form", ("BadDeviceToken",), _token_form),
    Step("token_environment", ("BadDeviceToken",), _token_environment),
    Step("token_topic", ("DeviceTokenNotForTopic",), _token_topic),
    Step("token_alive", ("Unregistered", "ExpiredToken"), _token_alive),
    Step("token_rate", ("TooManyRequests",), _token_rate),
)

STEPS: dict[str, Step] = {step.name: step for step in _TABLE}

_CREDENTIAL_STEPS = tuple(name for name in STEPS if name.startswith("credential_"))

ORDERS: dict[str, tuple[str, ...]] = {
    # apns.md 9.2: as it is thought to be.
    "apple": tuple(STEPS),
    # apns.md 9.2, last paragraph: the order of pushy's mock server; what it leaves out comes where it fits.
    "pushy": (
        "repeated_header",
        "message_id",
        "method",
        "topic_present",
        "topic_form",
        "topic_covered",
        "collapse_id",
        "priority",
        "expiration",
        "push_type",
        "path",
        "token_present",
        "token_form",
        "token_environment",
        "token_topic",
        "token_alive",
        "token_rate",
        *_CREDENTIAL_STEPS,
        "payload_present",
        "payload_size",
    ),
}
