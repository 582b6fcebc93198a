"""Expressions, from Python's tree to ours, each with its type, or a refusal: here names, literals and arrays.

`operators` adds what is done to values, `calls` what is called, `statements` the rest of a kernel.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any, NoReturn

from hybrid_compute.kernels.conversions import convert, fits, may_become
from hybrid_compute.kernels.source import MISSING, Source
from hybrid_compute.kernels.tree import Const, Expr, Function, Keep, Length, Load, Local, Site
from hybrid_compute.kernels.types import ArrayType, Scalar


class Expressions:
    """Translates the expressions of one function."""

    def __init__(self, source: Source, function: Function, resolve: Callable[[Any], Function | None]) -> None:
        self.source = source
        self.function = function
        self.known: set[str] | None = set(function.parameters)
        """The names that have a value here, whichever way was taken; None where nobody comes."""
        self._resolve = resolve
        self._kept = 0

    def refuse(self, node: ast.AST, reason: str) -> NoReturn:
        self.source.refuse(node, reason)

    def site(self, node: ast.AST, error: type[Exception], text: str) -> Site:
        return Site(error, text, f"{self.source.where(node)}, in {self.source.name}: {self.source.text(node)}")

    def expression(self, node: ast.expr) -> Expr:
        """The value of an expression."""
        method = getattr(self, f"_{type(node).__name__.lower()}", None)
        if method is None:
            self.refuse(node, f"{type(node).__name__} is no expression of a kernel; it has numbers and arrays of them")
        value: Expr = method(node)
        return value

    def coerced(self, node: ast.AST, value: Expr, type: Scalar, what: str) -> Expr:
        """A value for something that has a type already."""
        if not may_become(value, type):
            given = value.type.value if value.type is not None else "None"
            hint = "int(...)" if type.is_integer else f"{type.value}(...)"
            self.refuse(node, f"{what} is of type {type.value}, and this is of type {given}: write {hint} if meant")
        if isinstance(value, Const) and value.weak and not fits(value.value, type):
            self.refuse(node, f"{value.value} does not fit in {type.bits} bits")
        return convert(value, type)

    def keep(self, value: Expr) -> tuple[Expr, Expr]:
        """A value to be used twice: how to write it first, and how then."""
        if isinstance(value, Const | Local):
            return value, value
        assert value.type is not None
        name = self.temporary(value.type)
        return Keep(value.type, name, value), Local(value.type, name)

    def temporary(self, type: Scalar) -> str:
        self._kept += 1
        name = f".{self._kept}"  # no name of Python's has a dot
        self.function.locals[name] = type
        return name

    def _scalar(self, value: Expr, node: ast.AST) -> Scalar:
        if value.type is None:
            self.refuse(node, "that kernel gives nothing back")
        return value.type

    # Names and literals.

    def _constant(self, node: ast.Constant) -> Expr:
        return self._literal(node, node.value)

    def _literal(self, node: ast.AST, value: object) -> Expr:
        if isinstance(value, bool):
            return Const(Scalar.BOOL, int(value), weak=False)
        if type(value) is int:
            if not fits(value, Scalar.INT):
                self.refuse(node, f"{value} does not fit in 64 bits, of which one is the sign")
            return Const(Scalar.INT, value)
        if type(value) is float:
            return Const(Scalar.FLOAT, value)
        self.refuse(node, f"{value!r} is no value of a kernel: it has int, float and bool, and arrays as parameters")

    def _name(self, node: ast.Name) -> Expr:
        name = node.id
        if isinstance(self.function.parameters.get(name), ArrayType):
            self.refuse(node, f"{name} is an array, which can only be indexed, measured, or given to another kernel")
        if name in self.function.locals:
            if self.known is not None and name not in self.known:
                self.refuse(node, f"{name} may have no value here: give it one before")
            return Local(self.function.locals[name], name)
        if name in self.source.locals:
            self.refuse(node, f"{name} may have no value here: give it one before")
        value = self.source.lookup(name)
        if value is MISSING:
            self.refuse(node, f"{name} has no value yet: define it above, as a number or a kernel")
        if not isinstance(value, int | float):
            self.refuse(node, f"{name} is a {type(value).__name__}: of the names outside, a kernel reads only numbers")
        return self._literal(node, value)

    def _attribute(self, node: ast.Attribute) -> Expr:
        value = self.reference(node)
        if not isinstance(value, int | float):
            self.refuse(node, f"{ast.unparse(node)} is no number; of an array a kernel knows len(a) and a.shape[0]")
        return self._literal(node, value)

    def reference(self, node: ast.expr) -> Any:
        """What `name` or `module.name` outside the kernel stands for; MISSING if nothing."""
        match node:
            case ast.Name(id=name) if name not in self.function.locals and name not in self.function.parameters:
                return self.source.lookup(name)
            case ast.Attribute(value=ast.Name() as module, attr=name):
                return getattr(self.reference(module), name, MISSING)
            case _:
                return MISSING

    # Arrays.

    def array(self, node: ast.expr) -> tuple[str, ArrayType]:
        """The array parameter that this names."""
        if isinstance(node, ast.Name):
            type = self.function.parameters.get(node.id)
            if isinstance(type, ArrayType):
                return node.id, type
        self.refuse(
            node, f"{ast.unparse(node)} is no array: arrays are parameters, annotated with Array[...] or Array2"
        )

    def _subscript(self, node: ast.Subscript) -> Expr:
        if isinstance(node.value, ast.Attribute) and node.value.attr == "shape":
            name, type = self.array(node.value.value)
            axis = self.expression(node.slice)
            if not (isinstance(axis, Const) and -type.axes <= axis.value < type.axes):
                self.refuse(node, f"{name} has {type.axes} axes: {name}.shape[0] is how long the first is")
            return Length(name, int(axis.value) % type.axes)
        name, type = self.array(node.value)
        return Load(type.element.scalar, name, type, self.indexes(node, type), self.range_site(node, name))

    def indexes(self, node: ast.Subscript, type: ArrayType) -> tuple[Expr, ...]:
        parts = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        if len(parts) != type.axes:
            self.refuse(
                node, f"an {type.value} takes {type.axes} {'index' if type.axes == 1 else 'indexes'}, not {len(parts)}"
            )
        found: list[Expr] = []
        for part in parts:
            if isinstance(part, ast.Slice):
                self.refuse(node, "a kernel takes no slices: write the loop, or give it the slice from outside")
            value = self.expression(part)
            if self._scalar(value, node).is_float:
                self.refuse(node, "an index is an integer: write int(...) if meant")
            found.append(convert(value, Scalar.INT))
        return tuple(found)

    def range_site(self, node: ast.AST, name: str) -> Site:
        return self.site(node, IndexError, f"index {{index}} is out of range: {name} has {{length}} there")
