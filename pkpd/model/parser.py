"""Lexer and Pratt parser of the expressions of `pkpd.model.equations`.

Limits: 4,000 characters (2,000 tokens), 60 levels of brackets and a tree 100 deep per expression, 100,000 characters of
equations per text; so every recursive reader of the tree is safe.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Final, NoReturn

from pkpd.ground.errors import InputError, Where
from pkpd.ground.text import nearest
from pkpd.model.equations import (
    FUNCTIONS,
    Binary,
    Call,
    Compare,
    Equation,
    Expr,
    Logic,
    Name,
    Number,
    Unary,
    is_condition,
    names,
)

__all__ = ["KEYWORDS", "parse_equations", "parse_expression"]

MAX_EXPRESSION: Final = 4_000
MAX_TEXT: Final = 100_000
MAX_TOKENS: Final = 2_000
MAX_LEVEL: Final = 60
MAX_DEPTH: Final = 100
KEYWORDS: Final = frozenset({"and", "or", "not", "d", "dt", *FUNCTIONS})
"""Names that nothing may be called."""

_TOKEN: Final = re.compile(
    r"(?P<space>[ \t]+|\#[^\n]*)|(?P<newline>\n)"
    r"|(?P<number>(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)"
    r"|(?P<name>[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*)"
    r"|(?P<op><=|>=|==|!=|\*\*|&&|\|\||<>|[-+*/^(),<>=!])"
)
_TOO_BIG: Final = "the expression is nested too deeply or too long"
_INFIX: Final = {"+": 50, "-": 50, "*": 60, "/": 60, "^": 80}
_COMPARES: Final = ("<", "<=", ">", ">=", "==", "!=")
_INSTEAD: Final = {"**": "^", "&&": "and", "||": "or", "!": "not", "<>": "!=", "=": "== to compare"}


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str  # number, name, op, newline, end
    text: str
    row: int
    column: int  # both from 0


def _fail(problem: str, token: _Token, where: Where | None, remedy: str | None = None) -> NoReturn:
    place = where.at(token.row, token.column) if where else None
    line, column = (None, None) if place else (token.row + 1, token.column + 1)
    value = token.text if token.kind not in ("end", "newline") else None
    raise InputError(problem, where=place, line=line, column=column, value=value, remedy=remedy)


def _tokens(text: str, where: Where | None) -> list[_Token]:
    """All tokens; a newline inside brackets is dropped."""
    made: list[_Token] = []
    at, row, start, open_brackets = 0, 0, 0, 0
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None:
            bad = _Token("op", text[at], row, at - start)
            ascii_only = "only ASCII letters, digits and + - * / ^ ( ) , < > = are read"
            _fail("a character that is not part of an expression", bad, where, ascii_only)
        kind, token = found.lastgroup or "", _Token(found.lastgroup or "", found[0], row, at - start)
        open_brackets += {"(": 1, ")": -1}.get(found[0], 0)
        if kind == "newline":
            row, start = row + 1, found.end()
        if kind != "space" and not (kind == "newline" and open_brackets > 0):
            made.append(token)
        at = found.end()
    made.append(_Token("end", "", row, at - start))
    return made


def parse_expression(text: str, where: Where | None, dotted: bool) -> Expr:
    """See `equations.expression`."""
    if len(text) > MAX_EXPRESSION:
        problem = f"the expression is longer than {MAX_EXPRESSION} characters"
        raise InputError(problem, where=where, remedy="split it into named parts")
    parser = _Parser([t for t in _tokens(text, where) if t.kind != "newline"], where, dotted)
    expr = parser.parse(0)
    if parser.token.kind != "end":
        parser.fail_here("the expression should end here")
    return expr


def parse_equations(text: str, where: Where | None) -> tuple[Equation, ...]:
    """See `equations.equations`."""
    if len(text) > MAX_TEXT:
        raise InputError(f"the equations are longer than {MAX_TEXT} characters", where=where)
    parser = _Parser(_tokens(text, where), where, dotted=False)
    made: list[Equation] = []
    seen: dict[tuple[bool, str], str] = {}
    while parser.token.kind != "end":
        if parser.token.kind == "newline":
            parser.advance()
            continue
        made.append(parser.equation(seen))
        if parser.token.kind not in ("newline", "end"):
            parser.fail_here("the equation should end here", "one equation per line")
    if not made:
        raise InputError("no equation", where=where, remedy="write for example d/dt(central) = -K*central")
    return tuple(made)


class _Parser:
    """Pratt's top-down operator precedence, with a bound on the depth of what it makes."""

    def __init__(self, tokens: list[_Token], where: Where | None, dotted: bool) -> None:
        self.tokens, self.where, self.dotted = tokens, where, dotted
        self.at, self.level = 0, 0
        self.depths: dict[int, int] = {}
        self.start = 0

    @property
    def token(self) -> _Token:
        return self.tokens[self.at]

    def advance(self) -> _Token:
        token = self.token
        self.at += 1
        return token

    def fail_here(self, problem: str, remedy: str | None = None) -> NoReturn:
        if self.token.kind == "op" and self.token.text in _INSTEAD:
            remedy = f"write {_INSTEAD[self.token.text]}"
        elif self.token.kind == "name" and remedy is None:
            remedy = "an operator is missing before it, for example *"
        _fail(problem, self.token, self.where, remedy)

    def take(self, text: str, problem: str) -> _Token:
        if self.token.text != text or self.token.kind == "end":
            self.fail_here(problem)
        return self.advance()

    # equations ------------------------------------------------------------------------------------------------------

    def equation(self, seen: dict[tuple[bool, str], str]) -> Equation:
        first = self.token
        kind, target = self._left_side()
        self.take("=", f"expected = after {target!r}")
        key = (kind == "initial", target)
        if key in seen:
            _fail("is defined twice", first, self.where, f"keep one; it is already {seen[key]}")
        seen[key] = f"defined on line {first.row + 1} of the equations"
        self.start = self.at
        expr = self.parse(0)
        if is_condition(expr):
            _fail("is a condition, not a number", first, self.where, "write if(condition, 1, 0)")
        place = self.where.at(first.row, first.column) if self.where else None
        return Equation(kind=kind, target=target, expression=expr, where=place)  # type: ignore[arg-type]

    def _left_side(self) -> tuple[str, str]:
        """`name`, `state(0)` or `d/dt(state)`."""
        head = [t.text for t in self.tokens[self.at : self.at + 4]]
        if head == ["d", "/", "dt", "("]:
            self.at += 4
            state = self._new_name()
            self.take(")", "expected ) after the state")
            return "derivative", state
        target = self._new_name()
        if self.token.text != "(":
            return "assign", target
        self.advance()
        if self.token.kind != "number" or float(self.token.text) != 0.0:
            self.fail_here("only the value at time 0 can be set", f"write {target}(0) = ...")
        self.advance()
        self.take(")", "expected )")
        return "initial", target

    def _new_name(self) -> str:
        token = self.token
        if token.kind != "name":
            self.fail_here("an equation starts with a name or d/dt(state)", "name = expression")
        if token.text in KEYWORDS or "." in token.text:
            _fail("cannot be used as a name", token, self.where, "choose another name")
        return self.advance().text

    # expressions ----------------------------------------------------------------------------------------------------

    def parse(self, least: int) -> Expr:
        """An expression whose operators all bind at least as tightly as `least`."""
        self.level += 1
        if self.level > MAX_DEPTH or self.token.column - self.tokens[self.start].column > MAX_EXPRESSION:
            _fail(
                "the expression is nested too deeply or too long", self.token, self.where, "split it into named parts"
            )
        left = self._prefix()
        while (found := self._infix(left, least)) is not None:
            left = found
        self.level -= 1
        return left

    def _infix(self, left: Expr, least: int) -> Expr | None:
        """`left` joined with the operator that follows, or None when that binds less tightly."""
        token = self.token
        if token.text in _INFIX and _INFIX[token.text] >= least:
            self.advance()
            right = self.parse(70 if token.text == "^" else _INFIX[token.text] + 1)
            self._need_number(left, right, token=token)
            return self._made(Binary(token.text, left, right), left, right)  # type: ignore[arg-type]
        if token.text in _COMPARES and least <= 40:
            return self._chain(left)
        for word, strength in (("and", 20), ("or", 10)):
            if token.kind == "name" and token.text == word and least <= strength:
                return self._joined(word, strength, left)
        return None

    def _chain(self, left: Expr) -> Expr:
        ops, operands = [], [left]
        while self.token.text in _COMPARES:
            token = self.advance()
            ops.append(token.text)
            operands.append(self.parse(41))
            self._need_number(*operands[-2:], token=token)
        return self._made(Compare(tuple(ops), tuple(operands)), *operands)

    def _joined(self, word: str, strength: int, left: Expr) -> Expr:
        operands = [left]
        while self.token.kind == "name" and self.token.text == word:
            token = self.advance()
            operands.append(self.parse(strength + 1))
            self._need_condition(*operands[-2:], token=token)
        return self._made(Logic(word, tuple(operands)), *operands)  # type: ignore[arg-type]

    def _prefix(self) -> Expr:
        token = self.token
        if token.kind == "number":
            return self._number()
        if token.kind == "name" and token.text == "not":
            self.advance()
            operand = self.parse(30)
            self._need_condition(operand, token=token)
            return self._made(Logic("not", (operand,)), operand)
        if token.kind == "name":
            return self._name()
        if token.text in ("-", "+"):
            self.advance()
            operand = self.parse(70)
            self._need_number(operand, token=token)
            return self._made(Unary("-", operand), operand) if token.text == "-" else operand
        if token.text == "(":
            self.advance()
            inner = self.parse(0)
            self.take(")", "expected )")
            return inner
        problem = "a value is missing here" if token.kind in ("end", "newline") else "a value is expected here"
        return self.fail_here(problem, "write a number, a name or a bracket")

    def _number(self) -> Expr:
        token = self.advance()
        value = float(token.text)
        after = self.token
        if after.kind in ("name", "number") and (after.row, after.column) == (
            token.row,
            token.column + len(token.text),
        ):
            _fail("a number runs into what follows", after, self.where, "write 2*x, or 1000 without underscores")
        zeroed = value == 0.0 and re.search("[1-9]", re.split("[eE]", token.text)[0])
        if len(token.text) > 40 or not math.isfinite(value) or zeroed:
            _fail("the number is too long, too large or too small", token, self.where)
        return Number(value)

    def _name(self) -> Expr:
        token = self.advance()
        if self.token.text == "(" and self.token.kind == "op":
            return self._call(token)
        if token.text in KEYWORDS and not (token.text in ("d", "dt") and self.dotted):
            remedy = f"write {token.text}(...)" if token.text in FUNCTIONS else None
            _fail("cannot stand here", token, self.where, remedy)
        if "." in token.text and not self.dotted:
            _fail("a dot is not part of a name here", token, self.where)
        if len(token.text) > 100:
            _fail("the name is too long", token, self.where)
        return Name(token.text, self.where.at(token.row, token.column) if self.where else None)

    def _call(self, token: _Token) -> Expr:
        if token.text not in FUNCTIONS:
            remedy = nearest(token.text, FUNCTIONS) or "put * between a name and a bracket"
            _fail("unknown function", token, self.where, remedy)
        self.advance()
        args = [self.parse(0)]
        while self.token.text == ",":
            self.advance()
            args.append(self.parse(0))
        self.take(")", f"expected ) at the end of {token.text}(...")
        fewest, most = FUNCTIONS[token.text]
        if not fewest <= len(args) <= most:
            wanted = f"{fewest}" if fewest == most else f"{fewest} to {most}"
            _fail(f"takes {wanted} arguments, not {len(args)}", token, self.where)
        if token.text == "if":
            self._need_condition(args[0], token=token)
        self._need_number(*(args[1:] if token.text == "if" else args), token=token)
        return self._made(Call(token.text, tuple(args)), *args)

    # checks ---------------------------------------------------------------------------------------------------------

    def _made[E: Expr](self, expr: E, *parts: Expr) -> E:
        """`expr`, after a check that the tree has not grown too deep (a long sum is a deep tree)."""
        depth = 1 + max((self.depths.get(id(p), 1) for p in parts), default=0)
        self.depths[id(expr)] = depth
        if depth > MAX_DEPTH:
            _fail(
                "the expression is nested too deeply or too long", self.token, self.where, "split it into named parts"
            )
        return expr

    def _need_number(self, *parts: Expr, token: _Token) -> None:
        if any(is_condition(p) for p in parts):
            _fail("a condition stands where a number is needed", token, self.where, "use if(condition, 1, 0)")

    def _need_condition(self, *parts: Expr, token: _Token) -> None:
        for part in parts:
            if not (is_condition(part) or (self.dotted and isinstance(part, Name))):
                name = next(iter(sorted(names(part))), "X")
                _fail("a number stands where a condition is needed", token, self.where, f"compare it: {name} == 1")
