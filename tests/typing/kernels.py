"""Kernels: what they take and give is what their function does, and arrays of numpy are arrays."""

from typing import assert_type

import numpy as np

from hybrid_compute import task
from hybrid_compute.kernels import Array, Array2, empty, f32, f64, i32, kernel


@kernel
def saxpy(a: f32, x: Array[f32], y: Array[f32]) -> None:
    for i in range(len(x)):
        y[i] += a * x[i]


@kernel(interruptible=False)
def count(start: int, stop: int, out: Array2[i32]) -> int:
    total: i32 = 0
    for i in range(start, stop):
        out[i, 0] = i32(i)
        total += out[i, 1] + out.shape[0]
    return total


@task
@kernel
def half(n: int) -> f64:
    return n / 2


def calls(x: Array[f64]) -> None:
    assert_type(count(0, 1, np.zeros((1, 2), np.int32)), int)
    assert_type(count.parallel(range(3), np.zeros((1, 2), np.int32), threads=2), list[int])
    assert_type(half(3), float)
    saxpy(1.0, x, y=empty(3, "f4"))
    saxpy("1", x, x)  # E: a text is no number
    saxpy(1.0, [0.0], x)  # E: a list is no array
    x[0] = "1"  # E: its elements are numbers
    count(0, 1)  # E: it takes three
    x[0, 0]  # E: it has one axis
