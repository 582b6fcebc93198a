"""Operations on arrays: what a matmul, a softmax and a chain of ten take, on the device and from the host and back.

The larger sizes are for a gpu; on Mesa's driver, which computes on the processor, they would take minutes.
"""

from __future__ import annotations

import asyncio
import functools
from typing import Any

from benchmarks.harness import Group
from benchmarks.lazy import hc, numpy
from benchmarks.measure import Effort, Figures, time_awaits, time_calls

group = Group("tensors", "Operations on arrays")

SMALL, LARGE = 512, 4096
MATMUL = "matmul of two f32[{0}, {0}]"
SOFTMAX = "softmax of f32[{0}, 1024]"
MATVEC = "matvec of f32[{0}, {0}] and f32[{0}]"
TEN = "ten operations on f32[{0}, 256]: a matmul, a softmax and three more, twice"
ALL = (MATMUL, SOFTMAX, MATVEC, TEN)
HERE, THERE = ", there and back", ", on the device"


def sizes(side: int) -> dict[str, tuple[Any, ...]]:
    """The arrays of each problem."""
    rng = numpy.random.default_rng(0)
    shapes = {
        MATMUL: ((side, side), (side, side)),
        SOFTMAX: ((side, 1024),),
        MATVEC: ((side, side), (side,)),
        TEN: ((side, 256), (256, 256)),
    }
    return {
        name: tuple(rng.standard_normal(shape, dtype=numpy.float32) for shape in each) for name, each in shapes.items()
    }


def by_numpy(name: str, *arrays: Any) -> Any:
    if name in (MATMUL, MATVEC):
        return arrays[0] @ arrays[1]
    return softmax(arrays[0]) if name == SOFTMAX else ten(*arrays)


