"""Products of matrices, and of matrices with vectors."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from hybrid_compute.errors import InvalidInput
from hybrid_compute.gpu.ops.elementwise import check_dtype
from hybrid_compute.gpu.ops.layout import broadcast, spread
from hybrid_compute.gpu.ops.operation import Operand, operation
from hybrid_compute.gpu.ops.plan import Plan, Slot, Spec
from hybrid_compute.gpu.ops.shader import FLOATS, SCALARS, Shader, shader, together
from hybrid_compute.gpu.ops.tiles import dense, multiply

_LANES = 64


def _rules(a: Spec, b: Spec) -> Spec:
    check_dtype("matmul", a, FLOATS)
    if a.dtype != b.dtype or min(len(a.shape), len(b.shape)) < 2 or a.shape[-1] != b.shape[-2]:
        raise InvalidInput(
            f"matmul: {a} and {b} do not fit: of one dtype, [..., rows, inner] and [..., inner, columns] are asked for"
        )
    return Spec((*broadcast("matmul", a.shape[:-2], b.shape[:-2]), a.shape[-2], b.shape[-1]), a.dtype)


def _planner(plan: Plan, out: Sequence[Slot], a: Slot, b: Slot) -> None:
    (rows, inner), columns, many = a.shape[-2:], b.shape[-1], out[0].shape[:-2]
    batch = (many, spread(a.shape[:-2], many), spread(b.shape[:-2], many))
    if not any(batch[2]):  # all with one matrix: they are the rows of one product
        rows, batch = rows * math.prod(many), ((), (), ())
        if a.shape[:-2] != many:
            rows, batch = a.shape[-2], (many, spread(a.shape[:-2], many), spread(b.shape[:-2], many))
    multiply(plan, out[0], a, [b], dense(b.dtype, columns % 4 == 0), (rows, inner, columns), batch)


@operation(_rules, _planner, arrays=2, half=True)
def matmul(a: Operand, b: Operand) -> Any:
    """`a @ b` of floats: [..., rows, inner] times [..., inner, columns], where what is before may be broadcast.

    Products are added as floats of 32 bits, also of halves. Right to `(16 + inner / 16) * 6e-8` of `|a| @ |b|`,
    whatever the numbers: sixteen are added up before their sum is added to the rest. numpy may add them one after the
    other, and is right to `inner * 6e-8`. Where signs are mixed 1e-6 is usual. Halves are rounded at the end, to 1e-3
    of the result beside it.

        >>> matmul(np.array([[1, 2]], "f4"), np.array([[3], [4]], "f4"))
        array([[11.]], dtype=float32)
    """
    return np.matmul(np.asarray(a, "float32"), np.asarray(b, "float32")).astype(a.dtype)


def _vector_rules(a: Spec, x: Spec) -> Spec:
    check_dtype("matvec", a, FLOATS)
    if a.dtype != x.dtype or len(a.shape) != 2 or not x.shape or a.shape[1] != x.shape[-1]:
        raise InvalidInput(
            f"matvec: {a} and {x} do not fit: of one dtype, [rows, inner] and [..., inner] are asked for"
        )
    return Spec((*x.shape[:-1], a.shape[0]), a.dtype)


def _vector_planner(plan: Plan, out: Sequence[Slot], a: Slot, x: Slot) -> None:
    rows, inner = a.shape
    vectors = math.prod(x.shape[:-1])
    if inner:
        fours = inner % 4 == 0
        length = inner // 4 if fours else inner
        made = _matvec(a.dtype, fours, min(_LANES, plan.lanes(length)), plan.subgroups)
        plan.step(made, [a, x, out[0]], [rows, length, vectors], rows * vectors)


@operation(_vector_rules, _vector_planner, arrays=2, half=True)
def matvec(a: Operand, x: Operand) -> Any:
    """A matrix [rows, inner] times a vector [inner], or times each of several: [..., inner] gives [..., rows].

    Right as `matmul` is.

        >>> matvec(np.array([[1, 2], [3, 4]], "f4"), np.array([1, 1], "f4"))
        array([3., 7.], dtype=float32)
    """
    return np.matmul(np.asarray(x, "float32"), np.asarray(a, "float32").T).astype(a.dtype)


@functools.cache
def _matvec(dtype: str, fours: bool, lanes: int, subgroups: bool) -> Shader:
    kind, wide = SCALARS[dtype], "f32"
    if fours:
        kind, wide = f"vec4<{kind}>", "vec4f"
    return shader(
        "matvec",
        reads={"a": kind, "x": kind},
        writes={"y": SCALARS[dtype]},
        numbers=["rows", "inner", "vectors"],
        lanes=lanes,
        declare=f"var<workgroup> heap: array<f32, {lanes}>;",
        subgroups=subgroups,
        body=f"""
            let row = group % p.rows;
            let vector = group / p.rows;
            if (vector >= p.vectors) {{ return; }}
            var total = {wide}();
            for (var k = lane; k < p.inner; k += {lanes}u) {{
                total = fma({wide}(a[row * p.inner + k]), {wide}(x[vector * p.inner + k]), total);
            }}
            var sum = {"dot(total, vec4f(1.0))" if fours else "total"};
            {together("sum", "sum", shared="heap", subgroups=subgroups, lanes=lanes)}
            if (lane == 0u) {{ y[group] = {SCALARS[dtype]}(sum); }}
        """,
    )
