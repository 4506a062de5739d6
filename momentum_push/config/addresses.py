"""How listeners, peers and networks are written (momentum.md 3.1); pure arithmetic on texts."""

import ipaddress
import re
from dataclasses import dataclass

__all__ = ["Address", "Network", "is_loopback", "network", "parse_listen", "plain_ip"]

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
IP = ipaddress.IPv4Address | ipaddress.IPv6Address

_TCP = re.compile(r"(?:\[(?P<six>[^\]]*)\]|(?P<host>[^:\[\]/\s]*)):(?P<port>[0-9]{1,5})")
LOOPBACK = ipaddress.ip_address("127.0.0.1")


@dataclass(frozen=True, slots=True)
class Address:
    """Where a door opens: host and port, or the path of a Unix socket; host "" is every interface."""

    host: str
    port: int | None
    unix: str | None


def parse_listen(text: str) -> Address | None:
    """Read ":25", "*:25", "127.0.0.1:25", "[::1]:25", "[*]:25" or "/path"; None when it is none of these."""
    if text.startswith("/"):
        return Address("", None, text)
    match = _TCP.fullmatch(text)
    if not match or int(match["port"]) > 65535:
        return None
    if match["six"] is not None:
        return _ipv6(match["six"], int(match["port"]))
    return Address("" if match["host"] == "*" else match["host"], int(match["port"]), None)


def _ipv6(host: str, port: int) -> Address | None:
    if host == "*":
        return Address("::", port, None)
    try:
        ipaddress.IPv6Address(host)
    except ValueError:
        return None
    return Address(host, port, None)


def network(text: str) -> Network | None:
    """The network written as CIDR or as a single address; bits beyond the mask are dropped."""
    try:
        return ipaddress.ip_network(text.strip("[]"), strict=False)
    except ValueError:
        return None


def plain_ip(text: str | None) -> IP:
    """A client's address; none (a Unix socket) counts as loopback, one mapped into IPv6 as IPv4."""
    if text is None:
        return LOOPBACK
    ip = ipaddress.ip_address(text.partition("%")[0])
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    return mapped or ip


def is_loopback(address: Address) -> bool:
    """Whether only this machine can reach `address`."""
    if address.unix or address.host == "localhost":
        return True
    try:
        return ipaddress.ip_address(address.host).is_loopback
    except ValueError:
        return False
