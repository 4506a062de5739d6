"""The conf language: what a configuration says, checked against one table, resolved for whoever asks.

Lives here: grammar, nodes, values, the option table, the merged tree, scopes and their fallback, the
loader. Does not live here: what keys, certificates, routes, formats and scripts *mean*; the rooms that
use them check them (`validate`). Everybody above may call it; it calls `errors` alone. Only the loader
reads files.

    text ─parser─► nodes ─loader: includes─► nodes ─builder + options─► tree ─scopes─► Config, Scope
"""

from momentum_push.config.conf import Config
from momentum_push.config.loader import find_default, load, loads, search_path_of
from momentum_push.config.options import OPTIONS, Option
from momentum_push.config.scopes import Listener, ListenScope, Scope
from momentum_push.config.values import Kind, Rate

__all__ = [
    "OPTIONS",
    "Config",
    "Kind",
    "ListenScope",
    "Listener",
    "Option",
    "Rate",
    "Scope",
    "find_default",
    "load",
    "loads",
    "search_path_of",
]
