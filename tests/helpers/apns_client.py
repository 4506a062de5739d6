"""A client of the simulator in memory: h2's client side, joined to a `Session` without a socket.

pair = Pair(key, faults)
one = pair.push(token)          # writes the request, feeds it, takes what comes back
pair.answer(one)                # (status, body) or None
pair.tick(0.5)                  # lets half a second pass for delays
"""

import asyncio
import contextlib
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from h2 import events
from h2.config import H2Configuration
from h2.connection import H2Connection
from hyperframe.frame import Frame, GoAwayFrame

from momentum_push.simulator.certificates import ProviderCertificate
from momentum_push.simulator.devices import Devices
from momentum_push.simulator.faults import Closing, Faults
from momentum_push.simulator.faults_file import parse_faults
from momentum_push.simulator.floor import Floor
from momentum_push.simulator.ledger import Ledger
from momentum_push.simulator.picker import FaultPicker
from momentum_push.simulator.request import Peer, Policy
from momentum_push.simulator.schedule import VirtualTime
from momentum_push.simulator.session import Session
from tests.helpers.apns import Key

START = 1_800_000_000.0


class Pair:
    """Both ends of a connection; the client writes like h2 does, the server's bytes are kept as events."""

    def __init__(
        self,
        key: Key | None = None,
        faults: Faults | None = None,
        *,
        certificate: ProviderCertificate | None = None,
        policy: Policy | None = None,
        floor: Floor | None = None,
        is_fed: bool = True,
        listener: int = 1,
    ) -> None:
        faults = faults or Faults()
        self.clock = VirtualTime(START) if floor is None else floor.scheduler
        policy = replace(policy or Policy(), clock_offset_s=faults.clock_offset_s)
        self.floor = floor or Floor(
            Ledger(keeps_payload=True),
            policy,
            Devices(faults.devices),
            faults,
            FaultPicker(faults),
            self.clock,
            self.clock,
            START,
        )
        self.key = key
        self.authorization = key.bearer(START - 60) if key is not None else None
        self.is_closed = False
        self.closings: list[Closing] = []
        self.is_deaf = False
        self.goaways: list[GoAwayFrame] = []
        self.frames: list[Frame] = []
        self.events: list[events.Event] = []
        self.limits: list[int] = []
        self._answers: dict[int, tuple[dict[str, str], bytes]] = {}
        self.client = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
        self.client.initiate_connection()
        self.row = self.floor.ledger.open_connection("memory", self.clock.now(), listener)
        self.session = Session(self.floor, self, self.row, Peer(certificate=certificate))
        self.session.start()
        if is_fed:
            self.feed()

    # The shell's part

    def later(self, seconds: float, call: Callable[[], None]) -> None:
        def fire() -> None:
            call()
            self.feed()

        self.clock.later(seconds, fire)

    def close(self, how: Closing = Closing.CLEAN) -> None:
        self.is_closed = self.is_closed or how is not Closing.HALF
        self.closings.append(how)

    def stop_reading(self) -> None:
        self.is_deaf = True

    # The client's part

    def disobey(self, limit: int) -> None:
        """Have the client believe in another stream limit than it was told."""
        self.client.remote_settings.update({3: limit})
        self.client.remote_settings.acknowledge()

    def open(self, token: str = "ab" * 32, body: bytes | None = b'{"aps":{}}', **headers: Any) -> int:
        """Write a request into the client's buffer; None as body leaves the stream open."""
        stream = self.client.get_next_available_stream_id()
        fields = [
            (":method", "POST"),
            (":scheme", "https"),
            (":authority", "localhost"),
            (":path", f"/3/device/{token}"),
            ("apns-topic", "com.example.news"),
        ]
        if self.authorization is not None:
            fields.append(("authorization", self.authorization))
        fields += [(name.replace("_", "-"), value) for name, value in headers.items()]
        self.client.send_headers(stream, fields)
        if body is not None:
            self.client.send_data(stream, body, end_stream=True)
        return stream

    def push(self, token: str = "ab" * 32, body: bytes | None = b'{"aps":{}}', **headers: Any) -> int:
        """`open`, then `feed`; returns the stream."""
        stream = self.open(token, body, **headers)
        self.feed()
        return stream

    def feed(self) -> None:
        """Hand over what the client has written, and take what the server wrote, until both are quiet."""
        while True:
            given = self.client.data_to_send()
            if given and not self.is_closed and not self.is_deaf:
                self.session.receive(given)
            taken = self.session.take()
            if not given and not taken:
                return
            self._take(taken)

    def tick(self, seconds: float) -> None:
        """Let time pass and fire what is due."""
        assert isinstance(self.clock, VirtualTime)
        self.clock.advance(seconds)

    def answer(self, stream: int) -> tuple[int, dict[str, Any]] | None:
        """Return (status, JSON body) of an answered stream; None: no answer yet."""
        if stream not in self._answers:
            return None
        headers, body = self._answers[stream]
        return int(headers[":status"]), json.loads(body) if body else {}

    def headers(self, stream: int) -> dict[str, str]:
        return self._answers[stream][0]

    def body(self, stream: int) -> bytes:
        return self._answers[stream][1]

    def resets(self, stream: int) -> list[int]:
        """Codes of the RST_STREAMs that came for a stream."""
        return [
            f.error_code
            for f in self.frames
            if f.stream_id == stream and type(f).__name__ == "RstStreamFrame"
        ]

    def _take(self, data: bytes) -> None:
        """Give frames to h2, all but GOAWAY: it would refuse to go on after one."""
        while data:
            frame, length = Frame.parse_frame_header(memoryview(data[:9]))
            frame.parse_body(memoryview(data[9 : 9 + length]))
            self.frames.append(frame)
            if isinstance(frame, GoAwayFrame):
                self.goaways.append(frame)
            else:
                self._note(self.client.receive_data(data[: 9 + length]))
            data = data[9 + length :]

    def _note(self, seen: list[events.Event]) -> None:
        self.events += seen
        for event in seen:
            if isinstance(event, events.ResponseReceived):
                self._answers[event.stream_id] = dict(event.headers), b""
            elif isinstance(event, events.DataReceived):
                headers, body = self._answers[event.stream_id]
                self._answers[event.stream_id] = headers, body + event.data
            elif isinstance(event, events.RemoteSettingsChanged):
                self.limits += [c.new_value for s, c in event.changed_settings.items() if s == 3]


