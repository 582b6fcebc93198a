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
from hybrid_compute.kernels.operations import OPERATORS, Operations, literal
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
from hybrid_compute.kernels.types import ArrayType


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


class _Function(Operations):
    """Writes one function."""

    def __init__(self, module: _Module, function: Function) -> None:
        super().__init__(deterministic=module.deterministic)
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

    def site(self, site: Site) -> str:
        return self._module.site(site)

    # Text.

    def say(self, text: str) -> None:
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

    def new(self, text: str) -> str:
        """A local of our own with this value."""
        self._count += 1
        self.say(f"t{self._count} = {text}")
        return f"t{self._count}"

    # Statements.

    def _block(self, body: list[Statement]) -> None:
        for statement in body:
            self._statement(statement)

    def _statement(self, node: Statement) -> None:
        match node:
            case Assign(name=name, value=value):
                self.say(f"{_local(name)} = {self.value(value)}")
            case Store(array=array, value=value):
                stored = self.value(value)  # Python has the value before it looks for the place
                self.say(f"{_local(array)}[{self._place(node)}] = {stored}")
            case If(test=test, yes=yes, no=no):
                head = f"if {self.value(test)}: pass\nelse: pass"
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
                self.say(f"return {'None' if value is None else self.value(value)}")
            case Fail(site=site):
                self.say(f"fail({self.site(site)})")
            case Do(value=value):
                self.value(value)

    def _turn(self, node: While) -> None:
        self.say(f"if not {self.value(node.test)}: break")
        self._block(node.body)

    def _for(self, node: For) -> None:
        start, stop, step = (self.value(each) for each in (node.start, node.stop, node.step))
        if node.site is not None:
            self.say(f"if not {step}: fail({self.site(node.site)})")
        head = f"for {_local(node.name)} in range({start}, {stop}, {step}): pass"
        self._out += self._compound(head, lambda: self._block(node.body))

    # Elements of arrays.

    def _place(self, node: Load | Store) -> str:
        """The place of an element among all of its array."""
        site = self.site(node.site)
        places: list[str] = []
        for axis, index in enumerate([self.value(index) for index in node.indexes]):
            most = _length(node.array, axis)
            places.append(f"({index} if 0 <= {index} < {most} else place({index}, {most}, {site}))")
        return places[0] if len(places) == 1 else f"{places[0]} * {_length(node.array, 1)} + {places[1]}"

    # Expressions: each is evaluated now, and what is given is the name of its value, or a literal.

    def value(self, node: Expr) -> str:
        match node:
            case Const():
                return literal(node)
            case Local(name=name):
                return _local(name)
            case Length(array=array, axis=axis):
                return _length(array, axis)
            case Keep(name=name, value=value):
                self.say(f"{_local(name)} = {self.value(value)}")
                return _local(name)
            case Load(array=array):
                return self.new(f"{_local(array)}[{self._place(node)}]")
            case Compare(op=op, left=left, right=right):
                return self.new(f"{self.value(left)} {OPERATORS[op]} {self.value(right)}")
            case Choose():
                return self._choose(node)
            case Unary():
                return self.unary(node)
            case Binary():
                return self.binary(node)
            case Convert():
                return self.convert(node)
            case Host(name=name, arguments=arguments):
                return self.new(f"host_{name}({', '.join([self.value(each) for each in arguments])})")
            case Call():
                return self._call(node)

    def _choose(self, node: Choose) -> str:
        test = self.value(node.test)
        self._count += 1
        chosen = f"t{self._count}"
        self._out += self._compound(
            f"if {test}: pass\nelse: pass",
            lambda: self.say(f"{chosen} = {self.value(node.yes)}"),
            lambda: self.say(f"{chosen} = {self.value(node.no)}"),
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
                arguments.append(self.value(given))
        return self.new(f"{self._module.name(node.function)}({', '.join(arguments)})")


def _local(name: str) -> str:
    """A name of the kernel's: ours begin otherwise."""
    given = name.lstrip(".")
    return f"k{len(name) - len(given)}_{given}" if name[0] == "." else f"v_{name}"


def _length(array: str, axis: int) -> str:
    return f"n{axis}_{_local(array)}"
