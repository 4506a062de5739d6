"""What can only be seen in the whole tree: doors that are open to strangers, names that lead nowhere.

Pure: nothing is read, nobody is asked. What needs a file or another room's knowledge (keys,
certificates, routes, formats) is checked by that room's `validate`.
"""

import re
from collections.abc import Callable, Iterator, Mapping

from momentum_push.config.addresses import is_loopback, network
from momentum_push.config.options import LISTENERS
from momentum_push.config.scopes import Listener, ListenScope
from momentum_push.config.tree import Block
from momentum_push.errors import Problem

__all__ = ["check"]


def check(root: Block) -> list[Problem]:
    """All problems of the tree as a whole, unsorted; warnings among them."""
    return [
        *_doors(root),
        *_pathways(root),
        *_insecure_tls(root),
        *_shared_bindings(root),
        *_entries(root),
    ]


def _listeners(root: Block) -> list[Listener]:
    return [Listener(root, block) for kind in LISTENERS for block in root.of(kind)]


def _doors(root: Block) -> Iterator[Problem]:
    taken: dict[object, ListenScope] = {}
    for listener in _listeners(root):
        for listen in listener.listens:
            yield from _taken_twice(listen, taken)
            if listener.kind == "http_listener":
                yield from _open_to_strangers(listen)


def _taken_twice(listen: ListenScope, taken: dict[object, ListenScope]) -> Iterator[Problem]:
    if listen.port == 0:
        return  # the system chooses
    first = taken.setdefault(listen.parsed, listen)
    if first is not listen:
        yield Problem(
            listen.place, f'listen "{listen.address}" is taken at {first.place}', "choose another port"
        )


def _open_to_strangers(listen: ListenScope) -> Iterator[Problem]:
    """interfaces.md 4: who may speak HTTP to us from outside must be said somehow."""
    scope = listen.base()
    wants_certificate = scope["use_ssl"] and scope["tls_verify_mode"] == "require"
    if is_loopback(listen.parsed) or listen.has_peers or scope["enable_authentication"] or wants_certificate:
        return
    yield Problem(
        listen.place,
        f'http_listener: anybody can inject through listen "{listen.address}"',
        'add peer stanzas, enable_authentication = true or tls_verify_mode = "require" with use_ssl,'
        " or listen on a loopback address",
    )


def _pathways(root: Block) -> Iterator[Problem]:
    known = {block.instance for block in root.walk() if block.kind == "pathway"}
    for block in root.walk():
        setting = block.settings.get("pathway")
        if setting is not None and setting.value and setting.value not in known:
            what = f'pathway "{setting.value}" is not defined'
            yield Problem(setting.place, what, f'add pathway "{setting.value}" {{ … }} in global scope')


def _insecure_tls(root: Block) -> Iterator[Problem]:
    """interfaces.md 2: obeyed only with allow_insecure_tls, which stands in domain or global scope."""
    for block in root.walk():
        setting = block.settings.get("tls_verify")
        if setting is None or setting.value not in ("no", "optional") or _is_insecure_allowed(root, block):
            continue
        what = f'tls_verify = "{setting.value}" is ignored, certificates are verified'
        yield Problem(setting.place, what, "add allow_insecure_tls = true if you mean it", is_warning=True)


def _is_insecure_allowed(root: Block, block: Block) -> bool:
    candidates = [block, root, *([] if block.kind != "domain" else root.matching("domain", block.instance))]
    found = (candidate.settings.get("allow_insecure_tls") for candidate in candidates)
    return next((bool(setting.value) for setting in found if setting is not None), False)


def _shared_bindings(root: Block) -> Iterator[Problem]:
    first: dict[str, str] = {}
    for group in root.of("binding_group"):
        for binding in group.of("binding"):
            home = first.setdefault(binding.instance, group.instance)
            if home != group.instance:
                what = f'binding "{binding.instance}" stands in binding_group "{home}" too'
                fix = f'messages that name only the binding go to "{home}"; choose another name'
                yield Problem(binding.place, what, fix, is_warning=True)


def _wrong_network(text: str) -> str:
    return "" if network(text) else 'write "10.0.0.0/8", "192.0.2.1" or "2001:db8::/32"'


def _wrong_pattern(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        return str(error)
    return ""


_ENTRIES: Mapping[str, tuple[str, Callable[[str], str]]] = {
    "relay_hosts": ("network", _wrong_network),
    "prohibited_hosts": ("network", _wrong_network),
    "exclude_vctx_mess": ("regular expression", _wrong_pattern),
    "exclude_vctx_conn": ("regular expression", _wrong_pattern),
    "allow": ("regular expression", _wrong_pattern),
    "deny": ("regular expression", _wrong_pattern),
}
"""What the entries of an array must be, and the fix for one that is not."""


def _entries(root: Block) -> Iterator[Problem]:
    for block in root.walk():
        for name, setting in block.settings.items():
            if name not in _ENTRIES:
                continue
            kind, wrong = _ENTRIES[name]
            for text in setting.value:
                if fix := wrong(text):
                    yield Problem(setting.place, f'{name}: "{text}" is no {kind}', fix)
