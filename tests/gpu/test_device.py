"""A device and its frames: what is asked of it is done, or it is told why not, and nobody else suffers."""

import dataclasses
import gc
import pickle
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import wgpu
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid_compute import gpu_task
from hybrid_compute.errors import BackendClosed, BackendUnavailable, InvalidInput, LimitExceeded
from hybrid_compute.gpu import GpuArray, InvalidShader, native, ops
from hybrid_compute.gpu.adapters import Kind, choose
from hybrid_compute.gpu.calls import upload
from hybrid_compute.gpu.device import Device
from hybrid_compute.gpu.frame import Frame
from hybrid_compute.gpu.function import GpuFunction
from hybrid_compute.gpu.memory import rounded
from hybrid_compute.gpu.opening import DEPTH
from hybrid_compute.gpu.ops.operation import Operation
from hybrid_compute.gpu.progress import PATIENCE
from hybrid_compute.gpu.replies import Waiting
from hybrid_compute.gpu.work import Kept, Kernel, Output, Place, Step, Upload, Work
from hybrid_compute.shared import SharedArray
from hybrid_compute.tasks import AnyTask
from tests.faults.watching import wait_until
from tests.gpu import shaders


def work(device: Device, task: AnyTask, *args: Any) -> Work:
    function: GpuFunction[..., Any] = task.fn  # type: ignore[assignment]
    assert device.facts is not None
    return function.work(args, device.facts, Waiting())


def told(works: Sequence[Work]) -> list[Any]:
    """What came of each: a result, or the error."""
    found: list[Any] = []
    for each in works:
        assert isinstance(each.reply, Waiting)
        error = each.reply.future.exception(30)
        found.append(each.reply.future.result() if error is None else error)
    return found


def run(device: Device, task: AnyTask, *args: Any) -> Any:
    asked = work(device, task, *args)
    device.submit([asked])
    return result(asked)


def result(asked: Work) -> Any:
    assert isinstance(asked.reply, Waiting)
    return asked.reply.future.result(30)


def on(device: Device, array: Any) -> GpuArray:
    asked = upload(array, Waiting())
    device.submit([asked])
    kept: GpuArray = result(asked)
    return kept


def floats(count: int) -> Any:
    return np.random.default_rng(count).random(count, dtype=np.float32)


@pytest.fixture
def shared() -> Iterator[SharedArray]:
    """A mebibyte of shared memory."""
    if sys.platform != "linux":
        pytest.skip("memory shared by all places needs Linux")
    with SharedArray(1 << 18, np.float32) as array, array.writing() as values:
        values[:] = 3
        yield array


def copies(device: Device, do: Callable[[], object]) -> tuple[float, float]:
    """How often a mebibyte was copied for this: by the processor, and by the device."""
    before = device.copied
    do()
    by_host, by_device = (now - then for now, then in zip(device.copied, before, strict=True))
    return by_host / (1 << 20), by_device / (1 << 20)


# Copies.


def test_shared_memory_goes_to_a_device_by_one_copy(device: Device, shared: SharedArray) -> None:
    """By the processor, out of it. Where that cannot write what shaders use, the device copies it once more."""
    more = 0 if device.memory and device.memory.direct else 1
    arrays: list[GpuArray] = []
    assert copies(device, lambda: arrays.append(on(device, shared))) == (1, more)
    assert copies(device, lambda: np.asarray(arrays[0])) == (1, more)
    np.testing.assert_array_equal(np.asarray(arrays[0]), shared.values)


def test_shared_memory_is_an_argument_by_one_copy(device: Device, shared: SharedArray) -> None:
    """And one for the result; what else goes along is some bytes."""
    more = 0 if device.memory and device.memory.direct else 1
    by_host, by_device = copies(device, lambda: run(device, shaders.along, shared.values, 2.0, 1.0))
    assert by_host == pytest.approx(2, abs=0.01)
    assert by_device == pytest.approx(2 * more, abs=0.01)


def test_no_call_makes_buffers_of_its_own(device: Device) -> None:
    """What the first ones needed serves all that come after, of no other size: arrays that stay as well."""
    memory = device.memory
    assert memory is not None

    def some() -> None:
        array = on(device, floats(100_000))
        run(device, shaders.along, array, 2.0, 1.0).release()
        array.release()
        run(device, shaders.along, floats(100_000), 2.0, 1.0)

    for _ in range(DEPTH + 1):
        some()
    made = memory._made
    for _ in range(50):
        some()
    assert memory._made == made


