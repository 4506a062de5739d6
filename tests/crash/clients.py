"""Clients that push as fast as they can until the daemon is shot, and remember what they were told.

A message is a number, and its token says which (`token_of`): so the ledger, the records and the spool can
be compared without a list of tokens. A `Unit` is what one request or mail brought.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count

from tests.helpers.clients import mail
from tests.helpers.daemon import DOMAIN, DaemonProcess

__all__ = ["Crowd", "Unit", "is_dead", "number_of", "token_of"]

LIST = 1000
"""As many lines of NDJSON are committed together."""

_DEADLINE_S = 30.0
_ALERT = {"aps": {"alert": "Ferry cancelled"}}
_GONE = (OSError, http.client.HTTPException, EOFError)
"""What a client sees of a daemon that is shot."""


def is_dead(number: int) -> bool:
    """Whether APNs says that this device is gone: it gets a P record."""
    return number % 50 == 7


def token_of(number: int) -> str:
    """The device token that belongs to a number."""
    return f"{'dead' if is_dead(number) else 'beef'}{number:012x}{'ab' * 24}"


def number_of(token: str) -> int:
    """The number in a token."""
    return int(token[4:16], 16)


@dataclass
class Unit:
    """What was sent together: numbers `first` to `first + count - 1`."""

    kind: str
    first: int
    count: int
    grain: int
    """They are taken by so many, from the first on: all of these or none."""
    is_acknowledged: bool = False

    @property
    def numbers(self) -> range:
        return range(self.first, self.first + self.count)


class Crowd:
    """Every kind of client at once."""

    def __init__(self) -> None:
        self.units: list[Unit] = []
        self._answers_due = 0
        self._reached = threading.Event()
        self._then: Callable[[], None] | None = None
        self._numbers = 0
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def pushing(
        self, daemon: DaemonProcess, answers: int, then: Callable[[], None] | None = None
    ) -> Iterator[threading.Event]:
        """Push until the daemon is gone: whoever uses this shoots it inside.

        Args:
            answers: when so many units were accepted, the event is set;
            then: and this is called first, by the very client that got the answer.
        """
        self._answers_due, self._then = answers, then
        self._reached = threading.Event()
        threads = [threading.Thread(target=self._push, args=(kind, daemon)) for kind in _KINDS]
        for thread in threads:
            thread.start()
        yield self._reached
        for thread in threads:
            thread.join(_DEADLINE_S)
            assert not thread.is_alive(), "a client waits for a daemon that is gone"

    def _push(self, kind: str, daemon: DaemonProcess) -> None:
        open_session, sizes, grain = _KINDS[kind]
        with contextlib.suppress(*_GONE), contextlib.closing(open_session(daemon)) as session:
            for turn in count():
                unit = self._unit(kind, sizes[turn % len(sizes)], grain)
                session.send(unit)
                unit.is_acknowledged = True
                self._count_answer()

    def _count_answer(self) -> None:
        with self._lock:
            self._answers_due -= 1
            is_due = not self._answers_due
        if is_due:
            if self._then is not None:
                self._then()
            self._reached.set()

    def _unit(self, kind: str, size: int, grain: int) -> Unit:
        with self._lock:
            unit = Unit(kind, self._numbers, size, min(grain or size, size))
            self._numbers += size
            self.units.append(unit)
            return unit


class Http:
    """A connection; `body` makes the request."""

    def __init__(self, daemon: DaemonProcess, kind: str, body: Callable[[list[str]], bytes]) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", daemon.http_port, timeout=_DEADLINE_S)
        self._kind = kind
        self._body = body

    def send(self, unit: Unit) -> None:
        """Send a unit; returns when all of it was accepted."""
        body = self._body([token_of(number) for number in unit.numbers])
        path = f"/v1/notifications?domain={DOMAIN}" if "ndjson" in self._kind else "/v1/notifications"
        self._connection.request("POST", path, body, {"Content-Type": self._kind})
        answer = self._connection.getresponse()
        said = answer.read()
        if answer.status != 200 or json.loads(said)["accepted"] != unit.count:
            raise EOFError(f"{answer.status} {said[:200]!r}")

    def close(self) -> None:
        self._connection.close()


class Smtp:
    """A session; each token is a recipient."""

    def __init__(self, daemon: DaemonProcess) -> None:
        self._sock = socket.create_connection(("127.0.0.1", daemon.smtp_port), timeout=_DEADLINE_S)
        self._answers = self._sock.makefile("rb")
        self._replies(1)
        self._sock.sendall(b"EHLO crash.example.net\r\n")
        self._replies(1)

    def send(self, unit: Unit) -> None:
        rcpts = "".join(f"RCPT TO:<{token_of(number)}@{DOMAIN}>\r\n" for number in unit.numbers)
        self._sock.sendall(f"MAIL FROM:<push@example.net>\r\n{rcpts}DATA\r\n".encode())
        self._replies(unit.count + 2)
        self._sock.sendall(mail(payload=json.dumps(_ALERT)) + b".\r\n")
        self._replies(1)

    def close(self) -> None:
        self._answers.close()
        self._sock.close()

    def _replies(self, wanted: int) -> None:
        while wanted:
            line = self._answers.readline()
            if line[:1] not in (b"2", b"3"):
                raise EOFError(line)
            wanted -= line[3:4] == b" "


def _fan_out(tokens: list[str]) -> bytes:
    return json.dumps({"domain": DOMAIN, "device_tokens": tokens, "payload": _ALERT}).encode()


def _items(tokens: list[str]) -> list[dict[str, object]]:
    return [
        {"device_token": token, "payload": {**_ALERT, "n": place}, "priority": 5 if place % 3 else 10}
        for place, token in enumerate(tokens)
    ]


def _batch(tokens: list[str]) -> bytes:
    return json.dumps({"domain": DOMAIN, "notifications": _items(tokens)}).encode()


def _lines(tokens: list[str]) -> bytes:
    return b"".join(json.dumps(item).encode() + b"\n" for item in _items(tokens))


def _http(kind: str, body: Callable[[list[str]], bytes]) -> Callable[[DaemonProcess], Http]:
    return lambda daemon: Http(daemon, kind, body)


_KINDS: dict[str, tuple[Callable[[DaemonProcess], Http | Smtp], list[int], int]] = {
    "HTTP fan-out": (_http("application/json", _fan_out), [300, 1500], 0),
    "HTTP batch": (_http("application/json", _batch), [200, 20], 0),
    "HTTP single": (_http("application/json", _batch), [1], 0),
    "NDJSON": (_http("application/x-ndjson", _lines), [3500], LIST),
    "SMTP fan-out": (Smtp, [50], 0),
    "SMTP single": (Smtp, [1], 0),
}
"""How it connects, how many each time, and by how many they are taken (0: all together)."""
