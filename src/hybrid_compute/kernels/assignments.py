"""Assignments: to names, to elements of arrays, to several at once."""

from __future__ import annotations

import ast

from hybrid_compute.kernels.functions import Functions
from hybrid_compute.kernels.tree import Assign, Call, Const, Expr, Load, Local, Statement, Store, any_of
from hybrid_compute.kernels.types import ArrayType, Scalar, read_annotation


class Assignments(Functions):
    """Translates assignments."""

    def bind(self, node: ast.AST, name: str, value: Expr) -> Assign:
        """Give a name a value: the first one decides upon its type."""
        if isinstance(self.function.parameters.get(name), ArrayType):
            self.refuse(node, f"{name} is an array, and stays the one that was given")
        if name in self.inner:
            self.refuse(node, f"{name} is a function here, and stays one")
        type = self._scalar(value, node)
        known = self.function.locals.setdefault(name, type)
        statement = Assign(name, self.coerced(node, value, known, f"{name}, by its first value or its annotation,"))
        if self.known is not None:
            self.known.add(name)
        return statement

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
        type = read_annotation(self.source.evaluate(node.annotation))
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


def _once(indexes: tuple[Expr, ...], operand: Expr) -> bool:
    """Whether the second use of these could be another element, or be noticed.

    It is, if they call a kernel, or read what one that the operand calls may change.
    """
    if any_of(indexes, lambda each: isinstance(each, Call)):
        return True
    changes = any_of(operand, lambda each: isinstance(each, Call))
    return changes and any_of(indexes, lambda each: isinstance(each, Load))
