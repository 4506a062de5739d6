"""Reading `routes`: where a domain's notifications go (momentum.md 7.3, interfaces.md 2 "Routes").

    ( "apn://gateway.push.apple.com?port=2195" )    Momentum's form, from the days of the binary service
    ( "api.push.apple.com" )                         a bare host, or host:port
    ( "https://[2001:db8::7]:2197?pref=10" )         any of the schemes; IPv6 in brackets

Lower `pref` is preferred; equal ones are spread over evenly; without `pref` all routes are one pool
that is spread over them. Old names and ports become the new ones, with a warning; other parameters
of Momentum's (`ttl`, `type`) are accepted and mean nothing here: names are resolved before each
connect. Pure.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlsplit

from momentum_push.delivery.apns.options import Proxy, bracketed
from momentum_push.errors import Place, Problem

__all__ = ["DEFAULT_PORT", "Fault", "Route", "environment_of", "parse_routes", "read_host"]

DEFAULT_PORT = 443
SCHEMES = frozenset(("apn", "http", "https"))
PARAMETERS = frozenset(("port", "pref", "verify_name", "ttl", "type"))

PRODUCTION, SANDBOX = "api.push.apple.com", "api.sandbox.push.apple.com"
OLD_HOSTS = {"gateway.push.apple.com": PRODUCTION, "gateway.sandbox.push.apple.com": SANDBOX}
APPLE = frozenset((*OLD_HOSTS.values(), "api.development.push.apple.com"))
OLD_PORTS = frozenset((2195, 2196))
"""The binary service's; at Apple they serve channel management today."""

APPLE_SUFFIX = ".push.apple.com"

_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")
_EXAMPLE = 'write "apn://api.push.apple.com"'


@dataclass(frozen=True, slots=True)
class Route:
    """One place to connect to."""

    host: str
    """Name or IP address, lower-case, no brackets."""
    port: int = DEFAULT_PORT
    pref: int = 0
    verify_name: str = ""
    """The name that the server must prove instead of `host`."""
    proxy: Proxy | None = None
    """Who connects us (option `proxy`): its name is looked up, and it is given `host` as it is."""

    @property
    def first_hop(self) -> Proxy | Route:
        """Where our own socket goes."""
        return self.proxy or self

    def __str__(self) -> str:
        return f"{bracketed(self.host)}:{self.port}"


def environment_of(host: str) -> str:
    """Return which of Apple's environments a host serves, production or development; "": it is not Apple's.

    Source: apns.md 1.1; the hosts of broadcasts carry the same words.
    """
    if not host.endswith(APPLE_SUFFIX):
        return ""
    labels = host.split(".")
    return "development" if "sandbox" in labels or "development" in labels else "production"


def parse_routes(routes: Sequence[str], place: Place) -> tuple[list[Route], list[Problem]]:
    """Read the value of `routes`.

    Args:
        routes: the items as written.
        place: where they stand, for the problems.

    Returns:
        The routes, most preferred first, and errors and warnings.
    """
    found: list[Route] = []
    problems: list[Problem] = []
    for text in routes:
        try:
            route, warnings = _parse(text.strip())
        except Fault as fault:
            problems.append(Problem(place, f'route "{text}": {fault.what}', fault.fix))
            continue
        problems += [
            Problem(place, f'route "{text}": {what}', fix, is_warning=True) for what, fix in warnings
        ]
        if route not in found:
            found.append(route)
    if not routes:
        problems.append(
            Problem(place, "there are no routes to Apple", f'add routes = ( "apn://{PRODUCTION}" )')
        )
    return sorted(found, key=lambda route: route.pref), problems


class Fault(Exception):
    """What is wrong with a text, and how to mend it."""

    def __init__(self, what: str, fix: str) -> None:
        super().__init__(what)
        self.what, self.fix = what, fix


