"""Statements: from Python's tree to ours, with the types of locals, and with no name read before it has a value."""

from __future__ import annotations

import ast
import builtins
import inspect
from collections.abc import Callable
from typing import Any

from hybrid_compute.kernels.assignments import Assignments
from hybrid_compute.kernels.conversions import convert
from hybrid_compute.kernels.source import Source
from hybrid_compute.kernels.tree import (
    Break,
    Const,
    Continue,
    Do,
    Expr,
    Fail,
    For,
    Function,
    If,
    Local,
    Return,
    Statement,
    While,
)
from hybrid_compute.kernels.types import Scalar


class Statements(Assignments):
    """Translates the statements of one function."""

    def __init__(self, source: Source, function: Function, resolve: Callable[[Any], Function | None]) -> None:
        super().__init__(source, function, resolve)
        self._breaks: list[list[set[str] | None]] = []
        """For each loop around, the names known at each `break`."""

    def translate(self) -> None:
        self.function.body = self.block(self.source.tree.body)
        if self.known is not None and self.function.result is not None:
            self.refuse(self.source.tree, "it can end without a `return`, and says that it gives a value")

    def block(self, nodes: list[ast.stmt]) -> list[Statement]:
        return [statement for node in nodes for statement in self.statement(node)]

    def statement(self, node: ast.stmt) -> list[Statement]:
        method = getattr(self, f"_{type(node).__name__.lower()}", None)
        if method is None:
            self.refuse(
                node,
                f"{type(node).__name__} is no statement of a kernel: it has assignments, if, for, while and return",
            )
        found: list[Statement] = method(node)
        return found

    # Branches and loops.

    def _if(self, node: ast.If) -> list[Statement]:
        test = self.test(node.test)
        before = copy(self.known)
        yes = self.block(node.body)
        after, self.known = self.known, before
        no = self.block(node.orelse)
        self.known = both(after, self.known)
        return [If(test, yes, no)]

    def _while(self, node: ast.While) -> list[Statement]:
        self._no_else(node)
        test = self.test(node.test)
        endless = isinstance(test, Const) and bool(test.value)
        before = copy(self.known)
        body, breaks = self._body(node.body)
        self.known = None if endless else before
        for known in breaks:
            self.known = both(self.known, known)
        return [While(test, body)]

    def _body(self, nodes: list[ast.stmt]) -> tuple[list[Statement], list[set[str] | None]]:
        self._breaks.append([])
        body = self.block(nodes)
        return body, self._breaks.pop()

    def _no_else(self, node: ast.For | ast.While) -> None:
        if node.orelse:
            self.refuse(node.orelse[0], "a loop of a kernel has no else")

    def _for(self, node: ast.For) -> list[Statement]:
        self._no_else(node)
        if not (
            isinstance(node.iter, ast.Call)
            and self.reference(node.iter.func) is range
            and 1 <= len(node.iter.args) <= 3
            and not node.iter.keywords
        ):
            self.refuse(node, "a kernel loops over range(...): for i in range(len(a))")
        if not isinstance(node.target, ast.Name):
            self.refuse(node, "a loop gives its numbers to one name: for i in range(n)")
        bounds = [self._bound(argument) for argument in node.iter.args]
        start: Expr = bounds[0] if len(bounds) > 1 else Const(Scalar.INT, 0)
        stop = bounds[1] if len(bounds) > 1 else bounds[0]
        step: Expr = bounds[2] if len(bounds) > 2 else Const(Scalar.INT, 1)
        site = None
        if not (isinstance(step, Const) and step.value):
            site = self.site(node, ValueError, "range() arg 3 must not be zero")
        name, before = node.target.id, copy(self.known)
        self.bind(node, name, Local(Scalar.INT, ""))
        if self.function.locals[name] is not Scalar.INT:
            self.refuse(
                node, f"{name} is of type {self.function.locals[name].value} already: give the loop a name of its own"
            )
        body, _ = self._body(node.body)
        self.known = before
        return [For(name, Scalar.INT, start, stop, step, body, site)]

    def _bound(self, node: ast.expr) -> Expr:
        value = self.expression(node)
        if self._scalar(value, node).is_float:
            self.refuse(node, "a range has integers: write int(...) if meant")
        return convert(value, Scalar.INT)

    def _break(self, node: ast.Break) -> list[Statement]:
        self._breaks[-1].append(copy(self.known))
        self.known = None
        return [Break()]

    def _continue(self, node: ast.Continue) -> list[Statement]:
        self.known = None
        return [Continue()]

    # The rest.

    def _return(self, node: ast.Return) -> list[Statement]:
        result, value = self.function.result, None
        if isinstance(node.value, ast.Constant) and node.value.value is None:
            node = ast.copy_location(ast.Return(), node)
        if (node.value is None) != (result is None):
            gives = "nothing" if result is None else f"a value of type {result.value}"
            self.refuse(node, f"by its annotation {self.function.name} gives {gives}: def ...(...) -> int, say")
        if node.value is not None and result is not None:
            given = self.expression(node.value)
            self._scalar(given, node)
            value = self.coerced(node, given, result, f"what {self.function.name} gives")
        self.known = None
        return [Return(value)]

    def _pass(self, node: ast.Pass) -> list[Statement]:
        return []

    def _expr(self, node: ast.Expr) -> list[Statement]:
        if isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            return []  # a docstring, or a comment of the old kind
        return [Do(self.expression(node.value))]

    def _assert(self, node: ast.Assert) -> list[Statement]:
        text = node.msg.value if isinstance(node.msg, ast.Constant) else ""
        return [If(self.test(node.test), [], [Fail(self.site(node, AssertionError, escaped(str(text))))])]

    def _raise(self, node: ast.Raise) -> list[Statement]:
        match node.exc:
            case ast.Call(func=ast.Name(id=name), args=[ast.Constant(value=str(text))], keywords=[]):
                pass
            case ast.Name(id=name):
                text = ""
            case _:
                self.refuse(node, 'a kernel raises with a fixed text: raise ValueError("too few")')
        error = getattr(builtins, name, None)
        if self.source.lookup(name) is not error or not (inspect.isclass(error) and issubclass(error, Exception)):
            self.refuse(node, f"a kernel raises exceptions that Python has, and {name} is none")
        self.known = None
        return [Fail(self.site(node, error, escaped(text)))]


def escaped(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")


def copy(known: set[str] | None) -> set[str] | None:
    return None if known is None else set(known)


def both(left: set[str] | None, right: set[str] | None) -> set[str] | None:
    """What is known where two ways meet."""
    if left is None or right is None:
        return copy(right if left is None else left)
    return left & right
