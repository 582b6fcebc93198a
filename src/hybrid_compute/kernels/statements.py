"""Statements: from Python's tree to ours, with the types of locals, and with no name read before it has a value."""

from __future__ import annotations

import ast
import builtins
import inspect
from collections.abc import Callable
from typing import Any

from hybrid_compute.kernels.calls import Calls
from hybrid_compute.kernels.conversions import convert
from hybrid_compute.kernels.source import Source
from hybrid_compute.kernels.tree import (
    Assign,
    Break,
    Call,
    Const,
    Continue,
    Do,
    Expr,
    Fail,
    For,
    Function,
    If,
    Load,
    Local,
    Return,
    Statement,
    Store,
    While,
    any_of,
)
from hybrid_compute.kernels.types import ArrayType, Scalar, read_annotation


class Statements(Calls):
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

    def bind(self, node: ast.AST, name: str, value: Expr) -> Assign:
        """Give a name a value: the first one decides upon its type."""
        if isinstance(self.function.parameters.get(name), ArrayType):
            self.refuse(node, f"{name} is an array, and stays the one that was given")
        type = self._scalar(value, node)
        known = self.function.locals.setdefault(name, type)
        statement = Assign(name, self.coerced(node, value, known, f"{name}, by its first value or its annotation,"))
        if self.known is not None:
            self.known.add(name)
        return statement

    # Assignments.

    def _assign(self, node: ast.Assign) -> list[Statement]:
        target = node.targets[0]
        if len(node.targets) == 1 and isinstance(target, ast.Tuple):
            return self._several(node, target)
        value = self.expression(node.value)
        if len(node.targets) == 1:
            return [self._into(node, target, value)]
        done: list[Statement] = [Assign(self.temporary(self._scalar(value, node)), value)]
        assert isinstance(done[0], Assign)
        again = Local(self._scalar(value, node), done[0].name)
        return done + [self._into(node, target, again) for target in node.targets]

    def _several(self, node: ast.Assign, target: ast.Tuple) -> list[Statement]:
        """`a, b = b, a + b`: all values first, then all names."""
        if not (isinstance(node.value, ast.Tuple) and len(node.value.elts) == len(target.elts)):
            self.refuse(node, "a tuple is only taken apart as it is written: a, b = b, a")
        values: list[Expr] = []
        first: list[Statement] = []
        for each in node.value.elts:
            value = self.expression(each)
            if isinstance(value, Const):
                values.append(value)
                continue
            name = self.temporary(self._scalar(value, node))
            first.append(Assign(name, value))
            values.append(Local(self._scalar(value, node), name))
        return first + [self._into(node, each, value) for each, value in zip(target.elts, values, strict=True)]

    def _into(self, node: ast.AST, target: ast.expr, value: Expr) -> Statement:
        if isinstance(target, ast.Name):
            return self.bind(node, target.id, value)
        if isinstance(target, ast.Subscript):
            return self._store(node, target, value)
        self.refuse(node, f"{ast.unparse(target)} cannot be assigned: a name can, and an element of an array")

    def _store(self, node: ast.AST, target: ast.Subscript, value: Expr) -> Store:
        name, type = self.array(target.value)
        indexes = self.indexes(target, type)
        scalar = type.element.scalar
        value = self.coerced(node, value, scalar, f"an element of {name}")
        return Store(name, type, indexes, value, self.range_site(target, name))

    def _annassign(self, node: ast.AnnAssign) -> list[Statement]:
        name = node.target
        if not isinstance(name, ast.Name) or node.value is None:
            self.refuse(node, "an annotation stands where a name gets its first value: total: f32 = 0.0")
        try:
            annotation = eval(  # as Python does with every annotation outside of a function
                ast.unparse(node.annotation), self.source.function.__globals__, self.source.closure
            )
        except Exception as error:  # an annotation may be any expression
            self.refuse(node, f"the annotation cannot be read: {error}")
        type = read_annotation(annotation)
        if not isinstance(type, Scalar):
            self.refuse(
                node, f"{ast.unparse(node.annotation)} is no type of a local: those are int, float, bool, i32, f32"
            )
        if self.function.locals.setdefault(name.id, type) is not type:
            self.refuse(node, f"{name.id} is of type {self.function.locals[name.id].value} already")
        return [self.bind(node, name.id, self.expression(node.value))]

    def _augassign(self, node: ast.AugAssign) -> list[Statement]:
        if isinstance(node.target, ast.Name):
            read = self.expression(ast.copy_location(ast.Name(node.target.id), node.target))
            return [self.bind(node, node.target.id, self.operation(node, node.op, read, self.expression(node.value)))]
        if not isinstance(node.target, ast.Subscript):
            self.refuse(node, f"{ast.unparse(node.target)} cannot be assigned: a name can, and an element of an array")
        name, type = self.array(node.target.value)
        indexes = self.indexes(node.target, type)
        operand = self.expression(node.value)
        before: list[Statement] = []
        if _once(indexes, operand):
            before = [Assign(self.temporary(Scalar.INT), index) for index in indexes]
            indexes = tuple(Local(Scalar.INT, each.name) for each in before if isinstance(each, Assign))
        site = self.range_site(node.target, name)
        read = Load(type.element.scalar, name, type, indexes, site)
        value = self.operation(node, node.op, read, operand)
        value = self.coerced(node, value, type.element.scalar, f"an element of {name}")
        return [*before, Store(name, type, indexes, value, site)]

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


def _once(indexes: tuple[Expr, ...], operand: Expr) -> bool:
    """Whether the second use of these could be another element, or be noticed.

    It is, if they call a kernel, or read what one that the operand calls may change.
    """
    if any_of(indexes, lambda each: isinstance(each, Call)):
        return True
    changes = any_of(operand, lambda each: isinstance(each, Call))
    return changes and any_of(indexes, lambda each: isinstance(each, Load))


def escaped(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")


def copy(known: set[str] | None) -> set[str] | None:
    return None if known is None else set(known)


def both(left: set[str] | None, right: set[str] | None) -> set[str] | None:
    """What is known where two ways meet."""
    if left is None or right is None:
        return copy(right if left is None else left)
    return left & right
