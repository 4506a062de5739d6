"""Resolved views: which value is in effect for a queue, a client, a module, and where it was written.

    Scope         a chain of blocks, most specific first, over the rows of the option table
    outbound      momentum.md 2.1, `outbound_layers`
    inbound       momentum.md 2.2, `ListenScope.inbound`

A chain is asked option by option: the first block that sets it decides. Within one container the exact
domain stanza stands before the regular expressions that match, those in declaration order; so a
second regex fills what the first leaves open, as all of 1.6 can be read. A block counts only
where the option's row is legal in its kind: a global `tls_certificate` is Apple's matter and never
becomes a server certificate. Of several peers that match, the most specific that sets the option decides.

Pure; all values are read from a finished tree.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from momentum_push.config.addresses import Address, Network, network, parse_listen, plain_ip
from momentum_push.config.options import GLOBAL, LISTENERS, Option, options_in
from momentum_push.config.tree import Block, Setting
from momentum_push.errors import Place

__all__ = [
    "ListenScope",
    "Listener",
    "Scope",
    "global_scope",
    "module_scope",
    "outbound_layers",
    "outbound_scope",
]

Rows = Mapping[str, Option]

_GLOBAL_ROWS: Rows = options_in(GLOBAL)
_OUTBOUND_ROWS: Rows = options_in("domain", "binding", "binding_group", GLOBAL)


class Scope:
    """The effective options of one thing."""

    __slots__ = ("_layers", "_rows", "_values", "instance", "name", "place")

    def __init__(self, name: str, instance: str, layers: Sequence[Block], rows: Rows) -> None:
        self.name = name
        self.instance = instance
        self.place = layers[0].place
        self._layers = layers
        self._rows = rows
        self._values: dict[str, Any] = {}

    def __repr__(self) -> str:
        return f'<Scope {self.name} "{self.instance}" of {", ".join(layer.path for layer in self._layers)}>'

    def __getitem__(self, option: str) -> Any:
        """The effective value, or the table's default; KeyError for an option that cannot stand here."""
        try:
            return self._values[option]
        except KeyError:
            value = self._values[option] = self._resolve(option)
            return value

    def get(self, option: str) -> Any:
        """Same as `scope[option]`."""
        return self[option]

    def is_set(self, option: str) -> bool:
        """Whether some block of the chain sets the option; the built-in default does not count."""
        return self.found(option) is not None

    def origin(self, option: str) -> Place | None:
        """Where the effective value was written; None for a built-in default."""
        found = self.found(option)
        return found[1].place if found else None

    def found(self, option: str) -> tuple[Block, Setting] | None:
        """The block that decides and what it sets."""
        row = self._rows[option]
        for layer in self._layers:
            setting = layer.settings.get(option)
            if setting is not None and layer.kind in row.scopes:
                return layer, setting
        return None

    def row(self, option: str) -> Option:
        """The option's row in the table, as it is meant here."""
        return self._rows[option]

    def options(self) -> list[str]:
        """The names of all options that have a value here, as the table orders them."""
        return list(self._rows)

    def _resolve(self, option: str) -> Any:
        found = self.found(option)
        return found[1].value if found else self._rows[option].default


def global_scope(root: Block) -> Scope:
    """The global options."""
    return Scope(GLOBAL, "", (root,), _GLOBAL_ROWS)


def module_scope(block: Block) -> Scope:
    """The options of a module's stanza, or of another stanza that inherits from nowhere."""
    return Scope(block.kind, block.instance, (block,), options_in(block.kind))


def outbound_scope(root: Block, group: str, binding: str, domain: str) -> Scope:
    """What is in effect for the queue of `domain` (lower-case) in `binding` of `group`."""
    return Scope("domain", domain, tuple(outbound_layers(root, group, binding, domain)), _OUTBOUND_ROWS)


def outbound_layers(root: Block, group: str, binding: str, domain: str) -> Iterator[Block]:
    """The fallback order of momentum.md 2.1.

    A binding inside its group comes before a binding stanza of the same name outside, in 1 before 2 and
    within 4 alike.
    """
    group_block = root.get("binding_group", group)
    grouped = group_block.get("binding", binding) if group_block else None
    alone = root.get("binding", binding)
    containers = [block for block in (grouped, alone, group_block) if block is not None]
    for container in containers:
        yield from container.matching("domain", domain)  # 1, 2, 3
    yield from containers  # 4
    yield from root.matching("domain", domain)  # 5
    yield root  # 6


