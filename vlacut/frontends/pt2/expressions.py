"""Expressions of dynamic sizes: parsed into sympy's objects here, so that none is evaluated.

    expression = term {("+" | "-") term}          term = factor {("*" | "//" | "%") factor}
    factor     = ["-"] atom                       atom = number | symbol | call | "(" expression ")"
    call       = function "(" [argument {"," argument}] ")"

torch writes them as sympy's srepr does: `Add(Mul(Integer(2), Symbol('s77', integer=True)), ...)`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import sympy
from torch.utils._sympy import functions

_TOKEN = re.compile(r"\s*(?:(\d+)|([A-Za-z_]\w*)|('[a-z]{1,3}\d{1,9}')|(//|[-+*%(),=]))", re.ASCII)
_SYMBOL = re.compile(r"[a-z]{1,3}\d{1,9}")
_FLAGS = {"True": True, "False": False}
_ASSUMPTIONS = frozenset(("integer", "positive", "nonnegative", "real", "negative"))
_MOST_TEXT, _MOST_DEPTH, _MOST_DIGITS, _MOST_POWER = 8192, 40, 19, 4
_BINARY: Mapping[str, Callable[[Any, Any], Any]] = {
    "+": lambda one, other: one + other,
    "-": lambda one, other: one - other,
    "*": lambda one, other: one * other,
    "//": functions.FloorDiv,
    "%": functions.Mod,
}
_FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    **{name: getattr(sympy, name) for name in ("Add", "Mul", "Eq", "Ne", "Lt", "Le", "Gt", "Ge")},
    "Equality": sympy.Eq,
    "Unequality": sympy.Ne,
    "StrictLessThan": sympy.Lt,
    "LessThan": sympy.Le,
    "StrictGreaterThan": sympy.Gt,
    "GreaterThan": sympy.Ge,
    **{
        name: getattr(functions, name)
        for name in ("FloorDiv", "CeilDiv", "Mod", "PythonMod", "ModularIndexing", "CleanDiv")
    },
    **{
        name: getattr(functions, name)
        for name in ("Max", "Min", "ToFloat", "IntTrueDiv", "FloorToInt", "CeilToInt", "TruncToInt")
    },
}


def parse_expression(text: str) -> sympy.Basic:
    """The expression that a text is.

    Raises ValueError if it is none of sums, products, quotients and comparisons over symbols, is
    long or deep, or sympy finds no value (a division by 0).
    """
    if len(text) > _MOST_TEXT:
        raise ValueError("is longer than any size's")
    parser = _Parser(_tokens(text))
    made = parser.expression(0)
    if parser.left:
        raise ValueError(f"has {parser.left[0]!r} where it should end")
    return made


def _tokens(text: str) -> list[str]:
    found, at = [], 0
    while at < len(text.rstrip()):
        match = _TOKEN.match(text, at)
        if match is None:
            raise ValueError(f"has {text[at : at + 20]!r}, which is no part of a size")
        found.append(match[0].strip())
        at = match.end()
    return found


class _Parser:
    """Takes tokens from the front of `left`."""

    def __init__(self, tokens: Sequence[str]) -> None:
        self.left = list(tokens)

    def expression(self, depth: int) -> Any:
        return self._chain(depth, ("+", "-"), self._term)

    def _term(self, depth: int) -> Any:
        return self._chain(depth, ("*", "//", "%"), self._factor)

    def _chain(self, depth: int, signs: Sequence[str], part: Callable[[int], Any]) -> Any:
        if depth > _MOST_DEPTH:
            raise ValueError("is deeper than any size's")
        made = part(depth + 1)
        while self.left and self.left[0] in signs:
            sign = self.left.pop(0)
            made = _applied(_BINARY[sign], (made, part(depth + 1)))
        return made

    def _factor(self, depth: int) -> Any:
        token = self._take()
        if token == "-":
            return -self._factor(depth)
        if token == "(":
            made = self.expression(depth + 1)
            self._take(")")
            return made
        if token[0].isdigit():
            return _integer(token)
        if token in _FLAGS:
            return sympy.true if _FLAGS[token] else sympy.false
        if self.left and self.left[0] == "(":
            return self._call(token, depth)
        if _SYMBOL.fullmatch(token):
            return sympy.Symbol(token, integer=True)
        raise ValueError(f"has {token!r}, which is no part of a size")

    def _call(self, name: str, depth: int) -> Any:
        self._take("(")
        if name == "Symbol":
            return self._declared()
        if name == "Integer":
            sign = -1 if self.left[:1] == ["-"] and self._take() else 1
            made = sign * _integer(self._take())
            self._take(")")
            return made
        arguments = [] if self.left[:1] == [")"] else [self.expression(depth + 1)]
        while self.left and self.left[0] == ",":
            self._take()
            arguments.append(self.expression(depth + 1))
        self._take(")")
        return _power(arguments) if name in ("Pow", "PowByNatural") else _called(name, arguments)

    def _declared(self) -> sympy.Symbol:
        """What stands after `Symbol(`: a quoted name, and what is assumed of it."""
        quoted = self._take()
        if not quoted.startswith("'"):
            raise ValueError(f"has {quoted!r} where a symbol's name should be")
        assumed: dict[str, bool] = {}
        while self.left[:1] != [")"]:
            self._take(",")
            name, _, value = self._take(), self._take("="), self._take()
            if name not in _ASSUMPTIONS or value not in _FLAGS:
                raise ValueError(f"assumes {name}={value} of a symbol")
            assumed[name] = _FLAGS[value]
        self._take(")")
        return sympy.Symbol(quoted[1:-1], **assumed)

    def _take(self, wanted: str = "") -> str:
        if not self.left:
            raise ValueError("is cut short")
        token = self.left.pop(0)
        if wanted and token != wanted:
            raise ValueError(f"has {token!r} where {wanted!r} should be")
        return token


def _integer(token: str) -> sympy.Integer:
    if not token.isdigit() or len(token) > _MOST_DIGITS:
        raise ValueError(f"has {token[:30]!r} where a number should be")
    return sympy.Integer(int(token))


def _called(name: str, arguments: Sequence[Any]) -> Any:
    if name not in _FUNCTIONS:
        raise ValueError(f"calls {name[:30]!r}, which may run code")
    return _applied(_FUNCTIONS[name], arguments)


def _power(arguments: Sequence[Any]) -> Any:
    """A product written as a power."""
    if len(arguments) != 2 or arguments[1] not in range(_MOST_POWER + 1):
        raise ValueError("has a power that is no small product")
    return arguments[0] ** arguments[1]


def _applied(function: Callable[..., Any], arguments: Sequence[Any]) -> Any:
    try:
        return function(*arguments)
    except Exception as error:  # sympy's functions raise what they like of what they are given
        raise ValueError(f"has no value: {error}") from error
