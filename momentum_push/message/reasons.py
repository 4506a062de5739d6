"""What an answer of Apple's means: the reason table, read from YAML text.

Lives here: the form of a row, the laying of an operator's rows over ours, and the lookup. The rows
themselves are in `reasons.yaml` beside this file; whoever builds the table reads the files.

    lookup(status, reason):   (410, Unregistered)     a row of its own
                              (410, *)                every other reason of that status
                              (5xx, *)                every other status of that hundred
                              (other, *)              whatever is left

A reason that we do not know goes by its status and never condemns a token: not by flag, and not by
its number in the records either (`Reason.code` then is the HTTP status, although the fallback row
of 410 has the 8 of the binary protocol in its table row).

PyYAML's nodes are read instead of its values, because they know their line and column.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NoReturn, TypeVar

import yaml

from momentum_push.errors import ConfigError, Place, Problem

__all__ = ["Action", "Class", "Reason", "ReasonTable"]

_MAX_REMEMBERED = 4096
"""Unknown reasons kept for the next lookup; a peer that invents words must not fill our memory."""


class Class(enum.Enum):
    """Whose trouble it is (apns.md 4.2)."""

    SUCCESS = "success"
    PERMANENT_TOKEN = "permanent-token"
    PERMANENT_MESSAGE = "permanent-message"
    AUTH_OR_CONFIG = "auth-or-config"
    TRANSIENT = "transient"
    THROTTLING = "throttling"


class Action(enum.Enum):
    """What is done with the message; reasons.yaml says each one's meaning."""

    DELIVERED = "delivered"
    PERMFAIL = "permfail"
    TEMPFAIL = "tempfail"
    ELSEWHERE = "elsewhere"
    SUSPEND = "suspend"
    DELAY_TOKEN = "delay_token"


@dataclass(frozen=True, slots=True)
class Reason:
    """The meaning of one answer."""

    status: int
    """HTTP status of the answer."""
    reason: str
    """Apple's word, as it came."""
    klass: Class
    legacy_code: int | None
    """The binary protocol's number as in the table; None: it had none that fits."""
    action: Action
    named_topic: Action | None = None
    """The action instead, where the message itself named the topic."""
    retire_connection: bool = False
    condemns_token: bool = False
    is_known: bool = True
    """False: found by status alone."""

    @property
    def code(self) -> int:
        """The number for `%S`: the legacy code where one exists, else the HTTP status (apns.md 4.4)."""
        is_doubtful = self.klass is Class.PERMANENT_TOKEN and not self.condemns_token
        return self.status if self.legacy_code is None or is_doubtful else self.legacy_code

    def action_for(self, names_topic: bool) -> Action:
        """Return the action for a message that did or did not name its own topic."""
        return self.named_topic if names_topic and self.named_topic is not None else self.action


_Key = tuple[str, str]


class ReasonTable:
    """All rows, ready to be asked; made by `parse`."""

    def __init__(self, rows: dict[_Key, Reason]) -> None:
        self._rows = rows
        self._found: dict[tuple[int, str], Reason] = {}
        self._by_word = {word: row for (_, word), row in rows.items() if word != "*"}

    @classmethod
    def parse(
        cls,
        text: str,
        overrides: str = "",
        *,
        name: str = "reasons.yaml",
        overrides_name: str = "apn_reasons_file",
    ) -> ReasonTable:
        """Read the table, with an operator's rows laid over it key by key.

        Args:
            text: the built-in rows.
            overrides: the operator's rows in the same form; empty for none.
            name, overrides_name: what errors call the two texts.

        Raises:
            ConfigError: with every fault of both texts and its place.
        """
        reader = _Reader()
        reader.read(text, name)
        reader.read(overrides, overrides_name)
        if reader.problems:
            raise ConfigError(reader.problems)
        return cls(reader.rows)

    def lookup(self, status: int, reason: str) -> Reason:
        """Return what `reason` (may be empty) with HTTP `status` means; always finds something."""
        found = self._found.get((status, reason))
        return found if found is not None else self._search(status, reason)

    def by_word(self, reason: str) -> Reason | None:
        """Return the row of a reason that came without a status, as GOAWAY's does (apns.md 6.4)."""
        return self._by_word.get(reason)

    def __iter__(self) -> Iterator[tuple[str, str, Reason]]:
        """All rows as (status as written, reason, meaning), for dumps and tests."""
        return ((status, word, row) for (status, word), row in self._rows.items())

    def _search(self, status: int, reason: str) -> Reason:
        row = self._rows.get((str(status), reason)) if reason != "*" else None
        if row is None:
            row = self._fallback(status)
            row = replace(row, status=status, reason=reason, is_known=row.klass is Class.SUCCESS)
        if len(self._found) < _MAX_REMEMBERED:
            self._found[status, reason] = row
        return row

    def _fallback(self, status: int) -> Reason:
        for written in (str(status), f"{status // 100}xx"):
            if (row := self._rows.get((written, "*"))) is not None:
                return row
        return self._rows["other", "*"]


