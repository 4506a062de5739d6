"""Scripts for tests: engines from texts, and the objects that hooks get."""

from pathlib import Path

from momentum_push.errors import Place
from momentum_push.message import Message, Part
from momentum_push.scripting import Counters, Engine, Hooks, Limits, Services
from momentum_push.scripting.loader import ScriptSettings

PAYLOAD = b'{"aps":{"alert":"Ferry cancelled"}}'
TOKEN = "ab" * 32


class Elsewhere(Hooks):
    """A class that a script may import and derive from; by itself it is no script."""

    def validate_dealloc(self, vctx):
        raise AssertionError("nobody made a script of this")

    def apn_response_eval(self, resp, msg):
        resp.status = 1


class Stage:
    """What a daemon would give to scripts, and what they did with it."""

    def __init__(self) -> None:
        self.panics: list[str] = []
        self.commands = {}
        self.timers = []
        self.counters = Counters()
        self.services = Services(
            panic=lambda module, text: self.panics.append(f"{module}: {text}"),
            now=lambda: 1_767_600_000.0,
            config=lambda *words: (" ".join(map(str, words)), "done"),
            expand_macro=lambda macro: macro.replace("%{vctx_mess:a}", "A"),
            read_file=lambda path: Path(path).read_bytes(),
            timer=lambda *timer: self.timers.append(timer),
            control=self.commands.__setitem__,
            counters=self.counters,
        )

    def engine(self, folder: Path, *names: str, limits: Limits = Limits()) -> Engine:
        """Load scripts that lie in `folder`."""
        place = Place("push.conf", 3, 5)
        settings = [ScriptSettings(name, name, place) for name in names]
        return Engine.load(settings, [folder], self.services, limits)


def a_message(payload: bytes = PAYLOAD, sequence: int = 7, **fields) -> Message:
    """Return a message as the core has it, without a home."""
    part = Part(received_at=1.0, expiration=1_800_000_000, push_type="alert", priority=10, **fields)
    return Message(sequence, TOKEN, payload, part, None)


def lua_module(hook: str, body: str, arguments: str = "req, msg", name: str = "policy") -> str:
    """Return a script in the form that Momentum's manual prescribes, with one function."""
    return f"""
require("msys.core")
local mod = {{}}
function mod:{hook}({arguments})
{body}
end
msys.registerModule("{name}", mod)
"""
