"""A kernel with every type known: what the front end makes of the source, and all that the emitters read.

Operators keep Python's meaning here. What can go wrong carries a `Site`, the place in the source that is to blame.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, TypeAlias

from hybrid_compute.kernels.types import Scalar, Type

if TYPE_CHECKING:
    from hybrid_compute.kernels.types import ArrayType


@dataclass(frozen=True, slots=True)
class Site:
    """Where, and with which exception, a kernel can fail. In `text`, `{index}` and `{length}` are filled in."""

    error: type[Exception]
    text: str
    where: str


# Expressions


@dataclass(eq=False, slots=True)
class Const:
    type: Scalar
    value: int | float
    weak: bool = True
    """A literal takes the type of what it meets."""


@dataclass(eq=False, slots=True)
class Local:
    type: Scalar
    name: str


@dataclass(eq=False, slots=True)
class Unary:
    """`neg`, `invert`, `abs`, `not`, or one that WASM has for floats: `sqrt`, `floor`, `ceil`, `trunc`, `nearest`."""

    type: Scalar
    op: str
    operand: Expr
    site: Site | None = None


@dataclass(eq=False, slots=True)
class Binary:
    """Both sides have the type of the result, except in `truediv` of integers, which gives a float."""

    type: Scalar
    op: str
    left: Expr
    right: Expr
    site: Site | None = None


@dataclass(eq=False, slots=True)
class Compare:
    """`lt le gt ge eq ne`. Both sides have one type, or one is an INT and the other a FLOAT."""

    op: str
    left: Expr
    right: Expr
    type: Scalar = Scalar.BOOL


@dataclass(eq=False, slots=True)
class Choose:
    """`yes if test else no`, of which one is evaluated."""

    type: Scalar
    test: Expr
    yes: Expr
    no: Expr


@dataclass(eq=False, slots=True)
class Keep:
    """The value, which is also kept under a name."""

    type: Scalar
    name: str
    value: Expr


@dataclass(eq=False, slots=True)
class Convert:
    type: Scalar
    operand: Expr
    site: Site | None = None
    """When set, NaN and what does not fit are errors; text and exception are those of NaN."""


@dataclass(eq=False, slots=True)
class Length:
    array: str
    axis: int
    type: Scalar = Scalar.INT


@dataclass(eq=False, slots=True)
class Load:
    type: Scalar
    array: str
    of: ArrayType
    indexes: tuple[Expr, ...]
    site: Site


@dataclass(eq=False, slots=True)
class Call:
    """A call of another kernel; an argument that is a string names an array."""

    type: Scalar | None
    function: Function
    arguments: tuple[Expr | str, ...]


@dataclass(eq=False, slots=True)
class Host:
    """A call of a function of Python's, that takes floats and gives one."""

    type: Scalar
    name: str
    arguments: tuple[Expr, ...]


Expr: TypeAlias = Const | Local | Unary | Binary | Compare | Choose | Keep | Convert | Length | Load | Call | Host


# Statements


@dataclass(eq=False, slots=True)
class Assign:
    name: str
    value: Expr


@dataclass(eq=False, slots=True)
class Store:
    array: str
    of: ArrayType
    indexes: tuple[Expr, ...]
    value: Expr
    site: Site


@dataclass(eq=False, slots=True)
class If:
    test: Expr
    yes: list[Statement]
    no: list[Statement]


@dataclass(eq=False, slots=True)
class While:
    test: Expr
    body: list[Statement]


@dataclass(eq=False, slots=True)
class For:
    """`for name in range(start, stop, step)`. A site is there when the step may be zero."""

    name: str
    type: Scalar
    start: Expr
    stop: Expr
    step: Expr
    body: list[Statement]
    site: Site | None = None


@dataclass(eq=False, slots=True)
class Break:
    pass


@dataclass(eq=False, slots=True)
class Continue:
    pass


@dataclass(eq=False, slots=True)
class Return:
    value: Expr | None


@dataclass(eq=False, slots=True)
class Fail:
    site: Site


@dataclass(eq=False, slots=True)
class Do:
    value: Expr


Statement: TypeAlias = Assign | Store | If | While | For | Break | Continue | Return | Fail | Do


@dataclass(eq=False, slots=True)
class Function:
    """One kernel."""

    name: str
    parameters: dict[str, Type]
    result: Scalar | None
    locals: dict[str, Scalar]
    body: list[Statement]
    written: set[str]
    """The array parameters that it, or a kernel it calls, stores into."""
    calls: list[Function]
    fast: bool = False
    nonnegative: frozenset[str] = frozenset()
    """Locals that are never below zero, unless they wrap around."""


NODES = (
    Const, Local, Unary, Binary, Compare, Choose, Keep, Convert, Length, Load, Call, Host,
    Assign, Store, If, While, For, Break, Continue, Return, Fail, Do,
)  # fmt: skip
CHILDREN = {
    kind: [field.name for field in fields(kind) if field.name not in {"type", "of", "site", "function", "name", "op"}]
    for kind in NODES
}


def walk(node: Any) -> Iterator[Any]:
    """A node and all that is in it, in the order of the source. Lists and tuples of nodes will do."""
    if isinstance(node, list | tuple):
        for each in node:  # pyright: ignore[reportUnknownVariableType]
            yield from walk(each)
    elif isinstance(node, NODES):
        yield node
        for name in CHILDREN[type(node)]:
            yield from walk(getattr(node, name))


def any_of(node: Any, test: Callable[[Any], bool]) -> bool:
    return any(test(each) for each in walk(node))


def assigned(node: Any) -> set[str]:
    """The names that get a value somewhere in there."""
    return {each.name for each in walk(node) if isinstance(each, Assign | For | Keep)}
