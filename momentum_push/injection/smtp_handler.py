"""What an SMTP session is told: who may send what to whom, and what became of it.

Lives here: the hooks that aiosmtpd calls for each command, replies and refusals included. Not here: the
connection (`smtp_session`), the options (`smtp_policy`), the mail's form (`message.mcmt`).

    EHLO ──► MAIL ──► RCPT … ──► DATA ──► parse ──► drafts ──► intake.accept ──► 250 2.0.0 MID accepted
             size,    relaying,           550 5.6.0            whole: one bad
             sender   limits              553 5.1.3            recipient and
                                          552 5.3.4            nothing is queued

Decisions. Mail without a readable push part is `550 5.6.0` whatever `mcmt_reception` says; a readable one
that `mcmt_reception` does not allow is `550 5.7.1 MCMT not permitted`. One recipient too many is `452 4.5.3`
(RFC 5321 section 4.5.3.1.10): the client sends the rest in another transaction. AUTH without TLS is taken,
as Momentum takes it, where `smtp_extensions` offers it.

With `idempotent_message_id` a mail that comes again within a day, because the client never saw the 250, gets
the same 250 and is not queued: same user, Message-ID, recipients in whatever order, and same push part. The
push part counts, so that a sender who uses one Message-ID for all mails loses none of them; trace headers,
the sender and the other parts do not, for relays change them on the way. Without Message-ID all is as ever.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import structlog
from aiosmtpd.smtp import AuthResult

from momentum_push.clock import Clock
from momentum_push.errors import InjectionError, LogError, SpoolError
from momentum_push.injection.auth import Verdict
from momentum_push.injection.keyring import KeyInUse
from momentum_push.injection.smtp_address import NULL_SENDER
from momentum_push.injection.smtp_session import INTERNAL, SmtpSession
from momentum_push.loggers.records import Authentication, Rejection
from momentum_push.message import Draft, Message, Origin, Refusal
from momentum_push.message.keys import Key, digest
from momentum_push.message.mcmt import drafts_from, message_id, parse
from momentum_push.meters import Meters

__all__ = ["IntakeLike", "Records", "SmtpHandler", "refusal_reply"]

COMMIT_LIMIT_S = 300.0
"""For the disk to take a mail; a client waits ten minutes (RFC 5321 section 4.5.3.2.6)."""

MAX_REPLY = 400
"""Characters of a refusal's text; a line of a reply has at most 512 bytes (RFC 5321 section 4.5.3.1.5)."""

_CODES = {
    "BadDeviceToken": "553 5.1.3",
    "MissingDeviceToken": "553 5.1.3",
    "PayloadTooLarge": "552 5.3.4",
    "RecipientBlackholed": "551 5.7.1",
}

TOO_LARGE = "552 5.3.4 message size limit exceeded"
DENIED = "550 5.7.1 relaying denied"

log = structlog.get_logger()


class IntakeLike(Protocol):
    """What is asked of the intake."""

    def is_apn(self, domain: str) -> bool: ...

    async def accept(
        self, origin: Origin, drafts: Sequence[Draft], whole: bool = False, key: Key | None = None
    ) -> list[Message | Refusal]: ...


class Records(Protocol):
    """What is asked of the loggers."""

    def rejection(self, now: float, rejection: Rejection) -> None: ...
    def authentication(self, now: float, authentication: Authentication) -> None: ...


class Door(Protocol):
    """What is asked of the listener."""

    @property
    def is_stopping(self) -> bool: ...
    def listen_address(self, server: SmtpSession) -> str: ...
    def hold(self, commit: asyncio.Task[str]) -> None:
        """Keep a commit alive when its session is gone."""


