"""`momentum-push inject`: a client that pushes one payload to one token or to a file of them.

Lives here: the command line, reading tokens, threads, the report. How a batch travels is `senders`.

    tokens (streamed) ──► batches ──► bounded queue ──► N threads, one connection each ──► tally ──► report

Nothing is checked before it is sent that the daemon checks: this is the tool one tries the daemon with. A
batch that cannot be handed over stops the run, for the next one would fare no better.
"""

from __future__ import annotations

import csv
import queue
import re
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

import click
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from momentum_push.cli.senders import HttpSender, Push, Rejected, Sender, Sent, Server, SmtpSender, send_all
from momentum_push.message import short_token

__all__ = ["command"]

MAX_SHOWN = 10
"""Rejected tokens that are printed; the rest is counted."""
HTTP_BATCH = 1000
SMTP_BATCH = 100
TURN_S = 0.2
"""How often a thread that waits looks whether the run has ended."""
_WORD = re.compile(r"[!-;=?A-~]+")
TOKEN_COLUMNS = ("device_token", "token")

_EPILOG = """\b
Examples:
  momentum-push inject --http http://127.0.0.1:8081 --domain com.example.news.apns \\
      --tokens tokens.csv --payload '{"aps":{"alert":"Ferry cancelled"}}'
  momentum-push inject --smtp 127.0.0.1:2525 --domain com.example.news.apns \\
      --token 9f8e… --payload @push.json --priority 5
"""


