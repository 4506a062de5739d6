"""Record formats: `%t@D@%i@"%sa"…` compiled once into a function over lists of records.

    text      := { "%%" | "%" macro | any other character }
    macro     := the longest name that some namespace knows:  %d  %dt  %t{FORMAT}  %vctx_mess{KEY}  %{reason}

Names are looked for in the namespaces in the order given (option `namespace`, momentum.md 8.1); where
two know a name, the first one's meaning counts: `%S` is Apple's status for apn_logger and the number of the
stage for custom_logger. A value stands *between quotes* when an odd number of `"` precede it in the
format; it is escaped accordingly (`escape`).

Macros of Momentum that have no meaning here (headers, bounce classes, pathways, the user who
authenticated) are known, stay empty, and bring a warning.

Rendering: one column of texts per macro, another for what lies between two of them, and all joined at once;
see `columns`.
"""

import difflib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from momentum_push.loggers import columns as c
from momentum_push.loggers import escape
from momentum_push.message.names import lines

__all__ = [
    "DISPOSITIONS",
    "MARKERS",
    "NAMESPACES",
    "Format",
    "FormatError",
    "Macro",
    "compile_format",
    "table",
]


class FormatError(ValueError):
    """A format cannot be compiled: `what` is wrong, `fix` says what to write instead."""

    def __init__(self, what: str, fix: str) -> None:
        self.what = what
        self.fix = fix
        super().__init__(f"{what}; {fix}")


class Macro(NamedTuple):
    """What a name stands for."""

    make: Callable[[str], c.Column]
    """Takes the text between the braces, "" without; ValueError when it cannot be used."""
    is_clean: bool = False
    """Its values never need escaping: numbers, message ids."""
    is_empty: bool = False
    """Momentum had it, we have nothing to put there."""


_IDS: list[str] = []
"""Stands for the column of message ids until it is known whether there are others."""


class Format:
    """A compiled format; `render` is the whole of it.

    Attributes:
        text: as the operator wrote it.
        empty: macros in it that never have a value here.
    """

    def __init__(self, text: str, pieces: Sequence[str | c.Column], empty: Sequence[str]) -> None:
        self.text = text
        self.empty = list(empty)
        self._steps: list[tuple[str, c.Column]] = []  # a column, and the text before it
        literal = ""
        for piece in pieces:
            if isinstance(piece, str):
                literal += piece
            else:
                self._steps.append((literal, piece))
                literal = ""
        self._tail = literal + "\n"

    def render(self, batch: c.Batch) -> str:
        """Return one line per record, each with its newline."""
        count = len(batch.items)
        columns: list[list[str]] = []
        shared = ""  # what stands in all lines, behind the last column
        for literal, make in self._steps:
            texts = _IDS if make is c.message_ids else make(batch)
            if isinstance(texts, str):
                shared += literal + texts
            else:
                columns += [[shared + literal] * count, texts]
                shared = ""
        columns.append([shared + self._tail] * count)
        if count and len(columns) == 3 and columns[1] is _IDS:  # nothing else differs, as in most R records
            return lines(batch.messages, columns[0][0], columns[2][0])
        columns = [batch.message_ids if column is _IDS else column for column in columns]
        if count == 1:
            return "".join([column[0] for column in columns])
        values = [""] * (len(columns) * count)
        for place, column in enumerate(columns):
            values[place :: len(columns)] = column
        return "".join(values)


def plain(column: c.Column, is_clean: bool = False) -> Macro:
    """A macro without argument."""
    return Macro(lambda argument: column, is_clean)


def _nothing() -> Macro:
    return Macro(lambda argument: c.constant(""), is_clean=True, is_empty=True)


def _decimals(argument: str) -> int:
    if not (argument.isdecimal() and int(argument) <= 9):
        raise ValueError("wants a number of decimals from 0 to 9")
    return int(argument)


def _whole(at: float) -> str:
    return str(int(at))


def _fraction(decimals: int) -> Callable[[float], str]:
    return lambda at: f"{at:.{decimals}f}"


def _micros(at: float) -> str:
    return str(round(at * 1_000_000))


