"""Listening sockets, and the TLS that servers speak on them; for SMTP and HTTP alike.

Lives here: from a `listen` stanza to bound sockets, from `tls_…` options to an `ssl.SSLContext`. Not here:
who accepts on them, and APNs' side of TLS.

    listen ":25", "*:25"       all IPv4 addresses        (momentum.md 3.1)
    listen "[*]:25"            all IPv6 addresses
    listen "127.0.0.1:25"      one address; a name gives all of its addresses
    listen "/run/push.sock"    a Unix socket, mode `file_mode`

Decisions. IPv6 sockets take IPv6 alone, so that a file may hold both wildcards, and so that a client's
address has one spelling for `peer` and `relay_hosts`. A Unix socket left over by a dead process is
replaced, one that answers is not. TLS below 1.2 is never spoken, whatever `tls_protocols` says.
`tls_verify_mode` unset asks for a client certificate where `tls_client_ca` says by whom it must be
signed; a client without one is served.
"""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import stat
import sys
from collections.abc import Iterable, Iterator
from typing import Any, Protocol

from momentum_push.errors import ConfigError, Place, Problem

__all__ = [
    "UNIX_OPTIONS",
    "Borrowed",
    "close_sockets",
    "load_certificate",
    "open_sockets",
    "server_tls",
    "unlink_sockets",
    "validate_tls",
]

UNIX_OPTIONS: dict[str, Any] = {"cleanup_socket": False} if sys.version_info >= (3, 13) else {}
"""For `create_unix_server`: the path is removed by `unlink_sockets`, not whenever a server on it closes."""

_PROBE_S = 1.0
_NOWHERE = Place("configuration")


class View(Protocol):
    """What is asked of a configuration scope."""

    def __getitem__(self, option: str) -> Any: ...
    def origin(self, option: str) -> Place | None: ...


class Listen(Protocol):
    """What is asked of a `listen` stanza."""

    @property
    def address(self) -> str: ...
    @property
    def host(self) -> str: ...
    @property
    def port(self) -> int | None: ...
    @property
    def unix(self) -> str | None: ...
    @property
    def place(self) -> Place: ...

    def inbound(self, ip: str | None) -> Any: ...


class Borrowed(socket.socket):
    """A listening socket of another process: its path is not ours to remove."""


def open_sockets(listen: Listen) -> list[socket.socket]:
    """Bind and listen where a `listen` stanza says; port 0 lets the system choose.

    Raises:
        ConfigError: an address cannot be used; what was opened before is closed again.
    """
    opened: list[socket.socket] = []
    try:
        for bind in _binders(listen):
            opened.append(bind())
            opened[-1].listen(listen.inbound(None)["listen_backlog"])
            opened[-1].setblocking(False)
    except OSError as error:
        close_sockets(opened)
        what = f'cannot listen on "{listen.address}" ({error.strerror or error})'
        raise ConfigError([Problem(listen.place, what, _advice(error))]) from error
    return opened


def unlink_sockets(sockets: Iterable[socket.socket]) -> None:
    """Remove the paths of Unix sockets, before whoever owns the sockets closes them."""
    for listening in sockets:
        if isinstance(listening, Borrowed):
            continue
        if listening.family == socket.AF_UNIX and listening.fileno() >= 0:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(listening.getsockname())


def close_sockets(sockets: Iterable[socket.socket]) -> None:
    """Close listening sockets that nobody serves; the path of a Unix socket goes with it."""
    sockets = list(sockets)
    unlink_sockets(sockets)
    for listening in sockets:
        listening.close()


def _advice(error: OSError) -> str:
    if isinstance(error, PermissionError):
        return "ports below 1024 need CAP_NET_BIND_SERVICE, a path needs a writable folder"
    return "look whether another program listens there, and whether the address is this host's"


def _binders(listen: Listen) -> Iterator[Any]:
    """Yield one function per socket, so that errors of each are met in one place."""
    if listen.unix is not None:
        path, mode = listen.unix, listen.inbound(None)["file_mode"]
        yield lambda: _bind_unix(path, mode)
        return
    for family, address in _addresses(listen):
        yield lambda family=family, address=address: _bind_tcp(family, address)


def _addresses(listen: Listen) -> list[tuple[socket.AddressFamily, Any]]:
    host, port = listen.host.strip("[]"), listen.port or 0
    if host in ("", "*"):
        if listen.address.lstrip().startswith("["):
            return [(socket.AF_INET6, ("::", port))]
        return [(socket.AF_INET, ("0.0.0.0", port))]
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return list(dict.fromkeys((family, address) for family, _, _, _, address in found))


def _bind_tcp(family: socket.AddressFamily, address: Any) -> socket.socket:
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Sockets that are accepted inherit it: a client whose network died is noticed in the end.
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listening.bind(address)
    except OSError:
        listening.close()
        raise
    return listening


def _bind_unix(path: str, mode: int) -> socket.socket:
    _remove_leftover(path)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listening.bind(path)
        os.chmod(path, mode)  # before listen(): until then nobody can connect
    except OSError:
        listening.close()
        raise
    return listening


def _remove_leftover(path: str) -> None:
    """Remove the socket of a process that is gone; leave files and live sockets alone: bind will say so."""
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            return
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_PROBE_S)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
        except OSError:  # alive and busy, or not ours to ask
            return


