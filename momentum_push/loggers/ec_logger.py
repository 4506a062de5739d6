"""`ec_logger "name" { … }`: mainlog, rejectlog, paniclog and acctlog of Momentum (momentum.md 8.2).

    mainlog, fields separated by `@`, all beginning with time, mid, batch, conn
      R  rcpt local part, rcpt domain, sender local part, sender domain, client IP, size, protocol,
         group, binding
      D  domain, size, group, binding, retries, seconds, remote IP
      T  domain, size, group, binding, stage, retries, seconds, remote IP, message
      P  as T
         TIME@@@@M1                       heartbeat
    rejectlog
      TIME: R="ip:port" L="ip:port" C="conn" PATH="…" PATH_GRP="…" P="phase" E=code M=module
            CTXCONN=[k=v,…] CTXMESS=[k=v,…] text              on one line
      TIME: Marker 1                      heartbeat
    paniclog
      TIME:module text
    acctlog
      TIME@N@listener@peer@user@0|1

The connection of an R record is the one it came in by, of the others the one it went out by. Seconds
have three decimals. Values are escaped as in `escape`; inside the lists of the rejectlog also `,`, `=`
and `]`. With `log_hires_timestamp` times are microseconds, 16 digits. An empty file name switches
that log off; `importlog` is accepted and has no effect, as nothing is imported.
"""

import re
from collections.abc import Callable, Mapping, Sequence

from momentum_push.errors import Problem
from momentum_push.loggers import columns as c
from momentum_push.loggers import escape
from momentum_push.loggers.file import Sink, Sinks, plain_path
from momentum_push.loggers.macros import MARKERS, Format, Macro, compile_format, plain, table
from momentum_push.loggers.records import Authentication, Rejection
from momentum_push.loggers.settings import Settings, file_problems, setting
from momentum_push.message import Disposition, Kind, Message

__all__ = ["EcLogger", "build", "validate"]

KIND = "ec_logger"
LOGS = ("mainlog", "rejectlog", "paniclog", "acctlog")

_RECEPTIONS: dict[str, Macro] = MARKERS | {
    "i": plain(c.message_ids, is_clean=True),
    "BI": plain(c.from_part(lambda part: part.batch_id)),
    "CI": plain(c.from_part(lambda part: part.conn_id)),
    "r": plain(c.from_message("rcpt")),
    "R": plain(c.from_queue(lambda queue: queue.domain)),
    "m": plain(c.from_part(lambda part: c.split_address(part.mailfrom)[0])),
    "M": plain(c.from_part(lambda part: c.split_address(part.mailfrom)[1])),
    "H": plain(c.from_part(lambda part: c.client_address(part.client))),
    "B": plain(c.sizes, is_clean=True),
    "p": plain(c.from_part(lambda part: part.protocol)),
    "g": plain(c.from_queue(lambda queue: queue.binding_group)),
    "b": plain(c.from_queue(lambda queue: queue.binding)),
}
"""Macros of custom_logger as far as they make sense for messages that just came in."""

_DISPOSITIONS = table(["custom_logger"])

_RECEPTION = "@%i@%BI@%CI@R@%r@%R@%m@%M@%H@%B@%p@%g@%b"
_DELIVERY = "@%i@%BI@%OC@D@%d@%B@%g@%b@%{retries}@%{queue_seconds}@%H"
_FAILURE = "@%i@%BI@%OC@{}@%d@%B@%g@%b@%S@%{{retries}}@%{{queue_seconds}}@%H@%n"

_SWITCHES = {
    Kind.DELIVERED: "log_deliveries",
    Kind.TEMPFAIL: "log_transient_failures",
    Kind.PERMFAIL: "log_permanent_failures",
}

_LIST_SEPARATORS = re.compile(r"[,=\]]")


