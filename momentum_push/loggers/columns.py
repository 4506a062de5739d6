"""Columns: for a list of records, the text of one field of each.

A record format is rendered field by field for a whole list and not record by record: what is equal
for many (time, domain, binding, sender) is turned into text once, and the loops are list
comprehensions. A column that is the same all the way down is one text instead of a list. Nothing is
escaped here; that depends on where the format puts the value.
"""

from collections.abc import Callable, Hashable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import groupby
from operator import attrgetter
from typing import Any, TypeVar, overload

from momentum_push.message import Deliveries, Disposition, Home, Kind, Message, Part, QueueKey, names

__all__ = [
    "STAGES",
    "Batch",
    "Column",
    "Moment",
    "Receptions",
    "Runs",
    "Texts",
    "apns_ids",
    "attribute",
    "batches",
    "client_address",
    "constant",
    "each",
    "from_message",
    "from_part",
    "from_queue",
    "message_ids",
    "moments",
    "now",
    "own_or",
    "seconds_in_queue",
    "sizes",
    "split_address",
    "strftime",
]

T = TypeVar("T", bound=Hashable)

Texts = str | list[str]
"""A column's content: a text per record, or the one that all of them have."""

STAGES = {
    0: "Not Connected",
    1: "Idle",
    2: "MAIL FROM",
    8: "BODY",
    9: "Reading Confirmation",
    17: "TLS Handshake",
    22: "Unknown",
}
"""Words for the stages that push can come to (momentum.md 8.2 has the numbers)."""


class Batch:
    """A list of dispositions, and what several columns want to know about it, worked out once.

    At once and not when asked: every usual format asks for all of it, and asking costs more than a
    short list does.
    """

    def __init__(self, items: Sequence[Any], now: float) -> None:
        self.items = items
        self.now = now
        self.messages = self._messages(items)
        self.parts = [message.part for message in self.messages]
        self.distinct_parts = {id(part): part for part in self.parts}
        self.queues = _queues([message.home for message in self.messages])
        self._message_ids: list[str] = []

    @property
    def message_ids(self) -> list[str]:
        """The message id of each; every logger's records have one."""
        self._message_ids = self._message_ids or names.message_ids(self.messages)
        return self._message_ids

    def values(self, name: str) -> list[Any]:
        """Return an attribute of each record, or once what all have, where that is plain."""
        if isinstance(self.items, Deliveries):
            return self.items.values(name)
        return list(map(attrgetter(name), self.items))

    def _messages(self, items: Sequence[Any]) -> Sequence[Message]:
        if isinstance(items, Deliveries):
            return items.messages
        return [item.message for item in items]


class Runs(Sequence[Disposition]):
    """Dispositions, in batches of one kind that all loggers share."""

    def __init__(self, items: Sequence[Disposition]) -> None:
        self._items = items
        self._batches: list[tuple[Kind, Batch]] | None = None

    def __len__(self) -> int:
        return len(self._items)

    @overload
    def __getitem__(self, place: int) -> Disposition: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[Disposition]: ...
    def __getitem__(self, place: int | slice) -> Disposition | Sequence[Disposition]:
        return self._items[place]

    def __iter__(self) -> Iterator[Disposition]:
        return iter(self._items)

    def batches(self, now: float) -> list[tuple[Kind, Batch]]:
        """Return (kind, its batch) for each run of one kind, in order."""
        if self._batches is None:
            items = self._items
            if isinstance(items, Deliveries):
                self._batches = [(items.shared.kind, Batch(items, now))]
            else:
                runs = groupby(items, attrgetter("kind"))
                self._batches = [(kind, Batch(list(run), now)) for kind, run in runs]
        return self._batches


def batches(items: Sequence[Disposition], now: float) -> list[tuple[Kind, Batch]]:
    """Return the runs of `items` as batches; those that another logger made, when there are some."""
    return (items if isinstance(items, Runs) else Runs(items)).batches(now)


class Receptions(Batch):
    """A list of messages that just came in."""

    def _messages(self, items: Sequence[Any]) -> Sequence[Message]:
        return items


class Moment(Batch):
    """What a heartbeat knows: the time, once."""

    def __init__(self, now: float) -> None:
        super().__init__((), now)
        self.items = (None,)


def _queues(homes: list[Home]) -> list[QueueKey]:
    """Return the queue of each, or the one of all when that is so: answers come connection by connection."""
    queues = {home.queue for home in {id(home): home for home in homes}.values()}
    return list(queues) if len(queues) == 1 else [home.queue for home in homes]


