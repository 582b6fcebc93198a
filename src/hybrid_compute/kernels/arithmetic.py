"""Arithmetic in WebAssembly text: what Python means by an operator, where WASM means something else."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace

from hybrid_compute.kernels.tree import Binary, Compare, Const, Convert, Site, Unary
from hybrid_compute.kernels.types import Scalar, f32
from hybrid_compute.kernels.wat import Writer

CONVERSIONS = {
    (Scalar.BOOL, Scalar.I32): "",
    (Scalar.BOOL, Scalar.INT): "i64.extend_i32_u",
    (Scalar.BOOL, Scalar.F32): "f32.convert_i32_u",
    (Scalar.BOOL, Scalar.FLOAT): "f64.convert_i32_u",
    (Scalar.I32, Scalar.INT): "i64.extend_i32_s",
    (Scalar.I32, Scalar.F32): "f32.convert_i32_s",
    (Scalar.I32, Scalar.FLOAT): "f64.convert_i32_s",
    (Scalar.INT, Scalar.I32): "i32.wrap_i64",
    (Scalar.INT, Scalar.F32): "f32.convert_i64_s",
    (Scalar.INT, Scalar.FLOAT): "f64.convert_i64_s",
    (Scalar.F32, Scalar.FLOAT): "f64.promote_f32",
    (Scalar.FLOAT, Scalar.F32): "f32.demote_f64",
}


class ArithmeticWriter(Writer):
    """Writes what operators do, and conversions."""

    @abstractmethod
    def need(self, name: str) -> str:
        """The name of a function of the prelude, or of the host, which will be there."""

    def _const(self, node: Const) -> None:
        self.say(f"{node.type.wasm}.const {number(node)}")

    def _unary(self, node: Unary) -> None:
        type = node.type.wasm
        if node.op == "neg" and not node.type.is_float:
            self.say(f"{type}.const 0")
            self.expression(node.operand)
            self.say(f"{type}.sub")
        elif node.op == "abs" and not node.type.is_float:
            value, sign = self.held(node.operand), self.new(type)
            self.say(f"local.get {value}", f"{type}.const {node.type.bits - 1}", f"{type}.shr_s", f"local.tee {sign}")
            self.say(f"local.get {value}", f"{type}.xor", f"local.get {sign}", f"{type}.sub")
        elif node.op == "sqrt":
            value = self.held(node.operand)
            if node.site is not None:
                self.say(f"local.get {value}", f"{type}.const 0", f"{type}.lt")
                self.fail_if(node.site)
            self.say(f"local.get {value}", f"{type}.sqrt")
        else:
            self.expression(node.operand)
            self.say(
                *{"not": ["i32.eqz"], "invert": [f"{type}.const -1", f"{type}.xor"]}.get(node.op, [f"{type}.{node.op}"])
            )

    def _binary(self, node: Binary) -> None:
        if node.op in {"floordiv", "mod", "truediv"}:
            self._division(node)
        elif node.op in {"shl", "shr"}:
            self._shift(node)
        elif node.op in {"min", "max"}:
            type, sign = node.type.wasm, "" if node.type.is_float else "_s"
            left, right = self.held(node.left), self.held(node.right)
            self.say(f"local.get {right}", f"local.get {left}", f"local.get {right}", f"local.get {left}")
            self.say(f"{type}.{'lt' if node.op == 'min' else 'gt'}{sign}", "select")
        elif node.op == "and" and isinstance(node.right, Const) and node.right.value == 0xFFFFFFFF:
            self.expression(node.left)
            self.say("i32.wrap_i64", "i64.extend_i32_u")  # one move, where the mask would need a register
        else:
            self.expression(node.left)
            self.expression(node.right)
            self.say(f"{node.type.wasm}.{node.op}")

    def _division(self, node: Binary) -> None:
        """Rounded down, as Python does; the remainder has the sign of the divisor."""
        assert node.left.type is not None
        given = node.left.type
        type = given.wasm
        if node.op != "truediv" and isinstance(node.right, Const) and not given.is_float and node.right.value > 0:
            self._by_constant(node, int(node.right.value))
            return
        left, right = self.held(node.left), self.held(node.right)
        if node.site is not None:
            self.say(f"local.get {right}", f"{type}.const 0", f"{type}.eq")
            self.fail_if(node.site)
        for each in (left, right):
            self.say(f"local.get {each}")
            if given is Scalar.F32 and node.op != "truediv":
                self.say("f64.promote_f32")
        if node.op == "truediv":
            self.say(f"{type}.div" if given.is_float else f"call {self.need('truediv64')}")
        elif given.is_float:
            self.say(f"call {self.need('modf' if node.op == 'mod' else 'floordivf')}")
            if given is Scalar.F32:
                self.say("f32.demote_f64")
        else:
            self.say(f"call {self.need(f'{node.op}{given.bits}')}")

    def _by_constant(self, node: Binary, divisor: int) -> None:
        """By a positive constant, where the compiler can do without a division."""
        type, power = node.type.wasm, divisor & (divisor - 1) == 0
        if power and node.op == "mod":
            self.expression(node.left)
            self.say(f"{type}.const {divisor - 1}", f"{type}.and")
            return
        if power:
            self.expression(node.left)
            self.say(f"{type}.const {divisor.bit_length() - 1}", f"{type}.shr_s")
            return
        left, rest = self.held(node.left), self.new(type)
        self.say(f"local.get {left}", f"{type}.const {divisor}", f"{type}.rem_s", f"local.set {rest}")
        below = [f"local.get {rest}", f"{type}.const {node.type.bits - 1}", f"{type}.shr_s"]  # -1 if it is below zero
        if node.op == "mod":
            self.say(f"local.get {rest}", *below, f"{type}.const {divisor}", f"{type}.and", f"{type}.add")
        else:
            self.say(f"local.get {left}", f"{type}.const {divisor}", f"{type}.div_s", *below, f"{type}.add")

    def _shift(self, node: Binary) -> None:
        """By any number: WASM would take the count modulo the width."""
        type, last = node.type.wasm, node.type.bits - 1
        if isinstance(node.right, Const) and node.site is None:
            constant = int(node.right.value)
            self.expression(node.left)
            if node.op == "shl" and constant > last:
                self.say("drop", f"{type}.const 0")
            else:
                self.say(f"{type}.const {min(constant, last)}", f"{type}.{'shl' if node.op == 'shl' else 'shr_s'}")
            return
        left, count = self.held(node.left), self.held(node.right)
        if node.site is not None:
            self.say(f"local.get {count}", f"{type}.const 0", f"{type}.lt_s")
            self.fail_if(node.site)
        inside = [f"local.get {count}", f"{type}.const {last}", f"{type}.le_u", "select"]
        if node.op == "shl":
            self.say(f"local.get {left}", f"local.get {count}", f"{type}.shl", f"{type}.const 0", *inside)
        else:
            self.say(f"local.get {left}", f"local.get {count}", f"{type}.const {last}", *inside, f"{type}.shr_s")

    def _compare(self, node: Compare) -> None:
        left, right = node.left.type, node.right.type
        assert left is not None
        if left is right:
            self.expression(node.left)
            self.expression(node.right)
            sign = "" if left.is_float or node.op in {"eq", "ne"} else "_s"
            self.say(f"{left.wasm}.{node.op}{sign}")
            return
        first, second = self.held(node.left), self.held(node.right)
        pair = (first, second) if left is Scalar.INT else (second, first)
        self.say(*(f"local.get {each}" for each in pair), f"call {self.need('order')}")
        if left is not Scalar.INT:
            self.say("f64.neg")
        self.say("f64.const 0", f"f64.{node.op}")

    def _convert(self, node: Convert) -> None:
        if node.site is not None:
            self._to_integer(node, node.site)
            return
        self.expression(node.operand)
        assert node.operand.type is not None
        instruction = CONVERSIONS[node.operand.type, node.type]
        if instruction:
            self.say(instruction)

    def _to_integer(self, node: Convert, site: Site) -> None:
        value = self.held(node.operand)
        self.say(f"local.get {value}", f"local.get {value}", "f64.ne")
        self.fail_if(site)
        beyond = "a float that is infinite or beyond 64 bits cannot become an integer here"
        self.say(
            f"local.get {value}", "f64.const -0x1p63", "f64.ge", f"local.get {value}", "f64.const 0x1p63", "f64.lt"
        )
        self.say("i32.and", "i32.eqz")
        self.fail_if(replace(site, error=OverflowError, text=beyond))
        self.say(f"local.get {value}", "i64.trunc_f64_s")


def number(node: Const) -> str:
    """A constant in WASM's text: floats to the last bit."""
    if not node.type.is_float:
        return str(int(node.value))
    value = f32(node.value) if node.type is Scalar.F32 else float(node.value)
    if value != value:
        return "nan"
    if value in (float("inf"), float("-inf")):
        return "inf" if value > 0 else "-inf"
    return value.hex()
