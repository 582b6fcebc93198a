"""A sandbox that is kept: a call of it, a snapshot and back, an array to a worker, and a call that is resumed."""

from __future__ import annotations

import ctypes
import functools
from typing import Any

from benchmarks.contenders.wasm import KEPT as BARE
from benchmarks.contenders.wasm import MODULE, bare, wasmtime_py
from benchmarks.harness import Group
from benchmarks.lazy import hc
from benchmarks.measure import Effort, Figures, time_calls
from benchmarks.tasks import total

group = Group("instances", "A module that is kept alive")

CALL = "add(2, 3)"
METERED = "add(2, 3), with fuel, the same bits everywhere"
SNAPSHOT = "a snapshot of 128 KiB, and back"
OPEN = "opened and closed"
ARRAY = "a task on an array of 8 MB, in a worker"
SLICE = "one slice of a call, 1,000 units of fuel"

TWO_PAGES = MODULE.replace(
    '(memory (export "memory") 1)',
    """(memory (export "memory") 2)
  (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))""",
)
MEGABYTES = 8


def opened(text: str = TWO_PAGES, **options: Any) -> Any:
    from hybrid_compute.wasm import WasmModule

    return WasmModule.from_wat(text).open(**options)


# Calls.


@group.limit("wasmtime_func_call_unchecked by ctypes", CALL)
def unchecked(effort: Effort) -> Figures:
    return {CALL: bare(effort)[BARE]}


@group.ours("Instance", CALL, METERED, OPEN)
def call(effort: Effort) -> Figures:
    with opened() as plain, opened(deterministic=True) as metered:
        add, counted = plain["add"], metered["add"]
        assert add(2, 3) == counted(2, 3) == 5
        return {
            CALL: time_calls(functools.partial(add, 2, 3), effort),
            METERED: time_calls(functools.partial(counted, 2, 3), effort),
            OPEN: time_calls(lambda: opened_again().close(), effort),
        }


@functools.cache
def module() -> Any:
    from hybrid_compute.wasm import WasmModule

    return WasmModule.from_wat(TWO_PAGES)


def opened_again() -> Any:
    return module().open()


@group.ours("Instance, shared", OPEN)
def shared(effort: Effort) -> Figures:
    return {OPEN: time_calls(lambda: module().open(shared=True).close(), effort)}


@group.peer("wasmtime-py: Func.__call__", CALL)
def func_call(effort: Effort) -> Figures:
    return {CALL: wasmtime_py(effort)[BARE]}


# Snapshots.


@group.limit("memcpy there and back", SNAPSHOT)
def memcpy(effort: Effort) -> Figures:
    """The bytes alone, into an object of Python and out of it."""
    memory = ctypes.create_string_buffer(128 << 10)
    at = ctypes.addressof(memory)

    def there_and_back() -> None:
        kept = ctypes.string_at(at, 128 << 10)
        ctypes.memmove(at, kept, 128 << 10)

    return {SNAPSHOT: time_calls(there_and_back, effort)}


@group.ours("Instance.snapshot and restore", SNAPSHOT)
def snapshot(effort: Effort) -> Figures:
    with opened() as instance:
        return {SNAPSHOT: time_calls(lambda: instance.restore(instance.snapshot()), effort)}


@group.peer("wasmtime-py: Memory.read and write, one global", SNAPSHOT)
def read_and_write(effort: Effort) -> Figures:
    import wasmtime

    engine = wasmtime.Engine()
    store = wasmtime.Store(engine)
    text = TWO_PAGES.replace("(global $next", '(global $next (export "next")')
    exports = wasmtime.Instance(store, wasmtime.Module(engine, text), []).exports(store)
    memory: Any = exports["memory"]
    free: Any = exports["next"]

    def there_and_back() -> None:
        kept, value = memory.read(store, 0, 128 << 10), free.value(store)
        memory.write(store, kept, 0)
        free.set_value(store, value)

    return {SNAPSHOT: time_calls(there_and_back, effort)}


# Arrays.


def in_a_worker(effort: Effort, *, where: str) -> Figures:
    import numpy as np

    workers, task = hc.WorkerBackend(1), hc.task(total)
    count = (MEGABYTES << 20) // 4
    with hc.BlockingRuntime([workers], strategy="worker") as rt, opened(shared=True) as instance:
        instance["grow"](MEGABYTES << 4)
        made = {"arena": workers.empty, "guest": instance.empty, "private": np.empty}
        values = made[where](count, "float32")
        values[:] = 1
        assert rt.run(task, values) == count
        return {ARRAY: time_calls(lambda: rt.run(task, values), effort)}


group.limit("in the arena", ARRAY)(functools.partial(in_a_worker, where="arena"))
group.ours("in the memory of a shared instance", ARRAY)(functools.partial(in_a_worker, where="guest"))
group.peer("in private memory, copied", ARRAY)(functools.partial(in_a_worker, where="private"))


# Slices.


@group.limit("wasmtime_call_future_poll by ctypes", SLICE)
def poll(effort: Effort) -> Figures:
    from hybrid_compute.wasm import capi

    with opened(deterministic=True) as instance:
        instance.begin("spin", slice=1000)
        future = instance._gate.guest.suspended._future
        return {SLICE: time_calls(lambda: capi.future_poll(future), effort)}


@group.ours("Run.step", SLICE)
def step(effort: Effort) -> Figures:
    with opened(deterministic=True) as instance:
        return {SLICE: time_calls(instance.begin("spin", slice=1000).step, effort)}