class EcLogger:
    """One instance: a sink per log (a log without one is off), and what is switched on."""

    def __init__(
        self,
        name: str,
        sinks: Mapping[str, Sink],
        *,
        heartbeat_s: float = 60,
        is_on: Callable[[str], bool] = lambda option: True,
        is_hires: bool = False,
    ) -> None:
        self.name = name
        self.heartbeat_s = heartbeat_s
        self._sinks = sinks
        self._is_on = is_on
        time = "%{micros}" if is_hires else "%t"
        self._time = compile_format(time, MARKERS)
        self._marker = compile_format(time + "@@@@M1", MARKERS)
        self._reception = compile_format(time + _RECEPTION, _RECEPTIONS)
        self._formats = _formats(time, is_on)

    def __repr__(self) -> str:
        return f"<ec_logger {self.name!r} {' '.join(self._sinks)}>"

    def receptions(self, now: float, messages: Sequence[Message]) -> None:
        """Write R records."""
        if messages and self._is_on("log_receptions"):
            self._write("mainlog", self._reception.render(c.Receptions(messages, now)), is_droppable=True)

    def dispositions(self, now: float, items: Sequence[Disposition]) -> None:
        """Write D, T and P records, in the order of the list."""
        runs = [(self._formats.get(kind), batch) for kind, batch in c.batches(items, now)]
        self._write("mainlog", "".join(form.render(batch) for form, batch in runs if form))

    def rejection(self, now: float, rejection: Rejection) -> None:
        """Write a line of the rejectlog."""
        if self._is_on("log_rejections"):
            line = f"{self._stamp(now)}: {_rejection(rejection)}\n"
            self._write("rejectlog", line, is_droppable=True)

    def authentication(self, now: float, authentication: Authentication) -> None:
        """Write an N record of the acctlog."""
        who = (authentication.listener, authentication.peer, authentication.user)
        fields = "@".join(escape.bare(value) for value in who)
        line = f"{self._stamp(now)}@N@{fields}@{authentication.is_accepted:d}\n"
        self._write("acctlog", line, is_droppable=True)

    def panic(self, now: float, module: str, text: str) -> None:
        """Write a line of the paniclog; a text of several lines becomes one."""
        if self._is_on("log_errors"):
            line = f"{self._stamp(now)}:{escape.line(module)} {escape.line(text)}\n"
            self._write("paniclog", line, is_droppable=True)

    def heartbeat(self, now: float) -> None:
        """Write the markers of mainlog and rejectlog."""
        self._write("mainlog", self._marker.render(c.Moment(now)), is_droppable=True)
        self._write("rejectlog", f"{self._stamp(now)}: Marker 1\n", is_droppable=True)

    def reopen(self) -> None:
        """Open the files by name again."""
        for sink in self._sinks.values():
            sink.reopen()

    def close(self) -> None:
        """The files are closed by who opened them, for loggers may share them."""

    def _stamp(self, now: float) -> str:
        return self._time.render(c.Moment(now)).rstrip("\n")

    def _write(self, log: str, text: str, is_droppable: bool = False) -> None:
        sink = self._sinks.get(log)
        if sink is not None and text:
            sink.write(text.encode(), is_droppable)


def _formats(time: str, is_on: Callable[[str], bool]) -> dict[Kind, Format]:
    texts = {
        Kind.DELIVERED: _DELIVERY,
        Kind.TEMPFAIL: _FAILURE.format("T"),
        Kind.PERMFAIL: _FAILURE.format("P"),
    }
    return {
        kind: compile_format(time + text, _DISPOSITIONS)
        for kind, text in texts.items()
        if is_on(_SWITCHES[kind])
    }


def _rejection(r: Rejection) -> str:
    quoted = {
        "R": r.peer,
        "L": r.listener,
        "C": r.conn_id,
        "PATH": r.pathway,
        "PATH_GRP": r.pathway_group,
        "P": r.phase,
    }
    pairs = " ".join(f'{key}="{escape.quoted(value)}"' for key, value in quoted.items())
    context = f"CTXCONN=[{_pairs(r.conn_context)}] CTXMESS=[{_pairs(r.mess_context)}]"
    module = escape.line(r.module).replace(" ", "\\x20")
    return f"{pairs} E={r.code} M={module} {context} {escape.line(r.text)}"


def _pairs(context: Mapping[str, str]) -> str:
    return ",".join(f"{_in_list(key)}={_in_list(value)}" for key, value in context.items())


def _in_list(value: str) -> str:
    return _LIST_SEPARATORS.sub(lambda match: "\\" + match[0], escape.line(value))


def build(scope: Settings, sinks: Sinks, *, is_hires: bool = False) -> EcLogger:
    """Make the logger of a stanza; LogError when one of its files cannot be opened."""
    opened = {
        log: sinks.open(plain_path(setting(scope, KIND, log)), setting(scope, KIND, f"{log}_mode"))
        for log in LOGS
        if setting(scope, KIND, log)
    }
    switches = {option: setting(scope, KIND, option) for option in _OPTIONS}
    return EcLogger(
        scope.instance,
        opened,
        heartbeat_s=setting(scope, KIND, "heartbeat"),
        is_on=switches.__getitem__,
        is_hires=is_hires or setting(scope, KIND, "log_hires_timestamp"),
    )


_OPTIONS = ("log_receptions", "log_rejections", "log_errors", *_SWITCHES.values())


def validate(scope: Settings) -> list[Problem]:
    """Report log destinations that are no files."""
    return file_problems(scope, KIND, LOGS)
