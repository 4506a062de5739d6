"""Keys that senders give their injections, and receipts: how the same question gets the same answer. Pure.

    Key ── door ──► intake ── commit ──► Receipt, in the transaction of its messages
     └───── again ──► intake ◄── spool ──┘      ──► Replay ──► the results of the first time

A receipt does not hold the answer, which may be a million ids: messages of one injection have numbers in
a row, so the first one is enough, and ids follow from numbers (`ids`). What was refused is kept as it was
said, each text once and two or four bytes a place, compressed, for rules change with the configuration
and an answer must not. An `apns-id` of the sender's own is read from the repeated request, which is the same.
"""

from __future__ import annotations

import hashlib
import zlib
from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import msgspec

from momentum_push.message.envelope import Draft, Refusal
from momentum_push.message.notification import Home, Message, Part, QueueKey

__all__ = ["KEY_LIFETIME_S", "MAX_KEYS", "Key", "Outline", "Receipt", "digest", "replay"]

KEY_LIFETIME_S = 86_400.0
"""A key is known for a day from the commit of what was injected under it."""

MAX_KEYS = 10_000_000
"""Receipts that are kept at most, about 0.9 GB; beyond it the oldest go before their day is over."""

_DIGEST_BYTES = 16
_SLICE = 500


class Key(NamedTuple):
    """What a sender calls an injection, as it travels from the door to the spool."""

    name: bytes
    """`digest` of who sends, where to, and the name that they gave it."""
    body: bytes
    """`digest` of what is injected under it; another one under the same name is a mistake."""
    part: int = 0
    """0: all of it at once; from 1 on: the lists of a stream, each of which commits by itself."""


class Receipt(NamedTuple):
    """What became of an injection under a key."""

    key: Key
    created: float
    """Epoch seconds."""
    first: int
    """Number of the first message that was accepted; the others follow it."""
    results: int
    """How many there were, refusals among them."""
    refusals: bytes
    """See `Outline`; empty: nothing was refused."""

    def is_valid(self, now: float) -> bool:
        """Whether its day is not over."""
        return now - self.created < KEY_LIFETIME_S

    def check(self) -> None:
        """See whether it can be read; ValueError: it is damaged."""
        for _ in _unpack(self.refusals, self.results):
            pass


def digest(*parts: str | bytes) -> bytes:
    """Return 128 bits of BLAKE2b for parts; where one ends counts, too."""
    made = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    for part in parts:
        data = part.encode("utf-8", "surrogateescape") if isinstance(part, str) else part
        made.update(len(data).to_bytes(8, "big"))
        made.update(data)
    return made.digest()


class Outline:
    """Which results were refusals, and what they said; built in slices, because there may be a million.

    MessagePack of [[[error, detail], …], zlib of one 32-bit number a result]
                                            0: accepted; n: the n-th pair
    """

    def __init__(self) -> None:
        self._numbers: dict[Refusal, int] = {}
        self._squeeze = zlib.compressobj(1)
        self._packed: list[bytes] = []
        self.count = 0

    def add(self, results: Sequence[Message | Refusal]) -> None:
        """Take the next results."""
        numbers = self._numbers
        codes = array("I", bytes(4 * len(results)))
        for place, result in enumerate(results):
            if isinstance(result, Refusal):
                codes[place] = numbers.setdefault(result, len(numbers) + 1)
        self._packed.append(self._squeeze.compress(codes.tobytes()))
        self.count += len(results)

    def packed(self) -> bytes:
        """Return all of it; empty when nothing was refused. The outline is of no more use then."""
        if not self._numbers:
            return b""
        texts = [[refusal.error, refusal.detail] for refusal in self._numbers]
        return msgspec.msgpack.encode([texts, b"".join([*self._packed, self._squeeze.flush()])])


def _unpack(packed: bytes, count: int) -> Iterator[Refusal | None]:
    """Yield what was said of each result; None: it was accepted. ValueError: it cannot be read."""
    if not packed:
        yield from (None for _ in range(count))
        return
    codes = array("I")
    try:
        texts, squeezed = msgspec.msgpack.decode(packed, type=tuple[list[tuple[str, str]], bytes])
        codes.frombytes(zlib.decompress(squeezed))
    except (msgspec.MsgspecError, zlib.error, ValueError) as error:
        raise ValueError(f"its refusals cannot be read ({error})") from error
    if len(codes) != count or max(codes, default=0) > len(texts):
        raise ValueError(f"its refusals are of {len(codes)} results, and {count} there were")
    refusals = [None, *(Refusal(error, detail) for error, detail in texts)]
    yield from (refusals[code] for code in codes)


def replay(receipt: Receipt, salt: int, drafts: Iterable[Draft]) -> Iterator[list[Message | Refusal]]:
    """Yield the results of the first time, in slices; messages in them have ids and nothing else.

    Args:
        salt: the spool's.
        drafts: of the repeated request.

    Raises:
        ValueError: the receipt is damaged.
    """
    part = Part(receipt.created, 0, "", 0, salt=salt)
    home = Home(QueueKey("", "", ""), 0, 0.0)
    said = _unpack(receipt.refusals, receipt.results)
    sequence = receipt.first
    results: list[Message | Refusal] = []
    for own, refusal in zip(_own_ids(drafts), said, strict=True):
        if refusal is None:
            results.append(Message(sequence, "", b"", part, home, own_apns_id=own))
            sequence += 1
        else:
            results.append(refusal)
        if len(results) == _SLICE:
            yield results
            results = []
    yield results


def _own_ids(drafts: Iterable[Draft]) -> Iterator[str]:
    """Yield the `apns-id` that each device was given by the sender, as the rules would write it."""
    for draft in drafts:
        own = draft.apns_id.lower() if isinstance(draft.apns_id, str) else ""
        for _ in draft.tokens:
            yield own
