"""`apn_logger "name" { … }`: one line per finished attempt, in the operator's own formats (momentum.md 8.1).

    option                                   default
    concurrency, thread_pool                 accepted, no effect: records are written in order, at once
    heartbeat                                60 s; 0 = none
    log_delivery, log_permfail, log_tempfail true
    log_…_format                             as documented; P has neither quotes, size nor transaction id
    logfile, logmode                         /var/log/ecelerity/apnlog.ec, 0644
    namespace                                apn_logger,sieve,custom_logger

No reception records. The order of the lines is the order of the list, kinds mixed.
"""

from collections.abc import Sequence

from momentum_push.errors import Problem
from momentum_push.loggers.columns import Moment, batches
from momentum_push.loggers.file import Sink, Sinks, plain_path
from momentum_push.loggers.macros import MARKERS, Format, FormatError, Macro, compile_format, table
from momentum_push.loggers.records import Authentication, Rejection
from momentum_push.loggers.settings import Settings, file_problems, place, setting
from momentum_push.message import Disposition, Kind, Message

__all__ = ["ApnLogger", "build", "validate"]

KIND = "apn_logger"

_SWITCHES = {
    Kind.DELIVERED: "log_delivery",
    Kind.PERMFAIL: "log_permfail",
    Kind.TEMPFAIL: "log_tempfail",
}


class ApnLogger:
    """One instance: formats by kind of record (a kind without format is not logged), and a file."""

    def __init__(
        self, name: str, sink: Sink, formats: dict[Kind, Format], heartbeat: Format, heartbeat_s: float = 60
    ) -> None:
        self.name = name
        self.heartbeat_s = heartbeat_s
        self._sink = sink
        self._formats = formats
        self._heartbeat = heartbeat

    def __repr__(self) -> str:
        return f"<apn_logger {self.name!r} {self._sink.path}>"

    def receptions(self, now: float, messages: Sequence[Message]) -> None:
        """Nothing: apn_logger has no reception records."""

    def dispositions(self, now: float, items: Sequence[Disposition]) -> None:
        """Write one line per attempt."""
        runs = [(self._formats.get(kind), batch) for kind, batch in batches(items, now)]
        text = "".join(form.render(batch) for form, batch in runs if form)
        if text:
            self._sink.write(text.encode())

    def rejection(self, now: float, rejection: Rejection) -> None:
        """Nothing."""

    def authentication(self, now: float, authentication: Authentication) -> None:
        """Nothing."""

    def panic(self, now: float, module: str, text: str) -> None:
        """Nothing."""

    def heartbeat(self, now: float) -> None:
        """Write a marker."""
        self._sink.write(self._heartbeat.render(Moment(now)).encode(), is_droppable=True)

    def reopen(self) -> None:
        """Open the file by name again."""
        self._sink.reopen()

    def close(self) -> None:
        """The file is closed by who opened it, for loggers may share it."""


def build(scope: Settings, sinks: Sinks) -> ApnLogger:
    """Make the logger of a stanza; LogError when its file cannot be opened."""
    macros = table(_namespaces(scope))
    formats = {
        kind: compile_format(setting(scope, KIND, f"{switch}_format"), macros)
        for kind, switch in _SWITCHES.items()
        if setting(scope, KIND, switch)
    }
    heartbeat = compile_format(setting(scope, KIND, "log_heartbeat_format"), MARKERS)
    sink = sinks.open(plain_path(setting(scope, KIND, "logfile")), setting(scope, KIND, "logmode"))
    return ApnLogger(scope.instance, sink, formats, heartbeat, setting(scope, KIND, "heartbeat"))


def validate(scope: Settings) -> list[Problem]:
    """Report formats that cannot be compiled, unknown namespaces, destinations that are no files."""
    problems = file_problems(scope, KIND, ["logfile"])
    try:
        macros = table(_namespaces(scope))
    except FormatError as error:
        return [*problems, Problem(place(scope, "namespace"), error.what, error.fix)]
    for switch in _SWITCHES.values():
        problems += _format_problems(scope, f"{switch}_format", macros)
    return problems + _format_problems(scope, "log_heartbeat_format", MARKERS)


def _namespaces(scope: Settings) -> list[str]:
    return [name.strip() for name in setting(scope, KIND, "namespace").split(",") if name.strip()]


def _format_problems(scope: Settings, option: str, macros: dict[str, Macro]) -> list[Problem]:
    where = place(scope, option)
    try:
        form = compile_format(setting(scope, KIND, option), macros)
    except FormatError as error:
        return [Problem(where, f"{option}: {error.what}", error.fix)]
    return [
        Problem(where, f'{option}: macro "{name}" is always empty here', "leave it out", is_warning=True)
        for name in form.empty
    ]
