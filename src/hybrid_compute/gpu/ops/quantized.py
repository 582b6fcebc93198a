"""Products with weights of 8 or 4 bits, as language models keep them.

Weights are a matrix [rows, inner], of which `inner` is divisible by 32. Each 32 neighbours of a row are a block, with
one scale of 16 or 32 bits. A weight of 8 bits is -127 to 127, times the scale; one of 4 bits is 0 to 15, less 8, times
the scale. They lie in words of 32 bits, the first in the lowest bits: uint32[rows, inner / 4] or [rows, inner / 8];
the scales are [rows, inner / 32].
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from hybrid_compute.errors import InvalidInput
from hybrid_compute.gpu.array import Array
from hybrid_compute.gpu.ops.elementwise import check_dtype
from hybrid_compute.gpu.ops.operation import Operand, operation
from hybrid_compute.gpu.ops.plan import Plan, Slot, Spec
from hybrid_compute.gpu.ops.shader import FLOATS, SCALARS, Shader, shader, together
from hybrid_compute.gpu.ops.tiles import Source, multiply

BLOCK = 32
_LANES = 64
_FEW = 8
"""So many vectors are multiplied at once, while each weight is read once, without tiles."""


def quantize(weights: Array, bits: Literal[4, 8], scales: str = "float16") -> tuple[Array, Array]:
    """A matrix of floats as words of small weights and their scales, laid out as this module says.

    Of 8 bits, each is off by half a scale at most, which is 1/254 of the largest in the block; of 4 bits by a whole
    one, 1/8 of it, beside what the rounding of the scales does. Raises `InvalidInput`.

        >>> words, scales = quantize(np.eye(32, dtype="f4"), bits=4)
        >>> words.shape, scales.shape
        ((32, 4), (32, 1))
    """
    if bits not in (4, 8) or weights.ndim != 2 or weights.shape[1] % BLOCK:
        raise InvalidInput(
            f"weights of 4 or 8 bits are made of a matrix whose rows are divisible by {BLOCK}, not {bits} bits of "
            f"{weights.shape}"
        )
    rows, inner = weights.shape
    blocks = weights.astype("float32").reshape(rows, inner // BLOCK, BLOCK)
    where = np.abs(blocks).argmax(-1, keepdims=True)
    largest = np.take_along_axis(blocks, where, -1)
    scale = (np.abs(largest) / 127 if bits == 8 else largest / -8).astype(scales)
    wide = np.where(scale == 0, 1, scale).astype("float32")
    if bits == 8:
        small = np.clip(np.rint(blocks / wide), -127, 127).astype("int8").view("uint8")
    else:
        nibbles = np.clip(np.rint(blocks / wide) + 8, 0, 15).astype("uint8")
        small = nibbles[..., ::2] | nibbles[..., 1::2] << 4
    words = np.ascontiguousarray(small).reshape(rows, inner * bits // 8).view("<u4")
    return words, scale.reshape(rows, inner // BLOCK)


def dequantize(words: Array, scales: Array) -> Array:
    """The floats that weights and scales stand for.

    >>> bool(np.all(dequantize(*quantize(np.eye(32, dtype="f4"), bits=4)) == np.eye(32)))
    True
    """
    rows, blocks = scales.shape
    small = np.ascontiguousarray(words).view("uint8")
    if words.shape[1] == blocks * 8:
        values = small.view("int8").astype("float32")
    else:
        values = np.stack([small & 15, small >> 4], -1).astype("float32") - 8
    weights: Array = (values.reshape(rows, blocks, BLOCK) * scales.astype("float32")[..., None]).reshape(
        rows, blocks * BLOCK
    )
    return weights


def _rules(x: Spec, words: Spec, scales: Spec) -> Spec:
    check_dtype("matmul_quantized", x, FLOATS)
    check_dtype("matmul_quantized", scales, FLOATS)
    inner = x.shape[-1] if x.shape else 0
    rows = words.shape[0] if words.shape else 0
    fitting = [(rows, inner // 4), (rows, inner // 8)]
    if inner % BLOCK or words.shape not in fitting or scales.shape != (rows, inner // BLOCK) or words.dtype != "uint32":
        raise InvalidInput(
            f"matmul_quantized: {x} does not fit weights of {words} with scales of {scales}: of x[..., inner], "
            f"uint32[rows, inner / 4 or inner / 8] and [rows, inner / 32] are asked for"
        )
    return Spec((*x.shape[:-1], rows), x.dtype)


def _planner(plan: Plan, out: Sequence[Slot], x: Slot, words: Slot, scales: Slot) -> None:
    (rows, width), inner = words.shape, x.shape[-1]
    vectors = math.prod(x.shape[:-1])
    if not inner or not vectors:
        return
    bits = 32 * width // inner
    if vectors <= _FEW:
        made = _few(x.dtype, scales.dtype, bits, vectors, plan.subgroups)
        plan.step(made, [x, words, scales, out[0]], [rows, inner], rows)
    else:
        multiply(plan, out[0], x, [words, scales], _source(bits, scales.dtype), (vectors, inner, rows))


@operation(_rules, _planner, arrays=3, half=True)
def matmul_quantized(x: Operand, words: Operand, scales: Operand) -> Any:
    """`x @ weights.T`, where `quantize` made words and scales of the weights: x[..., inner] gives [..., rows].

    `x` and the result are of 32 or 16 bits; products are added as floats of 32 bits. As right as `matmul` is with the
    weights as `dequantize` gives them.

        >>> words, scales = quantize(np.eye(32, dtype="f4"), bits=8)
        >>> matmul_quantized(np.arange(32, dtype="f4"), words, scales)[:3].round(2)
        array([0., 1., 2.], dtype=float32)
    """
    return np.matmul(np.asarray(x, "float32"), dequantize(np.asarray(words), np.asarray(scales)).T).astype(x.dtype)


def _unpack(bits: int, word: str) -> list[str]:
    """The weights in a word, four at a time, without their scale."""
    if bits == 8:
        return [f"vec4f((vec4i(i32({word})) << vec4u(24u, 16u, 8u, 0u)) >> vec4u(24u))"]
    return [f"(vec4f((vec4u({word}) >> vec4u({shifts})) & vec4u(15u)) - 8.0)"
            for shifts in ("0u, 4u, 8u, 12u", "16u, 20u, 24u, 28u")]  # fmt: skip


@functools.cache
def _source(bits: int, scales: str) -> Source:
    """Four rows of the weights, which are columns of the product, and a word of each."""
    each = 32 // bits
    lines = [f"if (k < p.inner) {{ let word_at = k / {each}u; let words_in_row = p.inner / {each}u;"]
    for column in range(4):
        lines.append(f"if (n + {column}u < p.columns) {{ let word = words[(n + {column}u) * words_in_row + word_at];")
        lines.append(f"let scale = f32(scales[(n + {column}u) * (p.inner / {BLOCK}u) + k / {BLOCK}u]);")
        for at, four in enumerate(_unpack(bits, "word")):
            lines.append(f"let w{at} = {four} * scale;")
            lines += [f"b{at * 4 + row}[{column}] = w{at}[{row}];" for row in range(4)]
        lines.append("}")
    arrays = (("words", "u32"), ("scales", SCALARS[scales]))
    return Source(f"q{bits}", arrays, "\n".join([*lines, "}"]), rows=each)


@functools.cache
def _few(dtype: str, scales: str, bits: int, vectors: int, subgroups: bool) -> Shader:
    """A workgroup for each row of weights, which meets all vectors: neighbours read neighbouring words."""
    each = 32 // bits
    per_word = each // 4
    fours = _unpack(bits, "word")
    products = "\n".join(
        f"sum{v} += scale * ("
        + " + ".join(
            f"dot(w{at}, vec4f(x[({v}u * p.inner) / 4u + at * {per_word}u + {at}u]))" for at in range(per_word)
        )
        + ");"
        for v in range(vectors)
    )
    totals = [together(f"sum{v}", "sum", shared="heap", subgroups=subgroups, lanes=_LANES) for v in range(vectors)]
    return shader(
        f"matvec-q{bits}",
        reads={"x": f"vec4<{SCALARS[dtype]}>", "words": "u32", "scales": SCALARS[scales]},
        writes={"y": SCALARS[dtype]},
        numbers=["rows", "inner"],
        lanes=_LANES,
        declare=f"var<workgroup> heap: array<f32, {_LANES}>;",
        subgroups=subgroups,
        body=f"""
            if (group >= p.rows) {{ return; }}
            let count = p.inner / {each}u;
            {" ".join(f"var sum{v} = 0.0;" for v in range(vectors))}
            for (var at = lane; at < count; at += {_LANES}u) {{
                let word = words[group * count + at];
                let scale = f32(scales[group * (p.inner / {BLOCK}u) + at * {each}u / {BLOCK}u]);
                {" ".join(f"let w{at} = {four};" for at, four in enumerate(fours))}
                {products}
            }}
            {"".join(totals)}
            if (lane == 0u) {{
                {" ".join(f"y[{v}u * p.rows + group] = {SCALARS[dtype]}(sum{v});" for v in range(vectors))}
            }}
        """,
    )
