"""Tasks written down once, and done in one go each time."""

import asyncio
import sys
from typing import Any

import numpy as np
import pytest

from hybrid_compute import GpuBackend, LocalBackend, Runtime, WorkerBackend
from hybrid_compute.errors import HybridComputeError, InvalidInput, LimitExceeded
from hybrid_compute.gpu import GpuArray, ops
from hybrid_compute.shared import SharedArray
from tests.gpu import shaders


def floats(count: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).random(count, dtype=np.float32)


async def test_it_is_played_with_new_arrays_each_time(place: GpuBackend) -> None:
    """Of this process or of the device; many at once, and each gets its own."""
    with place.record() as g:
        x = g.input("x", 1000)
        y = shaders.along(shaders.along(x, 2.0), 0.5, start=3.0)
        g.returns(y)
    assert repr(y) == "<Symbol float32[1000]>"
    arrays = [floats(1000, seed) for seed in range(20)]
    found = await asyncio.gather(*(g(x=array) for array in arrays))
    for array, each in zip(arrays, found, strict=True):
        np.testing.assert_allclose(each, 0.5 * (2 * array + 1) + 3, rtol=1e-6)
    there = await place.to_device(arrays[3])
    np.testing.assert_array_equal(await g(x=there), found[3])


async def test_it_is_one_submission(place: GpuBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many tasks there are in it."""
    with place.record() as g:
        x = g.input("x", 64)
        y: Any = x
        for _ in range(10):
            y = shaders.along(y, 1.5)
        g.returns(y)
    sent: list[Any] = []
    offer = place.device.offer
    monkeypatch.setattr(place.device, "offer", lambda works: (sent.append(works), offer(works))[1])
    found = await g(x=floats(64))
    expected = floats(64)
    for _ in range(10):
        expected = shaders.along(expected, 1.5)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert [len(works) for works in sent] == [1]
    assert len(sent[0][0].steps) == 10


async def test_several_inputs_and_outputs_and_constants(place: GpuBackend) -> None:
    """What it is given when it is recorded is a constant of it, here or on the device."""
    constant = await place.to_device(np.full(300, 7, np.uint32))
    with place.record() as g:
        x = g.input("x", (100, 3))
        low, high = shaders.split_up(x)
        g.returns(low, high)
    array = np.arange(300, dtype=np.float32).reshape(100, 3)
    low, high = await g(x=array)
    np.testing.assert_array_equal(low, -array)
    np.testing.assert_array_equal(high, array.T)
    with place.record() as g, pytest.raises(InvalidInput, match="changed in place"):
        shaders.added(g.input("counts", 300, "uint32"), constant)


@pytest.mark.parametrize("stay", [False, True])
async def test_each_playing_begins_with_the_constants(place: GpuBackend, stay: bool) -> None:
    """Also with those that are changed in place, whether that comes out, is read later, or both."""
    tens, hundreds = np.array([10, 20, 30, 40], np.uint32), np.array([100, 200, 300, 400], np.uint32)
    with place.record() as g:
        x = g.input("x", 4, "uint32")
        out = shaders.added(tens, x)
        read = shaders.added(hundreds, x)
        between = shaders.added(np.full(4, 1000, np.uint32), x)
        g.returns(out, read, shaders.added(hundreds, read), shaders.added(hundreds, between), stay=stay)
    for number in (1, 2):
        ones = np.full(4, number, np.uint32)
        found = [np.asarray(each) for each in await g(x=ones)]
        wanted = [tens + ones, hundreds + ones, 2 * hundreds + ones, hundreds + 1000 + ones]
        np.testing.assert_array_equal(found, wanted)
    np.testing.assert_array_equal(tens, [10, 20, 30, 40])


@pytest.mark.parametrize("there", [False, True])
async def test_a_constant_is_read_in_each_playing(place: GpuBackend, there: bool) -> None:
    """Of this process, or of the device."""
    half, whole = floats(4), np.arange(4, dtype=np.float32)
    constant = await place.to_device(half) if there else half
    with place.record() as g:
        g.returns(ops.add(ops.mul(g.input("x", 4), constant), 1.0))
    for factor in (1, 2):
        found = await g(x=factor * whole)
        np.testing.assert_allclose(found, factor * whole * half + 1, rtol=1e-6)


async def test_a_constant_is_what_it_is_when_it_is_played(place: GpuBackend) -> None:
    """An array of this process may change between playings; a copy of it on the device does not."""
    weights = floats(4)
    there = await place.to_device(weights)
    with place.record() as g:
        x = g.input("x", 4)
        g.returns(ops.mul(x, weights), ops.mul(x, there))
    before = weights.copy()
    weights += 1
    here, kept = await g(x=np.ones(4, np.float32))
    np.testing.assert_array_equal(here, before + 1)
    np.testing.assert_array_equal(kept, before)


async def test_what_comes_out_may_stay(place: GpuBackend) -> None:
    with place.record() as g:
        x = g.input("x", 100)
        half = shaders.along(x, 0.5)
        g.returns(half, shaders.along(half, 2.0), stay=True)
    half, whole = await g(x=floats(100))
    assert isinstance(half, GpuArray)
    np.testing.assert_allclose(await half.to_host(), floats(100) / 2 + 1, rtol=1e-6)
    np.testing.assert_allclose(await whole.to_host(), floats(100) + 3, rtol=1e-6)


async def test_what_lies_between_begins_as_zeros_each_time(place: GpuBackend) -> None:
    """Nothing of one playing is seen by the next."""
    with place.record() as g:
        x = g.input("x", 1000)
        g.returns(shaders.along(shaders.along(x, 3.0), 1.0))
    first = await g(x=floats(1000))
    await g(x=floats(1000, 1))
    np.testing.assert_array_equal(await g(x=floats(1000)), first)


@pytest.mark.parametrize(
    ("arrays", "why"),
    [
        ({}, "the inputs are x, and not none"),
        ({"x": np.zeros(4, np.float32), "y": 1}, "the inputs are x, and not x, y"),
        ({"x": np.zeros(5, np.float32)}, r"x must be float32\[4\], and is float32\[5\]"),
        ({"x": np.zeros(4)}, r"x must be float32\[4\], and is float64\[4\]"),
        ({"x": [1, 2, 3, 4]}, r"x must be float32\[4\], and is list"),
        ({"x": np.float32(3)}, r"x must be float32\[4\], and is a plain float32: numpy.asarray"),
        ({"x": np.ma.masked_less(np.ones(4, np.float32), 0)}, "and is a masked array, whose mask no gpu sees"),
    ],
)
async def test_arrays_that_do_not_fit_are_refused(arrays: dict[str, Any], why: str, place: GpuBackend) -> None:
    with place.record() as g:
        g.returns(shaders.along(g.input("x", 4), 1.0))
    with pytest.raises(InvalidInput, match=why):
        await g(**arrays)


@pytest.mark.skipif(sys.platform != "linux", reason="memory shared by all places needs Linux")
async def test_a_shared_array_is_read_first(place: GpuBackend) -> None:
    """Who reads it must have a lease."""
    with place.record() as g:
        g.returns(shaders.along(g.input("x", 4), 1.0))
    with SharedArray(4, "float32") as shared:
        with pytest.raises(InvalidInput, match=r"and is a SharedArray: .* `with array\.reading\(\) as values`"):
            await g(x=shared)
        with shared.reading() as values:
            np.testing.assert_array_equal(await g(x=values), np.ones(4))


async def test_what_only_stands_for_an_array_is_none(place: GpuBackend) -> None:
    with place.record() as g:
        x = g.input("x", 4)
        g.returns(shaders.along(x, 1.0))
    with pytest.raises(InvalidInput, match="and is a Symbol, which only stands for an array"):
        await g(x=x)


@pytest.mark.parametrize("shape", [np.int64(4), (np.uint8(4),), [4], np.array([4])], ids=repr)
async def test_a_shape_has_whole_numbers_of_any_kind(place: GpuBackend, shape: Any) -> None:
    with place.record() as g:
        x = g.input("x", shape)
        g.returns(shaders.along(x, 1.0))
    assert x.shape == (4,)
    np.testing.assert_array_equal(await g(x=floats(4)), floats(4) + 1)


@pytest.mark.parametrize("shape", [-1, (2, -3), (4.0,), 4.5, "4", None, ("4",), np.float32(4), np.array(4.0)], ids=repr)
async def test_a_shape_that_no_array_has_is_refused(place: GpuBackend, shape: Any) -> None:
    with (
        place.record() as g,
        pytest.raises(InvalidInput, match=r"the input 'x' cannot have the shape .* whole numbers"),
    ):
        g.input("x", shape)


@pytest.mark.parametrize("shape", [10**12, (10**12, 10**12)])
async def test_an_input_that_the_device_cannot_bind_is_refused(place: GpuBackend, shape: Any) -> None:
    with place.record() as g, pytest.raises(LimitExceeded, match=r"the input 'x' would have 4,000,.* bytes, and the"):
        g.input("x", shape)


async def test_what_is_not_there_yet_cannot_be_looked_at(place: GpuBackend) -> None:
    with place.record() as g:
        x = g.input("x", 4)
        with pytest.raises(ValueError, match="already"):
            g.input("x", 4)
        with pytest.raises(InvalidInput, match="not there yet"):
            np.asarray(x)
    with pytest.raises(RuntimeError, match="outside of its block"):
        shaders.along(x, 1.0)
    with pytest.raises(RuntimeError, match="nothing comes out"):
        await g(x=floats(4))
    other = place.record()
    with pytest.raises(ValueError, match="another recording"):
        other.returns(x)


async def test_what_comes_out_may_also_be_read_by_a_later_task(place: GpuBackend) -> None:
    """All that comes out lies in one buffer, which no step may both read and write."""
    with place.record() as g:
        x = g.input("x", 1000)
        y = shaders.along(x, 2.0)
        z = shaders.along(y, 0.5)
        g.returns(z, y)
    array = floats(1000)
    for _ in range(2):
        found = await g(x=array)
        wanted = shaders.along(array, 2.0)
        for one, other in zip(found, (shaders.along(wanted, 0.5), wanted), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-6)
    with pytest.raises(ValueError, match="is an input: it would come out as it was given"):
        g.returns(x)
    g.returns(z, y, stay=True)
    kept = await g(x=array)
    np.testing.assert_allclose(await kept[1].to_host(), wanted, rtol=1e-6)


async def test_what_a_task_gave_comes_out_as_it_is(place: GpuBackend) -> None:
    """Several arrays at once, and beside others; nothing that no task gave."""
    array = np.arange(300, dtype=np.float32).reshape(100, 3)
    with place.record() as g:
        x = g.input("x", (100, 3))
        both = shaders.split_up(x)
        g.returns(both, ops.add(x, 1.0))
    low, high, more = await g(x=array)
    np.testing.assert_array_equal(low, -array)
    np.testing.assert_array_equal(high, array.T)
    np.testing.assert_array_equal(more, array + 1)
    with pytest.raises(TypeError, match="only what a recorded task gave can come out, and not ndarray"):
        g.returns(array)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["input", "made"])
@pytest.mark.parametrize("strategy", ["gpu", "local", "worker"])
async def test_a_runtime_does_not_record(place: GpuBackend, strategy: str, kind: str) -> None:
    """Wherever it sends the task, it is told to call it instead, and the recording is as it was."""
    async with Runtime([place, LocalBackend(), WorkerBackend(1)], strategy=strategy) as rt:
        with place.record() as g:
            x = g.input("x", 4)
            made = shaders.along(x, 2.0)
            with pytest.raises(HybridComputeError, match="only stands for one, in a recording: call tasks"):
                await rt.run(shaders.along, x if kind == "input" else made, 3.0)
            g.returns(made)
        np.testing.assert_allclose(await g(x=floats(4)), 2 * floats(4) + 1, rtol=1e-6)
