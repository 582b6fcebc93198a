"""One function as WebAssembly text, on a stack of values.

The text is made of plain instructions; how a loop over an array is made quick is told in `loops` and `vectors`.
"""

from __future__ import annotations

from typing import Protocol

from hybrid_compute.kernels import loops
from hybrid_compute.kernels.arithmetic import ArithmeticWriter
from hybrid_compute.kernels.ranges import never_negative
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
    any_of,
)
from hybrid_compute.kernels.types import ArrayType
from hybrid_compute.kernels.wat import length, local


class Place(Protocol):
    """The module that a function is written for."""

    def name(self, function: Function) -> str: ...
    def site(self, site: Site) -> int: ...
    def need(self, name: str) -> str: ...


class FunctionWriter(ArithmeticWriter):
    """Writes one function, loop by loop."""

    def __init__(self, module: Place, function: Function) -> None:
        super().__init__(function)
        self.module = module
        self._labels: list[tuple[str, str]] = []
        """For each loop around, where `break` and `continue` go."""

    def write(self) -> str:
        function = self.function
        self.block(function.body)
        parameters: list[str] = []
        for name, type in function.parameters.items():
            if isinstance(type, ArrayType):
                parameters.append(f"(param {local(name)} i32)")
                parameters += [f"(param {length(name, axis)} i64)" for axis in range(type.axes)]
            else:
                parameters.append(f"(param {local(name)} {type.wasm})")
        scalars = [
            f"(local {local(name)} {type.wasm})"
            for name, type in function.locals.items()
            if name not in function.parameters
        ]
        result = f" (result {function.result.wasm})" if function.result is not None else ""
        if function.result is not None:
            self.say("unreachable")  # every way has returned
        return "\n".join(
            [
                f"  (func {self.module.name(function)} {' '.join(parameters)}{result}",
                f"    {' '.join(scalars + self.declared)}",
                *(f"    {line}" for line in self.out),
                "  )",
            ]
        )

    def site(self, site: Site) -> int:
        return self.module.site(site)

    def need(self, name: str) -> str:
        return self.module.need(name)

    # Statements.

    def block(self, body: list[Statement]) -> None:
        for statement in body:
            self.statement(statement)

    def statement(self, node: Statement) -> None:
        match node:
            case Assign(name=name, value=value):
                self.expression(value)
                self.say(f"local.set {local(name)}")
            case Store():
                self._store(node)
            case If():
                self._if(node)
            case While():
                self._while(node)
            case For():
                loops.write(self, node)
            case Break():
                self.say(f"br {self._labels[-1][0]}")
            case Continue():
                self.say(f"br {self._labels[-1][1]}")
            case Return(value=value):
                if value is not None:
                    self.expression(value)
                self.say("return")
            case Fail(site=site):
                self.fail(site)
            case Do(value=value):
                self.expression(value)
                if value.type is not None:
                    self.say("drop")

    def _store(self, node: Store) -> None:
        # Python has the value before it looks for the place.
        value = self.held(node.value)
        offset = self.address(node)
        self.say(f"local.get {value}", f"{node.of.element.store}{offset}")

    def _if(self, node: If) -> None:
        self.expression(node.test)
        if not node.no and len(node.yes) == 1 and isinstance(node.yes[0], Break | Continue):
            self.say(f"br_if {self._labels[-1][isinstance(node.yes[0], Continue)]}")
            return
        self.say("if")
        self.block(node.yes)
        if node.no:
            self.say("else")
            self.block(node.no)
        self.say("end")

    def _while(self, node: While) -> None:
        done, again = self.label("done"), self.label("while")
        self.say(f"block {done}")
        self.expression(node.test)
        self.say("i32.eqz", f"br_if {done}", f"loop {again}")
        self.body(node.body, done)
        # The test once more at the end: one jump a turn instead of two.
        self.expression(node.test)
        self.say(f"br_if {again}", "end", "end")

    def body(self, body: list[Statement], done: str) -> None:
        """The body of a loop that ends at the label `done`."""
        following = self.label("next")
        self._labels.append((done, following))
        self.say(f"block {following}")
        self.block(body)
        self.say("end")
        self._labels.pop()

    # Elements of arrays.

    def address(self, node: Load | Store) -> str:
        """Push the address of an element that is there; what is to be written behind the instruction."""
        if self.known is not None and self.known.knows(node):
            return self.known.push(self, node)
        # Python has all indexes before it looks whether they are in range.
        given = [self.held(index) for index in node.indexes]
        places = [self._place(node, axis, index) for axis, index in enumerate(given)]
        self.say(f"local.get {local(node.array)}", f"local.get {places[0]}", "i32.wrap_i64")
        if len(places) == 2:
            self.say(f"local.get {length(node.array, 1)}", "i32.wrap_i64", "i32.mul")
            self.say(f"local.get {places[1]}", "i32.wrap_i64", "i32.add")
        self.say(f"i32.const {node.of.element.shift}", "i32.shl", "i32.add")
        return ""

    def _place(self, node: Load | Store, axis: int, given: str) -> str:
        """A local with the index, counted from the beginning, which is in range."""
        most = length(node.array, axis)
        place = given
        if not never_negative(node.indexes[axis], self.function.nonnegative):
            place = self.new("i64")
            self.say(f"local.get {given}", f"local.get {most}", f"local.get {given}", "i64.const 63", "i64.shr_s")
            self.say("i64.and", "i64.add", f"local.set {place}")
        self.say(f"local.get {place}", f"local.get {most}", "i64.ge_u", "if")
        self.say(f"local.get {given}", "global.set $index", f"local.get {most}", "global.set $length")
        self.fail(node.site)
        self.say("end")
        return place

    # Expressions: each leaves its value on the stack.

    def expression(self, node: Expr) -> None:
        match node:
            case Const():
                self._const(node)
            case Local(name=name):
                self.say(f"local.get {local(name)}")
            case Unary():
                self._unary(node)
            case Binary():
                self._binary(node)
            case Compare():
                self._compare(node)
            case Choose():
                self._choose(node)
            case Keep(name=name, value=value):
                self.expression(value)
                self.say(f"local.tee {local(name)}")
            case Convert():
                self._convert(node)
            case Length(array=array, axis=axis):
                self.say(f"local.get {length(array, axis)}")
            case Load():
                offset = self.address(node)
                self.say(f"{node.of.element.load}{offset}")
            case Call():
                self._call(node)
            case Host(name=name, arguments=arguments):
                for argument in arguments:
                    self.expression(argument)
                self.say(f"call {self.module.need(f'host.{name}')}")

    def _choose(self, node: Choose) -> None:
        simple = isinstance(node.yes, Const | Local) and isinstance(node.no, Const | Local)
        if simple and not any_of(node.test, lambda each: isinstance(each, Keep)):
            self.expression(node.yes)
            self.expression(node.no)
            self.expression(node.test)
            self.say("select")
            return
        self.expression(node.test)
        self.say(f"if (result {node.type.wasm})")
        self.expression(node.yes)
        self.say("else")
        self.expression(node.no)
        self.say("end")

    def _call(self, node: Call) -> None:
        for argument in node.arguments:
            if isinstance(argument, str):
                type = self.function.parameters[argument]
                assert isinstance(type, ArrayType)
                self.say(f"local.get {local(argument)}")
                self.say(*(f"local.get {length(argument, axis)}" for axis in range(type.axes)))
            else:
                self.expression(argument)
        self.say(f"call {self.module.name(node.function)}")
