"""From the text of one conf file to its nodes; the grammar is `grammar.lark` beside this file.

`parse` knows no names of options and opens no files. What does not fit the grammar is a `ConfigError`
with one problem, whose fix says what was expected there in the words of somebody who writes such files.
"""

from functools import cache
from pathlib import Path
from typing import Any

from lark import Lark, Token, Transformer, v_args
from lark.exceptions import UnexpectedCharacters, UnexpectedInput, UnexpectedToken, VisitError

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


@v_args(inline=True)
class _Builder(Transformer[Token, Any]):
    """Makes nodes of lark's tree; one method for each rule of the grammar."""

    def __init__(self, file: str) -> None:
        super().__init__(visit_tokens=False)
        self._file = file

    def start(self, *items: Item) -> tuple[Item, ...]:
        return items

    def include(self, word: Token, path: Token) -> Include:
        return Include(self.text(path), word.lower() != "include", self._place(word))

    def stanza(self, name: Token, *rest: Any) -> Stanza:
        brace = next(i for i, part in enumerate(rest) if isinstance(part, Token) and part.type == "LBRACE")
        instance = self.text(rest[0]) if brace else None
        return Stanza(str(name), instance, tuple(rest[brace + 1 :]), self._place(name))

    def assignment(self, name: Token, value: Value) -> Assignment:
        return Assignment(str(name), value, self._place(name))

    def text(self, token: Token) -> Text:
        if token.type == "STRING":
            return Text(unescape(token[1:-1]), self._place(token), is_quoted=True)
        return Text(str(token), self._place(token), is_quoted=False)

    entry_text = text

    def array(self, opening: Token, *items: Value) -> Array:
        return Array(items, self._place(opening))

    def dictionary(self, opening: Token, *pairs: tuple[Text, Value]) -> Dictionary:
        return Dictionary(pairs, self._place(opening))

    entry_array = array
    entry_dictionary = dictionary

    def pair(self, key: Token, value: Value) -> tuple[Text, Value]:
        return self.text(key), value

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
    """What would have fitted, from the tokens that stand before the surprise."""
    assert error.interactive_parser is not None
    stack = error.interactive_parser.parser_state.value_stack
    expected = error.accepts or error.expected
    for token in reversed(stack):
        if not isinstance(token, Token):
            continue
        return _after(token, expected, error.token.type, stack)
    if error.token.type == "RBRACE":
        return "no stanza is open here; remove it"
    return 'write NAME = VALUE or NAME "instance" { … }'


def _after(token: Token, expected: set[str], found: str, stack: list[Any]) -> str:
    if token.type == "LBRACE" and found == "$END":
        return f'the stanza opened in line {token.line} is never closed; add "}}"'
    if token.type in ("LPAR",) or "RPAR" in expected:
        return 'close the array with ")"'
    if token.type in ("LSQB",) or "RSQB" in expected:
        return 'write key = value pairs and close the dictionary with "]"'
    if token.type == "EQUAL":
        return f'"{stack[-2]}" needs a value after "="; quote it if it is empty or holds reserved characters'
    if "LBRACE" in expected and "EQUAL" in expected and len(stack) >= 1:
        return f'write {token} = VALUE or {token} "instance" {{ … }}'
    return 'write NAME = VALUE or NAME "instance" { … }'


_ = VisitError
