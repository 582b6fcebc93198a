"""Many calls of one kind go as a few works, and each gets what it would have got alone."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid_compute import gpu_task
from hybrid_compute.errors import InvalidInput
from hybrid_compute.gpu import GpuFunction, native, together
from hybrid_compute.gpu.calls import upload
from hybrid_compute.gpu.device import Device
from hybrid_compute.gpu.facts import Facts
from hybrid_compute.gpu.replies import Waiting, each_of
from hybrid_compute.gpu.work import Series, Work
from hybrid_compute.tasks import AnyTask
from tests.faults.watching import wait_until
from tests.gpu import shaders
from tests.gpu.test_device import close, opened


class Some(Waiting):
    """For a thread that waits for the calls from one number to another."""

    def __init__(self, begin: int, end: int) -> None:
        super().__init__()
        self.count = end - begin

    def done(self, results: list[Any]) -> None:
        if self.count == 1:
            super().done(results)
        else:
            self.future.set_result(each_of(results, self.count))


class Sub(np.ndarray[Any, Any]):
    """An array that may mean something else by what it does."""


def function(task: AnyTask) -> GpuFunction:
    assert isinstance(task.fn, GpuFunction)
    return task.fn


def facts(device: Device) -> Facts:
    assert device.facts is not None
    return device.facts


def works(device: Device, task: AnyTask, calls: Sequence[tuple[Any, ...]]) -> list[Work]:
    return function(task).works(calls, facts(device), Some)


def answers(device: Device, asked: list[Work]) -> list[Any]:
    """What each call gets, in order."""
    device.submit(asked)
    found: list[Any] = []
    for each in asked:
        assert isinstance(each.reply, Some)
        value = each.reply.future.result(30)
        found += [value] if each.reply.count == 1 else value
    return found


def alone(device: Device, task: AnyTask, calls: Sequence[tuple[Any, ...]]) -> list[Any]:
    return [answers(device, works(device, task, [each]))[0] for each in calls]


def check(device: Device, task: AnyTask, calls: Sequence[tuple[Any, ...]], expected: Sequence[int]) -> None:
    """The calls go as works of so many dispatches, and each gets what it gets alone, in an array of its own."""
    asked = works(device, task, calls)
    assert [each.steps[0].count if isinstance(each.steps[0], Series) else 1 for each in asked] == expected
    for found, wanted in zip(answers(device, asked), alone(device, task, calls), strict=True):
        for one, other in zip(_several(found), _several(wanted), strict=True):
            assert type(one) is np.ndarray
            assert one.flags.writeable
            np.testing.assert_array_equal(one, other, strict=True)


def _several(found: Any) -> tuple[Any, ...]:
    return found if isinstance(found, tuple) else (found,)


def floats(*shape: int) -> Any:
    return np.random.default_rng(sum(shape)).random(shape, dtype=np.float32)


@gpu_task(
    wgsl="""
    @group(0) @binding(0) var<storage, read> x: array<u32>;
    @group(0) @binding(1) var<storage, read_write> y: array<u32>;
    @compute @workgroup_size(64)
    fn main(@builtin(global_invocation_id) id: vec3u) {
        if (id.x < arrayLength(&x)) { y[id.x] = x[id.x] + arrayLength(&x); }
    }
    """,
    inputs={"x": "u32[n]"},
    outputs={"y": "u32[n]"},
)
def longer(x: Any) -> Any:
    return x + len(x)


@gpu_task(
    wgsl="""
    struct Numbers { scale: f32, sign: f32 }
    @group(0) @binding(0) var<storage, read> x: array<f32>;
    @group(0) @binding(1) var<storage, read_write> y: array<f32>;
    @group(0) @binding(2) var<uniform> numbers: Numbers;
    @compute @workgroup_size(1)
    fn main() { y[0] = x[0] * numbers.scale / numbers.sign; }
    """,
    inputs={"x": "f32[]"},
    outputs={"y": "f32[]"},
    workgroups=1,
)
def scaled(x: Any, numbers: dict[str, float]) -> Any:
    return x * numbers["scale"] / numbers["sign"]


@gpu_task(
    wgsl="""
    enable f16;
    @group(0) @binding(0) var<storage, read> x: array<f16>;
    @group(0) @binding(1) var<storage, read_write> y: array<f32>;
    @compute @workgroup_size(1)
    fn main() { y[0] = f32(x[3]); }
    """,
    inputs={"x": "f16[n]"},
    outputs={"y": "f32[]"},
    workgroups=1,
)
def fourth(x: Any) -> Any:
    return np.float32(x[3] if len(x) > 3 else 0)


@given(st.integers(1, 200), st.integers(2, 9), st.booleans())
@settings(max_examples=15)
def test_a_dispatch_for_each(device: Device, size: int, count: int, shares: bool) -> None:
    """Whatever their size; what all of them share lies there once, as do numbers."""
    x = [floats(size)] * count if shares else list(floats(count, size))
    check(device, shaders.along, [(each, 2.0, 1.5) for each in x], [count])
    check(device, shaders.along, [(each, 2.0, float(number)) for number, each in enumerate(x)], [count])


@pytest.mark.parametrize("size", [1, 63, 64, 65])
def test_a_shader_sees_the_array_of_its_own_call(device: Device, size: int) -> None:
    """And no more of it than there is: its length is what was given."""
    x = np.arange(5 * size, dtype=np.uint32).reshape(5, size)
    check(device, longer, [(each,) for each in x], [5])


def test_several_results(device: Device) -> None:
    check(device, shaders.split_up, [(100 * floats(11, 3) + number,) for number in range(4)], [4])


@pytest.mark.parametrize("size", [3, 64])
def test_what_is_changed_in_place_begins_as_each_gave_it(device: Device, size: int) -> None:
    x, y = np.arange(size, dtype=np.uint32), np.ones(size, np.uint32)
    check(device, shaders.added, [(x + number, y) for number in range(4)], [4])
    check(device, shaders.added, [(x, y)] * 4, [4])


def test_arrays_of_no_direction_and_a_record_of_numbers(device: Device) -> None:
    calls = [(np.array(number, np.float32), {"scale": 2.0, "sign": sign}) for number, sign in [(1, 1.0), (0, -0.0)]]
    check(device, scaled, calls, [2])


def test_zero_is_not_its_negative(device: Device) -> None:
    """They are equal, and shaders tell them apart."""
    x = np.ones(1, np.float32)
    for task in (shaders.along, shaders.along_many):
        first, second = answers(device, works(device, task, [(x, 0.0, -0.0), (x, -0.0, -0.0)]))
        assert not np.signbit(first[0])
        assert np.signbit(second[0])


def test_whole_numbers_that_shapes_are_reckoned_from(device: Device) -> None:
    """They must be the same, or the calls are of different kinds."""
    check(device, shaders.counted, [(65,)] * 3, [3])
    check(device, shaders.counted, [(65,), (66,)], [1, 1])


def test_where_numbers_lie_is_no_other_kind(device: Device) -> None:
    """Of another array, or with gaps between them."""
    x = floats(64)
    x.flags.writeable = False
    check(device, shaders.along, [(x, 2.0, 1.0), (floats(128)[::2], 2.0, 1.0), (floats(64, 2)[:, 1], 2.0, 1.0)], [3])


@pytest.mark.parametrize("odd", [floats(65), np.empty(0, np.float32), floats(64).astype(">f4"), floats(64).view(Sub)])
def test_one_of_another_kind_has_all_go_alone(device: Device, odd: Any) -> None:
    calls = [(floats(64), 2.0, 1.0), (odd, 2.0, 1.0), (floats(64), 2.0, 1.0)]
    told: dict[int, Some] = {}
    device.submit(function(shaders.along).works(calls, facts(device), partial(_noted, told)))
    assert list(told) == [0, 1, 2]
    for number, (x, *_) in enumerate(calls):
        if x.dtype == np.float32:
            np.testing.assert_allclose(told[number].future.result(30), 2 * x + 1, rtol=1e-6)
        else:
            with pytest.raises(InvalidInput, match="x is an array of >f4, and float32 is declared"):
                told[number].future.result(30)


NEGATIVE = """
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) { if (id.x < arrayLength(&x)) { y[id.x] = -x[id.x]; } }
"""


@gpu_task(wgsl=NEGATIVE, inputs={"x": "f32[n, m]"}, outputs={"y": "f32[n, m]"}, batchable=True)
def negative(x: Any) -> Any:
    return -x


@gpu_task(wgsl=NEGATIVE, inputs={"x": "f32[n, m]"}, outputs={"y": "f32[n, m]"}, workgroups=1)
def negative_of_few(x: Any) -> Any:
    return -x


@pytest.mark.parametrize("shape", [(3, 0), (0, 3), (0, 0)])
@pytest.mark.parametrize("task", [negative, negative_of_few], ids=["batchable", "any other"])
def test_arrays_with_nothing_in_them_go_alone(device: Device, task: AnyTask, shape: tuple[int, int]) -> None:
    """In whichever direction they have none."""
    nothing = np.ones(shape, np.float32)
    asked = works(device, task, [(nothing,)] * 3)
    assert [found.shape for found in answers(device, asked)] == [shape] * 3
    assert len(asked) == 3


@gpu_task(
    wgsl=NEGATIVE.replace("array<f32>", "array<vec4f>"),
    inputs={"x": "f32[n]"},
    outputs={"y": "f32[n]"},
    batchable=True,
)
def negative_by_fours(x: Any) -> Any:
    return -x


def test_what_is_refused_alone_is_refused_in_company(device: Device) -> None:
    """Though the four of them have a whole number of vectors."""
    told: dict[int, Some] = {}
    device.submit(function(negative_by_fours).works([(floats(5),)] * 4, facts(device), partial(_noted, told)))
    assert list(told) == [0, 1, 2, 3]
    for each in told.values():
        with pytest.raises(InvalidInput, match="of 16 bytes each, and needs a whole number of them"):
            each.future.result(30)
    check(device, negative_by_fours, [(floats(8) + number,) for number in range(4)], [1])


def test_what_lies_on_the_device_goes_alone(device: Device) -> None:
    """Its results stay there, each in memory of its own."""
    waiting = Waiting()
    device.submit([upload(floats(8), waiting)])
    kept = waiting.future.result(30)
    asked = works(device, shaders.along, [(kept, 2.0, 1.0)] * 3)
    assert len(asked) == 3
    for found in answers(device, asked):
        np.testing.assert_allclose(np.asarray(found), 2 * floats(8) + 1, rtol=1e-6)


def test_more_than_are_kept_bound(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    """In as many rows as it takes, a last one alone among them; and none is bound to what another left."""
    monkeypatch.setattr(together, "SERIES", 4)
    monkeypatch.setattr("hybrid_compute.gpu.pipelines._MOST_GROUPS", 6)
    for size in (5, 6, 70):
        check(device, shaders.along, [(each, 2.0, 1.0) for each in floats(9, size)], [4, 4, 1])


def test_no_more_in_a_row_than_a_frame_takes(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has room for four of them, with what lies between."""
    alignment = facts(device).alignment
    each = sum(-(-nbytes // alignment) * alignment for nbytes in (256, 256, 12))
    monkeypatch.setattr(together, "FRAME", 4 * each)
    check(device, shaders.along, [(x, 2.0, float(number)) for number, x in enumerate(floats(9, 64))], [4, 4, 1])


def test_a_shader_sees_zeros_behind_each_array_that_is_no_whole_word(device: Device) -> None:
    """And not what lay there before."""
    if "shader-f16" not in facts(device).features:
        pytest.skip("this device has no f16")
    for size in (4, 3):
        for _ in range(3):  # in all frames
            x = np.ones((5, size), np.float16)
            assert [float(each) for each in answers(device, works(device, fourth, [(each,) for each in x]))] == [
                float(size == 4)
            ] * 5


def test_who_does_not_fit_is_told_and_nobody_else(device: Device) -> None:
    told: dict[int, Some] = {}
    calls = [(floats(4), 2.0, 1.0), (floats(4), "much", 1.0), (floats(4), 2.0, 1.0)]
    device.submit(function(shaders.along).works(calls, facts(device), partial(_noted, told)))
    for number in (0, 2):
        np.testing.assert_allclose(told[number].future.result(30), 2 * floats(4) + 1, rtol=1e-6)
    with pytest.raises(InvalidInput, match="slope"):
        told[1].future.result(30)


def _noted(told: dict[int, Some], begin: int, end: int) -> Some:
    told[begin] = Some(begin, end)  # the last that was asked for: it may be tried together first
    return told[begin]


def test_what_was_bound_is_found_again(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the next calls of their kind."""
    made: list[object] = []
    bind = native.bind_group
    monkeypatch.setattr(native, "bind_group", lambda *args: made.append(args) or bind(*args))
    calls = [(each, 2.0, 1.0) for each in floats(7, 33)]
    run = partial(answers, device)
    for _ in range(4):  # in both frames
        run(works(device, shaders.along, calls))
    known = len(made)
    assert known
    for _ in range(4):
        run(works(device, shaders.along, calls))
    assert len(made) == known


@pytest.mark.parametrize("task", [shaders.along, shaders.along_many])
def test_what_each_gets_keeps_nothing_of_the_others(device: Device, task: AnyTask) -> None:
    """If it is large: small ones may be parts of one array."""
    large, small = (answers(device, works(device, task, [(x, 2.0, 1.0)] * 5)) for x in (floats(5000), floats(5)))
    assert [each.base for each in large] == [None] * 5
    assert len({id(each.base) for each in small}) == 1


def test_results_that_cannot_be_read_leave_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    device = opened()
    memory = device.memory
    assert memory is not None
    with monkeypatch.context() as patch:
        patch.setattr("hybrid_compute.gpu.frame._result", _no_memory)
        waiting = Waiting(), Waiting()
        function(shaders.along)
        there = upload(floats(1 << 20), waiting[0])
        back = function(shaders.along).work((floats(9), 2.0, 1.0), facts(device), waiting[1])
        device.submit([there, back])
        assert isinstance(waiting[1].future.exception(30), MemoryError)
    assert isinstance(waiting[0].future.exception(30), MemoryError)
    device.rest()
    wait_until(lambda: memory.used == 0)
    close(device)


def _no_memory(*_: Any) -> Any:
    raise MemoryError
