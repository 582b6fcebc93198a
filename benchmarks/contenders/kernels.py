"""Loops over numbers as kernels, beside C, CPython, numpy and numba; what a call costs, and what it costs to compile.

Everybody gets the same arrays, of numpy. "In the memory of kernels" they were made by `kernels.empty`, else they are
copied in and back with each call.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from benchmarks.harness import Group
from benchmarks.lazy import Lazy, numpy
from benchmarks.measure import Effort, Figures, Series, time_calls

group = Group("kernels", "Loops over numbers")

INTEGERS = "xorshift, 1M turns on integers"
MANDELBROT = "mandelbrot, 200 x 200, 100 steps"
SAXPY = "saxpy, 1M float64"
PARTICLES = "particles, 20,000 float32, 20 steps"
THREADS = "mandelbrot, 800 x 800, 100 steps, in threads"
COMPILED = "from the def to the first result, mandelbrot"
CALL = "a call with one number"

SIDE, WIDE, STEPS = 200, 800, 100
kernels = Lazy("hybrid_compute.kernels")
work = Lazy("benchmarks.work")  # it imports what is measured

Allocate = Callable[..., Any]


def square(allocate: Allocate, side: int) -> Any:
    return _like(allocate, numpy.zeros((side, side), numpy.int32))


def pair(allocate: Allocate) -> list[Any]:
    rng = numpy.random.default_rng(0)
    return [_like(allocate, rng.random(1_000_000)) for _ in range(2)]


def cloud(allocate: Allocate) -> list[Any]:
    rng = numpy.random.default_rng(0)
    return [_like(allocate, rng.random(20_000, dtype=numpy.float32)) for _ in range(6)]


def _like(allocate: Allocate, array: Any) -> Any:
    made = allocate(array.shape, array.dtype)
    made[...] = array
    return made


def figures(make: Callable[[Callable[..., Any]], Callable[..., Any]], allocate: Allocate, effort: Effort) -> Figures:
    """All four loops, each made by `make` of its function."""
    took = {
        INTEGERS: partial(make(work.xorshift), 1_000_000),
        MANDELBROT: partial(make(work.mandelbrot), 0, SIDE, SIDE, STEPS, square(allocate, SIDE)),
        SAXPY: partial(make(work.saxpy), 1.5, *pair(allocate)),
        PARTICLES: partial(make(work.particles), 20, 0.001, *cloud(allocate)),
    }
    return {measure: time_calls(call, effort, unit="ms") for measure, call in took.items()}


LOOPS = (INTEGERS, MANDELBROT, SAXPY, PARTICLES)


@group.limit("C, gcc -O3 -march=native", *LOOPS, CALL)
def c(effort: Effort) -> Figures:
    library = work.compiled_c()
    x, y = pair(numpy.empty)
    took = {
        INTEGERS: partial(library.xorshift, 1_000_000),
        MANDELBROT: partial(library.mandelbrot, 0, SIDE, SIDE, STEPS, square(numpy.empty, SIDE).ctypes),
        SAXPY: partial(library.saxpy, len(x), 1.5, x.ctypes, y.ctypes),  # which keep their arrays
    }
    arrays = cloud(numpy.empty)
    took[PARTICLES] = partial(library.particles, len(arrays[0]), 20, 0.001, *(each.ctypes for each in arrays))
    told = {measure: time_calls(call, effort, unit="ms") for measure, call in took.items()}
    return told | {CALL: time_calls(partial(_thousand, library.inc), effort, per=1000)}


@group.ours("kernel", *LOOPS)
def interruptible(effort: Effort) -> Figures:
    return figures(kernels.kernel, kernels.empty, effort)


@group.ours("kernel, interruptible=False", *LOOPS)
def quick(effort: Effort) -> Figures:
    return figures(kernels.kernel(interruptible=False), kernels.empty, effort)


@group.ours("kernel, ordinary arrays", SAXPY, PARTICLES)
def copied(effort: Effort) -> Figures:
    told = figures(kernels.kernel(interruptible=False), numpy.empty, effort)
    return {measure: told[measure] for measure in (SAXPY, PARTICLES)}


@group.ours("kernel, arrays of WorkerBackend.empty", SAXPY, PARTICLES)
def shared(effort: Effort) -> Figures:
    workers = importlib.import_module("hybrid_compute").WorkerBackend(size=1)
    told = figures(kernels.kernel(interruptible=False), workers.empty, effort)
    return {measure: told[measure] for measure in (SAXPY, PARTICLES)}


@group.peer("CPython", INTEGERS, MANDELBROT, SAXPY)
def cpython(effort: Effort) -> Figures:
    took = {
        INTEGERS: partial(work.xorshift, 1_000_000),
        MANDELBROT: partial(work.mandelbrot, 0, SIDE, SIDE, STEPS, square(numpy.empty, SIDE)),
        SAXPY: partial(work.saxpy, 1.5, *pair(numpy.empty)),
    }
    return {measure: time_calls(call, effort, unit="ms") for measure, call in took.items()}


@group.peer("numpy", SAXPY, PARTICLES)
def with_numpy(effort: Effort) -> Figures:
    took = {
        SAXPY: partial(work.numpy_saxpy, 1.5, *pair(numpy.empty)),
        PARTICLES: partial(work.numpy_particles, 20, 0.001, *cloud(numpy.empty)),
    }
    return {measure: time_calls(call, effort, unit="ms") for measure, call in took.items()}


@group.peer("numba.njit", *LOOPS)
def numba(effort: Effort) -> Figures:
    return figures(importlib.import_module("numba").njit, numpy.empty, effort)


# Threads. One row after the other has one thread and two; C shows what the machine has to give just then.


def in_c(threads: int, effort: Effort) -> Figures:
    library, out = work.compiled_c(), square(numpy.empty, WIDE)
    pieces = [(start, start + WIDE // 32) for start in range(0, WIDE, WIDE // 32)]
    with ThreadPoolExecutor(threads) as pool:

        def run(piece: tuple[int, int]) -> None:
            library.mandelbrot(*piece, WIDE, STEPS, out.ctypes)

        return {THREADS: time_calls(lambda: list(pool.map(run, pieces)), effort, unit="ms")}


def in_kernels(threads: int, effort: Effort) -> Figures:
    kernel, out = kernels.kernel(interruptible=False)(work.mandelbrot), square(kernels.empty, WIDE)
    run = partial(kernel.parallel, WIDE, WIDE, STEPS, out, threads=threads)
    return {THREADS: time_calls(run, effort, unit="ms")}


for threads in (1, 2):
    plural = "s" if threads > 1 else ""
    group.limit(f"C, {threads} thread{plural}", THREADS)(partial(in_c, threads))
    group.ours(f"kernel.parallel, {threads} thread{plural}", THREADS)(partial(in_kernels, threads))


# Compilers. A process compiles once, so there is one sample a round.


def _first(make: Callable[[Callable[..., Any]], Callable[..., Any]]) -> Figures:
    out, function = square(numpy.empty, 4), work.mandelbrot
    began = time.perf_counter()
    make(function)(0, 4, 4, 4, out)
    return {COMPILED: Series.of([(time.perf_counter() - began) * 1e3], "ms")}


@group.ours("kernel, the first of a process", COMPILED)
def first_kernel(effort: Effort) -> Figures:
    return _first(kernels.kernel)


@group.ours("kernel, another one", COMPILED)
def another_kernel(effort: Effort) -> Figures:
    _first(kernels.kernel)
    return _first(kernels.kernel)


@group.peer("numba.njit, the first of a process", COMPILED)
def first_numba(effort: Effort) -> Figures:
    return _first(importlib.import_module("numba").njit)


@group.peer("numba.njit, another one", COMPILED)
def another_numba(effort: Effort) -> Figures:
    _first(importlib.import_module("numba").njit)
    return _first(importlib.import_module("numba").njit)


# Calls.


def _thousand(call: Callable[[int], object]) -> None:
    for number in range(1000):
        call(number)


@group.ours("kernel", CALL)
def call_kernel(effort: Effort) -> Figures:
    return {CALL: time_calls(partial(_thousand, kernels.kernel(work.inc)), effort, per=1000)}


@group.peer("the function itself", CALL)
def call_function(effort: Effort) -> Figures:
    return {CALL: time_calls(partial(_thousand, work.inc), effort, per=1000)}


@group.peer("numba.njit", CALL)
def call_numba(effort: Effort) -> Figures:
    return {CALL: time_calls(partial(_thousand, importlib.import_module("numba").njit(work.inc)), effort, per=1000)}


@group.peer("wasmtime.Func.__call__", CALL)
def call_wasmtime(effort: Effort) -> Figures:
    wasmtime = importlib.import_module("wasmtime")
    store = wasmtime.Store()
    text = '(module (func (export "inc") (param i64) (result i64) (i64.add (local.get 0) (i64.const 1))))'
    instance = wasmtime.Instance(store, wasmtime.Module(store.engine, text), [])
    return {CALL: time_calls(partial(_thousand, partial(instance.exports(store)["inc"], store)), effort, per=1000)}
