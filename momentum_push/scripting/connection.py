"""`vctx` and `accept`: what a script sees of an SMTP session, and what it wishes for (momentum.md 9.5).

Nothing here acts: the door reads the wishes after the hooks of a phase and carries them out.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping, Sequence

from momentum_push.errors import ScriptError
from momentum_push.scripting.constants import CTX_CONN, CTX_MESS

__all__ = ["Accept", "Code", "Vctx", "text_of"]

Code = tuple[int, str]
"""SMTP code, and the text after it."""


def text_of(value: object, what: str) -> str:
    """Return a script's value as text; numbers as Lua would write them.

    Raises:
        ScriptError: it is neither text nor a number.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ScriptError(f"{what}: text is wanted, not {type(value).__name__}")
    return str(int(value)) if value == int(value) else repr(value)


def code_of(code: object, text: object, what: str) -> Code:
    """Return a code and its text that a script gave.

    Raises:
        ScriptError: the code is none that SMTP has.
    """
    number = int(code) if isinstance(code, int | float) else 0
    if not 200 <= number <= 599:
        raise ScriptError(f"{what}: {code!r} is no SMTP code; 200 to 599 are")
    return number, text_of("" if text is None else text, what)


class Vctx:
    """One SMTP session: its variables, and wishes about it.

    Args:
        conn: the connection's context variables; written to at once.
        mess: the current transaction's.
        recipients: those accepted so far.
    """

    READ: frozenset[str] = frozenset()
    WRITE: frozenset[str] = frozenset()
    CALL = frozenset(
        {
            "get",
            "set",
            "set_code",
            "disconnect",
            "tarpit",
            "add_recipient",
            "remove_recipient",
            "recipient_list",
        }
    )

    __slots__ = ("_conn", "_mess", "_recipients", "added", "code", "is_over", "removed", "tarpit_s")

    def __init__(
        self,
        conn: MutableMapping[str, str] | None = None,
        mess: MutableMapping[str, str] | None = None,
        recipients: Sequence[str] = (),
    ) -> None:
        self._conn: MutableMapping[str, str] = {} if conn is None else conn
        self._mess: MutableMapping[str, str] = {} if mess is None else mess
        self._recipients = list(recipients)
        self.code: Code | None = None
        """What the client is answered; None: what it would be without scripts."""
        self.is_over = False
        """The connection is closed after the answer."""
        self.tarpit_s = 0.0
        """The answer waits so long; the door bounds it."""
        self.added: list[str] = []
        self.removed: list[str] = []

    def __repr__(self) -> str:
        return f"<vctx code={self.code}>"

    def _variables(self, scope: object) -> MutableMapping[str, str]:
        if scope == CTX_CONN:
            return self._conn
        if scope == CTX_MESS:
            return self._mess
        raise ScriptError(f"vctx: {scope!r} is neither VCTX_CONN nor VCTX_MESS")

    def get(self, scope: int, key: str) -> str:
        """Return a variable; "" when there is none."""
        return self._variables(scope).get(text_of(key, "vctx:get"), "")

    def set(self, scope: int, key: str, value: str) -> None:
        """Set a variable."""
        self._variables(scope)[text_of(key, "vctx:set")] = text_of(value, "vctx:set")

    def set_code(self, code: int, text: str = "") -> None:
        """Answer the client so; 4xx and 5xx refuse what it asked for."""
        self.code = code_of(code, text, "vctx:set_code")

    def disconnect(self, code: int | None = None, text: str = "") -> None:
        """Close the connection after the answer."""
        if code is not None:
            self.code = code_of(code, text, "vctx:disconnect")
        self.is_over = True

    def tarpit(self, seconds: float) -> None:
        """Let the answer wait."""
        if not isinstance(seconds, int | float) or not 0 <= seconds <= 3600:
            raise ScriptError(f"vctx:tarpit: {seconds!r} is no number of seconds from 0 to 3600")
        self.tarpit_s = float(seconds)

    def add_recipient(self, address: str) -> None:
        """Add a recipient to the transaction."""
        address = text_of(address, "vctx:add_recipient")
        self._recipients.append(address)
        self.added.append(address)

    def remove_recipient(self, address: str) -> bool:
        """Remove a recipient; False when there was none of that address."""
        address = text_of(address, "vctx:remove_recipient")
        if address not in self._recipients:
            return False
        self._recipients.remove(address)
        self.removed.append(address)
        return True

    def recipient_list(self) -> list[str]:
        """Return the recipients, in order."""
        return list(self._recipients)


class Accept:
    """The connection as it was accepted: what the door offers, and how many sessions there are."""

    READ = frozenset({"inbound_session_count"})
    WRITE: frozenset[str] = frozenset()
    CALL = frozenset({"esmtp_capability_add", "esmtp_capability_remove"})

    __slots__ = ("_count", "capabilities")

    def __init__(self, inbound_session_count: int = 0) -> None:
        self._count = inbound_session_count
        self.capabilities: dict[str, bool] = {}
        """Wishes for the EHLO answer: name → whether it is offered."""

    def __repr__(self) -> str:
        return f"<accept {self._count} sessions>"

    @property
    def inbound_session_count(self) -> int:
        """Sessions that are open now."""
        return self._count

    def esmtp_capability_add(self, name: str) -> None:
        """Offer a capability in the answer to EHLO."""
        self.capabilities[text_of(name, "accept:esmtp_capability_add")] = True

    def esmtp_capability_remove(self, name: str) -> None:
        """Do not offer it."""
        self.capabilities[text_of(name, "accept:esmtp_capability_remove")] = False


def merged(original: Mapping[str, str], changes: Mapping[str, str | None]) -> dict[str, str]:
    """Return context variables with changes laid over them; None takes one away."""
    together = {**original, **changes}
    return {key: value for key, value in together.items() if value is not None}
