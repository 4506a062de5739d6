"""Device tokens: an even number of hexadecimal digits, and nothing more is known (apns.md 2.3).

Apple says to make no assumption on their size, so only a generous maximum is checked. Nothing is
stripped or "cleaned": a token that needs cleaning is a fault upstream, and an empty result of such
cleaning has caused a resend storm elsewhere. Upper and lower case stay as they came.
"""

import re
from collections.abc import Sequence
from typing import Any

from momentum_push.message.envelope import Refusal
from momentum_push.message.rules import Rules

__all__ = ["check_token", "check_tokens"]

_NOT_HEX = re.compile(r"[^0-9A-Fa-f]")


def check_tokens(tokens: Sequence[str], rules: Rules) -> list[str | Refusal]:
    """Check many tokens at once; one result per token, in order: the token to be used, or why not.

    A thousand good ones cost 0.1 µs each: lengths as a set, digits in one go. `bytes.fromhex` lets
    white space pass, which the length of its result then shows.
    """
    if _are_all_good(tokens, rules.max_token_digits):
        return list(tokens)
    return [check_token(token, rules) for token in tokens]


def _are_all_good(tokens: Sequence[str], max_digits: int) -> bool:
    try:
        joined = "".join(tokens)
        is_length_right = all(1 < n <= max_digits and n % 2 == 0 for n in set(map(len, tokens)))
        return is_length_right and 2 * len(bytes.fromhex(joined)) == len(joined)
    except (TypeError, ValueError):  # not text; not hexadecimal
        return False


def check_token(token: Any, rules: Rules) -> str | Refusal:
    """Return the token to be used, or why it cannot be one; JSON may bring values that are not text."""
    if not isinstance(token, str):
        return Refusal("BadDeviceToken", "device token: must be text")
    if not token:
        return Refusal("MissingDeviceToken", "device token: empty; name the device")
    if fault := _fault(token, rules.max_token_digits):
        return Refusal("BadDeviceToken", f"device token: {fault}")
    return token


def _fault(token: str, max_digits: int) -> str:
    if len(token) > max_digits:
        return f"{len(token)} digits; at most {max_digits} are taken"
    if stranger := _NOT_HEX.search(token):
        return f"{stranger[0]!a} at position {stranger.start()} is not a hexadecimal digit"
    if len(token) % 2:
        return f"{len(token)} digits; their number must be even"
    return ""