def _topic(batch: c.Batch) -> c.Texts:
    topics: list[str] = batch.values("topic")
    if len(topics) == 1 and topics[0]:
        return topics[0]
    return [item.topic or item.message.part.topic for item in batch.items]


def _response(batch: c.Batch) -> c.Texts:
    texts: list[str] = batch.values("text")
    if len(texts) == 1 and texts[0]:
        return texts[0]
    return [item.text or item.reason for item in batch.items]


def _in_context(key: str) -> c.Column:
    return c.from_part(lambda part: part.context.get(key, ""))


def _in_conn_context(key: str) -> c.Column:
    return c.from_part(lambda part: part.conn_context.get(key, ""))


_OURS = {
    "t": plain(c.moments(_whole), is_clean=True),
    "t{}": Macro(lambda pattern: c.moments(c.strftime(pattern))),
    "i": plain(c.message_ids, is_clean=True),
    "d": plain(c.from_queue(lambda queue: queue.domain)),
    "g": plain(c.from_queue(lambda queue: queue.binding_group)),
    "b": plain(c.from_queue(lambda queue: queue.binding)),
    "H": plain(c.attribute("remote")),
    "B": plain(c.attribute("size"), is_clean=True),
    "vctx_mess{}": Macro(_in_context),
    "vctx_conn{}": Macro(_in_conn_context),
    "{reason}": plain(c.attribute("word")),
    "{apns_id}": plain(c.apns_ids),
    "{http_status}": plain(c.attribute("http_status"), is_clean=True),
    "{unregistered_at}": plain(c.attribute("unregistered_at"), is_clean=True),
    "{attempt}": plain(c.attribute("attempt"), is_clean=True),
    "{topic}": plain(_topic),
    "{push_type}": plain(c.from_part(lambda part: part.push_type)),
    "{queue_seconds}": plain(c.seconds_in_queue(3), is_clean=True),
    "{retries}": plain(c.attribute("attempt", lambda attempt: str(max(0, attempt - 1))), is_clean=True),
    "{micros}": plain(c.moments(_micros), is_clean=True),
}
"""What both families know, and the macros that Momentum never had (interfaces.md 5)."""

_APN_LOGGER = {
    "sa": plain(c.from_part(lambda part: part.context.get("DLV_Source_Addr") or part.mailfrom)),
    "da": plain(c.own_or("DLV_Dest_Addr", "rcpt")),
    "dt": plain(c.from_message("token")),
    "S": plain(c.attribute("status"), is_clean=True),
    "e": plain(c.attribute("reason")),
    "ti": _OURS["{apns_id}"],
}

_CUSTOM_LOGGER = {
    "BI": plain(c.from_part(lambda part: part.batch_id)),
    "CI": plain(c.from_part(lambda part: part.conn_id)),
    "OC": plain(c.attribute("conn_id")),
    "m": plain(c.from_part(lambda part: c.split_address(part.mailfrom)[0])),
    "M": plain(c.from_part(lambda part: c.split_address(part.mailfrom)[1])),
    "n": plain(_response),
    "N": plain(c.attribute("attempt"), is_clean=True),
    "p": plain(c.from_part(lambda part: part.protocol)),
    "r": plain(c.from_message("rcpt")),
    "R": plain(c.from_queue(lambda queue: queue.domain)),
    "s": plain(c.attribute("stage", lambda stage: c.STAGES.get(stage, str(stage)))),
    "S": plain(c.attribute("stage"), is_clean=True),
    "T": plain(c.seconds_in_queue(2), is_clean=True),
    "T{}": Macro(lambda count: c.seconds_in_queue(_decimals(count)), is_clean=True),
    "us{}": Macro(lambda count: c.moments(_fraction(_decimals(count))), is_clean=True),
    **{name: _nothing() for name in ("A", "c", "C", "h{}", "P", "PG", "U")},
}

NAMESPACES: Mapping[str, Mapping[str, Macro]] = {
    "apn_logger": _OURS | _APN_LOGGER,
    "custom_logger": _OURS | _CUSTOM_LOGGER,
    "sieve": {},
}
"""Families that the option `namespace` may name; sieve's are about mail and hold nothing for us."""


