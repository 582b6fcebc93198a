"""Operations as one writes them first: by `wgpu.utils`, with an invocation for each number that comes out, or each row.

`compute_with_buffers` makes its buffers and its pipeline at each call, and gives back what the host can read.
"""

from __future__ import annotations

from typing import Any

from benchmarks.lazy import numpy

_TWO = """
@group(0) @binding(0) var<storage, read> a: array<f32>;
@group(0) @binding(1) var<storage, read> b: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
"""
_ONE = """
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
"""
_PRODUCT = f"""{_TWO}
override inner: u32;
override columns: u32;
@compute @workgroup_size(8, 8)
fn main(@builtin(global_invocation_id) id: vec3u) {{
    var sum = 0.0;
    for (var i = 0u; i < inner; i++) {{ sum += a[id.y * inner + i] * b[i * columns + id.x]; }}
    y[id.y * columns + id.x] = sum;
}}
"""
_VECTOR = f"""{_TWO}
override length: u32;
@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {{
    var sum = 0.0;
    for (var i = 0u; i < length; i++) {{ sum += a[id.x * length + i] * b[i]; }}
    y[id.x] = sum;
}}
"""
_SOFTMAX = f"""{_ONE}
override length: u32;
@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {{
    let first = id.x * length;
    var most = x[first];
    for (var i = 1u; i < length; i++) {{ most = max(most, x[first + i]); }}
    var sum = 0.0;
    for (var i = 0u; i < length; i++) {{ sum += exp(x[first + i] - most); }}
    for (var i = 0u; i < length; i++) {{ y[first + i] = exp(x[first + i] - most) / sum; }}
}}
"""
_NORM = f"""{_ONE}
override length: u32;
@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {{
    let first = id.x * length;
    var mean = 0.0;
    for (var i = 0u; i < length; i++) {{ mean += x[first + i]; }}
    mean /= f32(length);
    var square = 0.0;
    for (var i = 0u; i < length; i++) {{ square += (x[first + i] - mean) * (x[first + i] - mean); }}
    let factor = inverseSqrt(square / f32(length) + 1e-5);
    for (var i = 0u; i < length; i++) {{ y[first + i] = (x[first + i] - mean) * factor; }}
}}
"""
_SILU = f"""{_ONE}
@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3u) {{ y[id.x] = x[id.x] / (1.0 + exp(-x[id.x])); }}
"""
_ADD = f"""{_TWO}
@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3u) {{ y[id.x] = a[id.x] + b[id.x]; }}
"""


def matmul(a: Any, b: Any) -> Any:
    rows, columns = len(a), b.shape[1]
    return _computed(_PRODUCT, (a, b), (rows, columns), (columns // 8, rows // 8, 1), inner=len(b), columns=columns)


def matvec(a: Any, x: Any) -> Any:
    return _computed(_VECTOR, (a, x), (len(a),), (len(a) // 64, 1, 1), length=len(x))


def softmax(x: Any) -> Any:
    return _computed(_SOFTMAX, (x,), x.shape, (len(x) // 64, 1, 1), length=x.shape[1])


def add(a: Any, b: Any) -> Any:
    return _computed(_ADD, (a, b), a.shape, (a.size // 256, 1, 1))


def ten(x: Any, weights: Any) -> Any:
    for _ in range(2):
        normal = _computed(_NORM, (x,), x.shape, (len(x) // 64, 1, 1), length=x.shape[1])
        y = matmul(normal, weights)
        x = softmax(add(x, _computed(_SILU, (y,), y.shape, (y.size // 256, 1, 1))))
    return x


def _computed(shader: str, arrays: tuple[Any, ...], shape: tuple[int, ...], groups: Any, **constants: int) -> Any:
    from wgpu.utils.compute import compute_with_buffers

    given = dict(enumerate(arrays))
    made = compute_with_buffers(given, {len(given): 4 * int(numpy.prod(shape))}, shader, constants, groups)
    return numpy.frombuffer(made[len(given)], numpy.float32).reshape(shape)
