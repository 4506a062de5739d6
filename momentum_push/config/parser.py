"""From the text of one conf file to its nodes; the grammar is `grammar.lark` beside this file.

`parse` knows no names of options and opens no files (lark reads its grammar, as Python reads this text).
What does not fit the grammar is a `ConfigError` with one problem, whose fix says what was expected there
in the words of somebody who writes such files.

`parse_tolerant` goes on after such a problem, so that one run shows them all: it leaves out the line where
the parser stumbled and tries again. Where that only leads to the next stumble at once (the fault
was a brace or a quote), it stops and keeps what stands before.
"""

import re
from functools import cache
from typing import Any

from lark import Lark, Token, Transformer
from lark.exceptions import UnexpectedCharacters, UnexpectedInput, UnexpectedToken

from momentum_push.config.nodes import (
    Array,
    Assignment,
    Dictionary,
    Include,
    Item,
    Stanza,
    Text,
    Value,
    cited,
)
from momentum_push.errors import ConfigError, Place, Problem

__all__ = ["parse", "parse_tolerant", "unescape"]

MAX_DEPTH = 16  # of braces, parentheses and brackets in each other; the language itself needs five
MAX_PROBLEMS = 10  # of grammar, in one file; who has more has given us no conf file

_SHELL = re.compile(r'"(?:[^"\\]|\\.)*"|#[^\n]*|/\*.*?\*/|[][{}()]', re.DOTALL)
_ESCAPED = {"n": "\n", "r": "\r", "t": "\t", "\\": "\\", '"': '"'}


@cache
def _lark() -> Lark:
    return Lark.open(
        "grammar.lark", rel_to=__file__, parser="lalr", lexer="contextual", maybe_placeholders=False
    )


def parse(text: str, file: str) -> tuple[Item, ...]:
    """The items of a conf file.

    Args:
        text: the whole file; a byte order mark and CRLF line ends are tolerated.
        file: its name, for the places in nodes and errors.

    Raises:
        ConfigError: the text does not fit the grammar.
    """
    _refuse_abyss(text, file)
    try:
        tree = _lark().parse(text.removeprefix("\ufeff"))
    except UnexpectedInput as error:
        raise ConfigError([_problem(error, text, file)]) from None
    items: tuple[Item, ...] = _Builder(file).transform(tree)
    return items


def _refuse_abyss(text: str, file: str) -> None:
    """Whoever walks a tree of nodes may do so recursively: it is never deeper than MAX_DEPTH."""
    depth = 0
    for match in _SHELL.finditer(text):
        depth += (match[0] in "{([") - (match[0] in "})]")
        if depth > MAX_DEPTH:
            line = text.count("\n", 0, match.start()) + 1
            column = match.start() - text.rfind("\n", 0, match.start())
            what = f"more than {MAX_DEPTH} braces, parentheses or brackets in each other"
            raise ConfigError([Problem(Place(file, line, column), what, "close some of them before")])


def parse_tolerant(text: str, file: str) -> tuple[tuple[Item, ...], list[Problem]]:
    """The items of a conf file as far as they can be read, and what does not fit the grammar."""
    problems: list[Problem] = []
    while True:
        try:
            return parse(text, file), problems
        except ConfigError as error:
            problem = error.problems[0]
        line = problem.place.line
        if problems and (line <= problems[-1].place.line + 1 or len(problems) >= MAX_PROBLEMS):
            return _before(text, problems[-1].place.line, file), problems
        problems.append(problem)
        mended = _without_line(text, line)
        if mended is None:
            return _before(text, line, file), problems
        text = mended


def _without_line(text: str, number: int) -> str | None:
    """`text` with one line left blank; None when that would unbalance its braces or quotes."""
    lines = text.split("\n")
    line = lines[number - 1]
    if line.count("{") != line.count("}") or line.count('"') % 2:
        return None
    lines[number - 1] = ""
    return "\n".join(lines)


def _before(text: str, number: int, file: str) -> tuple[Item, ...]:
    """The items before line `number`, stanzas that are open there closed; none when that makes no sense."""
    head = "\n".join(text.split("\n")[: number - 1])
    marks = [match[0] for match in _SHELL.finditer(head)]
    try:
        return parse(head + "\n" + "}" * (marks.count("{") - marks.count("}")), file)
    except ConfigError:
        return ()  # its problem is the one that was reported already


def unescape(body: str) -> str:
    r"""Undo the escapes of a quoted string: \" \\ \n \r \t; any other backslash stays (it is a regex's)."""
    if "\\" not in body:
        return body
    out: list[str] = []
    index = 0
    while index < len(body):
        char = body[index]
        if char == "\\" and index + 1 < len(body):
            out.append(_ESCAPED.get(body[index + 1], body[index : index + 2]))
            index += 2
        else:
            out.append(char)
            index += 1
    return "".join(out)


