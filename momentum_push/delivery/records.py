"""The records of what became of messages: their fields and the words for readers of a mail log.

    accepted     Apple took all of one read              D
    record_of    one attempt, however it ended           D, T or P
    expire       given up without an attempt             P
    forsake      marked before a crash, never answered   P
    outage       no connection could be made             T, one for the whole queue
    accuse       a goodbye or TLS names the credential   T, one for the whole queue

What a macro of `apn_logger` shows of them is `loggers.macros`' to say. Source: momentum.md 6.3, 6.4, 7.5
and 8; interfaces.md 5. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from momentum_push.message import Deliveries, Disposition, Kind, Message, Outcome, Phase
from momentum_push.message.reasons import Class, Reason

__all__ = [
    "BLACKHOLED",
    "CANCELLED",
    "FORSAKEN",
    "NO_ANSWER",
    "Peer",
    "accepted",
    "accuse",
    "expire",
    "forsake",
    "outage",
    "record_of",
]

BLACKHOLED = "551 5.7.1 [internal] recipient blackholed"

CANCELLED = "554 5.7.0 [internal] cancelled by the injector"

FORSAKEN = "outcome unknown after a restart, not sent again (apn_unknown_outcome = drop)"

NO_ANSWER = 255
"""`DLV_Response_Status` where Apple said nothing (momentum.md 7.5)."""

_STAGE_NOT_CONNECTED = 0
_STAGE_ANSWER = 9

_CODES = {
    Class.SUCCESS: "250 2.0.0",
    Class.PERMANENT_TOKEN: "550 5.1.1",
    Class.PERMANENT_MESSAGE: "550 5.6.0",
    Class.AUTH_OR_CONFIG: "550 5.7.1",
    Class.TRANSIENT: "451 4.3.0",
    Class.THROTTLING: "451 4.7.1",
}
"""How the mainlog, whose readers know SMTP, words a class of answers (RFC 3463)."""

_LOST = "451 4.4.2 [internal]"


@dataclass(frozen=True, slots=True)
class Peer:
    """The far end of the connection that brought the outcomes; empty where there was none."""

    remote: str = ""
    conn_id: str = ""


def accepted(outcomes: Sequence[Outcome], peer: Peer, now: float, reason: Reason) -> Deliveries:
    """Return the records of a read in which Apple took everything: as `record_of` would, in columns.

    Args:
        reason: the table's row for a plain 200.
    """
    messages, sizes = [outcome.message for outcome in outcomes], [outcome.size for outcome in outcomes]
    return Deliveries(messages, sizes, record_of(outcomes[0], peer, now, Kind.DELIVERED, reason))


def record_of(
    outcome: Outcome, peer: Peer, now: float, kind: Kind, reason: Reason | None, final: str = ""
) -> Disposition:
    """Return the record of one attempt.

    Args:
        reason: the row of the table that the answer is; None where there was no answer.
        final: why there is no other attempt, where that is not the answer itself.
    """
    is_answer = outcome.phase is Phase.ANSWERED
    return Disposition(
        kind=kind,
        message=outcome.message,
        at=now,
        attempt=outcome.message.home.attempts + 1,
        status=reason.code if reason is not None else NO_ANSWER,
        reason=final or outcome.reason or ("" if kind is Kind.DELIVERED else f"HTTP status {outcome.status}"),
        word=outcome.reason if is_answer else "",
        is_known=reason is not None and reason.is_known,
        http_status=outcome.status,
        unregistered_at=outcome.unregistered_at,
        remote=peer.remote,
        size=outcome.size,
        conn_id=peer.conn_id,
        stage=_stage(peer),
        text=final or _words(outcome, kind, reason if is_answer else None),
    )


def expire(message: Message, text: str, now: float) -> Disposition:
    """Return the record of a message that is given up without an attempt (momentum.md 6.4)."""
    return _untried(Kind.PERMFAIL, message, text, text, now)


def forsake(message: Message, now: float) -> Disposition:
    """Return the record of a message whose mark says that it may have been sent before a crash."""
    record = _untried(Kind.PERMFAIL, message, FORSAKEN, f"554 5.4.2 [internal] {FORSAKEN}", now)
    record.attempt += 1
    return record


def outage(message: Message, why: str, now: float, stage: int = _STAGE_NOT_CONNECTED) -> Disposition:
    """Return the one record of an outage: no connection could be made, how far it came (momentum.md 6.3)."""
    record = _untried(Kind.TEMPFAIL, message, why, f"451 4.4.1 [internal] No valid hosts ({why})", now)
    record.stage = stage
    return record


def accuse(message: Message, reason: str, peer: Peer, now: float, stage: int = _STAGE_ANSWER) -> Disposition:
    """Return the one record of a suspension that no answer began: a GOAWAY or TLS named the fault."""
    record = _untried(Kind.TEMPFAIL, message, reason, f"451 4.7.1 [internal] {reason}", now)
    record.word, record.remote, record.conn_id = reason, peer.remote, peer.conn_id
    record.stage = stage
    return record


def _untried(kind: Kind, message: Message, reason: str, text: str, now: float) -> Disposition:
    return Disposition(
        kind=kind,
        message=message,
        at=now,
        attempt=message.home.attempts,
        status=NO_ANSWER,
        reason=reason,
        text=text,
        stage=_STAGE_NOT_CONNECTED,
    )


def _stage(peer: Peer) -> int:
    return _STAGE_ANSWER if peer.remote else _STAGE_NOT_CONNECTED


def _words(outcome: Outcome, kind: Kind, reason: Reason | None) -> str:
    """Word an outcome for the mainlog as SMTP would: code, enhanced code, text."""
    code = _LOST if reason is None else _CODES[reason.klass]
    if kind is Kind.TEMPFAIL and code.startswith("5"):
        code = "451 4" + code[5:]
    elif kind is Kind.PERMFAIL and code.startswith("4"):
        code = "554 5" + code[5:]
    return f"{code} {outcome.reason}".rstrip()
