"""Operations on arrays: what a matmul, a softmax and a chain of ten take, on the device and from the host and back.

The larger sizes are for a gpu; on Mesa's driver, which computes on the processor, they would take minutes.

The limit is the peak of what computes: for a product of matrices its operations a second, for everything else the
bytes a second of its memory. A card's are in its data sheet. Those of a processor are measured: what numpy makes of the
same product, and memcpy of as many bytes by one core.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Iterable, Sequence
from typing import Any

from benchmarks.harness import Group
from benchmarks.lazy import hc, numpy
from benchmarks.measure import Effort, Figures, Series, time_awaits, time_calls

group = Group("tensors", "Operations on arrays", shares=True)

SMALL, LARGE = 512, 4096
MATMUL = "matmul of two f32[{0}, {0}]"
SOFTMAX = "softmax of f32[{0}, 1024]"
MATVEC = "matvec of f32[{0}, {0}] and f32[{0}]"
ADD = "add of two f32[{0}, 8192]"
TEN = "ten operations on f32[{0}, 256]: a matmul, a softmax and three more, twice"
BOUND = (MATMUL, SOFTMAX, MATVEC, ADD)
"""Those that ask for one thing throughout, operations or bytes, and so have a peak."""
ALL = (*BOUND, TEN)
PEAK, OURS = "the peak of what computes", "a recording"
HERE, THERE = ", there and back", ", on the device"


def sizes(side: int) -> dict[str, tuple[Any, ...]]:
    """The arrays of each problem."""
    rng = numpy.random.default_rng(0)
    shapes = {
        MATMUL: ((side, side), (side, side)),
        SOFTMAX: ((side, 1024),),
        MATVEC: ((side, side), (side,)),
        ADD: ((side, 8192), (side, 8192)),
        TEN: ((side, 256), (256, 256)),
    }
    return {
        name: tuple(rng.standard_normal(shape, dtype=numpy.float32) for shape in each) for name, each in shapes.items()
    }


def by_numpy(name: str, *arrays: Any) -> Any:
    """Arrays of cupy are taken too: numpy's functions leave them to it."""
    if name in (MATMUL, MATVEC):
        return arrays[0] @ arrays[1]
    if name == ADD:
        return arrays[0] + arrays[1]
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
        return {MATMUL: ops.matmul, MATVEC: ops.matvec, SOFTMAX: ops.softmax, ADD: ops.add}[name](*arrays)
    x, weights = arrays
    for _ in range(2):
        x = ops.softmax(ops.add(x, ops.silu(ops.matmul(ops.layer_norm(x), weights))))
    return x


def by_torch(name: str, *arrays: Any) -> Any:
    import torch

    if name in (MATMUL, MATVEC):
        return arrays[0] @ arrays[1]
    if name == ADD:
        return arrays[0] + arrays[1]
    if name == SOFTMAX:
        return torch.softmax(arrays[0], -1)
    x, weights = arrays
    for _ in range(2):
        y = torch.nn.functional.layer_norm(x, x.shape[-1:]) @ weights
        x = torch.softmax(x + torch.nn.functional.silu(y), -1)
    return x


def named(side: int, where: str, names: Iterable[str] = ALL) -> list[str]:
    return [each.format(side) + where for each in names]


def peak(effort: Effort, *, side: int) -> Figures:
    """How long it would take at the peak."""
    from benchmarks.peaks import peak_of
    from hybrid_compute.gpu.adapters import choose

    if side == LARGE:
        insist_on_hardware()
    adapter, problems = choose(), sizes(side)
    if adapter.is_software:
        taken = {name: of_processor(name, problems[name], effort) for name in BOUND}
    else:
        card = peak_of(adapter.name)
        taken = {name: Series("ms", card.seconds(*demands(name, problems[name])) * 1e3) for name in BOUND}
    return {name.format(side) + THERE: series for name, series in taken.items()}


def demands(name: str, arrays: Sequence[Any]) -> tuple[int, int]:
    """Operations, where there are many for each byte; and bytes that are read and written."""
    operations = 2 * len(arrays[0]) ** 3 if name == MATMUL else 0
    made = arrays[1] if name == MATVEC else arrays[0]  # is of the same size
    return operations, sum(each.nbytes for each in (*arrays, made))


def of_processor(name: str, arrays: Sequence[Any], effort: Effort) -> Series:
    if name == MATMUL:
        return time_calls(functools.partial(by_numpy, name, *arrays), effort, unit="ms")
    _, nbytes = demands(name, arrays)
    x = numpy.ones(nbytes // 2, numpy.uint8)  # each byte is read once, and written once
    y = numpy.empty_like(x)
    return time_calls(lambda: numpy.copyto(y, x), effort, unit="ms")


for _side in (SMALL, LARGE):
    group.limit(f"{PEAK}, {_side}", *named(_side, THERE, BOUND))(functools.partial(peak, side=_side))


@group.peer("numpy", *named(SMALL, HERE), *named(SMALL, THERE))
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
        group.ours(f"{OURS}{_where}, {_side}", *named(_side, _where))(_run)


# Peers.


@group.peer("wgpu.utils.compute_with_buffers, naive shaders", *named(SMALL, HERE))
def utils(effort: Effort) -> Figures:
    from benchmarks import naive

    ways = {
        MATMUL: naive.matmul,
        SOFTMAX: naive.softmax,
        MATVEC: naive.matvec,
        ADD: naive.add,
        TEN: naive.ten,
    }
    found = {}
    for name, arrays in sizes(SMALL).items():
        way = functools.partial(ways[name], *arrays)
        assert numpy.allclose(way(), by_numpy(name, *arrays), rtol=1e-3, atol=1e-3)
        found[name.format(SMALL) + HERE] = time_calls(way, effort, unit="ms")
    return found


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
        kept = [library.asarray(each) for each in arrays]

        def there(name: str = name, kept: list[Any] = kept) -> None:
            by_numpy(name, *kept)
            library.cuda.Device().synchronize()

        found[name.format(side) + THERE] = time_calls(there, effort, unit="ms")
    return found


for _side in (SMALL, LARGE):
    for _where in (HERE, THERE):
        group.peer(f"torch{_where}, {_side}", *named(_side, _where))(functools.partial(torch, side=_side, where=_where))
    group.peer(f"cupy, {_side}", *named(_side, THERE))(functools.partial(cupy, side=_side))
