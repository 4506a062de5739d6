"""One HTTP connection, with limits where uvicorn has none.

    connection_made ──► headers: deadline, bytes ──► body: minimum rate ──► answer: write deadline
          │                    408, 431                    408                     closed
          └─ listener_sessions: 503             between requests: idle_time

Lives here: what a slow or greedy client may cost. Not here: what a request means (`http`), opening and
closing doors (`http_server`). Everything that is waited for has a deadline:

- **headers** must be complete `header_timeout_s` after their first byte (after the connection, for the
  first ones) and hold at most `max_header_bytes`;
- **a body** may take `body_grace_s`, after that it must have come with `min_body_rate` bytes a second
  on average. Time in which *we* do not read (a commit is under way) is not the client's;
- **an answer** that the client does not read at all for `write_timeout_s` ends the connection;
- **closing** while the client still sends would make the kernel drop our answer with a reset (RFC 9112
  section 9.6), so what comes is read and thrown away for `linger_s`, then the connection is cut.

Subclass of uvicorn's httptools protocol: parser, pipelining and flow control stay its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Protocol

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from momentum_push.injection.http_access import Notes, Options, client_name
from momentum_push.injection.http_answers import RequestRefused, refusal_answer

__all__ = ["BoundedProtocol", "Limits"]


@dataclass(frozen=True, slots=True)
class Limits:
    """What a client may take of our time and memory before its request is complete."""

    header_timeout_s: float = 10.0
    max_header_bytes: int = 65_536
    body_grace_s: float = 10.0
    min_body_rate: int = 1024
    """Bytes a second."""
    write_timeout_s: float = 60.0
    linger_s: float = 5.0


class Door(Protocol):
    """What a connection asks of the door that it came through (`http_server.OpenDoor`)."""

    @property
    def notes(self) -> Notes: ...
    def options_for(self, client: tuple[str, int] | None) -> Options: ...
    def entered(self, connection: BoundedProtocol, limit: int) -> bool: ...
    def left(self, connection: BoundedProtocol) -> None: ...


class Lingering:
    """A transport whose `close` waits a little for a client that still sends, and that writes once a turn."""

    def __init__(self, transport: asyncio.Transport, limits: Limits, is_midway: Callable[[], bool]) -> None:
        self._transport = transport
        self._limits = limits
        self._is_midway = is_midway
        self._timer: asyncio.TimerHandle | None = None
        self._unsent: list[bytes] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def is_closing(self) -> bool:
        """Whether no more requests are taken."""
        return self._timer is not None or self._transport.is_closing()

    def write(self, data: bytes) -> None:
        """Send at the end of this turn, so that head and body of an answer leave with one system call."""
        if self.is_closing():
            return
        self._unsent.append(data)
        if len(self._unsent) == 1:
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        if self._unsent:
            data, self._unsent = b"".join(self._unsent), []
            self._transport.write(data)

    def close(self) -> None:
        """Close now, or, in the middle of a request, when the client has had time to read the answer."""
        if self.is_closing():
            return
        self._flush()
        is_midway = self._is_midway()
        seconds = self._limits.linger_s if is_midway else self._limits.write_timeout_s
        self._timer = asyncio.get_running_loop().call_later(seconds, self._transport.abort)
        if not is_midway:
            self._transport.close()
            return
        self._transport.resume_reading()
        if self._transport.can_write_eof():
            self._transport.write_eof()

    def settle(self) -> None:
        """The connection is gone."""
        if self._timer is not None:
            self._timer.cancel()
        self._is_midway = _never  # a ring with the protocol


def _never() -> bool:
    return False


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's protocol within `Limits`, bound to the door that it came through."""

    def __init__(
        self, config: Config, server_state: ServerState, door: Door, conn_id: str, limits: Limits
    ) -> None:
        super().__init__(config, server_state, {"door": door, "conn_id": conn_id})
        self._door = door
        self._limits = limits
        self._header_bytes = 0
        self._in_headers = True
        self._in_body = False
        self._is_refused = False
        self._body_bytes = 0
        self._body_waited_s = 0.0
        self._header_timer: asyncio.TimerHandle | None = None
        self._body_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        doing = "headers" if self._in_headers else "body" if self._in_body else "answer"
        return f"<BoundedProtocol {self.client}: {doing}>"

    # --- coming and going --------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin, or say that there are too many."""
        lingering: Any = Lingering(transport, self._limits, self._is_midway)
        super().connection_made(lingering)
        self.app_state["has_certificate"] = bool(transport.get_extra_info("peercert"))
        options = self._door.options_for(self.client)
        self.timeout_keep_alive = options["idle_time"]
        self._arm_headers()
        if not self._door.entered(self, options["listener_sessions"]):
            busy = RequestRefused(503, "ServiceUnavailable", "too many connections", {"Retry-After": "1"})
            self._refuse(busy)

    def connection_lost(self, exc: Exception | None) -> None:
        """End; no timer survives."""
        for timer in (self._header_timer, self._body_timer, self._write_timer):
            if timer is not None:
                timer.cancel()
        lingering: Any = self.transport
        lingering.settle()
        super().connection_lost(exc)
        self._unset_keepalive_if_required()
        self._door.left(self)

    def shutdown(self) -> None:
        """The door closes: nobody waits for the end of headers that have only begun."""
        if self._in_headers and (self.cycle is None or self.cycle.response_complete):
            self.transport.abort()
        else:
            super().shutdown()

    def _is_midway(self) -> bool:
        return self._in_body or (self._in_headers and self._header_bytes > 0)

    def _refuse(self, refused: RequestRefused) -> None:
        """Answer in the handler's stead, and close; without a word where an answer is under way."""
        self._is_refused = True
        self._door.notes.request(None, client_name(self.client), refused)
        cycle = self.cycle
        is_served = cycle is not None and not cycle.response_complete
        if self.pipeline or (is_served and cycle.response_started):
            self.transport.close()
            return
        if is_served:
            cycle.disconnected = True  # whoever reads the body learns that it will not come
            cycle.message_event.set()
        answer = refusal_answer(refused)
        answer.headers["connection"] = "close"
        head = b"".join(
            b"%s: %s\r\n" % pair for pair in [*self.server_state.default_headers, *answer.raw_headers]
        )
        phrase = HTTPStatus(refused.status).phrase
        status = f"HTTP/1.1 {refused.status} {phrase}\r\n".encode()
        self.transport.write(status + head + b"\r\n" + bytes(answer.body))
        self.transport.close()

    def send_400_response(self, msg: str) -> None:
        """Answer what the parser could not read; the request in progress, if any, is lost with it."""
        self._refuse(RequestRefused(400, "BadRequest", "this is not HTTP/1.1 as RFC 9112 has it"))

    # --- headers -----------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Feed the parser and count what it keeps."""
        if self._is_refused or self.transport.is_closing():
            return
        super().data_received(data)
        if self._in_headers:
            self._header_bytes += len(data)
            self._check_header_bytes()
            self._arm_headers()
        elif self._in_body and self._body_timer is None:
            self._arm_body()  # only for bodies that did not come with their headers

    def on_message_begin(self) -> None:
        """A request's first byte."""
        super().on_message_begin()
        self._in_headers = True
        self._header_bytes = 0

    def on_headers_complete(self) -> None:
        """Start the request, unless its headers are too long."""
        self._in_headers = False
        self._disarm_headers()
        sizes = [len(name) + len(value) + 4 for name, value in self.headers]
        self._header_bytes = len(self.url) + sum(sizes)
        self._check_header_bytes()
        if self._is_refused:
            return
        super().on_headers_complete()
        self._in_body = True
        self._body_bytes = 0
        self._body_waited_s = 0.0

    def _check_header_bytes(self) -> None:
        if self._header_bytes > self._limits.max_header_bytes and not self._is_refused:
            detail = f"the headers have more than {self._limits.max_header_bytes} bytes"
            self._refuse(RequestRefused(431, "HeadersTooLarge", detail))

    def _arm_headers(self) -> None:
        if self._header_timer is None and not self._is_refused:
            self._header_timer = self.loop.call_later(self._limits.header_timeout_s, self._headers_late)

    def _disarm_headers(self) -> None:
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None

    def _headers_late(self) -> None:
        self._header_timer = None
        if not self._in_headers or self.transport.is_closing():
            return
        if self.cycle is not None and not self.cycle.response_complete:
            self._arm_headers()  # pipelined: the request before is being served, so we may not be reading
        elif self._header_bytes:
            self._refuse(RequestRefused(408, "RequestTimeout", "the headers came too slowly"))
        else:
            self.transport.close()

    # --- bodies ------------------------------------------------------------------------------------

    def on_body(self, body: bytes) -> None:
        """Count and pass on."""
        self._body_bytes += len(body)
        if not self._is_refused:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """The request's last byte."""
        self._in_body = False
        if self._body_timer is not None:
            self._body_timer.cancel()
            self._body_timer = None
        if not self._is_refused:
            super().on_message_complete()

    def _arm_body(self) -> None:
        step = min(1.0, self._limits.body_grace_s / 4)
        self._body_timer = self.loop.call_later(step, self._check_body, step)

    def _check_body(self, step: float) -> None:
        self._body_timer = None
        if not self._in_body or self.transport.is_closing():
            return
        if not self.flow.read_paused:
            self._body_waited_s += step
        late = self._body_waited_s - self._limits.body_grace_s
        if late > 0 and self._body_bytes < late * self._limits.min_body_rate:
            self._refuse(RequestRefused(408, "RequestTimeout", "the body came too slowly; send it again"))
        else:
            self._arm_body()

    # --- answers -----------------------------------------------------------------------------------

    def on_response_complete(self) -> None:
        """Wait for the next request, for ever with `idle_time` 0."""
        super().on_response_complete()
        if not self.timeout_keep_alive:
            self._unset_keepalive_if_required()

    def pause_writing(self) -> None:
        """The client reads slowly; it has a while to take the next bytes."""
        super().pause_writing()
        self._write_timer = self.loop.call_later(self._limits.write_timeout_s, self.transport.abort)

    def resume_writing(self) -> None:
        """The client reads on."""
        super().resume_writing()
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None
