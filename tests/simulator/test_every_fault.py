"""Every fault of the dossier (apns.md 9.5) against the whole way out: all settled, none waiting, books even.

`DOSSIER` is the list of faults, bullet by bullet and variant by variant; `CASES` says for each of them what
the simulator does, and a test holds the two against each other. All cases run at once in one event
loop, each with a simulator, a spool, a queue and a pool of its own; the laws are those of `Rig.check`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from momentum_push.message import Kind
from momentum_push.simulator import Faults, parse_faults
from momentum_push.simulator.faults_file import _ANSWER, _DO, _GOAWAY, _NAME, _TOP
from tests.helpers.apns import Key, provider_key, until
from tests.helpers.rig import Rig, running_rig, slower
from tests.helpers.servers import free_port

COUNT = 200
AT_ONCE = 12
DEADLINE_S = 40.0

Script = Callable[[Rig], Awaitable[None]]


@dataclass(frozen=True)
class Case:
    """One fault.

    Attributes:
        faults: YAML, as `simulate --faults` takes it.
        delivered: how many of COUNT messages must arrive; None: all.
        script: what happens besides putting COUNT messages and waiting.
        settings: fields of `PoolSettings` that differ.
        listen: addresses of the simulator; PORT stands for a free one.
        struck: whether the fault did strike; as a rule the ledger has its name.
    """

    faults: str
    delivered: int | None = None
    script: Script | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    listen: tuple[str, ...] = ("127.0.0.1:0",)
    struck: Callable[[Rig], object] = lambda rig: rig.simulator.ledger.verdicts["f"]


def rule(do: str, match: str = "{nth: 100}", when: str = "request") -> str:
    return f"rules: [{{name: f, when: {when}, match: {match}, do: {do}}}]"


def answered(rig: Rig) -> object:
    """Whether a fault of the whole file, which no rule names, had its chance."""
    return rig.simulator.ledger.total


async def in_halves(rig: Rig) -> None:
    """An hour less ten minutes between two halves: the provider token changes on the connection."""
    await rig.put(COUNT // 2)
    await rig.until_settled()
    rig.clock.shift += 3000  # type: ignore[attr-defined]
    await rig.put(COUNT // 2)


async def with_a_pause(rig: Rig) -> None:
    """Long enough for a path to forget the connection."""
    await rig.put(COUNT // 2)
    await rig.until_settled()
    await asyncio.sleep(0.3)
    await rig.put(COUNT // 2)


async def until_the_clock_is_right(rig: Rig) -> None:
    """Apple's clock runs an hour ahead, and is set right."""
    await rig.put(COUNT)
    ledger = rig.simulator.ledger
    while not ledger.verdicts["ExpiredProviderToken"]:
        await asyncio.sleep(0.01)
    rig.simulator.use_faults(Faults())


BOTH = ("127.0.0.1:PORT", "127.0.0.2:PORT")
"""Two addresses of one name."""

GOODBYE = "goaway: {last: middle, %s}"
ODD = "rules: [{name: f, match: {every: 3}, do: {%s}}]"

