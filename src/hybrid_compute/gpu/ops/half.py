"""16-bit floats on a device that does not have them, or for kernels that do without: widened first, narrowed last.

They are read in pairs, as words of 32 bits, so it needs no feature.
"""

from __future__ import annotations

import functools

from hybrid_compute.gpu.ops.plan import Plan, Slot
from hybrid_compute.gpu.ops.shader import LANES, Shader, shader
from hybrid_compute.gpu.shapes import ceil_div


def widen(plan: Plan, slot: Slot) -> Slot:
    """The same numbers as floats of 32 bits; the slot itself if it has no halves."""
    if slot.dtype != "float16":
        return slot
    wide = plan.scratch(slot.shape, "float32")
    plan.step(_widen(), [slot, wide], [slot.size], ceil_div(ceil_div(slot.size, 2), LANES))
    return wide


def narrow(plan: Plan, wide: Slot, slot: Slot) -> None:
    """Round floats of 32 bits to halves."""
    plan.step(_narrow(), [wide, slot], [slot.size], ceil_div(ceil_div(slot.size, 2), LANES))


@functools.cache
def _widen() -> Shader:
    return shader(
        "widen",
        reads={"x": "u32"},
        writes={"y": "f32"},
        numbers=["size"],
        body=f"""
            let pair = group * {LANES}u + lane;
            if (pair * 2u >= p.size) {{ return; }}
            let both = unpack2x16float(x[pair]);
            y[pair * 2u] = both.x;
            if (pair * 2u + 1u < p.size) {{ y[pair * 2u + 1u] = both.y; }}
        """,
    )


@functools.cache
def _narrow() -> Shader:
    return shader(
        "narrow",
        reads={"x": "f32"},
        writes={"y": "u32"},
        numbers=["size"],
        body=f"""
            let pair = group * {LANES}u + lane;
            if (pair * 2u >= p.size) {{ return; }}
            var both = vec2f(x[pair * 2u], 0.0);
            if (pair * 2u + 1u < p.size) {{ both.y = x[pair * 2u + 1u]; }}
            y[pair] = pack2x16float(both);
        """,
    )
