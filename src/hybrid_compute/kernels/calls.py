"""What a kernel may call: kernels, functions of `math`, and a few of Python's own."""

from __future__ import annotations

import ast
import math
from collections.abc import Sequence
from typing import Any

from hybrid_compute.kernels.conversions import arithmetic, common, convert, truth
from hybrid_compute.kernels.operators import Operators
from hybrid_compute.kernels.source import MISSING
from hybrid_compute.kernels.tree import Binary, Call, Compare, Const, Convert, Expr, Function, Host, Length, Unary
from hybrid_compute.kernels.types import SCALARS, ArrayType, Scalar

OF_PYTHON: dict[Any, tuple[str, int]] = {
    getattr(math, name): (name, arity)
    for arity, names in {
        1: "sin cos tan asin acos atan sinh cosh tanh asinh acosh atanh exp expm1 log log2 log10 log1p erf erfc "
        "gamma lgamma degrees radians cbrt exp2",
        2: "atan2 pow fmod hypot copysign",
    }.items()
    for name in names.split()
    if hasattr(math, name)
}
"""Functions that are asked of the host, so that they give what Python gives, to the last bit."""

ROUNDING: dict[Any, str] = {math.floor: "floor", math.ceil: "ceil", math.trunc: "trunc", round: "nearest", int: "trunc"}
NO_NUMBER = "cannot convert float NaN to integer"


class Calls(Operators):
    """Translates calls."""

    def _call(self, node: ast.Call) -> Expr:
        if isinstance(node.func, ast.Name) and node.func.id == self.source.name:
            return self.kernel(node, self.function)
        called = self.reference(node.func)
        name = ast.unparse(node.func)
        if called is len:
            self._arity(node, 1)
            return Length(self.array(node.args[0])[0], 0)
        self._by_position(node)
        if called is not MISSING:
            function = self._resolve(called)
            if function is not None:
                return self.kernel(node, function)
            if called in (min, max) and len(node.args) > 1:
                return self._extreme(node, "min" if called is min else "max")
            known = self._builtin(node, called)
            if known is not None:
                return known
        if callable(called):
            self.refuse(node, f"{name} is no kernel: make it one with @kernel, or call it outside")
        self.refuse(
            node, f"{name} cannot be called here: a kernel calls kernels, functions of `math`, and a few of Python"
        )

    def _by_position(self, node: ast.Call) -> None:
        if node.keywords:
            self.refuse(node, "what a kernel calls takes its arguments by position")

    def _arity(self, node: ast.Call, count: int) -> None:
        if len(node.args) != count or any(isinstance(argument, ast.Starred) for argument in node.args):
            self.refuse(
                node, f"{ast.unparse(node.func)} takes {count} {'argument' if count == 1 else 'arguments'} here"
            )

    def _builtin(self, node: ast.Call, called: Any) -> Expr | None:
        """A call of a function of Python's; None if there is no such one here."""
        try:
            hash(called)
        except TypeError:
            return None
        if called in OF_PYTHON:
            name, arity = OF_PYTHON[called]
            self._arity(node, arity)
            values = [self.expression(argument) for argument in node.args]
            for value in values:
                self._scalar(value, node)
            return Host(Scalar.FLOAT, name, tuple(convert(value, Scalar.FLOAT) for value in values))
        simple = (
            called in SCALARS
            or called in ROUNDING
            or called in (abs, math.sqrt, math.fabs, math.isnan, math.isinf, math.isfinite)
        )
        if not simple:
            return None
        self._arity(node, 1)
        value = self.expression(node.args[0])
        type = self._scalar(value, node)
        if called in ROUNDING:
            if not type.is_float:
                return convert(value, Scalar.INT)
            wide = convert(value, Scalar.FLOAT)
            return Convert(
                Scalar.INT, Unary(Scalar.FLOAT, ROUNDING[called], wide), self.site(node, ValueError, NO_NUMBER)
            )
        if called is bool:
            return truth(value)
        if called in SCALARS:
            return self._cast(node, value, SCALARS[called])
        if called is abs:
            number = arithmetic(type)
            return Unary(number, "abs", convert(value, number))
        number = type if type.is_float else Scalar.FLOAT
        value = convert(value, number)
        if called is math.fabs:
            return Unary(number, "abs", value)
        if called is math.sqrt:
            return Unary(number, "sqrt", value, self.site(node, ValueError, "math domain error"))
        first, again = self.keep(value)
        if called is math.isnan:
            return Compare("ne", first, again)
        distance = Unary(number, "abs", first)
        if called is math.isinf:
            return Compare("eq", distance, Const(number, math.inf))
        return Compare("lt", distance, Const(number, math.inf))

    def _cast(self, node: ast.AST, value: Expr, type: Scalar) -> Expr:
        given = self._scalar(value, node)
        if given.is_float and type.is_integer:  # by way of 64 bits, of which the lower ones stay
            whole = Unary(Scalar.FLOAT, "trunc", convert(value, Scalar.FLOAT))
            value = Convert(Scalar.INT, whole, self.site(node, ValueError, NO_NUMBER))
        if isinstance(value, Const):
            value = Const(value.type, value.value, weak=False)
        return convert(value, type)

    def _extreme(self, node: ast.Call, op: str) -> Expr:
        """`min` and `max` of two or more: the first of equals, and of a NaN what Python makes of it."""
        values = [self.expression(argument) for argument in node.args]
        result = values[0]
        for value in values[1:]:
            self._scalar(value, node)
            type = arithmetic(common(result, value))
            result = Binary(type, op, convert(result, type), convert(value, type))
        return result

    def kernel(self, node: ast.Call, function: Function, passed: Sequence[Expr | str] = ()) -> Expr:
        """A call of a kernel, which is given what is `passed` after the arguments that are written."""
        self._by_position(node)
        own = list(function.parameters.items())[: len(function.parameters) - len(passed)]
        if len(node.args) != len(own):
            self.refuse(node, f"{function.name} takes {len(own)} arguments, and is given {len(node.args)}")
        arguments: list[Expr | str] = []
        for argument, (name, type) in zip(node.args, own, strict=True):
            if isinstance(type, ArrayType):
                given, of = self.array(argument)
                if of != type:
                    self.refuse(node, f"{function.name} takes an {type.value} as {name}, and {given} is an {of.value}")
                arguments.append(given)
            else:
                value = self.expression(argument)
                self._scalar(value, argument)
                arguments.append(self.coerced(argument, value, type, f"the argument {name} of {function.name}"))
        if function not in self.function.calls:
            self.function.calls.append(function)
        return Call(function.result, function, (*arguments, *passed))
