"""The message object of momentum.md 9.5, over a snapshot; what a script wishes for is collected as values.

    Subject   what is known of a message at the door, or ┐
    Stored    a message of ours in the core              ├─► PolicyMessage ─► script
                                                         ┘        │
                        the caller carries out  ◄── msg.wishes ───┘   None: nobody wished for anything

A script sees its own wishes: `context_get` after `context_set` gives what was set. Headers are those of the
mail; messages that came over HTTP have none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from email.errors import HeaderParseError
from email.header import decode_header, make_header
from email.parser import BytesHeaderParser
from typing import NamedTuple

from momentum_push.errors import ScriptError
from momentum_push.scripting.connection import Code, code_of, merged, text_of
from momentum_push.scripting.constants import (
    CTX_CONN,
    CTX_MESS,
    ENVELOPE_COMPLETE,
    ENVELOPE_FROM,
)
from momentum_push.scripting.subject import Source

__all__ = ["HeaderEdit", "Inject", "PolicyMessage", "Wishes", "known_groups"]

DISCARDED = (550, "5.7.0 discarded by policy")
MAX_RECIPIENTS = 1000
"""Of one `inject`."""


class HeaderEdit(NamedTuple):
    """A wish to change the mail's headers."""

    name: str
    value: str
    """Empty: the header is deleted."""
    mode: str
    """`replace`, `prepend` or `append`."""


class Inject(NamedTuple):
    """A wish for another message of the same content, payload, parts and message context."""

    mailfrom: str
    recipients: tuple[str, ...]
    context: dict[str, str]
    """Message context at that moment."""


@dataclass(slots=True)
class Wishes:
    """What scripts want done about one message."""

    context: dict[str, str | None] = field(default_factory=dict)
    """Message context to set; None takes a variable away."""
    conn_context: dict[str, str | None] = field(default_factory=dict)
    code: Code | None = None
    discarded: Code | None = None
    """The message is not to be kept, and why."""
    injects: list[Inject] = field(default_factory=list)
    binding: str | None = None
    headers: list[HeaderEdit] = field(default_factory=list)
    mailfrom: str | None = None
    rcptto: str | None = None


