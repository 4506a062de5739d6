"""The two ways into the daemon as a client sees them: HTTP batches and SMTP fan-outs.

Lives here: one connection, how a batch goes over it, and retries. Not here: where tokens come from,
threads, and what is printed (`inject`). Only the standard library's clients are used: they block, so a
connection belongs to one thread of the caller's.

    send_all(sender, batch) ── try ──► Answer: rejected for good, deferred ("later", with a pause or not)
                │                         │
                └─ pause, again ◄─────────┘ while something is deferred, MAX_TRIES times

Deferred are 503 and 429, SMTP's 4xx, and what a lost connection leaves unanswered; the pause doubles,
unless the daemon names one. When an answer got lost its batch may be queued twice: a client cannot know
better, and a lost push would be worse.
"""

from __future__ import annotations

import base64
import http.client
import re
import smtplib
import ssl
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import msgspec

__all__ = ["Answer", "HttpSender", "Push", "Rejected", "Sender", "Sent", "Server", "SmtpSender", "send_all"]

MAX_TRIES = 6
MAX_PAUSE_S = 60.0
MAX_ANSWER_BYTES = 64 << 20
MAX_SMTP_LINE = 900
"""Longer payloads travel as base64: a line may have 998 characters (RFC 5322 section 2.1.1)."""

_FAN_OUT = re.compile(r"(?:[0-9A-Fa-f]{2}){32,100}")
"""Tokens that may stand as a recipient's local part (interfaces.md 2, "Token")."""


class Rejected(NamedTuple):
    """A token that the daemon refused for good, and its words."""

    token: str
    reason: str


class Answer(NamedTuple):
    """What one try brought; tokens in neither list were accepted."""

    rejected: list[Rejected]
    deferred: list[str]
    why: str = ""
    """Why some are deferred."""
    pause_s: float = 0.0
    """The pause that the daemon named; 0: none."""


class Sent(NamedTuple):
    """What became of a batch in the end."""

    accepted: int
    rejected: list[Rejected]
    unsent: int = 0
    fault: str = ""
    """Why some could not be handed over; empty when all could."""


@dataclass(frozen=True, slots=True)
class Push:
    """What is pushed to every token."""

    domain: str
    payload: bytes
    headers: dict[str, str] = field(default_factory=dict)
    """Apple's headers, by name without `apns-`; and our `deliver-at`."""
    mailfrom: str = ""


@dataclass(frozen=True, slots=True)
class Server:
    """Whom to talk to, and how; `context` for https and STARTTLS."""

    host: str
    port: int
    path: str = ""
    context: ssl.SSLContext | None = None
    user: str = ""
    password: str = ""
    timeout_s: float = 60.0


class Sender(Protocol):
    """One connection to the daemon; made when needed, used by one thread."""

    def attempt(self, tokens: Sequence[str]) -> Answer:
        """Hand over a batch; any exception of the transport means: no answer."""

    def close(self) -> None:
        """Let the connection go; the next attempt makes a new one."""


def send_all(
    sender: Sender, tokens: Sequence[str], pause: Callable[[float], object], first_pause_s: float = 0.5
) -> Sent:
    """Hand over a batch, deferred ones again and again, but at most MAX_TRIES times.

    Args:
        pause: waits so many seconds; a true result means: do not try again, the user wants to stop.
    """
    rejected: list[Rejected] = []
    waiting = list(tokens)
    for attempt in range(MAX_TRIES):
        answer = _attempt(sender, waiting)
        rejected += answer.rejected
        waiting = answer.deferred
        is_last = not waiting or attempt + 1 == MAX_TRIES
        if is_last or pause(min(MAX_PAUSE_S, answer.pause_s or first_pause_s * 2**attempt)):
            break
    accepted = len(tokens) - len(rejected) - len(waiting)
    return Sent(accepted, rejected, len(waiting), answer.why if waiting else "")


def _attempt(sender: Sender, tokens: list[str]) -> Answer:
    try:
        return sender.attempt(tokens)
    except (OSError, http.client.HTTPException, smtplib.SMTPException, msgspec.MsgspecError) as error:
        sender.close()
        return Answer([], tokens, f"no answer: {error or type(error).__name__}")


