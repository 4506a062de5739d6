"""`momentum-push demo`: the whole way on one machine, in a temporary folder, with an APNs simulator.

    SMTP client ─┐                                        ┌─► 200
                 ├─► daemon: disk, queue, HTTP/2 ─► simulator ─► 503, then 200
    HTTP client ─┘                    │                   └─► 410
                                      └─► apnlog.ec

One device is gone (410) and one answer is a 503 at first, so that each kind of record shows. Done
when the simulator's ledger has every notification that a living device should get.
"""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import uvloop

from momentum_push.cli.senders import HttpSender, Push, Sender, Server, SmtpSender, send_all
from momentum_push.config import loads
from momentum_push.daemon import Daemon
from momentum_push.loggers import diagnostics
from momentum_push.message import short_token
from momentum_push.simulator import Action, Device, Faults, Match, Rule, Simulator, State, make_provider_key

__all__ = ["command"]

DOMAIN = "com.example.news.apns"
TEAM = "DEMOTEAM01"
DEADLINE_S = 60.0
POLL_S = 0.05
SHOWN = 4

CONF = """\
# What this demo runs on; conf/ has examples for real use.
spoolbase = "{folder}/spool"
retry_interval = 1

esmtp_listener {{ listen "127.0.0.1:0" {{ mcmt_reception = "allow"  open_relay = true }} }}
http_listener  {{ listen "127.0.0.1:0" {{ }} }}

ec_logger "ec"    {{ mainlog = "{folder}/mainlog.ec"  rejectlog = "{folder}/rejectlog.ec"
                    paniclog = "{folder}/paniclog.ec"  acctlog = "{folder}/acctlog.ec" }}
apn_logger "apn1" {{ logfile = "{folder}/apnlog.ec" }}

domain "{domain}" {{
  delivery_method = "apn"
  routes          = ( "apn://localhost?port={port}" )
  tls_ca          = "{ca}"
  apn_auth_key    = "{key}"
  apn_key_id      = "{key_id}"
  apn_team_id     = "{team}"
  apn_topic       = "com.example.news"
}}
"""


def _tokens(name: str, count: int) -> list[str]:
    return [hashlib.sha256(f"{name} {number}".encode()).hexdigest() for number in range(count)]


@dataclass(frozen=True, slots=True)
class Plan:
    """Who gets a notification, by which way in."""

    smtp: list[str]
    http: list[str]

    @property
    def gone(self) -> str:
        """A device whose app was removed: 410."""
        return self.smtp[-1]

    @property
    def slow(self) -> str:
        """A device for which Apple is busy at first: 503."""
        return self.http[0]

    @property
    def living(self) -> set[str]:
        return {*self.smtp, *self.http} - {self.gone}

    def faults(self) -> Faults:
        """What the simulator does to two of them."""
        busy = Action(status=503, reason="ServiceUnavailable")
        return Faults(
            rules=(Rule("busy at first", Match(token=self.slow, times=1), busy),),
            devices=(Device(self.gone, state=State.DEAD, since=1_767_600_000.0),),
        )


@click.command(
    "demo", short_help="See it work, with an APNs simulator.", epilog="Example: momentum-push demo"
)
@click.option("--count", default=1000, show_default=True, type=click.IntRange(1, 100_000), help="Over HTTP.")
def command(count: int) -> None:
    """Run simulator and daemon in a temporary folder, push through SMTP and HTTP, show what arrived.

    Exits 0 when every notification arrived at the simulator.
    """
    diagnostics.configure(level="error")
    plan = Plan(_tokens("smtp", 25), _tokens("http", count))
    with (
        tempfile.TemporaryDirectory(prefix="momentum-push-demo-") as folder,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        missing = runner.run(_run(Path(folder), plan))
    if missing:
        click.echo(f"demo: {missing} notifications did not arrive within {DEADLINE_S:g} s", err=True)
        raise SystemExit(1)


async def _run(folder: Path, plan: Plan) -> int:
    """Play the demo; return how many notifications are missing at its end."""
    simulator = Simulator("127.0.0.1:0", folder / "apns", faults=plan.faults())
    await simulator.start()
    key = folder / "AuthKey.p8"
    key_id = make_provider_key(key)
    conf = CONF.format(
        folder=folder,
        domain=DOMAIN,
        port=simulator.port,
        ca=simulator.ca_path,
        key=key,
        key_id=key_id,
        team=TEAM,
    )
    daemon = Daemon(loads(conf, str(folder / "ecelerity.conf")))
    await daemon.start()
    smtp, http = daemon.doors.smtp_ports[0], daemon.doors.http_ports[0]
    click.echo(f"APNs simulator on port {simulator.port}; daemon: SMTP on port {smtp}, HTTP on port {http}\n")
    try:
        push = Push(DOMAIN, b'{"aps":{"alert":"Ferry cancelled","badge":1}}', mailfrom="push@example.net")
        await _inject("SMTP", SmtpSender(Server("127.0.0.1", smtp), push), plan.smtp)
        path = Server("127.0.0.1", http, "/v1/notifications")
        await _inject("HTTP", HttpSender(path, push), plan.http)
        await _wait(lambda: not plan.living - simulator.accepted.keys() and not daemon.snapshot().active)
    finally:
        await daemon.stop()
        await simulator.stop()
    _show(folder, simulator, plan)
    return len(plan.living - simulator.accepted.keys())


async def _inject(way: str, sender: Sender, tokens: Sequence[str]) -> None:
    """Push to `tokens` as any client would, in a thread of its own."""
    loop = asyncio.get_running_loop()
    started = loop.time()
    sent = await asyncio.to_thread(send_all, sender, tokens, lambda seconds: True)
    await asyncio.to_thread(sender.close)
    milliseconds = (loop.time() - started) * 1000
    fault = f"; {sent.fault}" if sent.fault else ""
    click.echo(f"{way}: {sent.accepted} accepted and on disk after {milliseconds:.0f} ms{fault}")


async def _wait(is_done: Callable[[], bool]) -> None:
    loop = asyncio.get_running_loop()
    ends = loop.time() + DEADLINE_S
    while not is_done() and loop.time() < ends:
        await asyncio.sleep(POLL_S)


def _show(folder: Path, simulator: Simulator, plan: Plan) -> None:
    arrived = plan.living & simulator.accepted.keys()
    click.echo(f"\nAPNs accepted {len(arrived)} of {len(plan.living)} for living devices, for example:")
    for entry in simulator.requests[-SHOWN:]:
        click.echo(f"  {entry.status} {short_token(entry.token)} topic {entry.topic} apns-id {entry.apns_id}")
    lines = (folder / "apnlog.ec").read_text().splitlines()
    click.echo(f"\napn_logger wrote {len(lines)} records:")
    for letter, meaning in (("D", "delivered"), ("T", "to be tried again"), ("P", "failed for good")):
        records = [line for line in lines if line.split("@")[1] == letter]
        click.echo(f"  {len(records)} {meaning}")
        for line in records[: SHOWN // 2]:
            click.echo(f"    {_shortened(line, plan)}")


def _shortened(line: str, plan: Plan) -> str:
    """Show a record as it is written, but for the tokens that stand in it as recipients."""
    for token in plan.smtp:
        line = line.replace(token, short_token(token))
    return line