CASES: dict[str, Case] = {
    # limits
    "limits: 1 after a rejection, restored after an accept": Case(
        "streams: {after_rejection: 1}\n" + rule("{reason: BadDeviceToken}", "{every: 40}"), COUNT - 5
    ),
    "limits: random SETTINGS changes": Case(
        "streams: {walk: {every: 0.02, least: 1, most: 60}}\nlatency: 0.003\n"
        + rule("{settings: {INITIAL_WINDOW_SIZE: 300, HEADER_TABLE_SIZE: 0, MAX_FRAME_SIZE: 20000}}"),
    ),
    "limits: 0 for a while": Case(
        "rules: [{name: f, when: connect, do: {limit: 0, limit_for: 0.2}},"
        " {name: f, match: {nth: 50}, do: {limit: 0, limit_for: 0.2}}]",
    ),
    # GOAWAY
    "GOAWAY: graceful": Case(rule("{goaway: {graceful: true, notice: 0.02}}")),
    "GOAWAY: abrupt in the middle of in-flight": Case(rule("{goaway: {last: middle, close: now}}")),
    "GOAWAY: JSON debug data": Case(rule(f"{{{GOODBYE % 'debug: json'}}}")),
    "GOAWAY: text debug data": Case(rule(f"{{{GOODBYE % 'debug: text, code: 7'}}}")),
    "GOAWAY: empty debug data": Case(rule(f"{{{GOODBYE % 'debug: empty'}}}")),
    "GOAWAY: invalid debug data": Case(rule(f"{{{GOODBYE % 'debug: invalid'}}}")),
    "GOAWAY: twice": Case(rule(f"{{{GOODBYE % 'twice: true'}}}")),
    "GOAWAY: first frame": Case(
        rule("{goaway: {before_settings: true}}", "{nth: 1}", "connect"),
        struck=lambda rig: rig.simulator.connections[0].goaways,
    ),
    "GOAWAY: for a stream over the limit": Case(
        "streams: {over: goaway, full: 20}\nlatency: 0.01\n"
        + rule("{limit: 1, limit_for: 0.1}", "{every: 60}"),
    ),
    # streams
    "streams: REFUSED_STREAM, 7 then 5": Case(
        rule("{refuse: true, then_reset: STREAM_CLOSED}", "{every: 20}")
    ),
    "streams: RST with INTERNAL_ERROR": Case(rule("{reset: INTERNAL_ERROR}", "{every: 20}")),
    "streams: RST with INTERNAL_ERROR, processed": Case(
        rule("{reset: INTERNAL_ERROR, processed: true}", "{every: 20}")
    ),
    "streams: one is never answered": Case(rule("{silent: true}")),
    "streams: one is never answered, processed": Case(rule("{silent: true, processed: true}")),
    "streams: an answer after the deadline": Case(rule("{delay: 0.9, processed: true}", "{every: 70}")),
    "streams: out of order": Case(rule("{shuffle: 20}", "{after: 1}")),
    "streams: HEADERS error without body": Case(ODD % "status: 500, answer: {body: none}"),
    "streams: body over DATA frames": Case(ODD % "status: 500, answer: {pieces: 5, padding: 9}"),
    "streams: invalid JSON": Case(ODD % "status: 500, answer: {body: invalid}"),
    "streams: unknown reason": Case(ODD % "status: 400, reason: BadWeather", COUNT - 66),
    "streams: unknown status": Case(ODD % "status: 599, reason: Curious"),
    "streams: trailing HEADERS": Case(ODD % "status: 500, answer: {trailers: true, continuations: 2}"),
    "streams: 1xx, PRIORITY and trailers with an acceptance": Case(
        ODD % "answer: {body: empty, interim: 103, priority: true, trailers: true}"
    ),
    # process, then lose
    "process-then-lose: accept, then close without answering": Case(
        rule("{accept_then_close: true}", "{every: 60, times: 3}")
    ),
    "process-then-lose: close without recording": Case(rule("{close: true}", "{every: 60, times: 3}")),
    # connection
    "connection: stop reading": Case(
        rule("{stop_reading: true, no_ping_ack: true}", "{connection: 1, nth: 20}"),
        script=lambda rig: rig.put(COUNT, payload=b'{"aps":{"alert":"%b"}}' % (b"x" * 2000)),
    ),
    "connection: no window is given back": Case(
        rule("{no_window_updates: true}", "{connection: 1, nth: 5}", "request"),
        script=lambda rig: rig.put(COUNT, payload=b'{"aps":{"alert":"%b"}}' % (b"x" * 2000)),
    ),
    "connection: stop answering PING": Case(
        "rules: [{name: f, match: {connection: 1, after: 99}, do: {silent: true, no_ping_ack: true}}]"
    ),
    "connection: black hole after idle time": Case(
        rule("{black_hole_after: 0.2}", "{nth: 1}", "connect"),
        script=with_a_pause,
        struck=lambda rig: len(rig.simulator.connections) > 1,
    ),
    "connection: RST": Case(rule("{close: reset}", "{every: 60, times: 3}")),
    "connection: half-close": Case(rule("{close: half}", "{every: 60, times: 3}")),
    "connection: close_notify missing": Case(rule("{close: no_notify}", "{every: 60, times: 3}")),
    "connection: slow handshake": Case(
        rule("{handshake_delay: 0.4}", "{nth: 1}", "connect"), struck=answered
    ),
    "connection: a handshake too slow": Case(
        rule("{handshake_delay: 5}", "{nth: 1}", "connect"),
        struck=lambda rig: rig.simulator.ledger.connects > 1,
    ),
    "connection: connect refused": Case(
        rule("{refuse_connect: true}", "{times: 2}", "connect"),
        struck=lambda rig: rig.simulator.ledger.refused_connects == 2,
    ),
    "connection: nobody listens for a while": Case(
        rule("{shut_listener: 0.5}", "{nth: 1}", "connect"),
        struck=lambda rig: rig.simulator.ledger.refused_connects == 1,
    ),
    "connection: hang before SETTINGS": Case(
        rule("{hang_before_settings: true}", "{nth: 1}", "connect"),
        struck=lambda rig: len(rig.simulator.connections) > 1,
    ),
    # wedge
    "wedge: after a token change only 500": Case(
        rule("{status: 500, wedge: true}", "{token_changed: true, connection: 1}"), script=in_halves
    ),
    "wedge: after expiry only 403": Case(rule("{reason: ExpiredProviderToken, wedge: true}")),
    "wedge: 429 until a new connection": Case(rule("{reason: TooManyProviderTokenUpdates, wedge: true}")),
    # backend
    "backend: several addresses, one broken for chosen tokens": Case(
        rule("{silent: true}", "{listener: 1, token: '0'}"),
        listen=("127.0.0.1:0", "127.0.0.1:0"),
        settings={"options": slower(response_timeout_s=0.3)},
        struck=answered,
    ),
    "backend: DNS answer changes": Case(
        "names: [{addresses: 127.0.0.1, times: 1}, {addresses: 127.0.0.2}]\n" + rule("{close: true}"),
        listen=BOTH,
        struck=lambda rig: [row.listener for row in rig.simulator.connections][:2] == [1, 2],
    ),
    "backend: the address of a name is gone": Case(
        "names: [{addresses: 127.0.0.1, times: 3}, {name: localhost, addresses: 127.0.0.2, after: 3}]\n"
        + rule("{shut_listener: 60}", "{listener: 1}", "connect"),
        listen=BOTH,
        struck=lambda rig: {row.listener for row in rig.simulator.connections} == {2},
    ),
    "backend: names fail for a while": Case(
        "names: [{error: NXDOMAIN, times: 1}, {error: SERVFAIL, delay: 0.1, times: 1},"
        " {addresses: '', times: 1}, {addresses: 127.0.0.1}]",
        struck=lambda rig: rig.log.texts(Kind.TEMPFAIL)[0].startswith("451 4.4.1 [internal] No valid hosts"),
    ),
    "backend: a name server is silent": Case(
        "names: [{delay: 5, addresses: 127.0.0.1, times: 1}, {addresses: 127.0.0.1, from: 0, until: 60}]",
        struck=lambda rig: len(rig.simulator.names.asked) > 1,
    ),
    # load
    "load: latency distribution": Case("latency: {median: 0.06, sigma: 0.5}", struck=answered),
    "load: rate ceiling of a connection": Case("rate: 150", struck=answered),
    "load: 503 storms": Case(
        rule("{status: 503, reason: ServiceUnavailable}", "{from: 0, until: 0.5, period: 1}")
    ),
    "load: Shutdown": Case(rule("{status: 503, reason: Shutdown}", "{every: 60, times: 3}")),
    "load: windows in large steps": Case("window: {initial: 3000, step: 32768}", struck=answered),
    # abuse
    "abuse: too many connects are refused for a time": Case(
        "abuse: {connects: 1, refuse: 0.8}\n" + rule("{close: true}"),
        struck=lambda rig: rig.simulator.ledger.refused_connects,
    ),
    "abuse: disconnected after n BadDeviceToken": Case(
        "abuse: {bad_tokens: 3}\n" + rule("{reason: BadDeviceToken}", "{every: 20}"),
        COUNT - 10,
        settings={"max_connections": 1},
        struck=lambda rig: sum(row.goaways for row in rig.simulator.connections),
    ),
    # clock
    "clock: a provider token's age by another clock": Case(
        "clock_offset: 5400", script=until_the_clock_is_right, struck=answered
    ),
}

