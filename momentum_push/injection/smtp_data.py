"""The mail of one DATA command: collected as it comes, ended by CRLF dot CRLF and by nothing else.

Pure: bytes in, a mail out. A line may be as long as the mail; nothing is split into lines, so a
megabyte of JSON costs as little as a megabyte of text.

    \\r\\n | first line \\r\\n | second line \\r\\n | . \\r\\n | next command
    └ put there by us, so that a dot on the first line is found like all others
                                        └ only CRLF . CRLF ends a mail: "\\n.\\n" and its cousins
                                          are content, so two servers never disagree on where a mail
                                          ends (SMTP smuggling)
"""

from __future__ import annotations

__all__ = ["Budget", "MailCollector"]

_END = b"\r\n.\r\n"


class Budget:
    """Bytes that mails in progress may hold together, over all sessions that share it."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0

    def __repr__(self) -> str:
        return f"<Budget {self.used} of {self.limit} bytes used>"


class MailCollector:
    """Collects one mail.

    When it grows beyond `limit`, or when all mails together are beyond the budget, what was collected is
    let go and the rest is read past: the client hears of it at the end of the data (RFC 5321
    section 4.2.5), not in the middle of its sending.
    """

    def __init__(self, limit: int, budget: Budget) -> None:
        self.is_too_large = False
        self.is_over_budget = False
        self._limit = limit
        self._budget = budget
        self._buffer = bytearray(b"\r\n")
        self._held = 0

    def feed(self, data: bytes) -> bytes | None:
        """Take what came; return what follows the mail, or None while it goes on."""
        buffer = self._buffer
        seen = max(0, len(buffer) - len(_END) + 1)
        buffer += data
        end = buffer.find(_END, seen)
        if end < 0:
            self._account(len(data))
            return None
        rest = bytes(buffer[end + len(_END) :])
        del buffer[end + 2 :]  # the mail keeps its own last line end
        self._account(len(data) - len(rest))
        return rest

    def take(self) -> bytes:
        """Return the finished mail without dot-stuffing (RFC 5321 section 4.5.2), and forget it."""
        mail = bytes(self._buffer)
        self.close()
        return mail.replace(b"\r\n.", b"\r\n")[2:]

    def close(self) -> None:
        """Let go of what is held; twice does no harm."""
        self._budget.used -= self._held
        self._held = 0
        self._buffer = bytearray()

    def _account(self, count: int) -> None:
        self._held += count
        self._budget.used += count
        self.is_too_large = self.is_too_large or self._held > self._limit
        self.is_over_budget = self.is_over_budget or self._budget.used > self._budget.limit
        if self.is_too_large or self.is_over_budget:
            tail = self._buffer[-len(_END) + 1 :]  # may be the beginning of the end
            self.close()
            self._buffer = tail