def test_what_the_driver_has_no_memory_for_is_a_limit(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is kept only to be quick is given up for it first; the device goes on."""
    memory = device.memory
    assert memory is not None
    create, refused = memory._device.create_buffer, []

    def scarce(size: int, usage: int) -> Any:
        if size > 1 << 20:
            refused.append(memory.free)
            import wgpu

            raise wgpu.GPUOutOfMemoryError("Not enough memory left.")
        return create(size=size, usage=usage)

    monkeypatch.setattr(memory, "_device", SimpleNamespace(create_buffer=scarce))
    asked = work(device, shaders.along, floats(1 << 20), 2.0, 1.0)
    device.submit([asked])
    (error,) = told([asked])
    assert isinstance(error, LimitExceeded)
    assert "the device has no memory left" in str(error)
    assert len(refused) > 1, "it was tried once more"
    assert refused[-1] == 0
    assert run(device, shaders.along, floats(10), 2.0, 1.0).shape == (10,)


# Results.


@given(count=st.integers(0, 3000), slope=st.floats(-4, 4, width=32))
@settings(max_examples=20)
def test_it_computes_what_its_twin_does(device: Device, count: int, slope: float) -> None:
    x = floats(count)
    found = run(device, shaders.along, x, slope, 1.0)
    assert found.shape == x.shape
    np.testing.assert_allclose(found, shaders.along(x, slope), rtol=1e-6)


def test_several_outputs_of_several_shapes(device: Device) -> None:
    x = np.arange(300, dtype=np.float32).reshape(100, 3)
    low, high = run(device, shaders.split_up, x)
    np.testing.assert_array_equal(low, -x)
    np.testing.assert_array_equal(high, x.T.astype(np.uint32))


def test_an_array_is_changed_in_place_only_there(device: Device) -> None:
    """What the caller has stays as it is."""
    counts, x = np.arange(1000, dtype=np.uint32), np.full(1000, 7, np.uint32)
    np.testing.assert_array_equal(run(device, shaders.added, counts, x), np.arange(1000) + 7)
    np.testing.assert_array_equal(counts, np.arange(1000))


def test_views_of_any_strides_go_as_they_look(device: Device) -> None:
    x = np.arange(3000, dtype=np.float32).reshape(1000, 3)
    for view in (x[::-2, 1], x[:, 2], np.broadcast_to(np.float32(3), 70)):
        np.testing.assert_array_equal(run(device, shaders.along, view, 2.0, 1.0), 2 * view + 1)


@pytest.mark.parametrize("kind", [">f4", ">i4", ">u4", ">f2"])
def test_bytes_in_the_other_order_are_turned(device: Device, kind: str) -> None:
    """What numpy calls by the same name means the same on the device: by itself, joined, and in an operation."""
    x = np.arange(1, 9).astype(kind)
    np.testing.assert_array_equal(np.asarray(on(device, x)), x)
    assert device.facts is not None
    added = cast("Operation", ops.add.fn).work((x, x), device.facts, Waiting())
    device.submit([added])
    np.testing.assert_array_equal(result(added), x + x)
    together = Output((16,), x.dtype.name, 2 * x.nbytes, [x, x])
    asked = Work([], [together], [together], Waiting())
    device.submit([asked])
    np.testing.assert_array_equal(result(asked), [*x, *x])


def test_more_elements_than_workgroups(device: Device) -> None:
    """A shader that counts its workgroups has as many as there may be; another is refused, with the reason."""
    many = 65_536 * 64 + 3
    found = run(device, shaders.counted, many)
    assert found[0] == 0
    assert found[-1] == many - 1
    assert found.sum(dtype=np.uint64) == many * (many - 1) // 2
    with pytest.raises(InvalidInput, match=r"needs? .*workgroups.*65,535"):
        run(device, shaders.along, np.zeros(many, np.float32), 1.0, 1.0)


def test_an_output_begins_as_zeros(device: Device) -> None:
    """Whatever was there before: nobody sees what others have computed."""
    source = shaders.ALONG.replace("if (id.x < line.n)", "if (id.x < 5u)")
    kernel = Kernel("lazy", source, "main", [(0, "read"), (1, "read_write"), (2, "uniform")])
    run(device, shaders.along, np.full(1000, 9, np.float32), 1.0, 1.0)
    x, asked = floats(1000), work(device, shaders.along, floats(1000), 1.0, 1.0)
    for step in asked.steps:
        step.kernel = kernel
    device.submit([asked])
    found = result(asked)
    assert found[:5].all()
    assert not found[5:].any()
    kept = run(device, shaders.along, on(device, x), 0.0, 9.0)
    kept.release()
    asked = work(device, shaders.along, on(device, x), 1.0, 1.0)
    for step in asked.steps:
        step.kernel = kernel
    device.submit([asked])
    assert not np.asarray(result(asked))[5:].any()


WORDS = """
@group(0) @binding(0) var<storage, read> x: array<u32>;
@group(0) @binding(1) var<storage, read_write> y: array<u32>;
@compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3u) {
    if (id.x < arrayLength(&x)) { y[id.x] = x[id.x]; }
}
"""


def words(device: Device, place: Place) -> Any:
    """What a shader sees there, as 16-bit floats."""
    found = Output((place.nbytes // 2,), "float16", place.nbytes)
    step = Step(Kernel("words", WORDS, "main", [(0, "read"), (1, "read_write")]), [place, found], (1, 1, 1))
    asked = Work([step], [place, found], [found], Waiting())
    device.submit([asked])
    return result(asked)


def test_a_shader_sees_zeros_behind_what_is_no_whole_word(device: Device) -> None:
    """And nothing of what others had there."""
    x = np.array([1, 2, 3], np.float16)
    sevens = np.full(60, 7, np.float16)
    for count in (1, 3):
        assert words(device, Upload(sevens, 120)).tolist() == sevens.tolist()
        assert words(device, Upload([x] * count, 6 * count)).tolist() == [*[1, 2, 3] * count, 0]
    assert words(device, Upload(sevens, 120)).tolist() == sevens.tolist()
    assert words(device, Upload(np.empty(0, np.float32), 16)).tolist() == [0] * 8


@pytest.mark.parametrize("size", [0, 3])
@pytest.mark.parametrize("kind", ["sent", "made"])
def test_what_stays_has_zeros_behind_it(device: Device, kind: str, size: int) -> None:
    """As far as a shader can be bound to it, in memory that is used again: a word, or a vector if it is empty."""
    device.submit([asked := upload(np.full(60, 7, np.float16), Waiting())])
    result(asked).release()
    x = np.arange(1, size + 1, dtype=np.float16)
    place = Kept((size,), "float16", x.nbytes, x if kind == "sent" else None, written=kind == "made")
    asked = Work((), [place], [place], Waiting())
    device.submit([asked])
    seen = words(device, result(asked).resident(0 if size else 16)).tolist()
    assert seen == ([0] * 8 if not size else [1, 2, 3, 0] if kind == "sent" else [0] * 4)


# Works that cannot be done.


def test_one_that_cannot_be_compiled_harms_no_other(device: Device) -> None:
    """In the same frame. It is told where the fault is."""
    works = [work(device, shaders.along, floats(100), 2.0, 1.0) for _ in range(5)]
    bad = shaders.ALONG.replace("line.slope * x", "line.slope *; x")
    for step in works[2].steps:
        step.kernel = Kernel("bad", bad, "main", [(0, "read"), (1, "read_write"), (2, "uniform")])
    device.submit(works)
    found = told(works)
    assert isinstance(found[2], InvalidShader)
    assert (found[2].line, found[2].column) == (8, 48)
    assert "the shader of bad is refused at line 8, column 48" in str(found[2])
    for at in (0, 1, 3, 4):
        np.testing.assert_allclose(found[at], shaders.along(floats(100), 2.0), rtol=1e-6)


def test_one_that_the_device_refuses_harms_no_other(device: Device) -> None:
    """A shader that wants more of an array than there is, which only shows when it is bound."""
    works = [work(device, shaders.along, floats(100), 2.0, 1.0) for _ in range(5)]
    wants = shaders.ALONG.replace("x: array<f32>", "x: array<f32, 5000>")
    for step in works[2].steps:
        step.kernel = Kernel("wants", wants, "main", [(0, "read"), (1, "read_write"), (2, "uniform")])
    device.submit(works)
    found = told(works)
    assert isinstance(found[2], InvalidInput)
    for at in (0, 1, 3, 4):
        np.testing.assert_allclose(found[at], shaders.along(floats(100), 2.0), rtol=1e-6)


def test_no_more_memory_than_it_was_given() -> None:
    """Who asks for too much is told how much there is, and what others have asked for is done."""
    device = opened(memory=1 << 20)
    kept = [on(device, floats(30_000)) for _ in range(4)]
    with pytest.raises(LimitExceeded, match=r"asked for, and [\d,]+ of 1,048,576 are in use"):
        kept.extend(on(device, floats(30_000)) for _ in range(10))
    kept.clear()
    gc.collect()
    again = on(device, floats(30_000))
    np.testing.assert_array_equal(np.asarray(again), floats(30_000))
    close(device)


def test_an_array_larger_than_can_be_bound_is_refused(device: Device) -> None:
    assert device.facts is not None
    most = device.facts.binding
    place = Upload(np.broadcast_to(np.float32(0), most // 4 + 1), most + 4)
    asked = Work((), [place], [], Waiting())
    device.submit([asked])
    with pytest.raises(LimitExceeded, match="more than the device binds at once"):
        result(asked)


# Arrays that stay.


def test_what_is_chained_never_leaves_the_device(device: Device) -> None:
    """Up once, three tasks, down once."""
    x = floats(1000)
    array = on(device, x)
    for _ in range(3):
        array = run(device, shaders.along, array, 2.0, 1.0)
        assert isinstance(array, GpuArray)
    assert (array.shape, array.dtype, array.nbytes, array.size, array.ndim, len(array)) == (
        (1000,), np.float32, 4000, 1000, 1, 1000,
    )  # fmt: skip
    np.testing.assert_allclose(np.asarray(array), ((x * 2 + 1) * 2 + 1) * 2 + 1, rtol=1e-6)


def test_the_memory_of_an_array_is_used_again(device: Device) -> None:
    """When its last reference has gone, or it was released: a thousand take no more than a few."""
    assert device.memory is not None
    run(device, shaders.along, on(device, floats(5000)), 2.0, 1.0)
    gc.collect()
    before = device.memory.used
    for turn in range(200):
        array = run(device, shaders.along, on(device, floats(5000)), 2.0, 1.0)
        if turn % 2:
            array.release()
    del array
    gc.collect()
    assert device.memory.used <= before + 2 * rounded(20_000)  # one more is there while the next is computed


def test_an_array_that_was_released_says_so(device: Device) -> None:
    array = on(device, floats(10))
    assert f"on device {device.number}" in repr(array)
    array.release()
    array.release()
    assert repr(array) == "<GpuArray float32[10] released>"
    with pytest.raises(BackendClosed, match="released"):
        run(device, shaders.along, array, 2.0, 1.0)


def test_an_array_that_is_released_is_there_for_the_calls_that_have_it(device: Device) -> None:
    """Its memory is not given to others before they are done, nor to the driver."""
    assert device.memory is not None
    x = floats(5000)
    array = on(device, x)
    waiting = [work(device, shaders.along, array, 2.0, 1.0) for _ in range(3)]
    array.release()
    others = [upload(np.zeros(5000, np.float32), Waiting()) for _ in range(3)]
    device.memory.trim()  # the device has nothing to do
    device.submit([*others, *waiting])
    for each in waiting:
        np.testing.assert_allclose(np.asarray(result(each)), 2 * x + 1, rtol=1e-6)


BEYOND = """
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {
    for (var far = 1u; far < 24u; far++) { y[(1u << far) + id.x] = -1.0 - abs(x[id.x + 256u * far]); }
}
"""


@gpu_task(wgsl=BEYOND, inputs={"x": "f32[n]"}, outputs={"y": "f32[n]"})
def beyond(x: Any) -> Any:
    return x


def test_a_shader_reaches_no_array_but_its_own(device: Device) -> None:
    """It writes far beyond the end of what it was given; others lie in the same buffer, before it and behind it."""
    kept = on(device, floats(500))
    for _ in range(3):
        tame, wild, other = (
            work(device, shaders.along, floats(1000), 2.0, 1.0),
            work(device, beyond, floats(64)),
            work(device, shaders.along, floats(1000), 2.0, 1.0),
        )
        device.submit([tame, wild, other])
        for each in (tame, other):
            np.testing.assert_allclose(result(each), 2 * floats(1000) + 1, rtol=1e-6)
    np.testing.assert_array_equal(np.asarray(kept), floats(500))


@pytest.mark.parametrize("count", [5.0, "5", [5], True, None])
def test_shapes_are_reckoned_from_whole_numbers(device: Device, count: Any) -> None:
    """Of whatever integral type; what is none is refused, also when the same number was there before."""
    for whole in (5, np.int64(5), np.uint8(5)):
        assert run(device, shaders.counted, whole).shape == (5,)
    with pytest.raises(InvalidInput, match="n must be a whole number"):
        run(device, shaders.counted, count)


@pytest.mark.parametrize(("kind", "direct"), [("integrated", True), ("discrete", False), ("virtual", False)])
def test_a_card_computes_in_memory_of_its_own(
    device: Device, monkeypatch: pytest.MonkeyPatch, kind: Kind, direct: bool
) -> None:
    """What the host can map is slow for it; where both have the same memory, it spares a copy."""
    found = choose()
    if "mappable-primary-buffers" not in found.features:
        pytest.skip("this adapter lets nobody map what its shaders use")
    monkeypatch.setattr("hybrid_compute.gpu.opening.choose", lambda name: dataclasses.replace(found, kind=kind))
    other = Device()
    other.open().result(30)
    try:
        assert other.memory is not None
        assert other.memory.direct is direct
    finally:
        other.close()
        assert other.join(30)


def test_an_array_of_another_device_is_refused(device: Device) -> None:
    other = opened()
    array = on(other, floats(10))
    with pytest.raises(BackendClosed, match="on another device"):
        run(device, shaders.along, array, 2.0, 1.0)
    close(other)
    with pytest.raises(BackendClosed, match="went with its device: it was closed"):
        np.asarray(array)


def test_sent_away_it_is_an_ordinary_array(device: Device) -> None:
    x = floats(10)
    found = pickle.loads(pickle.dumps(on(device, x)))
    assert type(found) is np.ndarray
    np.testing.assert_array_equal(found, x)


@pytest.mark.parametrize("dtype", ["float64", "int64", "bool", "complex64", "uint8"])
def test_numbers_that_a_gpu_does_not_have_are_refused(device: Device, dtype: str) -> None:
    with pytest.raises(InvalidInput, match=f"a gpu has no {dtype}"):
        on(device, np.zeros(3, dtype))


@pytest.mark.parametrize("dtype", ["float32", "int32", "uint32", "float16"])
@pytest.mark.parametrize("shape", [(), (0,), (1,), (3,), (2, 0, 3), (3, 5)])
def test_arrays_of_all_kinds_come_back(device: Device, dtype: str, shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).integers(0, 100, shape).astype(dtype)
    there = on(device, x)
    assert (there.nbytes, there.size) == (x.nbytes, x.size)
    found = np.asarray(there)
    assert (found.dtype, found.shape) == (x.dtype, x.shape)
    np.testing.assert_array_equal(found, x)


# The end.


def opened(**options: Any) -> Device:
    device = Device(**options)
    try:
        device.open().result(30)
    except BackendUnavailable as error:
        pytest.skip(str(error))
    return device


def close(device: Device) -> None:
    device.close()
    assert device.join(30)


def test_closing_answers_everybody() -> None:
    """What was asked for before is done or refused; what is asked for after is refused."""
    device = opened()
    works = [work(device, shaders.along, floats(100), 2.0, 1.0) for _ in range(50)]
    for each in works:
        device.submit([each])
    late = work(device, shaders.along, floats(100), 2.0, 1.0)
    close(device)
    device.submit([late])
    *done, last = told([*works, late])
    assert isinstance(last, BackendClosed)
    for found in done:
        assert isinstance(found, np.ndarray | BackendClosed)


def test_a_device_that_is_lost_leaves_what_it_had_not_begun_to_another() -> None:
    """What it was at fails, and is not repeated: who knows what it did."""
    left: list[Work] = []
    device = opened(gone=lambda _: left.extend)
    run(device, shaders.along, floats(100), 2.0, 1.0)
    device._wgpu.destroy()
    waiting = [work(device, shaders.along, floats(100), 2.0, 1.0) for _ in range(5)]
    for each in waiting:
        device.submit([each])
    assert device.join(30)
    assert "lost" in device.lost
    refused = [each for each in waiting if each not in left]
    assert left
    assert all(isinstance(error, BackendUnavailable) for error in told(refused))


class Stuck:
    """A device that ends a frame only when it is told to, at a time that stands still."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        self.device = opened()
        self.waits = False
        self._turns = threading.Semaphore(0)
        finish = Frame.finish
        monkeypatch.setattr("hybrid_compute.gpu.progress.monotonic", lambda: self.now)
        monkeypatch.setattr("hybrid_compute.gpu.device.monotonic", lambda: self.now)
        monkeypatch.setattr(Frame, "finish", lambda frame: (self._hold(), finish(frame))[1])

    def _hold(self) -> None:
        self.waits = True
        self._turns.acquire(timeout=60)
        self.waits = False

    def begin(self, works: Sequence[Work]) -> None:
        """Have it at these, and at the end of what it can do."""
        self.device.submit(works)
        wait_until(lambda: self.waits and self.device._inbox.empty())

    def go_on(self, frames: int = 1) -> None:
        self._turns.release(frames)


