"""`momentum-push spool`: looks at a spool that no daemon has open.

Device tokens are shortened wherever they stand, also in an address, a context variable or a payload:
what this prints ends up in tickets.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import click

from momentum_push.cli.check import chosen, config_option
from momentum_push.config import load
from momentum_push.errors import SpoolError
from momentum_push.message import Message, MessageList, short_token
from momentum_push.message.ids import parse_mid
from momentum_push.spool import QueueCount, at_rest, faults
from momentum_push.spool.database import Database
from momentum_push.spool.record import DamagedList

__all__ = ["command"]

_TOKENISH = re.compile(r"[0-9A-Fa-f]{64,}")


@click.group(
    "spool",
    short_help="Look at a spool that no daemon has open.",
    epilog="Example: momentum-push spool ls",
)
def command() -> None:
    """Look at a spool that no daemon has open. Nothing in it is changed."""


@command.command(
    "ls",
    short_help="What waits, by queue and lane.",
    epilog="Example: momentum-push spool ls --messages",
)
@config_option
@click.option("-m", "--messages", "is_long", is_flag=True, help="One line a message, with its id.")
def list_queues(path: Path | None, is_long: bool) -> None:
    """Show what waits in each lane of each queue, or each message."""
    with _spool(path) as database:
        _print(_message_rows(database) if is_long else map(_lane_row, database.overview()))


@command.command(
    "show",
    short_help="Show one message.",
    epilog="Example: momentum-push spool show 3A/07-00017-1A3F9C2B -c ecelerity.conf",
)
@click.argument("mid")
@config_option
def show(mid: str, path: Path | None) -> None:
    """Show the message with the id MID as long as it waits."""
    try:
        sequence = parse_mid(mid)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    with _spool(path) as database:
        message = database.find(sequence)
    if message is None:
        raise SpoolError(f"spool: no message {mid} is waiting; see the log for what became of it")
    for name, value in _fields(message):
        if value not in ("", None):
            click.echo(f"{name + ':':<14} {_without_tokens(str(value), message.token)}")


@command.command(
    "check",
    short_help="Read all of the spool and say what is damaged.",
    epilog="Example: momentum-push spool check",
)
@config_option
def check_all(path: Path | None) -> None:
    """Read all of the spool; print `FAIL LIST: reason` for what is damaged, and exit 1 if anything is."""
    failed = 0
    with _spool(path) as database:
        for what, why in faults(database):
            click.echo(f"FAIL {what}: {why}")
            failed += 1
        if not failed:
            lanes = database.overview()
            lists, messages = sum(lane.lists for lane in lanes), sum(lane.messages for lane in lanes)
            click.echo(f"Spool valid: {messages} messages in {lists} lists")
    raise SystemExit(int(failed > 0))


@contextmanager
def _spool(path: Path | None) -> Iterator[Database]:
    """The spool of a configuration, locked while we look."""
    config = load(chosen(path))
    with at_rest(Path(config.glob["spoolbase"]), config.glob["spool_mode"]) as database:
        yield database


def _print(rows: Iterator[tuple[str, ...]]) -> None:
    try:
        for row in rows:
            click.echo("\t".join(row))
    finally:
        if isinstance(rows, Generator):
            rows.close()


def _lane_row(lane: QueueCount) -> tuple[str, ...]:
    """Domain, binding, group, lane, counts, oldest, next due."""
    return (
        lane.queue.domain,
        lane.queue.binding,
        lane.queue.binding_group,
        f"lane {lane.lane}",
        f"{lane.messages} messages",
        f"{lane.lists} lists",
        f"oldest {_time(lane.oldest)}",
        f"next {_time(lane.next_due)}",
    )


def _message_rows(database: Database) -> Iterator[tuple[str, ...]]:
    with closing(database.lists()) as rows:  # also when nobody reads on, as `head` does
        for row in rows:
            try:
                item = row.to_list()
            except DamagedList as error:
                click.echo(str(error), err=True)
                continue
            yield from _rows_of(item)


def _rows_of(item: MessageList) -> Iterator[tuple[str, ...]]:
    home = item.home
    for message in item.messages:
        yield (
            message.mid,
            short_token(message.token),
            home.queue.domain,
            home.queue.binding,
            f"due {_time(home.due)}",
            f"attempts {home.attempts}",
            *(["outcome unknown"] if home.is_marked(message.place) else []),
        )


def _fields(message: Message) -> Iterator[tuple[str, object]]:
    """What is known of a message, in the order in which it is asked for."""
    part, home = message.part, message.home
    yield "id", message.mid
    yield "apns-id", message.apns_id
    yield "queue", f"{home.queue.domain} (binding {home.queue.binding}, group {home.queue.binding_group})"
    yield "list", f"{home.number}, place {message.place} of {home.count}, lane {home.lane}"
    yield "received", f"{_time(part.received_at)} {part.protocol} {part.client}"
    if part.deliver_at:
        yield "deliver at", _time(part.deliver_at)
    yield "due", _time(home.due)
    yield "attempts", home.attempts
    if home.is_marked(message.place):
        yield "outcome", "unknown: it may have been sent, and no answer is on record"
    yield "expires", _time(part.expiration) if part.expiration else "after one attempt"
    yield "token", message.token
    yield "rcpt", message.rcpt
    yield "topic", part.topic
    yield "push type", part.push_type
    yield "priority", part.priority
    yield "collapse id", part.collapse_id
    yield "mail from", part.mailfrom
    yield "return path", part.return_path
    yield "connection", part.conn_id
    yield "batch", part.batch_id
    for name, value in {**part.conn_context, **part.context}.items():
        yield "context", f"{name}={value}"
    yield "payload", message.payload.decode("utf-8", "replace")


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def _without_tokens(text: str, token: str) -> str:
    """Shorten the message's token, and whatever looks like one."""
    for form in (token, token.upper(), token.lower()):
        text = text.replace(form, short_token(form)) if form else text
    return _TOKENISH.sub(lambda found: short_token(found[0]), text)
