"""kill -9 at random moments under load, again and again, and what is left compared with what was promised.

    Crowd ─► daemon ─► nginx, whose access log is the ledger
               │ └───► apn_logger
               ▼
             spool ── copied after the shot: who waits there

After each shot every message that anybody has offered is in one place:

    waits in the spool        it will be sent, perhaps again
    has left the spool        then it has its record and its request in the ledger: record first
    never arrived             then nobody was told that it had, and with it nothing of its list

And what will be sent again is bounded: messages without a record were in flight, and a connection has only
so many streams; those with a record whose removal did not commit are the newest records of that run, with
none between them that was removed, because removals commit in the order of their records.

With `apn_unknown_outcome = "drop"` no message is sent twice, whatever the shot interrupted. What was about
to be sent is given up instead: it has a P record, and APNs may never have heard of it.
"""

from __future__ import annotations

import random
import re
import shutil
import sqlite3
import time
from collections.abc import Iterable
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import msgspec

from momentum_push.spool import at_rest
from tests.crash.clients import Crowd, Unit, is_dead, number_of
from tests.helpers.clients import curl
from tests.helpers.daemon import DaemonProcess, conf_for, until
from tests.helpers.servers import Apns, running_nginx

__all__ = ["STREAMS", "Result", "Round", "kills"]

STREAMS = 200
"""Messages that may be in flight: connections times streams."""

_LIMITS = f"max_outbound_connections = 2\n  max_streams_per_connection = {STREAMS // 2}"
_FORMATS = 'log_delivery_format = "D@%dt"  log_permfail_format = "P@%dt"'
_DEAD = """location ~ ^/3/device/dead { add_header apns-id $http_apns_id always;
      return 410 '{"reason":"Unregistered","timestamp":1700000000000}'; }"""
_DRAIN_S = 120.0
_TOKEN = re.compile(r"[0-9a-f]{64}")


class Round(NamedTuple):
    """What one shot left behind, in messages."""

    started: bool
    """False: it was shot while it was still starting."""
    offered: int
    acknowledged: int
    waiting: int
    copies_in_flight: int
    """They wait although APNs has them: their answer or their record was still to come."""
    copies_recorded: int
    """They wait although they have their record: the removal was still to commit."""


@dataclass
class Result:
    """What came of all rounds; `problems` is what must be empty."""

    rounds: list[Round] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    offered: int = 0
    acknowledged: int = 0
    delivered: int = 0
    given_up: int = 0
    """P records of devices that are not dead; only with "drop"."""
    copies: int = 0
    """Requests beyond the first for a message, counted in the ledger."""
    lost: int = 0


class Counts:
    """How often, by number: a byte each, for there are millions in a long run."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def __getitem__(self, number: int) -> int:
        return self._bytes[number] if number < len(self._bytes) else 0

    def add(self, number: int) -> int:
        """Count one more, and return how many there are now."""
        if number >= len(self._bytes):
            self._bytes.extend(bytes(number + 65536 - len(self._bytes)))
        self._bytes[number] = min(255, self._bytes[number] + 1)
        return self._bytes[number]


class Tail:
    """The whole lines that were added to a file since the last look."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._at = 0

    def lines(self) -> list[str]:
        if not self._path.exists():
            return []
        with self._path.open("rb") as file:
            file.seek(self._at)
            data = file.read()
        end = data.rfind(b"\n") + 1
        self._at += end
        return data[:end].decode().splitlines()


