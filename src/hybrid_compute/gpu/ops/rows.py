"""How rows are normalised, where all of a row is needed for each element.

A workgroup has a row. Where that fits, it keeps the row in its registers and reads it once; rows of a few elements
have an invocation each. A row too long for one workgroup goes through reductions instead.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, Literal

from hybrid_compute.gpu.ops.longrows import is_long, norm_long, rms_long, softmax_long
from hybrid_compute.gpu.ops.plan import Plan, Slot
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
    lanes = 1 if length <= _SHORT else plan.lanes(length)
    kept = _kept(length, lanes) if lanes > 1 else 0
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


def _kept(length: int, lanes: int) -> int:
    """How many elements each invocation keeps; 0 where it reads them again."""
    each = 1 << (ceil_div(length, lanes) - 1).bit_length()
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
            f"{{ let i = lane + {at * lanes}u; if (i < p.length) {{ var x = v{at}; {lines} }} }}" for at in range(kept)
        ]
        return "\n".join(pieces)

    def total(name: str, how: str = "sum") -> str:
        shared = "keys" if how == "max" else "sums"
        return together(name, how, shared=shared, subgroups=subgroups, lanes=lanes) if lanes > 1 else ""

    reads = "\n".join(
        f"var v{at} = 0.0; {{ let i = lane + {at * lanes}u;"
        f"if (i < p.length) {{ v{at} = f32(xs[row * p.length + i]); }} }}"
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
        lanes=lanes if lanes > 1 else LANES,
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
