"""Operations on arrays: each is a task, computed by numpy here or by a gpu there.

    y = await runtime.run(ops.softmax, x)

Arguments are numpy arrays or `GpuArray`s; with one of the latter among them the result stays on the device. Dtypes are
float32, and as far as it says so float16, int32 and uint32. What does not fit raises `InvalidInput`.

Importing this loads numpy, and not wgpu.
"""

from __future__ import annotations

from hybrid_compute.gpu.ops.convolution import conv2d
from hybrid_compute.gpu.ops.elementwise import add, div, gelu, mul, scale, silu, sub
from hybrid_compute.gpu.ops.fft import fft
from hybrid_compute.gpu.ops.matmul import matmul, matvec
from hybrid_compute.gpu.ops.moving import gather, transpose
from hybrid_compute.gpu.ops.norms import layer_norm, rms_norm, softmax
from hybrid_compute.gpu.ops.quantized import dequantize, matmul_quantized, quantize
from hybrid_compute.gpu.ops.reductions import argmax, max, mean, min, sum
from hybrid_compute.gpu.ops.scan import scan
from hybrid_compute.gpu.ops.sorting import sort, sort_by_key, topk

__all__ = [
    "add",
    "argmax",
    "conv2d",
    "dequantize",
    "div",
    "fft",
    "gather",
    "gelu",
    "layer_norm",
    "matmul",
    "matmul_quantized",
    "matvec",
    "max",
    "mean",
    "min",
    "mul",
    "quantize",
    "rms_norm",
    "scale",
    "scan",
    "silu",
    "softmax",
    "sort",
    "sort_by_key",
    "sub",
    "sum",
    "topk",
    "transpose",
]
