"""Expressions: from Python's tree to ours, each with its type, or a refusal."""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable
from typing import Any, NoReturn

from hybrid_compute.kernels.conversions import arithmetic, common, convert, fits, may_become, truth
from hybrid_compute.kernels.source import MISSING, Source
from hybrid_compute.kernels.tree import (
    Binary,
    Call,
    Choose,
    Compare,
    Const,
    Convert,
    Expr,
    Function,
    Host,
    Keep,
    Length,
    Load,
    Local,
    Site,
    Unary,
)
from hybrid_compute.kernels.types import SCALARS, ArrayType, Scalar

BINARY: dict[type[ast.operator], tuple[str, Callable[[Any, Any], Any]]] = {
    ast.Add: ("add", operator.add),
    ast.Sub: ("sub", operator.sub),
    ast.Mult: ("mul", operator.mul),
    ast.Div: ("truediv", operator.truediv),
    ast.FloorDiv: ("floordiv", operator.floordiv),
    ast.Mod: ("mod", operator.mod),
    ast.LShift: ("shl", operator.lshift),
    ast.RShift: ("shr", operator.rshift),
    ast.BitAnd: ("and", operator.and_),
    ast.BitOr: ("or", operator.or_),
    ast.BitXor: ("xor", operator.xor),
}
COMPARISONS: dict[type[ast.cmpop], str] = {
    ast.Lt: "lt",
    ast.LtE: "le",
    ast.Gt: "gt",
    ast.GtE: "ge",
    ast.Eq: "eq",
    ast.NotEq: "ne",
}
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

    def test(self, node: ast.expr) -> Expr:
        """What `if` makes of an expression."""
        if isinstance(node, ast.BoolOp):
            return self._lazily(node, [self.test(value) for value in node.values])
        return truth(self.expression(node))

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

    # Operators.

    def _unaryop(self, node: ast.UnaryOp) -> Expr:
        if isinstance(node.op, ast.Not):
            return Unary(Scalar.BOOL, "not", self.test(node.operand))
        if isinstance(node.op, ast.USub) and isinstance(node.operand, ast.Constant) and node.operand.value == 1 << 63:
            return Const(Scalar.INT, -(1 << 63))  # the one number that has no positive twin
        value = self.expression(node.operand)
        type = arithmetic(self._scalar(value, node))
        value = convert(value, type)
        if isinstance(node.op, ast.UAdd):
            return value
        if isinstance(value, Const) and value.value != -(1 << 63):
            if isinstance(node.op, ast.USub):
                return Const(type, -value.value, value.weak)
            if type.is_integer:
                return Const(type, ~int(value.value), value.weak)
        if isinstance(node.op, ast.Invert) and type.is_float:
            self.refuse(node, "a float has no bits to turn round")
        return Unary(type, "neg" if isinstance(node.op, ast.USub) else "invert", value)

    def _binop(self, node: ast.BinOp) -> Expr:
        return self.operation(node, node.op, self.expression(node.left), self.expression(node.right))

    def operation(self, node: ast.AST, op: ast.operator, left: Expr, right: Expr) -> Expr:
        """`left op right`, as Python has it."""
        self._scalar(left, node)
        self._scalar(right, node)
        if isinstance(op, ast.Pow):
            return self._power(node, left, right)
        if type(op) not in BINARY:
            self.refuse(node, "a kernel multiplies no matrices by itself: write the loops")
        name, python = BINARY[type(op)]
        folded = self._folded(node, python, left, right)
        if folded is not None:
            return folded
        type_ = common(left, right)
        if not (type_ is Scalar.BOOL and name in {"and", "or", "xor"}):
            type_ = arithmetic(type_)
        if type_.is_float and name in {"shl", "shr", "and", "or", "xor"}:
            self.refuse(node, "a float has no bits to shift or combine: write int(...) if meant")
        if name == "truediv" and type_ is Scalar.I32:
            type_ = Scalar.FLOAT
        left, right = convert(left, type_), convert(right, type_)
        result = Scalar.FLOAT if name == "truediv" and type_.is_integer else type_
        return Binary(result, name, left, right, self._risk(node, name, right))

    def _risk(self, node: ast.AST, name: str, right: Expr) -> Site | None:
        """What can go wrong in this operation, unless its right side is a constant that prevents it."""
        constant = right.value if isinstance(right, Const) else None
        if name in {"truediv", "floordiv", "mod"} and not constant:
            return self.site(node, ZeroDivisionError, "division by zero")
        if name in {"shl", "shr"} and (constant is None or constant < 0):
            return self.site(node, ValueError, "negative shift count")
        return None

    def _folded(self, node: ast.AST, python: Callable[[Any, Any], Any], left: Expr, right: Expr) -> Expr | None:
        """What two literals give, which Python can tell right now."""
        if not (isinstance(left, Const) and isinstance(right, Const) and left.weak and right.weak):
            return None
        if python is operator.lshift and not 0 <= right.value < 64:
            return None
        try:
            return self._literal(node, python(left.value, right.value))
        except ArithmeticError:
            return None  # so it fails when it is run, as in Python
        except TypeError:
            return None  # so it is refused below

    def _power(self, node: ast.AST, base: Expr, exponent: Expr) -> Expr:
        constant = exponent.value if isinstance(exponent, Const) else None
        type = arithmetic(common(base, exponent) if constant is None else self._scalar(base, node))
        whole = isinstance(constant, int) and 0 <= constant <= 64
        if type.is_integer and not (isinstance(constant, float) or whole):
            self.refuse(node, "an integer is raised only to a constant from 0 to 64: write float(x) ** y, or a loop")
        if whole and (type.is_integer or self.function.fast):
            assert isinstance(constant, int)
            return self._product(convert(base, type), constant)
        return Host(Scalar.FLOAT, "power", (convert(base, Scalar.FLOAT), convert(exponent, Scalar.FLOAT)))

    def _product(self, base: Expr, exponent: int) -> Expr:
        """`base ** exponent` by squaring."""
        assert base.type is not None
        type = base.type
        if exponent == 0:
            return Const(type, 1.0 if type.is_float else 1, weak=False)
        if exponent == 1:
            return base
        half, again = self.keep(self._product(base, exponent // 2))
        if exponent % 2 == 0:
            return Binary(type, "mul", half, again)
        first, base = self.keep(base)
        half, again = self.keep(self._product(first, exponent // 2))
        return Binary(type, "mul", Binary(type, "mul", half, again), base)

    def _compare(self, node: ast.Compare) -> Expr:
        left = self.expression(node.left)
        tests: list[Expr] = []
        for index, (op, side) in enumerate(zip(node.ops, node.comparators, strict=True)):
            if type(op) not in COMPARISONS:
                self.refuse(node, "a kernel compares numbers: < <= > >= == !=")
            right = self.expression(side)
            following = right
            if index < len(node.ops) - 1:
                right, following = self.keep(right)
            tests.append(self._comparison(node, COMPARISONS[type(op)], left, right))
            left = following
        return self._lazily(node, tests)

    def _comparison(self, node: ast.AST, op: str, left: Expr, right: Expr) -> Expr:
        self._scalar(left, node)
        self._scalar(right, node)
        whole = [each for each in (left, right) if each.type is Scalar.INT]
        other = [each for each in (left, right) if each.type is not None and each.type.is_float]
        if whole and other and not _is_exact(whole[0]):
            # An integer is not always exact as a float: the two meet as they are.
            left, right = (each if each in whole else convert(each, Scalar.FLOAT) for each in (left, right))
            return Compare(op, left, right)
        type = common(left, right)
        return Compare(op, convert(left, type), convert(right, type))

    def _lazily(self, node: ast.AST, tests: list[Expr], op: type[ast.boolop] = ast.And) -> Expr:
        """Tests of which the later ones are made only as long as the result is open."""
        if isinstance(node, ast.BoolOp):
            op = type(node.op)
        result = tests[-1]
        for test in reversed(tests[:-1]):
            if op is ast.And:
                result = Choose(Scalar.BOOL, test, result, Const(Scalar.BOOL, 0))
            else:
                result = Choose(Scalar.BOOL, test, Const(Scalar.BOOL, 1), result)
        return result

    def _boolop(self, node: ast.BoolOp) -> Expr:
        """`a and b`, where the value is one of the two."""
        values = [self.expression(value) for value in node.values]
        if all(value.type is Scalar.BOOL for value in values):
            return self._lazily(node, values)
        type = values[0].type
        for value in values[1:]:
            type = common(Local(type, "") if type is not None else value, value)
        if type is None or any(value.type is Scalar.BOOL for value in values):
            self.refuse(node, "`and` and `or` have bools here, or numbers, but not both")
        result = convert(values[-1], type)
        for value in reversed(values[:-1]):
            first, again = self.keep(convert(value, type))
            result = Choose(type, truth(first), *((result, again) if isinstance(node.op, ast.And) else (again, result)))
        return result

    def _ifexp(self, node: ast.IfExp) -> Expr:
        test, yes, no = self.test(node.test), self.expression(node.body), self.expression(node.orelse)
        self._scalar(yes, node)
        self._scalar(no, node)
        type = common(yes, no)
        if Scalar.BOOL in {yes.type, no.type} and yes.type is not no.type:
            self.refuse(node, "one side is a bool, the other a number")
        return Choose(type, test, convert(yes, type), convert(no, type))

    def _scalar(self, value: Expr, node: ast.AST) -> Scalar:
        if value.type is None:
            self.refuse(node, "that kernel gives nothing back")
        return value.type

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

    # Calls.

    def _call(self, node: ast.Call) -> Expr:
        if node.keywords:
            self.refuse(node, "what a kernel calls takes its arguments by position")
        if isinstance(node.func, ast.Name) and node.func.id == self.source.name:
            return self._kernel(node, self.function)
        called = self.reference(node.func)
        name = ast.unparse(node.func)
        if called is len:
            self._arity(node, 1)
            return Length(self.array(node.args[0])[0], 0)
        if called is not MISSING:
            function = self._resolve(called)
            if function is not None:
                return self._kernel(node, function)
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

    def _kernel(self, node: ast.Call, function: Function) -> Expr:
        if len(node.args) != len(function.parameters):
            self.refuse(
                node, f"{function.name} takes {len(function.parameters)} arguments, and is given {len(node.args)}"
            )
        arguments: list[Expr | str] = []
        for argument, (name, type) in zip(node.args, function.parameters.items(), strict=True):
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
        return Call(function.result, function, tuple(arguments))


def _is_exact(value: Expr) -> bool:
    """Whether this integer is the same as a float."""
    return isinstance(value, Const) and abs(value.value) <= 2**53
