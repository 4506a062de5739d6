"""A real HTTP door on a port of its own, with a pretended intake behind it."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from momentum_push.clock import SystemClock
from momentum_push.injection.auth import PasswordFiles
from momentum_push.injection.http import Views, build_app
from momentum_push.injection.http_protocol import Limits
from momentum_push.injection.http_server import HttpListener
from momentum_push.loggers.records import Authentication, Rejection
from momentum_push.message.ids import hex_id
from momentum_push.meters import Meters
from tests.helpers.intake import DOMAIN, FakeIntake

__all__ = [
    "DOMAIN",
    "TOKEN",
    "FakeListen",
    "HttpDoor",
    "HttpRecords",
    "Reply",
    "conforms",
    "curl",
    "http_door",
    "raw",
]

TOKEN = "9f8e7d6c5b4a39281706f5e4d3c2b1a09f8e7d6c5b4a39281706f5e4d3c2b1a0"

OPTIONS: dict[str, Any] = {
    "always_allow": False,
    "always_deny": False,
    "enable_authentication": False,
    "authplainparameters": {},
    "tls_verified_peer_is_authorized": False,
    "context": {},
    "max_request_size": 1_000_000,
    "disable_chunked": False,
    "log_requests_to_paniclog": False,
    "idle_time": 0,
    "listener_sessions": 0,
    "use_ssl": False,
    "listen_backlog": 100,
}


class FakeListen:
    """A `listen` stanza without a configuration."""

    def __init__(self, peers: tuple[str, ...] | None = None, address: str = "fake:0", **options: Any) -> None:
        self.address = address
        self.options = OPTIONS | options
        self.peers = peers

    @property
    def has_peers(self) -> bool:
        return self.peers is not None

    def matches_peer(self, ip: str) -> bool:
        return self.peers is not None and ip in self.peers

    def inbound(self, ip: str | None) -> dict[str, Any]:
        return self.options


@dataclass
class HttpRecords:
    """Keeps what would be logged."""

    rejections: list[Rejection] = field(default_factory=list)
    logins: list[Authentication] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)

    def rejection(self, now: float, rejection: Rejection) -> None:
        self.rejections.append(rejection)

    def authentication(self, now: float, authentication: Authentication) -> None:
        self.logins.append(authentication)

    def panic(self, now: float, module: str, text: str) -> None:
        self.lines.append(text)


@dataclass
class HttpDoor:
    """What a test holds of a running door."""

    port: int
    intake: FakeIntake
    meters: Meters
    records: HttpRecords
    listener: HttpListener
    listen: FakeListen
    state: dict[str, Any]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def post(self, path: str, body: bytes | str | object, *headers: str) -> Reply:
        """Send a body; what is neither text nor bytes goes as JSON."""
        if not isinstance(body, (bytes, str)):
            body = json.dumps(body)
        data = body.encode() if isinstance(body, str) else body
        head = "".join(f"{header}\r\n" for header in headers)
        first = f"POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        text = f"{first}Content-Length: {len(data)}\r\n{head}\r\n"
        return await raw(self.port, text.encode() + data)

    async def get(self, path: str, *headers: str, method: str = "GET") -> Reply:
        head = "".join(f"{header}\r\n" for header in headers)
        return await raw(
            self.port, f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{head}\r\n".encode()
        )


@dataclass
class Reply:
    """An HTTP answer, taken apart by hand: the door's framing is under test as well."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def parse(data: bytes) -> Reply:
    """Read the first answer that is not 100 Continue."""
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    status = int(first.split()[1])
    if status == 100:
        return parse(body)
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    if headers.get("transfer-encoding") == "chunked":
        body = _unchunk(body)
    elif "content-length" in headers:
        body = body[: int(headers["content-length"])]
    return Reply(status, headers, body)


def _unchunk(body: bytes) -> bytes:
    out = b""
    while True:
        size, _, body = body.partition(b"\r\n")
        if not (count := int(size, 16)):
            return out
        out, body = out + body[:count], body[count + 2 :]


async def raw(port: int, *pieces: bytes, pause: float = 0.0) -> Reply:
    """Write pieces to the door and read until it closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        async with asyncio.timeout(10):
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                if pause:
                    await asyncio.sleep(pause)
            return parse(await reader.read())
    finally:
        writer.close()


async def curl(*args: str, stdin: bytes = b"") -> Reply:
    """Run curl; its answer with headers."""
    process = await asyncio.create_subprocess_exec(
        "curl", "-s", "-i", "--max-time", "10", *args,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, _ = await process.communicate(stdin)
    return parse(re.sub(rb"(?i)transfer-encoding: chunked", b"x-was: chunked", out))  # curl has undone it


@asynccontextmanager
async def http_door(
    listen: FakeListen | None = None,
    limits: Limits | None = None,
    body_budget: int = 10_000_000,
    intake: Any = None,
) -> AsyncIterator[HttpDoor]:
    """Run a door; `intake` is a `FakeIntake` where none is given."""
    listen = listen or FakeListen()
    meters, records = Meters(), HttpRecords()
    intake = intake or FakeIntake()
    state: dict[str, Any] = {"is_ready": (True, ""), "resets": 0, "mailq": None}

    def reset() -> None:
        state["resets"] += 1

    def mailq(*asked: Any) -> dict[str, Any]:
        state["mailq"] = asked
        return {"QueueSummary": []}

    views = Views(
        metrics=lambda: b"momentum_push_receptions_total 1\n",
        summary=lambda: {"ReceivedMessages": 7},
        reset_summary=reset,
        mailq=mailq,
        is_ready=lambda: state["is_ready"],
    )
    clock = SystemClock()
    numbers = itertools.count(1)
    app = build_app(
        intake=intake,
        views=views,
        meters=meters,
        records=records,
        clock=clock,
        next_batch=lambda: hex_id(next(numbers)),
        passwords=PasswordFiles(),
        body_budget=body_budget,
    )
    listener = HttpListener(app, clock, lambda: hex_id(next(numbers)), limits)
    sock = socket.create_server(("127.0.0.1", 0))
    sock.setblocking(False)
    await listener.start([(listen, [sock])])
    try:
        yield HttpDoor(listener.ports[0], intake, meters, records, listener, listen, state)
    finally:
        await listener.stop(1.0)


def conforms(value: Any, schema: dict[str, Any], root: dict[str, Any]) -> bool:
    """Whether a value is as a JSON schema has it; as much of JSON Schema as our document uses."""
    if "$ref" in schema:
        return conforms(value, root["components"]["schemas"][schema["$ref"].rpartition("/")[2]], root)
    if "oneOf" in schema:
        return sum(conforms(value, option, root) for option in schema["oneOf"]) == 1
    if "type" in schema:
        kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
        if not any(
            isinstance(value, _KINDS[kind]) and not (kind == "integer" and value is True) for kind in kinds
        ):
            return False
    if "enum" in schema and value not in schema["enum"]:
        return False
    if isinstance(value, list):
        return len(value) >= schema.get("minItems", 0) and all(
            conforms(item, schema.get("items", {}), root) for item in value
        )
    if isinstance(value, dict):
        known, others = schema.get("properties", {}), schema.get("additionalProperties", {})
        if not set(schema.get("required", [])) <= value.keys() or (
            others is False and value.keys() - known.keys()
        ):
            return False
        return all(conforms(item, known.get(key, others), root) for key, item in value.items())
    return True


_KINDS: dict[str, type] = {
    "object": dict, "array": list, "string": str, "integer": int, "null": type(None), "boolean": bool,
}  # fmt: skip
