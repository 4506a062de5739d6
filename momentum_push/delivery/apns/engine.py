"""h2's client side, dressed for the wire.

Lives here: what is changed about h2 so that it can be driven in batches, and nothing else. Together
with `frames` this is what goes when the wire gets an engine of its own.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.settings import SettingCodes, Settings
from hpack import Encoder

__all__ = ["Engine", "make_engine"]


class Engine(H2Connection):
    """h2 without its walk over all streams at each request; the wire counts for itself."""

    @property
    def open_outbound_streams(self) -> int:
        return 0

    def tidy(self) -> None:
        """Forget streams that have ended."""
        self._open_streams(1)


class _PlainEncoder(Encoder):
    """HPACK without Huffman coding: some more bytes that no window counts, for a tenth less work."""

    def encode(self, headers: Iterable[Any], huffman: bool = False) -> bytes:
        return super().encode(headers, huffman)


def make_engine() -> Engine:
    """Make h2's client side.

    Its checks of single fields are off: what we send is made by `request` alone, and of what comes we
    read two fields and believe neither.
    """
    config = H2Configuration(
        client_side=True,
        header_encoding=None,
        validate_outbound_headers=False,
        normalize_outbound_headers=False,
        validate_inbound_headers=False,
        normalize_inbound_headers=False,
    )
    engine = Engine(config)
    engine.encoder = _PlainEncoder()
    engine.local_settings = Settings(
        client=True,
        initial_values={SettingCodes.ENABLE_PUSH: 0, SettingCodes.MAX_HEADER_LIST_SIZE: 65536},
    )
    return engine