DOSSIER: dict[str, list[str]] = {
    "limits": ["1 after a rejection, restored after an accept", "random SETTINGS changes", "0 for a while"],
    "GOAWAY": [
        *("graceful", "abrupt in the middle of in-flight", "JSON debug data", "text debug data"),
        *("empty debug data", "invalid debug data", "twice", "first frame"),
    ],
    "streams": [
        *("REFUSED_STREAM, 7 then 5", "RST with INTERNAL_ERROR", "one is never answered"),
        *("an answer after the deadline", "out of order", "HEADERS error without body"),
        *("body over DATA frames", "invalid JSON", "unknown reason", "unknown status", "trailing HEADERS"),
    ],
    "process-then-lose": ["accept, then close without answering", "close without recording"],
    "connection": [
        *("stop reading", "stop answering PING", "black hole after idle time", "RST", "half-close"),
        *("close_notify missing", "slow handshake", "connect refused", "hang before SETTINGS"),
    ],
    "wedge": [
        *("after a token change only 500", "after expiry only 403", "429 until a new connection"),
    ],
    "backend": ["several addresses, one broken for chosen tokens", "DNS answer changes"],
    "load": ["latency distribution", "rate ceiling of a connection", "503 storms", "Shutdown"],
    "abuse": ["too many connects are refused for a time", "disconnected after n BadDeviceToken"],
    "clock": ["a provider token's age by another clock"],
}
"""The fault modes of apns.md 9.5, in its order."""

