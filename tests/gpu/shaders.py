"""Tasks of the tests, in a module of their own so that workers can import them."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hybrid_compute import gpu_task

Floats = NDArray[np.float32]

ALONG = """
struct Line { slope: f32, start: f32, n: u32 }
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(0) @binding(2) var<uniform> line: Line;
@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {
    if (id.x < line.n) { y[id.x] = line.slope * x[id.x] + line.start; }
}
"""


@gpu_task(wgsl=ALONG, inputs={"x": "f32[n]"}, outputs={"y": "f32[n]"})
def along(x: Floats, slope: float, start: float = 1.0) -> Floats:
    return np.float32(slope) * x + np.float32(start)


@gpu_task(wgsl=ALONG, inputs={"x": "f32[n]"}, outputs={"y": "f32[n]"}, batchable=True)
def along_many(x: Floats, slope: float, start: float = 1.0) -> Floats:
    return np.float32(slope) * x + np.float32(start)


@gpu_task(
    wgsl="""
    @group(0) @binding(0) var<storage, read> x: array<f32>;
    @group(0) @binding(1) var<storage, read_write> low: array<f32>;
    @group(0) @binding(2) var<storage, read_write> high: array<u32>;
    @compute @workgroup_size(8, 8)
    fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) count: vec3u) {
        let width = count.x * 8;
        if (id.x < 3 && id.y < arrayLength(&x) / 3) {
            let at = id.y * 3 + id.x;
            low[at] = -x[at];
            high[id.x * (arrayLength(&x) / 3) + id.y] = u32(x[at]);
        }
    }
    """,
    inputs={"x": "f32[n, 3]"},
    outputs={"low": "f32[n, 3]", "high": "u32[3, n]"},
    workgroups=(1, "ceil_div(n, 8)"),
)
def split_up(x: Floats) -> tuple[Floats, NDArray[np.uint32]]:
    return -x, x.T.astype(np.uint32)


@gpu_task(
    wgsl="""
    @group(0) @binding(0) var<storage, read_write> counts: array<u32>;
    @group(0) @binding(1) var<storage, read> x: array<u32>;
    @compute @workgroup_size(64)
    fn main(@builtin(global_invocation_id) id: vec3u) {
        if (id.x < arrayLength(&counts)) { counts[id.x] += x[id.x]; }
    }
    """,
    inputs={"counts": "u32[n]", "x": "u32[n]"},
    outputs={"counts": "u32[n]"},
    workgroups="ceil_div(n, 64)",
)
def added(counts: NDArray[np.uint32], x: NDArray[np.uint32]) -> NDArray[np.uint32]:
    return counts + x


@gpu_task(
    wgsl="""
    struct Size { n: u32 }
    @group(0) @binding(0) var<storage, read_write> y: array<u32>;
    @group(0) @binding(1) var<uniform> size: Size;
    @compute @workgroup_size(64)
    fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
        for (var i = id.x; i < size.n; i += groups.x * 64) { y[i] = i; }
    }
    """,
    inputs={},
    outputs={"y": "u32[n]"},
)
def counted(n: int) -> NDArray[np.uint32]:
    return np.arange(n, dtype=np.uint32)


BUSY = """
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {
    var value = x[0];
    loop { value = value * 1.0001 + 1.0; if (value < 0.0) { break; } }
    if (id.x < arrayLength(&y)) { y[id.x] = value; }
}
"""


@gpu_task(wgsl=BUSY, inputs={"x": "f32[1]"}, outputs={"y": "f32[1]"}, workgroups=600)
def busy(x: Floats) -> Floats:
    """Takes a second on a software adapter, and for ever on others."""
    return x


def anything(**names: Any) -> Any:
    return names
