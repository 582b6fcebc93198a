"""One array through all places: a worker fills it, WASM filters it, a gpu multiplies it, this process plots what comes.

Only the gpu is given a copy. That is not claimed but measured: by the file whose pages lie behind an address, by the
bytes that went through pipes, and by what the device has counted.
"""

import math
import os
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hybrid_compute import BlockingRuntime, GpuBackend, LocalBackend, WorkerBackend, gpu_task, task
from hybrid_compute.shared import SharedArray
from hybrid_compute.strategies import prefer
from hybrid_compute.wasm import WasmModule

Floats = npt.NDArray[np.float32]
COUNT = 1 << 18

MODULE = WasmModule.from_wat("""
(module
  (memory (export "memory") 64)
  (func (export "alloc") (param $size i32) (result i32) (i32.const 65536))  ;; there is but one array
  (func (export "smooth") (param $at i32) (param $count i32)
    (loop $next  ;; each becomes the mean of itself and the next
      (f32.store (local.get $at) (f32.mul (f32.const 0.5)
        (f32.add (f32.load (local.get $at)) (f32.load offset=4 (local.get $at)))))
      (local.set $at (i32.add (local.get $at) (i32.const 4)))
      (local.set $count (i32.sub (local.get $count) (i32.const 1)))
      (br_if $next (i32.gt_s (local.get $count) (i32.const 1))))))
""")


def smooth(values: Floats) -> None: ...


@task
def fill(array: SharedArray) -> tuple[int, str]:
    """Two waves and noise, written where everybody sees them."""
    with array.writing() as values:
        values[:] = np.sin(np.linspace(0, 4 * math.pi, COUNT)) + np.random.default_rng(7).normal(0, 0.3, COUNT)
        return os.getpid(), pages(values)


@gpu_task(
    wgsl="""
        @group(0) @binding(0) var<storage, read> x: array<f32>;
        @group(0) @binding(1) var<storage, read_write> y: array<f32>;
        struct Given { factor: f32, n: u32 }
        @group(0) @binding(2) var<uniform> given: Given;
        @compute @workgroup_size(64)
        fn main(@builtin(global_invocation_id) at: vec3u) { if (at.x < given.n) { y[at.x] = given.factor * x[at.x]; } }
    """,
    inputs={"x": "f32[n]"},
    outputs={"y": "f32[n]"},
)
def multiply(x: Floats, factor: float) -> Floats:
    return np.float32(factor) * x


def pages(array: Floats) -> str:
    """Which file's pages lie behind an array in this process, as the system says, and where in the file it begins."""
    address = array.ctypes.data
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, _, offset, _, inode, *_ = line.split()
        first, end = (int(each, 16) for each in span.split("-"))
        if first <= address < end:
            return f"file {inode} + {int(offset, 16) + address - first}"
    raise LookupError(address)


def plot(values: Floats, columns: int = 64) -> str:
    means = values.reshape(columns, -1).mean(axis=1)
    levels = np.interp(means, (np.min(means), np.max(means)), (0, 7))
    return "".join("▁▂▃▄▅▆▇█"[round(level)] for level in levels)


def main() -> None:
    places = [WorkerBackend(1), gpu := GpuBackend(), LocalBackend()]
    with BlockingRuntime(places) as rt, MODULE.open() as module, SharedArray(COUNT, "float32") as array:
        worker, filled = rt.options(strategy="worker").run(fill, array)
        through = rt.stats()["fill"]["worker"]
        with module.showing(array) as seen, array.writing():
            filtered = pages(seen)
            module.function(smooth)(seen)
        with array.reading() as values:
            plotted = pages(values)
            product = rt.options(strategy=prefer("gpu", "local")).run(multiply, values, 3.0)
        print(plot(product))
        print(f"filled      worker {worker:<8} {filled}, {through.sent + through.received} bytes through pipes")
        print(f"filtered    WASM module     {filtered}")
        if gpu.can_run(multiply):
            host, device = (round(count / array.nbytes, 1) for count in gpu.device.copied)
            print(f"multiplied  gpu             there and back: {host} copies by the processor, {device} by the device")
        else:
            print(f"multiplied  numpy           no copy, for there is no gpu: {gpu.why_not(multiply)}")
        print(f"plotted     this process    {plotted}")
        assert np.allclose(product, 3 * array.values)
    assert filled == filtered == plotted


if __name__ == "__main__":
    main()
