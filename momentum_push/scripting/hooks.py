"""The hooks: their names, arguments and places as data, and the class that Python scripts derive from.

    HOOKS ──► loader      what a script may register
          ──► engine      order, what ends the chain, what is counted
          ──► lua         which objects a function gets
          ──► docs/policy.md

Names and arguments are Momentum's (momentum.md 4.6, 9.2, 9.3). DOOR hooks run where the message comes in
(in a receiver where there are any, design.md 5), CORE hooks in the one process that delivers.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from momentum_push.scripting.connection import Accept, Vctx
from momentum_push.scripting.policy_message import PolicyMessage
from momentum_push.scripting.request import Request, Response
from momentum_push.scripting.services import Services

__all__ = ["BY_NAME", "HOOKS", "Hook", "Hooks", "Stop", "Where"]


class Where(enum.Enum):
    """The process that runs a hook."""

    DOOR = "door"
    CORE = "core"
    BOTH = "both"


class Stop(enum.Enum):
    """When the functions that come after one are skipped."""

    DONE = "DONE"
    """It returned 1 (`VALIDATE_DONE`, `DELIVERY_DONE`)."""
    NEVER = "never"
    """Each function is called, whatever the others return."""
    REJECT = "reject"
    """Each gets what the one before returned; the word `reject` ends the chain (momentum.md 4.6)."""
    NOT_OK = "not 0"
    """It returned anything but 0."""


@dataclass(frozen=True, slots=True)
class Hook:
    """One hook."""

    name: str
    arguments: tuple[str, ...]
    """Kinds of objects: `msg vctx accept req resp`, `str` for text."""
    where: Where
    stop: Stop
    help: str
    has_list: bool = False
    """Whether Python may define `NAME_list(calls)`, which gets the arguments of a whole list."""


_DOOR, _CORE, _BOTH = Where.DOOR, Where.CORE, Where.BOTH
_DONE, _NEVER = Stop.DONE, Stop.NEVER

HOOKS: tuple[Hook, ...] = (
    Hook("init", (), _BOTH, _NEVER, "the scripts are loaded"),
    Hook("deinit", (), _BOTH, _NEVER, "the scripts go away"),
    Hook("rsrc_setup", (), _BOTH, _NEVER, "register console commands here"),
    Hook("validate_connect", ("accept", "vctx"), _DOOR, _DONE, "a client connected"),
    Hook("validate_ehlo", ("str", "accept", "vctx"), _DOOR, _DONE, "HELO or EHLO"),
    Hook("validate_mailfrom", ("str", "accept", "vctx"), _DOOR, _DONE, "MAIL FROM"),
    Hook("validate_rcptto", ("msg", "str", "accept", "vctx"), _DOOR, _DONE, "each RCPT TO"),
    Hook("ec_message_mcmt_pre_fixup", ("msg", "str"), _DOOR, Stop.REJECT, "may change mcmt_reception"),
    Hook("ec_message_mcmt_fixup", ("msg",), _DOOR, Stop.NOT_OK, "the container is about to be read"),
    Hook("validate_data", ("msg", "accept", "vctx"), _DOOR, _DONE, "DATA was read"),
    Hook("validate_data_spool", ("msg", "accept", "vctx"), _DOOR, _DONE, "the message with all recipients"),
    Hook(
        "validate_data_spool_each_rcpt",
        ("msg", "accept", "vctx"),
        _DOOR,
        _DONE,
        "one message per recipient",
        has_list=True,
    ),
    Hook("msg_gen_data_spool", ("msg",), _DOOR, _DONE, "a message that came over HTTP", has_list=True),
    Hook("validate_set_binding", ("msg",), _DOOR, _DONE, "choose the binding", has_list=True),
    Hook("validate_dealloc", ("vctx",), _DOOR, _NEVER, "the session ended"),
    Hook("apn_request_eval", ("req", "msg"), _CORE, _DONE, "before a request goes to Apple", has_list=True),
    Hook("apn_response_eval", ("resp", "msg"), _CORE, _DONE, "Apple answered", has_list=True),
    Hook(
        "generic_delivery_msg_dispose",
        ("msg",),
        _CORE,
        _NEVER,
        "before an attempt is written down, whatever came of it",
        has_list=True,
    ),
)

BY_NAME: Mapping[str, Hook] = {hook.name: hook for hook in HOOKS}

Answer = int | bool | None
"""0 or None: go on; 1: skip the other functions of this hook."""
Answers = Sequence[Answer] | None
"""One for each call of a list; None: 0 for all."""


class Hooks:
    """Policy in Python: derive from it and override what is wanted; a method left as it is costs nothing.

    A script is a file with one class (or several) of these; each is made once, without arguments. Methods
    return 0 or None to go on, 1 to skip the remaining functions of that hook. A method that raises is
    written to the paniclog, and the message goes on. `NAME_list` forms get a sequence of the
    arguments of NAME, one tuple for each message, and return a sequence of as many answers, or None.

    Attributes:
        services: what `msys.*` is in Lua: `self.services.control("word", handler)` registers a console
            command, `self.services.counters.add("/path")` counts. Not there yet in `__init__`.
    """

    services: Services = Services()

    def init(self) -> Answer:
        """All scripts are loaded."""
        return 0

    def deinit(self) -> Answer:
        """The scripts are about to go: the daemon stops, or loads them anew."""
        return 0

    def rsrc_setup(self) -> Answer:
        """Right after `init`: Momentum's place for console commands."""
        return 0

    def validate_connect(self, accept: Accept, vctx: Vctx) -> Answer:
        """A client connected to an SMTP listener; `vctx.set_code` refuses it."""
        return 0

    def validate_ehlo(self, text: str, accept: Accept, vctx: Vctx) -> Answer:
        """HELO or EHLO came; `accept` adds or removes capabilities."""
        return 0

    def validate_mailfrom(self, text: str, accept: Accept, vctx: Vctx) -> Answer:
        """MAIL FROM came; `text` is the address."""
        return 0

    def validate_rcptto(self, msg: PolicyMessage, text: str, accept: Accept, vctx: Vctx) -> Answer:
        """RCPT TO came; `vctx.set_code(550, "5.7.1 no")` and 1 refuse this recipient."""
        return 0

    def ec_message_mcmt_pre_fixup(self, msg: PolicyMessage, reception: str) -> str | None:
        """A container came; return `allow`, `reject` or `passthru` in place of `reception`, or None."""
        return None

    def ec_message_mcmt_fixup(self, msg: PolicyMessage) -> Answer:
        """The container is about to be read: 0 goes on, 1 refuses for good, 2 for now."""
        return 0

    def validate_data(self, msg: PolicyMessage, accept: Accept, vctx: Vctx) -> Answer:
        """DATA was read; nothing is on disk yet."""
        return 0

    def validate_data_spool(self, msg: PolicyMessage, accept: Accept, vctx: Vctx) -> Answer:
        """As `validate_data`, after it; `vctx.recipient_list()` are those who were accepted."""
        return 0

    def validate_data_spool_each_rcpt(self, msg: PolicyMessage, accept: Accept, vctx: Vctx) -> Answer:
        """Once for each recipient: `msg` is that recipient's; set `DLV_Dest_ID` here."""
        return 0

    def validate_data_spool_each_rcpt_list(
        self, calls: Sequence[tuple[PolicyMessage, Accept, Vctx]]
    ) -> Answers:
        """As `validate_data_spool_each_rcpt`, for all recipients of a mail at once."""
        return None

    def msg_gen_data_spool(self, msg: PolicyMessage) -> Answer:
        """A message came over HTTP; `msg.code(550, "5.7.1 no")` refuses it."""
        return 0

    def msg_gen_data_spool_list(self, calls: Sequence[tuple[PolicyMessage]]) -> Answers:
        """As `msg_gen_data_spool`, for all messages of a request at once."""
        return None

    def validate_set_binding(self, msg: PolicyMessage) -> Answer:
        """Choose the binding: `msg.binding("name")`; codes cannot be set here."""
        return 0

    def validate_set_binding_list(self, calls: Sequence[tuple[PolicyMessage]]) -> Answers:
        """As `validate_set_binding`, for a whole list."""
        return None

    def validate_dealloc(self, vctx: Vctx) -> Answer:
        """The SMTP session ended."""
        return 0

    def apn_request_eval(self, req: Request, msg: PolicyMessage) -> Answer:
        """A request is about to go to Apple; what is assigned to `req` goes instead."""
        return 0

    def apn_request_eval_list(self, calls: Sequence[tuple[Request, PolicyMessage]]) -> Answers:
        """As `apn_request_eval`, for all requests that are written together."""
        return None

    def apn_response_eval(self, resp: Response, msg: PolicyMessage) -> Answer:
        """Apple answered; assign `resp.status` to change what becomes of the message."""
        return 0

    def apn_response_eval_list(self, calls: Sequence[tuple[Response, PolicyMessage]]) -> Answers:
        """As `apn_response_eval`, for all answers that were read together."""
        return None

    def generic_delivery_msg_dispose(self, msg: PolicyMessage) -> Answer:
        """An attempt ended; `DLV_Response_Status` is "" for success. `msg.inject` sends it elsewhere."""
        return 0

    def generic_delivery_msg_dispose_list(self, calls: Sequence[tuple[PolicyMessage]]) -> Answers:
        """As `generic_delivery_msg_dispose`, for all that ended together."""
        return None


def overridden(hooks: Hooks) -> dict[str, Any]:
    """Return the methods that the class of `hooks` defines itself, by name; `_list` forms too."""
    found = {}
    for hook in HOOKS:
        for name in (hook.name, f"{hook.name}_list") if hook.has_list else (hook.name,):
            if getattr(type(hooks), name) is not getattr(Hooks, name):
                found[name] = getattr(hooks, name)
    return found
