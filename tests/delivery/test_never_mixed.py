"""A pool never mixes credentials (design.md 4), whatever is reloaded and when; the ledger judges.

Three apps: two with a key each, and one that shares the first one's. Keys change hands in mid-flight, between
connect and first request, and while the peer says goodbyes. Then of the simulator's ledger is asked:

    a connection    one key, one app, from its first request to its last
    a request       the key that its app had when it was sent; an answer may be late, a request may not
"""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from pathlib import Path

import pytest

from momentum_push.simulator.ledger import Entry
from tests.helpers.accidents import Site, key_options, stage

APPS = ("com.example.news", "com.example.other", "com.example.shared")
FAULTS = """
streams: {full: 10}
latency: 0.05
rules:
  - {match: {every: 70}, do: {goaway: {last: middle}}}
  - {match: {every: 110}, do: {reset: REFUSED_STREAM}}
"""
UNDER_WAY_S = 0.06
"""The simulator decides after its latency, and writes down when; in leaping time nothing else takes long."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("never-mixed")


class Play:
    """The apps, who has which key, and since when."""

    def __init__(self, folder: Path) -> None:
        options = {name: key_options(folder, name) for name in ("one", "two")}
        self.ids = {name: text.split('apn_key_id = "')[1].split('"')[0] for name, text in options.items()}
        self.options = options
        self.owned: dict[str, list[tuple[float, str]]] = {}
        for app, name in zip(APPS, ("one", "two", "one"), strict=True):
            self.owned[app] = [(0.0, name)]

    @property
    def domains(self) -> dict[str, str]:
        return {
            f"{app}.apns": f'apn_topic = "{app}" {self.options[owned[-1][1]]} max_outbound_connections = 3'
            for app, owned in self.owned.items()
        }

    def swap(self, site: Site, *apps: str) -> None:
        """Give each of `apps` the other key."""
        for app in apps:
            owned = self.owned[app]
            owned.append((site.clock.now(), "two" if owned[-1][1] == "one" else "one"))
        site.reload(**self.domains)

    def keys(self, app: str, at: float, since: float | None = None) -> set[str]:
        """The ids of the keys that an app had at a time, and `since` another until then."""
        begin = at if since is None else since
        before = [name for when, name in self.owned[app] if when <= begin][-1:]
        return {self.ids[name] for name in before + [n for t, n in self.owned[app] if begin < t <= at]}

    async def put(self, site: Site, count: int) -> None:
        for app in APPS:
            await site.put(count, domain=f"{app}.apns", topic=app)

    def judge(self, requests: list[Entry]) -> None:
        """Hold the ledger against the laws of the module's head."""
        carried: dict[int, set[tuple[str, str]]] = defaultdict(set)
        for entry in requests:
            carried[entry.connection].add((entry.topic, entry.credential))
        mixed = {number: found for number, found in carried.items() if len(found) > 1}
        assert not mixed, "keys or apps on one connection"
        late = [
            entry
            for entry in requests
            if entry.credential not in self.keys(entry.topic, entry.at, entry.at - UNDER_WAY_S)
        ]
        assert not late, "sent with a key that the app no longer had, or had not yet"


def test_two_keys_and_three_apps_never_meet_on_a_connection(folder: Path) -> None:
    play = Play(folder)

    async def story(site: Site) -> None:
        for _ in range(4):
            await play.put(site, 60)
            await site.until(lambda: site.ended.total() == site.put_count, 60)
        play.judge(site.requests)
        used = {(entry.topic, entry.credential) for entry in site.requests}
        assert used == {(app, *play.keys(app, site.clock.now())) for app in APPS}
        assert len({key for _, key in used}) == 2

    stage(folder, story, FAULTS, domains=play.domains)


@pytest.mark.parametrize("apps", [APPS[:1], APPS[:2], APPS[1:], APPS], ids=["one", "swap", "join", "all"])
def test_a_reload_that_changes_keys_in_mid_flight_mixes_nothing(folder: Path, apps: tuple[str, ...]) -> None:
    play = Play(folder)

    async def story(site: Site) -> None:
        await play.put(site, 50)
        await site.until(lambda: len(site.simulator.connections) >= 6 and len(site.requests) > 30, 60)
        assert any(pool.in_flight for pool in site.delivery.pools.values()), (
            "in mid-flight, or it shows nothing"
        )
        play.swap(site, *apps)
        swapped = site.clock.now()
        await play.put(site, 50)
        await site.end(600)
        play.judge(site.requests)
        after = {(e.topic, e.credential) for e in site.requests if e.at > swapped + UNDER_WAY_S}
        assert after == {(app, *play.keys(app, swapped)) for app in APPS}
        assert site.kinds["D"] == site.put_count == 300

    stage(folder, story, FAULTS, domains=play.domains)


@pytest.mark.parametrize("turns", [0, 3, 10, 40])
def test_a_reload_while_connections_are_being_made_mixes_nothing(folder: Path, turns: int) -> None:
    """Between TCP and SETTINGS, and between SETTINGS and the first request."""
    play = Play(folder)

    async def story(site: Site) -> None:
        await play.put(site, 20)
        for _ in range(turns):
            await asyncio.sleep(0)
        play.swap(site, *APPS[:2])
        await site.end(600)
        play.judge(site.requests)
        assert site.kinds["D"] == 60

    stage(folder, story, "latency: 0.05", domains=play.domains)


@pytest.mark.parametrize("seed", [1, 2])
def test_any_number_of_reloads_at_any_time_mixes_nothing(folder: Path, seed: int) -> None:
    play, chance = Play(folder), random.Random(seed)

    async def story(site: Site) -> None:
        for _ in range(10):
            await play.put(site, chance.randrange(30))
            await asyncio.sleep(chance.choice((0.0, 0.02, 0.06, 0.3, 2.0)))
            play.swap(site, *(app for app in APPS if chance.random() < 0.4))
        await site.end(3600)
        play.judge(site.requests)
        assert len({entry.connection for entry in site.requests}) > 10
        assert (site.kinds["P"], site.kinds["D"]) == (0, site.put_count)

    stage(folder, story, FAULTS, domains=play.domains)
