"""Where the elements are that a loop comes to: known before the first turn, as a base and a stride."""

from __future__ import annotations

from dataclasses import dataclass, field

from hybrid_compute.kernels.tree import Binary, Const, Expr, Length, Load, Local, Store
from hybrid_compute.kernels.wat import Writer


@dataclass(slots=True)
class Axis:
    """An index: `invariant`, or, if it moves, the number of the turn + `invariant`. None stands for 0."""

    moves: bool
    invariant: Expr | None


@dataclass(slots=True)
class Plan:
    """How the quick version finds an element: `base + turn * stride`, in bytes."""

    node: Load | Store
    axes: list[Axis]
    base: str = ""
    stride: str = ""
    """A local, when it is not the size of an element."""

    @property
    def moves(self) -> bool:
        return any(axis.moves for axis in self.axes)

    @property
    def consecutive(self) -> bool:
        """Whether the next turn comes to the next element in memory."""
        return self.axes[-1].moves and not any(axis.moves for axis in self.axes[:-1])

    @property
    def key(self) -> str:
        """The same for two that mean the same element."""
        return f"{self.node.array}[{','.join(f'{axis.moves}{key(axis.invariant)}' for axis in self.axes)}]"


@dataclass(slots=True)
class Fast:
    """The quick version of a loop, while it is written."""

    plans: dict[int, Plan]
    turn: str
    """A local: the number of the turn, in 32 bits."""
    ahead: int = 0
    """How many turns after that one is being written."""
    bases: dict[str, tuple[str, str]] = field(default_factory=dict)

    def knows(self, node: Load | Store) -> bool:
        return id(node) in self.plans

    def push(self, writer: Writer, node: Load | Store) -> str:
        """Push the address of an element; what is to be written behind the instruction."""
        plan, ahead = self.plans[id(node)], self.ahead
        writer.say(f"local.get {plan.base}")
        if not plan.moves:
            return ""
        if plan.stride:
            writer.say(f"local.get {self.turn}", f"i32.const {ahead}", "i32.add", f"local.get {plan.stride}", "i32.mul")
            writer.say("i32.add")
            return ""
        writer.say(f"local.get {self.turn}", f"i32.const {plan.node.of.element.shift}", "i32.shl", "i32.add")
        offset = ahead << plan.node.of.element.shift
        return f" offset={offset}" if offset else ""


def key(value: Expr | None) -> str:
    """A text that is the same for two expressions that are written alike."""
    match value:
        case None:
            return "0"
        case Const(type=type, value=number):
            return f"{type.name}{number!r}"
        case Local(name=name):
            return name
        case Length(array=array, axis=axis):
            return f"{array}.{axis}"
        case Binary(op=op, left=left, right=right):
            return f"({key(left)} {op} {key(right)})"
        case _:
            return f"#{id(value)}"
