"""All gauges of a daemon at one moment, as the daemon fills them in."""

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["QueueStatus", "Snapshot"]


@dataclass(frozen=True, slots=True)
class QueueStatus:
    """One queue; the counts of finished messages are since the daemon's start."""

    binding_group: str
    binding: str
    domain: str
    active: int = 0
    delayed: int = 0
    oldest_age_s: float = 0.0
    """Age of the message that has waited longest; 0 when the queue is empty."""
    connections: Mapping[str, int] = field(default_factory=dict)
    """State of an outbound connection -> how many; states in any case."""
    streams_in_flight: int = 0
    resident: int = 0
    """Messages of it that are in memory."""
    receptions: int = 0
    deliveries: int = 0
    permfails: int = 0
    transfails: int = 0
    limited_by: str = ""
    """"window" or "streams": max_outbound_connections are open, all full, and something waits; else empty."""
    connections_needed: int = 0
    """How many would keep up, where it is limited."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The daemon as a whole."""

    queues: tuple[QueueStatus, ...] = ()
    spool_bytes: int = 0
    spool_free_bytes: int = 0
    spool_free_inodes: int = -1
    """-1: its file system does not count them."""
    spool_is_writable: bool = True
    uptime_s: float = 0.0
    is_ready: bool = False
    is_writable: bool = True
    """Spool and logs take what they are given."""
    inbound_sessions: Mapping[str, int] = field(default_factory=dict)
    """Protocol -> open sessions."""
    resident_bytes: int = 0
    log_bytes_pending: int = 0
    """Records that the disk has not taken yet."""
    loop_lag_peak_s: float = 0.0
    """The event loop's worst lag of the last minute or two."""

    @property
    def active(self) -> int:
        return sum(queue.active for queue in self.queues)

    @property
    def delayed(self) -> int:
        return sum(queue.delayed for queue in self.queues)

    @property
    def resident(self) -> int:
        return sum(queue.resident for queue in self.queues)

    @property
    def outbound_connections(self) -> int:
        """Connections in any state but closed."""
        return sum(
            count
            for queue in self.queues
            for state, count in queue.connections.items()
            if state.lower() != "closed"
        )
