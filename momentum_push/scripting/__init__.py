"""Policy scripts: the hooks of Momentum's Lua and of Python, and what a script may touch.

    hooks.py            the table of hooks, and the class that Python scripts derive from
    policy_message.py   ┐ (subject.py: what a message object stands on)
    connection.py       ├ msg, vctx and accept, req and resp: read snapshots, collect wishes
    request.py          ┘
    loader.py           the scriptlet stanza → files
    engine.py           hook → functions: order, errors, breaker, counts
    python.py  lua/     the two languages
    services.py         what scripts may ask of the daemon: plain callables
    counters.py         msys.counter
    constants.py        the words of msys.core, msys.apn, msys.delivery and msys.gcm

Does not live here: when a hook is called, and what becomes of a wish; injection and delivery know that.
A hook that nobody registered costs the caller one look-up (`Engine.is_used`).
"""

from momentum_push.scripting.connection import Accept, Vctx
from momentum_push.scripting.counters import Counters
from momentum_push.scripting.engine import Engine, HookCount, Limits, limits_of, validate
from momentum_push.scripting.hooks import HOOKS, Hook, Hooks
from momentum_push.scripting.loader import ScriptSettings, folders_of, read_settings
from momentum_push.scripting.policy_message import (
    HeaderEdit,
    Inject,
    PolicyMessage,
    Wishes,
    known_groups,
)
from momentum_push.scripting.request import Request, Response
from momentum_push.scripting.services import Services
from momentum_push.scripting.subject import Source, Stored, Subject

__all__ = [
    "HOOKS",
    "Accept",
    "Counters",
    "Engine",
    "HeaderEdit",
    "Hook",
    "HookCount",
    "Hooks",
    "Inject",
    "Limits",
    "PolicyMessage",
    "Request",
    "Response",
    "ScriptSettings",
    "Services",
    "Source",
    "Stored",
    "Subject",
    "Vctx",
    "Wishes",
    "folders_of",
    "known_groups",
    "limits_of",
    "read_settings",
    "validate",
]
