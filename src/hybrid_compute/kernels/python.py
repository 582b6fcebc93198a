"""From the typed tree to Python again, for where there is no WASM: with the same results, to the last bit.

The plain function would not do: its integers do not wrap around, and its f32 are doubles. Each operation is a statement
of its own, as it is an instruction there; what Python has no operator for is in `meaning`.

    y[i] += a * x[i]    ──>    t1 = v_y[v_i if 0 <= v_i < n0_y else place(v_i, n0_y, s1)]
                               t2 = v_x[v_i if 0 <= v_i < n0_x else place(v_i, n0_x, s2)]
                               t3 = v_a * t2  ...
"""

from __future__ import annotations

import ast
import math
from collections.abc import Callable
from typing import Any

from hybrid_compute.kernels import meaning
from hybrid_compute.kernels.prelude import HOST
from hybrid_compute.kernels.tree import (
    Assign,
    Binary,
    Break,
    Call,
    Choose,
    Compare,
    Const,
    Continue,
    Convert,
    Do,
    Expr,
    Fail,
    For,
    Function,
    Host,
    If,
    Keep,
    Length,
    Load,
    Local,
    Return,
    Site,
    Statement,
    Store,
    Unary,
    While,
)
from hybrid_compute.kernels.types import ArrayType, Scalar, f32

OPERATORS = {
    "add": "+", "sub": "-", "mul": "*", "truediv": "/", "floordiv": "//", "mod": "%", "and": "&", "or": "|", "xor": "^",
    "lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "==", "ne": "!=",
}  # fmt: skip
_GROWING = {"add", "sub", "mul", "floordiv", "shl", "neg", "abs"}
"""What may lead beyond the bits of an integer."""


def python(function: Function, *, deterministic: bool) -> Callable[..., Any]:
    """A function of Python's that takes what the compiled one takes, and for an array something with its elements."""
    module = _Module(deterministic)
    name = module.name(function)
    tree = ast.fix_missing_locations(ast.Module(module.functions, []))
    exec(compile(tree, f"<kernel {function.name}, as Python>", "exec"), module.scope)
    made: Callable[..., Any] = module.scope[name]
    return made


class _Module:
    """A kernel, and the kernels it calls."""

    def __init__(self, deterministic: bool) -> None:
        self.deterministic = deterministic
        self.functions: list[ast.stmt] = []
        self.scope: dict[str, Any] = {**vars(meaning), "inf": math.inf, "nan": math.nan, "sqrt": math.sqrt}
        self.scope |= {f"host_{name}": function for name, (function, _) in HOST.items()}
        self._names: dict[int, str] = {}
        self._sites = 0

    def name(self, function: Function) -> str:
        if id(function) not in self._names:
            self._names[id(function)] = f"f{len(self._names)}"
            self.functions += _Function(self, function).write()
        return self._names[id(function)]

    def site(self, site: Site) -> str:
        self._sites += 1
        self.scope[f"s{self._sites}"] = site
        return f"s{self._sites}"


