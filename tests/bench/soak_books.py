"""The books of a soak: records against ledgers, by `apns-id`, and the laws that they must keep."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

__all__ = ["FORMATS", "Books"]

FORMATS = """
apn_logger "soak" {{ logfile = "{folder}/soak.ec"
  log_delivery_format = "D@%i@%ti@%H@%{{http_status}}"
  log_tempfail_format = "T@%i@%ti@%H@%{{http_status}}"
  log_permfail_format = "P@%i@%ti@%H@%{{http_status}}@%e"
  log_heartbeat_format = "M"
}}
"""
"""The log that `Books` reads, as conf; `{folder}` is where."""


class Line(msgspec.Struct):
    """What is read of a ledger's line."""

    apns_id: str
    processed: bool
    fault: str
    reason: str


@dataclass
class Books:
    """Records and ledgers, by `apns-id`."""

    finals: Counter[str] = field(default_factory=Counter)
    delivered: set[str] = field(default_factory=set)
    unknown: Counter[str] = field(default_factory=Counter)
    processed: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    retried: int = 0

    def read_records(self, path: Path) -> None:
        with path.open() as lines:
            for line in lines:
                kind, *rest = line.rstrip("\n").split("@")
                if kind not in ("D", "T", "P"):
                    continue
                apns_id, remote, status = rest[1].lower(), rest[2], rest[3]
                self.unknown[apns_id] += bool(remote) and status == "0"
                self.retried += kind == "T"
                if kind != "T":
                    self.finals[apns_id] += 1
                if kind == "D":
                    self.delivered.add(apns_id)

    def read_ledger(self, path: Path) -> None:
        decode = msgspec.json.Decoder(Line).decode
        with path.open("rb") as lines:
            for raw in lines:
                line = decode(raw)
                self.faults[line.fault or line.reason or "accepted"] += 1
                if line.processed:
                    self.processed[line.apns_id.lower()] += 1

    def breaches(self, accepted: int, known: set[str]) -> Iterator[str]:
        """Say which laws the books break."""
        if self.finals.total() != accepted:
            yield f"{accepted} messages were accepted, {self.finals.total()} have a final record"
        twice = sum(count > 1 for count in self.finals.values())
        if twice:
            yield f"{twice} messages have more than one final record"
        if lost := len(known - self.finals.keys()):
            yield f"{lost} messages that were acknowledged over HTTP have no final record"
        if lies := sum(not self.processed[each] for each in self.delivered):
            yield f"{lies} messages are recorded as delivered and were never accepted by the peer"
        silent = [each for each in self.processed if each not in self.delivered and not self.unknown[each]]
        if silent:
            yield f"{len(silent)} messages were accepted by the peer, which no record says or calls unknown"
        copies = [each for each, count in self.processed.items() if count > 1 + self.unknown[each]]
        if copies:
            yield f"{len(copies)} messages were sent again though their outcome was known"