class SmtpHandler:
    """The hooks of one listener; sessions keep what is theirs."""

    def __init__(
        self,
        *,
        door: Door,
        intake: IntakeLike,
        records: Records,
        meters: Meters,
        clock: Clock,
        new_id: Callable[[], str],
    ) -> None:
        self._door = door
        self._intake = intake
        self._records = records
        self._meters = meters
        self._clock = clock
        self._new_id = new_id

    # Greeting and login

    async def handle_HELO(self, server: SmtpSession, session: Any, envelope: Any, hostname: str) -> str:
        session.host_name = hostname
        return f"250 {server.policy.hostname} says HELO to {server.ip or 'you'}"

    async def handle_EHLO(
        self, server: SmtpSession, session: Any, envelope: Any, hostname: str, responses: list[str]
    ) -> list[str]:
        """Answer with the lines of momentum.md 3.3; those of aiosmtpd are not used."""
        session.host_name = hostname
        policy = server.policy
        mechanisms = " ".join(policy.passwords)
        lines = [
            f"{policy.hostname} says EHLO to {server.ip or 'you'}",
            "PIPELINING",
            *policy.extensions,
            "8BITMIME",
            "SMTPUTF8",
            f"SIZE {policy.max_message_size}",
            *([f"AUTH={mechanisms}", f"AUTH {mechanisms}"] if mechanisms else []),
            *(["STARTTLS"] if policy.is_starttls_offered and not server.is_tls else []),
        ]
        return ["\r\n".join([f"250-{line}" for line in lines[:-1]] + [f"250 {lines[-1]}"])]

    async def handle_RSET(self, server: SmtpSession, session: Any, envelope: Any) -> str:
        return "250 2.0.0 forgotten"

    async def handle_NOOP(self, server: SmtpSession, session: Any, envelope: Any, arg: str) -> str:
        return "250 2.0.0 nothing done"

    async def handle_QUIT(self, server: SmtpSession, session: Any, envelope: Any) -> str:
        return "221 2.0.0 goodbye"

    def authenticate(
        self, server: SmtpSession, session: Any, envelope: Any, mechanism: str, login: Any
    ) -> AuthResult:
        """Judge a login, for aiosmtpd's AUTH."""
        policy = server.policy
        verdict = policy.passwords[mechanism].check(login.login, login.password)
        user = login.login.decode(errors="replace")
        is_accepted = verdict is Verdict.PASS
        self._note_login(server, user, is_accepted)
        if is_accepted:
            server.user, server.verdict = user, None
            return AuthResult(success=True, auth_data=login)
        if verdict is Verdict.ERROR:
            return AuthResult(success=False, handled=False, message="454 4.7.0 users cannot be looked up")
        server.auth_failures += 1
        return AuthResult(success=False, handled=False, message="535 5.7.8 authentication failed")

    def _note_login(self, server: SmtpSession, user: str, is_accepted: bool) -> None:
        listener = self._door.listen_address(server)
        self._write(self._records.authentication, Authentication(listener, server.client, user, is_accepted))

    # Envelope

    async def handle_MAIL(
        self, server: SmtpSession, session: Any, envelope: Any, address: str, options: list[str]
    ) -> str:
        policy = server.policy
        if policy.max_receptions and server.receptions >= policy.max_receptions:
            await server.close_after("421 4.7.0 too many messages on this connection")
        if address == NULL_SENDER and not policy.is_null_sender_welcome:
            return self._reject(server, "mailfrom", "550 5.7.1 null sender not permitted", "NullSender")
        if _announced(options) > policy.max_message_size:
            return self._reject(server, "mailfrom", TOO_LARGE, "MessageTooLarge")
        envelope.mail_from = _qualify(address, policy.sender_domain)
        return "250 2.1.0 sender accepted"

    async def handle_RCPT(
        self, server: SmtpSession, session: Any, envelope: Any, address: str, options: list[str]
    ) -> str:
        policy = server.policy
        address = _qualify(address, policy.recipient_domain)
        domain = address.rpartition("@")[2].lower()
        if server.verdict is None or domain != server.verdict[0]:
            server.verdict = (domain, self._judge(server, domain))
        if server.verdict[1]:
            return self._reject(server, "rcptto", server.verdict[1], "RelayingDenied")
        limit = policy.max_recipients_per_connection
        if len(envelope.rcpt_tos) >= policy.max_recipients or 0 < limit <= server.recipients:
            return self._reject(server, "rcptto", "452 4.5.3 too many recipients", "TooManyRecipients")
        server.recipients += 1
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 recipient accepted"

    def _judge(self, server: SmtpSession, domain: str) -> str:
        """Return the refusal of a recipient's domain, or nothing (interfaces.md 2, Recipients)."""
        policy = server.policy
        may_relay = (
            policy.is_open_relay
            or policy.is_always_allowed
            or bool(server.user)
            or policy.is_relay_domain(domain)
            or policy.is_relay_host(server.ip)
        )
        return "" if may_relay and self._intake.is_apn(domain) else DENIED

    # The mail

    async def handle_DATA(self, server: SmtpSession, session: Any, envelope: Any) -> str:
        if envelope.content is None:
            return self._reject(server, "data", TOO_LARGE, "MessageTooLarge")
        mail, envelope.content = envelope.content, None
        drafts = self._read(server, envelope, mail)
        if isinstance(drafts, Refusal):
            return self._reject(server, "data", refusal_reply(drafts), drafts.error)
        key = _key_of(mail, server.user, drafts) if server.policy.is_message_id_idempotent else None
        server.receptions += 1
        return await self._commit(server, self._origin(server, envelope), drafts, key)

    def _read(self, server: SmtpSession, envelope: Any, mail: bytes) -> list[Draft] | Refusal:
        parsed = parse(mail)
        if isinstance(parsed, Refusal):
            return parsed
        if server.policy.mcmt_reception != "allow":
            return Refusal("McmtNotPermitted", "MCMT not permitted")
        recipients = [address.rpartition("@")[::2] for address in envelope.rcpt_tos]
        return drafts_from(parsed, recipients)

    def _origin(self, server: SmtpSession, envelope: Any) -> Origin:
        context = dict(server.policy.context)
        if server.user:
            context["auth_user"] = server.user
        return Origin(
            protocol="esmtp",
            client=server.client,
            mailfrom="" if envelope.mail_from == NULL_SENDER else envelope.mail_from,
            conn_id=server.conn_id,
            batch_id=self._new_id(),
            user=server.user,
            context=context,
        )

    async def _commit(self, server: SmtpSession, origin: Origin, drafts: list[Draft], key: Key | None) -> str:
        """Hand the mail to the intake; that goes on to its end, whatever becomes of the session."""
        commit = asyncio.get_running_loop().create_task(self._accept(server, origin, drafts, key))
        self._door.hold(commit)
        server.is_committing = True
        try:
            done, _ = await asyncio.wait((commit,), timeout=COMMIT_LIMIT_S)
        finally:
            server.is_committing = False
        if done:
            return INTERNAL if commit.exception() else commit.result()  # the listener logs it
        log.error("smtp_commit_timed_out", conn_id=server.conn_id, client=server.client)
        return "451 4.3.0 the disk did not answer in time; the message may be delivered twice"

    async def _accept(self, server: SmtpSession, origin: Origin, drafts: list[Draft], key: Key | None) -> str:
        try:
            results = await self._intake.accept(origin, drafts, whole=True, key=key)
        except KeyInUse as error:
            text = "451 4.3.0 the same message is being taken already; try again later"
            return self._reject(server, "data", text, error.error)
        except InjectionError as error:
            return self._reject(server, "data", f"421 4.3.2 {_one_line(error.detail)}", error.error)
        except SpoolError as error:
            log.warning("smtp_reception_failed", conn_id=server.conn_id, error=str(error))
            text = "452 4.3.1 the spool takes no messages now; try again later"
            return self._reject(server, "data", text, "SpoolUnavailable")
        refusals = [result for result in results if isinstance(result, Refusal)]
        if refusals:
            return self._reject(server, "data", _refuse_whole(refusals, len(results)), refusals[0].error)
        count = f" ({len(results)} recipients)" if len(results) > 1 else ""
        return f"250 2.0.0 {results[0].mid} accepted{count}"  # type: ignore[union-attr]  # no refusals left

    # Records

    def _reject(self, server: SmtpSession, phase: str, reply: str, error: str) -> str:
        """Record a refusal, and return it."""
        self.reject(server.client, self._door.listen_address(server), server.conn_id, phase, reply, error)
        return reply

    def reject(self, client: str, listener: str, conn_id: str, phase: str, reply: str, error: str) -> None:
        """Record a refusal in the meters and the rejectlog."""
        self._meters.rejections["esmtp", error] += 1
        rejection = Rejection(
            text=reply[4:],
            code=int(reply[:3]),
            peer=client,
            listener=listener,
            conn_id=conn_id,
            phase=phase,
            module="core",
            protocol="esmtp",
            error=error,
        )
        self._write(self._records.rejection, rejection)

    def _write(self, write: Callable[[float, Any], None], record: Any) -> None:
        """Write a record that nothing depends on: a log that fails refuses no client."""
        try:
            write(self._clock.now(), record)
        except LogError as error:
            log.error("log_write_failed", error=str(error))