# --- HTTP: POST /v1/notifications, interfaces.md 4 -----------------------------------------------------


class _Result(msgspec.Struct):
    error: str = ""
    detail: str = ""


class _Body(msgspec.Struct):
    """The part of the daemon's answer that a client needs, of success and of failure."""

    error: str = ""
    detail: str = ""
    results: list[_Result] | None = None


class HttpSender:
    """Sends batches in the `device_tokens` form over one kept connection."""

    def __init__(self, server: Server, push: Push) -> None:
        self._server = server
        self._push = push
        self._connection: http.client.HTTPConnection | None = None
        self._headers = {"Content-Type": "application/json"}
        if server.user:
            secret = base64.b64encode(f"{server.user}:{server.password}".encode()).decode()
            self._headers["Authorization"] = f"Basic {secret}"

    def attempt(self, tokens: Sequence[str]) -> Answer:
        connection = self._connection = self._connection or self._connect()
        connection.request("POST", self._server.path, self._encode(tokens), self._headers)
        response = connection.getresponse()
        body = response.read(MAX_ANSWER_BYTES)
        if response.status in (429, 503):
            return Answer([], list(tokens), f"{response.status}: {_excerpt(body)}", _retry_after(response))
        if response.status in (200, 400):
            return _per_token(tokens, response.status, body)
        words = f"HTTP {response.status} {response.reason}: {_excerpt(body)}"
        return Answer([Rejected(token, words) for token in tokens], [])

    def close(self) -> None:
        if self._connection:
            self._connection.close()
            self._connection = None

    def _connect(self) -> http.client.HTTPConnection:
        server = self._server
        if server.context:
            return http.client.HTTPSConnection(
                server.host, server.port, timeout=server.timeout_s, context=server.context
            )
        return http.client.HTTPConnection(server.host, server.port, timeout=server.timeout_s)

    def _encode(self, tokens: Sequence[str]) -> bytes:
        """Put the payload in as it came: whether it is sound is for the daemon to say."""
        members: dict[str, object] = {"domain": self._push.domain, "device_tokens": list(tokens)}
        for name, value in self._push.headers.items():
            members["apns_id" if name == "id" else name.replace("-", "_")] = _number_or_text(name, value)
        return msgspec.json.encode(members)[:-1] + b',"payload":' + self._push.payload + b"}"


def _number_or_text(name: str, value: str) -> object:
    is_number = (
        name in ("priority", "expiration", "deliver-at")
        and value.isascii()
        and value.isdecimal()
        and len(value) < 19
    )
    return int(value) if is_number else value


def _per_token(tokens: Sequence[str], status: int, body: bytes) -> Answer:
    answer = msgspec.json.decode(body, type=_Body)
    if answer.results is not None and len(answer.results) == len(tokens):
        pairs = zip(tokens, answer.results, strict=True)
        return Answer([Rejected(token, _words(result)) for token, result in pairs if result.error], [])
    if status == 200:
        raise http.client.HTTPException(f"an answer without {len(tokens)} results")
    return Answer([Rejected(token, _words(answer)) for token in tokens], [])


def _words(result: _Result | _Body) -> str:
    return f"{result.error}: {result.detail}" if result.detail else result.error


def _retry_after(response: http.client.HTTPResponse) -> float:
    value = response.getheader("Retry-After", "")
    return float(value) if re.fullmatch(r"[0-9]{1,6}", value) else 0.0


def _excerpt(body: bytes) -> str:
    return " ".join(body[:200].decode(errors="replace").split())


# --- SMTP: MCMT, interfaces.md 3 -----------------------------------------------------------------------


