"""An APNs for tests: a running simulator, and keys and certificates to meet it with.

async with running_simulator(tmp_path) as simulator:
    key = provider_key(tmp_path)
    …  connect to ("localhost", simulator.port), trusting simulator.ca_path
    await until(lambda: simulator.accepted.total() == 3)
"""

import asyncio
import contextlib
import ssl
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jwt

from momentum_push.simulator import (
    Faults,
    Simulator,
    make_provider_certificate,
    make_provider_key,
    make_server_certificate,
)

TEAM = "TEAM123456"


@dataclass(frozen=True, slots=True)
class Key:
    """A provider key as an operator has it."""

    path: Path
    key_id: str
    team_id: str = TEAM

    def bearer(self, issued_at: float | None = None, **header: str) -> str:
        """Return an `authorization` value; `header` overrides JWT header fields."""
        claims = {"iss": self.team_id, "iat": int(time.time() if issued_at is None else issued_at)}
        fields = {"kid": self.key_id, **header}
        return "bearer " + jwt.encode(claims, self.path.read_text(), algorithm="ES256", headers=fields)


@contextlib.asynccontextmanager
async def running_simulator(
    folder: Path, faults: Faults | None = None, **options: Any
) -> AsyncIterator[Simulator]:
    """Run a simulator on a free port; certificates in `folder`/apns, `options` as `Simulator` has them."""
    listen = options.pop("listen", "127.0.0.1:0")
    simulator = Simulator(listen, folder / "apns", faults=faults, **options)
    await simulator.start()
    try:
        yield simulator
    finally:
        await simulator.stop()


def provider_key(folder: Path, name: str = "AuthKey", team_id: str = TEAM) -> Key:
    """Make a `.p8` in `folder`."""
    path = folder / f"{name}.p8"
    return Key(path, make_provider_key(path), team_id)


def provider_certificate(
    folder: Path, *topics: str, environment: str = "both", name: str = "provider"
) -> tuple[Path, Path]:
    """Make a client certificate that `running_simulator(folder)` trusts; return its path and its key's."""
    return make_provider_certificate(folder / "apns", topics or ("com.example.news",), environment, name)


def client_context(folder: Path, certificate: tuple[Path, Path] | None = None) -> ssl.SSLContext:
    """Return the client's side of TLS for the simulator of `running_simulator(folder)`."""
    context = ssl.create_default_context(cafile=str(make_server_certificate(folder / "apns").ca))
    context.set_alpn_protocols(["h2"])
    if certificate is not None:
        context.load_cert_chain(*certificate)
    return context


async def until(condition: Callable[[], object], deadline_s: float = 5.0) -> None:
    """Wait until `condition()` holds; AssertionError after `deadline_s`."""
    end = time.monotonic() + deadline_s
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"still waiting after {deadline_s} s")
        await asyncio.sleep(0.005)
