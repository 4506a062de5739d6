"""Modules: names in the configuration become objects with a lifecycle.

Lives here: the table of names (`registry`), the order of starting and stopping (`lifecycle`), and a
module to copy (`skeleton`). What the modules do lives in their own rooms; the daemon fills the
registry, for it is the only one that knows them all.
"""

from momentum_push.modules.lifecycle import Lifecycle, Module, StopReport
from momentum_push.modules.registry import Registry

__all__ = ["Lifecycle", "Module", "Registry", "StopReport"]
