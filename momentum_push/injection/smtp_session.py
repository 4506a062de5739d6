"""One SMTP connection: aiosmtpd's server, with the limits lifted that a mail server for people needs.

Lives here: what handlers of aiosmtpd cannot reach. Not here: any decision on who may send what
(`smtp_handler`), and the parser of commands, which is aiosmtpd's.

    what aiosmtpd does                          what we do instead
    lines of DATA up to 1,001 bytes, each       mail collected as it comes (`smtp_data`), of any line length
      awaited
    commands up to 512 bytes                    4,096: a token has up to 512 digits
    timer not renewed in DATA                   renewed by every read in DATA, and an end for DATA as a whole
    end of file cancels the session             replies that are due still go out; a mail whose last dot
                                                came is taken even when nobody waits for the answer
    a write for each reply                      replies to pipelined commands leave together
    addresses by `email`'s parser               one regular expression, for speed; underscores and UTF-8
    STARTTLS by the event loop's innards        `loop.start_tls`, for uvloop; and what a client (or
                                                somebody between) sent in advance ends the session
    whole addresses in `mail.log`               that logger is off: local parts are device tokens

Time limits. Between commands: `idle_time` since the last valid command. In DATA: `idle_time` since the last
read, and DATA_LIMIT_S in all, whatever trickles in. While a mail is put on disk: none of ours.
"""

from __future__ import annotations

import asyncio
import logging
import math
import ssl
import traceback
from typing import Any, Protocol

import structlog
from aiosmtpd.smtp import SMTP, Envelope, syntax

from momentum_push.injection.smtp_address import split_path
from momentum_push.injection.smtp_data import Budget, MailCollector
from momentum_push.injection.smtp_policy import Policy

__all__ = ["DATA_LIMIT_S", "HANDSHAKE_S", "INTERNAL", "Refused", "SmtpSession", "trace"]

DATA_LIMIT_S = 600.0
"""For one DATA command; RFC 5321 section 4.5.3.2.6 lets clients wait as long for its reply."""

CLOSING_S = 10.0
"""For a client to take our last words."""

HANDSHAKE_S = 30.0
MAX_COMMAND = 4096
INTERNAL = "451 4.3.0 internal error, try again later"
_MAX_HELD = 16_384
_READ = 1 << 24

logging.getLogger("mail.log").disabled = True

log = structlog.get_logger()


class Refused(Exception):
    """A connection is not taken; its text is the whole reply."""


class _OneLimit(dict[str, int]):
    """Stands in for aiosmtpd's table of command sizes, which all sessions share and unknown words fill."""

    def __missing__(self, command: str) -> int:
        return MAX_COMMAND

    def __setitem__(self, command: str, size: int) -> None:
        """Take no other limit."""


class Door(Protocol):
    """What a session asks of its listener."""

    budget: Budget
    data_limit_s: float

    @property
    def is_stopping(self) -> bool: ...

    def enter(self, session: SmtpSession, ip: str | None) -> Policy:
        """Admit a connection.

        Raises:
            Refused: it is not taken.
        """

    def leave(self, session: SmtpSession) -> None: ...

    def tls(self, session: SmtpSession) -> ssl.SSLContext | None: ...