def _host_port(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[str, int] | None:
    """Take HOST:PORT or [IPV6]:PORT; the port may be left out."""
    if value is None:
        return None
    try:
        parts = urlsplit(f"//{value}")
        if parts.hostname and parts.netloc == value and not parts.username:
            return parts.hostname, parts.port or 25
    except ValueError:  # a port that is no number
        pass
    raise click.BadParameter(f'"{value}" is not HOST:PORT')


def _url(ctx: click.Context, param: click.Parameter, value: str | None) -> SplitResult | None:
    """Take a base URL, or the whole one of the native injection."""
    if value is None:
        return None
    try:
        parts = urlsplit(value)
        if (
            parts.scheme in ("http", "https")
            and parts.hostname
            and parts.port != 0
            and _WORD.fullmatch(value)
        ):
            return parts
    except ValueError:
        pass
    raise click.BadParameter(f'"{value}" is not a URL such as http://127.0.0.1:8081')


def _domain(ctx: click.Context, param: click.Parameter, value: str) -> str:
    if not _WORD.fullmatch(value):
        raise click.BadParameter("a domain is printable ASCII without blanks, @, < and >")
    return value


def _read_payload(ctx: click.Context, param: click.Parameter, value: str) -> bytes:
    """Take JSON, or `@FILE` with it; blanks around it are no part of it."""
    if not value.startswith("@"):
        return value.encode("utf-8", "surrogateescape").strip()
    try:
        return Path(value[1:]).read_bytes().strip()
    except OSError as error:
        raise click.BadParameter(f'"{value[1:]}" cannot be read ({error.strerror})') from error


def _one_line(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    if value is not None and set(value) & set("\r\n\0"):
        raise click.BadParameter("a header's value is one line")
    return value


_HEADERS = {
    "topic": "apns-topic; default: the domain's.",
    "push-type": "apns-push-type; default: the domain's, or worked out.",
    "priority": "apns-priority: 10, 5 or 1.",
    "expiration": "apns-expiration, epoch seconds; 0: one attempt.",
    "collapse-id": "apns-collapse-id, up to 64 bytes.",
    "apns-id": "apns-id, a UUID; for a single token.",
    "deliver-at": "When to send, epoch seconds; default: now.",
}


def _header_options(function: Callable[..., None]) -> Callable[..., None]:
    for name, words in reversed(_HEADERS.items()):
        function = click.option(f"--{name}", metavar="VALUE", callback=_one_line, help=words)(function)
    return function


@click.command("inject", epilog=_EPILOG)
@click.option("--smtp", callback=_host_port, metavar="HOST:PORT", help="Inject over SMTP.")
@click.option("--http", "url", callback=_url, metavar="URL", help="Inject over HTTP, POST /v1/notifications.")
@click.option("--domain", required=True, callback=_domain, help="Routing domain, com.example.app.apns.")
@click.option("--token", "tokens", multiple=True, help="A device token; may be repeated.")
@click.option(
    "--tokens",
    "token_file",
    type=click.File("r", encoding="utf-8-sig", errors="replace"),
    help="File with a token per line, or CSV: column device_token, else the first; - for stdin.",
)
@click.option(
    "--payload", required=True, callback=_read_payload, metavar="JSON|@FILE", help="What Apple gets."
)
@_header_options
@click.option("--from", "mailfrom", default="", callback=_one_line, help="MAIL FROM of SMTP.")
@click.option("--user", help="For HTTP Basic or SMTP AUTH; needs --password-file.")
@click.option("--password-file", type=click.File("r"), help="File whose first line is the password.")
@click.option("--starttls", is_flag=True, help="Start TLS in SMTP.")
@click.option(
    "--ca", type=click.Path(exists=True, dir_okay=False), help="Trust these roots (PEM), not the system's."
)
@click.option("--batch", type=click.IntRange(1, 100_000), help="Tokens per request (1000) or mail (100).")
@click.option("--connections", type=click.IntRange(1, 256), default=1, show_default=True)
@click.option("--timeout", type=click.FloatRange(0.1, 3600), default=60.0, show_default=True, help="Seconds.")
def command(**options: Any) -> None:
    """Inject one payload for one token or many, and print how many were accepted, and how fast.

    Exit status: 0 all accepted, 1 not all, 2 wrong usage.
    """
    sender = _choose_sender(options)
    tokens = chain(options["tokens"], _read_tokens(options["token_file"] or ()))
    batch = options["batch"] or (SMTP_BATCH if options["smtp"] else HTTP_BATCH)
    if not options["tokens"] and options["token_file"] is None:
        raise click.UsageError("no tokens; give --token or --tokens")
    run = Run(sender, options["connections"])
    started = time.monotonic()
    with _progress(run):
        run.feed(_batches(tokens, batch))
    _report(run.tally, max(1e-6, time.monotonic() - started))
    if run.tally.rejected or run.tally.fault or not run.tally.accepted:
        sys.exit(1)


# --- What to send, and to whom -------------------------------------------------------------------------


def _choose_sender(options: dict[str, Any]) -> Callable[[], Sender]:
    """Return what makes a connection, by --smtp or --http."""
    if bool(options["smtp"]) == bool(options["url"]):
        raise click.UsageError("say where: either --smtp HOST:PORT or --http URL")
    names = [name for name in _HEADERS if options[name.replace("-", "_")] is not None]
    headers = {name.removeprefix("apns-"): options[name.replace("-", "_")] for name in names}
    push = Push(options["domain"], options["payload"], headers, options["mailfrom"])
    if options["smtp"]:
        host, port = options["smtp"]
        return _smtp(_server(options, host, port, "", options["starttls"]), push)
    return _http(options, push)


def _smtp(server: Server, push: Push) -> Callable[[], Sender]:
    return lambda: SmtpSender(server, push)


def _http(options: dict[str, Any], push: Push) -> Callable[[], Sender]:
    if options["starttls"]:
        raise click.UsageError("--starttls is for SMTP; use an https URL")
    parts = options["url"]
    is_tls = parts.scheme == "https"
    path = "/v1/notifications" if parts.path in ("", "/") else parts.path
    server = _server(options, str(parts.hostname), parts.port or (443 if is_tls else 80), path, is_tls)
    return lambda: HttpSender(server, push)


def _server(options: dict[str, Any], host: str, port: int, path: str, is_tls: bool) -> Server:
    if bool(options["user"]) != bool(options["password_file"]):
        raise click.UsageError("--user and --password-file go together")
    password = options["password_file"].readline().rstrip("\r\n") if options["user"] else ""
    try:
        context = ssl.create_default_context(cafile=options["ca"]) if is_tls else None
    except ssl.SSLError as error:
        raise click.UsageError(f"--ca: {options['ca']} holds no certificate") from error
    return Server(host, port, path, context, options["user"] or "", password, options["timeout"])


def _read_tokens(lines: Iterable[str]) -> Iterator[str]:
    """Yield tokens from lines as they come: one column of CSV, which a token per line is as well."""
    rows = (row for row in csv.reader(line.replace("\0", "") for line in lines) if any(map(str.strip, row)))
    first = next(rows, None)
    if first is None:
        return
    names = [name.strip().lower() for name in first]
    column = next((names.index(name) for name in TOKEN_COLUMNS if name in names), None)
    if column is None:
        yield first[0].strip()
    for row in rows:
        yield row[column or 0].strip() if len(row) > (column or 0) else ""


def _batches(tokens: Iterator[str], size: int) -> Iterator[list[str]]:
    while batch := list(islice(tokens, size)):
        yield batch


# --- The run -------------------------------------------------------------------------------------------


@dataclass
class Tally:
    """What became of the tokens so far."""

    accepted: int = 0
    rejected: int = 0
    shown: list[Rejected] = field(default_factory=list)
    unsent: int = 0
    fault: str = ""

    def add(self, sent: Sent) -> None:
        self.accepted += sent.accepted
        self.rejected += len(sent.rejected)
        self.shown += sent.rejected[: MAX_SHOWN - len(self.shown)]
        self.unsent += sent.unsent
        self.fault = self.fault or sent.fault


class Run:
    """Threads with a connection each, and a bounded queue of batches before them."""

    def __init__(
        self, make_sender: Callable[[], Sender], connections: int, first_pause_s: float = 0.5
    ) -> None:
        self.tally = Tally()
        self._make_sender = make_sender
        self._first_pause_s = first_pause_s
        self._batches: queue.Queue[list[str] | None] = queue.Queue(maxsize=2 * connections)
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._connections = connections

    def feed(self, batches: Iterable[list[str]]) -> None:
        """Send all batches; returns when all are answered, or when one could not be handed over."""
        with ThreadPoolExecutor(self._connections) as pool:
            workers = [pool.submit(self._work) for _ in range(self._connections)]
            with self._stops_all():
                for batch in batches:
                    if not self._put(batch):
                        break
                for _ in workers:
                    self._put(None)
        for worker in workers:
            worker.result()  # a fault of our own in a thread is raised here

    @contextmanager
    def _stops_all(self) -> Iterator[None]:
        """Let nobody wait for more when a file cannot be read, a thread fails, or the user has enough."""
        try:
            yield
        except BaseException:
            self._stopping.set()
            raise

    def _put(self, batch: list[str] | None) -> bool:
        while not self._stopping.is_set():
            try:
                self._batches.put(batch, timeout=TURN_S)
                return True
            except queue.Full:
                continue
        return False

    def _get(self) -> list[str] | None:
        while not self._stopping.is_set():
            try:
                return self._batches.get(timeout=TURN_S)
            except queue.Empty:
                continue
        return None

    def _work(self) -> None:
        sender = self._make_sender()
        with self._stops_all(), closing(sender):
            while batch := self._get():
                sent = send_all(sender, batch, self._stopping.wait, self._first_pause_s)
                with self._lock:
                    self.tally.add(sent)
                if sent.fault:
                    self._stopping.set()


# --- The report ----------------------------------------------------------------------------------------


def _progress(run: Run) -> Progress:
    """A line that moves, on a terminal; nothing elsewhere."""
    console = Console(stderr=True)
    columns = (SpinnerColumn(), _Counts(run), TimeElapsedColumn())
    bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
    bar.add_task("inject", total=None)
    return bar


class _Counts(TextColumn):
    def __init__(self, run: Run) -> None:
        super().__init__("")
        self._run = run

    def render(self, task: Any) -> Any:
        tally = self._run.tally
        rate = (tally.accepted + tally.rejected) / max(0.1, task.elapsed or 0.0)
        self.text_format = f"accepted {tally.accepted}, rejected {tally.rejected}, {rate:.0f}/s"
        return super().render(task)


def _report(tally: Tally, seconds: float) -> None:
    for token, reason in tally.shown:
        click.echo(f"rejected {_printable(short_token(token)) or '(empty)'}: {_printable(reason)}", err=True)
    if tally.rejected > len(tally.shown):
        click.echo(f"… and {tally.rejected - len(tally.shown)} more", err=True)
    if tally.fault:
        click.echo(
            f"inject: {_printable(tally.fault)}; stopped, {tally.unsent} of the last batch unsent", err=True
        )
    elif not tally.accepted + tally.rejected:
        click.echo("inject: the token file holds no token", err=True)
    click.echo(f"accepted {tally.accepted}, rejected {tally.rejected}, {tally.accepted / seconds:.0f}/s")


def _printable(text: str) -> str:
    """Keep what a server or a file says from steering the terminal."""
    return "".join(letter if letter.isprintable() else " " for letter in text)[:300]
