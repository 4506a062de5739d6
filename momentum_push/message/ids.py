"""Message ids and `apns-id`s, both worked out from one number.

Every message has a *sequence number* of 48 bits, never used twice by one spool: the spool reserves
numbers in blocks, on disk, before any of them is handed out. What the outside sees follows from it:

    message id   HH/HH-PPPPP-XXXXXXXX      Momentum's form (momentum.md 6.1)
                 │     │     └ the low 32 bits, hexadecimal
                 │     └ the high 16 bits, decimal, five digits
                 └ a hash of the number; Momentum's spool directories, here a check against typing errors

    apns-id      the number beside 74 random bits that the spool drew once (its *salt*), in the shape
                 of a version 4 UUID, so that nothing needs to be stored per message and a message
                 keeps its apns-id for life, over retries and restarts (apns.md 10)

A new spool starts counting at a number taken from the time of its birth, so that the ids of a spool
that was thrown away do not come back in the logs of its successor.
"""

import re
from functools import lru_cache

__all__ = ["SALT_BITS", "SEQUENCE_BITS", "apns_id", "first_sequence", "format_mid", "hex_id", "parse_mid"]

SEQUENCE_BITS = 48
SALT_BITS = 74

_NOT_A_MESSAGE = 1 << SEQUENCE_BITS - 1
_EPOCH_2020 = 1_577_836_800
_GOLDEN = 0x9E3779B97F4A7C15  # 2**64 divided by the golden ratio: neighbours land far apart
_MID = re.compile(r"([0-9A-Fa-f]{2})/([0-9A-Fa-f]{2})-([0-9]{5})-([0-9A-Fa-f]{8})")


def first_sequence(now: float) -> int:
    """Return where a spool born at `now` (epoch seconds) starts: 65,536 numbers a second since 2020."""
    return max(0, int(now) - _EPOCH_2020) << 16


def format_mid(sequence: int) -> str:
    """Return the message id of a sequence number; `parse_mid` is the inverse."""
    check = (sequence * _GOLDEN) >> 48 & 0xFFFF
    return f"{check >> 8:02X}/{check & 0xFF:02X}-{sequence >> 32:05d}-{sequence & 0xFFFFFFFF:08X}"


def parse_mid(mid: str) -> int:
    """Return the sequence number of a message id.

    Raises:
        ValueError: not of the form above, or its check does not fit: a typing error.
    """
    match = _MID.fullmatch(mid)
    if match is None:
        raise ValueError(f'message id "{mid[:40]}" is not of the form HH/HH-PPPPP-XXXXXXXX')
    sequence = int(match[3]) << 32 | int(match[4], 16)
    if sequence >> SEQUENCE_BITS or format_mid(sequence) != mid.upper():
        raise ValueError(f'message id "{mid}" was never given out; look for a typing error')
    return sequence


def apns_id(salt: int, sequence: int) -> str:
    """Return the canonical lower-case UUID of a message; `salt` has SALT_BITS bits, `sequence` 48.

    Layout of the 122 free bits of a version 4 UUID (RFC 9562 section 5.4): sequence first, then salt.
    """
    return f"{sequence >> 16:08x}-{sequence & 0xFFFF:04x}-{_salted(salt)}"


@lru_cache(maxsize=16)
def _salted(salt: int) -> str:
    """Return what all ids of one spool end in; kept, for each request and each record needs it."""
    digits = f"{0x4000 | salt >> 62:04x}{1 << 63 | salt & (1 << 62) - 1:016x}"
    return f"{digits[:4]}-{digits[4:8]}-{digits[8:]}"


def hex_id(number: int) -> str:
    """Return a connection or batch id: a message id's shape, and never one's value (momentum.md 6.1).

    Message numbers reach the upper half of their range in the year 2088, if nobody counts faster.
    """
    return format_mid((number | _NOT_A_MESSAGE) & (1 << SEQUENCE_BITS) - 1)