def server_tls(scope: View) -> ssl.SSLContext | None:
    """Build the server's TLS from `tls_…`; None without `tls_certificate`.

    Raises:
        ConfigError: files or values that cannot be used, with the place of the option.
    """
    if not scope["tls_certificate"]:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    load_certificate(context, scope)
    _set_protocols(context, scope)
    _set_ciphers(context, scope)
    _set_verification(context, scope)
    return context


def validate_tls(scope: View) -> list[Problem]:
    """Say what is wrong with the `tls_…` options of an inbound scope."""
    try:
        context = server_tls(scope)
    except ConfigError as error:
        return error.problems
    if context is None and scope["use_ssl"]:
        return [
            _problem(scope, "use_ssl", "use_ssl without tls_certificate", "name the server's certificate")
        ]
    if scope["tlsv13_ciphersuites"]:
        what = "tlsv13_ciphersuites is not obeyed; OpenSSL's own choice is used"
        return [_problem(scope, "tlsv13_ciphersuites", what, "take it out", is_warning=True)]
    return []


def _problem(scope: View, option: str, what: str, fix: str, is_warning: bool = False) -> Problem:
    return Problem(scope.origin(option) or _NOWHERE, what, fix, is_warning)


def _fail(scope: View, option: str, what: str, fix: str) -> ConfigError:
    return ConfigError([_problem(scope, option, what, fix)])


def _refuse_open_key(scope: View) -> None:
    """interfaces.md 2, Secrets: a key that others can read is an error."""
    option = "tls_key" if scope["tls_key"] else "tls_certificate"  # which then holds the key as well
    path = scope[option]
    try:
        is_open = os.stat(path).st_mode & stat.S_IROTH
    except OSError as error:
        what = f'{option} "{path}" cannot be read ({error.strerror})'
        raise _fail(scope, option, what, "make it readable for the daemon") from error
    if is_open:
        raise _fail(scope, option, f'{option} "{path}" can be read by everybody', "chmod o-r the key")


def load_certificate(context: ssl.SSLContext, scope: View) -> None:
    """Give a context the certificate and key of a scope; it may be in use: new handshakes see the new one.

    Raises:
        ConfigError: they cannot be used; the context keeps what it has.
    """
    _refuse_open_key(scope)
    certificate, key = scope["tls_certificate"], scope["tls_key"] or None
    try:
        # The password callback: OpenSSL would ask on the terminal for an encrypted key's.
        context.load_cert_chain(certificate, key, password=lambda: b"")
    except (ssl.SSLError, ValueError) as error:
        what = f'tls_certificate "{certificate}" and its key cannot be used ({_reason(error)})'
        fix = "certificate chain and key must be PEM, belong together, and the key have no passphrase"
        raise _fail(scope, "tls_certificate", what, fix) from error
    except OSError as error:
        what = f'tls_certificate "{certificate}" or its key cannot be read ({error.strerror})'
        raise _fail(scope, "tls_certificate", what, "make them readable for the daemon") from error


def _reason(error: Exception) -> str:
    return str(getattr(error, "reason", None) or error).lower().replace("_", " ")


def _set_protocols(context: ssl.SSLContext, scope: View) -> None:
    """Obey words such as `+ALL:-TLSv1.3` or `+TLSv1.2`, as far as a modern TLS goes."""
    wanted: set[str] = set()
    for word in scope["tls_protocols"].replace(":", " ").replace(",", " ").split():
        name = word.lstrip("+-").lower()
        named = {"tlsv1.2", "tlsv1.3"} if name == "all" else {name} & {"tlsv1.2", "tlsv1.3"}
        wanted = wanted - named if word.startswith("-") else wanted | named
    if not wanted:
        what = f'tls_protocols "{scope["tls_protocols"]}" leaves no protocol'
        raise _fail(scope, "tls_protocols", what, "use +TLSv1.2, +TLSv1.3 or +ALL")
    if "tlsv1.2" not in wanted:
        context.minimum_version = ssl.TLSVersion.TLSv1_3
    if "tlsv1.3" not in wanted:
        context.maximum_version = ssl.TLSVersion.TLSv1_2


def _set_ciphers(context: ssl.SSLContext, scope: View) -> None:
    ciphers = scope["tls_ciphers"]
    if not ciphers or ciphers == "DEFAULT":  # Python's own choice is narrower than OpenSSL's
        return
    try:
        context.set_ciphers(ciphers)
    except ssl.SSLError as error:
        what = f'tls_ciphers "{ciphers}" names no cipher that OpenSSL knows'
        raise _fail(scope, "tls_ciphers", what, 'see "openssl ciphers"') from error


def _set_verification(context: ssl.SSLContext, scope: View) -> None:
    authority, mode = scope["tls_client_ca"], scope["tls_verify_mode"]
    if mode == "none":
        return
    if not authority:
        if mode == "require":
            what = "tls_verify_mode = require without tls_client_ca"
            raise _fail(scope, "tls_verify_mode", what, "say whose certificates are good")
        return
    try:
        context.load_verify_locations(authority)
    except (ssl.SSLError, OSError) as error:
        what = f'tls_client_ca "{authority}" cannot be used ({_reason(error)})'
        raise _fail(scope, "tls_client_ca", what, "it must be a readable PEM file") from error
    context.verify_mode = ssl.CERT_REQUIRED if mode == "require" else ssl.CERT_OPTIONAL
