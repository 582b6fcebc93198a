"""Expressions of a loop that is done in vectors: the values of some turns that follow one another, in one instruction.

What may fail is looked for as it is computed, and if it is there, the vectors are left.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from hybrid_compute.kernels.addresses import Fast, key
from hybrid_compute.kernels.shapes import FLOAT_OPS, Shape
from hybrid_compute.kernels.tree import Binary, Choose, Compare, Const, Convert, Expr, For, Load, Local, Unary
from hybrid_compute.kernels.wat import Writer


@dataclass(slots=True)
class Lanes:
    """Writes expressions. A lane is what one turn has of a vector."""

    writer: Writer
    loop: For
    fast: Fast
    shape: Shape
    counter: str
    lanes: int = 0
    kind: str = ""
    out: str = ""
    splats: dict[str, str] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    """The vectors that locals of the kernel are, in the turns that are being written."""
    stored: dict[str, str] = field(default_factory=dict)

    def vector(self, node: Expr) -> None:
        """Push the values of this expression in the turns of one vector."""
        say, kind = self.writer.say, self.kind
        if self.name(node) in self.splats:
            say(f"local.get {self.splats[self.name(node)]}")
            return
        match node:
            case Local(name=name) if name == self.loop.name:
                self._numbers(["i64x2.splat"], "i64x2")
            case Local(name=name):
                say(f"local.get {self.names[name]}")
            case Load():
                plan = self.fast.plans[id(node)]
                if plan.key in self.stored:
                    say(f"local.get {self.stored[plan.key]}")
                else:
                    say(f"v128.load{self.fast.push(self.writer, node)}")
            case Convert():
                self._numbers(["f64.convert_i64_s", "f64x2.splat"], "f64x2")
            case Unary():
                self._unary(node)
            case Binary():
                self._binary(node)
            case Choose(test=test, yes=yes, no=no):
                self.vector(yes)
                self.vector(no)
                self._mask(test)
                say("v128.bitselect")
            case _:
                raise AssertionError(kind)

    def _numbers(self, splat: list[str], kind: str) -> None:
        """The numbers of these turns."""
        self.writer.say(f"local.get {self.counter}", f"i64.const {self.fast.ahead}", "i64.add", *splat)
        self.writer.say(f"v128.const {kind} 0 1", f"{kind}.add")

    def _unary(self, node: Unary) -> None:
        self.vector(node.operand)
        if node.op == "sqrt" and node.site is not None:
            value = self.kept()
            self.writer.say(f"local.get {value}", "v128.const i64x2 0 0", f"{self.kind}.lt")
            self.writer.say("v128.any_true", f"br_if {self.out}", f"local.get {value}")
        self.writer.say("v128.not" if node.op == "invert" else f"{self.kind}.{node.op}")

    def _binary(self, node: Binary) -> None:
        self.vector(node.left)
        if node.op in {"shl", "shr"}:
            assert isinstance(node.right, Const)
            self.writer.say(
                f"i32.const {int(node.right.value)}", f"{self.kind}.{'shl' if node.op == 'shl' else 'shr_s'}"
            )
            return
        self.vector(node.right)
        if node.op == "truediv" and node.site is not None:
            divisor = self.kept()
            self.writer.say(f"local.get {divisor}", "v128.const i64x2 0 0", f"{self.kind}.eq")
            self.writer.say("v128.any_true", f"br_if {self.out}", f"local.get {divisor}")
        if node.type.is_float:
            self.writer.say(f"{self.kind}.{FLOAT_OPS[node.op]}")
        elif node.op in {"and", "or", "xor"}:
            self.writer.say(f"v128.{node.op}")
        else:
            self.writer.say(f"{self.kind}.{node.op}{'_s' if node.op in {'min', 'max'} else ''}")

    def _mask(self, test: Expr) -> None:
        """Push a vector with all bits set where this holds."""
        say = self.writer.say
        match test:
            case Compare(op=op, left=left, right=right):
                self.vector(left)
                self.vector(right)
                say(f"{self.kind}.{op}{'' if self.shape.type.is_float or op in {'eq', 'ne'} else '_s'}")
            case Choose(test=first, yes=yes, no=no):
                self._mask(yes)
                self._mask(no)
                self._mask(first)
                say("v128.bitselect")
            case Unary(operand=operand):
                self._mask(operand)
                say("v128.not")
            case Const(value=value):
                say(f"v128.const i64x2 {-bool(value)} {-bool(value)}")
            case _:
                raise AssertionError(test)

    def kept(self) -> str:
        name = self.writer.new("v128")
        self.writer.say(f"local.set {name}")
        return name

    def name(self, value: Expr) -> str:
        return self.fast.plans[id(value)].key if isinstance(value, Load) else key(value)
