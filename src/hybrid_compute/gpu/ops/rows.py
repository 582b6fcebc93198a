"""Operations on the last axis that need all of it for each element: softmax, and the normalisations.

A workgroup has a row. Where that fits, it keeps the row in its registers and reads it once; rows of a few elements
have an invocation each. A row too long for one workgroup goes through reductions instead.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from hybrid_compute.errors import InvalidInput
from hybrid_compute.gpu.ops.elementwise import FLOATS, check_dtype
from hybrid_compute.gpu.ops.longrows import is_long, norm_long, rms_long, softmax_long
from hybrid_compute.gpu.ops.operation import Operand, operation
from hybrid_compute.gpu.ops.plan import Plan, Slot, Spec
from hybrid_compute.gpu.ops.shader import KEYS, LANES, SCALARS, Shader, shader, together
from hybrid_compute.gpu.shapes import ceil_div

What = Literal["softmax", "layer_norm", "rms_norm"]
_SHORT = 32
_KEPT = 16
"""So many elements of a row an invocation keeps in its registers, at most."""


def normalise(plan: Plan, what: What, out: Slot, slots: Sequence[Slot | None], epsilon: float) -> None:
    """Have each row of the first slot normalised, then scaled by the second and moved by the third."""
    x, *others = slots
    assert x is not None
    length = x.shape[-1]
    rows = x.size // max(length, 1)
    if not rows:
        return
    if is_long(rows, length):
        _long(plan, what, out, slots, epsilon)
        return
    present = [each for each in others if each is not None]
    weighted, biased = (each is not None for each in others)
    lanes = 1 if length <= _SHORT else LANES
    kept = _kept(length) if lanes > 1 else 0
    made = _shader(what, x.dtype, lanes, kept, weighted, biased, plan.subgroups and lanes > 1)
    groups = rows if lanes > 1 else ceil_div(rows, LANES)
    plan.step(made, [x, *present, out], [rows, length, 0x7FC00000, epsilon], groups)


def _long(plan: Plan, what: What, out: Slot, slots: Sequence[Slot | None], epsilon: float) -> None:
    x, weight, bias = slots
    assert x is not None
    if what == "softmax":
        softmax_long(plan, out, x)
    elif what == "layer_norm":
        norm_long(plan, out, x, weight, bias, epsilon)
    else:
        rms_long(plan, out, x, weight, bias, epsilon)


def _kept(length: int) -> int:
    """How many elements each invocation keeps; 0 where it reads them again."""
    each = 1 << (ceil_div(length, LANES) - 1).bit_length()
    return each if each <= _KEPT else 0


@functools.cache
def _shader(what: What, dtype: str, lanes: int, kept: int, weighted: bool, biased: bool, subgroups: bool) -> Shader:
    row, lane = ("group", "lane") if lanes > 1 else (f"group * {LANES}u + lane", "0u")

    def each(lines: str) -> str:
        """The lines for each element `x` of this invocation, which is number `i` of the row."""
        if not kept:
            return f"""for (var i = {lane}; i < p.length; i += {lanes}u) {{
                var x = f32(xs[row * p.length + i]);
                {lines}
            }}"""
        pieces = [
            f"{{ let i = lane + {at * LANES}u; if (i < p.length) {{ var x = v{at}; {lines} }} }}" for at in range(kept)
        ]
        return "\n".join(pieces)

    def total(name: str, how: str = "sum") -> str:
        return together(name, how, shared="keys" if how == "max" else "sums", subgroups=subgroups) if lanes > 1 else ""

    reads = "\n".join(
        f"var v{at} = 0.0; {{ let i = lane + {at * LANES}u; if (i < p.length) {{ v{at} = f32(xs[row * p.length + i]); }} }}"
        for at in range(kept)
    )
    result = "result" + (" * f32(weights[i])" if weighted else "") + (" + f32(biases[i])" if biased else "")
    last = f"ys[row * p.length + i] = {SCALARS[dtype]}({result});"
    kind = SCALARS[dtype]
    return shader(
        what,
        reads={"xs": kind} | ({"weights": kind} if weighted else {}) | ({"biases": kind} if biased else {}),
        writes={"ys": kind},
        numbers=["rows", "length", "nan"],
        floats=["epsilon"],
        declare=KEYS + _EXP + f"var<workgroup> sums: array<f32, {LANES}>; var<workgroup> keys: array<u32, {LANES}>;",
        subgroups=subgroups,
        body=f"""
            let row = {row};
            if (row >= p.rows) {{ return; }}
            {reads}
            {_LINES[what](each, total, last)}
        """,
    )


def _softmax_lines(each: Any, total: Any, last: str) -> str:
    # As keys, so that one look at the largest tells whether there is a NaN or an infinity.
    return f"""
        var top = 0u;
        {each("top = max(top, key_of_float(x));")}
        {total("top", "max")}
        let broken = top >= 0xff800000u || top <= 0x007fffffu;
        let largest = float_of_key(top);
        var sum = 0.0;
        {each("sum += exp_of(x - largest);")}
        {total("sum")}
        {each(f"let result = select(exp_of(x - largest) / sum, bitcast<f32>(p.nan), broken); {last}")}
    """


def _layer_lines(each: Any, total: Any, last: str) -> str:
    return f"""
        var mean = 0.0;
        {each("mean += x;")}
        {total("mean")}
        mean /= f32(p.length);
        var square = 0.0;
        {each("square += (x - mean) * (x - mean);")}
        {total("square")}
        let factor = inverseSqrt(square / f32(p.length) + p.epsilon);
        {each(f"let result = (x - mean) * factor; {last}")}
    """


def _rms_lines(each: Any, total: Any, last: str) -> str:
    return f"""
        var square = 0.0;
        {each("square += x * x;")}
        {total("square")}
        let factor = inverseSqrt(square / f32(p.length) + p.epsilon);
        {each(f"let result = x * factor; {last}")}
    """


_EXP = "fn exp_of(x: f32) -> f32 { return select(0.0, exp(max(x, -104.0)), x > -104.0); }"
"""Of numbers up to 0: what is below is nothing as a float. The processor of a device may think otherwise of -inf."""
_LINES = {"softmax": _softmax_lines, "layer_norm": _layer_lines, "rms_norm": _rms_lines}


def _softmax_rules(x: Spec) -> Spec:
    check_dtype("softmax", x, FLOATS)
    if not x.shape:
        raise InvalidInput("softmax needs an array with at least one axis, not a single number")
    return x


def _softmax_planner(plan: Plan, out: Sequence[Slot], x: Slot) -> None:
    normalise(plan, "softmax", out[0], [x, None, None], 0.0)


@operation(_softmax_rules, _softmax_planner, half=True)
def softmax(x: Operand) -> Any:
    """`exp(x) / sum(exp(x))` along the last axis, of floats: what is largest is taken off first, so nothing overflows.

    Right to 2e-6 of the largest result of the row, and to 1e-3 for 16 bits. What is -inf gets 0. A row that has a
    NaN or an inf, or nothing but -inf, is NaN throughout.

        >>> softmax(np.array([0, 0, -np.inf], "f4"))
        array([0.5, 0.5, 0. ], dtype=float32)
    """
    wide = np.asarray(x, "float32")
    if not wide.size:
        return wide.astype(x.dtype)
    with np.errstate(invalid="ignore"):
        powers = np.exp(wide - wide.max(-1, keepdims=True))
        return (powers / powers.sum(-1, keepdims=True)).astype(x.dtype)


def _norm_rules(name: str, x: Spec, *others: Spec | None) -> Spec:
    check_dtype(name, x, FLOATS)
    if not x.shape:
        raise InvalidInput(f"{name} needs an array with at least one axis, not a single number")
    for each in others:
        if each is not None and (each.shape != x.shape[-1:] or each.dtype != x.dtype):
            raise InvalidInput(f"{name}: weight and bias of {x} must be {Spec(x.shape[-1:], x.dtype)}, not {each}")
    return x


def _layer_rules(x: Spec, weight: Spec | None, bias: Spec | None, epsilon: float) -> Spec:
    _check_epsilon("layer_norm", epsilon)
    return _norm_rules("layer_norm", x, weight, bias)


def _rms_rules(x: Spec, weight: Spec | None, epsilon: float) -> Spec:
    _check_epsilon("rms_norm", epsilon)
    return _norm_rules("rms_norm", x, weight)


def _check_epsilon(name: str, epsilon: Any) -> None:
    if not isinstance(epsilon, int | float) or not 0 <= epsilon < math.inf:
        raise InvalidInput(f"{name}: epsilon must be a small number, such as 1e-5, not {epsilon!r}")


def _layer_planner(
    plan: Plan, out: Sequence[Slot], x: Slot, weight: Slot | None, bias: Slot | None, epsilon: float
) -> None:
    normalise(plan, "layer_norm", out[0], [x, weight, bias], epsilon)


def _rms_planner(plan: Plan, out: Sequence[Slot], x: Slot, weight: Slot | None, epsilon: float) -> None:
    normalise(plan, "rms_norm", out[0], [x, weight, None], epsilon)


@operation(_layer_rules, _layer_planner, arrays=3, half=True)
def layer_norm(x: Operand, weight: Operand | None = None, bias: Operand | None = None, epsilon: float = 1e-5) -> Any:
    """`(x - mean) / sqrt(variance + epsilon) * weight + bias` along the last axis, of floats.

    `weight` and `bias` have a number for each element of a row. Right to 2e-5 of the row's largest result, and to
    2e-3 for 16 bits, where the row's spread is not far below its mean. Source: https://arxiv.org/abs/1607.06450.

        >>> layer_norm(np.array([1, 2, 3], "f4")).round(3)
        array([-1.225,  0.   ,  1.225], dtype=float32)
    """
    wide = np.asarray(x, "float32")
    if not wide.size:
        return wide.astype(x.dtype)
    off = wide - wide.mean(-1, keepdims=True)
    factor = 1 / np.sqrt(np.mean(off * off, -1, keepdims=True) + np.float32(epsilon))
    return _scaled(off * factor, weight, bias).astype(x.dtype)


@operation(_rms_rules, _rms_planner, arrays=2, half=True)
def rms_norm(x: Operand, weight: Operand | None = None, epsilon: float = 1e-5) -> Any:
    """`x / sqrt(mean(x²) + epsilon) * weight` along the last axis, of floats.

    `weight` has a number for each element of a row. Right to 2e-5 of the row's largest result, and to 2e-3 for 16
    bits. Source: https://arxiv.org/abs/1910.07467.

        >>> rms_norm(np.array([3, 4], "f4"), epsilon=0).round(3)
        array([0.849, 1.131], dtype=float32)
    """
    wide = np.asarray(x, "float32")
    if not wide.size:
        return wide.astype(x.dtype)
    factor = 1 / np.sqrt(np.mean(wide * wide, -1, keepdims=True) + np.float32(epsilon))
    return _scaled(wide * factor, weight, None).astype(x.dtype)


def _scaled(result: Any, weight: Any, bias: Any) -> Any:
    if weight is not None:
        result = result * np.asarray(weight, "float32")
    return result if bias is None else result + np.asarray(bias, "float32")
