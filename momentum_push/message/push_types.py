"""The table of push types (apns.md 2.2), and the topics that go with them.

Lives here: what Apple says about each `apns-push-type`, and how a topic follows from it. Not here:
what a payload of that type must hold (`payload`), and what a sender may ask for (`rules`).

A topic is an app's bundle id plus a suffix that the push type asks for:

    alert, background, mdm      com.example.app
    voip                        com.example.app.voip
    liveactivity                com.example.app.push-type.liveactivity        … and so on

A configured default topic is completed, a topic that a message names is taken at its word: completing
it as well would turn a wrong topic into another app's, and a wrong suffix is better refused at the door.
A suffix is never appended twice (apns.md 3.5, rule 8), and never replaced.
"""

from dataclasses import dataclass
from functools import lru_cache

__all__ = [
    "PUSH_TYPES",
    "PushType",
    "effective_topic",
    "push_type_of_topic",
    "suits_topic",
]


@dataclass(frozen=True, slots=True)
class PushType:
    """One row of Apple's table; Apple's page was read for apns.md, source S1 there."""

    name: str
    suffix: str = ""
    """What its topic ends with."""
    max_bytes: int = 4096
    priorities: tuple[int, ...] = (10, 5, 1)
    """Allowed ones; where there is only one it is set, whatever the message asked for."""
    needs_aps: bool = True


_TABLE = (
    PushType("alert"),
    PushType("background", priorities=(5,)),
    PushType("voip", suffix=".voip", max_bytes=5120),
    PushType("complication", suffix=".complication"),
    PushType("fileprovider", suffix=".pushkit.fileprovider", needs_aps=False),
    PushType("mdm", needs_aps=False),
    PushType("location", suffix=".location-query"),
    PushType("liveactivity", suffix=".push-type.liveactivity", priorities=(10, 5)),
    PushType("pushtotalk", suffix=".voip-ptt"),
    PushType("widgets", suffix=".push-type.widgets"),
    PushType("controls", suffix=".push-type.controls"),
)

PUSH_TYPES: dict[str, PushType] = {row.name: row for row in _TABLE}

_SUFFIXES = {row.suffix: row.name for row in _TABLE if row.suffix}
_ALL_SUFFIXES = tuple(_SUFFIXES)  # no one of them is the end of another


@lru_cache(maxsize=1024)  # a topic stands for thousands of messages
def push_type_of_topic(topic: str) -> str:
    """Return the push type that the suffix of `topic` stands for; empty when it has none of them."""
    if not topic.endswith(_ALL_SUFFIXES):
        return ""
    return next(name for suffix, name in _SUFFIXES.items() if topic.endswith(suffix))


def effective_topic(named: str, default: str, push_type: str) -> str:
    """Return the `apns-topic` to be sent: the one that the message named, else the completed default.

    Args:
        named: the message's own topic; empty for none.
        default: the configuration's or the certificate's; empty for none.
        push_type: decides the suffix of the default; one that is not in the table has no suffix.
    """
    if named or not default:
        return named
    row = PUSH_TYPES.get(push_type)
    if row is None or default.endswith(row.suffix):
        return default
    return default + row.suffix


@lru_cache(maxsize=1024)
def suits_topic(topic: str, push_type: str) -> bool:
    """Whether the suffix of `topic` agrees with the push type; one outside the table suits any topic."""
    row = PUSH_TYPES.get(push_type)
    if row is None:
        return True
    if not row.suffix:
        return not topic.endswith(_ALL_SUFFIXES)
    return topic.endswith(row.suffix) and not topic.removesuffix(row.suffix).endswith(_ALL_SUFFIXES)
