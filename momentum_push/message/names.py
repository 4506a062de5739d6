"""Message ids and `apns-id`s for a whole list at once, several times faster than one by one.

Same text as `message.ids` makes, which defines both forms. Every record and every answer carries a message
id, most an `apns-id` too, and each request one, so they are made in columns: all texts of a list are as long,
so that one digit of all of them is one slice, with a step, of one buffer.

    buffer     9B/0C-00042-3F2A0000,9B/0C-00042-3F2A0000,9B/0C-00042-3F2A0000,    the first one, repeated
    digits     └┴ └┴               └── those in which neighbours differ: one slice assignment each

Numbers of a list are near each other, so most digits are the same all the way down.
"""

from collections.abc import Sequence
from struct import pack

from momentum_push.message import ids
from momentum_push.message.notification import Message

__all__ = ["apns_ids", "both", "lines", "message_ids"]

FEW = 8
"""Messages below which to make each by itself is faster."""

_GOLDEN = 0x9E3779B97F4A7C15  # as in message.ids
_MID_CHECK = (0, 1, 3, 4)
_MID_LOW = range(12, 20)
"""Where the digits of a message id stand, `HH/HH-PPPPP-XXXXXXXX`: of its check, and of the low 32 bits; the
high 16 bits are decimal and must be the same in all."""
_APNS_ID = (*range(8), *range(9, 13))
"""Where the twelve digits of the sequence number stand in an `apns-id`."""


def message_ids(messages: Sequence[Message]) -> list[str]:
    """Return the message id of each, as `message.mid` would."""
    return lines(messages, "", ",").split(",", len(messages))[: len(messages)]


def lines(messages: Sequence[Message], before: str, after: str) -> str:
    """Return for each message: `before`, its message id, `after`."""
    numbers = [message.sequence for message in messages]
    if (varying := _varying(numbers)) > len(_MID_LOW):
        return "".join([f"{before}{ids.format_mid(number)}{after}" for number in numbers])
    text = _repeat(f"{before}{ids.format_mid(numbers[0])}{after}", len(numbers))
    _fill_mids(text, len(before.encode()), varying, numbers, _digits(numbers))
    return text.decode()


def apns_ids(messages: Sequence[Message]) -> list[str]:
    """Return the `apns-id` of each, as `message.apns_id` would."""
    numbers = [message.sequence for message in messages]
    if (varying := _varying(numbers)) > len(_APNS_ID) or not _is_of_one_salt(messages):
        return [message.apns_id for message in messages]
    text = _repeat(messages[0].apns_id + ",", len(numbers))
    _fill_apns_ids(text, 0, varying, _digits(numbers))
    return text.decode().split(",", len(numbers))[: len(numbers)]


def both(messages: Sequence[Message], before: str, between: str, after: str) -> str:
    """Return for each message: `before`, its message id, `between`, its `apns-id`, `after`."""
    numbers = [message.sequence for message in messages]
    if (varying := _varying(numbers)) > len(_MID_LOW) or not _is_of_one_salt(messages):
        return "".join([f"{before}{message.mid}{between}{message.apns_id}{after}" for message in messages])
    mid, digits = messages[0].mid, _digits(numbers)
    text = _repeat(f"{before}{mid}{between}{messages[0].apns_id}{after}", len(numbers))
    _fill_mids(text, len(before.encode()), varying, numbers, digits)
    _fill_apns_ids(text, len(f"{before}{mid}{between}".encode()), varying, digits)
    return text.decode()


def _varying(numbers: Sequence[int]) -> int:
    """Return how many hexadecimal digits, counted from the last, differ somewhere; one at least.

    More than there are where numbers are so few that a text for each is as fast.
    """
    return max(1, (min(numbers) ^ max(numbers)).bit_length() + 3 >> 2) if len(numbers) >= FEW else 99


def _is_of_one_salt(messages: Sequence[Message]) -> bool:
    """Whether all `apns-id`s are made by us, for one spool."""
    if any([message.own_apns_id for message in messages]):  # noqa: C419  faster
        return False
    parts = {id(message.part): message.part for message in messages}
    return len({part.salt for part in parts.values()}) == 1


def _repeat(one: str, count: int) -> bytearray:
    return bytearray(one.encode() * count)


def _digits(numbers: Sequence[int]) -> bytes:
    """Return 16 hexadecimal digits for each number."""
    return pack(f">{len(numbers)}Q", *numbers).hex().encode()


def _fill_mids(text: bytearray, at: int, varying: int, numbers: Sequence[int], digits: bytes) -> None:
    checks = pack(f">{len(numbers)}H", *[number * _GOLDEN >> 48 & 0xFFFF for number in numbers])
    _fill(text, at, _MID_CHECK, checks.hex().upper().encode(), 4)
    _fill(text, at, _MID_LOW[-varying:], digits.upper(), 16)


def _fill_apns_ids(text: bytearray, at: int, varying: int, digits: bytes) -> None:
    _fill(text, at, _APNS_ID[-varying:], digits, 16)


def _fill(text: bytearray, at: int, places: Sequence[int], digits: bytes, width: int) -> None:
    """Write the last of each `width` digits to `places` behind `at`, in each of the texts within `text`."""
    unit = len(text) * width // len(digits)
    for column, place in enumerate(places, width - len(places)):
        text[at + place :: unit] = digits[column::width]
