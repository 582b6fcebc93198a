"""Operators, comparisons and choices: from Python's tree to ours, with Python's meaning of each."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable
from typing import Any

from hybrid_compute.kernels.conversions import arithmetic, common, convert, truth
from hybrid_compute.kernels.expressions import Expressions
from hybrid_compute.kernels.tree import Binary, Choose, Compare, Const, Expr, Host, Local, Site, Unary
from hybrid_compute.kernels.types import Scalar

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


class Operators(Expressions):
    """Translates what is done to values."""

    # Numbers.

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

    # Comparisons.

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

    # Truth.

    def test(self, node: ast.expr) -> Expr:
        """What `if` makes of an expression."""
        if isinstance(node, ast.BoolOp):
            return self._lazily(node, [self.test(value) for value in node.values])
        return truth(self.expression(node))

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


def _is_exact(value: Expr) -> bool:
    """Whether this integer is the same as a float."""
    return isinstance(value, Const) and abs(value.value) <= 2**53
