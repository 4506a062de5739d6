"""From the text of one conf file to its nodes; the grammar is `grammar.lark` beside this file.

`parse` knows no names of options and opens no files. What does not fit the grammar is a `ConfigError`
with one problem, whose fix says what was expected there in the words of somebody who writes such files.
"""

from functools import cache
from pathlib import Path
from typing import Any

from lark import Lark, Token, Transformer
from lark.exceptions import UnexpectedCharacters, UnexpectedInput, UnexpectedToken

from momentum_push.config.nodes import Array, Assignment, Dictionary, Include, Item, Stanza, Text, Value
from momentum_push.errors import ConfigError, Place, Problem

__all__ = ["parse", "unescape"]

_GRAMMAR = Path(__file__).with_name("grammar.lark")
_ESCAPED = {"n": "\n", "r": "\r", "t": "\t", "\\": "\\", '"': '"'}


@cache
def _lark() -> Lark:
    return Lark.open(str(_GRAMMAR), parser="lalr", lexer="contextual", maybe_placeholders=False)


def parse(text: str, file: str) -> tuple[Item, ...]:
    """The items of a conf file.

    Args:
        text: the whole file; a byte order mark and CRLF line ends are tolerated.
        file: its name, for the places in nodes and errors.

    Raises:
        ConfigError: the text does not fit the grammar.
    """
    try:
        tree = _lark().parse(text)
    except UnexpectedInput as error:
        raise ConfigError([_problem(error, text, file)]) from None
    items: tuple[Item, ...] = _Builder(file).transform(tree)
    return items


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
        near = "end of file" if error.token.type == "$END" else f'"{_shortened(str(error.token))}"'
        place = _end_of(text, file) if error.token.type == "$END" else Place(file, error.line, error.column)
        return Problem(place, f"syntax error near {near}", _expected(error))
    assert isinstance(error, UnexpectedCharacters)
    rest = text[error.pos_in_stream :]
    place = Place(file, error.line, error.column)
    return Problem(place, f'syntax error near "{_shortened(rest.splitlines()[0])}"', _odd_character(rest))


def _shortened(text: str) -> str:
    return text if len(text) <= 30 else text[:27] + "..."


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
    if last is not None and last.type in ("WORD", "STRING"):
        return _after_word(last, held)
    return _between_items(held, found)


def _is_in_dictionary(held: list[Any]) -> bool:
    """Whether the innermost bracket that is still open is a dictionary's."""
    openings = [
        part.type for part in held if isinstance(part, Token) and part.type in ("LBRACE", "LPAR", "LSQB")
    ]
    return bool(openings) and openings[-1] == "LSQB"


def _after_word(last: Token, held: list[Any]) -> str:
    """A name or an instance stands there and nothing that makes a statement of it."""
    before = held[-2] if len(held) > 1 and isinstance(held[-2], Token) else None
    if last.type == "INCLUDE" or (before is not None and before.type == "INCLUDE"):
        return 'write include "path"'
    if before is not None and before.type == "WORD":
        return f"write {before} = {last}, or {before} {last} {{ … }}"
    return f'write {last} = VALUE, or {last} "instance" {{ … }}'


def _between_items(held: list[Any], found: str) -> str:
    openings = [part for part in held if isinstance(part, Token) and part.type == "LBRACE"]
    if found == "$END" and openings:
        return f'the stanza opened in line {openings[-1].line} is never closed; add "}}"'
    if found == "RBRACE":
        return "no stanza is open here; remove it"
    if held and isinstance(held[-1], Token) and held[-1].type == "INCLUDE":
        return 'write include "path"'
    return 'write NAME = VALUE or NAME "instance" { … }'
