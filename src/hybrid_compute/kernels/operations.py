"""What is done to numbers, as Python: each value as large and as precise as its type has it."""

from __future__ import annotations

from abc import ABC, abstractmethod

from hybrid_compute.kernels.tree import Binary, Const, Convert, Expr, Site, Unary
from hybrid_compute.kernels.types import Scalar, f32

OPERATORS = {
    "add": "+", "sub": "-", "mul": "*", "truediv": "/", "floordiv": "//", "mod": "%", "and": "&", "or": "|", "xor": "^",
    "lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "==", "ne": "!=",
}  # fmt: skip
_GROWING = {"add", "sub", "mul", "floordiv", "shl", "neg", "abs"}
"""What may lead beyond the bits of an integer."""


class Operations(ABC):
    """Writes them, each as a statement; what is given back is the name of the value, or a literal."""

    def __init__(self, *, deterministic: bool) -> None:
        self._deterministic = deterministic

    @abstractmethod
    def say(self, text: str) -> None: ...

    @abstractmethod
    def new(self, text: str) -> str:
        """A local of our own with this value."""

    @abstractmethod
    def value(self, node: Expr) -> str: ...

    @abstractmethod
    def site(self, site: Site) -> str:
        """The name of a place that may fail."""

    def _result(self, op: str, type: Scalar, text: str) -> str:
        """The value of an operation, as large and as precise as its type has it."""
        found = self.new(f"single({text})" if type is Scalar.F32 else text)
        if type.is_integer and op in _GROWING:
            half = 1 << (type.bits - 1)
            self.say(f"if not -{half} <= {found} < {half}: {found} = wrap{type.bits}({found})")
        if type.is_float and self._deterministic and op not in {"neg", "abs", "min", "max"}:
            self.say(f"if {found} != {found}: {found} = nan")
        return found

    def unary(self, node: Unary) -> str:
        operand = self.value(node.operand)
        if node.op == "sqrt" and node.site is not None:
            self.say(f"if {operand} < 0: fail({self.site(node.site)})")
        sign = {"neg": "-", "invert": "~", "not": "not "}.get(node.op)
        return self._result(node.op, node.type, f"{node.op}({operand})" if sign is None else f"{sign}{operand}")

    def binary(self, node: Binary) -> str:
        op, left, right = node.op, self.value(node.left), self.value(node.right)
        if node.site is not None:
            wrong = f"{right} < 0" if op in {"shl", "shr"} else f"not {right}"
            self.say(f"if {wrong}: fail({self.site(node.site)})")
        if op in {"min", "max"}:
            text = f"{op}({left}, {right})"
        elif op == "shl":
            text = f"{left} << {right} if {right} < {node.type.bits} else 0"
        elif op == "shr":
            text = f"{left} >> {right}"
        else:
            text = f"{left} {OPERATORS[op]} {right}"
        return self._result(op, node.type, text)

    def convert(self, node: Convert) -> str:
        operand, given = self.value(node.operand), node.operand.type
        if node.site is not None:
            return self.new(f"whole({operand}, {self.site(node.site)})")
        match node.type:
            case Scalar.I32 if given is Scalar.INT:
                return self.new(f"wrap32({operand})")
            case Scalar.F32 if given is Scalar.INT:
                return self.new(f"single_of({operand})")
            case Scalar.F32 | Scalar.FLOAT:
                return self._result("convert", node.type, f"float({operand})")
            case _:
                return self.new(f"int({operand})")


def literal(node: Const) -> str:
    if node.type is Scalar.BOOL:
        return str(bool(node.value))
    if not node.type.is_float:
        return f"({int(node.value)})"
    return f"({f32(node.value) if node.type is Scalar.F32 else float(node.value)!r})"
