"""`"f32[n, 4]"`: how the arrays of a task are declared, and what follows from the arrays of a call.

A name stands for the same number wherever it occurs. What comes out, and how many workgroups there are, may be
reckoned from such names: `"f32[(n + 1) // 2]"`.
"""

from __future__ import annotations

import ast
import functools
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import CodeType

from hybrid_compute.errors import InvalidInput
from hybrid_compute.gpu.declarations import split

Shape = tuple[int, ...]
Names = Mapping[str, int]

DTYPES = {"f32": "float32", "f16": "float16", "i32": "int32", "u32": "uint32"}
"""What numpy calls the numbers of a shader."""
SIZES = {"f32": 4, "f16": 2, "i32": 4, "u32": 4}
"""Bytes of each."""
_DECLARED = re.compile(r"\s*(\w+)\s*\[([^\[\]]*)\]\s*")


@dataclass(frozen=True)
class Expression:
    """A whole number, reckoned from names."""

    text: str

    def __post_init__(self) -> None:
        self.code  # noqa: B018  # to complain where it is written

    @functools.cached_property
    def code(self) -> CodeType:
        try:
            tree = ast.parse(self.text.strip(), mode="eval")
        except SyntaxError as error:
            raise ValueError(f"{self.text!r} is not understood: {error.msg}") from None
        for node in ast.walk(tree):
            if not _is_allowed(node):
                raise ValueError(f"{self.text!r} may use whole numbers, names, + - * // % ( ), min, max and ceil_div")
        return compile(tree, "<shape>", "eval")

    @property
    def names(self) -> frozenset[str]:
        return frozenset(self.code.co_names) - _FUNCTIONS.keys()

    @property
    def name(self) -> str | None:
        """The one name that it consists of, if it does."""
        return self.text.strip() if self.text.strip().isidentifier() else None

    def value(self, names: Names) -> int:
        try:
            return int(eval(self.code, {"__builtins__": _FUNCTIONS}, names))  # names, numbers and eight operations
        except ZeroDivisionError:
            raise InvalidInput(f"{self.text} divides by zero where {dict(names)}") from None

    def __getstate__(self) -> dict[str, str]:
        return {"text": self.text}  # what is compiled cannot be pickled


def _is_allowed(node: ast.AST) -> bool:
    match node:
        case ast.Constant():
            return type(node.value) is int
        case ast.Call():
            return isinstance(node.func, ast.Name) and node.func.id in _FUNCTIONS and not node.keywords
        case _:
            return isinstance(node, _ALLOWED)


def ceil_div(a: int, b: int) -> int:
    """How many times `b` are needed to cover `a`."""
    return -(-a // b)


_FUNCTIONS = {"min": min, "max": max, "ceil_div": ceil_div}
_ALLOWED = (
    ast.Expression, ast.BinOp, ast.UnaryOp, ast.Name, ast.Load,
    ast.Add, ast.Sub, ast.Mult, ast.FloorDiv, ast.Mod, ast.USub,
)  # fmt: skip


@dataclass(frozen=True)
class Declared:
    """An array as a task declares it: what its numbers are, and how many there are in each direction."""

    scalar: str
    dims: tuple[Expression, ...]

    @classmethod
    def parse(cls, text: str) -> Declared:
        """Raises `ValueError` for what is no declaration."""
        found = _DECLARED.fullmatch(text)
        if found is None or found[1] not in DTYPES:
            known = ", ".join(DTYPES)
            raise ValueError(f"{text!r} is no array: write one of {known} and its shape, such as 'f32[n, 4]'")
        return cls(found[1], tuple(Expression(dim) for dim in split(found[2])))

    @property
    def dtype(self) -> str:
        return DTYPES[self.scalar]

    @property
    def itemsize(self) -> int:
        return SIZES[self.scalar]

    def shape(self, names: Names) -> Shape:
        """Its shape in a call where the names stand for these numbers."""
        return tuple(dim.value(names) for dim in self.dims)

    def nbytes(self, shape: Shape) -> int:
        return math.prod(shape) * self.itemsize

    def __str__(self) -> str:
        return f"{self.scalar}[{', '.join(dim.text for dim in self.dims)}]"


def bind(arrays: Iterable[tuple[str, Declared, Shape]], counts: Names) -> dict[str, int]:
    """What the names stand for, given the arrays of a call, and what some stand for in any case.

    Raises `InvalidInput` where the arrays do not agree.
    """
    known = dict(counts)
    by: dict[str, str] = {}
    later: list[tuple[str, Declared, Expression, int]] = []
    for name, declared, shape in arrays:
        if len(shape) != len(declared.dims):
            raise InvalidInput(f"{name} has the shape {shape}, and was declared {declared}")
        for dim, size in zip(declared.dims, shape, strict=True):
            if dim.name is None:
                later.append((name, declared, dim, size))
            elif known.setdefault(dim.name, size) != size:
                raise InvalidInput(f"{dim.name} is {known[dim.name]} in {by[dim.name]}, and {size} in {name}")
            else:
                by.setdefault(dim.name, name)
    for name, declared, dim, size in later:
        if dim.value(known) != size:
            raise InvalidInput(f"{name} was declared {declared}, so {dim.text} is {dim.value(known)}, and not {size}")
    return known
