"""When a commit begins: at once, or a moment later with more in it.

    arrivals   1   2 3 4    5 6 7 8        9
    commits    ▲   └─────▲  └──────▲       ▲
               │←─ PACE_S ─→│
               isolated     company        isolated

A commit costs about the same whether it holds one request or sixty: two wake-ups of threads, a list, a
write of reception records, and then a turn of delivery with a write, a read, a record and a settlement.
Where the disk syncs within a tenth of a millisecond, the next commit would begin before a second request
came, and each request would pay all of that alone. So commits begin no closer than PACE_S after each
other, and a request that comes in between waits for the rest of it, never longer. PostgreSQL's
`commit_delay` is the same idea, and as there (`commit_siblings`) nobody waits for company that does not come:

1. Nothing waits whose predecessor began PACE_S ago or earlier: a lone request is committed at once.
2. A wait in which nobody else came was for nothing: one client that sends its next request when it has the
   answer to the last. After it, nothing waits until two are there together by themselves, or AGAIN commits
   have held a single request: then the next one tries it once more.

Pure: `now` is monotonic.
"""

from __future__ import annotations

__all__ = ["AGAIN", "PACE_S", "Company"]

PACE_S = 0.002
"""Between the beginnings of two commits, while there is company: of the five milliseconds that an answer may
take on a fast disk it is less than half, and at 1,000 requests a second it gathers two or three. A disk that
needs longer for a commit sets the pace by itself."""

AGAIN = 16
"""Commits of one request after which it is tried again to wait: then one in so many waits for nothing."""


class Company:
    """Whether to wait for more requests before a commit."""

    def __init__(self) -> None:
        self._began = float("-inf")
        self._comes = True
        self._alone = 0  # commits of one request since somebody waited for nothing

    def __repr__(self) -> str:
        return f"<Company {'comes' if self._comes else f'did not come, {self._alone} commits ago'}>"

    def wait_s(self, now: float) -> float:
        """Return for how many seconds a commit should wait; 0: not at all."""
        return max(0.0, self._began + PACE_S - now) if self._comes else 0.0

    def begin(self, now: float, requests: int, has_waited: bool) -> None:
        """Note that a commit of so many requests begins."""
        self._began = now
        if requests > 1:
            self._comes = True
        elif has_waited:
            self._comes, self._alone = False, 0
        elif not self._comes:
            self._alone += 1
            self._comes = self._alone >= AGAIN
