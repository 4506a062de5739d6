"""Which queue a message belongs to, and by which rules it is taken: domain and binding, resolved.

A message belongs to binding `default` unless its sender names another (momentum.md 2.5). A name that
is a binding_group's is answered with one of the group's bindings, those that are not suspended first,
in turn (momentum.md 6.5). An answer is worked out once per (binding, domain) and kept until the
configuration changes.
"""

from __future__ import annotations

from collections.abc import Callable

from momentum_push.config import Config
from momentum_push.message import QueueKey, Refusal
from momentum_push.message.rules import Rules

__all__ = ["DEFAULT", "Routing"]

DEFAULT = "default"
"""The binding, and the binding_group, that always exist."""

Route = tuple[QueueKey, Rules]

_MAX_REMEMBERED = 65536


class Routing:
    """Answers of one configuration.

    Args:
        rules_for: the rules of a queue; what certificates say about topics is in them already.
    """

    def __init__(self, config: Config, rules_for: Callable[[QueueKey], Rules]) -> None:
        self._config = config
        self._rules_for = rules_for
        self._routes: dict[tuple[str, str], Route] = {}
        self._turns: dict[str, int] = {}

    def is_apn(self, domain: str) -> bool:
        """Whether a recipient domain is delivered to Apple."""
        return self._config.is_apn(domain.lower())

    def route(self, binding: str | None, domain: str) -> Route | Refusal:
        """Return the queue and the rules for a message, or why it has none."""
        domain = domain.lower()
        name = self._binding(binding or DEFAULT, domain)
        if name is None:
            return Refusal(
                "UnknownBinding", f'there is no binding or binding_group "{(binding or DEFAULT)[:255]}" here'
            )
        return self._routes.get((name, domain)) or self._resolve(name, domain)

    def candidates(self, binding: str, domain: str) -> list[QueueKey]:
        """Return the queues of which `route` may choose one, whatever the turn; none where it refuses."""
        name, domain = binding or DEFAULT, domain.lower()
        if not self._config.is_apn(domain):
            return []
        names = [name] if self._config.group_of(name) is not None else self._config.bindings().get(name, ())
        return [QueueKey(self._config.group_of(one) or DEFAULT, one, domain) for one in names]

    def _resolve(self, binding: str, domain: str) -> Route | Refusal:
        if not self._config.is_apn(domain):
            return Refusal("UnknownDomain", f'domain "{domain[:255]}" is not delivered to APNs here')
        group = self._config.group_of(binding) or DEFAULT
        if self._config.outbound(group, binding, domain)["blackhole"] == "inline":
            return Refusal("RecipientBlackholed", "recipient blackholed")
        key = QueueKey(group, binding, domain)
        route = (key, self._rules_for(key))
        if len(self._routes) < _MAX_REMEMBERED:
            self._routes[binding, domain] = route
        return route

    def _binding(self, name: str, domain: str) -> str | None:
        if self._config.group_of(name) is not None:
            return name
        bindings = self._config.bindings().get(name)
        if not bindings:
            return None
        free = [binding for binding in bindings if not self._is_suspended(name, binding, domain)]
        turn = self._turns[name] = self._turns.get(name, -1) + 1
        chosen = free or bindings
        return chosen[turn % len(chosen)]

    def _is_suspended(self, group: str, binding: str, domain: str) -> bool:
        return bool(self._config.outbound(group, binding, domain)["suspend_delivery"])
