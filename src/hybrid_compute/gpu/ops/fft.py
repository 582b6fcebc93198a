"""Fourier transforms of power-of-two length, by Stockham's way, which leaves results in order.

Rows of up to 1024 numbers are transformed in memory that a workgroup shares, several at a time; longer ones pass by
pass, four points at a time. The roots of unity come from a table: what a device reckons for sin and cos may be far off.
https://en.wikipedia.org/wiki/Cooley-Tukey_FFT_algorithm
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from hybrid_compute.errors import InvalidInput
from hybrid_compute.gpu.array import Array
from hybrid_compute.gpu.ops.elementwise import check_dtype, map_each
from hybrid_compute.gpu.ops.layout import strides
from hybrid_compute.gpu.ops.operation import Operand, operation
from hybrid_compute.gpu.ops.plan import Plan, Slot, Spec
from hybrid_compute.gpu.ops.shader import LANES, Shader, shader
from hybrid_compute.gpu.shapes import ceil_div

_SHARED = 1024


def _rules(x: Spec, inverse: Any) -> Spec:
    check_dtype("fft", x, ("float32",))
    if len(x.shape) < 2 or x.shape[-1] != 2 or x.shape[-2].bit_count() != 1:
        raise InvalidInput(f"fft: {x} must be float32[..., length, 2], with a power of two for its length")
    return x


def _planner(plan: Plan, out: Sequence[Slot], x: Slot, inverse: bool) -> None:
    length, rows = x.shape[-2], math.prod(x.shape[:-2])
    if not rows:
        return
    if length == 1:
        map_each(plan, out[0], [x], [strides(x.shape)], "x0")
        return
    # Any root is one of the first thousand times one of those that are a thousand apart.
    fine = plan.constant(_roots(length, min(length, _SHARED), 1, inverse))
    factor = 1 / length if inverse else 1.0
    if length <= _SHARED:
        groups = ceil_div(rows, _SHARED // length)
        plan.step(_short(), [x, fine, out[0]], [rows, length, length.bit_length() - 1, factor], groups)
        return
    coarse = plan.constant(_roots(length, length // _SHARED, _SHARED, inverse))
    source, done = x, 1
    other = [plan.scratch(x.shape, "float32"), plan.scratch(x.shape, "float32")]
    while done < length:
        radix = 2 if done == 1 and length.bit_length() % 2 == 0 else 4
        last = done * radix == length
        target = out[0] if last else other[0]
        total = rows * length // radix
        numbers = [total, length, done, factor if last else 1.0]
        plan.step(_pass(radix, inverse), [source, fine, coarse, target], numbers, ceil_div(total, LANES))
        source, done, other = target, done * radix, other[::-1]


@functools.lru_cache(64)
def _roots(length: int, count: int, apart: int, inverse: bool) -> Array:
    """So many roots of unity of this order, so far apart."""
    angles = np.arange(count) * (apart * (2 if inverse else -2) * np.pi / length)
    return np.stack([np.cos(angles), np.sin(angles)], -1).astype("float32")


_TIMES = "fn times(a: vec2f, b: vec2f) -> vec2f { return vec2f(a.x * b.x - a.y * b.y, a.x * b.y + a.y * b.x); }"


@functools.cache
def _short() -> Shader:
    points = "let row = point / (p.length / 2u); let j = point % (p.length / 2u); let first = row * p.length + j;"
    return shader(
        "fft-short",
        reads={"x": "vec2f", "roots": "vec2f"},
        writes={"y": "vec2f"},
        numbers=["rows", "length", "passes"],
        floats=["factor"],
        declare=f"var<workgroup> heap: array<vec2f, {_SHARED}>;{_TIMES}",
        body=f"""
            let begin = group * ({_SHARED}u / p.length) * p.length;
            let end = min(begin + {_SHARED}u, p.rows * p.length);
            if (begin >= end) {{ return; }}
            for (var e = lane; e < {_SHARED}u; e += {LANES}u) {{
                if (begin + e < end) {{ heap[e] = x[begin + e]; }} else {{ heap[e] = vec2f(); }}
            }}
            workgroupBarrier();
            for (var number = 0u; number < p.passes; number++) {{
                let done = 1u << number;
                var sums: array<vec2f, 2>;
                var differences: array<vec2f, 2>;
                for (var turn = 0u; turn < 2u; turn++) {{
                    let point = lane + turn * {LANES}u;
                    {points}
                    let root = roots[j % done * (p.length / (2u * done))];
                    let other = times(heap[first + p.length / 2u], root);
                    sums[turn] = heap[first] + other;
                    differences[turn] = heap[first] - other;
                }}
                workgroupBarrier();
                for (var turn = 0u; turn < 2u; turn++) {{
                    let point = lane + turn * {LANES}u;
                    {points}
                    let to = row * p.length + j / done * done * 2u + j % done;
                    heap[to] = sums[turn];
                    heap[to + done] = differences[turn];
                }}
                workgroupBarrier();
            }}
            for (var e = lane; e < {_SHARED}u; e += {LANES}u) {{
                if (begin + e < end) {{ y[begin + e] = heap[e] * p.factor; }}
            }}
        """,
    )


@functools.cache
def _pass(radix: int, inverse: bool) -> Shader:
    reads = " ".join(
        f"let v{r} = times(x[from_x + {r}u * apart], root({r}u * step % p.length));" for r in range(1, radix)
    )
    if radix == 2:
        results = ["v0 + v1", "v0 - v1"]
    else:
        sign = "" if inverse else "-"  # of i, by which the odd difference is multiplied
        turned = f"vec2f(-({sign}odd.y), {sign}odd.x)"
        reads += f"let even = v0 - v2; let odd = v1 - v3; let turned = {turned};"
        results = ["v0 + v1 + v2 + v3", "even + turned", "v0 - v1 + v2 - v3", "even - turned"]
    writes = " ".join(f"y[to + {r}u * p.done] = ({result}) * p.factor;" for r, result in enumerate(results))
    return shader(
        f"fft-pass-{radix}",
        reads={"x": "vec2f", "fine": "vec2f", "coarse": "vec2f"},
        writes={"y": "vec2f"},
        numbers=["total", "length", "done"],
        floats=["factor"],
        declare=f"""{_TIMES}
            fn root(number: u32) -> vec2f {{ return times(fine[number % {_SHARED}u], coarse[number / {_SHARED}u]); }}
        """,
        body=f"""
            let point = group * {LANES}u + lane;
            if (point >= p.total) {{ return; }}
            let apart = p.length / {radix}u;
            let row = point / apart;
            let j = point % apart;
            let from_x = row * p.length + j;
            let step = j % p.done * (apart / p.done);
            let v0 = x[from_x];
            {reads}
            let to = row * p.length + j / p.done * p.done * {radix}u + j % p.done;
            {writes}
        """,
    )


@operation(_rules, _planner)
def fft(x: Operand, inverse: bool = False) -> Any:
    """The Fourier transform of complex numbers along the axis before the last: float32[..., length, 2], as numpy's.

    The last axis has the real and the imaginary part; the length is a power of two. The inverse is divided by the
    length. The root mean square of what a row is off by is within 1e-6 of that of its result.

        >>> fft(np.array([[1, 0], [2, 0]], "f4"))
        array([[ 3.,  0.],
               [-1.,  0.]], dtype=float32)
    """
    given = np.asarray(x, "float64")
    found = (np.fft.ifft if inverse else np.fft.fft)(given[..., 0] + 1j * given[..., 1], axis=-1)
    return np.stack([found.real, found.imag], -1).astype("float32")
