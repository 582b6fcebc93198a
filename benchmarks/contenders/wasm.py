"""Code in a sandbox: what a call costs, a new sandbox for each, a large module, and hostile calls among good ones."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from benchmarks.harness import Group
from benchmarks.measure import Effort, Figures, Series, time_calls

if TYPE_CHECKING:
    from hybrid_compute.tasks import Task

group = Group("wasm", "A function of a WASM module", placements=("free", "pinned"))

KEPT = "add(2, 3) in a guest that is kept"
FRESH = "add(2, 3), each time in a new guest"
TEXT = "a text of 64 characters and back, in a new guest"
LOAD = "a module of 10 MB, until it can be called"
AMONG = "1 ms in a guest: p50 of 600 calls, alone and among 600 hostile ones"
STOP = "from the cancellation of an endless call until its guest has ended"

MODULE = """
(module
  (memory (export "memory") 1)
  (global $next (mut i32) (i32.const 1024))
  (func (export "alloc") (param i32) (result i32) (local i32)
    (local.set 1 (global.get $next))
    (global.set $next (i32.add (global.get $next) (local.get 0)))
    (local.get 1))
  (func (export "add") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1)))
  (func (export "echo") (param i32 i32) (result i64)
    (i64.or (i64.shl (i64.extend_i32_u (local.get 0)) (i64.const 32)) (i64.extend_i32_u (local.get 1))))
  (func (export "sum_to") (param i32) (result i64) (local i64)
    (loop
      (local.set 1 (i64.add (local.get 1) (i64.extend_i32_u (local.get 0))))
      (br_if 0 (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))
    (local.get 1))
  (func (export "spin") (loop br 0))
  (func $deeper (export "recurse") (call $deeper))
  (func (export "give_up") unreachable)
  (func (export "far") (result i32) (i32.load (i32.const -1)))
  (func (export "hoard") (loop (if (i32.eq (memory.grow (i32.const 16)) (i32.const -1)) (then unreachable)) (br 0))))