class _Builder(Transformer[Token, Any]):
    """Makes nodes of lark's tree; one method for each rule of the grammar, given the rule's parts."""

    def __init__(self, file: str) -> None:
        super().__init__(visit_tokens=False)
        self._file = file

    def start(self, items: list[Item]) -> tuple[Item, ...]:
        return tuple(items)

    def include(self, parts: list[Token]) -> Include:
        word, path = parts
        return Include(self.text([path]), word.lower() != "include", self._place(word))

    def stanza(self, parts: list[Any]) -> Stanza:
        name, instance = parts[0], None
        brace = 1
        if parts[1].type != "LBRACE":
            instance, brace = self.text([parts[1]]), 2
        return Stanza(str(name), instance, tuple(parts[brace + 1 :]), self._place(name))

    def assignment(self, parts: list[Any]) -> Assignment:
        name, value = parts
        return Assignment(str(name), value, self._place(name))

    def text(self, parts: list[Token]) -> Text:
        token = parts[0]
        if token.type == "STRING":
            return Text(unescape(token[1:-1]), self._place(token), True)
        return Text(str(token), self._place(token), False)

    def array(self, parts: list[Any]) -> Array:
        return Array(tuple(parts[1:]), self._place(parts[0]))

    def dictionary(self, parts: list[Any]) -> Dictionary:
        return Dictionary(tuple(parts[1:]), self._place(parts[0]))

    def pair(self, parts: list[Any]) -> tuple[Text, Value]:
        return self.text([parts[0]]), parts[1]

    entry_text = text
    entry_array = array
    entry_dictionary = dictionary

    def _place(self, token: Token) -> Place:
        return Place(self._file, token.line or 0, token.column or 0)


def _problem(error: UnexpectedInput, text: str, file: str) -> Problem:
    if isinstance(error, UnexpectedToken):
        near = "end of file" if error.token.type == "$END" else _cited(error.token)
        place = _end_of(text, file) if error.token.type == "$END" else Place(file, error.line, error.column)
        fix = _runaway(text, _offset(error.token, text)) or _expected(error)
        return Problem(place, f"syntax error near {near}", fix)
    assert isinstance(error, UnexpectedCharacters)
    at = error.pos_in_stream or 0
    rest = text[at:]
    fix = _runaway(text, at) or _odd_character(rest)
    place = Place(file, error.line, error.column)
    return Problem(place, f'syntax error near "{cited(rest.splitlines()[0], 30)}"', fix)


def _runaway(text: str, end: int) -> str:
    """The fix when a string that runs over lines ends just before `end`: its closing quote was forgotten."""
    for match in _SHELL.finditer(text, 0, end):
        if match[0].startswith('"') and "\n" in match[0] and "\n" not in text[match.end() : end]:
            line = text.count("\n", 0, match.start()) + 1
            return f"the string that begins in line {line} runs to here; close it with a double quote"
    return ""


def _cited(token: Token) -> str:
    return cited(token, 30) if token.type == "STRING" else f'"{cited(token, 30)}"'


def _offset(token: Token, text: str) -> int:
    return len(text) if token.start_pos is None or token.type == "$END" else token.start_pos


def _end_of(text: str, file: str) -> Place:
    lines = text.split("\n")
    return Place(file, len(lines), len(lines[-1]) + 1)


def _odd_character(rest: str) -> str:
    """Why the lexer knows no token that begins with `rest`."""
    if rest.startswith("/*"):
        return 'this comment is never closed; add "*/"'
    if rest.startswith('"'):
        return "this string is never closed; add a double quote"
    if rest.startswith("'"):
        return "single quotes are reserved; use double quotes"
    return f'quote text that holds "{rest[0]}"'


def _expected(error: UnexpectedToken) -> str:
    """What would have fitted, from what the parser holds and the token that surprised it."""
    assert error.interactive_parser is not None
    held = error.interactive_parser.parser_state.value_stack
    found, expected = error.token.type, error.accepts or error.expected
    last = held[-1] if held and isinstance(held[-1], Token) else None
    if "RPAR" in expected:
        return 'write ( value value … ) and close the array with ")"'
    if "RSQB" in expected or _is_in_dictionary(held):
        return 'write [ key = value … ] and close the dictionary with "]"'
    if last is not None and last.type == "EQUAL":
        return f'"{held[-2]}" needs a value; quote it if it is empty or holds reserved characters'
    if last is not None and last.type in ("WORD", "STRING") and not _is_value(held):
        return _after_word(last, held)
    return _between_items(held, found)


def _is_in_dictionary(held: list[Any]) -> bool:
    """Whether the innermost bracket that is still open is a dictionary's."""
    openings = [
        part.type for part in held if isinstance(part, Token) and part.type in ("LBRACE", "LPAR", "LSQB")
    ]
    return bool(openings) and openings[-1] == "LSQB"


def _is_value(held: list[Any]) -> bool:
    """Whether the last token completes an assignment."""
    return len(held) > 1 and isinstance(held[-2], Token) and held[-2].type == "EQUAL"


def _after_word(last: Token, held: list[Any]) -> str:
    """A name or an instance stands there and nothing that makes a statement of it."""
    before = held[-2] if len(held) > 1 and isinstance(held[-2], Token) else None
    if last.type == "INCLUDE" or (before is not None and before.type == "INCLUDE"):
        return 'write include "path"'
    word = cited(last)
    if before is not None and before.type == "WORD":
        return f"write {before} = {word}, or {before} {word} {{ … }}"
    return f'write {word} = VALUE, or {word} "instance" {{ … }}'


def _between_items(held: list[Any], found: str) -> str:
    openings = [part for part in held if isinstance(part, Token) and part.type == "LBRACE"]
    if found == "$END" and openings:
        return f'the stanza opened in line {openings[-1].line} is never closed; add "}}"'
    if found == "RBRACE":
        return "no stanza is open here; remove it"
    if held and isinstance(held[-1], Token) and held[-1].type == "INCLUDE":
        return 'write include "path"'
    return 'write NAME = VALUE or NAME "instance" { … }'
