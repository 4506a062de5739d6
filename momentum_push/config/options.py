"""THE table: every option, and every stanza it may stand in, as data.

The checker (`builder`), the resolved views (`scopes`), dump-config and the documentation read it; no
option is known anywhere else. The rows stand in `tables/`, by area; this module joins them, indexes them
and answers questions about names. An option may have several rows when it means different things in
different places (`tls_certificate` towards Apple and in a listener): rows of one name share no scope but
`listen`, where the listener around it decides.

    STANZAS    which stanza may stand where, and how its instance is written
    OPTIONS    the rows
    UNSERVED   security options that this release knows and does not serve yet: an error, never ignored
               (interfaces.md 2); remove a row here when the option is served
    UNSERVED_STANZAS   stanzas that load, with a warning that nothing serves them yet
"""

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from momentum_push.config.tables import inbound, modules, outbound, site
from momentum_push.config.tables.modules import MODULES
from momentum_push.config.tables.unneeded import UNNEEDED_OPTIONS, UNNEEDED_STANZAS
from momentum_push.config.values import Kind, Option

__all__ = [
    "GLOBAL",
    "LISTENERS",
    "MODULES",
    "OPTIONS",
    "STANZAS",
    "UNSERVED",
    "UNSERVED_STANZAS",
    "Instance",
    "Kind",
    "Option",
    "StanzaKind",
    "Unserved",
    "is_unneeded_option",
    "is_unneeded_stanza",
    "nearest",
    "option",
    "options_in",
    "rows_of",
    "stanza_kind",
    "stanzas_in",
    "unserved",
]

GLOBAL = "global"
LISTENERS = ("esmtp_listener", "http_listener", "control_listener")

OPTIONS: tuple[Option, ...] = outbound.ROWS + inbound.ROWS + site.ROWS + modules.ROWS


class Instance(Enum):
    """Whether a stanza has an instance name."""

    MAYBE = "maybe"
    NEEDED = "needed"


@dataclass(frozen=True, slots=True)
class StanzaKind:
    """A kind of stanza: where it may stand and what it is for."""

    name: str
    parents: tuple[str, ...]
    instance: Instance
    help: str


STANZAS: tuple[StanzaKind, ...] = (
    StanzaKind("binding_group", (GLOBAL,), Instance.NEEDED, "bindings that share options"),
    StanzaKind(
        "binding", (GLOBAL, "binding_group"), Instance.NEEDED, "a tenant: its own queues and connections"
    ),
    StanzaKind("domain", (GLOBAL, "binding_group", "binding"), Instance.NEEDED, 'an app; "/PCRE/" for many'),
    StanzaKind("host", (GLOBAL, "binding"), Instance.NEEDED, "a remote host"),
    *(StanzaKind(name, (GLOBAL,), Instance.MAYBE, "a door") for name in LISTENERS),
    StanzaKind("listen", LISTENERS, Instance.NEEDED, 'an address: ":25", "[::1]:25" or a path'),
    StanzaKind("peer", (*LISTENERS, "listen"), Instance.NEEDED, "clients of a network, CIDR"),
    StanzaKind("pathway_group", (GLOBAL,), Instance.NEEDED, "pathways that share options"),
    StanzaKind("pathway", (GLOBAL, "pathway_group"), Instance.NEEDED, "a named bundle of inbound options"),
    *(StanzaKind(name, (GLOBAL,), Instance.MAYBE, "a module") for name in MODULES),
    StanzaKind("script", ("scriptlet",), Instance.NEEDED, "a policy script"),
    StanzaKind("security", (GLOBAL,), Instance.MAYBE, "who the process runs as"),
    StanzaKind("authorization", (GLOBAL,), Instance.MAYBE, "roles of console users"),
    StanzaKind("role", ("authorization",), Instance.NEEDED, "what a role may do"),
)


@dataclass(frozen=True, slots=True)
class Unserved:
    """A security option that is not implemented yet; values in `harmless` ask for nothing and pass."""

    name: str
    harmless: Any
    fix: str


