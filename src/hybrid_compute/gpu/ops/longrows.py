"""Softmax and the normalisations of rows too long for one workgroup: by reductions, with all workgroups at it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hybrid_compute.gpu.ops.elementwise import map_each
from hybrid_compute.gpu.ops.layout import spread
from hybrid_compute.gpu.ops.plan import Plan, Slot
from hybrid_compute.gpu.ops.reducing import How, Span, reduce

LONG = 1 << 16


def is_long(rows: int, length: int) -> bool:
    """Whether a workgroup for each row would leave most of a device idle, or be at it for too long."""
    return length > LONG and (rows < 512 or length > 16 * LONG)


def softmax_long(plan: Plan, out: Slot, x: Slot) -> None:
    top = _reduced(plan, x, "max")
    powers = _mapped(plan, "exp(max(x0 - x1, WIDE(-104.0)))", [x, top], plan.scratch(x.shape, "float32"))
    # A difference of infinities is NaN, and so is what it is added to.
    _mapped(plan, "x0 / x1 + (x2 - x2)", [powers, _reduced(plan, powers, "sum"), top], out)


def norm_long(plan: Plan, out: Slot, x: Slot, weight: Slot | None, bias: Slot | None, epsilon: float) -> None:
    """Layer norm of `x`; of what has no mean taken off, see `rms_long`."""
    mean = _reduced(plan, x, "mean")
    off = _mapped(plan, "x0 - x1", [x, mean], plan.scratch(x.shape, "float32"))
    rms_long(plan, out, off, weight, bias, epsilon)


def rms_long(plan: Plan, out: Slot, x: Slot, weight: Slot | None, bias: Slot | None, epsilon: float) -> None:
    squares = _mapped(plan, "x0 * x0", [x], plan.scratch(x.shape, "float32"))
    formula = "x0 * inverseSqrt(x1 + x2)"
    slots = [x, _reduced(plan, squares, "mean"), plan.constant(np.array(epsilon, "float32"))]
    for slot, sign in ((weight, "*"), (bias, "+")):
        if slot is not None:
            formula += f" {sign} x{len(slots)}"
            slots.append(slot)
    _mapped(plan, formula, slots, out)


def _reduced(plan: Plan, x: Slot, how: How) -> Slot:
    made = plan.scratch((*x.shape[:-1], 1), "float32")
    reduce(plan, x, made, how, Span.of(x.shape, -1))
    return made


def _mapped(plan: Plan, formula: str, slots: Sequence[Slot], out: Slot) -> Slot:
    map_each(plan, out, slots, [spread(each.shape, out.shape) for each in slots], formula)
    return out
