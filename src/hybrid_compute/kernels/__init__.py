"""Kernels: functions in a typed subset of Python that run as WebAssembly, in milliseconds and without a toolchain.

Importing this loads neither wasmtime nor numpy.
"""

from hybrid_compute.kernels.kernel import Kernel, kernel
from hybrid_compute.kernels.limits import time_limit
from hybrid_compute.kernels.process import empty
from hybrid_compute.kernels.source import KernelError
from hybrid_compute.kernels.types import Array, Array2, f32, f64, i32, i64, u8

__all__ = [
    "Array",
    "Array2",
    "Kernel",
    "KernelError",
    "empty",
    "f32",
    "f64",
    "i32",
    "i64",
    "kernel",
    "time_limit",
    "u8",
]