class SmtpSession(SMTP):
    """A connection from its greeting to its end."""

    command_size_limit = MAX_COMMAND
    command_size_limits = _OneLimit()
    line_length_limit = 65_536  # of the reader: what may wait while a mail is put on disk

    policy: Policy
    transport: Any
    session: Any
    envelope: Any
    _reader: Any
    _writer: Any
    _handler_coroutine: Any
    _timeout_handle: Any

    def __init__(self, door: Door, handler: Any, conn_id: str) -> None:
        super().__init__(
            handler,
            data_size_limit=None,  # the handler's business: its reply is ours
            enable_SMTPUTF8=True,
            hostname="localhost",  # until the policy is known; asking DNS takes time
            ident="ESMTP",
            auth_require_tls=False,
            authenticator=handler.authenticate,
            loop=asyncio.get_running_loop(),
        )
        self.conn_id = conn_id
        self.ip: str | None = None
        self.client = "unknown"
        self.is_tls = False
        self.user = ""
        self.auth_failures = 0
        self.receptions = 0
        self.recipients = 0
        self.verdict: tuple[str, str] | None = None  # the last recipient domain, and what was said of it
        self.is_committing = False
        self._door = door
        self._is_admitted = False
        self._held = bytearray()
        self._active = self.loop.time()
        self._collector: MailCollector | None = None
        self._collected: asyncio.Future[None] | None = None
        self._data_ends = math.inf
        self._closes_at = math.inf

    def __repr__(self) -> str:
        state = "committing" if self.is_committing else "in DATA" if self.is_in_data else "waiting"
        return f"<SmtpSession {self.conn_id} {self.client} {state}, {self.receptions} mails>"

    @property
    def is_in_data(self) -> bool:
        """Whether a mail is coming in or being put on disk."""
        return self._collector is not None or self.is_committing

    # Connection

    def connection_made(self, transport: Any) -> None:
        peer = transport.get_extra_info("peername")
        if isinstance(peer, tuple):
            self.ip, self.client = peer[0], f"{peer[0]}:{peer[1]}"
        self.transport = transport
        self._note_tls(transport)
        try:
            self.policy = self._door.enter(self, self.ip)
        except Refused as refused:
            transport.write(f"{refused}\r\n".encode())
            transport.close()
            return
        self._is_admitted = True
        self._apply_policy()
        super().connection_made(transport)
        self._handler_coroutine.add_done_callback(_note_end)

    def _note_tls(self, transport: Any) -> None:
        self.is_tls = transport.get_extra_info("ssl_object") is not None

    def _apply_policy(self) -> None:
        self.hostname, _, self.__ident__ = self.policy.greeting.partition(" ")
        self._auth_methods = {
            name: method for name, method in self._auth_methods.items() if name in self.policy.passwords
        }
        self._auth_required = self.policy.is_auth_required and not self.policy.is_relay_host(self.ip)

    def data_received(self, data: bytes) -> None:
        if not self._is_admitted:
            return
        if self._collector is not None:
            self._collect(data)
        else:
            super().data_received(data)

    def eof_received(self) -> bool | None:
        """Let the session go on: it ends by itself when it has answered what had come before."""
        if not self._is_admitted:
            return False
        if self._collector is not None:
            self._cancel()
        return asyncio.StreamReaderProtocol.eof_received(self)  # not aiosmtpd's, which cancels

    def connection_lost(self, error: Exception | None) -> None:
        if not self._is_admitted:
            return
        self._is_admitted = False
        if self._collector is not None:
            self._collector.close()
        self._door.leave(self)
        super().connection_lost(error)
        self._handler_coroutine.add_done_callback(self._let_go)

    def _let_go(self, task: asyncio.Task[None]) -> None:
        """Break the rings that aiosmtpd makes, when nothing goes on any more.

        The collector counts objects and no bytes: TLS's buffers would wait for it, many minutes perhaps.
        """
        self._smtp_methods = {}
        self._handler_coroutine = self._client_connected_cb = self._reader = self._writer = None

    def hang_up(self, reply: str) -> None:
        """End the session from outside, with a last reply."""
        if self.transport is not None and not self.transport.is_closing():
            self._held += reply.encode() + b"\r\n"
            self._flush()
            self._close()
        self._cancel()

    def abort(self) -> None:
        """End the session at once."""
        if self.transport is not None:
            self.transport.abort()

    def _cancel(self) -> None:
        """Stop the session's coroutine; a mail that is being put on disk goes on without it."""
        if self._handler_coroutine is not None:
            self._handler_coroutine.cancel()

    def _close(self) -> None:
        if self.transport is not None:
            self.transport.close()
            self._closes_at = self.loop.time() + CLOSING_S
            self._watch()

    # Time limits

    def _reset_timeout(self, duration: float | None = None) -> None:
        """Called by aiosmtpd for every valid command."""
        self._active = self.loop.time()
        if self._timeout_handle is None:
            self._watch()

    def _expires_at(self) -> float:
        idle_s = self.policy.idle_s or math.inf
        if self.is_committing:
            return self._closes_at
        return min(self._active + idle_s, self._data_ends, self._closes_at)

    def _watch(self) -> None:
        """See to it that the timer rings when the session expires, or in a minute to look again."""
        now = self.loop.time()
        wanted = min(self._expires_at(), now + 60.0)
        if self._timeout_handle is None or self._timeout_handle.when() > wanted:
            if self._timeout_handle is not None:
                self._timeout_handle.cancel()
            self._timeout_handle = self.loop.call_at(wanted, self._timeout_cb)

    def _timeout_cb(self) -> None:
        self._timeout_handle = None
        if self.loop.time() < self._expires_at():
            self._watch()
        elif self.transport is None or self.transport.is_closing():
            self.abort()
        else:
            log.info("smtp_session_timed_out", conn_id=self.conn_id, client=self.client, data=self.is_in_data)
            self.hang_up("421 4.4.2 timeout, closing connection")
        if self._timeout_handle is None:
            self._watch()

    # Replies

    async def push(self, status: str | bytes | None) -> None:
        """Send a reply, or keep it until the commands that have come already are answered too."""
        if self.transport is None or self.transport.is_closing():
            raise asyncio.CancelledError  # nobody listens: the session is over
        assert status is not None
        reply = status if isinstance(status, bytes) else status.encode("ascii", "replace")
        self._held += reply + b"\r\n"
        if reply[:3] in (b"250", b"550") and self._is_command_waiting():
            return
        self._flush()
        await self._writer.drain()

    def _is_command_waiting(self) -> bool:
        return b"\n" in self._reader._buffer and len(self._held) < _MAX_HELD

    def _flush(self) -> None:
        if self._held:
            self._writer.write(bytes(self._held))
            self._held.clear()

    async def close_after(self, reply: str) -> None:
        """Send a reply and end the session."""
        self.hang_up(reply)
        raise asyncio.CancelledError

    async def handle_exception(self, error: Exception) -> str:
        """Answer what went wrong in a command; called by aiosmtpd."""
        if isinstance(error, asyncio.IncompleteReadError):  # the client has said all it had to say
            self._flush()
            self._close()
            raise asyncio.CancelledError
        log.error("smtp_command_failed", conn_id=self.conn_id, client=self.client, trace=trace(error))
        return INTERNAL

    # Commands

    async def check_helo_needed(self, helo: str = "HELO") -> bool:
        if self.session.host_name or not (self.policy.is_ehlo_required or helo == "EHLO"):
            return False
        await self.push("501 5.5.1 say HELO or EHLO first")
        return True

    def _getaddr(self, arg: str) -> tuple[str | None, str | None]:
        return split_path(arg)

    @syntax("AUTH <mechanism>")
    async def smtp_AUTH(self, arg: str | None) -> None:
        mechanism, _, rest = (arg or "").partition(" ")
        await super().smtp_AUTH(f"{mechanism.upper()} {rest}".strip())
        if self.auth_failures >= 3:
            await self.close_after("421 4.7.0 too many failed logins")

    @syntax("STARTTLS")
    async def smtp_STARTTLS(self, arg: str | None) -> None:
        context = None if self.is_tls else self._door.tls(self)
        if arg:
            await self.push("501 5.5.4 Syntax: STARTTLS")
        elif context is None:
            await self.push("503 5.5.1 TLS is on" if self.is_tls else "454 4.7.0 TLS not available")
        elif self._reader._buffer:
            # starttls_injection_policy = reject (CVE-2011-0411): those bytes came without TLS.
            await self.close_after("554 5.5.1 commands pipelined after STARTTLS")
        else:
            await self.push("220 2.0.0 ready to start TLS")
            await self._start_tls(context)

    async def _start_tls(self, context: ssl.SSLContext) -> None:
        """Put TLS below the session; nothing must be awaited between the look at the buffer and the change.

        Afterwards the buffer is not cleared: the client's first commands may have come through TLS already.
        """
        if self._reader._buffer:  # a client that did not wait for our 220, which did not leave at once
            self.abort()
            raise asyncio.CancelledError
        try:
            transport = await self.loop.start_tls(
                self.transport, self, context, server_side=True, ssl_handshake_timeout=HANDSHAKE_S
            )
        except (OSError, EOFError) as error:  # ssl.SSLError is an OSError; TimeoutError as well
            log.info("smtp_starttls_failed", conn_id=self.conn_id, client=self.client, error=str(error))
            transport = None
        if transport is None:
            self.abort()
            raise asyncio.CancelledError
        self._use(transport)

    def _use(self, transport: Any) -> None:
        """Go on above TLS and forget what was said before it (RFC 3207 section 4.2)."""
        self.transport = self._transport = transport
        self._reader._transport = self._writer._transport = transport
        self._over_ssl = True
        self._note_tls(transport)
        self.session.host_name, self.session.extended_smtp = None, False
        self.session.authenticated, self.user = None, ""
        self._set_rset_state()  # type: ignore[no-untyped-call]

    @syntax("DATA")
    async def smtp_DATA(self, arg: str | None) -> None:
        if await self.check_helo_needed() or await self.check_auth_needed("DATA"):
            return
        if arg or not self.envelope.rcpt_tos:
            await self.push("501 5.5.4 Syntax: DATA" if arg else "503 5.5.1 need a recipient first")
            return
        collector = await self._receive()
        self.envelope.content = (
            None if collector.is_too_large or collector.is_over_budget else collector.take()
        )
        collector.close()
        if collector.is_over_budget:
            await self.close_after("421 4.3.0 message is too large to process at this time")
        reply = await self._call_handler_hook("DATA")
        self._set_post_data_state()  # type: ignore[no-untyped-call]
        self._active = self.loop.time()
        await self.push(reply)
        if self._door.is_stopping:
            await self.close_after("421 4.3.2 shutting down")

    async def _receive(self) -> MailCollector:
        """Collect a mail; what follows it goes to the reader, as the commands that it is."""
        collector = self._collector = MailCollector(self.policy.max_message_size, self._door.budget)
        self._collected = self.loop.create_future()
        is_whole = False
        self._active = self.loop.time()
        self._data_ends = self._active + self._door.data_limit_s
        self._watch()
        try:
            await self.push("354 end data with <CR><LF>.<CR><LF>")
            if self._reader._buffer:  # a client that did not wait for 354
                self._collect(await self._reader.read(_READ))
            await self._collected
            is_whole = True
        finally:
            self._collector, self._data_ends = None, math.inf
            if not is_whole:
                collector.close()
        return collector

    def _collect(self, data: bytes) -> None:
        assert self._collector is not None and self._collected is not None
        self._active = self.loop.time()
        rest = self._collector.feed(data)
        if rest is None:
            return
        self._collector = None
        if not self._collected.done():
            self._collected.set_result(None)
        if rest:
            super().data_received(rest)

    def _create_envelope(self) -> Envelope:
        self.verdict = None  # a reload may have changed it since the last mail
        return Envelope()


def _note_end(task: asyncio.Task[None]) -> None:
    """Fetch the exception of a session's coroutine; a connection that was reset is none of interest."""
    error = None if task.cancelled() else task.exception()
    if error is not None and not isinstance(error, ConnectionError):
        log.error("smtp_session_failed", trace=trace(error))


def trace(error: BaseException) -> str:
    """Return a traceback as text; `exc_info` may show local variables, device tokens among them."""
    return "".join(traceback.format_exception(error))