class PolicyMessage:
    """One message as a script sees it.

    Args:
        source: what is known of it.
        groups: where the binding may be chosen: known bindings, and the group of each; None: it may not.
        may_refuse: whether `code` and `discard` mean something in this hook.
    """

    READ = frozenset(
        {
            "id",
            "batch_id",
            "conn_id",
            "priority",
            "num_retries",
            "delivered",
        }
    )
    WRITE: frozenset[str] = frozenset()
    CALL = frozenset(
        {
            "context_get",
            "context_set",
            "context_exists",
            "context_exists_and_get",
            "context_delete",
            "header",
            "body",
            "raw",
            "text",
            "mailfrom",
            "rcptto",
            "routing_domain",
            "binding",
            "binding_group",
            "get_delivery_method",
            "get_message_size",
            "code",
            "discard",
            "inject",
            "reception_peer",
            "listener_addr",
            "is_mcmt",
            "envelope",
        }
    )

    __slots__ = ("_groups", "_headers", "_may_refuse", "_source", "wishes")

    def __init__(
        self, source: Source, *, groups: Mapping[str, str] | None = None, may_refuse: bool = True
    ) -> None:
        self._source = source
        self._groups = groups
        self._may_refuse = may_refuse
        self._headers: list[tuple[str, str]] | None = None
        self.wishes: Wishes | None = None

    def __repr__(self) -> str:
        return f"<msg {self._source.id or 'new'} to {self._source.domain}>"

    def _wish(self) -> Wishes:
        if self.wishes is None:
            self.wishes = Wishes()
        return self.wishes

    # --- fields

    @property
    def id(self) -> str:
        return self._source.id

    @property
    def batch_id(self) -> str:
        return self._source.batch_id

    @property
    def conn_id(self) -> str:
        return self._source.conn_id

    @property
    def priority(self) -> int:
        return self._source.priority

    @property
    def num_retries(self) -> int:
        return self._source.num_retries

    @property
    def delivered(self) -> int:
        return self._source.delivered

    # --- context

    def context_get(self, scope: int, key: str) -> str:
        """Return a context variable, always text; "" when there is none."""
        return self._context(scope, key) or ""

    def context_exists(self, scope: int, key: str) -> int:
        """Return 1 or 0."""
        return int(self._context(scope, key) is not None)

    def context_exists_and_get(self, scope: int, key: str) -> tuple[int, str]:
        """Return both."""
        value = self._context(scope, key)
        return int(value is not None), value or ""

    def context_set(self, scope: int, key: str, value: str) -> None:
        """Set a context variable."""
        key = text_of(key, "msg:context_set")
        self._changes(scope)[key] = text_of(value, "msg:context_set")

    def context_delete(self, scope: int, key: str) -> int:
        """Take a variable away; 1 when there was one."""
        if self._context(scope, key) is None:
            return 0
        self._changes(scope)[key] = None
        return 1

    def _context(self, scope: object, key: object) -> str | None:
        key = text_of(key, "context variable")
        if scope == CTX_MESS:
            if self.wishes is not None and key in self.wishes.context:
                return self.wishes.context[key]
            return self._source.context.get(key)
        if scope == CTX_CONN:
            if self.wishes is not None and key in self.wishes.conn_context:
                return self.wishes.conn_context[key]
            return self._source.conn_context.get(key)
        raise ScriptError(f"msg: {scope!r} is neither ECMESS_CTX_MESS nor ECMESS_CTX_CONN")

    def _changes(self, scope: object) -> dict[str, str | None]:
        if scope == CTX_MESS:
            return self._wish().context
        if scope == CTX_CONN:
            return self._wish().conn_context
        raise ScriptError(f"msg: {scope!r} is neither ECMESS_CTX_MESS nor ECMESS_CTX_CONN")

    # --- content

    def header(self, name: str, value: str | None = None, mode: str = "replace") -> list[str] | bool:
        """Return the values of a header, RFC 2047 decoded; with a value, set it ("" deletes)."""
        name = text_of(name, "msg:header")
        headers = self._read_headers()
        if value is None:
            return [decoded(text) for key, text in headers if key.lower() == name.lower()]
        return self._edit(HeaderEdit(name, text_of(value, "msg:header"), mode), headers)

    def _read_headers(self) -> list[tuple[str, str]]:
        if self._headers is None:
            raw = self._source.raw
            is_mail = bool(raw) and raw[:1] != b"{"
            parsed = BytesHeaderParser().parsebytes(raw).items() if is_mail else []
            self._headers = [(name, str(value)) for name, value in parsed]
        return self._headers

    def _edit(self, edit: HeaderEdit, headers: list[tuple[str, str]]) -> bool:
        if edit.mode not in ("replace", "prepend", "append"):
            raise ScriptError(f"msg:header: mode {edit.mode!r} is none of replace, prepend, append")
        if not _is_header(edit.name, edit.value):
            raise ScriptError(
                f"msg:header: {edit.name!r} cannot be set so; one line, and a name without colon"
            )
        there = any(name.lower() == edit.name.lower() for name, _ in headers)
        if not edit.value and not there:
            return False
        if edit.mode == "replace" or not edit.value:
            headers[:] = [(name, text) for name, text in headers if name.lower() != edit.name.lower()]
        if edit.value:
            headers.insert(0 if edit.mode == "prepend" else len(headers), (edit.name, edit.value))
        self._wish().headers.append(edit)
        return True

    def body(self) -> bytes:
        """Return the content without the mail's headers; of a notification its payload."""
        return self._source.body

    def raw(self) -> tuple[bytes, int]:
        """Return the whole, and how long it is."""
        return self._source.raw, len(self._source.raw)

    def text(self) -> bytes:
        """Return the same as `body`."""
        return self._source.body

    def get_message_size(self) -> int:
        """Return the bytes that it had at reception."""
        return self._source.size

    def is_mcmt(self) -> bool:
        """Whether it is a container; true only before the data phase."""
        return self._source.is_mcmt

    # --- envelope and queue

    def mailfrom(self, address: str | None = None) -> str:
        """Return the sender; with an address, set it."""
        if address is not None:
            self._wish().mailfrom = text_of(address, "msg:mailfrom")
        wished = self.wishes.mailfrom if self.wishes else None
        return self._source.mailfrom if wished is None else wished

    def rcptto(self, address: str | None = None) -> str:
        """Return the recipient; with an address, set it."""
        if address is not None:
            self._wish().rcptto = text_of(address, "msg:rcptto")
        wished = self.wishes.rcptto if self.wishes else None
        return self._source.rcptto if wished is None else wished

    def envelope(self, flags: int) -> tuple[str, str]:
        """Return local part and domain of the address that `flags` names; with COMPLETE all in the first."""
        address = self.mailfrom() if int(flags) & ENVELOPE_FROM else self.rcptto()
        if int(flags) & ENVELOPE_COMPLETE:
            return address, ""
        local, _, domain = address.rpartition("@")
        return local, domain

    def routing_domain(self) -> str:
        """Return the domain whose queue it goes to."""
        return self.rcptto().rpartition("@")[2] if self.wishes and self.wishes.rcptto else self._source.domain

    def binding(self, name: str | None = None) -> str | None:
        """Return the binding; with a name, choose it: None when there is none of that name."""
        if name is None:
            return (self.wishes and self.wishes.binding) or self._source.binding
        if self._groups is None:
            raise ScriptError("msg:binding: a binding can only be chosen in validate_set_binding")
        name = text_of(name, "msg:binding")
        if name not in self._groups:
            return None
        self._wish().binding = name
        return name

    def binding_group(self, name: str | None = None) -> str | None:
        """Return the group; with a name, choose its first binding: None when there is no such group."""
        chosen = self.wishes.binding if self.wishes else None
        if name is None:
            return self._groups[chosen] if chosen and self._groups else self._source.binding_group
        members = [member for member, group in (self._groups or {}).items() if group == name]
        if self._groups is not None and not members:
            return None
        self.binding(members[0] if members else name)
        return name

    def get_delivery_method(self) -> str:
        """Return the domain's, `apn`."""
        return self._source.delivery_method

    def reception_peer(self, flag: str = "all") -> str:
        """Return the client's address: `ip`, `port` or `all`."""
        return _part_of(self._source.peer, flag)

    def listener_addr(self, flag: str = "all") -> str:
        """Return the address that it came to: `ip`, `port` or `all`."""
        return _part_of(self._source.listener, flag)

    # --- what is to become of it

    def code(self, code: int | None = None, text: str = "") -> tuple[int, str] | None:
        """Return the message's code; with one, set it: 4xx and 5xx refuse the message."""
        if code is not None:
            self._must_be_refusable("msg:code")
            self._wish().code = code_of(code, text, "msg:code")
        return self.wishes.code if self.wishes else None

    def discard(self, reason: str | None = None) -> None:
        """Do not keep the message."""
        self._must_be_refusable("msg:discard")
        self._wish().discarded = _reason(reason) if reason else DISCARDED

    def _must_be_refusable(self, what: str) -> None:
        if not self._may_refuse:
            raise ScriptError(f"{what}: it cannot be used in this hook")

    def inject(self, mailfrom: str, recipients: str) -> bool:
        """Send another message with this content to one recipient or several, separated by commas."""
        names = [name.strip() for name in text_of(recipients, "msg:inject").split(",")]
        to = tuple(name for name in names if name)
        if not to or len(to) > MAX_RECIPIENTS or any("@" not in name for name in to):
            raise ScriptError(
                f"msg:inject: 1 to {MAX_RECIPIENTS} recipients of the form local@domain are wanted"
            )
        context = merged(self._source.context, self.wishes.context if self.wishes else {})
        self._wish().injects.append(Inject(text_of(mailfrom, "msg:inject"), to, context))
        return True


def decoded(text: str) -> str:
    """Decode the encoded words of a header (RFC 2047); what cannot be decoded stays as it is."""
    try:
        return str(make_header(decode_header(text)))
    except (HeaderParseError, LookupError, UnicodeError, ValueError):
        return text


def _is_header(name: str, value: str) -> bool:
    is_name = bool(name) and name.isascii() and name.isprintable() and not set(name) & {":", " "}
    return is_name and not set(value) & {"\r", "\n", "\0"}


def _part_of(address: str, flag: str) -> str:
    host, _, port = address.rpartition(":")
    parts = {"ip": host.strip("[]"), "port": port, "all": address}
    if flag not in parts:
        raise ScriptError(f"address: {flag!r} is none of ip, port, all")
    return parts[flag]


def _reason(text: str) -> Code:
    code, _, rest = text_of(text, "msg:discard").partition(" ")
    return (int(code), rest) if len(code) == 3 and code.isdigit() and code[0] in "45" else (550, text)


def known_groups(bindings: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Turn `Config.bindings()` (group → bindings) round: binding → group."""
    return {name: group for group, names in reversed(list(bindings.items())) for name in names}
