"""Names that change their minds: a name server's answers by time or by count of look-ups (apns.md 9.5).

A plain function stands where the system's resolver would; whoever connects must be handed it
(`Simulator.names.look_up`), so this works in one process only. The first row that fits decides; a name
without one does not exist. Not here: the addresses that listen (`door`).
"""

import asyncio
import socket
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from momentum_push.simulator.schedule import RealTime, Scheduler

__all__ = ["ERRORS", "NameAnswer", "Names"]

ERRORS = {
    "NXDOMAIN": (socket.EAI_NONAME, "Name or service not known"),
    "SERVFAIL": (socket.EAI_FAIL, "Non-recoverable failure in name resolution"),
    "TIMEOUT": (socket.EAI_AGAIN, "Temporary failure in name resolution"),
}
"""What a look-up can fail with, and how `getaddrinfo` says it."""


@dataclass(frozen=True, slots=True)
class NameAnswer:
    """One answer, and when it is given.

    Attributes:
        name: that was asked for; empty: any.
        addresses: may be none, which no real resolver says.
        error: of `ERRORS`, instead of addresses.
        delay_s: before the answer; longer than anybody waits is a silent name server.
        after: only from the look-up behind this many, counted among those of the same name.
        times: at most so often; 0: no limit.
        from_s, until_s: seconds since the start; 0: for ever.
    """

    name: str = ""
    addresses: tuple[str, ...] = ()
    error: str = ""
    delay_s: float = 0.0
    after: int = 0
    times: int = 0
    from_s: float = 0.0
    until_s: float = 0.0


class Names:
    """The answers of a run, and what was asked.

    Attributes:
        asked: every name that was looked up, in order.
    """

    def __init__(self, answers: Sequence[NameAnswer], scheduler: Scheduler | None = None) -> None:
        self.asked: list[str] = []
        self._answers = tuple(answers)
        self._scheduler = scheduler or RealTime()
        self._started_at = self._scheduler.now()
        self._given: Counter[int] = Counter()

    def __bool__(self) -> bool:
        """Whether there is anything to say."""
        return bool(self._answers)

    async def look_up(self, host: str, port: int) -> list[str]:
        """Return the addresses of `host` as of now.

        Raises:
            socket.gaierror: as the answer says, or there is none.
        """
        self.asked.append(host)
        answer = self._choose(host, self._scheduler.now() - self._started_at)
        if answer.delay_s:
            over = asyncio.Event()
            timer = self._scheduler.later(answer.delay_s, over.set)
            try:
                await over.wait()
            finally:
                timer.cancel()
        if answer.error:
            raise socket.gaierror(*ERRORS[answer.error])
        return list(answer.addresses)

    def _choose(self, host: str, age_s: float) -> NameAnswer:
        number = self.asked.count(host)
        for place, answer in enumerate(self._answers):
            fits = answer.name in ("", host) and number > answer.after
            is_time = age_s >= answer.from_s and (not answer.until_s or age_s < answer.until_s)
            if fits and is_time and (not answer.times or self._given[place] < answer.times):
                self._given[place] += 1
                return answer
        return NameAnswer(error="NXDOMAIN")