def table(namespaces: Iterable[str]) -> dict[str, Macro]:
    """Return the macros of several namespaces as one table; the first namespace wins.

    Raises:
        FormatError: there is no such namespace.
    """
    macros: dict[str, Macro] = {}
    for namespace in namespaces:
        if namespace not in NAMESPACES:
            raise FormatError(f'unknown namespace "{namespace}"', f"known are {', '.join(NAMESPACES)}")
        macros = dict(NAMESPACES[namespace]) | macros
    return macros


DISPOSITIONS = table(("apn_logger", "sieve", "custom_logger"))
"""The macros of apn_logger by default; records are `Disposition`s."""

MARKERS = {
    "t": plain(c.now(_whole), is_clean=True),
    "t{}": Macro(lambda pattern: c.now(c.strftime(pattern))),
    "us{}": Macro(lambda count: c.now(_fraction(_decimals(count))), is_clean=True),
    "{micros}": plain(c.now(_micros), is_clean=True),
}
"""The macros of a heartbeat, which knows nothing but the time."""


def compile_format(text: str, macros: Mapping[str, Macro] = DISPOSITIONS) -> Format:
    """Compile a format.

    Raises:
        FormatError: an unknown macro, a single percent sign, an argument that its macro cannot use.
    """
    pieces: list[str | c.Column] = []
    empty: list[str] = []
    is_quoted = False
    for literal, name, argument in _split(text, _pattern(macros)):
        pieces.append(literal)
        is_quoted ^= literal.count('"') % 2 == 1
        if name:
            pieces.append(_column(name, argument, macros[name], is_quoted))
            empty += [f"%{name}"] * macros[name].is_empty
    return Format(text, pieces, empty)


def _pattern(macros: Mapping[str, Macro]) -> re.Pattern[str]:
    """Return what matches one macro after its percent sign; longest names come first."""
    longest_first = sorted(macros, key=len, reverse=True)
    return re.compile("|".join(re.escape(name).replace(r"\{\}", r"\{([^{}]+)\}") for name in longest_first))


def _split(text: str, pattern: re.Pattern[str]) -> Iterable[tuple[str, str, str]]:
    """Yield (literal, macro name, argument); the name is empty for "%%" and at the end."""
    start = 0
    while (percent := text.find("%", start)) >= 0:
        literal = text[start:percent]
        if text.startswith("%%", percent):
            yield literal + "%", "", ""
            start = percent + 2
            continue
        match = pattern.match(text, percent + 1)
        if match is None:
            raise _unknown(text[percent + 1 :], pattern)
        argument = next((group for group in match.groups() if group is not None), "")
        yield literal, match[0].replace("{" + argument + "}", "{}") if argument else match[0], argument
        start = match.end()
    yield text[start:], "", ""


def _column(name: str, argument: str, macro: Macro, is_quoted: bool) -> c.Column:
    try:
        column = macro.make(argument)
    except ValueError as error:
        shown = name.replace("{}", "{" + argument + "}")
        raise FormatError(
            f'macro "%{shown}" cannot be used ({error})', "correct what stands in braces"
        ) from error
    if macro.is_clean:
        return column
    clean = escape.quoted_texts if is_quoted else escape.bare_texts
    return lambda batch: clean(column(batch))


def _unknown(rest: str, pattern: re.Pattern[str]) -> FormatError:
    """Say which macro is unknown, and which one may have been meant."""
    found = re.match(r"\{[^{}]*\}|[A-Za-z_]+(?:\{[^{}]*\})?", rest)
    if found is None:
        return FormatError("a percent sign without a macro", 'write "%%" for a percent sign')
    known = [name.replace("\\", "").replace("([^{}]+)", "") for name in pattern.pattern.split("|")]
    near = difflib.get_close_matches(found[0], known, 1)
    fix = f'did you mean "%{near[0]}"?' if near else 'write "%%" for a percent sign'
    return FormatError(f'unknown macro "%{found[0]}"', fix)
