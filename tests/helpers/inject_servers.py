"""Doors to try `inject` at: an HTTP and an SMTP server that note what they got and answer as told."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, Session

__all__ = ["HttpDoor", "SmtpDoor", "http_door", "smtp_door"]

Reply = tuple[int, Any, dict[str, str]]


@dataclass
class HttpDoor:
    """Answers like POST /v1/notifications; `bad` tokens are refused, `first` are answers sent before that."""

    bad: dict[str, str] = field(default_factory=dict)
    first: list[Reply | None] = field(default_factory=list)
    """None: the connection is closed without an answer."""
    requests: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    peers: set[tuple[str, int]] = field(default_factory=set)
    lock: threading.Lock = field(default_factory=threading.Lock)
    url: str = ""

    @property
    def tokens(self) -> list[str]:
        return [token for request in self.requests for token in request["device_tokens"]]

    def answer(self, body: bytes) -> Reply | None:
        with self.lock:
            if self.first:
                return self.first.pop(0)
            self.bodies.append(body)
            try:
                request = json.loads(body)
            except ValueError:
                return 400, {"error": "BadPayload", "detail": "body: not JSON"}, {}
            self.requests.append(request)
        results = [self._result(token) for token in request["device_tokens"]]
        is_any_good = any("id" in result for result in results)
        return 200 if is_any_good else 400, {"error": "", "detail": "", "results": results}, {}

    def _result(self, token: str) -> dict[str, str]:
        error = self.bad.get(token)
        return (
            {"error": error, "detail": "as told"} if error else {"id": "00/00-00000-00000000", "apns_id": "x"}
        )


@contextmanager
def http_door(**options: Any) -> Iterator[HttpDoor]:
    door = HttpDoor(**options)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            door.paths.append(self.path)
            door.headers.append({name.lower(): value for name, value in self.headers.items()})
            door.peers.add(self.client_address)
            reply = door.answer(body)
            if reply is None:
                self.close_connection = True
                return
            status, value, headers = reply
            data = value if isinstance(value, bytes) else json.dumps(value).encode()
            self.send_response(status)
            for name, text in {"Content-Length": str(len(data)), **headers}.items():
                self.send_header(name, text)
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    door.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield door
    finally:
        server.shutdown()
        server.server_close()


@dataclass
class SmtpDoor:
    """Takes mail; `rcpt` and `data` are asked for a reply first, None means accepted."""

    rcpt: Callable[[str], str | None] = lambda address: None
    data: Callable[[Envelope], str | None] = lambda envelope: None
    envelopes: list[Envelope] = field(default_factory=list)
    sessions: set[int] = field(default_factory=set)
    port: int = 0
    users: dict[str, str] = field(default_factory=dict)

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: Any
    ) -> str:
        self.sessions.add(id(session))
        reply = self.rcpt(address)
        if reply is None:
            envelope.rcpt_tos.append(address)
        return reply or "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        reply = self.data(envelope)
        if reply is None:
            self.envelopes.append(envelope)
        return reply or "250 2.0.0 00/00-00000-00000000 accepted"

    def authenticate(
        self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: Any
    ) -> AuthResult:
        is_known = self.users.get(data.login.decode()) == data.password.decode()
        return AuthResult(success=is_known)

    @property
    def locals(self) -> list[str]:
        return [rcpt.partition("@")[0] for envelope in self.envelopes for rcpt in envelope.rcpt_tos]


class _FreePort(Controller):
    """Lets the system choose the port; the controller's own first connection must go to that one."""

    def _trigger_server(self) -> None:
        self.port = self.server.sockets[0].getsockname()[1]
        super()._trigger_server()


@contextmanager
def smtp_door(tls_context: Any = None, **options: Any) -> Iterator[SmtpDoor]:
    door = SmtpDoor(**options)
    controller = _FreePort(
        door,
        hostname="127.0.0.1",
        port=0,
        authenticator=door.authenticate if door.users else None,
        auth_require_tls=False,
        auth_required=bool(door.users),
        tls_context=tls_context,
        require_starttls=tls_context is not None,
    )
    controller.start()
    door.port = controller.port
    try:
        yield door
    finally:
        controller.stop()