UNSERVED: tuple[Unserved, ...] = (
    Unserved(
        "proxy_protocol", False, "connect clients directly, or put the proxy's address into peer stanzas"
    ),
    Unserved("tls_verified_peer_can_relay", False, "use AUTH or relay_hosts"),
    Unserved("tls_verified_peer_is_authorized", False, "use authplainparameters, or peer stanzas"),
    Unserved("enable_authorization", False, "remove it; file_mode of the socket decides who may connect"),
    Unserved("authorizationparameters", {}, "remove it; file_mode of the socket decides who may connect"),
    Unserved("authcrammd5parameters", {}, "use authplainparameters or authloginparameters, with TLS"),
    Unserved("authdigestmd5parameters", {}, "use authplainparameters, with TLS"),
    Unserved("prohibited_hosts", [], "use peer stanzas, or a packet filter"),
    Unserved("relay_for_sending_domains", [], "use relay_hosts, relay_domains or AUTH"),
    Unserved("chroot", "", "use RootDirectory= of systemd and remove it"),
)

UNSERVED_STANZAS: Mapping[str, str] = {
    "control_listener": "no console is served yet",
    "scriptlet": "no scripts are run yet",
    "authorization": "roles are not checked yet",
}

SERVED_AUTH_SCHEMES = ("file",)
UNSERVED_MECHANISMS = ("cram-md5", "digest-md5")

_BY_PLACE: Mapping[tuple[str, str], Option] = {
    (row.name, scope): row for row in reversed(OPTIONS) for scope in row.scopes
}
_BY_NAME: dict[str, tuple[Option, ...]] = {}
for _row in OPTIONS:
    _BY_NAME[_row.name] = (*_BY_NAME.get(_row.name, ()), _row)

_STANZAS: Mapping[str, StanzaKind] = {kind.name: kind for kind in STANZAS}


def option(name: str, scope: str) -> Option | None:
    """The row of option `name` (lower-case) in stanzas of kind `scope`; None when it is not legal there."""
    return _BY_PLACE.get((name, scope))


def rows_of(name: str) -> tuple[Option, ...]:
    """All rows of option `name`, wherever legal."""
    return _BY_NAME.get(name, ())


def options_in(*scopes: str) -> dict[str, Option]:
    """The options legal in any of `scopes`; where several rows share a name the earlier scope decides."""
    found: dict[str, Option] = {}
    for scope in scopes:
        for row in OPTIONS:
            if scope in row.scopes:
                found.setdefault(row.name, row)
    return found


def stanza_kind(name: str) -> StanzaKind | None:
    """The kind of stanza called `name` (lower-case)."""
    return _STANZAS.get(name)


def stanzas_in(scope: str) -> list[str]:
    """Names of the stanzas that may stand in stanzas of kind `scope`."""
    return [kind.name for kind in STANZAS if scope in kind.parents]


def is_unneeded_option(name: str) -> bool:
    """Whether Momentum knows option `name` and we have no use for it."""
    return name not in _BY_NAME and _matches(name, UNNEEDED_OPTIONS)


def is_unneeded_stanza(name: str) -> bool:
    """Whether Momentum knows stanza `name` and we have no use for it."""
    return name not in _STANZAS and _matches(name, UNNEEDED_STANZAS)


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(name.startswith(word[:-1]) if word.endswith("*") else name == word for word in patterns)


def nearest(name: str, names: Iterable[str]) -> str | None:
    """The name most like `name`, when one is like it at all."""
    matches = difflib.get_close_matches(name.lower(), sorted(names), n=1, cutoff=0.6)
    return matches[0] if matches else None


def unserved(name: str, value: Any) -> list[tuple[str, str]]:
    """What option `name` = `value` asks for that is not served yet: (what, fix), mostly none."""
    for row in UNSERVED:
        if row.name == name:
            return [] if value == row.harmless else [(f"{name} is not implemented yet", row.fix)]
    if name == "smtp_extensions":
        return _unserved_mechanisms(value)
    if name in ("authplainparameters", "authloginparameters"):
        return _unserved_scheme(name, value)
    return []


def _unserved_mechanisms(extensions: list[str]) -> list[tuple[str, str]]:
    words = [word for text in extensions for word in text.lower().replace("=", " ").split()]
    return [
        (
            f"smtp_extensions: AUTH {word.upper()} is not implemented yet",
            'offer "AUTH PLAIN" or "AUTH LOGIN" with TLS',
        )
        for word in words
        if word in UNSERVED_MECHANISMS
    ]


def _unserved_scheme(name: str, parameters: Mapping[str, str]) -> list[tuple[str, str]]:
    scheme, colon, _ = parameters.get("uri", "").partition(":")
    if not colon:
        return [(f"{name} names no password file", 'add uri = "file:///path", a file of user:password lines')]
    if scheme.lower() in SERVED_AUTH_SCHEMES:
        return []
    return [
        (f'{name}: uri scheme "{scheme}" is not implemented yet', 'use "file:///path", user:password lines')
    ]