class SmtpSender:
    """Sends a batch as one DATA with a recipient per token; odd tokens go one by one, in a header."""

    def __init__(self, server: Server, push: Push) -> None:
        self._server = server
        self._push = push
        self._session: smtplib.SMTP | None = None

    def attempt(self, tokens: Sequence[str]) -> Answer:
        """Run transactions until one is deferred; what was not come to is deferred with it."""
        named = [token for token in tokens if _FAN_OUT.fullmatch(token)]
        odd = [token for token in tokens if not _FAN_OUT.fullmatch(token)]
        steps = [named] * bool(named) + [[token] for token in odd]
        rejected: list[Rejected] = []
        for place, step in enumerate(steps):
            answer = self._try_step(step, None if step is named else step[0])
            rejected += answer.rejected
            if answer.deferred:
                rest = [token for later in steps[place + 1 :] for token in later]
                return answer._replace(rejected=rejected, deferred=answer.deferred + rest)
        return Answer(rejected, [])

    def _try_step(self, tokens: list[str], header_token: str | None) -> Answer:
        try:
            return self._transact(tokens, header_token)
        except (OSError, smtplib.SMTPException) as error:
            self.close()
            return Answer([], tokens, f"no answer: {error or type(error).__name__}")

    def close(self) -> None:
        if self._session:
            self._session.close()
            self._session = None

    def _connect(self) -> smtplib.SMTP:
        server = self._server
        session = smtplib.SMTP(server.host, server.port, "localhost", timeout=server.timeout_s)
        try:
            if server.context:
                session.starttls(context=server.context)
            if server.user:
                session.login(server.user, server.password)
            session.ehlo_or_helo_if_needed()
        except BaseException:
            session.close()
            raise
        return session

    def _transact(self, tokens: list[str], header_token: str | None) -> Answer:
        session = self._session = self._session or self._connect()
        code, text = session.mail(self._push.mailfrom)
        if code != 250:
            session.rset()
            return _judge(tokens, code, text)
        answer = Answer([], [])
        for token in tokens:
            code, text = session.rcpt(f"{token if header_token is None else 'push'}@{self._push.domain}")
            answer = _join(answer, _judge([token], code, text))
        out = {*answer.deferred, *(item.token for item in answer.rejected)}
        kept = [token for token in tokens if token not in out]
        if not kept:
            session.rset()
            return answer
        return _join(answer, _judge(kept, *_data(session, encode_mail(self._push, header_token))))


def _data(session: smtplib.SMTP, mail: bytes) -> tuple[int, bytes]:
    try:
        return session.data(mail)
    except smtplib.SMTPDataError as error:  # not even 354 came
        text = error.smtp_error
        return error.smtp_code, text if isinstance(text, bytes) else text.encode()


def _join(one: Answer, other: Answer) -> Answer:
    return Answer(one.rejected + other.rejected, one.deferred + other.deferred, other.why or one.why)


def _judge(tokens: list[str], code: int, text: bytes) -> Answer:
    """Turn an SMTP reply into an answer for these tokens (RFC 5321 section 4.2.1)."""
    words = f"{code} {text.decode(errors='replace')}"
    if 200 <= code < 300:
        return Answer([], [])
    if 400 <= code < 500:
        return Answer([], tokens, words)
    return Answer([Rejected(token, words) for token in tokens], [])


def encode_mail(push: Push, token: str | None) -> bytes:
    """Write the mail with one push part (momentum.md 4.2); `token` None: the recipients name the devices."""
    payload, is_plain = push.payload, _travels_as_it_is(push.payload)
    inner = [] if token is None else [f"X-Device-Token: {_one_line(token)}"]
    for name, value in push.headers.items():
        inner.append(f"X-Deliver-At: {value}" if name == "deliver-at" else f"apns-{name}: {value}")
    inner += [f"Content-Transfer-Encoding: {'7bit' if is_plain else 'base64'}"]
    boundary = f"=_{uuid.uuid4().hex}"
    head = [
        f"From: <{push.mailfrom}>",
        "Subject: push",
        "MIME-Version: 1.0",
        f'Content-Type: multipart/vnd.msys.mcmt; boundary="{boundary}"',
        "",
        f"--{boundary}",
        "Content-Type: message/vnd.msys.apn",
        "",
        *inner,
        "",
    ]
    body = payload if is_plain else base64.encodebytes(payload).rstrip().replace(b"\n", b"\r\n")
    lines = "\r\n".join(head).encode("utf-8", "replace")
    return b"\r\n".join([lines, body, f"--{boundary}--".encode(), b""])


def _one_line(token: str) -> str:
    """Keep a broken token broken, but inside its header."""
    return "".join(letter if letter.isprintable() else "?" for letter in token)


def _travels_as_it_is(payload: bytes) -> bool:
    return payload.isascii() and len(payload) <= MAX_SMTP_LINE and not re.search(rb"[\r\n\0]", payload)
