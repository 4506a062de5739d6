"""DELETE /v1/notifications: what is asked for reaches the intake, and its word the client."""

from __future__ import annotations

import asyncio

import pytest

from momentum_push.errors import SpoolError
from momentum_push.message import Cancel, Cancelled
from momentum_push.message.ids import format_mid
from tests.helpers.http import DOMAIN, TOKEN, FakeListen, HttpDoor, Reply, http_door

PATH = "/v1/notifications"
MID = format_mid(123456789)


def delete(
    path: str, cancelled: Cancelled | Exception = Cancelled(1, 0), **options: bool
) -> tuple[Reply, HttpDoor]:
    async def run() -> tuple[Reply, HttpDoor]:
        async with http_door(FakeListen(**options)) as door:
            if isinstance(cancelled, Exception):
                door.intake.failure = cancelled
            else:
                door.intake.cancelled = cancelled
            return await door.get(path, method="DELETE"), door

    return asyncio.run(run())


@pytest.mark.parametrize("mid", [MID, MID.replace("/", "%2F"), MID.lower()])
def test_a_message_id_in_the_path_names_one_message(mid: str) -> None:
    reply, door = delete(f"{PATH}/{mid}")
    assert (reply.status, reply.json) == (200, {"cancelled": 1, "on_their_way": 0})
    assert door.intake.wishes == [Cancel(sequence=123456789)]


def test_a_collapse_id_names_all_of_a_domain_or_of_one_device() -> None:
    query = f"?domain={DOMAIN}&collapse_id=ferry%2017"
    assert delete(PATH + query)[1].intake.wishes == [Cancel(domain=DOMAIN, collapse_id="ferry 17")]
    wishes = delete(f"{PATH}{query}&device_token={TOKEN.upper()}")[1].intake.wishes
    assert wishes == [Cancel(domain=DOMAIN, collapse_id="ferry 17", token=TOKEN)]


@pytest.mark.parametrize(
    ("path", "error"),
    [
        (f"{PATH}/00{MID[2:]}", "BadMessageId"),
        (f"{PATH}/", "BadMessageId"),
        (PATH, "BadRequest"),
        (f"{PATH}?domain={DOMAIN}", "BadRequest"),
        (f"{PATH}?collapse_id=x", "BadRequest"),
        (f"{PATH}?domain=example.net&collapse_id=x", "UnknownDomain"),
        (f"{PATH}?domain={DOMAIN}&collapse_id=x&token=1", "UnknownKey"),
    ],
)
def test_what_is_not_understood_is_refused_and_nothing_is_cancelled(path: str, error: str) -> None:
    reply, door = delete(path)
    assert (reply.status, reply.json["error"], door.intake.wishes) == (400, error, [])


@pytest.mark.parametrize(
    ("cancelled", "status"),
    [(Cancelled(2, 1), 200), (Cancelled(0, 1), 409), (Cancelled(0, 0), 404), (SpoolError("disk"), 503)],
)
def test_the_status_says_whether_it_is_removed(cancelled: Cancelled | Exception, status: int) -> None:
    reply, _ = delete(f"{PATH}/{MID}", cancelled)
    assert reply.status == status
    assert ("retry-after" in reply.headers) == (status == 503)


def test_who_may_not_inject_may_not_cancel() -> None:
    reply, door = delete(f"{PATH}/{MID}", enable_authentication=True)
    assert (reply.status, door.intake.wishes) == (401, [])
