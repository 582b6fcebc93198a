"""Softmax and the normalisations, along the last axis."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from hybrid_compute.errors import InvalidInput
from hybrid_compute.gpu.ops.elementwise import check_dtype
from hybrid_compute.gpu.ops.operation import Operand, operation
from hybrid_compute.gpu.ops.plan import Plan, Slot, Spec
from hybrid_compute.gpu.ops.rows import normalise
from hybrid_compute.gpu.ops.shader import FLOATS


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
