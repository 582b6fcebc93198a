"""Loops over numbers: each as a function that CPython, a kernel and numba can run; in C, and some with numpy."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import tempfile
from math import sqrt
from pathlib import Path
from typing import Any

from benchmarks.lazy import numpy
from hybrid_compute.kernels import Array, Array2, f32, f64, i32


def xorshift(n: int) -> int:
    s = 1
    for i in range(n):
        s ^= (s << 13) & 0xFFFFFFFF
        s ^= s >> 17
        s ^= (s << 5) & 0xFFFFFFFF
        s = (s + i) & 0xFFFFFFFF
    return s


def mandelbrot(start: int, stop: int, n: int, most: int, out: Array2[i32]) -> None:
    for y in range(start, stop):
        for x in range(n):
            cr = x * 3.0 / n - 2.0
            ci = y * 2.0 / n - 1.0
            zr = 0.0
            zi = 0.0
            count = 0
            while count < most and zr * zr + zi * zi < 4.0:
                t = zr * zr - zi * zi + cr
                zi = 2.0 * zr * zi + ci
                zr = t
                count += 1
            out[y, x] = count


def saxpy(a: float, x: Array[f64], y: Array[f64]) -> None:
    for i in range(len(x)):
        y[i] += a * x[i]


def particles(
    steps: int, dt: f32, x: Array[f32], y: Array[f32], z: Array[f32], u: Array[f32], v: Array[f32], w: Array[f32]
) -> None:
    for _ in range(steps):
        for i in range(len(x)):
            r2 = x[i] * x[i] + y[i] * y[i] + z[i] * z[i] + 0.001
            pull = 1.0 / (r2 * sqrt(r2)) * dt
            u[i] -= x[i] * pull
            v[i] -= y[i] * pull
            w[i] -= z[i] * pull
            x[i] += u[i] * dt
            y[i] += v[i] * dt
            z[i] += w[i] * dt


def inc(n: int) -> int:
    return n + 1


def numpy_saxpy(a: float, x: Any, y: Any) -> None:
    y += a * x


def numpy_particles(steps: int, dt: float, *arrays: Any) -> None:
    step = numpy.float32(dt)
    places, speeds = list(arrays[:3]), list(arrays[3:])
    for _ in range(steps):
        r2 = places[0] * places[0] + places[1] * places[1] + places[2] * places[2] + numpy.float32(0.001)
        pull = 1 / (r2 * numpy.sqrt(r2)) * step
        for number in range(3):
            speeds[number] -= places[number] * pull
            places[number] += speeds[number] * step


C = """
#include <stdint.h>
#include <math.h>
int64_t xorshift(int64_t n) {
    uint32_t s = 1;
    for (int64_t i = 0; i < n; i++) { s ^= s << 13; s ^= s >> 17; s ^= s << 5; s += i; }
    return s;
}
void mandelbrot(int64_t start, int64_t stop, int64_t n, int64_t most, int32_t *out) {
    for (int64_t y = start; y < stop; y++)
        for (int64_t x = 0; x < n; x++) {
            double cr = x * 3.0 / n - 2.0, ci = y * 2.0 / n - 1.0, zr = 0.0, zi = 0.0;
            int64_t count = 0;
            while (count < most && zr * zr + zi * zi < 4.0) {
                double t = zr * zr - zi * zi + cr;
                zi = 2.0 * zr * zi + ci; zr = t; count++;
            }
            out[y * n + x] = count;
        }
}
void saxpy(int64_t n, double a, const double *x, double *y) {
    for (int64_t i = 0; i < n; i++) y[i] += a * x[i];
}
void particles(int64_t n, int64_t steps, float dt, float *restrict x, float *restrict y, float *restrict z,
               float *restrict u, float *restrict v, float *restrict w) {
    for (int64_t step = 0; step < steps; step++)
        for (int64_t i = 0; i < n; i++) {
            float r2 = x[i] * x[i] + y[i] * y[i] + z[i] * z[i] + 0.001f, pull = 1.0f / (r2 * sqrtf(r2)) * dt;
            u[i] -= x[i] * pull; v[i] -= y[i] * pull; w[i] -= z[i] * pull;
            x[i] += u[i] * dt; y[i] += v[i] * dt; z[i] += w[i] * dt;
        }
}
int64_t inc(int64_t n) { return n + 1; }
"""


def compiled_c() -> Any:
    """The same in C, as quick as the compiler of this machine makes it for this machine."""
    compiler = shutil.which("cc")
    if compiler is None:
        raise ModuleNotFoundError("a C compiler is not installed", name="cc")
    with tempfile.TemporaryDirectory() as folder:
        source, library = Path(folder, "work.c"), Path(folder, "work.so")
        source.write_text(C)
        options = ["-O3", "-march=native", "-fno-math-errno", "-shared", "-fPIC"]
        subprocess.run([compiler, *options, "-o", str(library), str(source), "-lm"], check=True)
        loaded = ctypes.CDLL(str(library))
    long, double, pointer = ctypes.c_int64, ctypes.c_double, ctypes.c_void_p
    signatures: dict[str, tuple[list[Any], Any]] = {
        "xorshift": ([long], long),
        "mandelbrot": ([long, long, long, long, pointer], None),
        "saxpy": ([long, double, pointer, pointer], None),
        "particles": ([long, long, ctypes.c_float, *[pointer] * 6], None),
        "inc": ([long], long),
    }
    for name, (arguments, result) in signatures.items():
        function = getattr(loaded, name)
        function.argtypes, function.restype = arguments, result
    return loaded