def softmax(x: Any) -> Any:
    powers = numpy.exp(x - x.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def ten(x: Any, weights: Any) -> Any:
    for _ in range(2):
        centred = x - x.mean(-1, keepdims=True)
        y = centred / numpy.sqrt((centred**2).mean(-1, keepdims=True) + numpy.float32(1e-5))
        y = y @ weights
        y = y / (1 + numpy.exp(-y))
        x = softmax(x + y)
    return x


def by_ops(name: str, *arrays: Any) -> Any:
    """The same in our operations; within a recording it is written down."""
    from hybrid_compute.gpu import ops

    if name != TEN:
        return {MATMUL: ops.matmul, MATVEC: ops.matvec, SOFTMAX: ops.softmax}[name](*arrays)
    x, weights = arrays
    for _ in range(2):
        x = ops.softmax(ops.add(x, ops.silu(ops.matmul(ops.layer_norm(x), weights))))
    return x


def by_torch(name: str, *arrays: Any) -> Any:
    import torch

    if name in (MATMUL, MATVEC):
        return arrays[0] @ arrays[1]
    if name == SOFTMAX:
        return torch.softmax(arrays[0], -1)
    x, weights = arrays
    for _ in range(2):
        y = torch.nn.functional.layer_norm(x, x.shape[-1:]) @ weights
        x = torch.softmax(x + torch.nn.functional.silu(y), -1)
    return x


def named(side: int, where: str) -> list[str]:
    return [each.format(side) + where for each in ALL]


@group.limit("numpy", *named(SMALL, HERE), *named(SMALL, THERE))
def with_numpy(effort: Effort) -> Figures:
    """On the processor nothing has to go there and back."""
    found = {}
    for name, arrays in sizes(SMALL).items():
        taken = time_calls(functools.partial(by_numpy, name, *arrays), effort, unit="ms")
        found |= {name.format(SMALL) + where: taken for where in (HERE, THERE)}
    return found


def ours(effort: Effort, *, side: int, where: str) -> Figures:
    """Recorded once. On the device the arrays are there already, and what comes out stays there."""
    if side == LARGE:
        insist_on_hardware()

    async def work() -> Figures:
        place = hc.GpuBackend(memory=4 << 30)
        async with hc.Runtime([place]):
            return {name.format(side) + where: await one(place, name, arrays) for name, arrays in sizes(side).items()}

    async def one(place: Any, name: str, arrays: tuple[Any, ...]) -> Any:
        given: dict[str, Any] = {f"x{number}": each for number, each in enumerate(arrays)}
        with place.record() as recorded:
            inputs = [recorded.input(name, each.shape) for name, each in given.items()]
            recorded.returns(by_ops(name, *inputs), stay=where == THERE)
        if where == HERE:
            assert numpy.allclose(await recorded(**given), by_numpy(name, *arrays), rtol=1e-3, atol=1e-3)
            return await time_awaits(lambda: recorded(**given), effort, unit="ms")
        kept = {name: await place.to_device(each) for name, each in given.items()}

        async def there() -> None:
            (await recorded(**kept)).release()

        return await time_awaits(there, effort, unit="ms")

    return asyncio.run(work())


def insist_on_hardware() -> None:
    from hybrid_compute.gpu.adapters import choose

    if choose().is_software:
        raise LookupError("no gpu adapter but one that computes on the processor, where this takes minutes")


for _side in (SMALL, LARGE):
    for _where in (HERE, THERE):
        _run = functools.partial(ours, side=_side, where=_where)
        group.ours(f"a recording{_where}, {_side}", *named(_side, _where))(_run)


# Peers.

_PRODUCT = """
@group(0) @binding(0) var<storage, read> a: array<f32>;
@group(0) @binding(1) var<storage, read> b: array<f32>;
@group(0) @binding(2) var<storage, read_write> c: array<f32>;
@compute @workgroup_size(8, 8)
fn main(@builtin(global_invocation_id) id: vec3u) {
    var sum = 0.0;
    for (var i = 0u; i < SIDEu; i++) { sum += a[id.y * SIDEu + i] * b[i * SIDEu + id.x]; }
    c[id.y * SIDEu + id.x] = sum;
}
"""
_SOFTMAX = """
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {
    let first = id.x * 1024u;
    var most = x[first];
    for (var i = 1u; i < 1024u; i++) { most = max(most, x[first + i]); }
    var sum = 0.0;
    for (var i = 0u; i < 1024u; i++) { sum += exp(x[first + i] - most); }
    for (var i = 0u; i < 1024u; i++) { y[first + i] = exp(x[first + i] - most) / sum; }
}
"""


@group.peer("wgpu.utils.compute_with_buffers, the shader one writes first", *named(SMALL, HERE)[:2])
def utils(effort: Effort) -> Figures:
    """It makes its buffers and its pipeline at each call, and blocks."""
    from wgpu.utils.compute import compute_with_buffers

    problems = sizes(SMALL)
    a, b = (each.ravel() for each in problems[MATMUL])
    (x,) = (each.ravel() for each in problems[SOFTMAX])
    shader = _PRODUCT.replace("SIDE", str(SMALL))

    def product() -> Any:
        return compute_with_buffers({0: a, 1: b}, {2: (a.size, "f")}, shader, n=(SMALL // 8, SMALL // 8, 1))

    def rows() -> Any:
        return compute_with_buffers({0: x}, {1: (x.size, "f")}, _SOFTMAX, n=(SMALL // 64, 1, 1))

    return {
        MATMUL.format(SMALL) + HERE: time_calls(product, effort, unit="ms"),
        SOFTMAX.format(SMALL) + HERE: time_calls(rows, effort, unit="ms"),
    }


def torch(effort: Effort, *, side: int, where: str) -> Figures:
    """With float32 throughout, as it is here: no TF32."""
    import torch as library

    if not library.cuda.is_available():
        raise LookupError("torch finds no gpu")
    library.backends.cuda.matmul.allow_tf32 = False
    found = {}
    for name, arrays in sizes(side).items():
        kept = [library.from_numpy(each).cuda() for each in arrays]

        def here(name: str = name, arrays: tuple[Any, ...] = arrays) -> Any:
            return by_torch(name, *(library.from_numpy(each).cuda() for each in arrays)).cpu()

        def there(name: str = name, kept: list[Any] = kept) -> None:
            by_torch(name, *kept)
            library.cuda.synchronize()

        found[name.format(side) + where] = time_calls(here if where == HERE else there, effort, unit="ms")
    return found


def cupy(effort: Effort, *, side: int) -> Figures:
    import cupy as library

    if not library.cuda.runtime.getDeviceCount():
        raise LookupError("cupy finds no gpu")
    found = {}
    for name, arrays in sizes(side).items():
        if name not in (MATMUL, MATVEC):
            continue
        kept = [library.asarray(each) for each in arrays]

        def there(kept: list[Any] = kept) -> None:
            kept[0] @ kept[1]
            library.cuda.Device().synchronize()

        found[name.format(side) + THERE] = time_calls(there, effort, unit="ms")
    return found


for _side in (SMALL, LARGE):
    for _where in (HERE, THERE):
        group.peer(f"torch{_where}, {_side}", *named(_side, _where))(functools.partial(torch, side=_side, where=_where))
    group.peer(f"cupy, {_side}", *[each for each in named(_side, THERE) if each.startswith("mat")])(
        functools.partial(cupy, side=_side)
    )