Column = Callable[[Batch], Texts]


def each(values: list[T], render: Callable[[T], str]) -> Texts:
    """Render every value, once per distinct one."""
    if values and values.count(values[0]) == len(values):
        return render(values[0])
    known = {value: render(value) for value in set(values)}
    return [known[value] for value in values]


def constant(text: str) -> Column:
    """Return a column that has the same text everywhere."""
    return lambda batch: text


def now(render: Callable[[float], str]) -> Column:
    """Return a column of the time at which the list is written."""
    return lambda batch: render(batch.now)


def attribute(name: str, render: Callable[[Any], str] = str) -> Column:
    """Return a column of one attribute of a `Disposition`."""
    return lambda batch: each(batch.values(name), render)


def moments(render: Callable[[float], str]) -> Column:
    """Return a column of the times of dispositions."""
    return lambda batch: each(batch.values("at"), render)


def message_ids(batch: Batch) -> Texts:
    """The column of message ids."""
    return batch.message_ids


def apns_ids(batch: Batch) -> Texts:
    """The column of `apns-id`s."""
    return names.apns_ids(batch.messages)


def from_message(name: str) -> Column:
    """Return a column of an attribute that each message has for itself, a text."""
    value = attrgetter(name)

    def column(batch: Batch) -> Texts:
        texts = list(map(value, batch.messages))
        return texts if any(texts) else ""

    return column


def sizes(batch: Batch) -> Texts:
    """The column of sizes at reception."""
    if all(part.size for part in batch.distinct_parts.values()):
        return from_part(lambda part: str(part.size))(batch)
    found = [message.part.size or len(message.payload) for message in batch.messages]
    return each(found, str)


def from_part(value: Callable[[Part], str]) -> Column:
    """Return a column of something that a part says; asked once for each part."""

    def column(batch: Batch) -> Texts:
        distinct = len(batch.distinct_parts)
        if distinct == 1:
            return value(batch.parts[0])
        if distinct == len(batch.parts):  # requests of one notification each
            return [value(part) for part in batch.parts]
        known = {key: value(part) for key, part in batch.distinct_parts.items()}
        return [known[id(part)] for part in batch.parts]

    return column


def from_queue(value: Callable[[QueueKey], str]) -> Column:
    """Return a column of something that the message's queue says."""

    def column(batch: Batch) -> Texts:
        queues = batch.queues
        return value(queues[0]) if len(queues) == 1 else [value(queue) for queue in queues]

    return column


def own_or(key: str, name: str) -> Column:
    """Return a column of a context variable (momentum.md 7.6), or of the attribute that messages have."""
    otherwise = from_message(name)

    def column(batch: Batch) -> Texts:
        if not any(part.context.get(key) for part in batch.distinct_parts.values()):
            return otherwise(batch)
        return [message.part.context.get(key) or getattr(message, name) for message in batch.messages]

    return column


def seconds_in_queue(decimals: int) -> Column:
    """Return a column of the seconds from reception to the disposition; never below 0, clocks may jump."""

    def column(batch: Batch) -> Texts:
        moments = set(batch.values("at"))
        if len(moments) == 1:  # answers of one read: asked once for each part
            (at,) = moments
            return from_part(lambda part: f"{max(0.0, at - part.starts_at):.{decimals}f}")(batch)
        pairs = zip(batch.values("at"), batch.parts, strict=True)
        spent = [max(0.0, at - part.starts_at) for at, part in pairs]
        return each(spent, lambda seconds: f"{seconds:.{decimals}f}")

    return column


def strftime(pattern: str) -> Callable[[float], str]:
    """Return a renderer of times by a strftime pattern, in UTC.

    UTC, because a pure function must not depend on the host's zone, and because local time comes
    twice in the night when summer time ends.

    Raises:
        ValueError: the platform's strftime refuses the pattern.
    """

    def render(at: float) -> str:
        return datetime.fromtimestamp(at, UTC).strftime(pattern)

    render(0.0)
    return render


def split_address(address: str) -> tuple[str, str]:
    """Return local part and domain of a mail address; both empty for the null sender."""
    local, at, domain = address.rpartition("@")
    return (local, domain) if at else (address, "")


def client_address(client: str) -> str:
    """Return the address of `ip:port`; IPv6 with a port stands in brackets."""
    if client.startswith("["):
        return client[1:].partition("]")[0]
    return client.partition(":")[0] if client.count(":") == 1 else client
