"""The real daemon from a conf text: `momentum-push serve` as a child process, spoken to over sockets.

    with running_daemon(tmp_path, conf) as daemon:
        daemon.smtp_port, daemon.http_port
        daemon.records()                     parsed lines of the apn_logger
        daemon.kill()                        SIGKILL; run it again with the same folder

Whatever a test does, the daemon's diagnostics must not hold a whole device token: `stop` checks it.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["DOMAIN", "DaemonProcess", "Record", "conf_for", "parse_record", "running_daemon", "until"]

DOMAIN = "com.example.news.apns"
START_S = 30.0
WAIT_S = 30.0

_WHOLE_TOKEN = re.compile(r"[0-9a-fA-F]{64}")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"|((?:[^@\\]|\\.)*)')

CONF = """
spoolbase = "{folder}/spool"
retry_interval = 1
drain_timeout = 5
{extra_global}

esmtp_listener {{
  listen "127.0.0.1:0" {{ mcmt_reception = "allow"  relay_hosts = ( "127.0.0.0/8" ) {smtp} }}
}}
http_listener  {{ listen "127.0.0.1:0" {{ {http} }} }}

apn {{ }}
apn_logger "apn1" {{ logfile = "{folder}/apnlog.ec" }}
ec_logger "ec" {{
  mainlog = "{folder}/mainlog.ec"  rejectlog = "{folder}/rejectlog.ec"
  paniclog = "{folder}/paniclog.ec"  acctlog = "{folder}/acctlog.ec"
}}
{extra}
domain "{domain}" {{
  delivery_method = "apn"
  routes          = ( "apn://{host}?port={port}" )
  apn_topic       = "com.example.news"
  {credential}
  {options}
}}
"""


def conf_for(
    folder: Path,
    port: int,
    credential: str,
    *,
    host: str = "localhost",
    options: str = "",
    extra: str = "",
    extra_global: str = "",
    smtp: str = "",
    http: str = "",
) -> str:
    """Return a conf text for one app whose notifications go to `host`:`port`."""
    return CONF.format(
        folder=folder,
        port=port,
        host=host,
        credential=credential,
        options=options,
        extra=extra,
        extra_global=extra_global,
        smtp=smtp,
        http=http,
        domain=DOMAIN,
    )


@dataclass(frozen=True, slots=True)
class Record:
    """One line of the apn_logger in its default formats; fields that its kind does not have are empty."""

    kind: str
    mid: str
    source: str = ""
    dest: str = ""
    domain: str = ""
    group: str = ""
    binding: str = ""
    remote: str = ""
    size: str = ""
    apns_id: str = ""
    status: str = ""
    reason: str = ""


_FIELDS = {
    "D": ("size", "apns_id"),
    "T": ("size", "apns_id", "status", "reason"),
    "P": ("status", "reason"),
}


def parse_record(line: str) -> Record:
    """Read a line back as an operator's parser would, honouring quotes and backslashes (interfaces.md 5)."""
    fields = split_fields(line)
    kind = fields[1]
    if kind == "M":
        return Record("M", "")
    names = ("source", "dest", "domain", "group", "binding", "remote", *_FIELDS[kind])
    return Record(kind, fields[2], **dict(zip(names, fields[3:], strict=True)))


def split_fields(line: str) -> list[str]:
    """Split a record at its `@`s."""
    fields: list[str] = []
    position = 0
    while position <= len(line):
        match = _QUOTED.match(line, position)
        assert match is not None, line
        text = match[1] if match[1] is not None else match[2]
        fields.append(re.sub(r"\\(.)", r"\1", text))
        position = match.end() + 1
    return fields


def until(is_true: Callable[[], Any], what: str, deadline_s: float = WAIT_S) -> Any:
    """Wait for a condition; fail with `what` when it does not come true in time."""
    ends = time.monotonic() + deadline_s
    while not (value := is_true()):
        if time.monotonic() > ends:
            raise AssertionError(f"waited {deadline_s:g} s in vain: {what}")
        time.sleep(0.02)
    return value


class DaemonProcess:
    """A running `momentum-push serve`."""

    def __init__(self, folder: Path, conf: str, env: dict[str, str] | None = None) -> None:
        self.folder = folder
        self.conf_path = folder / "ecelerity.conf"
        self.conf_path.write_text(conf)
        self.events: list[dict[str, Any]] = []
        self.stderr = ""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "momentum_push", "serve", "-c", str(self.conf_path)],
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
            env={**os.environ, **(env or {})},
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.stderr += line
            with contextlib.suppress(json.JSONDecodeError):
                self.events.append(json.loads(line))

    # --- what it says

    def event(self, name: str, deadline_s: float = WAIT_S) -> dict[str, Any]:
        """Wait for a diagnostic event and return the first of that name."""

        def find() -> dict[str, Any] | None:
            found = next((event for event in self.events if event.get("event") == name), None)
            if found is None and self.process.poll() is not None:
                self._reader.join(WAIT_S)
                found = next((event for event in self.events if event.get("event") == name), None)
                assert found is not None, f"the daemon ended with {self.process.returncode}:\n{self.stderr}"
            return found

        found: dict[str, Any] = until(find, f"event {name}\n{self.stderr}", deadline_s)
        return found

    @property
    def smtp_port(self) -> int:
        return int(self.event("started", START_S)["smtp"][0].rpartition(":")[2])

    @property
    def http_port(self) -> int:
        return int(self.event("started", START_S)["http"][0].rpartition(":")[2])

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.http_port}{path}"

    def lines(self, name: str = "apnlog.ec") -> list[str]:
        """Return the whole lines of a log."""
        path = self.folder / name
        return path.read_text().split("\n")[:-1] if path.exists() else []

    def records(self, kind: str = "") -> list[Record]:
        """Return the records of the apn_logger, of one kind or all but heartbeats."""
        records = [parse_record(line) for line in self.lines()]
        return [record for record in records if record.kind == kind or (not kind and record.kind != "M")]

    def wait_records(self, kind: str, count: int) -> list[Record]:
        """Wait until there are `count` records of a kind."""
        until(lambda: len(self.records(kind)) >= count, f"{count} {kind} records\n{self.stderr[-3000:]}")
        return self.records(kind)

    def wait_removed(self) -> None:
        """Wait until the spool holds nothing: what has its record is removed a moment later."""
        until(lambda: not self._stored(), "an empty spool")

    def _stored(self) -> int:
        path = self.conf_path.parent / "spool" / "spool.db"
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=5.0)) as database:
            ((count,),) = database.execute("SELECT coalesce(sum(messages), 0) FROM lanes")
        return int(count)

    # --- how it ends

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        """End it as a power cut would, but for the disk's cache."""
        self.process.kill()
        self.process.wait(WAIT_S)
        self._reader.join(WAIT_S)

    def stop(self) -> int:
        """Ask it to stop as systemd does; return its exit status."""
        if self.process.poll() is None:
            self.process.terminate()
        status = self.process.wait(WAIT_S)
        self._reader.join(WAIT_S)
        found = _WHOLE_TOKEN.search(self.stderr)
        assert found is None, (
            f"a device token in the diagnostics: {self.stderr[max(0, found.start() - 300) : found.end()]}"
        )
        return status


@contextlib.contextmanager
def running_daemon(folder: Path, conf: str, env: dict[str, str] | None = None) -> Iterator[DaemonProcess]:
    """Run the daemon, wait until its doors are open, and stop it."""
    daemon = DaemonProcess(folder, conf, env)
    try:
        daemon.event("started", START_S)
        yield daemon
    finally:
        daemon.stop()
