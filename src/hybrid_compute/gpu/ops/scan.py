"""Running sums. A workgroup adds up a piece of a row; the sums of the pieces are added up likewise, then added on."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from hybrid_compute.errors import InvalidInput
from hybrid_compute.gpu.ops.operation import Operand, operation
from hybrid_compute.gpu.ops.plan import Plan, Slot, Spec
from hybrid_compute.gpu.ops.shader import LANES, SCALARS, Shader, shader
from hybrid_compute.gpu.shapes import ceil_div

_EACH = 8
_PIECE = LANES * _EACH


def _rules(x: Spec) -> Spec:
    if not x.shape:
        raise InvalidInput("scan needs an array with at least one axis, not a single number")
    return x


def _planner(plan: Plan, out: Sequence[Slot], x: Slot) -> None:
    length = x.shape[-1]
    if x.size:
        add_up(plan, x, out[0], math.prod(x.shape[:-1]), length)


def add_up(plan: Plan, x: Slot, out: Slot, rows: int, length: int) -> None:
    """Have each element of a row of `out` be the sum of all that come up to it in `x`."""
    pieces = ceil_div(length, _PIECE)
    ends = plan.scratch((rows, pieces), x.dtype)
    plan.step(_pieces(x.dtype, plan.subgroups), [x, out, ends], [rows, length, pieces], rows * pieces)
    if pieces > 1:
        before = plan.scratch((rows, pieces), x.dtype)
        add_up(plan, ends, before, rows, pieces)
        plan.step(_add_on(x.dtype), [before, out], [rows, length, pieces], ceil_div(rows * length, LANES))


@functools.cache
def _pieces(dtype: str, subgroups: bool) -> Shader:
    kind = SCALARS[dtype]
    reads = "\n".join(
        f"if (first + {at}u < end) {{ sum += x[row * p.length + first + {at}u]; }} let v{at} = sum;"
        for at in range(_EACH)
    )
    writes = "\n".join(
        f"if (first + {at}u < end) {{ y[row * p.length + first + {at}u] = before + v{at}; }}" for at in range(_EACH)
    )
    return shader(
        "scan",
        reads={"x": kind},
        writes={"y": kind, "ends": kind},
        numbers=["rows", "length", "pieces"],
        declare=f"var<workgroup> heap: array<{kind}, {2 * LANES}>;",
        subgroups=subgroups,
        body=f"""
            let row = group / p.pieces;
            let piece = group % p.pieces;
            if (row >= p.rows) {{ return; }}
            let first = piece * {_PIECE}u + lane * {_EACH}u;
            let end = min((piece + 1u) * {_PIECE}u, p.length);
            var sum = {kind}();
            {reads}
            {_with_subgroups(kind) if subgroups else _without_subgroups(kind)}
            {writes}
            if (lane == {LANES - 1}u) {{ ends[group] = before + sum; }}
        """,
    )


def _with_subgroups(kind: str) -> str:
    """Lines that set `before` to the sum of `sum` in all lanes before this one."""
    return """
        var before = subgroupExclusiveAdd(sum);
        let all = subgroupAdd(sum);
        if (sublane == 0u) { heap[subgroup] = all; }
        workgroupBarrier();
        for (var other = 0u; other < subgroup; other++) { before += heap[other]; }
    """


def _without_subgroups(kind: str) -> str:
    lines = ["heap[lane] = sum;", "workgroupBarrier();"]
    side, step = 0, 1
    while step < LANES:
        here, there = f"{side * LANES}u", f"{(1 - side) * LANES}u"
        lines.append(
            f"if (lane >= {step}u) {{ heap[{there} + lane] = heap[{here} + lane] + heap[{here} + lane - {step}u]; }}"
        )
        lines.append(f"else {{ heap[{there} + lane] = heap[{here} + lane]; }}")
        lines.append("workgroupBarrier();")
        side, step = 1 - side, step * 2
    lines.append(f"var before = {kind}(); if (lane > 0u) {{ before = heap[{side * LANES}u + lane - 1u]; }}")
    return "\n".join(lines)


@functools.cache
def _add_on(dtype: str) -> Shader:
    kind = SCALARS[dtype]
    return shader(
        "scan-add",
        reads={"before": kind},
        writes={"y": kind},
        numbers=["rows", "length", "pieces"],
        body=f"""
            let number = group * {LANES}u + lane;
            if (number >= p.rows * p.length) {{ return; }}
            let piece = number % p.length / {_PIECE}u;
            if (piece > 0u) {{ y[number] += before[number / p.length * p.pieces + piece - 1u]; }}
        """,
    )


@operation(_rules, _planner)
def scan(x: Operand) -> Any:
    """The running sum along the last axis, each element included, in the dtype of `x`.

    Right to 4e-6 of the running sum of the magnitudes; halves are added as floats, and rounded at the end (to 1e-3 of
    the result). Whole numbers wrap around.

        >>> scan(np.array([1, 2, 3], "f4"))
        array([1., 3., 6.], dtype=float32)
    """
    with np.errstate(over="ignore"):
        if x.dtype.kind == "f":  # added one after the other, so with more places
            return np.cumsum(x, -1, dtype="float64").astype(x.dtype)
        return np.cumsum(x, -1, dtype=x.dtype)