@pytest.fixture
def stuck(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stuck]:
    made = Stuck(monkeypatch)
    yield made
    made.go_on(100)
    close(made.device)


def test_a_frame_has_time_for_each_call_in_it(stuck: Stuck) -> None:
    """Calls are not blamed for one another, unless there are very many."""
    assert stuck.device.time_left(2.0) is None
    works = [work(stuck.device, shaders.along, floats(10), 2.0, 1.0) for _ in range(3)]
    stuck.begin(works)
    assert stuck.device.time_left(2.0) == 6
    stuck.now += 6.5
    assert stuck.device.time_left(2.0) == -0.5
    stuck.go_on()
    for found in told(works):
        np.testing.assert_allclose(found, shaders.along(floats(10), 2.0), rtol=1e-6)
    wait_until(lambda: stuck.device.time_left(2.0) is None)
    stuck.begin([work(stuck.device, shaders.along, floats(10), 2.0, 1.0) for _ in range(100)])
    assert stuck.device.time_left(2.0) == 32


def test_the_time_of_a_frame_begins_when_the_one_before_it_is_done(
    stuck: Stuck, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long it has been with the device by then."""
    monkeypatch.setattr(Device, "_frame", 1)
    one, other = (work(stuck.device, shaders.along, floats(10), 2.0, 1.0) for _ in range(2))
    stuck.begin([one, other])
    stuck.now += 1.5
    assert stuck.device.time_left(2.0) == 0.5
    stuck.go_on()
    told([one])
    assert stuck.device.time_left(2.0) == 2


def test_there_is_something_to_do_until_all_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also while it is neither waited for nor with the gpu, but compiled."""
    device, looks, released = opened(), threading.Event(), threading.Event()
    check = Device._check
    holding = lambda *args: (looks.set(), released.wait(60), check(*args))[2]  # noqa: E731
    monkeypatch.setattr(Device, "_check", holding)
    assert device.time_left(2.0) is None
    device.submit([asked := work(device, shaders.along, floats(10), 2.0, 1.0)])
    assert looks.wait(20)
    assert device._inbox.empty()
    assert not device.is_busy
    assert device.time_left(2.0) == 2
    released.set()
    result(asked)
    wait_until(lambda: device.time_left(2.0) is None)
    close(device)


def test_a_device_that_does_not_come_to_an_end_is_given_up(stuck: Stuck, device: Device) -> None:
    """It tells nobody anything any more; what had not begun is handed on, and done by another device."""
    first, *waiting = (work(stuck.device, shaders.along, floats(10), 2.0, 1.0) for _ in range(4))
    stuck.begin([first])
    for each in waiting:
        stuck.device.submit([each])
    left = stuck.device.give_up()
    assert left is not None
    assert [each.reply for each in left.guilty] == [first.reply]
    assert [each.reply for each in left.others] == [each.reply for each in waiting]
    assert stuck.device.give_up() is None
    stuck.go_on(2)
    assert stuck.device.join(30)
    device.submit(left.others)
    for found in told(waiting):
        np.testing.assert_allclose(found, shaders.along(floats(10), 2.0), rtol=1e-6)
    assert isinstance(first.reply, Waiting)
    assert not first.reply.future.done()  # whoever gave up says what becomes of it


def test_the_time_of_a_successor_begins_when_the_gpu_is_free(stuck: Stuck) -> None:
    """Until then it waits for what another was given up for; but not for ever."""
    first, second = (work(stuck.device, shaders.along, floats(10), 2.0, 1.0) for _ in range(2))
    stuck.begin([first])
    stuck.device.give_up()
    successor = opened(before=stuck.device)
    try:
        successor.submit([second])
        wait_until(lambda: successor.is_busy)
        stuck.now += 10
        assert successor.time_left(2.0) == 2
        stuck.now += 1
        assert successor.time_left(2.0) == 2
        stuck.now += PATIENCE
        assert successor.time_left(2.0) == 2
        stuck.now += 1
        assert successor.time_left(2.0) == 1
    finally:
        stuck.go_on(100)
        close(successor)


def test_the_time_of_a_successor_begins_when_the_one_before_it_has_ended(stuck: Stuck) -> None:
    first, second = (work(stuck.device, shaders.along, floats(10), 2.0, 1.0) for _ in range(2))
    stuck.begin([first])
    stuck.device.give_up()
    stuck.go_on()
    assert stuck.device.join(30)
    successor = opened(before=stuck.device)
    try:
        successor.submit([second])
        wait_until(lambda: successor.is_busy)
        stuck.now += 1
        assert successor.time_left(2.0) == 2
        stuck.now += 1.5
        assert successor.time_left(2.0) == 0.5
    finally:
        stuck.go_on(100)
        close(successor)


def test_what_cannot_be_put_there_is_refused(device: Device) -> None:
    with pytest.raises(InvalidInput, match="lies on a device already"):
        upload(on(device, floats(3)), Waiting())
    with pytest.raises(InvalidInput, match="a masked array, whose mask no gpu sees"):
        upload(np.ma.masked_array(floats(3), [True, False, False]), Waiting())
    with pytest.raises(InvalidInput, match="a gpu has no float64"):
        upload(np.zeros(3), Waiting())


def test_who_waits_for_a_driver_hears_that_nobody_waits_for_him(monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes back again and again, and what was asked for is never there."""
    device = opened()
    asked = work(device, shaders.along, floats(9), 2.0, 1.0)
    waits = threading.Event()
    with monkeypatch.context() as patch:
        patch.setattr(native.Mappings, "are_done", lambda *_: waits.set())
        device.submit([asked])
        assert waits.wait(30)
        left = device.give_up()
        assert device.join(30)
    assert left is not None
    assert [each.reply for each in (*left.guilty, *left.others)] == [asked.reply]


def test_a_device_that_is_closed_is_given_back() -> None:
    """With all its memory, and not only when somebody collects it."""
    device = opened()
    run(device, shaders.along, floats(10), 2.0, 1.0)
    native.check_alive(device._wgpu._internal)
    close(device)
    with pytest.raises(wgpu.GPUError, match="lost"):
        native.check_alive(device._wgpu._internal)


def test_what_makes_operations_quick_is_asked_for(device: Device) -> None:
    """Of all that the adapter has of it."""
    assert device.adapter is not None
    assert device.facts is not None
    useful = {"subgroup", "shader-f16", "timestamp-query", "mappable-primary-buffers"}
    assert device.facts.features == device.adapter.features & useful


def test_commands_with_faults_are_let_go(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or each call that the device refuses would leave some behind."""
    lib, released = native.lib, list[object]()

    class Counting:
        def __getattr__(self, name: str) -> Any:
            if name != "wgpuCommandBufferRelease":
                return getattr(lib, name)
            return lambda commands: (released.append(commands), lib.wgpuCommandBufferRelease(commands))

    buffer = device._wgpu.create_buffer(size=64, usage=wgpu.BufferUsage.COPY_DST)
    monkeypatch.setattr(native, "lib", Counting())
    encoder = native.encoder(device._wgpu._internal)
    native.clear(encoder, buffer._internal, 1, 3)
    with pytest.raises(wgpu.GPUError, match="ALIGNMENT"):
        native.finish(encoder)
    assert len(released) == 1
    buffer.destroy()


def test_a_step_may_follow_another(device: Device) -> None:
    """On places that they share."""
    kernel = Kernel("double", DOUBLE, "main", [(0, "read_write")])
    x = floats(64)
    place = Output((64,), "float32", 256, x)
    asked = Work([Step(kernel, [place], (1, 1, 1)) for _ in range(3)], [place], [place], Waiting())
    device.submit([asked])
    np.testing.assert_allclose(result(asked), 8 * x, rtol=1e-6)


DOUBLE = """
@group(0) @binding(0) var<storage, read_write> x: array<f32>;
@compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3u) { x[id.x] = 2.0 * x[id.x]; }
"""