def _key_of(mail: bytes, user: str, drafts: list[Draft]) -> Key | None:
    """Return the key of a mail; None when it has no Message-ID."""
    name = message_id(mail)
    if not name:
        return None
    recipients = sorted(
        f"{token} {rcpt}@{draft.domain}"
        for draft in drafts
        for token, rcpt in zip(draft.tokens, draft.rcpts or (), strict=True)
    )
    one = drafts[0]
    options = (
        one.topic, one.push_type, one.priority, one.expiration, one.collapse_id, one.apns_id, one.deliver_at
    )  # fmt: skip
    asked = [str(option or "") for option in options]
    return Key(digest("esmtp", user, name, one.payload, *asked, *recipients), b"")


def refusal_reply(refusal: Refusal) -> str:
    """Return the SMTP reply for a refusal: interfaces.md 3."""
    code = "550 5.7.1" if refusal.error == "McmtNotPermitted" else _CODES.get(refusal.error, "550 5.6.0")
    return f"{code} {_one_line(refusal.detail)}"


def _refuse_whole(refusals: list[Refusal], recipients: int) -> str:
    reply = refusal_reply(refusals[0])
    if recipients == 1:
        return reply
    return f"{reply} ({len(refusals)} of {recipients} recipients refused, nothing queued)"


def _one_line(text: str) -> str:
    clean = "".join(char if char.isprintable() else " " for char in text)
    return clean if len(clean) <= MAX_REPLY else clean[:MAX_REPLY]


def _announced(options: Sequence[str]) -> int:
    """Return the SIZE= that MAIL FROM announced; aiosmtpd has seen to it that it is a number."""
    return next((int(option[5:24]) for option in options if option.startswith("SIZE=")), 0)


def _qualify(address: str, domain: str) -> str:
    return f"{address}@{domain}" if domain and "@" not in address and address != NULL_SENDER else address