def _parse(text: str) -> tuple[Route, list[tuple[str, str]]]:
    if text.lower() == "__mx__":
        raise Fault("mail routing does not lead to Apple", _EXAMPLE)
    if not text or any(char.isspace() for char in text):
        raise Fault("this is no route", _EXAMPLE)
    try:
        url = urlsplit(text if "://" in text else f"apn://{_with_brackets(text)}")
    except ValueError:
        raise Fault("the host cannot be read", "write host:port, and IPv6 addresses in brackets") from None
    if url.scheme not in SCHEMES:
        raise Fault(f'unknown scheme "{url.scheme}"', "use apn://")
    if url.path not in ("", "/") or url.fragment or "@" in url.netloc:
        raise Fault("only a host, a port and parameters are wanted", _EXAMPLE)
    parameters = _parameters(url.query)
    host = read_host(url.netloc)
    port = _port(url.netloc, parameters)
    pref = _number("pref", parameters.get("pref", "0"), 0, 1_000_000)
    verify_name = parameters.get("verify_name", "").lower().rstrip(".")
    if verify_name:
        _check_name(verify_name)
    host, port, warnings = _modernise(host, port)
    return Route(host, port, pref, verify_name), warnings


def _with_brackets(text: str) -> str:
    """Put brackets around a bare IPv6 address."""
    host, mark, rest = text.partition("?")
    try:
        is_v6 = ipaddress.ip_address(host).version == 6
    except ValueError:
        is_v6 = False
    return f"[{host}]{mark}{rest}" if is_v6 else text


def _parameters(query: str) -> dict[str, str]:
    parameters: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in PARAMETERS:
            raise Fault(f'unknown parameter "{name}"', f"use {', '.join(sorted(PARAMETERS))}")
        if name in parameters:
            raise Fault(f'parameter "{name}" stands twice', "remove one")
        parameters[name] = value
    return parameters


_NETLOC = re.compile(r"(?:\[(?P<v6>[^\]]*)\]|(?P<host>[^:\[\]]*))(?::(?P<port>.*))?")


def read_host(netloc: str) -> str:
    """Return the host of `host:port`, lower-case, without brackets; Fault when there is none."""
    match = _NETLOC.fullmatch(netloc)
    if match is None:
        raise Fault("the host cannot be read", "write host:port, and IPv6 addresses in brackets")
    if match["v6"] is not None:
        try:
            return str(ipaddress.IPv6Address(match["v6"]))
        except ValueError:
            raise Fault(f'"{match["v6"]}" is no IPv6 address', "check it") from None
    host = match["host"].lower().rstrip(".")
    _check_name(host)
    return host


def _check_name(host: str) -> None:
    if not host:
        raise Fault("there is no host", _EXAMPLE)
    if len(host) > 253 or not all(_LABEL.fullmatch(label) for label in host.split(".")):
        raise Fault(f'"{host}" is no host name', _EXAMPLE)
    if re.fullmatch(r"[0-9.]+", host):
        try:
            ipaddress.IPv4Address(host)
        except ValueError:
            raise Fault(f'"{host}" is no IPv4 address', "check it") from None


def _port(netloc: str, parameters: dict[str, str]) -> int:
    match = _NETLOC.fullmatch(netloc)
    behind_host = match["port"] if match is not None else None
    if behind_host is not None and "port" in parameters and behind_host != parameters["port"]:
        raise Fault("two different ports", "keep one")
    text = behind_host if behind_host is not None else parameters.get("port", str(DEFAULT_PORT))
    return _number("port", text, 1, 65535)


def _number(name: str, text: str, low: int, high: int) -> int:
    if not (text.isascii() and text.isdigit()) or len(text) > 9 or not low <= int(text) <= high:
        raise Fault(f'{name} "{text}" is no number from {low} to {high}', "check it")
    return int(text)


def _modernise(host: str, port: int) -> tuple[str, int, list[tuple[str, str]]]:
    """Follow Apple's move of 2021-03-31 (apns.md 1.1); ports of other hosts, a relay's, are its own."""
    warnings = []
    if (new := OLD_HOSTS.get(host)) is not None:
        warnings.append((f"the binary service has ended; {new} is used", f'write "apn://{new}"'))
        host = new
    if host in APPLE and port in OLD_PORTS:
        warnings.append((f"port {port} belonged to the binary service; 443 is used", "remove the port"))
        port = DEFAULT_PORT
    return host, port, warnings
