"""Operations that do the same to each element: sums and products with broadcasting, and activations."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from hybrid_compute.errors import InvalidInput
from hybrid_compute.gpu.array import Array
from hybrid_compute.gpu.ops.layout import Strides, broadcast, collapsed, spread, walk
from hybrid_compute.gpu.ops.operation import Decorator, Operand, operation
from hybrid_compute.gpu.ops.plan import Plan, Slot, Spec
from hybrid_compute.gpu.ops.shader import FLOATS, LANES, SCALARS, WIDE, Shader, shader
from hybrid_compute.gpu.shapes import Shape, ceil_div

_GELU = 1.5957691216057308  # 2 * sqrt(2 / pi)
_GELU_ENDS, _SILU_ENDS = 10, 87
"""So far below zero an activation is nothing, and so far above `x` itself. In between `exp` does not overflow."""


def map_each(plan: Plan, out: Slot, operands: Sequence[Slot], walks: Sequence[Strides], formula: str) -> None:
    """Have `formula` computed of x0, x1, ... for each element of `out`. `walks` are strides over the shape of it."""
    if not out.size:
        return
    dims, steps = collapsed(out.shape, walks)
    width = 4 if _goes_by_fours(dims, steps) else 1
    splat = tuple(width == 4 and step[-1] == 0 for step in steps)
    inner = (*dims[:-1], dims[-1] // width)
    strides = [
        step if alone else (*(each // width for each in step[:-1]), step[-1])
        for step, alone in zip(steps, splat, strict=True)
    ]
    size = out.size // width
    made = _shader(out.dtype, tuple(each.dtype for each in operands), len(dims), width, splat, formula)
    numbers = [size, *inner[1:], *(each for step in strides for each in step)]
    plan.step(made, [*operands, out], numbers, ceil_div(size, LANES))


def _goes_by_fours(dims: Shape, steps: Sequence[Strides]) -> bool:
    """Whether four neighbours can be done at once: all operands have them side by side, or one number for all."""
    return dims[-1] % 4 == 0 and all(
        step[-1] == 0 or (step[-1] == 1 and all(each % 4 == 0 for each in step[:-1])) for step in steps
    )


@functools.cache
def _shader(
    out: str, operands: tuple[str, ...], rank: int, width: int, splat: tuple[bool, ...], formula: str
) -> Shader:
    def kind(scalar: str, wide: bool = True) -> str:
        return f"vec4<{scalar}>" if wide and width == 4 else scalar

    names = [f"x{number}" for number in range(len(operands))]
    wide = kind(WIDE[out])
    walks: dict[str, Sequence[str]] = {f"at_{name}": [f"p.{name}_{at}" for at in range(rank)] for name in names}
    loads = [f"let {name} = {wide}({WIDE[out] if alone else wide}(a{name}[at_{name}]));"
             for name, alone in zip(names, splat, strict=True)]  # fmt: skip
    return shader(
        "each",
        reads={f"a{name}": kind(SCALARS[dtype], not alone)
               for name, dtype, alone in zip(names, operands, splat, strict=True)},
        writes={"y": kind(SCALARS[out])},
        numbers=["size", *(f"d{at}" for at in range(1, rank)),
                 *(step[2:] for steps in walks.values() for step in steps)],
        body=f"""
            let number = group * {LANES}u + lane;
            if (number >= p.size) {{ return; }}
            {walk("number", [f"p.d{at}" for at in range(1, rank)], walks)}
            {" ".join(loads)}
            y[number] = {kind(SCALARS[out])}({formula.replace("WIDE", wide)});
        """,
    )  # fmt: skip


def _pair(name: str, formula: str, dtypes: Sequence[str] = tuple(SCALARS)) -> Decorator:
    """Rules and planner of an operation on two arrays with broadcasting."""

    def rules(a: Spec, b: Spec) -> Spec:
        check_dtype(name, a, dtypes)
        if a.dtype != b.dtype:
            raise InvalidInput(f"{name}: {a} and {b} have different dtypes: use astype on one of them")
        return Spec(broadcast(name, a.shape, b.shape), a.dtype)

    def planner(plan: Plan, out: Sequence[Slot], a: Slot, b: Slot) -> None:
        shape = out[0].shape
        map_each(plan, out[0], [a, b], [spread(a.shape, shape), spread(b.shape, shape)], formula)

    return operation(rules, planner, arrays=2, half=True)


def _activation(name: str, formula: str) -> Decorator:
    """Rules and planner of an operation on one array of floats."""

    def rules(x: Spec) -> Spec:
        return check_dtype(name, x, FLOATS)

    def planner(plan: Plan, out: Sequence[Slot], x: Slot) -> None:
        map_each(plan, out[0], [x], [spread(x.shape, x.shape)], formula)

    return operation(rules, planner, half=True)


def _gate(exponent: str, ends: int) -> str:
    """A formula for x / (1 + exp(exponent of x)), with its limit 0 where x is far below zero."""
    within = f"clamp(x0, WIDE(-{ends}.0), WIDE({ends}.0))"
    return f"select(x0 / (WIDE(1.0) + exp({exponent.replace('X', within)})), WIDE(0.0), x0 < WIDE(-{ends}.0))"


def check_dtype(name: str, x: Spec, dtypes: Sequence[str]) -> Spec:
    """Raises `InvalidInput` for an array of other numbers."""
    if x.dtype not in dtypes:
        raise InvalidInput(f"{name} is for {', '.join(dtypes)}, and was given {x}")
    return x


@_pair("add", "x0 + x1")
def add(a: Operand | float, b: Operand | float) -> Any:
    """`a + b`, with numpy's broadcasting, for arrays of one dtype; a plain number takes that of the array.

    A number that cannot, such as 0.5 beside whole ones, raises `InvalidInput`.
    Exact to the last bit for floats of 32 bits and whole numbers, which wrap around; to one unit in the last place
    for 16 bits.

        >>> add(np.array([1, 2], "f4"), 0.5)
        array([1.5, 2.5], dtype=float32)
    """
    return _as_is(a) + _as_is(b)


@_pair("sub", "x0 - x1")
def sub(a: Operand | float, b: Operand | float) -> Any:
    """`a - b`; otherwise as `add`.

    >>> sub(np.array([[1], [2]], "i4"), np.array([1, 2], "i4"))
    array([[ 0, -1],
           [ 1,  0]], dtype=int32)
    """
    return _as_is(a) - _as_is(b)


@_pair("mul", "x0 * x1")
def mul(a: Operand | float, b: Operand | float) -> Any:
    """`a * b`; otherwise as `add`.

    >>> mul(np.array([1, 2], "f4"), np.array([3, 4], "f4"))
    array([3., 8.], dtype=float32)
    """
    return _as_is(a) * _as_is(b)


@_pair("div", "x0 / x1", FLOATS)
def div(a: Operand | float, b: Operand | float) -> Any:
    """`a / b` of floats, with numpy's broadcasting.

    Right to 2.5 units in the last place for finite results (https://www.w3.org/TR/WGSL/#concrete-float-accuracy);
    16 bits: to 1e-3 and 1e-4 beside it, for a device may take halves below 6e-5 for nothing. What a division by zero
    gives is the device's own affair.

        >>> div(np.array([1, 2], "f4"), 4)
        array([0.25, 0.5 ], dtype=float32)
    """
    with np.errstate(all="ignore"):
        return _as_is(a) / _as_is(b)


@_pair("scale", "x0 * x1")
def scale(x: Operand, factor: float | Operand) -> Any:
    """`x` times a number, or times one number for each of its last places; otherwise as `mul`.

    >>> scale(np.array([1, 2], "f4"), 10)
    array([10., 20.], dtype=float32)
    """
    return _as_is(x) * _as_is(factor)


@_activation("gelu", _gate(f"-{_GELU} * X * (WIDE(1.0) + 0.044715 * X * X)", _GELU_ENDS))
def gelu(x: Operand) -> Any:
    """The GELU of each element, in the form with tanh: 0.5 x (1 + tanh(sqrt(2/π) (x + 0.044715 x³))).

    Of floats of 32 or 16 bits. Right to 1e-5 of the result and 1e-6 beside it; 16 bits: to 1e-3 and 1e-4, for a device
    may take halves below 6e-5 for nothing. It is 0 for -inf. Source: https://arxiv.org/abs/1606.08415.

        >>> gelu(np.array([-1, 0, 1], "f4")).round(4)
        array([-0.1588,  0.    ,  0.8412], dtype=float32)
    """
    wide = _as_is(x).astype("float32")
    within = np.clip(wide, -_GELU_ENDS, _GELU_ENDS)
    exponent = -np.float32(_GELU) * within * (1 + np.float32(0.044715) * within * within)
    return _gated(wide, exponent, _GELU_ENDS).astype(x.dtype)


@_activation("silu", _gate("-X", _SILU_ENDS))
def silu(x: Operand) -> Any:
    """`x / (1 + exp(-x))` of each element.

    Of floats of 32 or 16 bits. As right as `gelu`, and 0 for -inf too. Source: https://arxiv.org/abs/1702.03118.

        >>> silu(np.array([-1, 0, 1], "f4")).round(4)
        array([-0.2689,  0.    ,  0.7311], dtype=float32)
    """
    wide = _as_is(x).astype("float32")
    return _gated(wide, -np.clip(wide, -_SILU_ENDS, _SILU_ENDS), _SILU_ENDS).astype(x.dtype)


def _gated(x: Array, exponent: Array, ends: int) -> Array:
    """What `_gate` says."""
    return np.where(x < -ends, np.float32(0), x / (1 + np.exp(exponent)))


def _as_is(operand: Any) -> Array:
    """What an operation has made of its argument, for the checker of types: an array of this process."""
    array: Array = operand
    return array