UNSTRUCK = {"seed", "devices", "ping", "reset", "timestamp", "retry_after"}
"""Words of the fault file that are no fault of their own, or stand in a case by another name."""


def test_no_fault_of_the_dossier_is_forgotten() -> None:
    listed = {f"{group}: {name}" for group, names in DOSSIER.items() for name in names}
    assert listed <= set(CASES)


def test_no_word_of_the_fault_file_is_forgotten() -> None:
    text = " ".join(case.faults for case in CASES.values())
    words = {word for table in (_DO, _GOAWAY, _ANSWER, _NAME, _TOP) for word in table.keys}
    assert {word for word in words if f"{word}:" not in text} <= UNSTRUCK


@pytest.fixture(scope="module")
def ends(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, BaseException | None]:
    """Run all chosen cases at once; how each of them ended."""
    items = [item for item in request.session.items if item.path == request.path]
    chosen = [item.callspec.params["name"] for item in items if hasattr(item, "callspec")]
    return asyncio.run(play(tmp_path_factory.mktemp("faults"), chosen))


async def play(folder: Path, names: list[str]) -> dict[str, BaseException | None]:
    key = provider_key(folder)
    turnstile = asyncio.Semaphore(AT_ONCE)
    tasks = {name: asyncio.create_task(story(folder, key, CASES[name], turnstile)) for name in names}
    found = await asyncio.gather(*tasks.values(), return_exceptions=True)
    others = asyncio.all_tasks() - {asyncio.current_task()}
    assert not others, f"tasks that nobody ended: {others}"
    return dict(zip(names, found, strict=True))


async def story(folder: Path, key: Key, case: Case, turnstile: asyncio.Semaphore) -> None:
    faults, port = parse_faults("seed: 7\n" + case.faults), str(free_port())
    listen = [each.replace("PORT", port) for each in case.listen]
    async with (
        turnstile,
        asyncio.timeout(DEADLINE_S),
        running_rig(folder, key, faults, listen=listen, **case.settings) as rig,
    ):
        await (case.script(rig) if case.script is not None else rig.put(COUNT))
        await rig.until_settled()
        await rig.stop()
        await until(lambda: not rig.simulator.open_connections, 10.0)
        await rig.check()
        delivered = rig.log.kinds()[Kind.DELIVERED.value]
        assert delivered == (COUNT if case.delivered is None else case.delivered), rig
        assert case.struck(rig), f"the fault did not strike: {rig.simulator.ledger.verdicts}"


@pytest.mark.parametrize("name", list(CASES))
def test_every_message_is_settled(ends: dict[str, BaseException | None], name: str) -> None:
    if (error := ends[name]) is not None:
        raise error