class Books:
    """What is known of every message, and the laws."""

    def __init__(self, folder: Path, apns: Apns, is_drop: bool) -> None:
        self.crowd = Crowd()
        self.result = Result()
        self._is_drop = is_drop
        self._ledger = Tail(apns.ledger)
        self._records = Tail(folder / "apnlog.ec")
        self._requests = Counts()
        self._recorded = Counts()
        self._allowed: dict[int, int] = {}
        """Copies that a shot explains, by message."""
        self._ids: dict[int, str] = {}
        self._open: list[Unit] = []
        self._said = 0

    def after_shot(self, started: bool, waiting: set[int]) -> None:
        """Look at what is left; the daemon is gone, and APNs has finished with what it got."""
        sent, records = self._read()
        self._judge_copies(sent)
        fresh = waiting & set(records)
        self._judge_order(records, fresh)
        in_flight = waiting & set(sent) - fresh
        if len(in_flight) > STREAMS:
            self._say(f"{len(in_flight)} messages were in flight on {STREAMS} streams")
        if not self._is_drop:
            self._allowed.update((number, self._requests[number]) for number in in_flight | fresh)
        units = self.crowd.units[self._said :]
        self._said = len(self.crowd.units)
        self._open += units
        self._judge_units(waiting)
        offered = sum(unit.count for unit in units)
        acknowledged = sum(unit.count for unit in units if unit.is_acknowledged)
        self.result.offered += offered
        self.result.acknowledged += acknowledged
        self.result.rounds.append(
            Round(started, offered, acknowledged, len(waiting), len(in_flight), len(fresh))
        )

    def at_the_end(self) -> Result:
        """Everything is out: the spool is empty."""
        sent, _ = self._read()
        self._judge_copies(sent)
        self._judge_units(set())
        return self.result

    def _read(self) -> tuple[list[int], list[int]]:
        """Return what the ledger and the records have got since the last look, in their order."""
        return [self._note_request(line) for line in self._ledger.lines()], [
            number for line in self._records.lines() if (number := self._note_record(line)) is not None
        ]

    def _note_request(self, line: str) -> int:
        entry = _line(line)
        number = number_of(entry.token)
        self.result.copies += self._requests.add(number) > 1
        if self._ids.setdefault(number, entry.apns_id) != entry.apns_id:
            self._say(f"message {number} was sent with two apns-ids")
        return number

    def _note_record(self, line: str) -> int | None:
        kind, _, token = line.partition("@")
        if _TOKEN.fullmatch(token) is None:
            return None  # a torn line, ended by the next run
        number = number_of(token)
        is_first = self._recorded.add(number) == 1
        self.result.delivered += kind == "D" and is_first
        if self._is_drop and kind == "P" and not is_dead(number):
            self.result.given_up += is_first
        elif (kind == "P") != is_dead(number):
            self._say(f"message {number} has a record of kind {kind}")
        return number

    def _judge_order(self, records: list[int], fresh: set[int]) -> None:
        """What has a record and waits all the same is the newest of this run."""
        newest = records[len(records) - len(fresh) :]
        if set(newest) != fresh:
            self._say(f"removals did not commit in order: {len(fresh)} are due, not the newest {len(fresh)}")

    def _judge_units(self, waiting: set[int]) -> None:
        """Nothing acknowledged is missing, nothing arrived by half, nothing left without its record."""
        still = []
        for unit in self._open:
            here = [number in waiting or self._recorded[number] > 0 for number in unit.numbers]
            arrived = sum(here)
            if unit.is_acknowledged and arrived < unit.count:
                self.result.lost += unit.count - arrived
                self._say(f"{unit.kind}: {arrived} of {unit.count} acknowledged messages are left")
            elif arrived < unit.count and (arrived % unit.grain or not all(here[:arrived])):
                self._say(
                    f"{unit.kind}: {arrived} of {unit.count} messages arrived, in lists of {unit.grain}"
                )
            for number, is_here in zip(unit.numbers, here, strict=True):
                is_gone = is_here and number not in waiting
                if is_gone and not self._requests[number] and not self._is_drop:
                    self._say(f"message {number} has left the spool, and was never sent")
                elif not is_here and self._requests[number]:
                    self._say(f"message {number} was sent, and is neither recorded nor in the spool")
            if any(number in waiting for number in unit.numbers):
                still.append(unit)
            else:
                self._forget(unit)
        self._open = still

    def _forget(self, unit: Unit) -> None:
        """What is done with stays known by number alone: `_requests` tells a copy that nobody expects."""
        for number in unit.numbers:
            self._ids.pop(number, None)

    def _judge_copies(self, sent: Iterable[int]) -> None:
        """A second request needs a shot that explains it: the message waited although it had been sent."""
        for number in set(sent):
            if self._requests[number] > 1 + self._allowed.get(number, 0):
                self._say(f"message {number} was sent {self._requests[number]} times for no reason")

    def _say(self, problem: str) -> None:
        if len(self.result.problems) < 100:
            self.result.problems.append(f"round {len(self.result.rounds)}: {problem}")


