"""Whole numbers that a shader reckons before it runs: `@workgroup_size(2 * SIZE)`, where SIZE is a const.

Of https://www.w3.org/TR/WGSL/#const-expr it knows numbers, the consts of the module, `+ - * / %` and brackets.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Mapping

_TOKEN = re.compile(r"\w+|\S")


class Consts:
    """The consts of a module, by their names: texts, of which not every one need be a whole number."""

    def __init__(self, texts: Mapping[str, str]) -> None:
        self._texts = dict(texts)
        self._known: dict[str, int] = {}

    def value(self, text: str) -> int:
        """What this comes to. Raises `ValueError` if that is not understood."""
        try:
            # A name is replaced by its number, so that what is left means the same to Python.
            tree = ast.parse(" ".join(map(self._plain, _TOKEN.findall(text))), mode="eval")
        except SyntaxError as error:
            raise ValueError(f"{text!r} is no expression") from error
        return _value(tree.body)

    def plain(self, text: str) -> str:
        """The digits of what this comes to; if that is not understood, the text."""
        try:
            return str(self.value(text))
        except ValueError:
            return text.strip()

    def _plain(self, token: str) -> str:
        if token in "+-*/%()":
            return token
        return str(int(token.rstrip("iu"), 0)) if token[0].isdigit() else f"({self._named(token)})"

    def _named(self, name: str) -> int:
        if name not in self._known:
            if name not in self._texts:
                raise ValueError(f"{name!r} is no const")
            self._known[name] = self.value(self._texts.pop(name))  # one that needs itself does not find itself
        return self._known[name]


def _value(node: ast.expr) -> int:
    match node:
        case ast.Constant(value=int() as number):
            return number
        case ast.UnaryOp(op=ast.USub()):
            return -_value(node.operand)
        case ast.BinOp() if type(node.op) in _OPERATIONS:
            return _OPERATIONS[type(node.op)](_value(node.left), _value(node.right))
        case _:
            raise ValueError(f"{ast.unparse(node)} is no whole number")


def _quotient(a: int, b: int) -> int:
    """Rounded towards zero, as shaders do it."""
    if b == 0:
        raise ValueError("it divides by zero")
    return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


def _remainder(a: int, b: int) -> int:
    return a - b * _quotient(a, b)


_OPERATIONS: Mapping[type[ast.operator], Callable[[int, int], int]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: _quotient,
    ast.Mod: _remainder,
}
