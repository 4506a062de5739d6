"""The circuit breaker on dead tokens: when Apple's word on them is no longer taken (apns.md 4.3).

A single `BadDeviceToken` is the token's fault. Hundreds at once are more likely ours: a key, a route or
a topic of the other environment, or a list of tokens from there; and whoever prunes by our records would
empty a whole database. So the share of dead tokens is watched over a sliding window of answers:

    closed ──more than 100 dead, and a share LIMIT points above the usual one──► tripped
       ▲                                                                            │
       └───── an answer that accepts a notification; the share seen is usual now ◄──┘

The usual share is a slow mean over some LONG_RUN answers and begins at nothing, so a queue whose lists
always hold 30 % dead tokens trips once after a start, until the next accepted answer, and then only
above 50 %. Points above the usual share, and not a multiple of it: a healthy queue with 0.1 % would trip
at nothing, one with 30 % never. Answers that say nothing of tokens (5xx, 429, 403) are not counted.

    window   ▕ 50+ answers ▏ … ▕ 50+ answers ▏◄ note(answers, dead) of one read
             └── about WINDOW answers, the oldest drop out ──┘

Pure: counts in; the judge asks at each dead token, so that what one read brings is cut off in the middle.
"""

from __future__ import annotations

from collections import deque

__all__ = ["DEAD_TOKENS", "LEAST_DEAD", "LONG_RUN", "WINDOW", "Breaker"]

DEAD_TOKENS = "DeadTokens"
"""The reason of a suspension that the breaker began, beside Apple's own words."""

WINDOW = 1000
"""Answers over which the share is taken."""

LEAST_DEAD = 100
"""So many dead tokens in the window prove nothing yet, whatever their share."""

LONG_RUN = 20_000
"""Answers that it takes, roughly, until a new share has become the usual one."""

_SLICE = WINDOW // 20


class Breaker:
    """The share of dead tokens on one queue, and whether it is believed."""

    def __init__(self, limit_percent: int = 20) -> None:
        """Begin closed, with nothing usual.

        Args:
            limit_percent: points above the usual share at which it trips; 0: never (`apn_dead_token_limit`).
        """
        self._limit = limit_percent / 100
        self.is_tripped = False
        self.usual = 0.0
        """The long-run share of dead tokens, 0 to 1."""
        self._slices: deque[tuple[int, int]] = deque()
        self._answers = 0
        self._dead = 0

    def __repr__(self) -> str:
        state = "tripped" if self.is_tripped else "closed"
        return f"<Breaker {state}, {self._dead} of {self._answers} dead, usually {self.usual:.0%}>"

    def doubts(self, answers: int, dead: int) -> bool:
        """Return whether the word "dead token" is to be doubted; may trip.

        Args:
            answers, dead: of the read at hand up to and with this answer; `note` has not seen them yet.
        """
        if not self._limit or self.is_tripped:
            return self.is_tripped
        dead += self._dead
        if dead > LEAST_DEAD and dead > (self.usual + self._limit) * (self._answers + answers):
            self.is_tripped = True
        return self.is_tripped

    def note(self, answers: int, dead: int) -> None:
        """Count what one read brought: answers that tell of tokens, and how many called them dead."""
        if not answers:
            return
        if not self.is_tripped:
            self.usual += (dead / answers - self.usual) * min(1.0, answers / LONG_RUN)
        if self._slices and self._slices[-1][0] < _SLICE:
            last = self._slices.pop()
            self._slices.append((last[0] + answers, last[1] + dead))
        else:
            self._slices.append((answers, dead))
        self._answers += answers
        self._dead += dead
        while self._answers - self._slices[0][0] >= WINDOW:
            answers, dead = self._slices.popleft()
            self._answers -= answers
            self._dead -= dead

    def lift(self) -> None:
        """Believe again: Apple accepts notifications, so the share seen is that of the tokens."""
        self.usual = max(self.usual, self._dead / self._answers if self._answers else 0.0)
        self.is_tripped = False
        self._slices.clear()
        self._answers = self._dead = 0
