"""Instance names: what may be one, for each kind of stanza (momentum.md 1.2, 1.6, 3.1)."""

import re
import warnings

from momentum_push.config.addresses import network, parse_listen
from momentum_push.config.nodes import cited
from momentum_push.config.values import BadValue

__all__ = ["check", "compile_pattern", "sample"]

_SAMPLES = {
    "domain": "com.example.news.apns",
    "listen": "127.0.0.1:25",
    "peer": "10.0.0.0/8",
    "host": "192.0.2.1",
}

# What PCRE writes and `re` does not read, with what says the same there.
_PCRE = (
    ("(?<name>", re.compile(r"\(\?<(?=[A-Za-z_])"), "(?P<"),
    (r"\z", re.compile(r"\\z"), r"\\Z"),
    (r"\h", re.compile(r"\\h"), r"[ \\t]"),
    ("[:alpha:]", re.compile(r"\[:alpha:\]"), "a-zA-Z"),
    ("[:digit:]", re.compile(r"\[:digit:\]"), "0-9"),
    ("[:alnum:]", re.compile(r"\[:alnum:\]"), "a-zA-Z0-9"),
    ("[:lower:]", re.compile(r"\[:lower:\]"), "a-z"),
    ("[:upper:]", re.compile(r"\[:upper:\]"), "A-Z"),
    ("[:xdigit:]", re.compile(r"\[:xdigit:\]"), "0-9a-fA-F"),
    ("[:space:]", re.compile(r"\[:space:\]"), r"\\s"),
)


def sample(kind: str) -> str:
    """A name that an error text can show."""
    return _SAMPLES.get(kind, "name")


def check(kind: str, instance: str) -> re.Pattern[str] | None:
    """See that `instance` can name a stanza of that kind; the pattern when it is a regular expression.

    Raises:
        BadValue: it cannot.
    """
    match kind:
        case "domain" | "host":
            return _name_or_pattern(kind, instance)
        case "binding":
            _without(kind, instance, ":")
        case "binding_group":
            _without(kind, instance)
        case "listen" if parse_listen(instance) is None:
            raise BadValue(
                f'listen "{cited(instance)}" is no address',
                'write ":25", "127.0.0.1:25", "[::1]:25" or "/path/of/socket"',
            )
        case "peer" if network(instance) is None:
            raise BadValue(
                f'peer "{cited(instance)}" is no network',
                'write "10.0.0.0/8", "192.0.2.1" or "2001:db8::/32"',
            )
    return None


def compile_pattern(body: str) -> re.Pattern[str]:
    """Compile what stands between the slashes of "/PCRE/"; names compare without regard to case.

    Raises:
        re.error: it is no regular expression.
    """
    for _, found, written in _PCRE:
        body = found.sub(written, body)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "possible nested set": the operator cannot do anything about it
        return re.compile(body, re.IGNORECASE)


def _name_or_pattern(kind: str, instance: str) -> re.Pattern[str] | None:
    if not instance.startswith("/"):
        _without(kind, instance, "/")
        return None
    if len(instance) < 3 or not instance.endswith("/"):
        raise BadValue(
            f'{kind} "{cited(instance)}" is no regular expression',
            f'write {kind} "/PCRE/", slashes at both ends',
        )
    try:
        return compile_pattern(instance[1:-1])
    except re.error as error:
        raise BadValue(f'{kind} "{cited(instance)}" is no regular expression', f"{error}") from None


def _without(kind: str, instance: str, unwanted: str = "") -> None:
    """Refuse white space and the `unwanted` characters in a name."""
    for char in instance:
        if char.isspace() or not char.isprintable():
            shown = "a space" if char == " " else "white space or control characters"
        elif char in unwanted:
            shown = {":": "a colon", "/": "a slash"}[char]
        else:
            continue
        raise BadValue(f'the name of {kind} "{cited(instance)}" holds {shown}', "choose a name without")