"""


def module() -> Any:
    from hybrid_compute.wasm import WasmModule

    return WasmModule.from_wat(MODULE)


def add(a: int, b: int) -> int: ...  # type: ignore[empty-body]  # the module has the body


def echo(text: str) -> str: ...  # type: ignore[empty-body]


# One call.


@group.limit("wasmtime_func_call_unchecked by ctypes", KEPT)
def bare(effort: Effort) -> Figures:
    """With the arguments set and the result read, and nothing checked, limited or watched."""
    import struct
    from ctypes import addressof, c_void_p, create_string_buffer

    import wasmtime

    from hybrid_compute.wasm import capi

    engine = wasmtime.Engine()
    store, linker, pre, trap = (
        capi.store_new(capi.pointer(engine), None, None),
        wasmtime.Linker(engine),
        c_void_p(),
        c_void_p(),
    )
    compiled, context = wasmtime.Module(engine, MODULE), capi.store_context(store)
    instance, extern = create_string_buffer(capi.INSTANCE_SIZE), create_string_buffer(capi.EXTERN_SIZE)
    capi.check(capi.linker_instantiate_pre(capi.pointer(linker), capi.pointer(compiled), addressof(pre)))
    capi.check(capi.pre_instantiate(pre.value, context, addressof(instance), addressof(trap)))
    capi.export_get(context, addressof(instance), b"add", 3, addressof(extern))
    values, call, function = create_string_buffer(32), capi.func_call, addressof(extern) + capi.EXTERN_VALUE
    pack, unpack, at, trap_at = (
        struct.Struct("<i12xi").pack_into,
        struct.Struct("<i").unpack_from,
        addressof(values),
        addressof(trap),
    )

    def once() -> int:
        pack(values, 0, 2, 3)
        call(context, function, at, 2, trap_at)
        result: int = unpack(values)[0]
        return result

    assert once() == 5
    return {KEPT: time_calls(once, effort)}


@group.ours("a task with reuse=True", KEPT)
def kept(effort: Effort) -> Figures:
    task = module().task(reuse=True)(add)
    assert task(2, 3) == 5
    return {KEPT: time_calls(lambda: task(2, 3), effort)}


@group.ours("a task", FRESH, TEXT)
def fresh(effort: Effort) -> Figures:
    sum, same, text = module().task(add), module().task(echo), "a" * 64
    assert sum(2, 3) == 5
    assert same(text) == text
    return {FRESH: time_calls(lambda: sum(2, 3), effort), TEXT: time_calls(lambda: same(text), effort)}


@group.peer("wasmtime-py: Func.__call__", KEPT, FRESH)
def wasmtime_py(effort: Effort) -> Figures:
    import wasmtime

    engine = wasmtime.Engine()
    compiled = wasmtime.Module(engine, MODULE)

    def instance() -> Callable[[], Any]:
        store = wasmtime.Store(engine)
        function: Any = wasmtime.Instance(store, compiled, []).exports(store)["add"]
        return functools.partial(function, store, 2, 3)

    def anew() -> None:
        instance()()

    once = instance()
    assert once() == 5
    return {KEPT: time_calls(once, effort), FRESH: time_calls(anew, effort)}


@group.peer("extism", KEPT, FRESH)
def extism(effort: Effort) -> Figures:
    """A plug-in reads eight bytes and gives four: its functions have no parameters of their own."""
    import extism

    text = """
    (module
      (import "extism:host/env" "input_load_u64" (func $input (param i64) (result i64)))
      (import "extism:host/env" "alloc" (func $alloc (param i64) (result i64)))
      (import "extism:host/env" "store_u64" (func $store (param i64 i64)))
      (import "extism:host/env" "output_set" (func $output (param i64 i64)))
      (memory (export "memory") 1)
      (func (export "add") (result i32) (local i64 i64)
        (local.set 0 (call $input (i64.const 0)))
        (local.set 1 (call $alloc (i64.const 8)))
        (call $store (local.get 1)
          (i64.add (i64.and (local.get 0) (i64.const 0xffffffff)) (i64.shr_u (local.get 0) (i64.const 32))))
        (call $output (local.get 1) (i64.const 8))
        (i32.const 0)))
    """
    import wasmtime

    manifest = {"wasm": [{"data": bytes(wasmtime.wat2wasm(text))}]}
    given = (2).to_bytes(4, "little") + (3).to_bytes(4, "little")
    plugin = extism.Plugin(manifest)
    assert bytes(plugin.call("add", given))[:1] == b"\5"
    return {
        KEPT: time_calls(lambda: plugin.call("add", given), effort),
        FRESH: time_calls(lambda: extism.Plugin(manifest).call("add", given), effort),
    }


# A large module.


def large(size: int = 10_000_000) -> bytes:
    """A module of so many bytes, of functions that are all alike."""

    def number(value: int) -> bytes:
        made = b""
        while value > 127:
            made += bytes([value & 127 | 128])
            value >>= 7
        return made + bytes([value])

    def section(kind: int, body: bytes) -> bytes:
        return bytes([kind]) + number(len(body)) + body

    steps = b"".join(b"\x20\x00\x41" + number(step & 63) + bytes([0x6A + step % 3]) + b"\x21\x00" for step in range(80))
    body = b"\x00" + steps + b"\x20\x00\x0b"
    body = number(len(body)) + body
    count = size // len(body)
    types, functions = section(1, b"\1\x60\1\x7f\1\x7f"), section(3, number(count) + bytes(count))
    return b"\0asm\1\0\0\0" + types + functions + section(7, b"\1\1f\0\0") + section(10, number(count) + body * count)


@group.limit("Module.deserialize_file", LOAD)
def deserialize(effort: Effort) -> Figures:
    """What wasmtime takes to map code that is known to be good."""
    import wasmtime

    with TemporaryDirectory() as folder:
        path, engine = Path(folder, "large.cwasm"), wasmtime.Engine()
        path.write_bytes(wasmtime.Module(engine, large()).serialize())
        return {LOAD: time_calls(lambda: wasmtime.Module.deserialize_file(engine, str(path)), effort, unit="ms")}


@group.ours("WasmModule.from_file, from the cache", LOAD)
def from_cache(effort: Effort) -> Figures:
    """Each time as if it had never been seen in this process."""
    from hybrid_compute.wasm.engines import Profile, engine_for
    from hybrid_compute.wasm.module import WasmModule

    with TemporaryDirectory() as folder:
        path = Path(folder, "large.wasm")
        path.write_bytes(large())
        WasmModule.from_file(path).task("f").fn.prepare()
        known = engine_for(Profile()).code

        def load() -> None:
            known.clear()
            WasmModule.from_file(path).task("f").fn.prepare()

        return {LOAD: time_calls(load, effort, unit="ms")}


@group.peer("wasmtime.Module, compiled", LOAD, slow=True)
def compile(effort: Effort) -> Figures:
    import wasmtime

    source, engine = large(), wasmtime.Engine()
    return {LOAD: time_calls(lambda: wasmtime.Module(engine, source), effort, unit="ms", warm=True)}


# Among others.


@group.ours("alone", AMONG)
def alone(effort: Effort) -> Figures:
    return {AMONG: asyncio.run(_good(hostile=0))}


@group.ours("among hostile ones", AMONG)
def among(effort: Effort) -> Figures:
    return {AMONG: asyncio.run(_good(hostile=600))}


async def _good(hostile: int) -> Series:
    """600 calls of a millisecond, one after the other with pauses, while so many hostile ones come in as they go."""
    from hybrid_compute import Runtime, WasmBackend
    from hybrid_compute.errors import HybridComputeError
    from hybrid_compute.wasm import Limits

    limits = Limits(time=0.02, memory=4 << 20)
    task = module().task("sum_to")
    bad = [module().task(name, limits=limits) for name in ("spin", "recurse", "give_up", "far", "hoard")]

    async def try_one(task: Task[..., Any]) -> None:
        try:
            await runtime.run(task)
        except HybridComputeError:
            return
        raise AssertionError(f"{task.name} was let through")

    turns = _turns(task, 0.001)
    async with Runtime([WasmBackend()]) as runtime:
        for _ in range(20):
            await runtime.run(task, turns)
        samples: list[float] = []
        async with asyncio.TaskGroup() as others:
            for number in range(600):
                if number < hostile:
                    others.create_task(try_one(bad[number % len(bad)]))
                began = time.perf_counter_ns()
                assert await runtime.run(task, turns) == turns * (turns + 1) // 2
                samples.append((time.perf_counter_ns() - began) / 1e6)
                await asyncio.sleep(0.001)
        return Series.of(samples, "ms")


def _turns(task: Any, seconds: float) -> int:
    """How far the task counts in so many seconds."""
    turns = 1_000_000
    samples: list[float] = []
    for _ in range(20):
        began = time.perf_counter()
        task(turns)
        samples.append(time.perf_counter() - began)
    return int(turns * seconds / min(samples))


@group.ours("WasmBackend", STOP)
def stop(effort: Effort) -> Figures:
    from hybrid_compute import WasmBackend
    from hybrid_compute.calls import Call
    from hybrid_compute.wasm import Limits
    from hybrid_compute.wasm.watch import watch

    async def measure() -> Series:
        samples: list[float] = []
        backend = WasmBackend()
        spin = module().task("spin", limits=Limits(time=None))
        for _ in range(50):
            call = asyncio.ensure_future(backend.run_call(Call(spin)))
            while not watch.running:  # noqa: ASYNC110  # what runs there tells nobody
                await asyncio.sleep(0.0002)
            began = time.perf_counter_ns()
            call.cancel()
            while watch.running:  # noqa: ASYNC110
                await asyncio.sleep(0.0002)
            samples.append((time.perf_counter_ns() - began) / 1e6)
        await backend.aclose()
        return Series.of(samples, "ms")

    return {STOP: asyncio.run(measure())}
