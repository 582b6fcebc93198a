"""Many small tasks on a gpu, what a dispatch costs this side, and the way there and back.

On a machine without a gpu all of this runs on Mesa's driver in software: what is measured then is what we add to it.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks.harness import Group
from benchmarks.lazy import hc, numpy
from benchmarks.measure import Effort, Figures, time_awaits, time_calls

group = Group("gpu", "Shaders", placements=("free", "pinned"))

COUNT = 256
TINY = f"{COUNT} tasks of 1 KiB in and out, each"
ENCODE = "host time of a dispatch, encoded with others, each on other buffers than the last"
UP = "64 MiB to the device"
DOWN = "64 MiB from the device"
CHAIN = "a chain of ten tasks on 4 MiB, there and back"

ALONG = """
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
    for (var i = id.x; i < arrayLength(&x); i += groups.x * 64) { y[i] = 2.0 * x[i] + 1.0; }
}
"""


def along(x: Any) -> Any:
    return 2 * x + 1


def task(*, batchable: bool = False) -> Any:
    return hc.gpu_task(wgsl=ALONG, inputs={"x": "f32[n]"}, outputs={"y": "f32[n]"}, batchable=batchable)(along)


def small() -> list[Any]:
    rng = numpy.random.default_rng(0)
    return [rng.random(256, dtype=numpy.float32) for _ in range(COUNT)]


def large(nbytes: int = 64 << 20) -> Any:
    return numpy.random.default_rng(0).random(nbytes // 4, dtype=numpy.float32)


def with_runtime(work: Callable[[Any, Any], Awaitable[Figures]]) -> Figures:
    async def run() -> Figures:
        place = hc.GpuBackend(memory=2 << 30)
        async with hc.Runtime([place], strategy="gpu") as rt:
            return await work(rt, place)

    return asyncio.run(run())


# Small tasks.


@group.limit("wgpu-py: one pipeline, submit and read each", TINY)
def each(effort: Effort) -> Figures:
    import wgpu

    device, pipeline, x, y, bound = bare(1024)
    back = device.create_buffer(size=1024, usage=wgpu.BufferUsage.MAP_READ | wgpu.BufferUsage.COPY_DST)
    inputs = small()

    def all_of_them() -> None:
        for one in inputs:
            device.queue.write_buffer(x, 0, one)
            encoder = device.create_command_encoder()
            compute = encoder.begin_compute_pass()
            compute.set_pipeline(pipeline)
            compute.set_bind_group(0, bound)
            compute.dispatch_workgroups(4)
            compute.end()
            encoder.copy_buffer_to_buffer(y, 0, back, 0, 1024)
            device.queue.submit([encoder.finish()])
            back.map_async("READ_NOSYNC").sync_wait()
            numpy.frombuffer(back.read_mapped(copy=False), numpy.float32).copy()
            back.unmap()

    return {TINY: time_calls(all_of_them, effort, per=COUNT)}


@group.limit("wgpu-native: one encoder, one wait", TINY)
def together(effort: Effort) -> Figures:
    """What the driver takes for so many dispatches: everything else is laid out, bound and encoded before."""
    import wgpu

    from hybrid_compute.gpu import native

    device, pipeline, x, y, _ = bare(COUNT << 10)
    back = device.create_buffer(size=COUNT << 10, usage=wgpu.BufferUsage.MAP_READ | wgpu.BufferUsage.COPY_DST)
    inputs, layout = numpy.concatenate(small()), pipeline.get_bind_group_layout(0)
    bound = [
        device.create_bind_group(
            layout=layout,
            entries=[
                {"binding": binding, "resource": {"buffer": buffer, "offset": number << 10, "size": 1024}}
                for binding, buffer in enumerate((x, y))
            ],
        )
        for number in range(COUNT)
    ]

    def all_of_them() -> None:
        device.queue.write_buffer(x, 0, inputs)
        encoder = native.encoder(device._internal)
        compute = native.begin_pass(encoder)
        native.set_pipeline(compute, pipeline._internal)
        for each in bound:
            native.set_group(compute, 0, each._internal, 0, native.NULL)
            native.dispatch(compute, 4, 1, 1)
        native.end_pass(compute)
        native.copy(encoder, y._internal, 0, back._internal, 0, COUNT << 10)
        native.submit(device.queue._internal, native.finish(encoder))
        back.map_async("READ_NOSYNC").sync_wait()
        numpy.frombuffer(back.read_mapped(copy=False), numpy.float32).copy()
        back.unmap()

    return {TINY: time_calls(all_of_them, effort, per=COUNT)}


@group.limit("wgpu-native: one dispatch over all, one wait", TINY)
def at_once(effort: Effort) -> Figures:
    """What the driver takes for one dispatch of as many bytes, with what puts the arrays one after the other."""
    import wgpu

    from hybrid_compute.gpu import native

    device, pipeline, x, y, bound = bare(COUNT << 10)
    back = device.create_buffer(size=COUNT << 10, usage=wgpu.BufferUsage.MAP_READ | wgpu.BufferUsage.COPY_DST)
    inputs = small()

    def all_of_them() -> list[Any]:
        device.queue.write_buffer(x, 0, numpy.concatenate(inputs))
        encoder = native.encoder(device._internal)
        compute = native.begin_pass(encoder)
        native.set_pipeline(compute, pipeline._internal)
        native.set_group(compute, 0, bound._internal, 0, native.NULL)
        native.dispatch(compute, 4 * COUNT, 1, 1)
        native.end_pass(compute)
        native.copy(encoder, y._internal, 0, back._internal, 0, COUNT << 10)
        native.submit(device.queue._internal, native.finish(encoder))
        back.map_async("READ_NOSYNC").sync_wait()
        found = numpy.frombuffer(back.read_mapped(copy=False), numpy.float32).copy()
        back.unmap()
        return list(found.reshape(COUNT, -1))

    assert numpy.allclose(all_of_them()[-1], 2 * inputs[-1] + 1)
    return {TINY: time_calls(all_of_them, effort, per=COUNT)}


def bare(nbytes: int) -> tuple[Any, ...]:
    import wgpu

    device = wgpu.gpu.request_adapter_sync().request_device_sync()
    module = device.create_shader_module(code=ALONG)
    pipeline = device.create_compute_pipeline(layout="auto", compute={"module": module, "entry_point": "main"})
    usage = wgpu.BufferUsage.STORAGE | wgpu.BufferUsage.COPY_DST | wgpu.BufferUsage.COPY_SRC
    x, y = (device.create_buffer(size=nbytes, usage=usage) for _ in range(2))
    entries = [{"binding": number, "resource": {"buffer": buffer}} for number, buffer in enumerate((x, y))]
    return device, pipeline, x, y, device.create_bind_group(layout=pipeline.get_bind_group_layout(0), entries=entries)


def tiny(effort: Effort, *, batchable: bool, way: str) -> Figures:
    async def work(rt: Any, place: Any) -> Figures:
        scaled, inputs = task(batchable=batchable), small()
        ways: dict[str, Callable[[], Awaitable[Any]]] = {
            "map": lambda: rt.map(scaled, inputs),
            "gather": lambda: asyncio.gather(*(rt.run(scaled, one) for one in inputs)),
            "each": lambda: one_by_one(rt, scaled, inputs),
        }
        found = await ways[way]()
        assert numpy.allclose(found[-1], 2 * inputs[-1] + 1)
        return {TINY: await time_awaits(ways[way], effort, per=COUNT)}

    return with_runtime(work)


async def one_by_one(rt: Any, scaled: Any, inputs: list[Any]) -> list[Any]:
    return [await rt.run(scaled, one) for one in inputs]


group.ours("Runtime.map, one encoder", TINY)(functools.partial(tiny, batchable=False, way="map"))
group.ours("Runtime.map, batchable: one dispatch", TINY)(functools.partial(tiny, batchable=True, way="map"))
group.ours("gather of Runtime.run", TINY)(functools.partial(tiny, batchable=False, way="gather"))
group.ours("gather of Runtime.run, batchable", TINY)(functools.partial(tiny, batchable=True, way="gather"))
group.ours("Runtime.run, one after the other", TINY)(functools.partial(tiny, batchable=False, way="each"))


@group.peer("wgpu.utils.compute_with_buffers", TINY, slow=True)
def utils(effort: Effort) -> Figures:
    from wgpu.utils.compute import compute_with_buffers

    inputs = small()

    def all_of_them() -> None:
        for one in inputs:
            compute_with_buffers({0: one}, {1: (256, "f")}, ALONG, n=4)

    return {TINY: time_calls(all_of_them, effort, per=COUNT)}


@group.peer("numpy", TINY)
def with_numpy(effort: Effort) -> Figures:
    inputs = small()
    return {TINY: time_calls(lambda: [along(one) for one in inputs], effort, per=COUNT)}


# What a dispatch costs this side.


def encoding(effort: Effort, *, raw: bool) -> Figures:
    from hybrid_compute.gpu import native

    device, pipeline, x, y, forth = bare(1024)
    layout = pipeline.get_bind_group_layout(0)
    back = device.create_bind_group(
        layout=layout, entries=[{"binding": n, "resource": {"buffer": buffer}} for n, buffer in enumerate((y, x))]
    )
    bound = [forth, back] * (COUNT // 2)

    def encode_raw() -> None:
        encoder = native.encoder(device._internal)
        compute = native.begin_pass(encoder)
        native.set_pipeline(compute, pipeline._internal)
        for each in bound:
            native.set_group(compute, 0, each._internal, 0, native.NULL)
            native.dispatch(compute, 4, 1, 1)
        native.end_pass(compute)
        native.finish(encoder)

    def encode() -> None:
        encoder = device.create_command_encoder()
        compute = encoder.begin_compute_pass()
        compute.set_pipeline(pipeline)
        for each in bound:
            compute.set_bind_group(0, each)
            compute.dispatch_workgroups(4)
        compute.end()
        encoder.finish()

    return {ENCODE: time_calls(encode_raw if raw else encode, effort, per=COUNT)}


group.limit("the calls of wgpu-native alone", ENCODE)(functools.partial(encoding, raw=True))
group.peer("wgpu-py", ENCODE)(functools.partial(encoding, raw=False))


@contextmanager
def idle_frame() -> Iterator[tuple[Any, Any]]:
    """A frame of a device that has nothing to do, and so does not look; and an array that lies there."""
    from hybrid_compute.gpu.calls import upload
    from hybrid_compute.gpu.device import Device
    from hybrid_compute.gpu.replies import Waiting

    device = Device()
    device.open().result()
    waiting = Waiting()
    device.submit([upload(small()[0], waiting)])
    yield device._free[0], waiting.future.result().resident()
    device.close()
    device.join()


@group.ours("a frame: a chain of tasks", ENCODE)
def chained(effort: Effort) -> Figures:
    """Steps on arrays that lie on the device already."""
    from hybrid_compute.gpu.replies import Waiting
    from hybrid_compute.gpu.work import Kernel, Scratch, Step, Work

    with idle_frame() as (frame, x):
        kernel = Kernel("along", ALONG, "main", [(0, "read"), (1, "read_write")])
        frame._pipelines.compile(kernel)
        y, z = Scratch(1024), Scratch(1024)
        steps = [Step(kernel, [x, y], (4, 1, 1))]
        for _ in range(COUNT // 2):
            steps += Step(kernel, [y, z], (4, 1, 1)), Step(kernel, [z, y], (4, 1, 1))

        def encode() -> None:
            works = [Work(steps, [x, y, z], [], Waiting())]
            frame._lay_out(works)
            frame._encoded(works)

        return {ENCODE: time_calls(encode, effort, per=COUNT)}


@group.ours("a frame: calls of a task, in a row", ENCODE)
def in_a_row(effort: Effort) -> Figures:
    """Each on arrays of its own, from the host and back: with laying them out, and without copying them."""
    from hybrid_compute.gpu.replies import Waiting

    with idle_frame() as (frame, x):
        function, calls = task().fn, [(one,) for one in small()]
        frame._pipelines.compile(function.definition.kernel)

        def encode() -> None:
            works = function.works(calls, x.device.facts, lambda *_: Waiting())
            frame._lay_out(works)
            frame._encoded(works)

        return {ENCODE: time_calls(encode, effort, per=COUNT)}


# There and back.


@group.limit("memcpy", UP, DOWN)
def memcpy(effort: Effort) -> Figures:
    x = large()
    y = numpy.empty_like(x)
    up = time_calls(lambda: numpy.copyto(y, x), effort, unit="ms")
    return {UP: up, DOWN: time_calls(x.copy, effort, unit="ms")}


@group.ours("GpuBackend.to_device, GpuArray.to_host", UP, DOWN)
def ours(effort: Effort) -> Figures:
    async def work(rt: Any, place: Any) -> Figures:
        x = large()
        kept = await place.to_device(x)

        async def up() -> None:
            (await place.to_device(x)).release()

        return {
            UP: await time_awaits(up, effort, unit="ms"),
            DOWN: await time_awaits(kept.to_host, effort, unit="ms"),
        }

    return with_runtime(work)


@group.peer("wgpu-py: write_buffer, read_buffer", UP, DOWN)
def wgpu_py(effort: Effort) -> Figures:
    device, _, buffer, *_ = bare(64 << 20)
    x = large()

    def up() -> None:
        device.queue.write_buffer(buffer, 0, x)
        device.queue.submit([])
        device._poll_wait()

    return {
        UP: time_calls(up, effort, unit="ms"),
        DOWN: time_calls(lambda: device.queue.read_buffer(buffer), effort, unit="ms"),
    }


def chain(effort: Effort, *, stays: bool) -> Figures:
    async def work(rt: Any, place: Any) -> Figures:
        scaled, x = task(), large(4 << 20)

        async def ten() -> Any:
            array = await place.to_device(x) if stays else x
            for _ in range(10):
                array = await rt.run(scaled, array)
            return await array.to_host() if stays else array

        return {CHAIN: await time_awaits(ten, effort, unit="ms")}

    return with_runtime(work)


group.ours("arrays that stay on the device", CHAIN)(functools.partial(chain, stays=True))
group.ours("arrays that come back each time", CHAIN)(functools.partial(chain, stays=False))


@group.peer("numpy", CHAIN)
def chain_of_numpy(effort: Effort) -> Figures:
    x = large(4 << 20)

    def ten() -> Any:
        array = x
        for _ in range(10):
            array = along(array)
        return array

    return {CHAIN: time_calls(ten, effort, unit="ms")}


@group.peer("wgpu.utils.compute_with_buffers", CHAIN)
def chain_of_utils(effort: Effort) -> Figures:
    from wgpu.utils.compute import compute_with_buffers

    x = large(4 << 20)

    def ten() -> Any:
        array = x
        for _ in range(10):
            array = numpy.frombuffer(compute_with_buffers({0: array}, {1: x.nbytes}, ALONG, n=4096)[1], numpy.float32)
        return array

    assert numpy.allclose(ten()[:100], functools.reduce(lambda y, _: along(y), range(10), x[:100]))
    return {CHAIN: time_calls(ten, effort, unit="ms")}