class ListenScope:
    """One address of a listener; `inbound` is what counts for a client there."""

    def __init__(self, root: Block, listener: Block, listen: Block) -> None:
        address = parse_listen(listen.instance)
        assert address is not None, listen.instance  # the builder let it pass
        self.address = listen.instance
        self.place = listen.place
        self.parsed: Address = address
        self.host, self.port, self.unix = address.host, address.port, address.unix
        self._root = root
        self._base = (listen, listener)
        self._rows = options_in(listener.kind, "listen", "peer", GLOBAL)
        self._peers = _by_specificity(listen) + _by_specificity(listener)
        self._scopes: dict[tuple[Block, ...], Scope] = {}

    def __repr__(self) -> str:
        return f"<ListenScope {self.address} at {self.place}, {len(self._peers)} peers>"

    @property
    def has_peers(self) -> bool:
        """Whether peer stanzas exist for this address, here or in the listener."""
        return bool(self._peers)

    def matches_peer(self, ip: str | None) -> bool:
        """Whether a client stands in one of the peer stanzas."""
        return bool(self._matching(ip))

    def inbound(self, ip: str | None = None) -> Scope:
        """The options for a client; `ip` None is a Unix socket and counts as loopback."""
        return self._scope(self._matching(ip))

    def base(self) -> Scope:
        """The options for a client that is in no peer stanza."""
        return self._scope(())

    def _matching(self, ip: str | None) -> tuple[Block, ...]:
        if not self._peers:
            return ()
        address = plain_ip(ip)
        return tuple(block for net, block in self._peers if address.version == net.version and address in net)

    def _scope(self, peers: tuple[Block, ...]) -> Scope:
        scope = self._scopes.get(peers)
        if scope is None:
            scope = self._scopes[peers] = self._resolved((*peers, *self._base))
        return scope

    def _resolved(self, layers: tuple[Block, ...]) -> Scope:
        pathway = Scope("listen", self.address, layers, self._rows)["pathway"]
        chain = (*layers, *_pathway_layers(self._root, pathway), self._root)
        return Scope("listen", self.address, chain, self._rows)


def _by_specificity(block: Block) -> list[tuple[Network, Block]]:
    """The peers of a stanza, longest prefix first."""
    peers = [(network(peer.instance), peer) for peer in block.of("peer")]
    known = [(net, peer) for net, peer in peers if net is not None]
    return sorted(known, key=lambda entry: -entry[0].prefixlen)


def _pathway_layers(root: Block, name: str) -> Iterator[Block]:
    """`pathway_group::pathway`, `pathway`, `pathway_group` (momentum.md 2.2); nothing without a name."""
    if not name:
        return
    groups = [group for group in root.of("pathway_group") if group.get("pathway", name)]
    blocks = [*(group.get("pathway", name) for group in groups), root.get("pathway", name), *groups]
    yield from (block for block in blocks if block is not None)


class Listener:
    """A listener stanza with those of its addresses that are switched on."""

    def __init__(self, root: Block, block: Block) -> None:
        self.kind = block.kind
        self.instance = block.instance
        self.place = block.place
        listens = [ListenScope(root, block, listen) for listen in block.of("listen")]
        self.listens = [listen for listen in listens if listen.base()["enable"]]

    def __repr__(self) -> str:
        return f"<Listener {self.kind} on {', '.join(listen.address for listen in self.listens)}>"


_OUTBOUND_KINDS = ("domain", "binding", "binding_group")
_INBOUND_KINDS = (*LISTENERS, "listen", "peer")


def view(root: Block, block: Block) -> Scope:
    """What is in effect at a stanza itself, as dump-config shows it."""
    if block is root:
        return global_scope(root)
    if block.kind in _OUTBOUND_KINDS:
        return Scope(
            block.kind, block.instance, tuple(_stanza_layers(root, block)), options_in(*_OUTBOUND_KINDS)
        )
    if block.kind in _INBOUND_KINDS:
        return _inbound_view(root, block)
    return module_scope(block)


def _stanza_layers(root: Block, block: Block) -> Iterator[Block]:
    group = _instance_above(block, "binding_group")
    binding = _instance_above(block, "binding")
    if block.pattern is not None:
        yield block
        yield from outbound_layers(root, group, binding, "")
    else:
        yield from outbound_layers(
            root, group, binding, block.instance.lower() if block.kind == "domain" else ""
        )


def _instance_above(block: Block, kind: str) -> str:
    """The instance of the stanza of that kind around `block`, or of `block` itself; empty for none."""
    found: Block | None = block
    while found is not None and found.kind != kind:
        found = found.parent
    return found.instance if found else ""


def _inbound_view(root: Block, block: Block) -> Scope:
    layers = [block]
    while layers[-1].parent is not None and layers[-1].parent is not root:
        layers.append(layers[-1].parent)
    rows = options_in(layers[-1].kind, "listen", "peer")
    pathway = Scope(block.kind, block.instance, layers, rows)["pathway"]
    return Scope(block.kind, block.instance, (*layers, *_pathway_layers(root, pathway), root), rows)
