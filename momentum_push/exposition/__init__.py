"""Exposition: the numbers of a running daemon, for people and machines that look in from the side.

Lives here: a picture of all gauges at one moment (`snapshot`), Prometheus text (`prometheus`) and the
JSON of `/stats/…` (`stats`). Nothing here has a socket or asks anybody: the daemon takes the snapshot
and hands it in together with the meters, the HTTP room serves what comes out.
"""

from momentum_push.exposition.prometheus import CONTENT_TYPE, NAMES, render
from momentum_push.exposition.snapshot import QueueStatus, Snapshot
from momentum_push.exposition.stats import Summary, mailq

__all__ = ["CONTENT_TYPE", "NAMES", "QueueStatus", "Snapshot", "Summary", "mailq", "render"]