class Talk:
    """h2's client side on a stream of asyncio's, one request after another.

    talk = Talk(reader, writer, key.bearer())
    await talk.status(token)
    """

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, authorization: str
    ) -> None:
        self._reader, self._writer = reader, writer
        self._authorization = authorization
        self._statuses: dict[int, int] = {}
        self._client = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
        self._client.initiate_connection()
        self._flush()

    def write(self, token: str, body: bytes = b'{"aps":{}}') -> int:
        """Write a request; return its stream."""
        stream = self._client.get_next_available_stream_id()
        fields = [
            (":method", "POST"),
            (":scheme", "https"),
            (":authority", "localhost"),
            (":path", f"/3/device/{token}"),
            ("apns-topic", "com.example.news"),
            ("authorization", self._authorization),
        ]
        self._client.send_headers(stream, fields)
        self._client.send_data(stream, body, end_stream=True)
        self._flush()
        return stream

    async def answer(self, stream: int, deadline_s: float = 5.0) -> int:
        """Return the status of a stream's answer; ConnectionError when the connection ends before."""
        async with asyncio.timeout(deadline_s):
            while stream not in self._statuses:
                await self._read()
        return self._statuses[stream]

    async def status(self, token: str) -> int:
        return await self.answer(self.write(token))

    async def read_all(self, deadline_s: float = 5.0) -> bool:
        """Read to the end; whether it came."""
        async with asyncio.timeout(deadline_s):
            try:
                while True:
                    await self._read()
            except ConnectionError:
                return True

    async def close(self) -> None:
        self._writer.close()
        with contextlib.suppress(OSError, asyncio.TimeoutError):
            await asyncio.wait_for(self._writer.wait_closed(), 5)

    async def _read(self) -> None:
        data = await self._reader.read(65_536)
        if not data:
            raise ConnectionError("the simulator has closed")
        for event in self._client.receive_data(data):
            if isinstance(event, events.ResponseReceived) and event.stream_id is not None:
                self._statuses[event.stream_id] = int(dict(event.headers or ())[":status"])
        self._flush()

    def _flush(self) -> None:
        self._writer.write(self._client.data_to_send())


OK = (200, {})


def rule(do: str, match: str = "{token: '55'}", when: str = "request", more: str = "") -> Faults:
    """A fault file of one rule, by the name of f."""
    return parse_faults(f"{more}\nrules:\n  - {{name: f, when: {when}, match: {match}, do: {do}}}\n")


def ready(key: Key, faults: Faults | str, **options: Any) -> Pair:
    """A pair whose first push was accepted (token 00), a minute ago, so that all streams are open to it."""
    pair = Pair(key, parse_faults(faults) if isinstance(faults, str) else faults, **options)
    stream = pair.push("00")
    pair.tick(60)
    assert pair.answer(stream) == OK
    return pair


def of(pair: Pair, kind: type[Frame]) -> list[Any]:
    """The frames of a kind that came."""
    return [frame for frame in pair.frames if isinstance(frame, kind)]