class _Function:
    """Writes one function."""

    def __init__(self, module: _Module, function: Function) -> None:
        self._module = module
        self._function = function
        self._out: list[ast.stmt] = []
        self._count = 0

    def write(self) -> list[ast.stmt]:
        parameters: list[str] = []
        for name, type in self._function.parameters.items():
            parameters.append(_local(name))
            if isinstance(type, ArrayType):
                parameters += [_length(name, axis) for axis in range(type.axes)]
        name = self._module.name(self._function)
        return self._compound(f"def {name}({', '.join(parameters)}): pass", lambda: self._block(self._function.body))

    # Text.

    def _say(self, text: str) -> None:
        self._out += ast.parse(text).body

    def _compound(self, head: str, *bodies: Callable[[], object]) -> list[ast.stmt]:
        """A statement with one body, or with two, which are written by these."""
        found: Any = ast.parse(head).body[0]
        for field, body in zip(("body", "orelse"), bodies, strict=False):
            before, self._out = self._out, []
            body()
            self._out, written = before, self._out
            setattr(found, field, written or [ast.Pass()])
        return [found]

    def _new(self, text: str) -> str:
        """A local of our own with this value."""
        self._count += 1
        self._say(f"t{self._count} = {text}")
        return f"t{self._count}"

    # Statements.

    def _block(self, body: list[Statement]) -> None:
        for statement in body:
            self._statement(statement)

    def _statement(self, node: Statement) -> None:
        match node:
            case Assign(name=name, value=value):
                self._say(f"{_local(name)} = {self._value(value)}")
            case Store(array=array, value=value):
                stored = self._value(value)  # Python has the value before it looks for the place
                self._say(f"{_local(array)}[{self._place(node)}] = {stored}")
            case If(test=test, yes=yes, no=no):
                head = f"if {self._value(test)}: pass\nelse: pass"
                self._out += self._compound(head, lambda: self._block(yes), lambda: self._block(no))
            case While():
                self._out += self._compound("while True: pass", lambda: self._turn(node))
            case For():
                self._for(node)
            case Break():
                self._out.append(ast.Break())
            case Continue():
                self._out.append(ast.Continue())
            case Return(value=value):
                self._say(f"return {'None' if value is None else self._value(value)}")
            case Fail(site=site):
                self._say(f"fail({self._module.site(site)})")
            case Do(value=value):
                self._value(value)

    def _turn(self, node: While) -> None:
        self._say(f"if not {self._value(node.test)}: break")
        self._block(node.body)

    def _for(self, node: For) -> None:
        start, stop, step = (self._value(each) for each in (node.start, node.stop, node.step))
        if node.site is not None:
            self._say(f"if not {step}: fail({self._module.site(node.site)})")
        head = f"for {_local(node.name)} in range({start}, {stop}, {step}): pass"
        self._out += self._compound(head, lambda: self._block(node.body))

    # Elements of arrays.

    def _place(self, node: Load | Store) -> str:
        """The place of an element among all of its array."""
        site = self._module.site(node.site)
        places: list[str] = []
        for axis, index in enumerate([self._value(index) for index in node.indexes]):
            most = _length(node.array, axis)
            places.append(f"({index} if 0 <= {index} < {most} else place({index}, {most}, {site}))")
        return places[0] if len(places) == 1 else f"{places[0]} * {_length(node.array, 1)} + {places[1]}"

    # Expressions: each is evaluated now, and what is given is the name of its value, or a literal.

    def _value(self, node: Expr) -> str:
        match node:
            case Const():
                return _literal(node)
            case Local(name=name):
                return _local(name)
            case Length(array=array, axis=axis):
                return _length(array, axis)
            case Keep(name=name, value=value):
                self._say(f"{_local(name)} = {self._value(value)}")
                return _local(name)
            case Load(array=array):
                return self._new(f"{_local(array)}[{self._place(node)}]")
            case Compare(op=op, left=left, right=right):
                return self._new(f"{self._value(left)} {OPERATORS[op]} {self._value(right)}")
            case Choose():
                return self._choose(node)
            case Unary():
                return self._unary(node)
            case Binary():
                return self._binary(node)
            case Convert():
                return self._convert(node)
            case Host(name=name, arguments=arguments):
                return self._new(f"host_{name}({', '.join([self._value(each) for each in arguments])})")
            case Call():
                return self._call(node)

    def _choose(self, node: Choose) -> str:
        test = self._value(node.test)
        self._count += 1
        chosen = f"t{self._count}"
        self._out += self._compound(
            f"if {test}: pass\nelse: pass",
            lambda: self._say(f"{chosen} = {self._value(node.yes)}"),
            lambda: self._say(f"{chosen} = {self._value(node.no)}"),
        )
        return chosen

    def _call(self, node: Call) -> str:
        arguments: list[str] = []
        for given in node.arguments:
            if isinstance(given, str):
                type = self._function.parameters[given]
                assert isinstance(type, ArrayType)
                arguments += [_local(given), *(_length(given, axis) for axis in range(type.axes))]
            else:
                arguments.append(self._value(given))
        return self._new(f"{self._module.name(node.function)}({', '.join(arguments)})")

    # What is done to numbers.

    def _result(self, op: str, type: Scalar, text: str) -> str:
        """The value of an operation, as large and as precise as its type has it."""
        found = self._new(f"single({text})" if type is Scalar.F32 else text)
        if type.is_integer and op in _GROWING:
            half = 1 << (type.bits - 1)
            self._say(f"if not -{half} <= {found} < {half}: {found} = wrap{type.bits}({found})")
        if type.is_float and self._module.deterministic and op not in {"neg", "abs", "min", "max"}:
            self._say(f"if {found} != {found}: {found} = nan")
        return found

    def _unary(self, node: Unary) -> str:
        operand = self._value(node.operand)
        if node.op == "sqrt" and node.site is not None:
            self._say(f"if {operand} < 0: fail({self._module.site(node.site)})")
        sign = {"neg": "-", "invert": "~", "not": "not "}.get(node.op)
        return self._result(node.op, node.type, f"{node.op}({operand})" if sign is None else f"{sign}{operand}")

    def _binary(self, node: Binary) -> str:
        op, left, right = node.op, self._value(node.left), self._value(node.right)
        if node.site is not None:
            wrong = f"{right} < 0" if op in {"shl", "shr"} else f"not {right}"
            self._say(f"if {wrong}: fail({self._module.site(node.site)})")
        if op in {"min", "max"}:
            text = f"{op}({left}, {right})"
        elif op == "shl":
            text = f"{left} << {right} if {right} < {node.type.bits} else 0"
        elif op == "shr":
            text = f"{left} >> {right}"
        else:
            text = f"{left} {OPERATORS[op]} {right}"
        return self._result(op, node.type, text)

    def _convert(self, node: Convert) -> str:
        operand, given = self._value(node.operand), node.operand.type
        if node.site is not None:
            return self._new(f"whole({operand}, {self._module.site(node.site)})")
        match node.type:
            case Scalar.I32 if given is Scalar.INT:
                return self._new(f"wrap32({operand})")
            case Scalar.F32 if given is Scalar.INT:
                return self._new(f"single_of({operand})")
            case Scalar.F32 | Scalar.FLOAT:
                return self._result("convert", node.type, f"float({operand})")
            case _:
                return self._new(f"int({operand})")


def _local(name: str) -> str:
    """A name of the kernel's: ours begin otherwise."""
    given = name.lstrip(".")
    return f"k{len(name) - len(given)}_{given}" if name[0] == "." else f"v_{name}"


def _length(array: str, axis: int) -> str:
    return f"n{axis}_{_local(array)}"


def _literal(node: Const) -> str:
    if node.type is Scalar.BOOL:
        return str(bool(node.value))
    if not node.type.is_float:
        return f"({int(node.value)})"
    return f"({f32(node.value) if node.type is Scalar.F32 else float(node.value)!r})"