class _Reader:
    """Collects rows and problems over both texts."""

    def __init__(self) -> None:
        self.rows: dict[_Key, Reason] = {}
        self.problems: list[Problem] = []
        self._name = ""

    def read(self, text: str, name: str) -> None:
        self._name = name
        is_builtin = not self.rows
        for node in self._row_nodes(text):
            try:
                self._read_row(node)
            except _Fault as fault:
                self.problems.append(Problem(self._place(fault.mark), fault.what, fault.fix))
        if is_builtin and ("other", "*") not in self.rows and not self.problems:
            self.problems.append(Problem(Place(name), "the row for status other is missing", "add it"))

    def _row_nodes(self, text: str) -> list[yaml.Node]:
        try:
            root = yaml.compose(text, Loader=yaml.SafeLoader)
        except yaml.MarkedYAMLError as error:
            what = f"not YAML: {error.problem or error.context}"
            self.problems.append(
                Problem(self._place(error.problem_mark), what, "see reasons.yaml for the form")
            )
            return []
        except yaml.YAMLError as error:
            what = " ".join(str(error).split())
            self.problems.append(
                Problem(Place(self._name), f"not YAML: {what}", "see reasons.yaml for the form")
            )
            return []
        if root is None:
            return []
        if not isinstance(root, yaml.SequenceNode):
            what = "a list of rows is wanted"
            self.problems.append(Problem(self._place(root.start_mark), what, 'begin each row with "- "'))
            return []
        return list(root.value)

    def _place(self, mark: yaml.Mark | None) -> Place:
        return Place(self._name, mark.line + 1, mark.column + 1) if mark is not None else Place(self._name)

    def _read_row(self, node: yaml.Node) -> None:
        cells = _cells(node)
        status, word = _status(node, cells), _text(node, cells, "reason")
        base = self.rows.get((status, word))
        klass = _member(cells, "class", Class, base.klass if base else None)
        action = _member(cells, "action", Action, base.action if base else None)
        if klass is None or action is None:
            missing = "class" if klass is None else "action"
            _fault(node, f'row {status} "{word}" has no {missing}', f'add "{missing}: …"')
        row = Reason(
            status=int(status) if status.isdigit() else 0,
            reason=word,
            klass=klass,
            legacy_code=_code(cells, base.legacy_code if base else None),
            action=action,
            named_topic=_member(cells, "named_topic", Action, base.named_topic if base else None),
            retire_connection=_flag(cells, "retire_connection", base.retire_connection if base else False),
            condemns_token=_flag(cells, "condemns_token", base.condemns_token if base else False),
        )
        if word == "*" and row.condemns_token:
            _fault(
                node, f"row {status} condemns tokens for every reason", "name the reasons that shall do that"
            )
        self.rows[status, word] = row


class _Fault(Exception):
    def __init__(self, mark: yaml.Mark, what: str, fix: str) -> None:
        super().__init__(what)
        self.mark, self.what, self.fix = mark, what, fix


_E = TypeVar("_E", bound=enum.Enum)
_COLUMNS = frozenset(
    ("status", "reason", "class", "code", "action", "named_topic", "retire_connection", "condemns_token")
)
_YES = {"yes": True, "true": True, "on": True, "no": False, "false": False, "off": False}


def _fault(node: yaml.Node, what: str, fix: str) -> NoReturn:
    raise _Fault(node.start_mark, what, fix)


def _cells(node: yaml.Node) -> dict[str, yaml.Node]:
    if not isinstance(node, yaml.MappingNode):
        _fault(
            node, "a row of keys and values is wanted", "write {status: …, reason: …, class: …, action: …}"
        )
    cells: dict[str, yaml.Node] = {}
    for key, value in node.value:
        if not isinstance(key, yaml.ScalarNode) or key.value not in _COLUMNS:
            _fault(key, f'unknown key "{key.value}"', f"use one of {', '.join(sorted(_COLUMNS))}")
        if key.value in cells:
            _fault(key, f'key "{key.value}" stands twice', "remove one")
        if not isinstance(value, yaml.ScalarNode):
            _fault(value, f'"{key.value}" takes a single value', "remove the brackets")
        cells[key.value] = value
    return cells


def _text(node: yaml.Node, cells: dict[str, yaml.Node], key: str) -> str:
    if key not in cells or not cells[key].value:
        _fault(node, f"a row has no {key}", f'add "{key}: …"')
    return str(cells[key].value)


def _status(node: yaml.Node, cells: dict[str, yaml.Node]) -> str:
    text = _text(node, cells, "status").lower()
    is_hundred = len(text) == 3 and text[0] in "12345" and text[1:] == "xx"
    is_exact = len(text) == 3 and text.isascii() and text.isdigit()
    if not (is_hundred or is_exact or text == "other"):
        _fault(cells["status"], f'status "{text}" is none', "write 400, 5xx or other")
    return text


def _member(cells: dict[str, yaml.Node], key: str, kind: type[_E], base: _E | None) -> _E | None:
    if key not in cells:
        return base
    try:
        return kind(cells[key].value)
    except ValueError:
        words = ", ".join(str(member.value) for member in kind)
        raise _Fault(
            cells[key].start_mark, f'{key} "{cells[key].value}" is unknown', f"use one of {words}"
        ) from None


def _code(cells: dict[str, yaml.Node], base: int | None) -> int | None:
    if "code" not in cells:
        return base
    text = str(cells["code"].value)
    if text.lower() in ("", "null", "none", "~"):
        return None
    if not (text.isascii() and text.isdigit()) or int(text) > 999:
        _fault(cells["code"], f'code "{text}" is no number up to 999', "write a number, or null for none")
    return int(text)


def _flag(cells: dict[str, yaml.Node], key: str, base: bool) -> bool:
    if key not in cells:
        return base
    text = str(cells[key].value).lower()
    if text not in _YES:
        _fault(cells[key], f'{key} "{text}" is neither yes nor no', "write yes or no")
    return _YES[text]