def kills(folder: Path, rounds: int, seed: str, is_drop: bool = False) -> Result:
    """Shoot the daemon `rounds` times, the next one starting on what is left; then let everything out.

    Args:
        is_drop: `apn_unknown_outcome = "drop"`: given up rather than sent twice.
    """
    dice = random.Random(seed)
    with running_nginx(folder, locations=_DEAD) as apns:
        books = Books(folder, apns, is_drop)
        options = f'{_LIMITS}\n  apn_unknown_outcome = "{"drop" if is_drop else "retry"}"'
        conf = conf_for(folder, apns.port, apns.credential, options=options)
        conf = conf.replace('apn_logger "apn1" {', f'apn_logger "apn1" {{ {_FORMATS} heartbeat = 0')
        for _ in range(rounds):
            started = _shoot(DaemonProcess(folder, conf), books.crowd, dice)
            until(lambda: not _connections(apns.port), "nginx has finished with what it got")
            books.after_shot(started, _waiting(folder))
        _let_out(DaemonProcess(folder, conf), books)
        return books.at_the_end()


def _shoot(daemon: DaemonProcess, crowd: Crowd, dice: random.Random) -> bool:
    """Let the crowd push, and shoot at a moment of the dice; one in five while it is starting.

    The moment is so long after so many answers: on a slow machine as much has happened until then. Half of
    the shots are the client's own, as soon as it has its answer: nothing may still be due then.
    """
    if dice.random() < 0.2:
        time.sleep(dice.uniform(0, 1.0))
        daemon.kill()
        return False
    daemon.event("started")
    answers, is_at_once = dice.choice([1, 5, 20, 50]), dice.random() < 0.5
    with crowd.pushing(daemon, answers, daemon.process.kill if is_at_once else None) as reached:
        assert reached.wait(_DRAIN_S), f"waited for {answers} answers\n{daemon.stderr[-2000:]}"
        time.sleep(0 if is_at_once else dice.uniform(0, 0.2))
        daemon.kill()
    return True


def _let_out(daemon: DaemonProcess, books: Books) -> None:
    daemon.event("started")
    until(lambda: curl(daemon, "/stats/summary")[1]["TotalQueueSize"] == 0, "an empty queue", _DRAIN_S)
    if daemon.stop():
        books.result.problems.append(f"the daemon did not stop in order: {daemon.stderr[-500:]}")


def _waiting(folder: Path) -> set[int]:
    """Who waits in the spool: a copy is asked, so that the next daemon finds what was left and no more."""
    spool, copy = folder / "spool", folder / "copy"
    if not (spool / "spool.db").exists():
        return set()
    copy.mkdir()
    try:
        for name in ("spool.db", "spool.db-wal", "spool.db-journal"):
            with suppress(FileNotFoundError):
                shutil.copy(spool / name, copy / name)
        return _numbers_in(copy)
    finally:
        shutil.rmtree(copy)


def _numbers_in(spool: Path) -> set[int]:
    with closing(sqlite3.connect(spool / "spool.db")) as database:
        if not database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            return set()  # shot before there were tables
    with at_rest(spool) as opened:
        found = [number_of(each.token) for row in opened.lists() for each in row.to_list().messages]
    assert len(found) == len(set(found)), "a message waits twice"
    return set(found)


class _Line(msgspec.Struct):
    """What is read of a ledger's line."""

    token: str
    apns_id: str


_line = msgspec.json.Decoder(_Line).decode


def _connections(port: int) -> list[str]:
    """Return nginx's connections that it has not closed yet (/proc/net/tcp: ours is the local port)."""
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    fields = (line.split() for line in lines)
    return [row[1] for row in fields if row[1].endswith(f":{port:04X}") and row[3] in ("01", "08")]
