"""What this library has set out to reach, as data: a name, how it follows from the figures, and the bound.

Ratios compare contenders of one interleaved run. A target whose figures are missing says which; that is no error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

from benchmarks.contenders import (
    actions,
    engine,
    gpu,
    instances,
    kernels,
    lifecycle,
    remote,
    remote_arrays,
    requests,
    tensors,
    wasm,
)
from benchmarks.contenders.arrays import ECHO
from benchmarks.contenders.burst import GATHER, MAP, SUBMIT
from benchmarks.contenders.lag import LAG
from benchmarks.contenders.routing import KINDS, MIX
from benchmarks.harness import NotAsked, NotMeasured, Results
from benchmarks.machine import Placement
from benchmarks.measure import Series

Lookup: TypeAlias = Callable[["Figure"], Series]
Formula: TypeAlias = Callable[[Lookup], float]


@dataclass(frozen=True, slots=True)
class Figure:
    """Where one number of the report stands."""

    group: str
    measure: str
    contender: str


@dataclass(frozen=True, slots=True)
class Target:
    name: str
    formula: Formula
    bound: float
    at_least: bool = False
    unit: str = ""
    placements: tuple[Placement, ...] = ("free",)

    def met_by(self, measured: float) -> bool:
        return measured >= self.bound if self.at_least else measured <= self.bound


@dataclass(frozen=True, slots=True)
class Verdict:
    target: Target
    placement: Placement
    measured: float | None
    reason: str = ""

    @property
    def word(self) -> str:
        if self.measured is None:
            return "not measured"
        return "met" if self.target.met_by(self.measured) else "MISSED"


# Formulas


def value(figure: Figure, *, per: float = 1.0) -> Formula:
    return lambda look: look(figure).p50 / per


def p95(figure: Figure) -> Formula:
    return lambda look: _known(look(figure).p95)


def above(figure: Figure, floor: Figure) -> Formula:
    return lambda look: look(figure).p50 - look(floor).p50


def p99_above(figure: Figure, floor: Figure) -> Formula:
    return lambda look: _known(look(figure).p99) - _known(look(floor).p99)


def times(figure: Figure, other: Figure, *, per: float = 1.0) -> Formula:
    """`figure` as a multiple of `other`, medians of both. `per` brings other units to one."""
    return lambda look: look(figure).p50 / look(other).p50 / per


def times_best(figure: Figure, *others: Figure) -> Formula:
    """`figure` as a multiple of the best of `others`."""

    def formula(look: Lookup) -> float:
        series = [look(other) for other in others]
        best = max if series[0].higher_is_better else min
        return look(figure).p50 / best(each.p50 for each in series)

    return formula


def worst(*formulas: Formula) -> Formula:
    return lambda look: max(formula(look) for formula in formulas)


def _known(percentile: float | None) -> float:
    if percentile is None:
        raise NotMeasured("too few samples for this percentile")
    return percentile


# Figures that are used more than once

SYNC = Figure("sync", "call", "BlockingRuntime.run")
SYNC_PIPE = Figure("sync", "call", "raw pipe, 64 B")
ASYNC = Figure("async", "asyncio", "Runtime.run")
ASYNC_BACKEND = Figure("async", "asyncio", "WorkerBackend alone")
ASYNC_PIPE = Figure("async", "asyncio", "raw pipe, add_reader")
ASYNC_POOL = Figure("async", "asyncio", "run_in_executor(ProcessPoolExecutor)")
UVLOOP = Figure("async", "uvloop", "Runtime.run")
UVLOOP_BACKEND = Figure("async", "uvloop", "WorkerBackend alone")
UVLOOP_PIPE = Figure("async", "uvloop", "raw pipe, add_reader")
GATHERED = Figure("burst", GATHER, "Runtime.run, asyncio")
GATHERED_POOL = Figure("burst", GATHER, "run_in_executor(ProcessPoolExecutor), asyncio")
MAPPED = Figure("burst", MAP, "BlockingRuntime.map")
MAPPED_POOLS = (
    Figure("burst", MAP, "ProcessPoolExecutor.map, chunksize 512"),
    Figure("burst", MAP, "multiprocessing.Pool.starmap"),
)
BARE_WASM = Figure("wasm", wasm.KEPT, "wasmtime_func_call_unchecked by ctypes")
WASMTIME = Figure("wasm", wasm.KEPT, "wasmtime-py: Func.__call__")
TINY_EACH = Figure("gpu", gpu.TINY, "wgpu-py: one pipeline, submit and read each")
ARRAY = Figure("arrays", ECHO, "BlockingRuntime.run")
ARRAY_ARENA = Figure("arrays", ECHO, "BlockingRuntime.run, array in the arena")


def _concurrent(workers: int) -> Formula:
    ours = Figure("concurrent5", "asyncio", f"Runtime.run, {workers} worker{'s' if workers > 1 else ''}")
    node = Figure("concurrent5", "asyncio", f"Node worker_threads, {workers} worker{'s' if workers > 1 else ''}")
    return times(ours, node)


def _posted(measure: str, peer: str) -> Formula:
    return times(Figure("http", measure, "create_app"), Figure("http", measure, peer))


def _on_socket(measure: str) -> Formula:
    return times(Figure("websocket", measure, "create_app"), Figure("websocket", measure, "raw ASGI, msgspec"))


def _to_server(measure: str) -> Formula:
    """How much longer our call takes, also where the figure is a rate."""
    bare, ours = (Figure("remote", measure, name) for name in ("bare aiohttp", "RemoteBackend alone"))
    return times(bare, ours) if measure in (remote.HTTP_MANY, remote.SOCKET_MANY) else times(ours, bare)


def _sent(over: str) -> Formula:
    return times_best(
        Figure("remote-arrays", remote_arrays.ECHO, f"Runtime.run, {over}, in the server"),
        Figure("remote-arrays", remote_arrays.ECHO, "bare aiohttp to raw ASGI, the bytes as one"),
        Figure("remote-arrays", remote_arrays.ECHO, "bare aiohttp to raw ASGI, the bytes in pieces"),
    )


def _in_worker(measure: str) -> Formula:
    """How much longer our action takes than that of a bare Node worker."""
    ours = "UniversalWorker.ping" if measure == engine.PING else "Engine.dispatch_async"
    return times(Figure("engine", measure, ours), Figure("engine", measure, "Node worker_threads"))


def _beside_original(measure: str) -> Formula:
    original = Figure("actions", measure, "the original, as measured once")
    return times(Figure("actions", measure, "Engine.dispatch"), original)


def _kernel(measure: str, peer: str, ours: str = "kernel") -> Formula:
    """How much longer the peer takes than our kernel."""
    return times(Figure("kernels", measure, peer), Figure("kernels", measure, ours))


def _on_gpu(measure: str, other: str) -> Formula:
    measure, ours = measure.format(tensors.LARGE) + tensors.THERE, f"{tensors.OURS}{tensors.THERE}"
    return times(*(Figure("tensors", measure, f"{name}, {tensors.LARGE}") for name in (other, ours)))


def _threads(one: str, two: str) -> Formula:
    return times(Figure("kernels", kernels.THREADS, one), Figure("kernels", kernels.THREADS, two))


def _learned(measure: str) -> Formula:
    auto, *fixed = (Figure("routing", measure, f"Runtime.run, {name}") for name in ("auto", "local", "worker"))
    return times_best(auto, *fixed)


BOTH: tuple[Placement, ...] = ("free", "pinned")

TARGETS = (
    Target("sync: BlockingRuntime.run / raw pipe", times(SYNC, SYNC_PIPE), 1.35, placements=BOTH),
    Target("sync: the same, the looser bound for the whole runtime", times(SYNC, SYNC_PIPE), 1.6, placements=BOTH),
    Target(
        "sync: ProcessPoolExecutor / ours",
        times(Figure("sync", "call", "ProcessPoolExecutor (fork)"), SYNC),
        10,
        at_least=True,
        placements=BOTH,
    ),
    Target(
        "sync: multiprocessing.Pool / ours",
        times(Figure("sync", "call", "multiprocessing.Pool (fork)"), SYNC),
        4,
        at_least=True,
        placements=BOTH,
    ),
    Target("asyncio: WorkerBackend alone / raw pipe", times(ASYNC_BACKEND, ASYNC_PIPE), 1.25, placements=BOTH),
    Target("asyncio: Runtime.run / raw pipe", times(ASYNC, ASYNC_PIPE), 1.5, placements=BOTH),
    Target("uvloop: WorkerBackend alone / raw pipe", times(UVLOOP_BACKEND, UVLOOP_PIPE), 1.3, placements=BOTH),
    Target("uvloop: Runtime.run / raw pipe", times(UVLOOP, UVLOOP_PIPE), 1.5, placements=BOTH),
    Target(
        "asyncio: run_in_executor(ProcessPoolExecutor) / WorkerBackend alone",
        times(ASYNC_POOL, ASYNC_BACKEND),
        9,
        at_least=True,
        placements=BOTH,
    ),
    Target(
        "asyncio: run_in_executor(ProcessPoolExecutor) / Runtime.run",
        times(ASYNC_POOL, ASYNC),
        8,
        at_least=True,
        placements=BOTH,
    ),
    Target(
        "asyncio: anyio.to_process / ours",
        times(Figure("async", "asyncio", "anyio.to_process"), ASYNC),
        4.5,
        at_least=True,
        placements=BOTH,
    ),
    Target("5 at once: ours, 1 worker / Node, 1 worker", _concurrent(1), 1.0, placements=BOTH),
    Target("5 at once: ours, 2 workers / Node, 2 workers", _concurrent(2), 1.0, placements=BOTH),
    Target("burst: gather, ours", value(GATHERED), 250_000, at_least=True, unit="calls/s"),
    Target(
        "burst: gather, ours / run_in_executor(ProcessPoolExecutor)",
        times(GATHERED, GATHERED_POOL),
        25,
        at_least=True,
    ),
    Target(
        "burst: BlockingRuntime.map / ProcessPoolExecutor.submit",
        times(MAPPED, Figure("burst", SUBMIT, "ProcessPoolExecutor.submit")),
        30,
        at_least=True,
    ),
    Target(
        "burst: BlockingRuntime.map / multiprocessing.Pool.apply_async",
        times(MAPPED, Figure("burst", SUBMIT, "multiprocessing.Pool.apply_async")),
        15,
        at_least=True,
    ),
    Target(
        "burst: BlockingRuntime.map / the best chunked map",
        times_best(MAPPED, *MAPPED_POOLS),
        2,
        at_least=True,
    ),
    Target(
        "64 MiB echo: ProcessPoolExecutor / ours",
        times(Figure("arrays", ECHO, "ProcessPoolExecutor (fork)"), ARRAY),
        60,
        at_least=True,
    ),
    Target(
        "64 MiB echo: new SharedMemory for each message / ours",
        times(Figure("arrays", ECHO, "new SharedMemory for each message"), ARRAY),
        20,
        at_least=True,
    ),
    Target(
        "64 MiB echo: pickle 5 over a socketpair / ours",
        times(Figure("arrays", ECHO, "pickle 5 out of band over a socketpair"), ARRAY),
        5,
        at_least=True,
    ),
    Target("64 MiB echo, already in the arena", value(ARRAY_ARENA, per=1e-3), 30, unit="us"),
    Target("64 MiB echo, already in the arena, the looser bound", value(ARRAY_ARENA, per=1e-3), 60, unit="us"),
    Target("64 MiB echo, already in the arena / small sync call", times(ARRAY_ARENA, SYNC, per=1e-3), 4),
    Target(
        "one more worker to its first result",
        value(Figure("lifecycle", lifecycle.EXTRA, "WorkerBackend.warm_up")),
        2,
        unit="ms",
    ),
    Target("PSS per idle worker, 16 workers", value(Figure("lifecycle", lifecycle.PSS, "Runtime")), 2, unit="MB"),
    Target(
        "kill, replace, answer, p95: asyncio",
        p95(Figure("lifecycle", lifecycle.KILL, "Runtime")),
        5,
        unit="ms",
    ),
    Target(
        "kill, replace, answer, p95: sync",
        p95(Figure("lifecycle", lifecycle.KILL, "BlockingRuntime")),
        5,
        unit="ms",
    ),
    Target("import hybrid_compute", value(Figure("lifecycle", lifecycle.IMPORT, "hybrid_compute")), 60, unit="ms"),
    Target(
        "learned-trivial call in this process",
        value(Figure("trivial", "call", "Runtime.run, auto")),
        3,
        unit="us",
    ),
    Target(
        "event loop p99 lag under load, above idle",
        p99_above(Figure("lag", LAG, "Runtime.run"), Figure("lag", LAG, "idle loop")),
        2,
        unit="ms",
    ),
    Target("routing: learned / best fixed place, mix", _learned(MIX), 1.1),
    Target("routing: the same, worst single kind", worst(*(_learned(kind) for kind in KINDS)), 1.1),
    *(
        Target(f"POST /compute, {measure}: ours / {peer}", _posted(measure, peer), bound, at_least=True)
        for peer, bound in (("Starlette, msgspec", 0.85), ("FastAPI, pydantic", 1.5))
        for measure in (requests.ONE_RATE, requests.MANY_RATE)
    ),
    *(
        Target(f"WebSocket, {measure}: ours / raw ASGI", _on_socket(measure), 0.8, at_least=True)
        for measure in (requests.ONE_RATE, requests.MANY_RATE)
    ),
    *(
        Target(f"RemoteBackend, {measure}: ours / bare aiohttp", _to_server(measure), 1.3)
        for measure in (remote.HTTP, remote.SOCKET, remote.HTTP_MANY, remote.SOCKET_MANY)
    ),
    *(
        Target(f"64 MiB to a server and back, {over}: ours / the bytes alone", _sent(over), 1.5)
        for over in ("HTTP", "WebSocket")
    ),
    *(
        Target(f"engine, {measure}: ours / Node", _in_worker(measure), 1.0, placements=BOTH)
        for measure in (engine.PING, engine.DISPATCH, engine.DISPATCH_52, engine.FIVE)
    ),
    Target(
        "engine: batched / one by one",
        times(
            Figure("engine", engine.BATCHED, "Engine.dispatch_async, all at once, batching=True"),
            Figure("engine", engine.BATCHED, "Engine.dispatch_async, one by one"),
        ),
        10,
        at_least=True,
        placements=BOTH,
    ),
    Target(
        "engine: dispatch_many / one by one",
        times(
            Figure("engine", engine.BATCHED, "Engine.dispatch_many"),
            Figure("engine", engine.BATCHED, "Engine.dispatch_async, one by one"),
        ),
        10,
        at_least=True,
        placements=BOTH,
    ),
    *(
        Target(f"{measure}: ours / the original", _beside_original(measure), bound, at_least=True)
        for measure, bound in ((actions.SHUFFLE, 200), (actions.DRAW, 50), (actions.PLACE, 50), (actions.CREATE, 25))
    ),
    Target(
        "stack:draw: after 100,000 actions / at first",
        times(
            Figure("actions", actions.FLAT, "Engine.dispatch, the same table later"),
            Figure("actions", actions.FLAT, "Engine.dispatch, a table with no past"),
        ),
        0.8,
        at_least=True,
    ),
    Target(
        "wasm: a call in a kept guest / wasmtime-py's Func.__call__",
        times(Figure("wasm", wasm.KEPT, "a task with reuse=True"), WASMTIME),
        0.05,
        placements=BOTH,
    ),
    Target(
        "wasm: a call in a new guest, above the bare call",
        above(Figure("wasm", wasm.FRESH, "a task"), BARE_WASM),
        50.0,
        unit="us",
        placements=BOTH,
    ),
    Target(
        "wasm: 10 MB from the cache",
        value(Figure("wasm", wasm.LOAD, "WasmModule.from_file, from the cache")),
        1.0,
        unit="ms",
        placements=BOTH,
    ),
    Target(
        "wasm: p50 among hostile calls / alone",
        times(Figure("wasm", wasm.AMONG, "among hostile ones"), Figure("wasm", wasm.AMONG, "alone")),
        2.0,
        placements=BOTH,
    ),
    Target("wasm: cancelled to ended, p95", p95(Figure("wasm", wasm.STOP, "WasmBackend")), 20.0, unit="ms"),
    Target(
        "instances: a call / wasmtime-py's Func.__call__",
        times(
            Figure("instances", instances.CALL, "Instance"),
            Figure("instances", instances.CALL, "wasmtime-py: Func.__call__"),
        ),
        0.05,
    ),
    Target(
        "instances: a snapshot of 128 KiB, and back",
        value(Figure("instances", instances.SNAPSHOT, "Instance.snapshot and restore")),
        50.0,
        unit="us",
    ),
    Target("integers: CPython / kernel", _kernel(kernels.INTEGERS, "CPython"), 80, at_least=True),
    Target("mandelbrot: CPython / kernel", _kernel(kernels.MANDELBROT, "CPython"), 15, at_least=True),
    Target(
        "mandelbrot: CPython / kernel, interruptible=False",
        _kernel(kernels.MANDELBROT, "CPython", "kernel, interruptible=False"),
        35,
        at_least=True,
    ),
    *(
        Target(f"{name}: {ours} / numpy", times(Figure("kernels", name, ours), Figure("kernels", name, "numpy")), 1.5)
        for name in (kernels.SAXPY, kernels.PARTICLES)
        for ours in ("kernel", "kernel, arrays of WorkerBackend.empty", "kernel, ordinary arrays")
    ),
    Target(
        "gpu: tiny tasks, submit and read each / one encoder",
        times(TINY_EACH, Figure("gpu", gpu.TINY, "Runtime.map, one encoder")),
        8,
        at_least=True,
        placements=BOTH,
    ),
    Target(
        "gpu: tiny tasks, submit and read each / batchable",
        times(TINY_EACH, Figure("gpu", gpu.TINY, "Runtime.map, batchable: one dispatch")),
        100,
        at_least=True,
        placements=BOTH,
    ),
    *(
        Target(f"gpu: host time of a dispatch, {what}", value(Figure("gpu", gpu.ENCODE, name)), 1.5, unit="us")
        for what, name in (
            ("in a chain", "a frame: a chain of tasks"),
            ("in a row of calls", "a frame: calls of a task, in a row"),
        )
    ),
    *(
        Target(
            f"gpu: {way}, memcpy / ours",
            times(Figure("gpu", way, "memcpy"), Figure("gpu", way, "GpuBackend.to_device, GpuArray.to_host")),
            0.7,
            at_least=True,
        )
        for way in (gpu.UP, gpu.DOWN)
    ),
    *(
        Target(f"{what}, on a gpu: of peak bandwidth", _on_gpu(measure, tensors.PEAK), 0.6, at_least=True)
        for what, measure in (("matvec", tensors.MATVEC), ("add", tensors.ADD))
    ),
    Target("matmul, on a gpu: torch / ours", _on_gpu(tensors.MATMUL, f"torch{tensors.THERE}"), 0.5, at_least=True),
    Target(
        "mandelbrot: kernel.parallel, 1 thread / 2 threads",
        _threads("kernel.parallel, 1 thread", "kernel.parallel, 2 threads"),
        1.8,
        at_least=True,
    ),
    Target("the same in C: what the machine had to give", _threads("C, 1 thread", "C, 2 threads"), 1.8, at_least=True),
)


def judge(results: Results, targets: tuple[Target, ...] = TARGETS) -> Iterator[Verdict]:
    """A verdict for each target at each placement. Targets of groups that were not run are left out."""
    for target in targets:
        for placement in target.placements:
            if (verdict := _judge(results, target, placement)) is not None:
                yield verdict


def _judge(results: Results, target: Target, placement: Placement) -> Verdict | None:
    def look(figure: Figure) -> Series:
        return results.find(figure.group, figure.measure, figure.contender, placement)

    try:
        return Verdict(target, placement, target.formula(look))
    except NotMeasured as missing:
        return Verdict(target, placement, None, str(missing))
    except NotAsked:
        return None
