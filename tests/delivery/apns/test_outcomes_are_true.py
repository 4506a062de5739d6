"""Outcomes against the ledger of a faulty APNs: what we believe happened is what happened (apns.md 10).

The simulator knows what it processed. An answer must be true, NOT_PROCESSED and NOT_SENT must never
be said of what was processed (that would make copies), and UNKNOWN may be said of either.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import Counter
from pathlib import Path

import pytest

from momentum_push.clock import SystemClock
from momentum_push.delivery.apns import (
    ConnectFailed,
    Connection,
    ConnectionOptions,
    ProviderKey,
    Target,
    TokenCredential,
)
from momentum_push.message import Message, Outcome, Phase
from momentum_push.simulator import Action, Faults, GoAway, LastStream, Match, Rule, Simulator
from tests.helpers.apns import client_context, provider_key, running_simulator, until
from tests.helpers.lists import messages, part

TOPIC = "com.example.news"
COUNT = 600
BAD = Action(status=400, reason="BadDeviceToken")


class Sender:
    """A pool of one connection at a time, which forgets nothing and sends nothing twice."""

    def __init__(self, context: ssl.SSLContext, credential: TokenCredential, port: int) -> None:
        self.todo: list[Message] = messages(COUNT, shared=part(expiration=2_000_000_000))
        self.outcomes: list[Outcome] = []
        self._context, self._credential, self._port = context, credential, port
        self._moved = asyncio.Event()

    async def run(self) -> None:
        """Send everything once; open another connection as often as that takes."""
        for _ in range(60):
            if not self.todo:
                return
            connection = self._connection()
            try:
                await connection.open()
            except ConnectFailed:
                continue
            while self.todo and connection.state.value not in ("draining", "closed"):
                await self._feed(connection)
            connection.drain("done")
            while connection.state.value != "closed":
                await self._pause()
        raise AssertionError(f"{len(self.todo)} messages found no connection")

    async def _feed(self, connection: Connection) -> None:
        count = min(connection.capacity, 100)
        taken = connection.send([(message, TOPIC) for message in self.todo[:count]])
        del self.todo[:taken]
        if not taken:
            await self._pause()

    async def _pause(self) -> None:
        self._moved.clear()
        await asyncio.wait_for(self._moved.wait(), 5)

    def _connection(self) -> Connection:
        return Connection(
            target=Target("localhost", self._port, "127.0.0.1"),
            context=self._context,
            credential=self._credential,
            options=ConnectionOptions(
                connect_timeout_s=2, response_timeout_s=0.3, busy_ping_interval_s=0.1, ping_timeout_s=0.1
            ),
            clock=SystemClock(),
            on_outcomes=self._note,
            on_change=lambda connection: self._moved.set(),
            conn_id="0A/0B-00000-00000001",
        )

    def _note(self, connection: Connection, outcomes: list[Outcome]) -> None:
        self.outcomes += outcomes
        self._moved.set()


def rule(action: Action, **match: int) -> Rule:
    return Rule("fault", Match(**match), action)  # type: ignore[arg-type]


CASES: dict[str, list[Rule]] = {
    "goaway in the middle": [rule(Action(goaway=GoAway(last=LastStream.MIDDLE)), every=150)],
    "goaway for nobody": [rule(Action(goaway=GoAway(last=LastStream.NONE)), every=150)],
    "graceful goaway": [rule(Action(goaway=GoAway(is_graceful=True, notice_s=0.01)), every=150)],
    "goaway twice": [rule(Action(goaway=GoAway(last=LastStream.MIDDLE, is_twice=True)), every=150)],
    "limit falls with rejections": [
        rule(Action(status=400, reason="BadDeviceToken", limit=1), every=100),
        rule(Action(limit=1000), every=51),
    ],
    "refused": [rule(Action(reset=7), every=7)],
    "reset": [rule(Action(reset=2), every=7), rule(Action(reset=2, is_processed=True), every=11)],
    "never answered": [rule(Action(is_silent=True, is_processed=True), every=200)],
    "processed, then lost": [rule(Action(is_close=True, is_processed=True), every=200)],
    "lost": [rule(Action(is_close=True), every=200)],
    "deaf": [rule(Action(is_deaf=True, is_ping_ignored=True), every=300)],
    "errors of all kinds": [
        rule(Action(status=500, reason="InternalServerError"), every=9),
        rule(Action(status=503, reason="Shutdown"), every=10),
        rule(Action(status=410, reason="Unregistered", timestamp=1_700_000_000.0), every=11),
        rule(BAD, every=13),
    ],
}


@pytest.mark.parametrize("name", list(CASES))
def test_no_outcome_contradicts_the_ledger(tmp_path: Path, name: str) -> None:
    async def story() -> tuple[Sender, Simulator]:
        faults = Faults(seed=7, rules=tuple(CASES[name]))
        async with running_simulator(tmp_path, faults) as simulator:
            key = provider_key(tmp_path)
            credential = TokenCredential(ProviderKey(key.path.read_bytes(), key.key_id, key.team_id))
            sender = Sender(client_context(tmp_path), credential, simulator.port)
            await sender.run()
            await until(lambda: len(sender.outcomes) == COUNT)
            return sender, simulator

    sender, simulator = asyncio.run(story())
    assert Counter(outcome.message.sequence for outcome in sender.outcomes) == Counter(range(1, COUNT + 1))
    entries = {entry.token: entry for entry in simulator.requests}
    for outcome in sender.outcomes:
        entry = entries.get(outcome.message.token)
        if outcome.phase is Phase.ANSWERED:
            assert entry is not None
            assert (outcome.status, outcome.reason) == (entry.status, entry.reason)
        elif outcome.phase is not Phase.UNKNOWN:
            assert entry is None or not entry.processed
    assert sum(outcome.phase is Phase.ANSWERED for outcome in sender.outcomes) > 100
    assert max(simulator.ledger.accepted.values()) == 1
    for connection in simulator.ledger.connections:
        assert (connection.limit_breaches, connection.violation) == (0, "")
        assert len(connection.token_changes) <= 1
