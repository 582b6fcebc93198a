"""What a kernel should give: the same source run by CPython, on integers that wrap around at 64 bits."""

import ast
import linecache
import math
import operator
import struct
from array import array
from collections.abc import Callable, Iterator
from itertools import count
from types import SimpleNamespace
from typing import Any

from hybrid_compute import kernels
from hybrid_compute.kernels import Kernel

_numbers = count()


def define(text: str, name: str = "f", **names: Any) -> Any:
    """What `name` is after this text has run in a namespace of its own; its source can be found."""
    file = f"<kernel {next(_numbers)}>"
    linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
    scope: dict[str, Any] = {**vars(kernels), "math": math, "__name__": "kernels_of_tests", **names}
    exec(compile(text, file, "exec"), scope)
    return scope[name]


def compiled(text: str, name: str = "f", **options: Any) -> Kernel[..., Any]:
    """The function of this text as a kernel."""
    return kernels.kernel(**options)(define(text, name))


def wrap(value: int) -> "Wrapped":
    return Wrapped((value + 2**63) % 2**64 - 2**63)


def _wrapping(function: Callable[[int, int], int], swapped: bool = False) -> Any:
    def method(self: int, other: object) -> object:
        if not isinstance(other, int):
            return NotImplemented
        left, right = (int(other), int(self)) if swapped else (int(self), int(other))
        if function is operator.lshift and right > 64:
            right = 64
        if function is operator.rshift and right > 64:
            right = 64
        return wrap(function(left, right))

    return method


class Wrapped(int):
    """An integer of 64 bits."""

    def __neg__(self) -> "Wrapped":
        return wrap(-int(self))

    def __invert__(self) -> "Wrapped":
        return wrap(~int(self))

    def __abs__(self) -> "Wrapped":
        return wrap(abs(int(self)))


for _name in ["add", "sub", "mul", "floordiv", "mod", "lshift", "rshift", "and", "or", "xor"]:
    _function = getattr(operator, f"{_name}_" if _name in {"and", "or"} else _name)
    setattr(Wrapped, f"__{_name}__", _wrapping(_function))
    setattr(Wrapped, f"__r{_name}__", _wrapping(_function, swapped=True))


def _whole(function: Callable[[Any], int]) -> Callable[[Any], int]:
    def convert(value: Any) -> int:
        result = function(value)
        if not -(2**63) <= result < 2**63:
            raise OverflowError
        return wrap(result)

    return convert


def _range(*bounds: int) -> Iterator[int]:
    return map(wrap, range(*bounds))


class Numbers:
    """An array whose integers wrap around."""

    def __init__(self, of: Any) -> None:
        self.of = of

    def __len__(self) -> int:
        return len(self.of)

    def __getitem__(self, index: int) -> Any:
        value = self.of[index]
        return wrap(value) if isinstance(value, int) else value

    def __setitem__(self, index: int, value: Any) -> None:
        self.of[index] = value


class Grid(Numbers):
    """An array with two axes."""

    def __init__(self, of: Any, width: int) -> None:
        super().__init__(of)
        self.shape = wrap(len(of) // width), wrap(width)

    def _place(self, index: tuple[int, int]) -> int:
        for each, most in zip(index, self.shape, strict=True):
            if not -most <= each < most:
                raise IndexError
        return (index[0] % self.shape[0]) * self.shape[1] + index[1] % self.shape[1]

    def __getitem__(self, index: Any) -> Any:
        return super().__getitem__(self._place(index))

    def __setitem__(self, index: Any, value: Any) -> None:
        super().__setitem__(self._place(index), value)


class Literals(ast.NodeTransformer):
    """Has the literals wrap around too."""

    def visit_Constant(self, node: ast.Constant) -> ast.expr:  # the name that ast looks for
        if type(node.value) is int:
            return ast.Call(ast.Name("wrap", ast.Load()), [node], [])
        return node


def python(text: str, name: str = "f") -> Any:
    """The function as CPython has it, and all functions beside it."""
    text = text.replace("@kernel\n", "")
    rounding = {name: _whole(getattr(math, name)) for name in ("floor", "ceil", "trunc")}
    module = SimpleNamespace(**{**vars(math), **rounding})
    text = ast.unparse(Literals().visit(ast.parse(text)))
    return define(text, name, wrap=wrap, range=_range, int=_whole(int), round=_whole(round), math=module)


Outcome = tuple[Any, ...]


def outcome(function: Callable[..., Any], *arguments: Any) -> Outcome:
    """What a call gives, or raises, and what it leaves in its arrays; floats by their bits."""
    try:
        result = function(*arguments)
        ended: Outcome = (bits(result), isinstance(result, float))
    except (ArithmeticError, ValueError, IndexError) as error:
        kind = type(error)
        ended = (IndexError if kind is IndexError else kind,)
    left = [bits(each) for argument in arguments for each in contents(argument)]
    return (*ended, left)


def contents(argument: Any) -> list[Any]:
    if isinstance(argument, Numbers):
        argument = argument.of
    return list(argument) if isinstance(argument, array) else []


def bits(value: Any) -> Any:
    if isinstance(value, float):
        return "nan" if math.isnan(value) else struct.pack("d", value)
    return value if value is None else int(value)
