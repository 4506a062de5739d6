"""When a message is tried again, and when it is given up: Momentum's arithmetic (momentum.md 6.4).

    attempt:      1        2             3                    4
                  │ 1×     │ 2×          │ 4×                 │ 8× …      × retry_interval
    received ─────┴────────┴─────────────┴────────────────────┴──►  time

The wait after the n-th failed attempt is `retry_interval * 2**(n - 1)`, with `max_retry_interval` as a
ceiling once `max_retries` is a number or "none" (under "auto" the ceiling has no meaning, says the
manual). What ends a message:

    max_retries = N        after N retries
    max_retries = "auto"   after as many retries as the doubling needs to reach `message_expiration`; the last
                           of them comes after expiry and is its one last attempt
    max_retries = "none"   only expiry
    never_retry            the first temporary failure
    message_expiration     the message gets one last attempt when its turn comes, unless
                           `never_attempt_expired_messages`; a failure of that attempt is final
    apns-expiration        Apple would throw it away: nothing is sent, ever (interfaces.md 2)

Pure: `now` comes in, a decision goes out.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = [
    "EXCEEDED_RETRIES",
    "EXCEEDED_TIME",
    "EXPIRED_UNTRIED",
    "FIRST_UNKNOWN_WAIT_S",
    "RetryPolicy",
]

EXCEEDED_TIME = "554 5.4.7 [internal] exceeded max time without delivery"
EXCEEDED_RETRIES = "554 5.4.7 [internal] exceeded max retries without delivery"
EXPIRED_UNTRIED = "554 5.4.5 [internal] Delivery not attempted (message expired)"

FIRST_UNKNOWN_WAIT_S = 1.0
"""Wait before the first repetition of a request whose answer never came (apns.md 10)."""

_DOUBLINGS = 40  # 2**40 seconds are longer than any mail server's life; keeps the arithmetic in floats


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """The options of one queue that govern retrying; all times in seconds."""

    retry_interval: float = 1200
    max_retry_interval: float = 43200
    max_retries: int | None = None
    """None stands for "none"; "auto" is `is_auto`."""
    is_auto: bool = True
    message_expiration: float = 86400
    never_retry: bool = False
    never_attempt_expired_messages: bool = False

    def wait(self, attempts: int) -> float:
        """Return the wait after the `attempts`-th failed attempt (1 for the first)."""
        wait = self.retry_interval * 2.0 ** min(attempts - 1, _DOUBLINGS)
        return wait if self.is_auto else min(wait, self.max_retry_interval)

    def auto_limit(self) -> int:
        """Return the number of retries after which the doubling has reached `message_expiration`."""
        if self.retry_interval <= 0:
            return _DOUBLINGS
        retries, reached = 0, 0.0
        while reached < self.message_expiration and retries < _DOUBLINGS:
            retries += 1
            reached += self.wait(retries)
        return max(retries, 1)

    def is_expired(self, received_at: float, now: float) -> bool:
        """Whether `message_expiration` has passed since reception."""
        return now - received_at >= self.message_expiration

    def forbids(self, received_at: float, expiration: int, now: float) -> str | None:
        """Return the final text when the message may not be attempted any more, None when it may.

        Args:
            expiration: the message's `apns-expiration`; 0 asks for one attempt at Apple and never forbids.
        """
        if expiration and now >= expiration:
            return EXPIRED_UNTRIED
        if self.never_attempt_expired_messages and self.is_expired(received_at, now):
            return EXPIRED_UNTRIED
        return None

    def after_failure(
        self, received_at: float, attempts: int, now: float, wait: float | None = None
    ) -> float | str:
        """Return when to try again (epoch seconds), or the final text when the message is given up.

        Args:
            attempts: attempts that were made, the one that just failed included.
            wait: seconds that take the place of the schedule's (a peer's Retry-After, the first
                unknown outcome).
        """
        if self.is_expired(received_at, now):
            return EXCEEDED_TIME
        if self.never_retry or self._are_retries_used(attempts):
            return EXCEEDED_RETRIES
        return now + (self.wait(attempts) if wait is None else wait)

    def _are_retries_used(self, attempts: int) -> bool:
        limit = self.auto_limit() if self.is_auto else self.max_retries
        return limit is not None and attempts > limit
